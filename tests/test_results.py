"""What README and docs/results/README.md show is what docs/results/*.json say; the script that writes them works and
reports facts only.
"""

import hashlib
import json
import math
import re
from pathlib import Path

import docs_scripts
import numpy as np
import pytest
from PIL import Image

import task_suites
from meta_latent.errors import UserError
from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.statistics import saved
from meta_latent.experiment.settings import experiments
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import bind_source, bind_target
from meta_latent.ops.learning_speed import iqm
from task_suites.toy.puck import INSIDE_METRES

ROOT = Path(__file__).resolve().parent.parent
make_results = docs_scripts.load("make_results")


def blocks(text):
    return dict(re.findall(r"<!-- results:(\w+) -->\n(.*?)\n<!-- /results:\1 -->", text, re.DOTALL))


RESULTS = ROOT / "docs" / "results" / "README.md"


def test_the_page_of_results_says_what_the_committed_results_say():
    shown = blocks(RESULTS.read_text())
    assert shown.pop("families") == make_results.families()
    assert shown.keys() == {*make_results.SHOWN, *make_results.BESIDE}
    for name, text in shown.items():
        assert text == make_results.block(name, make_results.committed(name))


def test_readme_says_what_the_committed_results_say():
    text = (ROOT / "README.md").read_text()
    assert blocks(text) == {"shown": make_results.shown()}
    rows = make_results.shown().splitlines()[2:]
    assert len(rows) >= 8 and all(f"#{section})" in "".join(rows) for section in make_results.SHOWN.values())
    arms = saved.upgraded(make_results.committed("ivg_lift")["report"])["targets"]["lift_red"]["arms"]
    entry, scratch = arms["ivg/pretrained"], arms["ivg/scratch"]
    steps = [
        {at: arm["medians"][kind][at][0] for at in ats}
        for kind, ats in (("steps_to_thresholds", ("0.5",)), ("steps_to_success", ("0.5", "0.8")))
        for arm in (entry, scratch)
    ]
    (ours, base), (solved, without) = steps[:2], steps[2:]
    claim = entry["speedup"]["0.5"]["ivg/scratch"]
    assert not claim["lower_bound"] and len(entry["seeds"]) == 5 and scratch["budget"] == 6000
    there = sum(at is not None for at in scratch["steps_to_success"]["0.8"])
    words = (
        f"took {ours['0.5']:,.0f} environment steps to a score of 0.5 with the pretrained model and {base['0.5']:,.0f} "
        f"without one: {claim['ratio']:.1f} times fewer (medians of five seeds; the 95 % interval begins at "
        f"{claim['interval'][0]:.2f}). Half of the episodes were solved after {solved['0.5']:,.0f} steps, without it "
        f"after {without['0.5']:,.0f}; four fifths after {solved['0.8']:,.0f}, without it on "
        f"{['no', 'one', 'two'][there]} seeds of five within 6,000"
    )
    assert words in " ".join(text.split())
    assert re.findall(r"^!\[.*\]\((.*)\)$", text, re.MULTILINE) == ["docs/results/reuse.png"]  # its picture


def test_the_quickstart_says_what_puck_found():
    text = " ".join((ROOT / "docs" / "quickstart.md").read_text().split())
    arms = saved.upgraded(make_results.committed("puck")["report"])["targets"]["new_place"]["arms"]
    ours, scratch = arms["ivg/pretrained"], arms["ivg/scratch"]
    assert ours["at_first_evaluation"]["0.5"] == [True] * 3 and ours["steps_to_thresholds"]["0.5"] == [60] * 3
    assert "score of 0.5 at its first evaluation, after four random episodes (60 steps)" in text
    assert "one of 0.9 after {}, {} and {} steps".format(*ours["steps_to_thresholds"]["0.9"]) in text
    assert min(ours["final_success"]) > 0.96 and "then succeeds in nearly all evaluated episodes" in text
    assert scratch["reached"]["0.5"] == 0 and f"no run holds 0.5 within {scratch['budget']} steps" in text
    assert max(scratch["final_success"]) == 0 and "none succeeds at the end" in text


def test_the_page_says_how_near_the_sources_of_puck_are():
    experiment = experiments.load(ExperimentConfig, "puck")
    target = bind_target(experiment, "new_place").tasks[0]
    found = []
    for place in range(len(experiment.pretrain.each_source)):
        goal = target.distribution.goal(bind_source(experiment, place).task)
        found.append(math.dist(goal, target.distribution.goal(target.task)))
    assert len(found) == 4 and min(found) > INSIDE_METRES
    assert f"{min(found):.2f} m from the nearest of the four source places" in " ".join(RESULTS.read_text().split())


def test_readme_says_what_trials_found():
    text = " ".join((ROOT / "README.md").read_text().split())
    toy, rotated = medians("meld_toy", "sparse"), medians("mb_mpo_toy", "rotated")
    turned, control = rotated["mb_mpo"], rotated["mb_mpo_alpha0"]
    optimum = {name: make_results.committed(name)["report"]["targets"][target]["scripted_optimum"]
               for name, target in (("meld_toy", "sparse"), ("mb_mpo_toy", "rotated"))}  # fmt: skip
    first, second = toy["meld"]
    said = f"earns {first:.1f} in the first episode, in which it searches, and {second:.1f} in the second, of at most"
    assert f"{said} {optimum['meld_toy']:.1f};" in text
    assert f"trained without carrying the belief over, {toy['no_carry'][1]:.1f} in the second" in text
    said = f"from {turned[0]:.1f} to {turned[1]:.1f} in one policy-gradient step on 20 episodes and to {turned[3]:.1f}"
    said += (
        f" in three, where the optimum is {optimum['mb_mpo_toy']:.1f} and a policy that was not trained to adapt comes"
    )
    assert f"{said} from {control[0]:.1f} to {control[3]:.1f} (medians of five seeds)." in text


def test_what_running_from_pictures_found_is_said():
    arms = make_results.committed("locomotion_pixels")["report"]["targets"]["backward"]["arms"]
    ours, scratch = (arms[f"sac/{start}"] for start in ("pretrained", "scratch"))
    (a, b, c), (d, e, f) = ([f"{score:.0f}" for score in arm["final_score"]] for arm in (ours, scratch))
    (g, h, i), (j, k, m) = ([f"{100 * share:.0f}" for share in arm["final_success"]] for arm in (ours, scratch))
    text, readme = (" ".join(path.read_text().split()) for path in (RESULTS, ROOT / "README.md"))
    assert f"it ends at {a}, {b} and {c} in 100 steps" in text and f"from scratch at {d}, {e} and {f};" in text
    assert f"{g}, {h} and {i} % of the episodes end at 1 m/s or more, from scratch {j}, {k} and {m} %." in text
    medians = [f"{np.median(arm['final_score']):.0f}" for arm in (ours, scratch)]
    assert "a return of {} in 100 steps, from scratch {} (medians of three seeds;".format(*medians) in readme
    assert f"in {ours['budget']:,} steps" in readme


def test_what_a_script_earns_by_running_backward_is_said():
    suite = task_suites.get("locomotion/half_cheetah_direction", episode_steps=100)
    (task,), returns = suite.tasks("test"), []
    for seed in range(20):
        environment, script, ended = suite.make(task), suite.scripted(task), False
        info = environment.reset(seed=1000 + seed)[1]
        script.reset(np.random.default_rng(seed))
        returns.append(0.0)
        while not ended:
            _, reward, terminated, truncated, info = environment.step(script(info["reward_inputs"]))
            returns[-1] += reward
            ended = terminated or truncated
    for path, words in ((RESULTS, "a script earns {:.0f} and random"), (ROOT / "README.md", "a script earns {:.0f})")):
        assert words.format(np.mean(returns)) in " ".join(path.read_text().split())


def test_the_table_of_families_names_experiments():
    text = blocks(RESULTS.read_text())["families"]
    for name in make_results.FAMILIES:
        assert f"| [{name}]({name}.png) |" in text
        assert (ROOT / "configs" / "experiment" / f"{name}.yaml").is_file()


def test_every_committed_result_is_whole():
    for path in (ROOT / "docs" / "results").glob("*.json"):
        facts = json.loads(path.read_text())
        assert facts["commands"] and facts["commits"] and facts["versions"] and facts["seeds"], path
        found = facts["sweep"]["groups"] if "sweep" in facts else facts["report"]["targets"]
        assert all(entry["arms"] for entry in found.values())
        picture = path.with_suffix(".png").read_bytes()
        assert hashlib.sha256(picture).hexdigest() == facts["picture_sha256"], path


def test_the_page_says_what_hidden_goal_found():
    """Medians over seeds: both episodes of RL^2, the oracle's last, the script's."""
    text = " ".join(RESULTS.read_text().split())
    targets = json.loads((ROOT / "docs" / "results" / "hidden_goal.json").read_text())["report"]["targets"]
    said = {
        "sparse": "{:.1f} and {:.1f} of at most {script:.1f}, the oracle {oracle:.1f}",
        "dense": "{:.1f} and {:.1f}, the oracle {oracle:.1f}, a script that knows the goal {script:.1f}",
    }
    for name, words in said.items():
        arms = targets[name]["arms"]
        rl2, oracle = (np.median(arms[f"{arm}/scratch"]["returns_by_episode"], 0) for arm in ("rl2", "oracle"))
        assert words.format(*rl2, oracle=oracle[-1], script=targets[name]["scripted_optimum"]) in text
        assert min(arms["oracle/scratch"]["final_score"]) >= 0.9


def medians(name, target):
    """Arm -> median over seeds of the returns per episode of a trial."""
    facts = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["report"]["targets"][target]
    return {arm.split("/")[0]: np.median(e["returns_by_episode"], 0) for arm, e in facts["arms"].items()}


def test_the_page_says_what_meld_found_on_the_toy():
    text = " ".join(RESULTS.read_text().split())
    found = medians("meld_toy", "sparse")
    pair = {arm: "{:.1f} and {:.1f}".format(*values) for arm, values in found.items()}
    assert f"MELD {pair['meld']}; with a belief" in text and f"(`no_carry`) {pair['no_carry']};" in text
    assert f"(`slac`) {pair['slac']};" in text and f"(`oracle`) {found['oracle'][-1]:.1f};" in text
    assert f"same steps {pair['rl2']}. PEARL, with" in text and f"within an episode, {pair['pearl']}." in text
    dense = medians("meld_toy", "dense")
    assert (
        f"MELD has {dense['meld'][0]:.1f} and {dense['meld'][1]:.1f}, SLAC {dense['slac'][-1]:.1f}, the oracle "
        f"{dense['oracle'][-1]:.1f}. PEARL has {dense['pearl'][0]:.1f} and "
        f"{dense['pearl'][1]:.1f} (three seeds)."
    ) in text
    assert found["meld"][1] > 16.5 and found["meld"][1] - found["meld"][0] > 1.5
    assert found["meld"][1] - found["no_carry"][1] > 1.5


def final(name, target, arm):
    """Median over seeds of the final score."""
    facts = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["report"]["targets"][target]
    return np.median(facts["arms"][f"{arm}/scratch"]["final_score"])


def test_pages_of_algorithms_say_what_the_committed_results_say():
    page = {path.stem: " ".join(path.read_text().split()) for path in (ROOT / "docs" / "algorithms").glob("*.md")}
    goal = {name: medians("hidden_goal", name) for name in ("sparse", "dense")}
    toy = {name: medians("meld_toy", name) for name in ("sparse", "dense")}
    pair = "{:.1f} and {:.1f}".format
    sparse, dense = goal["sparse"]["rl2"], goal["dense"]["rl2"]
    assert f"has {sparse[0]:.1f} and the second {sparse[1]:.1f} of at most 18.4" in page["rl2"]
    assert f"they have {pair(*dense)}, where" in page["rl2"]
    assert f"it has {pair(*toy['sparse']['rl2'])} on the sparse" in page["rl2"]
    assert f"where MELD has {toy['sparse']['meld'][0]:.1f} and {toy['sparse']['meld'][1]:.1f}" in page["rl2"]
    assert (
        f"have {pair(*toy['sparse']['pearl'])} (five seeds), on the dense one "
        f"{pair(*toy['dense']['pearl'])} (three seeds)"
    ) in page["pearl"]
    assert f"has {goal['sparse']['oracle'][-1]:.1f} of at most 18.4 after" in page["oracle"]
    assert f"dense one {goal['dense']['oracle'][-1]:.1f} after" in page["oracle"]
    said = [
        f"{label} {pair(*toy['sparse'][arm])}"
        for label, arm in (("MELD", "meld"), ("`no_carry`", "no_carry"), ("`slac`", "slac"))
    ]
    assert f"a trial: {', '.join(said)} (" in page["slac"]
    reached = {
        (arm, target): (medians("mb_mpo_toy", target)[arm][-1], final("mb_mpo_toy", target, arm))
        for arm in ("me_trpo", "trpo", "mb_mpo")
        for target in ("lqr", "rotated")
    }
    shown = "return of {:.1f} after 1,000 steps (score {:.2f})".format
    beside = f", where MB-MPO has {reached['mb_mpo', 'lqr'][0]:.1f}"
    assert shown(*reached["me_trpo", "lqr"]) + beside in page["me_trpo"]
    assert f"a score of {reached['me_trpo', 'rotated'][1]:.2f}, worse than" in page["me_trpo"]
    assert f"where MB-MPO has {reached['mb_mpo', 'rotated'][1]:.2f} (" in page["me_trpo"]
    assert "return of {:.1f} (score {:.2f}) after 20,000".format(*reached["trpo", "lqr"]) in page["trpo"]


def test_pages_of_sac_say_what_the_long_comparison_found():
    page = {path.stem: " ".join(path.read_text().split()) for path in (ROOT / "docs" / "algorithms").glob("*.md")}
    facts = json.loads((ROOT / "docs" / "results" / "transfer_tabletop.json").read_text())
    arms = facts["report"]["targets"]["gather_red"]["arms"]
    middle = {arm: iqm(entry["final_score"]) for arm, entry in arms.items()}
    pretrained, scratch, ivg = (
        f"{middle[arm]:.2f} for `{arm}`" for arm in ("sac/pretrained", "sac/scratch", "ivg/pretrained")
    )
    assert f"{pretrained} and {scratch}, and {ivg}" in page["sac"]
    assert f"(IQM) was {middle['sb3_sac/scratch']:.2f} (" in page["sb3_sac"]
    assert all(arms[arm]["reached"] == 0 for arm in ("sac/scratch", "sac/pretrained", "sb3_sac/scratch"))


def test_readme_names_commands_and_keys_that_exist():
    from meta_latent.experiment.settings import config
    from meta_latent.experiment.settings.schema import ExperimentConfig

    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^    meta-latent (?:demo|pretrain|transfer) ?(.*)$", text, re.MULTILINE)
    assert commands
    for words in commands:
        overrides = [word.strip('"') for word in words.split() if "=" in word]
        config.load(ExperimentConfig, [config.find("experiment", "demo")], overrides)
    targets = re.findall(r"^    make (\w+)", text, re.MULTILINE)
    assert targets and all(f"\n{name}:" in (ROOT / "Makefile").read_text() for name in targets)


@pytest.fixture
def run(tmp_path):
    """A run folder with two arms of three seeds on one target, and its report."""
    root = tmp_path / "tiny"
    for arm, slope in (("ivg/pretrained", 0.004), ("ivg/scratch", 0.001)):
        for seed in range(3):
            folder = root / "transfer" / "goal" / arm / str(seed)
            folder.mkdir(parents=True)
            algorithm, start = arm.split("/")
            cell = ["target=goal", f"arm={arm}", f"run_seed={seed}"]
            command = ["/x/cli.py", "transfer", "tiny", "out=/x/y", *cell]
            facts = {"status": "done", "target": "goal", "algorithm": algorithm, "start": start, "seed": seed,
                     "threshold": 0.6, "floor": 0.0, "reference": 1.0, "budget_env_steps": 400,
                     "commit": "0123456789abcdef+changes", "versions": {"torch": "0"},
                     "command": command}  # fmt: skip
            (folder / "run.json").write_text(json.dumps(facts))
            clocks = [{"env_steps": s, "updates": s, "seconds": s} for s in range(50, 401, 50)]
            rows = [{"kind": "evaluation", **c, "score": slope * c["env_steps"]} for c in clocks]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(root, resamples=50)
    return root


def test_the_script_writes_json_picture_and_block(run, tmp_path):
    page, target = tmp_path / "README.md", tmp_path / "results" / "tiny"
    page.write_text("before\n<!-- results:tiny -->\nold\n<!-- /results:tiny -->\nafter\n")
    make_results.main(run, target, page)
    facts = json.loads(target.with_suffix(".json").read_text())
    assert facts["commands"] == ["meta-latent transfer tiny"]
    assert facts["seeds"] == ["0", "1", "2"] and facts["commits"] == ["0123456789abcdef+changes"]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "\nold\n" not in text
    assert blocks(text)["tiny"] == make_results.block("tiny", facts)
    assert "| goal | 0.6 | ivg/pretrained | 3 / 3 | 150 [150, 150] |" in text
    assert "| goal | 0.6 | ivg/scratch | 0 / 3 | > 400 " in text
    assert "| final score (IQM) |" in text and "mean of a run's last 2 evaluations" in text
    assert "commit 0123456789ab+changes." in text
    assert "/x/" not in text and "/x/" not in target.with_suffix(".json").read_text()
    assert Image.open(target.with_suffix(".png")).width == make_results.WIDTH


def test_many_arms_are_also_ranked(run, monkeypatch):
    draw, ranked, two = make_results.times_to_threshold, [], make_results.picture(run)

    def noted(rows, clock):
        ranked.append([row.label for row in rows])
        return draw(rows, clock)

    monkeypatch.setattr(make_results, "times_to_threshold", noted)
    monkeypatch.setattr(make_results, "MOST_TOGETHER", 1)
    titled, titles = make_results._titled, []
    monkeypatch.setattr(make_results, "_titled", lambda *part: titles.append(part[-1]) or titled(*part))
    assert make_results.picture(run).tobytes() != two.tobytes()
    assert titles == ["goal", "goal: how fast to 0.6"]
    assert ranked == [["ivg/pretrained", "ivg/scratch"]]


def test_a_changed_number_changes_the_block(run, tmp_path):
    facts = make_results.facts_of(run, "tiny")
    before = make_results.block("tiny", facts)
    facts["report"]["targets"]["goal"]["arms"]["ivg/pretrained"]["reached"]["0.6"] = 2
    assert make_results.block("tiny", facts) != before


def test_the_gain_against_pretraining_is_told_with_its_runs(run):
    points = [
        {"pretraining_env_steps": steps, "target": "goal",
         "ratio": {"value": value, "lower_bound": False, "interval": [1, 9], "reason": None}}
        for steps, value in ((900, 4.0), (100, 2.0))
    ]  # fmt: skip
    gain = {"runs": [str(run)], "points": points}
    (run / "report" / "gain_against_pretraining.json").write_text(json.dumps(gain))
    facts = make_results.facts_of(run, "tiny")
    assert facts["gain_against_pretraining"]["runs"][0]["commands"] == ["meta-latent transfer tiny"]
    told = "Speed-up on goal by steps of pretraining: 2.0× after 100, 4.0× after 900."
    assert told in make_results.block("tiny", facts).splitlines()


def test_pictures_are_named_by_their_targets(run):
    for target in ("a b", "a_b"):
        (run / "transfer" / "goal").rename(run / "transfer" / target)
        for path in (run / "transfer" / target).rglob("run.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"target": target}))
        (run / "transfer" / target).rename(run / "transfer" / "goal")
        build(run, resamples=50)
        assert make_results.picture(run).width == make_results.WIDTH
    next((run / "report").glob("curves_env_steps_a_b.png")).unlink()
    with pytest.raises(SystemExit, match="lacks pictures"):
        make_results.picture(run)


def test_committed_results_of_format_1_read_as_format_2():
    for path in (ROOT / "docs" / "results").glob("*.json"):
        old = json.loads(path.read_text()).get("report")
        if old is None or "final" in old:  # by scripts of their own: make_sweeps.py, make_trials.py
            continue
        new = saved.upgraded(old)
        assert new["format"] == 2 and saved.upgraded(new) is new
        if old["format"] == 2:
            continue
        for name, target in new["targets"].items():
            at = f"{old['targets'][name]['threshold']:g}"
            assert target["thresholds"] == [old["targets"][name]["threshold"]]
            for arm, entry in target["arms"].items():
                before = old["targets"][name]["arms"][arm]
                assert entry["steps_to_thresholds"] == {at: before["env_steps_to_threshold"]}
                assert entry["final_score_iqm"] == before["medians"]["final_score"]
                assert entry["reached"] == {at: before["reached"]} and entry["budget"] > 0
                ratios = {base: claim["ratio"] for base, claim in before["speedup"].items()}
                assert {base: claim["ratio"] for base, claim in entry["speedup"][at].items()} == ratios
    with pytest.raises(UserError, match="format 3"):
        saved.upgraded({"format": 3})


def test_a_report_of_format_1_tells_which_runs_stopped_at_the_threshold():
    """It did not say so; the long comparison's runs did, while those of SAC spent their budgets."""
    arms = saved.upgraded(make_results.committed("transfer_tabletop")["report"])["targets"]["gather_red"]["arms"]
    assert arms["ivg/pretrained"]["stopped_at"] == [0.5, 0.5, 0.5, None, 0.5]  # one came to it with its last steps
    assert arms["ivg/scratch"]["stopped_at"] == [0.5, 0.5, None, None, None]
    assert arms["sac/scratch"]["stopped_at"] == [None] * 5
    text = make_results.block("transfer_tabletop", make_results.committed("transfer_tabletop"))
    assert "a run ends when the threshold holds, or its budget is spent." in text


def test_all_blocks_can_be_made_anew(tmp_path):
    pages = [tmp_path / "results.md", tmp_path / "readme.md"]
    wanted = [RESULTS.read_text(), (ROOT / "README.md").read_text()]
    for page, text in zip(pages, wanted, strict=True):
        for name, content in blocks(text).items():
            text = make_results.put(text, name, content[:3])
        page.write_text(text)
    make_results.write_blocks(*pages)
    assert [page.read_text() for page in pages] == wanted


def test_no_report_and_no_block_are_said(tmp_path):
    with pytest.raises(SystemExit, match=r"report\.json is missing"):
        make_results.facts_of(tmp_path, "tiny")
    with pytest.raises(SystemExit, match="no block"):
        make_results.put("text", "tiny", "content")
