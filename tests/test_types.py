"""Specs: what fits what; batches: how they join."""

import dataclasses

import torch

import task_suites
from meta_latent.types import SequenceBatch, Spec

SPEC = Spec({"top": (16, 16, 3)}, 4, 2, 4, task_suites.get("toy/lqr").reward_input_names)


def test_a_spec_follows_the_spaces_and_survives_json():
    assert Spec.of(task_suites.get("toy/lqr")) == SPEC
    assert Spec.from_dict(SPEC.to_dict()) == SPEC


def test_a_mismatch_names_the_field_and_both_values():
    for changed in ({"images": {"top": (8, 16, 3)}}, {"images": {}}, {"proprio": 3}, {"action_size": 3}):
        reason = SPEC.mismatch(dataclasses.replace(SPEC, **changed))
        ((field, value),) = changed.items()
        assert reason.startswith(field) and str(getattr(SPEC, field)) in reason and str(value) in reason


def test_reward_inputs_may_differ():
    assert SPEC.mismatch(SPEC) is None
    assert SPEC.mismatch(dataclasses.replace(SPEC, reward_inputs=9)) is None


def test_rewards_are_computed_from_inputs_of_the_same_names_alone():
    """Of files that hold no names the number has to do."""
    unnamed = dataclasses.replace(SPEC, reward_input_names=())
    stored = {key: value for key, value in SPEC.to_dict().items() if key != "reward_input_names"}
    assert Spec.from_dict(stored) == unnamed
    for data, task in ((SPEC, SPEC), (unnamed, SPEC), (SPEC, unnamed)):
        assert data.other_inputs(task) is None
    other = dataclasses.replace(SPEC, reward_input_names=("a", "b", "c", "d"))
    assert SPEC.other_inputs(other).startswith("reward inputs: there are x_metres")
    assert other.other_inputs(SPEC).startswith("reward inputs: there are a, b, c, d, the task reads x_metres")
    assert "there are 9," in dataclasses.replace(unnamed, reward_inputs=9).other_inputs(SPEC)


def trials(count, length):
    """Trials of so many steps, all ones."""
    ones, flag = torch.ones(count, length), torch.ones(count, length, dtype=torch.bool)
    return SequenceBatch(
        {"top": torch.ones(count, length, 2, 2, 3, dtype=torch.uint8)}, ones[..., None], ones[..., None], ones, ones,
        flag, flag, flag, flag, ones[..., None], None, torch.arange(count), torch.ones(count, 3), flag.long(), flag,
    )  # fmt: skip


def test_shorter_trials_are_padded_where_they_join_longer_ones():
    for first, second in ((trials(2, 3), trials(1, 5)), (trials(2, 5), trials(1, 3)), (trials(2, 4), trials(1, 4))):
        both, lengths = first.joined(second), [first.reward.shape[1]] * 2 + [second.reward.shape[1]]
        assert both.task_index.tolist() == [0, 1, 0] and both.head_mask.shape == (3, 3)
        assert both.images["top"].shape == (3, max(lengths), 2, 2, 3)
        for row, length in enumerate(lengths):
            for values in (both.images["top"], both.reward, both.action, both.frames, both.valid, both.is_first):
                assert values[row, :length].all() and not values[row, length:].any()
