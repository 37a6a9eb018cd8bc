"""What a report says where times are known by bounds: a first evaluation that held, a median that did not arrive."""

import pytest
from fabricated_runs import new_facts, words, write_cell, write_pretraining

from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.words import lead


def held(root, arm, at, seeds=3, target="t", **facts):
    """Runs that hold 0.8 from their evaluation at ``at`` steps on, the first one at 100."""
    rows = [(steps, 0.9 if steps >= at else 0.1) for steps in range(100, 1001, 100)]
    for seed in range(seeds):
        write_cell(root, target, arm, seed, rows, facts=new_facts, **facts)


def test_a_threshold_that_the_first_evaluation_holds_makes_bounds(tmp_path):
    held(tmp_path, "a/pretrained", 100, compared_with="a/scratch")
    held(tmp_path, "a/scratch", 300)
    report = build(tmp_path, resamples=50)
    arms = report["targets"]["t"]["arms"]
    fast, claim = arms["a/pretrained"], arms["a/pretrained"]["speedup"]["0.8"]["a/scratch"]
    assert fast["at_first_evaluation"] == {"0.8": [True] * 3} and fast["steps_to_thresholds"] == {"0.8": [100] * 3}
    assert arms["a/scratch"]["at_first_evaluation"] == {"0.8": [False] * 3}
    assert (claim["ratio"], claim["lower_bound"], claim["upper_bound"], claim["saved_steps"]) == (3, True, False, 200)
    assert (
        report["lead"].endswith("on t, and held it from its first evaluation on.")
        and "at least 3.0× on t" in report["summary"]
    )
    text = words(tmp_path)
    assert "≤ 100 [0, 100] 3 / 3 3 at the first evaluation" in text and "after 100" not in text
    assert "a/pretrained was there at or before 100 environment steps, the first evaluation" in text
    assert "t, a/pretrained: 3 of 3 runs held the threshold 0.8 at the first evaluation; how much earlier" in text


def test_of_several_targets_those_held_from_the_first_evaluation_on_are_named(tmp_path):
    for target, at in (("near", 100), ("far", 200)):
        held(tmp_path, "a/pretrained", at, target=target, compared_with="a/scratch")
        held(tmp_path, "a/scratch", 600, target=target)
    said = build(tmp_path, resamples=50)["lead"]
    assert "than a/scratch on far and near" in said and said.endswith(
        "; on near a/pretrained held it from its first evaluation on."
    )


def test_what_chance_could_explain_and_what_was_held_are_not_mixed_up(tmp_path):
    base = "a/pretrained reached score 0.8 in fewer environment steps than a/scratch"
    by_chance, at_once = "chance could explain the difference", "held it from its first evaluation on"
    for place, targets in (("one", ("near",)), ("two", ("near", "far"))):
        for target in targets:
            held(tmp_path / place, "a/pretrained", 100, seeds=1, target=target, compared_with="a/scratch")
            held(tmp_path / place, "a/scratch", 600, seeds=1, target=target)
    assert build(tmp_path / "one", resamples=50)["lead"] == f"{base} on near, and {at_once}; {by_chance}."
    assert build(tmp_path / "two", resamples=50)["lead"] == (
        f"{base} on far and near; on each of these {by_chance}; on far and near a/pretrained {at_once}."
    )


LOW = [(steps, 0.1) for steps in range(100, 1001, 100)]


def test_where_neither_median_run_arrives_it_is_not_said_that_one_is_no_faster(tmp_path):
    known = (
        "hether a/pretrained reaches score 0.8 in fewer environment steps than a/scratch is not known: the median run"
    )
    for root, at in (("nobody", 9999), ("base", 300)):
        held(tmp_path / root, "a/pretrained", 300, seeds=1, compared_with="a/scratch")
        for seed in (1, 2):
            write_cell(tmp_path / root, "t", "a/pretrained", seed, LOW, facts=new_facts, compared_with="a/scratch")
        held(tmp_path / root, "a/scratch", at)
    report = build(tmp_path / "nobody", resamples=50)
    assert report["lead"] == f"W{known} of neither did."
    assert report["summary"].removeprefix(report["lead"]).startswith(" Fewer than 5 seeds: ")  # says nothing else of it
    report = build(tmp_path / "base", resamples=50)
    assert "did not reach score 0.8 in fewer" in report["lead"]
    assert report["summary"].startswith(
        f"{report['lead']} On t there is no claim: the median run of a/pretrained did not reach it. "
    )
    write_cell(tmp_path / "nobody", "t", "a/scratch", 3, LOW[:5], facts=new_facts, status="interrupted")
    assert build(tmp_path / "nobody", resamples=50)["lead"].startswith(f"So far, w{known}")


def test_of_several_targets_a_gain_that_is_known_of_none_is_not_denied(tmp_path):
    """On near the median run from scratch arrived, on far neither did."""
    for target, at in (("near", 300), ("far", 9999)):
        held(tmp_path, "a/pretrained", 9999, target=target, compared_with="a/scratch")
        held(tmp_path, "a/scratch", at, target=target)
    report = build(tmp_path, resamples=50)
    assert report["lead"] == (
        "On no target a/pretrained is known to reach score 0.8 in fewer environment steps than a/scratch."
    )
    assert report["summary"].startswith(f"{report['lead']} On far there is no claim: ")


def test_at_a_second_threshold_that_neither_median_run_reached_nothing_is_known(tmp_path):
    for arm, every in (("a/pretrained", 250), ("a/scratch", 750)):
        for seed in range(3):
            rows = [(steps, min(0.6 if seed else 0.9, steps / every)) for steps in range(100, 1001, 100)]
            write_cell(tmp_path, "t", arm, seed, rows, facts=new_facts, thresholds=[0.5, 0.8],
                       compared_with="a/scratch" if arm == "a/pretrained" else None)  # fmt: skip
    assert "At the threshold 0.8 nothing is known of which is faster." in build(tmp_path, resamples=50)["summary"]


def test_where_the_base_is_there_at_its_first_evaluation_no_gain_is_known(tmp_path):
    held(tmp_path, "a/scratch", 100)
    held(tmp_path, "a/pretrained", 400, compared_with="a/scratch")
    report = build(tmp_path, resamples=50)
    claim = report["targets"]["t"]["arms"]["a/pretrained"]["speedup"]["0.8"]["a/scratch"]
    assert (claim["ratio"], claim["lower_bound"], claim["upper_bound"]) == (0.25, False, True)
    assert "the ratio is ≤ 0.25×, no gain" in report["summary"] and "≤ 0.25×" in words(tmp_path)
    held(tmp_path / "both", "a/pretrained", 100, compared_with="a/scratch")
    held(tmp_path / "both", "a/scratch", 100)
    write_pretraining(tmp_path / "both")
    report = build(tmp_path / "both", resamples=50)
    claim = report["targets"]["t"]["arms"]["a/pretrained"]["speedup"]["0.8"]["a/scratch"]
    assert (claim["ratio"], claim["saved_steps"]) == (None, None)
    assert report["lead"].endswith("is not known: a/scratch was there at its first evaluation.")


def test_arms_that_nothing_is_compared_with_are_told_as_bounds_too(tmp_path):
    held(tmp_path, "a/scratch", 100)
    held(tmp_path, "b/scratch", 300)
    first = build(tmp_path, resamples=50)["lead"]
    assert first == ("On t, a/scratch reached 0.8 at or before 100 environment steps, the first evaluation, b/scratch "
                    "after 300.")  # fmt: skip
    text = words(tmp_path)
    assert "≤ 100 environment steps to score 0.8: a/scratch, the first of 2 arms; the first evaluation held it" in text


def test_a_median_that_is_known_by_a_range_is_told_as_one_by_the_sentence_the_card_and_the_table(tmp_path):
    """One of two runs was there at its first evaluation, at 100, the other at 200."""
    for seed, at in enumerate((100, 200)):
        rows = [(steps, 0.9 if steps >= at else 0.1) for steps in range(100, 1001, 100)]
        write_cell(tmp_path, "t", "a/scratch", seed, rows, facts=new_facts)
    for arm, at in (("b/scratch", 200), ("c/scratch", 300)):
        held(tmp_path, arm, at, seeds=2)
    report = build(tmp_path, resamples=50)
    assert report["targets"]["t"]["arms"]["a/scratch"]["medians"]["steps_to_thresholds"] == {"0.8": [100, 150]}
    first = "On t, a/scratch reached 0.8 after 100 to 150 environment steps, b/scratch after 200 and 1 more arm later."
    assert report["lead"] == first and report["summary"].startswith(f"{first} On t, in environment steps to score")
    text = words(tmp_path)
    assert "100 to 150 environment steps to score 0.8: a/scratch, the first of 3 arms" in text
    assert text.count("100 to 150") == 3


@pytest.mark.parametrize(("other", "rank"), [
    ((150, 150), "a/x of 2 arms"), ((160, 160), "a/x, the first of 2 arms"), ((100, 200), "a/x of 2 arms"),
    ((100, 150), "a/x and b/x of 2 arms"),
])  # fmt: skip
def test_an_arm_is_the_first_where_no_other_can_have_been_as_early(other, rank):
    arms = {
        arm: {key: {"steps_to_thresholds": {"0.5": found}} for key, found in (("medians", median), ("intervals", None))}
        for arm, median in (("b/x", other), ("a/x", (100, 150)))
    }
    card = lead._fastest({"thresholds": [0.5], "clock": "env_steps", "arms": arms})
    assert card["value"] == "100 to 150" and card["phrase"].endswith(f": {rank}")
    assert len(card["more"]) == (other != (100, 150))
