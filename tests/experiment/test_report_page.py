"""What a reader of a report is told: claims, headlines, tasks in words, settings, warnings."""

import base64
import csv
import io
import json
import re
import sys

import numpy as np
import pytest
import yaml
from fabricated_runs import ramp, write_cell, write_pretraining
from PIL import Image
from report_pages import ARMS, keep_settings, page_of, words

import task_suites
from meta_latent import cli
from meta_latent.algorithms import registry
from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.reading import settings_shown
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.words import held_out_words, lead, text, told_tasks
from meta_latent.experiment.report.words.warning_groups import grouped


def test_a_bound_and_its_interval_are_one_statement():
    def said(ratio, lower_bound, ends, reason=""):
        found = {"ratio": ratio, "lower_bound": lower_bound, "interval": ends, "reason": reason}
        return text.claim(found)

    assert said(3.0, False, [2.0, 4.0]) == ("3.0×", "95 %: 2.0× to 4.0×")
    assert said(3.0, False, [0.5, 4.0]) == ("3.0×", "95 %: 0.50× to 4.0×")
    assert said(3.0, True, [2.0, None]) == ("> 3.0×", "95 %: 2.0× or more")
    assert said(3.0, True, [0, None]) == ("unsettled", "> 3.0× by the medians; 95 %: open on both sides")
    assert said(2.8, True, [0.38, None]) == ("unsettled", "> 2.8× by the medians; 95 %: 0.38× or more")
    assert said(1.2, False, [0, 1.5]) == ("unsettled", "1.20× by the medians; 95 %: 1.50× or less")
    assert said(0.22, False, [0, 0.22]) == ("0.22×", "95 %: 0.22× or less")
    assert said(0.9, False, [0, 1.1]) == ("unsettled", "0.90× by the medians; 95 %: 1.10× or less")
    assert said(3.0, False, None) == ("3.0×", "an arm has a single seed")
    assert said(None, False, None, "lost") == ("unknown", "lost") and text.claim({}) == ("–", "")


def test_speed_up_and_pay_back_are_told_in_time_too(many):
    """SECONDS_PER_STEP is 0.5: the same ratio, half as many seconds saved as steps; pretraining took 600 s."""
    arm = many[1]["targets"]["near"]["arms"]["ivg/pretrained"]
    steps, seconds = (arm[key]["0.5"]["ivg/scratch"] for key in ("speedup", "speedup_seconds"))
    assert seconds["ratio"] == pytest.approx(steps["ratio"]) and steps["saved_steps"] > 0
    assert seconds["saved_seconds"] == pytest.approx(0.5 * steps["saved_steps"])
    first = many[1]["aggregate"]["ivg/pretrained"]["by_threshold"][0]
    saved = first["break_even_seconds"]["saved_seconds_per_target"]
    assert first["break_even_seconds"]["targets"] == -(-600 // saved)
    assert first["break_even"]["targets"] == -(-2400 // first["break_even"]["saved_env_steps_per_target"])
    said = words(page_of(many[0]))
    assert re.search(r"pretraining paid back after \d+ targets? in steps, \d+ in time", said)


def test_raw_return_and_success_stand_beside_the_score(many):
    arm = many[1]["targets"]["near"]["arms"]["ivg/pretrained"]
    assert arm["final_raw_return"] == pytest.approx([100 * score - 10 for score in arm["final_score"]])
    assert arm["final_success_iqm"] == pytest.approx(0.95)
    said = words(page_of(many[0]))
    assert "environment steps to 50 % success" in said and "final raw return" in said
    assert "14 episodes each time" in said


def test_the_evaluations_are_a_table_of_their_own(many):
    rows = list(csv.DictReader(io.StringIO((many[0] / "report" / "evaluations.csv").read_text())))
    assert len(rows) == 2 * len(ARMS) * 3 * 11
    one = next(r for r in rows if (r["target"], r["arm"], r["seed"], r["env_steps"]) == ("far", ARMS[0], "2", "500"))
    assert float(one["raw_return"]) == pytest.approx(100 * float(one["score"]) - 10, rel=1e-6)
    assert (float(one["success"]), float(one["seconds"])) == (0.5, 250)


def test_where_nobody_arrived_that_is_all_that_is_said(tmp_path):
    for arm in ("ivg/pretrained", "ivg/scratch"):
        for seed in range(2):
            write_cell(tmp_path, "t", arm, seed, ramp(4000))
    report = build(tmp_path, resamples=50)
    assert report["lead"] == report["summary"] == "No arm reached the threshold 0.8."
    said = words(page_of(tmp_path))
    assert "not reached score 0.8, by neither ivg/pretrained nor ivg/scratch" in said
    assert "50 %" not in said.partition("How fast")[0] and "unknown" in said
    assert "t, ivg/pretrained, ivg/scratch: 2 of 2 runs did not reach the threshold 0.8." in said
    assert "All targets" not in said  # there is one


def test_chance_is_named_in_plain_words():
    assert lead._chance(2, 2) == "" and lead._chance(1, 3) == "; on 1 of these more clearly than chance explains"
    assert lead._chance(0, 1) == "; chance could explain the difference"
    assert lead._chance(0, 2) == "; on each of these chance could explain the difference"


def test_nothing_is_paid_back_beside_a_ratio_that_is_unsettled(many, monkeypatch):
    def said():
        styles = dict.fromkeys(many[1]["aggregate"], 0)
        return str([card["more"] for card in lead.headlines(many[1], styles)])

    assert "paid back" in said()
    monkeypatch.setattr(text, "claim", lambda found: ("unsettled", ""))
    assert "paid back" not in said()


def test_no_table_and_no_sentence_says_what_is_paid_back_beside_a_ratio_that_is_unsettled(tmp_path):
    """One of three runs from scratch is faster than those that were pretrained, the others never arrive; the second
    target is the same.
    """
    write_pretraining(tmp_path)
    for target in ("t", "u"):
        for seed in range(3):
            write_cell(tmp_path, target, "a/pretrained", seed, ramp(500))
            write_cell(tmp_path, target, "a/scratch", seed, ramp(200 if seed == 0 else 9000))
        report = build(tmp_path, resamples=200)
        found = report["aggregate"]["a/pretrained"]["by_threshold"][0]
        assert found["break_even"]["at_most"] and found["break_even_seconds"]["targets"] == 2
        tables = page_of(tmp_path)
        row = tables.partition("How fast</h3>")[2].partition("<tbody>")[2].partition("</tr>")[0]
        assert "unsettled" in row and row.count("<span>–</span>") == 2 and "≤" not in row
        assert "paid back" not in report["summary"] + str(lead.headlines(report, {"a/pretrained": 0}))
    row = tables.partition("All targets</h2>")[2].partition("<tbody>")[2].partition("</tr>")[0]
    assert row.count("<span>–</span>") == 2 and "≤" not in row


def test_time_that_is_unsettled_pays_nothing_back_where_steps_are_settled():
    steps = {"ratio": 2.0, "lower_bound": False, "interval": [1.5, 3.0], "saved_steps": 100}
    time = {"ratio": 2.0, "lower_bound": True, "interval": [0.5, None], "saved_seconds": 10.0}
    cost = {"env_steps": 200, "seconds": 20.0}
    assert lead.paid_back(steps, time, cost, "env_steps") == ["2 targets in steps"]
    assert lead.paid_back(steps, time | {"interval": [1.5, None]}, cost, "updates") == ["≤ 2 targets in time"]


def test_the_summary_says_in_what_pretraining_is_paid_back(many, tmp_path):
    """Of two arms that need as many steps, the pretrained one takes them in a tenth of the time."""
    assert re.search(r"by the medians paid back after \w+ \d+ such targets? in environment steps\.", many[1]["summary"])
    write_pretraining(tmp_path)
    for arm, per_step in (("a/pretrained", 1), ("a/scratch", 10)):
        for seed in range(2):
            write_cell(tmp_path, "t", arm, seed, ramp(500), evaluation=lambda at, _, n=per_step: {"seconds": n * at})
    assert "is not shown to pay for itself in environment steps (no" in build(tmp_path, resamples=50)["summary"]
    assert "pretraining paid back after 1 target in time" in words(page_of(tmp_path))


def test_the_headline_is_the_ratio(many):
    page = page_of(many[0])
    (value, other) = re.findall(r'<p class="figure">([^<]+)</p>', page)
    ratio = many[1]["targets"]["near"]["arms"]["ivg/pretrained"]["speedup"]["0.5"]["ivg/scratch"]["ratio"]
    assert text.times(ratio) in (value, other) and "All targets" in words(page)
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'\bid="([^"]+)"', page)) and "reproduce" in targets


def test_a_column_of_times_has_one_unit_which_its_head_names(tmp_path):
    """80 seconds and six minutes and a half: of themselves they would be told in two."""
    for name, unit in (("a", "s"), ("b", "min")):
        write_cell(tmp_path / name, "t", "x/pretrained", 0, ramp(200, stop=False))
        write_cell(tmp_path / name, "t", "x/scratch", 0, ramp(970, stop=False))
        if name == "b":
            write_cell(tmp_path / name, "t", "y/scratch", 0, ramp(950, stop=False))
        build(tmp_path / name, resamples=50)
        said = words(page_of(tmp_path / name).partition("How fast</h3>")[2].partition("</table>")[0])
        assert f"time, {unit} to threshold" in said and not re.search(r"\d (s|min|h)\b", said)
    assert cli.main(["report", str(tmp_path / "a"), str(tmp_path / "b"), f"out={tmp_path}", "resamples=50"]) == 0
    said = words((tmp_path / "comparison.html").read_text())
    assert "time, min to 0.8" in said and not re.search(r"\d (s|min|h)\b", said.partition("Settings that differ")[0])


def test_a_task_is_told_in_words_and_as_a_picture(many):
    told = told_tasks.of_target(read_run(many[0]).cells)
    assert told["reward"].startswith("minus the squared distance") and told["suite"] == "toy/lqr"
    image = Image.open(io.BytesIO(base64.b64decode(told["picture"].partition(",")[2])))
    assert min(image.size) >= 64 and len(np.unique(np.asarray(image))) > 2
    said = words(page_of(many[0]))
    assert "Pays minus the squared distance" in said and "toy/lqr, test split (image_size=16)" in said


def test_an_own_task_is_told_from_the_record_or_by_its_package(tmp_path, monkeypatch, capsys):
    recorded = write_cell(tmp_path / "a", "t", "x/pretrained", 0, ramp(300), pays="to hold the lamp")
    keep_settings(recorded, suite="mine/lamp")
    folder = write_pretraining(tmp_path / "a")
    facts = json.loads((folder / "pretraining.json").read_text()) | {"pays": ["to find the lamp"]}
    (folder / "pretraining.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text("pretrain: {sources: [{suite: mine/lamp, split: train}]}\n")
    build(tmp_path / "a", resamples=50)
    said = words(page_of(tmp_path / "a"))
    assert "Pays to hold the lamp." in said and "pays to find the lamp" in said

    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_lamp.py").write_text(
        "import task_suites\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "task_suites.gymnasium_task('mine/lamp', lambda: CartPoleEnv(), max_episode_steps=5)\n"
    )
    older = write_cell(tmp_path / "b", "t", "x/scratch", 0, ramp(300))
    keep_settings(older, suite="mine/lamp")
    settings = yaml.safe_load((older / "config.yaml").read_text())
    settings["task"] |= {"split": "train", "options": {}}
    (older / "config.yaml").write_text(yaml.safe_dump(settings))
    build(tmp_path / "b", resamples=50)
    assert "Pays" not in words(page_of(tmp_path / "b"))
    (older / "config.yaml").write_text(yaml.safe_dump(settings | {"imports": ["my_lamp", "not_there"]}))
    assert cli.main(["report", str(tmp_path / "b"), "resamples=50"]) == 0
    assert "my_lamp" not in sys.modules and "Pays" not in words(page_of(tmp_path / "b"))
    missing = "Not imported: my_lamp, not_there, which the settings of these runs name"
    assert missing in capsys.readouterr().out and missing in words(page_of(tmp_path / "b"))
    assert cli.main(["report", str(tmp_path / "b"), "resamples=50", "imports=[my_lamp]"]) == 0
    said = words(page_of(tmp_path / "b"))
    assert "Pays what the environment itself pays." in said and "Not imported: not_there," in said
    task_suites.registry.gymnasium.registry.pop("task_suites/mine-lamp-v0")
    sys.modules.pop("my_lamp")


def sources_told(folder, *sources, suite="{image_size: 16}", pays=()):
    """What a page says of these sources of a pretraining."""
    folder = write_pretraining(folder)
    facts = json.loads((folder / "pretraining.json").read_text()) | {"pays": list(pays)}
    (folder / "pretraining.json").write_text(json.dumps(facts))
    listed = ", ".join(f"{{split: train, {source}}}" for source in sources)
    (folder / "config.yaml").write_text(f"suite: {suite}\npretrain: {{sources: [{listed}]}}\n")
    return told_tasks.of_sources(read_run(folder.parents[1]).pretraining)


def test_sources_of_one_suite_are_told_apart_by_what_differs(tmp_path):
    told = sources_told(
        tmp_path, "suite: a/x, options: {goals: ring, image_size: 16}", "suite: a/x, options: {goals: half_ring}",
        "suite: a/x, options: {goals: ring}, index: 3", "suite: a/x, options: {goals: ring}, scripted: 0",
        "suite: a/x, options: {goals: ring}, distractors: [{name: lights}]", "suite: a/y, index: 4",
        "suite: a/z, tasks: 5, index: 2", "suite: a/w, data: runs/b", "suite: a/w",
    )  # fmt: skip
    assert [f"{one['suite']}: {one['said']}" for one in told] == [
        "a/x: train, task 0, goals=ring", "a/x: train, task 0, goals=half_ring", "a/x: train, task 3, goals=ring",
        "a/x: train, task 0, goals=ring, scripted=0", "a/x: train, task 0, goals=ring, behind lights",
        "a/y: train", "a/z: train, tasks 2 to 6", "a/w: train, logged in runs/b", "a/w: train",
    ]  # fmt: skip
    assert len({(one["suite"], one["said"]) for one in told}) == len(told)


def test_what_a_source_pays_is_its_own_where_another_is_many_tasks(tmp_path):
    told = sources_told(tmp_path, "suite: a/x, tasks: 3", "suite: a/y", pays=["one", "two", "three", "four"])
    assert [one["reward"] for one in told] == ["one", "four"]
    write_cell(tmp_path, "t", "x/pretrained", 0, ramp(300))
    build(tmp_path, resamples=50)
    said = words(page_of(tmp_path))
    assert "a/x (train, tasks 0 to 2): the first pays one" in said and "a/y (train): pays four" in said


def test_a_task_that_nobody_can_open_costs_its_words_only(tmp_path):
    keep_settings(write_cell(tmp_path, "t", "a/scratch", 0, ramp(300)), suite="gone/away")
    told = told_tasks.of_target(read_run(tmp_path).cells)
    assert (told["suite"], told["reward"], told["picture"]) == ("gone/away", "", "")
    build(tmp_path, resamples=50)
    assert "gone/away, test split" in words(page_of(tmp_path))


@pytest.mark.parametrize("kept", [
    "[1, 2]", "task: far", "task: {suite: toy/lqr, split: test, index: x, options: [1], distractors: 3}", "a: {b: [",
    "task: {suite: [], split: test}\nalgorithms: {a: 3}",
])  # fmt: skip
def test_settings_that_are_none_cost_no_report(tmp_path, kept):
    for folder in (write_cell(tmp_path, "t", "a/pretrained", 0, ramp(300)), write_pretraining(tmp_path)):
        (folder / "config.yaml").write_text(kept + "\npretrain: {sources: [3, {suite: 4}]}\nsuite: 5\n")
    cells = read_run(tmp_path).cells
    told = told_tasks.of_target(cells)
    assert told is None or (told["reward"], told["picture"]) == ("", "")
    told_tasks.of_sources(read_run(tmp_path).pretraining)
    settings_shown.between_arms(cells)


def test_settings_that_differ_between_arms_are_listed(many):
    cells = [cell for cell in read_run(many[0]).cells if cell.target == "near"]
    found = settings_shown.between_arms(cells)
    assert sorted(found["heads"]) == sorted(ARMS)
    assert [key for key, _ in found["rows"]] == ["algorithm: horizon"]  # its name stands before no setting
    assert dict(zip(found["heads"], found["rows"][0][1], strict=True))["rl2/scratch"] == "9"


@pytest.mark.parametrize(
    ("metrics", "has_model"),
    [
        ({"transition": "", "step": ""}, True),
        ({"embedding": ""}, True),
        (None, True),
        ({"step": ""}, False),
        ({}, False),
    ],
)
def test_how_a_model_keeps_learning_is_told_of_arms_that_may_have_one(tmp_path, metrics, has_model):
    """None: a run that has not finished, which does not say."""
    of_ivg = {"embedding": ""}
    for arm, joint, declared in (
        ("ivg/pretrained", 0, of_ivg),
        ("ivg/scratch", 1, of_ivg),
        ("mine/scratch", 2, metrics),
    ):
        facts = {"metrics": declared} if declared is not None else {}
        folder = write_cell(tmp_path, "t", arm, 0, ramp(300), **facts)
        kept = f"transfer: {{adaptation: {{joint: {joint}, filter: {joint // 2}, first_joint: 5}}, discount: {joint}}}"
        (folder / "config.yaml").write_text(kept)
    rows = {key: "".join(values) for key, values in settings_shown.between_arms(read_run(tmp_path).cells)["rows"]}
    if has_model:
        told = {"transfer.adaptation.joint": "012", "transfer.adaptation.filter": "001"}
    else:  # those that have a model agree about the rest
        told = {"transfer.adaptation.joint": "01–"}
    assert rows == told | {"transfer.discount": "012"}


def test_algorithms_with_a_latent_model_declare_what_it_learns():
    for name in registry.names():
        entry = registry.get(name)
        assert bool(settings_shown.MODEL_METRICS & entry.metrics.keys()) == ("pretrained" in entry.starts), name


def test_held_out_metrics_say_what_they_mean_and_which_way_is_better(many):
    rows = held_out_words.table(many[1]["pretraining"])["rows"]
    assert [(row["name"], row["better"], row["values"]) for row in rows] == [
        ("positions_1_minus_r2", "lower", ["0.1"]),
        ("open_loop_r2", "higher", ["0.7"]),
        ("mine", "", ["3"]),
    ]
    for name, (_, better) in held_out_words.MEASURES.items():
        assert better == ("lower" if "1_minus_r2" in name else "higher")
    said = words(page_of(many[0]))
    assert "↓ lower" in said and "after imagined steps without observations" in said
    meanings = str(held_out_words.MEASURES)  # models read proprioception too, some nothing else
    assert "told no rewards and sees observations only" in meanings and "pictures" not in meanings


def test_machine_and_date_are_told(many):
    said = words(page_of(many[0]))
    assert "fabricated-os, 2 cores" in said and "2024-05-01" in said


def test_as_many_things_to_know_are_announced_as_are_told(tmp_path):
    """Two arms lack a seed that a third has: one sentence."""
    for arm, seeds in (("a/scratch", (0,)), ("b/scratch", (0,)), ("c/scratch", (0, 1))):
        for seed in seeds:
            write_cell(tmp_path, "t", arm, seed, ramp(300))
    warnings = build(tmp_path, resamples=50)["warnings"]
    page = page_of(tmp_path)
    block = page[page.index('id="warnings"') :].partition("</details>")[0]
    assert len(warnings) > block.count("<li>") == int(re.search(r"(\d+) things? to know", block)[1])


def test_warnings_of_a_kind_stand_together():
    found = dict(grouped([
        "t, a/x: 1 of 3 runs did not reach the threshold 0.8.", "t, b/x: only 1 seed; nothing is known.",
        "t, a/x: odd.", "t, c/x: 1 of 3 runs did not reach the threshold 0.8.",
        "t, d/x: 2 of 3 runs did not reach the threshold 0.8.",
    ]))  # fmt: skip
    assert list(found) == ["Else", "Too few seeds", "Thresholds that were not reached"]
    assert found["Else"] == ["t, a/x: odd."]
    assert found["Thresholds that were not reached"] == [
        "t, a/x, c/x: 1 of 3 runs did not reach the threshold 0.8.",
        "t, d/x: 2 of 3 runs did not reach the threshold 0.8.",
    ]


def test_runs_that_have_not_finished_stand_together():
    ((_, told),) = grouped([
        "t, a/x, seed 0: interrupted.", "t, a/x, seed 1: failed (RunError: loss: nan).", "t, b/x, seed 1: interrupted.",
        "u, b/x, seed 1: interrupted.", "t, b/x: not run with seed 2.",
    ])  # fmt: skip
    assert told == ["Interrupted: a/x seed 0, b/x seed 1 (t).", "Failed (RunError: loss: nan): a/x seed 1 (t).",
                    "Interrupted: b/x seed 1 (u).", "t, b/x: not run with seed 2."]  # fmt: skip
    ((_, told),) = grouped(["t, a/x, seed 0: run.json cannot be read.", "t, b/x, seed 1: run.json cannot be read."])
    assert told == ["t, a/x seed 0, b/x seed 1: run.json cannot be read."]
