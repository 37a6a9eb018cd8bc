"""What environments show: their spaces, and pictures of two sizes drawn by renderers that come when needed."""

import gymnasium
import numpy as np
import pytest

from task_suites.rendering import Renderer, mujoco
from task_suites.scenery import Scenery
from task_suites.views import MOVIE_PIXELS, Pictures, Views

XML = """<mujoco><visual><headlight ambient=".5 .5 .5"/></visual><worldbody>
<camera name="eye" pos="0 0 1"/><camera name="far" pos="0 0 3"/><geom type="plane" size="1 1 1" rgba=".1 .1 .9 1"/>
<geom type="box" pos="0 .2 0" euler="0 0 20" size=".1 .1 .1" rgba="1 0 0 1"/></worldbody></mujoco>"""


@pytest.mark.parametrize("proprio", [None, 0, 3])
def test_spaces_are_pictures_and_proprioception(proprio):
    observed, acted = Views(("b", "a"), 24, False).spaces(proprio, 2)
    image = gymnasium.spaces.Box(0, 255, (24, 24, 3), np.uint8)
    own = {} if proprio is None else {"proprio": gymnasium.spaces.Box(-np.inf, np.inf, (proprio,), np.float32)}
    assert observed == gymnasium.spaces.Dict({"image_a": image, "image_b": image, **own})
    assert acted == gymnasium.spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize("antialias", [False, True])
def test_pictures_are_small_or_for_videos_also_after_they_were_closed(antialias):
    model = mujoco.MjModel.from_xml_string(XML)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    pictures = Pictures(model, data, Scenery(model, ()), Views(("eye",), 24, antialias))
    pictures.begin_episode(0)
    assert not pictures._renderers
    with Renderer(model, 24, 24, antialias=antialias) as small:
        expected = small.render(data, 0)
    with Renderer(model, MOVIE_PIXELS, MOVIE_PIXELS, antialias=True) as large:
        film = large.render(data, 0)
    for _ in range(2):
        assert np.array_equal(pictures.draw("eye", 0), expected) and np.array_equal(pictures.draw(0, 0), expected)
        assert np.array_equal(pictures.draw("eye", 0, movie=True), film)
        assert not np.array_equal(pictures.draw("far", 0), expected)
        assert len(pictures._renderers) == 2
        pictures.close()
        pictures.close()
        assert not pictures._renderers


def test_places_are_drawn_as_the_data_has_them():
    model = mujoco.MjModel.from_xml_string(XML)
    pictures = Pictures(model, mujoco.MjData(model), Scenery(model, ()), Views(("eye",), 24, False))
    before = pictures.draw("eye", 0)
    mujoco.mj_forward(model, pictures._data)
    assert not np.array_equal(pictures.draw("eye", 0), before)
    pictures.close()
