"""What the README and docs/reuse.md say of the ways to reuse one model is what its runs found."""

import json
from pathlib import Path

import numpy as np
import pytest

from meta_latent.experiment.report.words.text import count, interval, median, percent, times
from meta_latent.ops.learning_speed import iqm

ROOT = Path(__file__).resolve().parent.parent
REPORT = json.loads((ROOT / "docs" / "results" / "reuse.json").read_text())["report"]
PLACE, PLACES = (REPORT["targets"][name]["arms"] for name in ("place", "places"))
WAYS = {"the planner": "cem", "IVG": "ivg", "MB-MPO": "mb_mpo", "SAC on the features": "sac"}
PAGE, README = (" ".join((ROOT / name).read_text().split()) for name in ("docs/reuse.md", "README.md"))


def steps(entry, at):
    """Median steps to a threshold, as the tables write them, and their interval."""
    middle, ends = (entry[key]["steps_to_thresholds"][at] for key in ("medians", "intervals"))
    return f"{median(middle, count)} {interval(ends, count)}"


def ratio(found):
    """How many times fewer steps, as the tables write it."""
    return f"{times(found['ratio'], found['lower_bound'], found['upper_bound'])} {interval(found['interval'], times)}"


@pytest.mark.parametrize("way", WAYS)
def test_the_table_says_what_each_way_needs(way):
    ours, scratch = (PLACE[f"{WAYS[way]}/{start}"] for start in ("pretrained", "scratch"))
    row = [way]
    for entry in (ours, scratch):
        row.append(f"{steps(entry, '0.85')}; {entry['reached']['0.85']}/{len(entry['seeds'])}")
    row.append(ratio(ours["speedup"]["0.85"][f"{WAYS[way]}/scratch"]))
    for entry in (ours, scratch):
        row.append(f"{entry['final_score_iqm']:.2f} ({percent(entry['final_success_iqm'])})")
    assert f"| {' | '.join(row)} |" in PAGE


def test_who_is_faster_on_the_same_model():
    found = {tuple(arm.split("/")[0] for arm in one["arms"]): one["speedup"]["0.85"]
             for one in REPORT["targets"]["place"]["same_start"] if one["start"] == "pretrained"}  # fmt: skip
    settled = {ways: one for ways, one in found.items() if one["interval"] and (one["interval"][0] or 0) > 1}
    assert PAGE.count("fewer steps than") == len(settled) > 0
    for one in settled.values():
        fast, slow = (next(way for way, name in WAYS.items() if one[key] == f"{name}/pretrained")
                      for key in ("arm", "base"))  # fmt: skip
        assert f"{fast} takes {ratio(one)} fewer steps than {slow}".lower() in PAGE.lower()


def test_what_pretraining_costs_and_when_it_is_paid_back():
    cost, (_, at) = REPORT["pretraining"], REPORT["aggregate"]["ivg/pretrained"]["by_threshold"]
    saved = f"({cost['env_steps']:,} / {at['break_even']['saved_env_steps_per_target']:,.0f})"
    assert f"IVG has them saved after {at['break_even']['targets']} new places {saved}" in PAGE
    assert f"took {cost['env_steps']:,} steps and {cost['seconds'] / 60:.0f} minutes" in PAGE
    names = ("sac", "cem", "ivg", "mb_mpo")
    spent = [PLACE[f"{name}/pretrained"]["medians"]["cpu_seconds_to_thresholds"]["0.85"][0] for name in names]
    sac, cem, ivg, mb_mpo = (f"{seconds:.0f}" for seconds in spent)
    assert f"SAC is first: {sac} s of CPU to 0.85, the planner {cem}, IVG {ivg}, MB-MPO {mb_mpo}" in PAGE
    assert spent == sorted(spent)


def test_what_a_lower_threshold_says():
    found = {way: PLACE[f"{name}/pretrained"]["speedup"]["0.5"][f"{name}/scratch"] for way, name in WAYS.items()}
    told = ", ".join(f"{way} {ratio(one)}" for way, one in found.items())
    settled = sum((one["interval"][0] or 0) > 1 for one in found.values())
    assert f"To 0.5 they are, times fewer: {told}: {('none', 'one', 'two', 'three', 'all')[settled]} of" in PAGE


def test_what_meld_found_on_all_places():
    ours, scratch = (PLACES[f"meld/{start}"] for start in ("pretrained", "scratch"))
    assert f"reaches 0.5 after {steps(ours, '0.5')} steps with the model and after {steps(scratch, '0.5')}" in PAGE
    assert f"({ratio(ours['speedup']['0.5']['meld/scratch'])})" in PAGE
    ends = [f"{entry['final_score_iqm']:.2f}" for entry in (ours, scratch)]
    solved = [percent(entry["final_success_iqm"]) for entry in (ours, scratch)]
    assert f"after 18,000 it has {ends[0]} and {ends[1]} ({solved[0]} and {solved[1]} of episodes end" in PAGE
    first, second = (f"{iqm(column):.1f}" for column in np.transpose(ours["returns_by_episode"]))
    assert f"worth {first} and {second} of about {REPORT['targets']['places']['reference']:.0f}" in PAGE


def test_the_page_of_the_planner_says_what_it_needs():
    ours, scratch = (PLACE[f"cem/{start}"] for start in ("pretrained", "scratch"))
    page = " ".join((ROOT / "docs" / "algorithms" / "cem.md").read_text().split())
    low, high = ours["intervals"]["steps_to_thresholds"]["0.85"]
    assert f"after {steps(ours, '0.85').split()[0]} steps (median of five seeds, {low} to {high:,})" in page
    assert f"ended at {ours['final_score_iqm']:.2f}, as fast as" in page
    reached, runs = scratch["reached"]["0.85"], len(scratch["seeds"])
    assert f"From scratch {reached} of {runs} seeds got there in {scratch['budget']:,} steps" in page


def test_readme_leads_with_it():
    told = {name: [median(PLACE[f"{name}/{start}"]["medians"]["steps_to_thresholds"]["0.85"], count)
                   for start in ("pretrained", "scratch")] for name in WAYS.values()}  # fmt: skip
    text = README.replace("more than ", "> ")
    assert "IVG needed {} environment steps with it and {} without".format(*told["ivg"]) in text
    for way, name in (("MB-MPO", "mb_mpo"), ("SAC on its features", "sac"), ("A planner needed", "cem")):
        assert f"{way} {' and '.join(told[name])}" in text
    assert [PLACE[f"cem/{start}"]["reached"]["0.85"] for start in ("pretrained", "scratch")] == [5, 3]
    cost = REPORT["pretraining"]
    assert f"took {cost['env_steps']:,} steps and {cost['seconds'] / 60:.0f} minutes, once" in README
    low = {at: {name: PLACE[f"{name}/pretrained"]["speedup"][at][f"{name}/scratch"]["interval"][0]
                for name in WAYS.values()} for at in ("0.85", "0.5")}  # fmt: skip
    assert [name for name, ratio in low["0.85"].items() if ratio <= 1] == ["cem"]
    assert [name for name, ratio in low["0.5"].items() if ratio > 1] == ["mb_mpo"]
    assert "of these three ratios exclude 1, at a score of 0.5 that of one" in README
