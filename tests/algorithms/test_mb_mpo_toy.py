"""The preset `mb_mpo_toy`, evaluated once at its end: what a policy learns in models of the state, and that one which
was meta-learned to adapt is right on angles that nobody trained on, after three steps.
"""

import json

import pytest

import meta_latent

SEED = 20


def last(out, target, arm, seed=SEED):
    """The evaluation after 1,000 environment steps."""
    experiment = meta_latent.configure("mb_mpo_toy", f"out={out}", "transfer.budget_env_steps={default: 1000}",
                                       "transfer.evaluation.interval_env_steps=1000")  # fmt: skip
    folder = meta_latent.transfer(experiment, target, f"{arm}/scratch", seed)
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "evaluation"][-1]


@pytest.mark.slow
def test_a_linear_task_is_learned_without_adapting(tmp_path):
    """0 is doing nothing, 1 the optimum."""
    assert last(tmp_path, "lqr", "mb_mpo_alpha0")["score"] >= 0.95


@pytest.mark.slow
def test_what_was_learned_is_not_lost_where_the_deviation_is_at_its_floor(tmp_path):
    """When it could fall below the floor, this seed had 0.95 after 600 steps and -0.5 after 1,000."""
    assert last(tmp_path, "lqr", "mb_mpo", seed=3)["score"] >= 0.9


@pytest.mark.slow
def test_who_was_meta_learned_to_adapt_adapts_to_new_angles(tmp_path):
    """Doing nothing has a return of -12.4, the optimum that knows the angle one of -0.4."""
    adapting = last(tmp_path, "rotated", "mb_mpo")["returns_by_episode"]
    assert adapting[3] >= -1.5 and adapting[0] < -5  # it is placed to be moved
    assert max(last(tmp_path, "rotated", "mb_mpo_alpha0")["returns_by_episode"]) < -1.5
