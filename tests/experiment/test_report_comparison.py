"""Several runs on one page, and colours that arms keep from page to page."""

import re
from pathlib import Path

import pytest
import yaml
from fabricated_runs import ramp, write_cell, write_pretraining
from report_pages import Elements, keep_settings, words

from meta_latent.errors import UserError
from meta_latent.experiment.commands import report
from meta_latent.experiment.report import comparison
from meta_latent.experiment.report.figures import drawing
from meta_latent.experiment.report.reading import settings_shown
from meta_latent.experiment.report.reading.sources import read_run

PRESETS = sorted((Path(__file__).resolve().parents[2] / "configs" / "experiment").glob("*.yaml"))


@pytest.fixture
def two(tmp_path):
    """`slow/x` and `fast/x`: the same arm with another horizon, twice as fast; `fast` has an arm more."""
    for name, ready, horizon in (("slow", 900, 5), ("fast", 450, 9)):
        for seed in range(2):
            cell = write_cell(tmp_path / name / "x", "t", "ivg/scratch", seed, ramp(ready, stop=False))
            keep_settings(cell, horizon=horizon, mix=0.5)
    keep_settings(write_cell(tmp_path / "fast" / "x", "t", "sac/scratch", 0, ramp(800)), horizon=1)
    return [tmp_path / "slow" / "x", tmp_path / "fast" / "x"]


def test_two_runs_are_one_page(two, tmp_path, capsys):
    report.run(two, f"out={tmp_path / 'both'}", "resamples=50")
    page = (tmp_path / "both" / "comparison.html").read_text()
    said = words(page)
    assert not list(tmp_path.rglob("report.html")) and "2 runs side by side" in capsys.readouterr().out
    assert "slow/x and fast/x" in said and "environment steps to 0.8" in said
    labels = {a["aria-label"] for _, a, _ in Elements(page).found if a.get("role") == "img"}
    assert labels >= {"Score of ivg/scratch on t in slow/x, fast/x", "Score of sac/scratch on t in fast/x"}
    rows = re.findall(r"<tr>.*?</tr>", page, flags=re.DOTALL)
    numbers = {name: words(row) for row in rows for name in ("slow/x", "fast/x") if words(row).startswith(name)}
    assert numbers["slow/x"].startswith("slow/x 2 800 [800, 800]")
    assert "2.0× 95 %: 2.0× to 2.0×" in said and said.count("2.0× 95 %") == 1  # 400 steps, against those 800
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and not re.search(r"https?://|<script", page)


def test_the_gain_against_pretraining_is_explained_where_it_stands(tmp_path):
    for name, ready, steps in (("less", 900, 1000), ("more", 450, 5000)):
        write_pretraining(tmp_path / name, env_steps=steps, sha256=name)
        for seed in range(2):
            started = {"pretrained": str(tmp_path / name / "pretrain" / "0" / "model"), "model_sha256": name}
            write_cell(tmp_path / name, "t", "ivg/pretrained", seed, ramp(ready, stop=False), **started)
            write_cell(tmp_path / name, "t", "ivg/scratch", seed, ramp(1200, stop=False))
    report.run([tmp_path / "less", tmp_path / "more"], f"out={tmp_path / 'both'}", "resamples=50")
    said = words((tmp_path / "both" / "comparison.html").read_text())
    start = said.index("Across: environment steps of source data")
    assert said.index("Gain against pretraining") < start < said.index("Settings that differ", start)
    for mark in ("A filled dot", "An open arrow is a bound", "Pointing down", "A cross", "A pale bar"):
        assert mark in said[start:]


def test_scores_of_other_scales_are_not_set_against_each_other(tmp_path):
    for name, ready, reference in (("slow", 900, 90.0), ("fast", 450, 40.0)):
        for seed in range(2):
            write_cell(tmp_path / name, "t", "ivg/scratch", seed, ramp(ready, stop=False), reference=reference)
    report.run([tmp_path / "slow", tmp_path / "fast"], f"out={tmp_path / 'both'}", "resamples=50")
    assert "2.0×" not in words((tmp_path / "both" / "comparison.html").read_text())


def test_only_the_settings_that_differ_are_listed(two):
    runs = [read_run(path) for path in two]
    names = comparison.names_of(two)
    found = settings_shown.between_runs(runs, names)
    assert found == {"heads": ["slow/x", "fast/x"], "rows": [("algorithms.ivg.horizon", ["5", "9"])]}
    assert settings_shown.between_runs([runs[0], runs[0]], ["a", "b"])["rows"] == []


def test_names_are_as_long_as_it_takes(two):
    assert comparison.names_of([Path("/a/b"), Path("/a/c")]) == ["b", "c"]
    with pytest.raises(UserError, match="named twice"):
        comparison.names_of([two[0], two[0]])


def test_a_run_without_learning_cannot_be_compared(two, tmp_path):
    write_pretraining(tmp_path / "alone")
    with pytest.raises(UserError, match="holds no runs to compare"):
        report.run([two[0], tmp_path / "alone"])


def test_arms_keep_their_colours_whatever_stands_beside_them():
    own = {arm: drawing.assign_styles([arm])[arm] for arm in drawing.OWN}
    assert own == drawing.OWN
    mixed = drawing.assign_styles(["zzz/pretrained", "mine/scratch", "ivg/pretrained", "ivg/scratch"])
    assert (mixed["ivg/pretrained"], mixed["ivg/scratch"]) == (0, 1) and len(set(mixed.values())) == 4


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_arms_that_a_preset_shows_together_differ_in_colour(path):
    arms = (yaml.safe_load(path.read_text()).get("transfer") or {}).get("arms") or []
    assert not [arm for arm in arms if arm not in drawing.OWN], "give them a colour in drawing.OWN"
    assert len({drawing.OWN[arm] for arm in arms}) == len(arms)
