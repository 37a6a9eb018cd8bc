"""Specs: what fits what."""

import dataclasses

import task_suites
from meta_latent.types import Spec

SPEC = Spec({"top": (16, 16, 3)}, 4, 2, 4)


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
