"""Blocks of documents about trials say what docs/results/ says; the script that writes them reports facts only."""

import json
from pathlib import Path

import docs_scripts
import pytest

from meta_latent.experiment.report.figures import drawing

ROOT = Path(__file__).resolve().parent.parent
WORDS = "before adapting | after step 1 | after step 2"


@pytest.fixture(scope="module")
def make_trials():
    """docs/make_trials.py as a module."""
    return docs_scripts.load("make_trials")


def test_documents_say_what_the_committed_results_say(make_trials):
    shown = {page: make_trials.blocks(page.read_text()) for page in make_trials.PAGES}
    assert {"mb_mpo_toy", "mb_mpo_toy/rotated"} <= set(shown[make_trials.RESULTS / "README.md"])
    names = {"mb_mpo_toy/rotated", "mb_mpo_toy/lqr", "mb_mpo_heads/rotated", "mb_mpo_half_cheetah/run",
             "mb_mpo_bodies/reversed", "mb_mpo_biased/run"}  # fmt: skip
    names |= {f"mb_mpo_angles/{target}" for target in ("within_1_0", "within_1_5", "within_2_2", "inertia")}
    assert names == set(shown[make_trials.DOCS / "mb_mpo.md"])
    for page, found in shown.items():
        for name, text in found.items():
            assert text == make_trials.block(name, make_trials.committed(name.partition("/")[0]), page), (page, name)


@pytest.fixture
def run(tmp_path):
    """Two seeds: on `turned` one arm adapts and one does not; on `single` there is nothing to adapt to."""
    for target, parts, tasks in (("turned", 3, 2), ("single", 1, 1)):
        for arm, adapts in (("mover/scratch", True), ("stayer/scratch", False)):
            for seed in range(2):
                folder = tmp_path / "tiny" / "transfer" / target / arm / str(seed)
                folder.mkdir(parents=True)
                facts = {"status": "done", "target": target, "algorithm": arm.split("/")[0], "start": "scratch",
                         "seed": seed, "floor": -10.0, "reference": -1.0, "budget": 400, "clock": "env_steps",
                         "env_steps": 400, "updates": 4, "seconds": 7.0, "episodes_per_trial": parts, "adapts": adapts,
                         "test_tasks": tasks, "evaluation_episodes": tasks, "commit": "0123456789abcdef",
                         "versions": {"torch": "0"},
                         "command": ["/x/cli.py", "transfer", "tiny", "out=/x/y"]}  # fmt: skip
                (folder / "run.json").write_text(json.dumps(facts))
                returns = [-9.0 + seed + adapts * 2.0 * e for e in range(parts)]
                rows = [{"kind": "evaluation", "env_steps": steps, "updates": 1, "seconds": 1.0,
                         "score": 0.1 * (seed + 1), "returns_by_episode": returns, "success_by_episode": [0.0] * parts}
                        for steps in (100, 200, 300, 400)]  # fmt: skip
                (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "tiny"


def test_a_table_names_adaptation_steps_and_says_who_takes_none(make_trials, run):
    facts = make_trials.facts_of(run, "tiny")
    lines = make_trials.block("tiny/turned", facts, make_trials.README).splitlines()
    assert lines[0] == f"| arm | environment steps | {WORDS} | score | seconds |"
    assert lines[2] == ("| mover/scratch | 400 | -8.5 [-9.0, -8.0] | -6.5 [-7.0, -6.0] | -4.5 [-5.0, -4.0] "
                        "| 0.15 [0.10, 0.20] | 7 |")  # fmt: skip
    assert lines[3].startswith("| stayer/scratch | 400 | -8.5 [-9.0, -8.0] | -8.5 ")
    assert lines[-1].startswith("Medians of 2 seeds [lowest, highest]")
    assert lines[-1].endswith("The scripted optimum has a return of -1.00. stayer/scratch take no steps: these are the "
                              "episodes of a trial.")  # fmt: skip


def test_a_single_episode_has_one_column(make_trials, run):
    lines = make_trials.block("tiny/single", make_trials.facts_of(run, "tiny"), make_trials.README).splitlines()
    assert lines[0] == "| arm | environment steps | return | score | seconds |" and "take no" not in lines[-1]


def test_returns_that_are_the_score_are_told_once(make_trials, run):
    facts = make_trials.facts_of(run, "tiny")
    facts["report"]["targets"]["single"]["scripted_optimum"] = None
    lines = make_trials.block("tiny/single", facts, make_trials.README).splitlines()
    assert lines[0] == "| arm | environment steps | return | seconds |" and lines[2].count("|") == 5


def test_trials_of_whom_nobody_adapts_are_told_in_episodes(make_trials, run):
    facts = make_trials.facts_of(run, "tiny")
    facts["report"]["targets"]["turned"]["arms"]["mover/scratch"]["adapts"] = False
    head, *_, last = make_trials.block("tiny/turned", facts, make_trials.README).splitlines()
    assert "| episode 1 | episode 2 | episode 3 |" in head and "take no" not in last


def test_a_run_of_before_that_does_not_say_who_adapts(make_trials, run):
    """Registered algorithms are known."""
    for path in run.rglob("run.json"):
        facts = json.loads(path.read_text())
        del facts["adapts"]
        name = {"mover": "mb_mpo", "stayer": "trpo"}[facts["algorithm"]]
        path.write_text(json.dumps(facts | {"algorithm": name}))
    arms = make_trials.facts_of(run, "tiny")["report"]["targets"]["turned"]["arms"]
    assert {arm: entry["adapts"] for arm, entry in arms.items()} == {"mb_mpo/scratch": True, "trpo/scratch": False}


def test_figures_count_steps_from_0_and_episodes_from_1(make_trials, run):
    targets = make_trials.facts_of(run, "tiny")["report"]["targets"]
    axes = dict(zip(targets, make_trials.picture(targets).axes[1::2], strict=True))
    assert axes["turned"].get_xlabel().startswith("adaptation step (") and axes["turned"].get_xticks().tolist() == [
        0,
        1,
        2,
    ]
    bold = {line.get_fillstyle(): line for line in axes["turned"].lines if line.get_linewidth() == 1.8}
    assert bold["full"].get_ydata().tolist() == [-8.5, -6.5, -4.5]
    assert bold["none"].get_ydata().tolist() == [-8.5, -8.5, -8.5]
    assert not len(axes["single"].get_xticks())
    for entry in targets["turned"]["arms"].values():
        entry["adapts"] = False
    axes = make_trials.picture({"turned": targets["turned"]}).axes[1]
    assert axes.get_xlabel() == "episode of the trial" and axes.get_xticks().tolist() == [1, 2, 3]


def test_arms_look_as_in_reports(make_trials, run):
    """Their own colours and dashes; a picture that is drawn again is the same."""
    targets = make_trials.facts_of(run, "tiny")["report"]["targets"]
    for old, new in (("mover/scratch", "mb_mpo/scratch"), ("stayer/scratch", "trpo/scratch")):
        for target in targets.values():
            target["arms"][new] = target["arms"].pop(old)
    figure = make_trials.picture(targets)
    bold = {line.get_label(): line for line in figure.axes[0].lines if line.get_linewidth() == 1.8}
    for arm, line in bold.items():
        assert line.get_color() == drawing.STYLES[drawing.OWN[arm]][0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*bold, "scripted optimum"]


def test_a_committed_picture_is_drawn_again(make_trials, run, tmp_path):
    target = tmp_path / "tiny_result"
    make_trials.main(run, target)
    before = target.with_suffix(".png").read_bytes()
    target.with_suffix(".png").unlink()
    make_trials.write(json.loads(target.with_suffix(".json").read_text()), target)
    assert target.with_suffix(".png").read_bytes() == before


def test_pages_are_filled_in_and_links_are_as_seen_from_them(make_trials, run, tmp_path, monkeypatch):
    pages = tmp_path / "README.md", tmp_path / "docs" / "page.md", tmp_path / "docs" / "other.md"
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    for page in pages[:2]:
        page.write_text("before\n<!-- trials:tiny -->\nold\n<!-- /trials:tiny -->\nafter\n")
    pages[2].write_text("nothing here\n")
    monkeypatch.setattr(make_trials, "PAGES", pages)
    monkeypatch.setattr(make_trials, "RESULTS", results)
    monkeypatch.setattr(make_trials, "committed", lambda name: json.loads((results / f"{name}.json").read_text()))
    make_trials.main(run, results / "tiny")
    for page, place in zip(pages, ("docs/results/", "results/"), strict=False):
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and "\nold\n" not in text
        assert f"]({place}tiny.png)" in text and f"[tiny.json]({place}tiny.json)" in text
        assert "Made by `meta-latent transfer tiny`; run seeds 0, 1; torch 0;\ncommit 0123456789ab." in text
    assert pages[2].read_text() == "nothing here\n" and "/x/" not in (results / "tiny.json").read_text()


def test_without_a_result_the_block_says_how_to_make_one(make_trials):
    said = make_trials.block("tiny/turned", None, make_trials.README)
    assert "`meta-latent transfer tiny`" in said and "`python docs/make_trials.py runs/tiny`" in said
