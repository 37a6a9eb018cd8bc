"""Raw returns as scores."""

import numpy as np
import pytest

from meta_latent.ops.scores import scores


def test_one_task_has_its_own_unit():
    returns = np.array([[[-30.0, -10.0], [10.0, -20.0]]])
    np.testing.assert_allclose(
        scores(returns, np.array([-30.0]), np.array([10.0])), [[[0, 0.5], [1, 0.25]]], atol=1e-12
    )


def test_floors_and_references_of_several_tasks_are_0_and_1_on_the_mean():
    floors, references = np.array([-100.0, -50.0, -6.6]), np.array([-30.0, -10.0, -5.9])
    assert scores(floors, floors, references).tolist() == [0, 0, 0]
    assert scores(references, floors, references).mean() == pytest.approx(1)


def test_a_task_whose_floor_is_almost_its_reference_outweighs_no_other():
    """Of a speed of 0.13 m/s, standing still is worth -6.6 and a script -5.9; whoever runs instead has -80."""
    found = scores(np.array([-30.0, -80.0]), np.array([-100.0, -6.6]), np.array([-30.0, -5.9]))
    np.testing.assert_allclose(found, [70 / 35.35, -73.4 / 35.35])
