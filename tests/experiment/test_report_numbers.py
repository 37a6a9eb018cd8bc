"""Which arms a report compares and shows first, when pretraining has paid for itself, and how numbers are
written.
"""

import math
from pathlib import Path

import pytest

from meta_latent.experiment.report.reading import arms
from meta_latent.experiment.report.reading.sources import Cell
from meta_latent.experiment.report.statistics import analysis
from meta_latent.experiment.report.statistics.numbers import level
from meta_latent.experiment.report.words import text


def cells(*names, **compared_with):
    """One run per arm; ``compared_with``: of the arms of an algorithm."""
    found = []
    for name in names:
        algorithm = name.split("/")[0]
        facts = {"compared_with": compared_with[algorithm]} if algorithm in compared_with else {}
        found.append(Cell(Path(), "t", name, "0", "done", facts))
    return found


def test_runs_that_do_not_say_are_compared_with_scratch():
    names = ["ivg/pretrained", "ivg/pretrained+data", "ivg/scratch", "ivg/scratch+data", "sac/pretrained"]
    bases = arms.compared(cells(*names, "sb3_sac/scratch"), [])
    assert bases["ivg/pretrained"] == ["ivg/scratch"]
    assert bases["ivg/pretrained+data"] == ["ivg/scratch+data", "ivg/scratch"]
    assert bases["sac/pretrained"] == [] == bases["sb3_sac/scratch"]
    assert arms.compared(cells("a/pretrained+data", "a/scratch"), [])["a/pretrained+data"] == ["a/scratch"]


def test_runs_that_say_it_are_compared_with_what_they_say():
    names = ["mine/pretrained", "mine/scratch", "other/scratch", "lone/pretrained+data", "lone/scratch+data"]
    warnings = []
    bases = arms.compared(cells(*names, mine="other/scratch", lone=None), warnings)
    assert bases["mine/pretrained"] == ["other/scratch"] and bases["lone/pretrained+data"] == []
    assert warnings == []
    arms.compared([*cells("a/b", a="a/c"), *cells("a/b", a="a/d")], warnings)
    assert "disagree about the arm" in warnings[0]


def test_no_algorithm_is_ranked():
    """The order is that of comparisons, names and starts, whatever the algorithms are called."""
    for first, second in (("aaa", "ivg"), ("ivg", "zzz")):
        starts = ["pretrained", "scratch", "policy", "scratch+data"]
        names = [f"{a}/{s}" for a in (second, first) for s in reversed(starts)]
        bases = arms.compared(cells(*names, "a_lone/scratch"), [])
        expected = [f"{a}/{s}" for a in (first, second) for s in starts]
        assert arms.in_order(bases) == [*expected, "a_lone/scratch"]
        assert arms.primary_pair(bases, {}) == (f"{first}/pretrained", f"{first}/scratch")
        more = {f"{second}/pretrained": 9, f"{first}/pretrained": 3}
        assert arms.primary_pair(bases, more) == (f"{second}/pretrained", f"{second}/scratch")
        more = {f"{first}/pretrained": 5, f"{first}/scratch": 3, f"{second}/pretrained": 4, f"{second}/scratch": 5}
        assert arms.primary_pair(bases, more) == (f"{second}/pretrained", f"{second}/scratch")
    assert arms.primary_pair(arms.compared(cells("sac/scratch"), []), {}) is None


def test_break_even():
    assert analysis.break_even([400, 400], 2400, False)["targets"] == 6
    assert analysis.break_even([400, 401], 2401, True) | {"saved_env_steps_per_target": 0} == {
        "targets": 6,
        "at_most": True,
        "saved_env_steps_per_target": 0,
    }
    assert analysis.break_even([400, 399], 2400, True)["targets"] == 7
    assert analysis.break_even([400, None], 2400, False)["targets"] is None
    assert analysis.break_even([100, -200], 2400, False)["targets"] is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (text.times(3.44), "3.4×"),
        (text.times(5, True), "> 5.0×"),
        (text.times(None), "–"),
        (text.times(1.04), "1.04×"),
        (text.duration(75), "75 s"),
        (text.duration(600), "10 min"),
        (text.unit([75, 600, 9000]).name, "min"),
        (text.unit([]).show(600), "600"),
        (text.unit([600]).show(75), "1.25"),
        (text.unit([9000]).show(9_000_000), "2,500"),
        (text.unit([600]).show(None), "–"),
        (text.duration(9000), "2.5 h"),
        (text.count(12345.6), "12,346"),
        (text.score(-0.126), "−0.13"),
        (text.interval([1.0, None], text.times), "[1.00×, ∞]"),
        (text.interval(None), "–"),
        (text.median([270, 270]), "270"),
        (text.median([1260, None]), "> 1,260"),
        (text.median([0, 240]), "≤ 240"),
        (text.median([240, 300]), "240 to 300"),
        (text.median([240, math.inf]), "> 240"),
        (text.median([0, 0]), "0"),
        (text.times(0.5, False, True), "≤ 0.50×"),
        (text.times(-0.001), "0.00×"),
        (text.median(None), "–"),
        (text.threshold(-100.5), "−100.5"),
        (text.percent(0.95), "95 %"),
        (level(0.85), "0.85"),
        (level(0.1234567), "0.1234567"),
    ],
)
def test_numbers_as_text(found, expected):
    assert found == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/x/meta_latent/cli.py", "transfer", "a b", "arm=c"], "meta-latent transfer 'a b' arm=c"),
        (["/usr/lib/python/meta_latent/__main__.py", "report"], "meta-latent report"),
        (["/x/bin/meta-latent", "demo"], "meta-latent demo"),
        (["/x/examples/mine.py", "7"], "python mine.py 7"),
        ("as it is", "as it is"),
        (None, ""),
        ([], ""),
    ],
)
def test_commands_are_what_a_user_types(words, expected):
    assert text.command(words) == expected
    if isinstance(words, list):
        assert "arm=" not in text.command(words, without=("arm",))
