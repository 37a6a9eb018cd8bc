"""A report of fabricated runs with known curves: its numbers are checked by hand, its page by its text.

Nothing in these runs was measured; they live in temporary folders only.
"""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fabricated_runs import ramp, write_cell, write_pretraining

from meta_latent.errors import UserError
from meta_latent.experiment.commands import report
from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.figures import curve_figures, media
from meta_latent.experiment.report.figures.time_figures import GainPoint
from meta_latent.experiment.report.gain import gain_points, tells_of_amounts
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.statistics.analysis import analyse
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.report.words import lead
from meta_latent.experiment.report.words.summary import standing, summary
from meta_latent.experiment.runs import video
from meta_latent.ops import learning_speed


def write_run(root, seeds=5):
    """Three targets. `steady`: 200 against 600 steps; `hard`: scratch never arrives; `lost`: pretrained never
    arrives.
    """
    write_pretraining(root)
    for seed in range(seeds):
        write_cell(root, "steady", "ivg/pretrained", seed, ramp(250))
        write_cell(root, "steady", "ivg/scratch", seed, ramp(750))
        write_cell(root, "hard", "ivg/pretrained", seed, ramp(250))
        write_cell(root, "hard", "ivg/scratch", seed, ramp(4000))
        write_cell(root, "lost", "ivg/pretrained", seed, ramp(4000))
        write_cell(root, "lost", "ivg/scratch", seed, ramp(750))
    return Path(root)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = write_run(tmp_path_factory.mktemp("runs") / "fabricated")
    return root, build(root, resamples=200)


def numbers(root):
    """The numbers alone, without the page and its figures."""
    return analyse(read_run(root), Bootstrap(resamples=50))


def strict_json(path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_report_json_has_the_documented_format(built):
    root, returned = built
    saved = strict_json(root / "report.json")
    assert saved == json.loads(json.dumps(returned)) and saved["format"] == 2
    assert set(saved["targets"]) == {"steady", "hard", "lost"}
    target = saved["targets"]["steady"]
    assert (target["threshold"], target["floor"], target["reference"]) == (0.8, -10, 90)
    assert (target["thresholds"], target["clock"], target["episodes_per_trial"]) == ([0.8], "env_steps", 1)
    assert list(target["arms"]) == ["ivg/pretrained", "ivg/scratch"]
    arm = target["arms"]["ivg/pretrained"]
    assert {
        "seeds", "budget", "curve", "steps_to_thresholds", "seconds_to_thresholds", "steps_to_success",
        "jumpstart", "final_score", "final_success", "area_ratio", "intervals", "returns_by_episode",
        "success_by_episode", "metrics", "stopped_at",
    } <= set(arm)  # fmt: skip
    assert arm["seeds"] == [0, 1, 2, 3, 4] and arm["budget"] == 1000
    assert arm["curve"]["env_steps"] == [0, 100, 200, 300] and arm["curve"]["updates"] == [0, 200, 400, 600]
    assert arm["curve"]["seconds"] == [0, 50, 100, 150]
    assert arm["curve"]["score"] == [[0, pytest.approx(0.4), pytest.approx(0.8), 1]] * 5
    assert {"env_steps", "updates", "seconds", "model_sha256"} <= set(saved["pretraining"])
    assert saved["pretraining"]["env_steps"] == 2400 and saved["pretraining"]["model_sha256"] == "fabricated-0"


def test_numbers_by_hand(built):
    arms = built[1]["targets"]["steady"]["arms"]
    fast, slow = arms["ivg/pretrained"], arms["ivg/scratch"]
    assert fast["steps_to_thresholds"]["0.8"] == [200] * 5 and slow["steps_to_thresholds"]["0.8"] == [600] * 5
    assert fast["seconds_to_thresholds"]["0.8"] == [100] * 5 and fast["reached"] == {"0.8": 5}
    claim = fast["speedup"]["0.8"]["ivg/scratch"]
    assert (claim["ratio"], claim["lower_bound"], claim["interval"]) == (3, False, [3, 3])
    assert claim["saved_steps"] == 400
    # the evaluation at 0 comes before any update: the jumpstart is seen at 100
    assert fast["jumpstart"] == [pytest.approx(100 / 250 - 100 / 750)] * 5
    assert fast["final_score"] == [pytest.approx((0.8 + 1) / 2)] * 5
    # common range 0..1000: ramp to 1 at 250 seen at 0, 100, 200, 300 (0, .4, .8, 1), then 0.8; scratch
    # arrives at 700
    fast_area = 100 * (0.2 + 0.6 + 0.9) + 700 * 0.8
    slow_scores = [min(1, s / 750) for s in range(0, 701, 100)]
    slow_area = 100 * (sum(slow_scores) - slow_scores[-1] / 2) + 300 * 0.8
    assert fast["area_ratio"]["ivg/scratch"] == pytest.approx(fast_area / slow_area)
    assert slow["area_ratio"] == {} and slow["speedup"] == {"0.8": {}}


def test_censored_base_is_a_lower_bound_and_censored_learner_no_claim(built):
    hard = built[1]["targets"]["hard"]["arms"]["ivg/pretrained"]["speedup"]["0.8"]["ivg/scratch"]
    assert (hard["ratio"], hard["lower_bound"], hard["interval"]) == (5, True, [5, None])
    scratch = built[1]["targets"]["hard"]["arms"]["ivg/scratch"]
    assert scratch["steps_to_thresholds"]["0.8"] == [None] * 5
    assert scratch["intervals"]["steps_to_thresholds"]["0.8"] == [1000, None]
    lost = built[1]["targets"]["lost"]["arms"]["ivg/pretrained"]["speedup"]["0.8"]["ivg/scratch"]
    assert lost["ratio"] is None and lost["saved_steps"] is None


def test_summary_is_made_of_the_numbers(built):
    text = built[1]["summary"]
    assert text.startswith("By the medians over 5 seeds, ivg/pretrained reached the threshold 0.8 in")
    assert "than ivg/scratch on 2 of 3 targets:" in text and "intervals exclude 1." in text
    assert "One pretraining stands behind all of this" in text
    assert "at least 5.0× on hard" in text and "3.0× on steady" in text and "at least 3.0×" not in text
    assert "On lost there is no claim" in text and "2,400 environment steps and 10 min" in text
    assert "not shown to pay for itself" in text  # one target was lost
    assert "Fewer than 5 seeds" not in text


def test_aggregate_over_targets(built):
    entry = built[1]["aggregate"]["ivg/pretrained"]
    (first,) = entry["by_threshold"]
    assert (entry["targets"], entry["runs"], first["reached"], first["thresholds"]) == (3, 15, 10, [0.8])
    assert first["probability_of_being_faster"] == pytest.approx(2 / 3)
    # 15 final scores: five of 0.2375 (lost), ten of 0.9; three dropped at each end leave 2 and 7
    assert entry["final_score_iqm"] == pytest.approx((2 * 0.2375 + 7 * 0.9) / 9)


def test_same_seed_same_numbers_and_one_more_arm_changes_no_other_interval(tmp_path):
    def noisy(root, extra):
        for seed in range(5):
            write_cell(root, "t", "ivg/pretrained", seed, ramp(250 + 90 * seed, 0.05, seed))
            write_cell(root, "t", "ivg/scratch", seed, ramp(600 + 90 * seed, 0.05, 9 + seed))
            if extra:
                write_cell(root, "t", "sac/scratch", seed, ramp(900, 0.05, 20 + seed))
        return numbers(root)["targets"]["t"]["arms"]

    one, two, more = (noisy(tmp_path / name, extra) for name, extra in (("a", False), ("b", False), ("c", True)))
    assert one == two
    assert {arm: more[arm] for arm in one} == one and set(more) - set(one) == {"sac/scratch"}


class Page(HTMLParser):
    """Collects what a page refers to, its text, and checks that tags close in order."""

    VOID = {"meta", "img", "br", "link", "input", "hr", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.references, self.words, self.open, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for key, value in attributes if key in ("src", "href", "xlink:href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def test_page_is_self_contained_and_says_the_numbers(built):
    root, result = built
    text = (root / "report.html").read_text()
    page = Page(text)
    beside = {"report.json", "report/evaluations.csv"}
    assert all(r.startswith(("data:", "#")) or r in beside for r in page.references)
    assert beside <= set(page.references) and all((root / name).is_file() for name in beside)
    assert not re.search(r"https?://|@import|<script", text)
    words = " ".join(" ".join(page.words).split())
    for expected in (result["summary"], "> 5.0×", "> 1,000", "0 / 5", "one_minus_r2_of_objects", "0.123",
                     "2,400", "fabricated", "meta-latent transfer 'a b'", "numpy 0.synthetic"):  # fmt: skip
        assert expected in words, expected
    assert page.tags.count("svg") == 12
    names = {p.name for p in (root / "report").glob("*.png")}
    kinds = ("curves_env_steps", "curves_seconds", "success", "times_to_threshold")
    targets = ("steady", "hard", "lost")
    assert names == {f"{kind}_{target}.png" for kind in kinds for target in targets}
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_text_from_runs_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>&$x$"
    for seed in range(2):
        facts = {"target": evil, "commit": evil, "versions": {evil: evil}, "command": evil, "error": evil}
        write_cell(tmp_path, "t", "ivg/pretrained", seed, ramp(250), **facts)
        write_cell(tmp_path, "t", "ivg/scratch", seed, ramp(700), status="failed", **facts)
    write_pretraining(tmp_path, held_out={evil: evil})
    build(tmp_path, resamples=50)
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text and "&lt;script&gt;" in text
    Page(text)


@pytest.mark.parametrize(("status", "said"), [
    ("done", ""), ("failed", "The one cell failed."), ("running", "The one cell is unfinished."),
    ("missing", "The one cell has not begun."),
])  # fmt: skip
def test_how_far_a_single_cell_is(status, said):
    assert standing([{"status": status}]) == said


def test_damaged_unfinished_and_missing_cells_are_shown(tmp_path):
    for seed in range(3):
        write_cell(tmp_path, "t", "ivg/pretrained", seed, ramp(250))
    write_cell(tmp_path, "t", "ivg/scratch", 0, ramp(4000, budget=300), status="interrupted")
    broken = write_cell(
        tmp_path,
        "t",
        "ivg/scratch",
        1,
        [(0, 0.0), (100, 0.1), (200, None), (300, 0.9)],
        status="failed",
        error="RunError: loss",
    )
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "evalu')
    empty = tmp_path / "transfer" / "t" / "sac" / "scratch" / "0"
    empty.mkdir(parents=True)
    (empty / "run.json").write_text("not json")
    result = build(tmp_path, resamples=50)
    warnings = "\n".join(result["warnings"])
    for expected in ("ivg/scratch, seed 0: interrupted", "seed 1: failed (RunError: loss)",
                     "non-finite evaluation at 200",
                     "ivg/scratch: not run with seed 2.", "sac/scratch: not run with seed 1, 2.",
                     "sac/scratch, seed 0: unknown", "run.json cannot be read", "only 3 seeds",
                     "ivg/scratch: 1 of 2 runs is unfinished", "1 of 2 runs did not reach the threshold 0.8",
                     "cost of pretraining is not recorded"):  # fmt: skip
        assert expected in warnings, expected
    assert "damaged" not in warnings  # half a line at the end is a run that is being written
    claim = result["targets"]["t"]["arms"]["ivg/pretrained"]["speedup"]["0.8"]["ivg/scratch"]
    # watched until 300 and 100, and one may go on: no bound above 1 against 200
    assert claim["ratio"] is None and "unfinished" in claim["reason"] and claim["saved_steps"] is None
    assert "Of 9 cells, 3 have finished, 2 are unfinished, 1 failed and 3 have not begun." in result["summary"]
    assert "Fewer than 5 seeds" in result["summary"]


def test_disagreement_about_the_threshold_is_said(tmp_path):
    write_cell(tmp_path, "t", "ivg/scratch", 0, ramp(300))
    write_cell(tmp_path, "t", "ivg/scratch", 1, ramp(300), threshold=0.5)
    write_cell(tmp_path, "t", "ivg/scratch", 2, ramp(300), threshold=0.5)
    result = numbers(tmp_path)
    assert result["targets"]["t"]["threshold"] == 0.5 and any(
        "disagree about threshold" in w for w in result["warnings"]
    )
    assert "On t, ivg/scratch reached 0.5 after 200 environment steps." in summary(result)


def test_target_names_with_slashes_and_pretraining_alone(tmp_path):
    write_cell(tmp_path / "a", "tabletop/push", "ivg/scratch", 0, ramp(300), threshold=None)
    result = build(tmp_path / "a", resamples=50)
    assert list(result["targets"]) == ["tabletop/push"] and result["targets"]["tabletop/push"]["threshold"] is None
    folder = write_pretraining(tmp_path / "b")
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    curve_figures.strips(folder / "images" / "imagined_vs_real.png", frames, frames)
    build(tmp_path / "b")
    assert "data:image/png;base64," in (tmp_path / "b" / "report.html").read_text()


def test_pretraining_taken_from_another_run_is_found(tmp_path):
    model = write_pretraining(tmp_path / "other") / "model"
    model.mkdir()
    write_cell(tmp_path / "run", "t", "ivg/pretrained", 0, ramp(300), pretrained=str(model))
    assert numbers(tmp_path / "run")["pretraining"]["env_steps"] == 2400


def test_small_videos_are_embedded_and_others_linked(tmp_path, monkeypatch):
    folder = write_cell(tmp_path, "t", "ivg/scratch", 0, ramp(300))
    other = write_cell(tmp_path, "t", "ivg/scratch", 1, ramp(300))
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    for path in (folder / "videos" / "end.mp4", other / "videos" / "end of #1.mp4"):
        video.write_mp4(path, frames)
    build(tmp_path, resamples=50)
    references = Page((tmp_path / "report.html").read_text()).references
    assert sum(r.startswith("data:video/mp4") for r in references) == 1
    assert "transfer/t/ivg/scratch/1/videos/end%20of%20%231.mp4" in references
    monkeypatch.setattr(media, "LARGEST_VIDEO", 10)
    build(tmp_path, resamples=50)
    references = Page((tmp_path / "report.html").read_text()).references
    assert (
        not any(r.startswith("data:video") for r in references)
        and "transfer/t/ivg/scratch/0/videos/end.mp4" in references
    )


def test_a_target_without_the_pair_of_the_report_has_the_one_that_is_compared_there(tmp_path):
    for seed in range(3):
        for algorithm in ("ivg",) if seed == 2 else ("ivg", "meld"):
            target = {"ivg": "one", "meld": "many"}[algorithm]
            write_cell(tmp_path, target, f"{algorithm}/pretrained", seed, ramp(250))
            write_cell(tmp_path, target, f"{algorithm}/scratch", seed, ramp(500))
    result = build(tmp_path, resamples=50)
    assert result["primary_pair"] == ["ivg/pretrained", "ivg/scratch"]
    cards = {card["target"]: card for card in lead.headlines(result, dict.fromkeys(result["aggregate"], 0))}
    one, many = cards["one"], cards["many"]
    assert "ivg/scratch to score" in one["phrase"] and "meld/scratch" in many["phrase"]
    assert one["value"] == many["value"] == "2.0×"


def test_what_was_planned_is_missing_and_nothing_else(tmp_path):
    """Without settings every arm is missed on every target; with them, what a target's own arms and the seeds say."""
    for target, arm in (("a", "ivg/pretrained"), ("b", "sac/scratch")):
        write_cell(tmp_path, target, arm, 0, ramp(300))

    def missing():
        return {line for line in build(tmp_path, resamples=20)["warnings"] if "not run with seed" in line}

    assert missing() == {"a, sac/scratch: not run with seed 0.", "b, ivg/pretrained: not run with seed 0."}
    plan = {"targets": {"a": {}, "b": {"arms": ["sac/scratch"]}}, "arms": ["ivg/pretrained"], "seeds": [0, 1]}
    (tmp_path / "experiment.yaml").write_text(json.dumps({"transfer": plan}))
    assert missing() == {"a, ivg/pretrained: not run with seed 1.", "b, sac/scratch: not run with seed 1."}


def test_wrong_input_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cell(tmp_path / "runs" / "demo", "t", "ivg/scratch", 0, ramp(300))
    (tmp_path / "empty").mkdir()
    for names, overrides, expected in (
        (["demos"], [], "did you mean 'demo'"), (["empty"], [], "holds no runs"), ([], [], "at least one"),
        (["runs/nope"], [], "there is no folder runs/nope; runs in runs/: demo"),
        (["./runs"], [], "did you mean runs/demo"),
        (["demo"], ["resample=5"], "did you mean resamples"), (["demo"], ["resamples=x"], "whole number"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=expected) as error:
            report.run(names, overrides=overrides)
        assert "\n" not in str(error.value)
    report.run("demo", "resamples=50")
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    assert report.find("runs/demo/transfer/t/ivg") == Path("runs/demo") == report.find("demo")


@pytest.mark.drawn
def test_several_runs_give_the_gain_against_pretraining(tmp_path, capsys):
    for name, steps in (("little", 100), ("much", 900)):
        write_pretraining(tmp_path / name, env_steps=steps)
        for seed in range(2):
            write_cell(tmp_path / name, "t", "ivg/pretrained", seed, ramp(750 if steps == 100 else 250))
            write_cell(tmp_path / name, "t", "ivg/scratch", seed, ramp(750))
    report.run([tmp_path / "little", tmp_path / "much"], f"out={tmp_path / 'both'}", "resamples=50")
    assert (tmp_path / "both" / "gain_against_pretraining.png").stat().st_size > 5000
    with pytest.raises(UserError, match=f"{tmp_path / 'both'} holds no runs of much: a report is written beside its"):
        report.run(tmp_path / "much", f"out={tmp_path / 'both'}", "resamples=50")
    (tmp_path / "much.yaml").write_text("name: much")
    for name in ("much", tmp_path / "much.yaml"):
        assert report.find(name, str(tmp_path)) == tmp_path / "much"
    gain = json.loads((tmp_path / "both" / "gain_against_pretraining.json").read_text())
    assert gain["runs"] == [str(tmp_path / "little"), str(tmp_path / "much")]
    assert [(p["pretraining_env_steps"], p["ratio"]["value"]) for p in gain["points"]] == [(100, 1), (900, 3)]
    assert "3.0× on t" in capsys.readouterr().out


@pytest.mark.parametrize(("steps", "ratios", "tells"), [
    ((100, 900), (2.0, None), True), ((100, 900), (None, None), False), ((100, 100), (2.0, 3.0), False),
])  # fmt: skip
def test_amounts_of_pretraining_are_told_of_where_something_is_known(steps, ratios, tells):
    points = [GainPoint(n, "t", learning_speed.Ratio(ratio)) for n, ratio in zip(steps, ratios, strict=True)]
    assert tells_of_amounts(points) == tells
    other = [dataclasses.replace(points[0], target="other"), points[1]]
    assert not tells_of_amounts(other)


def test_a_run_without_scratch_is_compared_with_that_of_another_run(tmp_path):
    for name, steps, ready in (("whole", 900, 250), ("little", 100, 500)):
        write_pretraining(tmp_path / name, env_steps=steps)
        write_cell(tmp_path / name, "t", "ivg/pretrained", 0, ramp(ready))
    write_cell(tmp_path / "whole", "t", "ivg/scratch", 0, ramp(750))
    draw = Bootstrap(resamples=50)
    runs = [read_run(tmp_path / name) for name in ("whole", "little")]
    found = {p.pretraining_env_steps: p.ratio.value for p in gain_points(runs, draw)}
    assert found == {900: 3, 100: 1.5}
    # Another threshold: not the same question.
    write_cell(tmp_path / "strict", "t", "ivg/pretrained", 0, ramp(500), threshold=0.7)
    write_pretraining(tmp_path / "strict", env_steps=50)
    runs.append(read_run(tmp_path / "strict"))
    assert {p.pretraining_env_steps for p in gain_points(runs, draw)} == {900, 100}
    for cell in runs[1].cells:  # the same name, but another size of pictures
        (cell.path / "config.yaml").write_text("suite: {image_size: 16}\n")
    assert [p.pretraining_env_steps for p in gain_points(runs, draw)] == [900]


def test_no_figure_of_a_target_is_built_twice(tmp_path, monkeypatch):
    for seed in range(2):
        write_cell(tmp_path, "steady", "ivg/pretrained", seed, ramp(250))
    drawn, draw = [], curve_figures.learning_curves
    monkeypatch.setattr(curve_figures, "learning_curves", lambda *given: drawn.append(given[2]) or draw(*given))
    build(tmp_path, resamples=20)
    assert [(frame.unit, frame.ylabel) for frame in drawn] == [
        ("env_steps", "normalised score"), ("seconds", "normalised score"), ("env_steps", "success")
    ]  # fmt: skip
