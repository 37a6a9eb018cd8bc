"""Meta-World's pictures: upright, as the package's but fast, and changed by distractors."""

import sys

import numpy as np
import pytest
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor, SuiteError
from task_suites.metaworld import pictures
from task_suites.rendering import Renderer, mujoco

pytest.importorskip("metaworld")


def suite_of(scene="push", benchmark="ml1", **options):
    return task_suites.get(f"metaworld/{benchmark}", scene=scene, **options)


def environment(scene="push", seed=0, **options):
    suite = suite_of(scene, **options)
    env = suite.make(suite.tasks("train")[0].replace(distractors=suite.distractors))
    return env, *env.reset(seed=seed)


def actions(count, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4)).astype(np.float32)


def test_what_pictures_need_is_missed_when_the_environment_is_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(SuiteError, match="pip install fast-simplification"):
        suite_of().make(suite_of().tasks("train")[0])
    state = suite_of(state=True)
    state.make(state.tasks("train")[0]).close()


def test_gl_contexts_do_not_corrupt_each_other():
    def scenes():
        yield environment("push", image_size=32)
        yield environment("drawer-open", image_size=32, antialias=False)
        tabletop = task_suites.get("tabletop/reach", image_size=32)
        env = tabletop.make(tabletop.tasks("train")[0])
        yield env, *env.reset(seed=0)

    alone = []
    for env, _, _ in scenes():
        observation = env.step(np.zeros(env.action_space.shape))[0]
        alone.append(next(value for key, value in observation.items() if key.startswith("image")))
        env.close()
    together = [env for env, _, _ in scenes()]
    movies = [env.render() for env in together]
    for env, expected in zip(together, alone, strict=True):
        observation = env.step(np.zeros(env.action_space.shape))[0]
        assert any(np.array_equal(value, expected) for key, value in observation.items() if value.ndim == 3)
    for env, movie in zip(together, movies, strict=True):
        assert movie.shape == (256, 256, 3) and movie.std() > 5
        env.close()


def up_axes(model, data):
    mujoco.mj_camlight(model, data)
    return data.cam_xmat.reshape(-1, 3, 3)[:, 2, 1].copy()


def test_cameras_are_upright():
    env, _, _ = environment("push", state=True)
    simulator = env._simulator
    assert (up_axes(simulator.model, simulator.data) < -0.1).sum() == 4  # the trap: four hang upside down
    visual = pictures.visual_model(simulator.model_path, ())
    assert (up_axes(visual, simulator.data) >= -1e-9).all()
    assert {visual.camera(index).name for index in range(visual.ncam)} == set(pictures.CAMERAS)


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def test_the_fast_picture_shows_what_the_slow_one_shows():
    env, observation, _ = environment("drawer-open", image_size=64)
    simulator = env._simulator
    mujoco.mj_camlight(simulator.model, simulator.data)  # back to Meta-World's upside-down camera
    slow = MujocoRenderer(simulator.model, simulator.data, width=64, height=64, camera_name="corner4")
    theirs = slow.render("rgb_array")
    slow.close()
    fast = observation["image_corner4"]
    # Their shadows, and the marker of the goal, make up most of the difference.
    assert psnr(fast, theirs[::-1, ::-1]) > 20
    assert psnr(fast, theirs) < 14 and psnr(fast, np.roll(fast, 3, axis=1)) < 20  # controls: they can tell
    with Renderer(simulator.model, 64, 64, antialias=True) as plain:
        smooth = plain.render(simulator.data, simulator.model.camera("corner4").id)[::-1, ::-1]
    assert psnr(fast, smooth) > 24
    env.close()


def test_lighter_meshes_are_the_pictures_alone():
    env, _, _ = environment("push", image_size=16)
    visual, physics = env._pictures.model, env._simulator.model
    fresh = mujoco.MjModel.from_xml_path(env._simulator.model_path)
    assert visual.mesh_facenum.sum() < 0.2 * physics.mesh_facenum.sum()
    for name in ("mesh_vert", "mesh_face", "geom_rgba", "cam_quat", "tex_data", "geom_size"):
        assert np.array_equal(getattr(physics, name), getattr(fresh, name))
    for name in ("geom_bodyid", "site_bodyid", "cam_bodyid", "light_bodyid", "geom_type"):
        assert np.array_equal(getattr(visual, name), getattr(physics, name))
    env.close()


@pytest.mark.parametrize("name", DISTRACTOR_NAMES)
def test_distractors_change_pictures_by_their_intensity(name):
    seen = {}
    for intensity in (0.0, 0.3, 1.0):
        env, _, _ = environment("push", image_size=64, distractors=[Distractor(name, intensity, 1)])
        seen[intensity] = [env.step(action)[0] for action in actions(3)]
        env.close()
    plain, weak, strong = ([row["image_corner4"].astype(float) for row in rows] for rows in seen.values())
    changes = [np.abs(np.subtract(rows, plain)).mean() for rows in (weak, strong)]
    assert 0 < changes[0] < changes[1]
    for rows in zip(*seen.values(), strict=True):
        assert all(np.array_equal(row["proprio"], rows[0]["proprio"]) for row in rows)


def test_distractors_of_intensity_zero_change_no_pixel():
    shown = []
    for distractors in ((), dict.fromkeys(DISTRACTOR_NAMES, 0.0)):
        env, observation, _ = environment("push", image_size=32, distractors=distractors)
        shown.append(observation["image_corner4"])
        env.close()
    assert np.array_equal(*shown)
