"""The preset `meld_toy` as it stands, on goals that were never trained on: MELD explores in a first episode and
then goes straight to the goal, because of what its belief carries over.
"""

import numpy as np
import pytest

import meta_latent
from meta_latent.algorithms.registry import Arm
from meta_latent.experiment.learning.adaptation import Cleared
from meta_latent.experiment.learning.evaluation import Evaluation
from meta_latent.experiment.settings.suites import bind_target

pytestmark = [pytest.mark.slow, pytest.mark.long]
SEEDS = (20, 21, 22)


def learned(out, arm, *overrides, seeds=SEEDS, goals="sparse"):
    """Median over seeds of the returns per episode of a trial: (E,) as it is, and with the belief cleared between."""
    experiment, found = meta_latent.configure("meld_toy", f"out={out}", *overrides), []
    target = bind_target(experiment, goals)
    for seed in seeds:
        agent = meta_latent.load(meta_latent.transfer(experiment, goals, arm, seed))
        entry = Arm.parse(arm).entry
        for played in (agent, Cleared(agent)):
            evaluation = Evaluation(target, entry, experiment.transfer.evaluation, 100, repeats=4)
            found.append(evaluation.play(played).returns.mean((0, 1)))
            evaluation.close()
    return np.median(np.array(found).reshape(len(seeds), 2, -1), 0)


def test_meld_explores_and_then_goes_straight(tmp_path):
    carried, cleared = learned(tmp_path, "meld/scratch")
    assert carried[1] > 16.5 and carried[1] - carried[0] > 1.5
    assert carried[1] - cleared[1] > 1.5


def test_who_was_trained_without_carrying_goes_no_straighter(tmp_path):
    (carried, _) = learned(tmp_path, "no_carry/scratch", seeds=SEEDS[:1])
    assert carried[1] < 16.5 - 1.5


def test_a_dense_reward_tells_the_goal_as_well(tmp_path):
    (carried, _) = learned(tmp_path, "meld/scratch", "transfer.budget_env_steps={default: 9000}", seeds=SEEDS[:1],
                           goals="dense")  # fmt: skip
    assert carried[1] > -6.5  # a script that knows the goal: -1.9, one that is blind: -12


def test_who_sees_no_rewards_finds_no_goal(tmp_path):
    (carried, _) = learned(tmp_path, "slac/scratch", "transfer.budget_env_steps={default: 8000}", seeds=SEEDS[:1])
    assert carried.max() < 7


def test_pearl_explores_and_then_goes_straight(tmp_path):
    carried, cleared = learned(tmp_path, "pearl/scratch", "transfer.budget_env_steps={default: 9000}", seeds=SEEDS[:1])
    assert carried[1] > 13 and carried[1] - carried[0] > 1.5
    assert carried[1] - cleared[1] > 1.5
