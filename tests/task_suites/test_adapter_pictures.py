"""What a user's own environments observe and show."""

import functools

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites.adapted_env import Observer


def test_mujoco_pictures_come_with_options_and_distractors(random_steps, of):
    opened = of("HalfCheetah-v5", pixels="mujoco")
    plain = opened(image_size=24)
    distracted = opened(image_size=24, distractors={"video": 1.0, "camera": 0.5})
    assert plain.shows_distractors and plain.fingerprint() != opened(image_size=32).fingerprint()
    assert plain.fingerprint() == distracted.fingerprint()
    (_, bare), (task, shown) = random_steps(plain), random_steps(distracted)
    assert [item.name for item in task.distractors] == ["video", "camera"]
    for (a, paid, _), (b, other, _) in zip(bare, shown, strict=True):
        assert np.array_equal(a["proprio"], b["proprio"]) and paid == other
        assert a["image_default"].shape == (24, 24, 3)
        assert np.abs(a["image_default"].astype(int) - b["image_default"]).mean() > 10
    with pytest.raises(task_suites.SuiteError, match="'image_size'"):
        opened(imagesize=3)
    with pytest.raises(task_suites.SuiteError, match="'track'"):
        opened(cameras="trakc")


Box = gymnasium.spaces.Box
IMAGE = Box(0, 255, (8, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (gymnasium.spaces.Dict({"image_a": Box(0, 1, (8, 8, 3)), "proprio": Box(0, 1, (2,))}), "image_a is"),
        (gymnasium.spaces.Dict({"image_a": Box(0, 255, (3, 8, 8), np.uint8)}), "image_a is"),
        (Box(0, 255, (3, 8, 8), np.uint8), "image_observation is"),
        (Box(0, 255, (8, 8), np.uint8), "image_observation is"),
        (gymnasium.spaces.Dict({"camera": IMAGE, "state": Box(0, 1, (2,))}), "keys image_CAMERA"),
        (Box(0, 1, (16, 16, 3), np.float32), r"which looks like a picture: give uint8 in \[0, 255\]"),
        (gymnasium.spaces.Dict({"camera": Box(0, 1, (8, 8, 3)), "state": Box(0, 1, (2,))}), "looks like a picture"),
        (gymnasium.spaces.Dict({}), "nothing would be observed"),
    ],
)
def test_observations_that_do_not_fit_are_refused(space, words):
    with pytest.raises(task_suites.SuiteError, match=words):
        Observer(space, "mine/walk")


@pytest.mark.parametrize(
    "space", [Box(-1, 1, (2, 3), np.float64), gymnasium.spaces.Discrete(4), Box(0, 255, (128,), np.uint8)]
)
def test_numbers_become_proprio_also_beside_pictures(space):
    for whole in (space, gymnasium.spaces.Dict({"image_a": IMAGE, "proprio": space})):
        observer = Observer(whole, "mine/walk")
        whole.seed(0)
        shown = observer(whole.sample())
        assert shown["proprio"].dtype == np.float32 and observer.space.contains(shown)


def test_ids_are_drawn_where_they_can(of):
    of("HalfCheetah-v5")
    env = gymnasium.make("task_suites/mine-theirs-v0", render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (480, 480, 3)
    env.close()


def test_pictures_observed_are_what_a_film_shows(of):
    mine = of(lambda: gymnasium.make("HalfCheetah-v5"), pixels="mujoco")(image_size=24)
    env = mine.make(mine.tasks("train")[0])
    env.reset(seed=0)
    assert env.render().shape == (256, 256, 3)
    env.close()
    theirs = of("task_suites/tabletop-reach-v0", max_episode_steps=5)()
    env = theirs.make(theirs.tasks("train")[0])
    observation = env.reset(seed=0)[0]
    assert np.array_equal(env.render(), observation["image_fit"]) and "proprio" in observation


def test_pictures_of_gymnasiums_renderer_survive_our_drawing(of):
    small = {"width": 24, "height": 24}
    make = functools.partial(gymnasium.make, "HalfCheetah-v5", render_mode="rgb_array", **small)
    mine = of(make, pixels="render")()
    env = mine.make(mine.tasks("train")[0])
    before = env.reset(seed=0)[0]["image_render"]
    table = task_suites.get("tabletop/reach", image_size=16)
    other = table.make(table.tasks("train")[0])
    other.reset(seed=0)
    assert np.array_equal(env.render(), before) and before.std() > 1
    other.close()
    env.close()


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_outside_of_an_environments_own_space_is_told_where_its_pictures_are_drawn_here_too(of, wrapped):
    def narrow():
        env = gymnasium.make("InvertedPendulum-v5", disable_env_checker=True)
        env.unwrapped.observation_space = Box(-1e-4, 1e-4, (4,), np.float64)
        return task_suites.MujocoPixels(env, cameras=()) if wrapped else env

    opened = of(narrow, max_episode_steps=3, pixels="none" if wrapped else "mujoco")
    (found,) = task_suites.faults(opened() if wrapped else opened(cameras=()))
    assert "observation 0 of the environment itself holds" in found and "which is not in [-0.0001, 0.0001]" in found
    hidden = task_suites.MujocoPixels(narrow(), image_size=8, proprio=False)
    hidden.reset(seed=0)
    assert hidden.outside() is None  # as nobody is shown it


def test_fractions_in_a_space_of_whole_numbers_are_kept_beside_pictures_drawn_here(of):
    class Rounded(gymnasium.ObservationWrapper):
        observation_space = Box(-9, 9, (2,), np.int64)

        def observation(self, observation):
            return np.array([0.7, -2.5])

    def made():
        return Rounded(gymnasium.make("InvertedPendulum-v5", disable_env_checker=True))

    suite = of(made, max_episode_steps=3, pixels="mujoco")(cameras=())
    observation, _ = suite.make(suite.tasks("train")[0]).reset(seed=0)
    assert observation["proprio"].tolist() == np.float32([0.7, -2.5]).tolist()
