"""Agents that break their contract end a run with a line, and those whose runs count for nothing are told of."""

import warnings

import numpy as np
import probe_agents
import pytest
import torch

from meta_latent.algorithms.registry import Algorithm, register
from meta_latent.data.answers import acted, measured, wanted
from meta_latent.errors import RunError
from meta_latent.types import Step

STEP = Step.of({"proprio": np.zeros(3)}, torch.zeros(1, 2))


def answering(method, answer):
    """An agent called Mine one of whose methods answers that."""
    return type("Mine", (), {method: lambda self, *given: answer})()


@pytest.mark.parametrize(("answer", "words"), [
    ((np.zeros((1, 2)), None), r"a numpy array \(1, 2\) as actions; expected \(actions, carry\).*tensor \(1, 2\)"),
    (torch.zeros(1, 2), r"a tensor \(1, 2\); expected \(actions, carry\)"),
    (torch.zeros(2, 2), r"a tensor \(2, 2\); expected \(actions, carry\)"),
    ((torch.zeros(2), None), r"a tensor \(2,\) as actions"),
    (None, "None; expected"),
    ((torch.tensor([[0.0, -7.5]]), None), r"an action value of -7\.5; expected numbers from -1 to 1"),
    ((torch.tensor([[0.0, torch.nan]]), None), "an action value of nan"),
    ((torch.tensor([[0.0, 1.001]]), None), r"an action value of 1\.001"),
])  # fmt: skip
def test_act_answers_actions_and_a_carry(answer, words):
    with pytest.raises(RunError, match=rf"^Mine\.act returned {words}"):
        acted(answering("act", answer), STEP, None, None, False)


def test_rounding_and_gradients_are_nobody_s_mistake():
    action = torch.tensor([[1.00005, -1.0]], requires_grad=True)
    found, carry = acted(answering("act", [action, "carry"]), STEP, None, None, False)
    assert not found.requires_grad and torch.equal(found, action.detach()) and carry == "carry"


def test_wants_and_update_answer_numbers():
    for good in (None, 0, 64, 1e3, np.int64(5)):
        assert wanted(answering("wants", good)) == good
    for wrong in ("64", -1, True, float("inf")):
        with pytest.raises(RunError, match=r"^Mine\.wants returned .*; expected a number of environment steps"):
            wanted(answering("wants", wrong))
    assert measured(answering("update", {"loss": torch.tensor(2.0)}), None, None) == {"loss": 2.0}
    for wrong, words in ((None, "None; expected {metric: number}"), ({"loss": torch.ones(2)}, r"a tensor \(2,\) as")):
        with pytest.raises(RunError, match=rf"^Mine\.update returned {words}"):
            measured(answering("update", wrong), None, None)


class Idle(probe_agents.Probe):
    """Counts no update, and measures nothing."""

    def update(self, replay, rng):
        return {"loss": float("nan")}


def test_a_run_that_counts_for_nothing_is_told_of(probes, tmp_path):
    register("idle", Algorithm(probe_agents.Settings, lambda *given: Idle(), metrics={"loss": "of nothing"}))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        probe_agents.learned(tmp_path, "idle/scratch", target=probe_agents.ONE)
    said = [str(warning.message) for warning in told]
    assert [line for line in said if line.startswith("idle/scratch has made no update")]
    assert "idle measures loss=nan: the log has no number then" in said
