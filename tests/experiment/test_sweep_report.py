"""The report over a sweep, on fabricated runs whose numbers are known."""

import json

import numpy as np
import pytest
from fabricated_runs import new_facts, write_cell

import meta_latent
from meta_latent import cli
from meta_latent.errors import UserError
from meta_latent.experiment.report import sweep_report
from meta_latent.experiment.report.figures import time_figures
from meta_latent.ops import learning_speed as ls

SCORES = {("horizon_3", 0): (0.9, 0.8), ("horizon_3", 1): (0.5, 0.6), ("horizon_5", 0): (0.3, 0.2),
          ("horizon_5", 1): (0.4, 0.5)}  # fmt: skip
BUDGET = 300


def rows(score):
    return [(0, 0.0), (100, score), (200, score), (BUDGET, score)]


def fabricate(root, scores=None, **facts):
    """Two variants with two pretrainings; scratch runs are those of the first pretraining, linked."""
    variants = []
    for (group, seed), both in (scores or SCORES).items():
        variant = f"{group},seed_{seed}"
        variants.append((variant, group, {"seed": seed}))
        for run, score in enumerate(both):
            start = {"model_sha256": f"model {seed}", "compared_with": "ivg/scratch", "budget": BUDGET}
            write_cell(root / variant, "goal", "ivg/pretrained", run, rows(score), facts=new_facts, **start, **facts)
            folder = root / variant / "transfer" / "goal" / "ivg" / "scratch"
            if seed == 0:
                write_cell(root / variant, "goal", "ivg/scratch", run, rows(0.1 + 0.1 * run), facts=new_facts, **facts)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                first = root / f"{group},seed_0" / "transfer" / "goal" / "ivg" / "scratch"
                (folder / str(run)).symlink_to(first / str(run))
    sweep_report.write_variants(root, variants)


@pytest.fixture
def result(tmp_path):
    fabricate(tmp_path)
    return sweep_report.build(tmp_path)


def test_every_run_counts_once_and_every_model_too(result):
    for group in ("horizon_3", "horizon_5"):
        arms = result["groups"][group]["arms"]
        assert (arms["ivg/pretrained"]["runs"], arms["ivg/pretrained"]["pretrainings"]) == (4, 2)
        assert (arms["ivg/scratch"]["runs"], arms["ivg/scratch"]["pretrainings"]) == (2, 0)
    assert result["runs"] == {"done": 12}
    assert result["groups"]["horizon_3"]["variants"] == ["horizon_3,seed_0", "horizon_3,seed_1"]


def test_scores_are_the_interquartile_means_with_intervals_over_models(result):
    told = result["groups"]["horizon_3"]["arms"]["ivg/pretrained"]
    assert told["final_score_iqm"] == pytest.approx(ls.iqm([0.9, 0.8, 0.5, 0.6]))
    low, high = told["final_score_interval"]
    assert low <= 0.55 and high >= 0.85  # a draw may take either model twice


def test_probabilities_are_those_counted_by_hand(result):
    found = {(c["group"], c["arm"], c["base_group"], c["base"]): c["probability"] for c in result["comparisons"]}
    assert found == {
        ("horizon_3", "ivg/pretrained", "horizon_3", "ivg/scratch"): 1.0,
        ("horizon_5", "ivg/pretrained", "horizon_5", "ivg/scratch"): pytest.approx(7.5 / 8),  # one tie at 0.2
        ("horizon_5", "ivg/pretrained", "horizon_3", "ivg/pretrained"): pytest.approx(0.5 / 16),
        ("horizon_5", "ivg/scratch", "horizon_3", "ivg/scratch"): 0.5,
    }
    assert all(0 <= c["interval"][0] <= c["probability"] <= c["interval"][1] <= 1 for c in result["comparisons"])


def test_profiles_fall_from_one_to_zero_where_the_scores_are(result):
    profile = result["groups"]["horizon_3"]["arms"]["ivg/pretrained"]["profile"]
    share = dict(zip(np.round(profile["levels"], 2), profile["share"], strict=True))  # from 0 to 1
    assert [share[level] for level in (0.0, 0.56, 0.7, 1.0)] == [1, 0.75, 0.5, 0]
    assert all(low <= at <= high for low, at, high in
               zip(*(profile[key] for key in ("low", "share", "high")), strict=True))  # fmt: skip


def curve_to(threshold, after):
    """Evaluations every 100 steps to `BUDGET`, at or above a threshold from `after` on."""
    return [(at, threshold * (at >= after)) for at in range(0, BUDGET + 1, 100)]


def write_speeds(root, speeds):
    """Variants of one group: speeds[seed][arm] are the steps after which its runs come to 0.8."""
    for seed, arms in enumerate(speeds):
        for start, all_after in arms.items():
            model = f"model {seed}" if start == "pretrained" else None
            for run, after in enumerate(all_after):
                write_cell(root / f"base,seed_{seed}", "goal", f"ivg/{start}", run, curve_to(0.8, after),
                           facts=new_facts, model_sha256=model, compared_with="ivg/scratch", budget=BUDGET)  # fmt: skip
    sweep_report.write_variants(root, [(f"base,seed_{k}", "base", {"seed": k}) for k in range(len(speeds))])


def test_times_and_speedups_are_those_of_the_runs_and_know_their_models(tmp_path):
    slow = 10 * BUDGET  # not reached
    write_speeds(tmp_path, [{"pretrained": (100, 100), "scratch": (200, 200, slow)}, {"pretrained": (200, 200)}])
    result = sweep_report.build(tmp_path)
    arms = result["groups"]["base"]["arms"]
    told = arms["ivg/pretrained"]["targets"]["goal"]["thresholds"]["0.8"]
    assert told["steps"] == [100, 100, 200, 200] and told["reached"] == 4
    assert told["median"] == [150, 150] and told["interval"] == [100, 200]
    told = arms["ivg/scratch"]["targets"]["goal"]["thresholds"]["0.8"]
    assert told["steps"] == [200, 200, None] and told["watched"] == [BUDGET] * 3
    assert told["median"] == [200, 200] and told["interval"] == [200, None]
    (pair,) = result["comparisons"]
    claim = pair["speedup"]["goal"]["0.8"]
    assert claim["ratio"] == pytest.approx(200 / 150) and not claim["lower_bound"]
    assert claim["interval"] == [1, None]
    assert "1.33×" in (tmp_path / "sweep.html").read_text()


def test_the_interval_of_times_draws_models_first(tmp_path):
    # Twelve runs of one model are fast: drawn alike, the median of all fourteen would be 100 in 99 of 100 draws.
    write_speeds(tmp_path, [{"pretrained": (100,) * 12}, {"pretrained": (200,) * 2}])
    told = sweep_report.build(tmp_path)["groups"]["base"]["arms"]["ivg/pretrained"]["targets"]["goal"]
    assert told["thresholds"]["0.8"]["median"] == [100, 100] and told["thresholds"]["0.8"]["interval"] == [100, 200]


def compare(root, own, base):
    """What is told of the speed-up of one arm over another, whose facts differ."""
    for start, facts in (("pretrained", {"compared_with": "ivg/scratch"} | own), ("scratch", base)):
        write_cell(root / "a", "goal", f"ivg/{start}", 0, curve_to(0.8, 100), facts=new_facts, **facts)
    sweep_report.write_variants(root, [("a", "a", {})])
    (pair,) = sweep_report.build(root)["comparisons"]
    return pair["speedup"]


@pytest.mark.parametrize(("own", "base", "told"), [
    ({}, {}, {"goal": ["0.8"]}),
    ({"thresholds": [0.6, 0.7]}, {"thresholds": [0.5, 0.7]}, {"goal": ["0.7"]}),  # both were asked
    ({}, {"clock": "updates"}, {}),
])  # fmt: skip
def test_only_what_both_were_asked_is_compared(tmp_path, own, base, told):
    assert {target: list(found) for target, found in compare(tmp_path, own, base).items()} == told


def test_every_kind_of_run_is_in_the_times_and_drawn_as_such(tmp_path, monkeypatch):
    ends = {"seen": (200, "done"), "cut": (None, "running"), "missed": (None, "done"), "at once": (0, "done")}
    for run, (after, status) in enumerate(ends.values()):
        rows = curve_to(0.8, 10 * BUDGET if after is None else after)
        write_cell(tmp_path / "a", "goal", "ivg/scratch", run, rows, facts=new_facts, status=status)
    sweep_report.write_variants(tmp_path, [("a", "a", {})])
    drawn, draw = [], time_figures.times_to_threshold
    monkeypatch.setattr(time_figures, "times_to_threshold", lambda rows, *rest: drawn.extend(rows) or draw(rows, *rest))
    told = sweep_report.build(tmp_path)["groups"]["a"]["arms"]["ivg/scratch"]["targets"]["goal"]["thresholds"]["0.8"]
    assert told["unfinished"] == [False, True, False, False] and told["watched"] == [BUDGET] * 4
    assert told["at_first_evaluation"] == [False, False, False, True] and told["steps"] == [200, None, None, 100]
    (row,) = drawn
    assert (row.reached, row.censored, row.unfinished, row.at_first) == ((200,), (BUDGET,), (BUDGET,), (100,))


def test_thresholds_of_a_sweep_are_those_that_are_asked_for(tmp_path, capsys):
    fabricate(tmp_path)
    for told in (meta_latent.report(tmp_path, thresholds=[0.4, 0.85]),
                 json.loads((tmp_path / "sweep.json").read_text())):  # fmt: skip
        found = told["groups"]["horizon_3"]["arms"]["ivg/pretrained"]["targets"]["goal"]["thresholds"]
        assert {at: one["reached"] for at, one in found.items()} == {"0.4": 4, "0.85": 1}
        assert all(set(pair["speedup"]["goal"]) == {"0.4", "0.85"} for pair in told["comparisons"])
    assert cli.main(["report", str(tmp_path), "thresholds=[0.3]"]) == 0
    told = json.loads((tmp_path / "sweep.json").read_text())["groups"]["horizon_5"]["arms"]["ivg/pretrained"]
    assert set(told["targets"]["goal"]["thresholds"]) == {"0.3"}


def test_thresholds_of_raw_returns_may_be_asked_for(tmp_path):
    fabricate(tmp_path, reference=None, floor=None)
    told = meta_latent.report(tmp_path, thresholds=[0.4])["groups"]["horizon_3"]["arms"]["ivg/pretrained"]
    assert told["targets"]["goal"]["thresholds"]["0.4"]["reached"] == 4


def test_sweeps_of_one_name_are_told_apart(tmp_path):
    for name in ("a", "b"):
        fabricate(tmp_path / name / "s")
    assert set(meta_latent.report([tmp_path / "a" / "s", tmp_path / "b" / "s"])) == {"a/s", "b/s"}
    with pytest.raises(UserError, match="is named twice"):
        meta_latent.report([tmp_path / "a" / "s", tmp_path / "a" / "s"])


def test_python_reports_on_sweeps_and_runs_together(tmp_path):
    for name in ("a", "b"):
        fabricate(tmp_path / name)
    write_cell(tmp_path / "run", "goal", "ivg/scratch", 0, rows(0.4), facts=new_facts)
    told = meta_latent.report([tmp_path / "a", tmp_path / "run", tmp_path / "b"])
    assert set(told) == {"a", "b", "run"} and told["a"]["groups"] == told["b"]["groups"]
    assert set(told["run"]["targets"]) == {"goal"}
    with pytest.raises(UserError, match="out= takes the comparison of several runs"):
        meta_latent.report([tmp_path / "a", tmp_path / "b"], out=tmp_path)


def test_raw_scores_have_no_profile(tmp_path):
    fabricate(tmp_path, reference=None, floor=None)
    told = sweep_report.build(tmp_path)["groups"]["horizon_3"]["arms"]["ivg/pretrained"]
    assert told["profile"] is None and not told["targets"]["goal"]["normalised"]


def test_one_model_and_few_seeds_are_warned_of(tmp_path):
    fabricate(tmp_path, {("base", 0): (0.5, 0.6)})
    warnings = sweep_report.build(tmp_path)["warnings"]
    assert "base, ivg/pretrained: one pretrained model; its own luck is in no interval." in warnings
    assert any("only 2 seeds" in text for text in warnings)


@pytest.mark.drawn
def test_the_page_and_its_figures(result, tmp_path):
    page = (tmp_path / "sweep.html").read_text()
    assert page.count("<svg") == 4 and "http" not in page.replace("http://www.w3.org", "")
    assert all(f"horizon_{h},seed_{s}" in page for h in (3, 5) for s in (0, 1))
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "sweep_profiles.png", "sweep_scores.png", "sweep_improvement.png", "sweep_times_goal_0.8.png"}  # fmt: skip
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert stored == json.loads(json.dumps(result))
    lines = sweep_report.table(result).splitlines()
    assert len(lines) == 5 and lines[1].split()[:4] == ["horizon_3", "ivg/pretrained", "4", "2"]


def test_the_command_report_makes_it_anew(result, tmp_path, capsys):
    (tmp_path / "sweep.html").unlink()
    assert cli.main(["report", str(tmp_path), "resamples=50"]) == 0
    assert "horizon_5  ivg/pretrained  4" in capsys.readouterr().out and (tmp_path / "sweep.html").is_file()


def test_from_python_too(result, tmp_path):
    (tmp_path / "sweep.html").unlink()
    assert meta_latent.report(tmp_path) == result and (tmp_path / "sweep.html").is_file()


def test_runs_beside_a_sweeps_numbers_are_those_of_an_experiment(result, tmp_path):
    assert sweep_report.is_sweep(tmp_path)
    write_cell(tmp_path, "goal", "ivg/scratch", 0, rows(0.5), facts=new_facts)
    assert not sweep_report.is_sweep(tmp_path)


def test_building_twice_gives_the_same_numbers(result, tmp_path):
    assert sweep_report.build(tmp_path) == result


def test_variants_without_runs_and_damaged_ones_are_shown_as_such(tmp_path):
    fabricate(tmp_path)
    (tmp_path / "horizon_3,seed_0" / "transfer" / "goal" / "ivg" / "pretrained" / "0" / "metrics.jsonl").write_text("{")
    sweep_report.write_variants(tmp_path, [("none", "none", {}), ("horizon_3,seed_0", "horizon_3", {})])
    result = sweep_report.build(tmp_path)
    assert result["groups"]["none"]["arms"] == {}
    assert result["groups"]["horizon_3"]["arms"]["ivg/pretrained"]["runs"] == 1


def test_no_sweep(tmp_path):
    with pytest.raises(UserError, match="holds no sweep"):
        sweep_report.build(tmp_path)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match="holds no sweep"):
        sweep_report.build(tmp_path)


def test_an_arm_whose_runs_are_all_unfinished_is_told_of(tmp_path):
    fabricate(tmp_path)
    write_cell(tmp_path / "horizon_3,seed_0", "goal", "sac/scratch", 0, rows(0.5), facts=new_facts, status="running")
    found = sweep_report.build(tmp_path)
    assert "sac/scratch" not in found["groups"]["horizon_3"]["arms"]
    told = "horizon_3, sac/scratch: its 1 run is unfinished."
    assert told in found["warnings"]
    assert "<summary>1 warning</summary>" in sweep_report.render(tmp_path, found | {"warnings": [told]})
