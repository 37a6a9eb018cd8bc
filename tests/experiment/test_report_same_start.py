"""Algorithms that start alike: which was faster, in the summary, on the page and in report.json."""

import json

import pytest
from fabricated_runs import new_facts, ramp, write_cell
from sketches import empty_figures
from test_report_page import page_of, words

from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.statistics.analysis import analyse
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.report.words import same_start
from meta_latent.experiment.report.words.summary import summary


def write(root, seeds=3, target="t", noise=0.0, **full_at):
    """Arms of these algorithms' starts (ivg_scratch=500), full at so many steps, with thresholds 0.5 and 0.8."""
    for name, steps in full_at.items():
        algorithm, _, start = name.partition("_")
        base = f"{algorithm}/scratch" if start == "pretrained" else None
        for seed in range(seeds):
            rows = ramp(steps, noise, seed, stop=False)
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


@pytest.mark.parametrize(("seeds", "detail"), [(4, "by the medians; 95 %: "), (1, "medians; a single seed each")])
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


def test_arms_that_start_otherwise_are_no_pair(tmp_path):
    report = numbers(write(tmp_path, ivg_pretrained=250, mine_scratch=500))
    assert report["targets"]["t"]["same_start"] == [] and "faster than" not in summary(report)


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
