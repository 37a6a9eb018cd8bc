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
