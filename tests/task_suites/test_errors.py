"""What a user's function is told that cannot be called as it has to be."""

import functools

import numpy as np
import pytest
import torch

from task_suites.errors import unfit


def paid(task, inputs):
    return inputs[..., 0]


@functools.wraps(paid)
def decorated(task, inputs, action):
    return paid(task, inputs)


class Callable:
    def __call__(self, task, inputs, action):
        return inputs


@pytest.mark.parametrize("function", [
    decorated, Callable(), functools.partial(lambda scale, task, inputs, action: scale, 2.0), lambda *given: given[0],
    functools.lru_cache(lambda task, inputs, action: 0), torch.sub,
])  # fmt: skip
def test_what_may_be_called_is_not_refused(function):
    assert unfit(function, ("task", "inputs", "action")) is None


def test_what_cannot_be_called_is_told_what_it_has_to_take():
    assert unfit(paid, ("task", "inputs", "action")) == (
        "too many positional arguments; it has to take (task, inputs, action), and takes (task, inputs)"
    )
    assert "missing a required argument: 'action'" in unfit(decorated, ("task", "inputs"))
    assert "takes (inputs, goal)" in unfit(lambda inputs, goal: 0, ("inputs",), {"place": 1.0})
    assert unfit(np.vectorize(lambda inputs: 0), ("inputs",)) is None
