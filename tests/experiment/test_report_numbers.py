"""Which arms a report compares, when pretraining has paid for itself, and how numbers are written."""

import pytest

from meta_latent.experiment.report import numbers as report_numbers
from meta_latent.experiment.report import page


def test_which_arms_are_compared():
    arms = [
        "ivg/pretrained",
        "ivg/pretrained+data",
        "ivg/scratch",
        "ivg/scratch+data",
        "sac/pretrained",
        "sb3_sac/scratch",
    ]
    assert report_numbers.bases("ivg/pretrained", arms) == ["ivg/scratch"]
    assert report_numbers.bases("ivg/pretrained+data", arms) == ["ivg/scratch+data", "ivg/scratch"]
    assert report_numbers.bases("sac/pretrained", arms) == [] == report_numbers.bases("sb3_sac/scratch", arms)
    assert report_numbers.primary_pair(["sac/pretrained", "sac/scratch", *arms]) == (
        "ivg/pretrained",
        "ivg/scratch",
    )
    assert report_numbers.primary_pair(["sac/scratch"]) is None


def test_break_even():
    assert report_numbers.break_even([400, 400], 2400, False)["targets"] == 6
    assert report_numbers.break_even([400, 401], 2401, True) | {"saved_env_steps_per_target": 0} == {
        "targets": 6,
        "at_most": True,
        "saved_env_steps_per_target": 0,
    }
    assert report_numbers.break_even([400, 399], 2400, True)["targets"] == 7
    assert report_numbers.break_even([400, None], 2400, False)["targets"] is None
    assert report_numbers.break_even([100, -200], 2400, False)["targets"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (page.times(3.44), "3.4×"),
        (page.times(5, True), "> 5.0×"),
        (page.times(None), "–"),
        (page.times(1.04), "1.04×"),
        (page.duration(75), "75 s"),
        (page.duration(600), "10 min"),
        (page.duration(9000), "2.5 h"),
        (page.count(12345.6), "12,346"),
        (page.score(-0.126), "−0.13"),
        (page.interval([1.0, None], page.times), "[1.00×, ∞]"),
    ],
)
def test_numbers_as_text(text, expected):
    assert text == expected
