"""What the page about MB-MPO says of single runs is what they measured."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs" / "mb_mpo.md").read_text().split())
RUNS = json.loads((ROOT / "docs" / "mb_mpo_tried.json").read_text())["runs"]


def at(curve, steps):
    """(score, success) of the evaluation after so many steps."""
    return next((score, success) for count, score, success in curve if count == steps)


def test_what_stands_beside_it_from_pixels_is_what_was_measured():
    reach = {name: at(RUNS[f"px_beside_{name}_reach"]["curve"], 1440)[0] for name in ("mb_mpo", "alpha0", "scratch")}
    ivg = at(RUNS["px_beside_ivg_reach"]["curve"], 1500)[0]
    assert (f"{reach['mb_mpo']:.2f} after 1,440 steps with MB-MPO, {reach['alpha0']:.2f} without adapting, {ivg:.2f} "
            f"with IVG after 1,500, and {reach['scratch']:.2f} with MB-MPO from scratch") in PAGE  # fmt: skip
    lift = [at(RUNS["px_beside_mb_mpo_lift"]["curve"], 4440), at(RUNS["px_beside_alpha0_lift"]["curve"], 4440),
            at(RUNS["px_beside_ivg_lift"]["curve"], 4500)]  # fmt: skip
    scores, solved = [f"{score:.2f}" for score, _ in lift], [f"{100 * success:.0f} %" for _, success in lift]
    assert f"success in {solved[0]} of the episodes after 4,440 steps with MB-MPO, {solved[1]} without adapting" in PAGE
    assert f"and {solved[2]} with IVG after 4,500 (scores {scores[0]}, {scores[1]} and {scores[2]})" in PAGE


def test_what_changed_bodies_bring_is_what_was_measured():
    report = json.loads((ROOT / "docs" / "results" / "mb_mpo_bodies.json").read_text())["report"]
    arms = report["targets"]["reversed"]["arms"]
    gained = {arm: [f"{run[-1] - run[0]:.0f}" for run in entry["returns_by_episode"]] for arm, entry in arms.items()}
    least, most = ({arm: f(map(int, values)) for arm, values in gained.items()} for f in (min, max))
    assert f"MB-MPO's by {least['mb_mpo/scratch']} to {most['mb_mpo/scratch']} in three steps" in PAGE
    assert f"alone, by {least['mb_mpo_alpha0/scratch']} to {most['mb_mpo_alpha0/scratch']}." in PAGE
    ended = {arm: sorted(entry["final_score"])[1] for arm, entry in arms.items()}
    assert f"at {ended['mb_mpo/scratch']:.1f} and the control at {ended['mb_mpo_alpha0/scratch']:.1f};" in PAGE
    pilot = [score for _, score, _ in RUNS["bodies_mb_mpo_seed_10"]["curve"]]
    assert f"has {min(pilot[:-1]):.0f} to {max(pilot[:-1]):.0f} from 8,000 to 32,000 steps, and {pilot[-1]:.0f}" in PAGE
