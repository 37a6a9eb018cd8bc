"""Algorithms that start alike: which was faster, in the summary, on the page and in report.json."""

import json

import pytest
from fabricated_runs import BUDGET, new_facts, ramp, write_cell
from report_pages import page_of, words
from sketches import empty_figures

from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.statistics.analysis import analyse
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.report.words import same_start
from meta_latent.experiment.report.words.summary import summary

NEVER = 9000


def write(root, seeds=3, target="t", noise=0.0, budget=BUDGET, **full_at):
    """Arms of these algorithms' starts (ivg_scratch=500), full at so many steps, or, of a list, each seed at its own,
    with thresholds 0.5 and 0.8.
    """
    for name, steps in full_at.items():
        algorithm, _, start = name.partition("_")
        base = f"{algorithm}/scratch" if start != "scratch" else None
        for seed, full in enumerate(steps if isinstance(steps, list) else [steps] * seeds):
            rows = ramp(full, noise, seed, stop=False, budget=budget)
            facts = {"facts": new_facts, "thresholds": [0.5, 0.8], "compared_with": base}
            write_cell(root, target, f"{algorithm}/{start}", seed, rows, **facts)
    return root


def numbers(root):
    return analyse(read_run(root), Bootstrap(resamples=50))


def pairs_of(report, target="t"):
    return {pair["start"]: pair for pair in report["targets"][target]["same_start"]}


def test_an_own_algorithm_is_set_against_another_of_the_same_start(tmp_path):
    root = write(tmp_path, ivg_pretrained=500, ivg_scratch=980, mine_pretrained=250, mine_scratch=760)
    with empty_figures():
        report = build(root, resamples=50)
    assert report["primary_pair"] == ["ivg/pretrained", "ivg/scratch"]
    pairs = pairs_of(json.loads((root / "report.json").read_text()))
    assert {start: pair["arms"] for start, pair in pairs.items()} == {
        start: [f"ivg/{start}", f"mine/{start}"] for start in ("pretrained", "scratch")
    }
    claim = pairs["pretrained"]["speedup"]["0.8"]  # of 200 steps against 400
    assert (claim["arm"], claim["base"]) == ("mine/pretrained", "ivg/pretrained")
    assert (claim["ratio"], claim["interval"], claim["saved_steps"]) == (2, [2, 2], 200) and "saved" not in claim
    sentence = (
        "On t, in environment steps to score 0.5: mine/pretrained was faster than mine/scratch, 2.0× (95 %: 2.0× to "
        "2.0×); mine/pretrained was faster than ivg/pretrained, 1.50× (95 %: 1.50× to 1.50×); mine/scratch was faster "
        "than ivg/scratch, 1.25× (95 %: 1.25× to 1.25×)."
    )
    said = words(page_of(root))
    assert sentence in report["summary"] and sentence in said
    shown = said[said.index("Which algorithm was faster") : said.index("How well")]
    assert "of 2 pairs that start alike" in shown and "speed-up to 0.5 speed-up to 0.8 pretrained ivg and mine" in shown
    assert "mine 1.50× 95 %: 1.50× to 1.50× mine 2.0× 95 %: 2.0× to 2.0× scratch ivg and mine mine 1.25×" in shown
    assert '<details class="more" open><summary class="note">Which algorithm' in page_of(root)


@pytest.mark.parametrize(("seeds", "detail"), [(4, "by the medians; 95 %: "), (1, "medians; an arm has a single seed")])
def test_nobody_is_called_faster_where_the_interval_does_not_exclude_1(tmp_path, seeds, detail):
    report = numbers(write(tmp_path, seeds, noise=0.3, a_scratch=900, b_scratch=600))
    value, found = same_start.told(pairs_of(report)["scratch"]["speedup"]["0.5"])
    assert value == "unsettled" and detail in found
    assert f"whether b/scratch or a/scratch is faster is unsettled ({found})" in summary(report)


def test_an_even_pair_names_none_of_the_two(tmp_path):
    claim = pairs_of(numbers(write(tmp_path, a_scratch=500, b_scratch=500)))["scratch"]["speedup"]["0.8"]
    assert same_start.told(claim) == ("unsettled", "1.00× by the medians; 95 %: 1.00× to 1.00×")


def test_who_did_not_arrive_leaves_a_bound_and_where_neither_did_nothing(tmp_path):
    report = numbers(write(tmp_path, a_scratch=9000, b_scratch=500, c_scratch=9000))
    cells = {row["algorithms"]: row["cells"][1] for row in same_start.table(report["targets"]["t"])[0]["rows"]}
    assert cells == {
        "a and b": ("b > 2.5×", "95 %: 2.5× or more"),
        "a and c": ("unknown", "neither median run arrived"),
        "b and c": ("b > 2.5×", "95 %: 2.5× or more"),
    }
    assert "whether a/scratch or c/scratch is faster is not known" in summary(report)


def test_own_pretraining_that_made_slower_is_called_so(tmp_path):
    report = numbers(write(tmp_path, ivg_pretrained=250, ivg_scratch=500, mine_pretrained=900, mine_scratch=400))
    assert "mine/pretrained was slower than mine/scratch, 0.40× (95 %: 0.40× to 0.40×)" in summary(report)
    assert "ivg/pretrained was faster than ivg/scratch," not in summary(report)  # the main pair's, told before


def test_a_slower_arm_that_arrives_in_some_of_the_samples_is_called_so(tmp_path):
    root = write(tmp_path, 5, ivg_pretrained=200, ivg_scratch=1000, mine_scratch=400)
    report = numbers(write(root, mine_pretrained=[1800] * 3 + [NEVER] * 2))
    claim = report["targets"]["t"]["arms"]["mine/pretrained"]["speedup"]["0.5"]["mine/scratch"]
    assert claim["interval"] == [0, claim["ratio"]]
    assert "mine/pretrained was slower than mine/scratch, 0.22× (95 %: 0.22× or less)" in summary(report)


@pytest.mark.parametrize("high", [0.5, 1, 1.5, None])
@pytest.mark.parametrize("low", [0, 0.2, 1, 1.2])
@pytest.mark.parametrize("bound", ["", "lower", "upper"])
def test_what_is_settled_is_nowhere_called_unsettled(low, high, bound):
    claim = {"ratio": high or 2, "interval": [low, high], "lower_bound": bound == "lower", "reason": ""}
    claim |= {"upper_bound": bound == "upper", "arm": "a/x", "base": "b/x"}
    assert ("unsettled" in same_start._clause(claim)) == (same_start.told(claim)[0] == "unsettled")
    assert ("unsettled" in same_start._clause(claim)) == (low <= 1 and (high is None or high >= 1))


def test_of_a_pretrained_arm_that_never_arrived_its_scratch_was_faster(tmp_path):
    root = write(tmp_path, 5, ivg_pretrained=200, ivg_scratch=1000, mine_pretrained=NEVER, mine_scratch=400)
    report = numbers(root)
    assert "mine/scratch was faster than mine/pretrained, > 5.0× (95 %: 5.0× or more)" in summary(report)
    claim = report["targets"]["t"]["base_speedup"]["mine/pretrained"]["0.5"]
    assert (claim["arm"], claim["base"], claim["saved_steps"]) == ("mine/scratch", "mine/pretrained", 800)
    assert report["targets"]["t"]["base_speedup"].keys() == {"mine/pretrained"}
    del report["targets"]["t"]["base_speedup"]  # as in an older report
    assert "whether mine/pretrained or mine/scratch is faster is not known" in summary(report)


def test_where_neither_start_arrived_nothing_is_known(tmp_path):
    report = numbers(write(tmp_path, ivg_pretrained=200, ivg_scratch=1000, mine_pretrained=NEVER, mine_scratch=NEVER))
    assert report["targets"]["t"]["base_speedup"] == {}
    assert "whether mine/pretrained or mine/scratch is faster is not known" in summary(report)


def test_the_earlier_arm_is_the_one_that_arrived_however_short_the_other_was_watched(tmp_path):
    root = write(tmp_path, a_scratch=NEVER, budget=300)
    claim = pairs_of(numbers(write(root, b_scratch=1000)))["scratch"]["speedup"]["0.8"]
    assert same_start.told(claim) == ("unsettled", "b > 0.38× by the medians; 95 %: 0.38× or more")


def test_a_target_that_runs_on_updates_is_told_in_updates(tmp_path):
    """Of which b makes ten to a step, and a two: b is earlier in steps, and later in updates."""
    for folder in write(tmp_path, a_scratch=800, b_scratch=400).glob("transfer/*/*/*/*"):
        facts = json.loads((folder / "run.json").read_text()) | {"clock": "updates", "budget": 10 * BUDGET}
        (folder / "run.json").write_text(json.dumps(facts))
        if "/b/" in str(folder):
            lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
            lines = [json.dumps(line | {"updates": 5 * line["updates"]}) for line in lines]
            (folder / "metrics.jsonl").write_text("\n".join(lines))
    report = numbers(tmp_path)
    claim = pairs_of(report)["scratch"]["speedup"]["0.5"]
    assert (claim["arm"], claim["ratio"], claim["saved_steps"]) == ("a/scratch", 2.5, 1200)
    assert "On t, in updates to score 0.5: a/scratch was faster than b/scratch, 2.5×" in summary(report)


def test_every_claim_has_a_random_stream_of_its_own(tmp_path):
    class Recording(Bootstrap):
        drawn = []

        def rng(self, *names):
            self.drawn.append(names)
            return super().rng(*names)

    draw = Recording(resamples=2)
    write(tmp_path, 2, a_pretrained=NEVER, a_scratch=400, b_pretrained=300, b_scratch=300, c_scratch=400)
    analyse(read_run(tmp_path), draw)
    assert len(draw.drawn) == len(set(draw.drawn)) and ("t", "b/scratch", "c/scratch", "speedup", "0.5") in draw.drawn


def test_what_source_data_gave_is_not_told_as_what_pretraining_gave(tmp_path):
    root = write(tmp_path, ivg_pretrained=250, ivg_scratch=500, mine_pretrained=400, mine_scratch=800)
    said = summary(numbers(write(root, **{"ivg_scratch+data": 400, "mine_scratch+data": 200})))
    assert "mine/pretrained was faster than mine/scratch," in said and "+data was faster than ivg/scratch+data" in said
    assert "+data was faster than mine/scratch," not in said


@pytest.mark.parametrize(("seeds", "said"), [
    ((5, 5), None),
    ((4, 4), "Fewer than 5 seeds: even the intervals are too narrow to rely on."),
    ((5, 3), "Where an arm has fewer than 5 seeds even the intervals are too narrow to rely on."),
    ((5, 1), "Where an arm has a single seed nothing is known of how much results vary."),
    ((1, 1), "With a single seed nothing is known of how much results vary."),
])  # fmt: skip
@pytest.mark.parametrize("main", [False, True])
def test_few_seeds_of_any_arm_that_is_compared_are_told(tmp_path, seeds, said, main):
    """Beside a main pair that has as many as the larger, and without one."""
    root = write(tmp_path, a_scratch=[300] * seeds[0], b_scratch=[600] * seeds[1])
    if main:
        write(root, target="u", **dict.fromkeys(("c_pretrained", "c_scratch"), [500] * max(seeds)))
    found = summary(numbers(root))
    assert said in found if said else "too narrow" not in found and "how much results vary" not in found


def test_arms_that_start_otherwise_are_no_pair(tmp_path):
    report = numbers(write(tmp_path, ivg_pretrained=250, mine_scratch=500))
    assert report["targets"]["t"]["same_start"] == [] and "faster than" not in summary(report)


def test_six_comparisons_are_told_one_by_one(tmp_path):
    said = summary(numbers(write(tmp_path, a_scratch=200, b_scratch=400, c_scratch=600, d_scratch=800)))
    assert said.count("was faster than") == 6 and "comparisons" not in said


def test_many_comparisons_are_counted_and_their_table_is_folded(tmp_path):
    root = write(tmp_path, a_scratch=200, b_scratch=400, c_scratch=600, d_scratch=800)
    write(root, target="u", e_scratch=500, f_scratch=500)
    with empty_figures():
        report = build(root, resamples=50)
    assert "Of 7 comparisons of algorithms that start alike 6 are settled" in report["summary"]
    assert "was faster than" not in report["summary"]
    assert page_of(root).count('<details class="more" open>') == 2
    with empty_figures():
        write(root, e_scratch=500)
        build(root, resamples=50)
    assert page_of(root).count('<details class="more" open>') == 1  # of 10 pairs on t, and of one on u
    write(root, a_pretrained=100, b_pretrained=100)
    assert "start alike, and of other algorithms with their own start from scratch, " in summary(numbers(root))


def test_reports_of_before_say_nothing_of_it(tmp_path):
    report = numbers(write(tmp_path, ivg_pretrained=500, ivg_scratch=980, mine_pretrained=250, mine_scratch=760))
    del report["targets"]["t"]["same_start"]
    assert "mine" not in summary(report) and same_start.table(report["targets"]["t"]) == []
