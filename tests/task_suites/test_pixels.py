"""One wrapper puts pictures and distractors on any MuJoCo environment and leaves its physics alone."""

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import DISTRACTOR_NAMES, Distractor, MujocoPixels, SuiteError
from task_suites.layout import survey
from task_suites.rendering import mujoco

ALL = tuple(Distractor(name, 1.0, 1) for name in DISTRACTOR_NAMES)
ENVIRONMENTS = ("HalfCheetah-v5", "Ant-v5", "Reacher-v5", "Pusher-v5")


def physics(env):
    """Everything of the simulation as one vector, what is derived from the state included."""
    data = env.unwrapped.data
    size = mujoco.mj_stateSize(env.unwrapped.model, mujoco.mjtState.mjSTATE_INTEGRATION)
    state = np.empty(size)
    mujoco.mj_getState(env.unwrapped.model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    derived = (data.xpos, data.xquat, data.geom_xpos, data.cam_xpos, data.light_xdir, data.subtree_com)
    return np.concatenate([state, *(values.ravel() for values in derived)])


def model_bytes(model):
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def episode(name, wrap, steps=12):
    """Physics, rewards and own observations of one episode and the start of the next."""
    env = wrap(gymnasium.make(name))
    before, rng = model_bytes(env.unwrapped.model), np.random.default_rng(0)
    found = []
    for seed in (7, None):
        observation, _ = env.reset(seed=seed)
        for _ in range(steps if seed else 2):
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            observation, reward, *_ = env.step(action)
            if isinstance(observation, dict):
                env.render()
                observation = observation["proprio"]
            found.append(np.concatenate([physics(env), [reward], np.float32(observation)]))
    assert model_bytes(env.unwrapped.model) == before
    env.close()
    return np.array(found)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_same_actions_lead_to_the_same_states_with_and_without(name):
    bare = episode(name, lambda env: env)
    distracted = episode(name, lambda env: MujocoPixels(env, image_size=16, distractors=ALL))
    assert np.array_equal(bare, distracted)
    assert np.ptp(bare, axis=0).max() > 0.1  # something moved


@pytest.mark.slow
def test_so_they_do_on_meta_world():
    metaworld = pytest.importorskip("metaworld")
    benchmark = metaworld.ML1("push-v3", seed=7)

    def states(**options):
        env = benchmark.train_classes["push-v3"]()
        env.set_task(benchmark.train_tasks[0])
        env = MujocoPixels(env, image_size=32, **options) if options else env
        rng, found = np.random.default_rng(0), []
        env.reset(seed=0)
        for _ in range(20):
            reward = env.step(rng.uniform(-1, 1, 4).astype(np.float32))[1]
            found.append(np.concatenate([physics(env), [reward]]))
        env.close()
        return np.array(found)

    assert np.array_equal(states(), states(cameras="corner2", distractors=ALL))


def test_that_test_sees_a_wrapper_that_refreshes_the_environments_own_data():
    """A picture of the present state needs fresh places of bodies: taken from a copy, or rewards change."""

    class Careless(MujocoPixels):
        def _follow(self):
            mujoco.mj_kinematics(self._model, self._data)
            super()._follow()

    bare = episode("Ant-v5", lambda env: env)
    careless = episode("Ant-v5", lambda env: Careless(env, image_size=16))
    assert not np.array_equal(bare, careless)


def test_that_test_sees_a_change_of_the_model():
    model = gymnasium.make("Reacher-v5").unwrapped.model
    before = model_bytes(model)
    model.geom_rgba[0, 0] += 0.01
    assert model_bytes(model) != before


def pictures(distractors, name="HalfCheetah-v5", seed=5, steps=3, **options):
    env = MujocoPixels(gymnasium.make(name), image_size=48, distractors=distractors, **options)
    key = next(key for key in env.observation_space.spaces if key.startswith("image_"))
    found = [env.reset(seed=seed)[0][key]]
    found += [env.step(np.zeros(env.action_space.shape))[0][key] for _ in range(steps)]
    env.close()
    return np.array(found).astype(int)


@pytest.mark.parametrize("environment", ["HalfCheetah-v5", "Reacher-v5"])
@pytest.mark.parametrize("name", DISTRACTOR_NAMES)
def test_each_distractor_changes_the_picture_by_its_intensity_and_seed(environment, name):
    plain = pictures((), environment)
    assert np.array_equal(plain, pictures({name: 0.0}, environment))
    differences = [np.abs(pictures({name: i}, environment) - plain).mean() for i in (0.3, 1.0)]
    assert 0 < differences[0] < differences[1]
    strong = pictures([Distractor(name, 1.0, 1)], environment)
    assert np.array_equal(strong, pictures([Distractor(name, 1.0, 1)], environment))
    assert not np.array_equal(strong, pictures([Distractor(name, 1.0, 2)], environment))
    other = pictures([Distractor(name, 1.0, 1)], environment, seed=6), pictures((), environment, seed=6)
    assert not np.array_equal(strong[0] - plain[0], other[0][0] - other[1][0])  # drawn anew each episode


def test_no_distractor_draws_nothing_else():
    """The drawing of one environment leaves no trace on another's."""
    plain = pictures(())
    pictures(ALL)
    assert np.array_equal(pictures(()), plain)


def test_gl_has_nothing_to_complain_about():
    from OpenGL.raw.GL.VERSION.GL_1_0 import glGetError  # the calls that MuJoCo makes are not checked

    for name in ENVIRONMENTS:
        env = MujocoPixels(gymnasium.make(name), image_size=16, distractors=ALL)
        env.reset(seed=0)
        env.render()
        for renderer in env._pictures._renderers.values():
            with renderer._gl:
                assert glGetError() == 0
        env.close()


def test_a_video_fills_the_view_behind_the_body():
    plain, shown = pictures((), steps=0)[0], pictures({"video": 1.0}, steps=0)[0]
    changed = np.abs(plain - shown).max(-1) > 3
    assert changed[:15].all() and changed[-5:].all()  # sky and ground
    assert (~changed).any()  # the cheetah


def test_moving_objects_follow_a_camera_that_follows_a_runner():
    env = MujocoPixels(gymnasium.make("Hopper-v5"), distractors={"objects": 1.0})
    env.reset(seed=0)
    start = env._pictures.scenery.centre.copy()
    assert abs(start[0]) < 0.3 and start[2] == pytest.approx(0, abs=0.01)  # around the hopper, on the floor
    env.unwrapped.data.qpos[0] += 50.0
    env.step(np.zeros(3))
    assert env._pictures.scenery.centre - start == pytest.approx((50, 0, 0), abs=0.1)
    env.close()


def test_kept_geoms_keep_their_hue():
    """The red goal of Pusher stays pure red only when told: its smallest channel says so."""

    def smallest(keep):
        found = []
        for seed in range(6):
            env = MujocoPixels(gymnasium.make("Pusher-v5"), keep=keep, distractors=[Distractor("colours", 1.0, seed)])
            env.reset(seed=0)
            goal = survey(env.unwrapped.model, ("goal",)).kept[0]
            found.append(env._pictures.scenery._rgb[goal])
            env.close()
        return np.array(found).min(1)

    assert smallest("goal").max() < 0.01 and smallest(()).min() > 0.1


def test_cameras_size_and_proprio_are_chosen():
    env = MujocoPixels(gymnasium.make("Humanoid-v5"), image_size=24, cameras=("track", "default"), proprio=False)
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"image_track", "image_default"} == set(env.observation_space.spaces)
    assert env.observation_space.contains(observation)
    assert np.array_equal(observation["image_track"], observation["image_default"])
    assert env.render().shape == (256, 256, 3)
    env.close()


def test_the_picture_shows_the_state_that_step_returns():
    env = MujocoPixels(gymnasium.make("HalfCheetah-v5"), image_size=48)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        shown = env.step(rng.uniform(-1, 1, 6))[0]["image_default"]
    mujoco.mj_forward(env.unwrapped.model, env.unwrapped.data)
    assert np.array_equal(env._observation(np.zeros(17))["image_default"], shown)
    env.close()


BARE = """<mujoco><worldbody><camera name="eye" pos="0 -3 0" xyaxes="1 0 0 0 0 1"/><light pos="0 0 3"/>
<body><joint type="slide"/><geom name="ball" type="sphere" size=".3" rgba="1 0 0 1"/></body>
</worldbody></mujoco>"""


class Own(gymnasium.Env):
    """A user's environment with names of its own."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self):
        self.scene = mujoco.MjModel.from_xml_string(BARE)
        self.state = mujoco.MjData(self.scene)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action):
        mujoco.mj_step(self.scene, self.state)
        return self.state.qpos.copy(), 0.0, False, False, {}


def own(env):
    return env.scene, env.state


def test_an_environment_of_the_users_own_and_without_a_floor():
    some = {"video": 1.0, "objects": 0.5, "lights": 1.0}
    env = MujocoPixels(Own(), physics=own, cameras="eye", distractors=some)
    observation, _ = env.reset(seed=0)
    assert observation["image_eye"].std() > 10 and observation["proprio"].tolist() == [0.0]
    env.close()


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (lambda: gymnasium.make("CartPole-v1"), {}, "physics="),
        (Own, {}, "physics="),
        (Own, {"physics": own, "cameras": "eey"}, "'eye'"),
        (Own, {"physics": own, "distractors": {"textures": 0.5}}, "textures"),
        (Own, {"physics": own, "distractors": {"vidoe": 0.5}}, "'video'"),
        (Own, {"physics": own, "distractors": {"video": 1.5}}, "intensity"),
        (Own, {"physics": own, "keep": "bal"}, "'ball'"),
        (Own, {"physics": own, "region": (0, 0, 0)}, "region"),
        (Own, {"physics": own, "image_size": 3}, "image_size"),
        (Own, {"physics": own, "cameras": (), "proprio": False}, "cameras"),
        (Own, {"physics": own, "cameras": ("eye", "eye")}, "cameras .* twice"),
        (Own, {"physics": own, "distractors": [{"name": "video"}, {"name": "video"}]}, "'video' .* twice"),
        (Own, {"physics": own, "distractors": [{"name": "video", "folder": "/no/such"}]}, "/no/such"),
    ],
)
def test_wrong_options_are_named_at_construction(make, options, said):
    with pytest.raises(SuiteError, match=said):
        MujocoPixels(make(), **options)


def test_it_says_what_comes_first():
    env = MujocoPixels(Own(), physics=own, cameras="eye")
    for use in (lambda: env.step(np.zeros(1)), env.render):
        with pytest.raises(SuiteError, match="before reset"):
            use()


def test_it_is_one_of_the_public_names():
    assert task_suites.MujocoPixels is MujocoPixels
    with pytest.raises(AttributeError):
        task_suites.NoSuchName  # noqa: B018
