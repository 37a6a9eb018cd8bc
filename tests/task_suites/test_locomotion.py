"""Locomotion: Gymnasium's v5 physics and rewards to the bit, and what this family adds to them."""

import math

import gymnasium
import numpy as np
import pytest

import task_suites
from task_suites import Parameters, Reward, SuiteError, Task
from task_suites.locomotion import bodies
from task_suites.locomotion.bodies import BODIES
from task_suites.locomotion.scripts import AntController
from task_suites.locomotion.simulation import Simulation
from task_suites.locomotion.suite import NAMES, TASKS

IDS = {
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "swimmer": "Swimmer-v5",
    "humanoid": "Humanoid-v5",
}
FALLING = ("hopper", "walker2d", "ant", "humanoid")
# (control, healthy, speed) of each published reward, written down once more.
WEIGHTS = {
    "half_cheetah_velocity": (0.05, 0, 1),
    "half_cheetah_direction": (0.05, 0, 1),
    "hopper_upright": (0.1, 1, 1),
    "walker2d_upright": (0.1, 1, 1),
    "ant_upright": (0.1, 1, 1),
    "hopper_velocity": (0.001, 3, 1),
    "walker2d_velocity": (0.001, 4.5, 1),
    "walker2d_direction": (0.001, 1, 1),
    "ant_velocity": (0.005, 1.05, 1),
    "ant_direction": (0.5, 1, 1),
    "ant_goal": (0.1, 0, 1),
    "swimmer_velocity": (0.0001, 0, 1),
    "humanoid_direction": (0.1, 5, 1.25),
}


def suite_of(name, **options):
    return task_suites.get(f"locomotion/{name}", **options)


def first(suite, split="train"):
    return suite.tasks(split)[0]


def at_random(env, seed, steps, size=1.0):
    return np.random.default_rng(seed).uniform(-size, size, (steps, *env.action_space.shape))


def theirs_of(body, terminates=True):
    options = {"terminate_when_unhealthy": terminates} if body in FALLING else {}
    return gymnasium.make(IDS[body], **options).unwrapped


def control_of(theirs, action):
    return action * theirs.model.actuator_ctrlrange[:, 1]


@pytest.mark.parametrize("terminates", [True, False])
@pytest.mark.parametrize("body", BODIES)
def test_trajectories_rewards_and_ends_are_gymnasiums(body, terminates):
    suite = suite_of(f"{body}_run", observation="gymnasium", terminate_when_unhealthy=terminates)
    env, theirs, largest = suite.make(first(suite)), theirs_of(body, terminates), 0.0
    assert not env.task.dynamics
    for seed in range(3):
        shown, their_shown = env.reset(seed=seed)[0]["proprio"], theirs.reset(seed=seed)[0]
        assert np.array_equal(shown, their_shown.astype(np.float32))
        for action in at_random(env, seed, 150):
            observation, paid, ended, _, _ = env.step(action)
            their_shown, their_paid, their_end, _, _ = theirs.step(control_of(theirs, action))
            assert np.array_equal(env.simulation.data.qpos, theirs.data.qpos)
            assert np.array_equal(env.simulation.data.qvel, theirs.data.qvel)
            assert np.array_equal(observation["proprio"], their_shown.astype(np.float32))
            largest = max(largest, abs(paid - their_paid))
            assert ended == their_end
            if ended:
                break
    assert largest < 1e-5


def test_changed_dynamics_leave_gymnasiums_trajectory():
    """The negative control of the test above."""
    suite, found = suite_of("half_cheetah_run"), []
    for dynamics in ({}, {"mass_scale": 1.001}):
        env = suite.make(first(suite).replace(dynamics=dynamics))
        env.reset(seed=0)
        for action in at_random(env, 0, 20):
            env.step(action)
        found.append(env.simulation.data.qpos.copy())
    assert not np.array_equal(*found)


def expected(name, task, theirs, action, info):
    """Return what `task` pays after a step of Gymnasium's environment, from its own numbers in float64."""
    control, healthy, speed = WEIGHTS[name]
    values, kind = task.reward.parameters, task.reward.name
    x, y = info["x_velocity"], info.get("y_velocity", 0.0)
    if kind == "upright":
        height = theirs.data.qpos[2 if "ant" in name else 1]
        rise = height - (0.57 if "ant" in name else 1.3)
        return x - control * np.square(action).sum() + 1 - 3 * rise**2
    if kind == "velocity":
        progress = -abs(x - values["target_metres_per_second"])
    elif kind == "direction":
        progress = x * math.cos(values["heading_radians"]) + y * math.sin(values["heading_radians"])
    else:
        place = theirs.data.qpos[:2]
        progress = -abs(place[0] - values["goal_x_metres"]) - abs(place[1] - values["goal_y_metres"])
    total = speed * progress - control * np.square(control_of(theirs, action)).sum()
    if name.startswith(FALLING):
        total += healthy * bool(theirs.is_healthy)
    return total - getattr(theirs, "contact_cost", 0.0)


@pytest.mark.parametrize("name", WEIGHTS)
def test_other_rewards_are_what_gymnasiums_numbers_give(name):
    suite = suite_of(name, terminate_when_unhealthy=False)
    theirs, largest = theirs_of(suite.family, terminates=False), 0.0
    for task in (suite.tasks("train")[0], suite.tasks("train")[-1], suite.tasks("test")[0]):
        env = suite.make(task.replace(dynamics={}))
        env.reset(seed=5)
        theirs.reset(seed=5)
        for action in at_random(env, 5, 100):
            paid = env.step(action)[1]
            info = theirs.step(control_of(theirs, action))[4]
            largest = max(largest, abs(paid - expected(name, env.task, theirs, action, info)))
    assert largest < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_vectorised_rewards_and_ends_are_those_of_the_simulator(name):
    torch = pytest.importorskip("torch")
    suite = suite_of(name, observation="reward_inputs")
    for split in ("train", "test"):
        task = suite.sample(split, 1, 3)[0]
        env, rows = suite.make(task), []
        for seed in range(2):
            env.reset(seed=seed)
            for action in at_random(env, seed, 80, size=1.3).astype(np.float32):  # beyond 1: clipped
                observation, paid, ended, _, info = env.step(action)
                assert np.array_equal(observation["proprio"], info["reward_inputs"])
                rows.append((observation["proprio"], action, paid, ended, info["success"]))
                if ended:
                    break
        seen, actions, paid, ends, done = map(np.array, zip(*rows, strict=True))
        assert ends.any() or not suite.physics()["terminates"] or len(rows) == 160
        tensors = torch.tensor(seen), torch.tensor(actions)
        for a, b in ((seen, actions), tensors):
            np.testing.assert_allclose(np.asarray(suite.reward(task, a, b)), paid, rtol=0, atol=1e-5)
            assert np.array_equal(np.asarray(suite.terminated(task, a, b)), ends)
            assert np.array_equal(np.asarray(suite.success(task, a)), done)
            once_more = suite.reward(task, a[None, :, None], b[None, :, None])
            assert tuple(once_more.shape) == (1, len(rows), 1)


@pytest.mark.parametrize("name", ["hopper_run", "walker2d_run", "ant_run", "humanoid_run"])
def test_who_falls_ends_unless_told_otherwise(name):
    ends = {}
    for terminates in (True, False):
        suite = suite_of(name, terminate_when_unhealthy=terminates, episode_steps=400)
        env = suite.make(first(suite))
        env.reset(seed=0)
        for step, action in enumerate(at_random(env, 2, 400)):  # noqa: B007
            _, paid, ended, limit, info = env.step(action)
            assert ended == bool(suite.terminated(env.task, info["reward_inputs"], action))
            if ended or limit:
                break
        ends[terminates] = step, ended, limit
    assert ends[True][1:] == (True, False) and ends[True][0] < 399
    assert ends[False] == (399, False, True)


def test_a_fall_ends_what_it_ends_as_published():
    for name in NAMES:
        fallible = name.startswith(FALLING) and not name.endswith(("goal", "upright"))
        assert suite_of(name).physics()["terminates"] == fallible


CHANGES = {
    "mass_scale": {"body_mass", "body_inertia"},
    "friction_scale": {"geom_friction"},
    "damping_scale": {"dof_damping"},
    "strength_scale": {"actuator_gear"},
}
DERIVED = {"body_subtreemass", "dof_M0", "dof_invweight0", "body_invweight0", "actuator_acc0", "stat"}


@pytest.mark.parametrize(("field", "arrays"), CHANGES.items())
def test_dynamics_scale_what_they_name_and_nothing_else(field, arrays):
    suite = suite_of("half_cheetah_run")
    plain = suite.make(first(suite)).simulation.model
    changed = suite.make(first(suite).replace(dynamics={field: 2.0})).simulation.model
    for name in dir(plain):
        value = getattr(plain, name)
        if name.startswith("_") or not isinstance(value, np.ndarray) or name in DERIVED:
            continue
        if name in arrays:
            assert np.array_equal(getattr(changed, name), 2 * value) and value.any()
        else:
            assert np.array_equal(getattr(changed, name), value), name


def test_the_swimmers_friction_is_that_of_its_water():
    suite = suite_of("swimmer_run")
    options = suite.make(first(suite).replace(dynamics={"friction_scale": 0.5})).simulation.model.opt
    assert (options.density, options.viscosity) == (2000, 0.05)


@pytest.mark.parametrize("body", BODIES)
def test_a_disabled_joint_has_no_motor_and_the_others_have(body):
    suite, names, ends = suite_of(f"{body}_run"), bodies.joints(BODIES[body]), []
    env = suite.make(first(suite).replace(dynamics={"disabled_joint": names[-1]}))
    for changed in (None, -1, 0):
        env.reset(seed=0)
        for action in at_random(env, 0, 5):
            if changed is not None:
                action[changed] *= -1
            env.step(action)
        ends.append(env.simulation.data.qpos.copy())
    assert np.array_equal(ends[0], ends[1]) and not np.array_equal(ends[0], ends[2])


def test_the_ants_controller_takes_its_legs_for_alike():
    """A quarter turn of the heading turns what the ant does; contacts are solved to no more than this."""
    weights, runs = np.random.default_rng(0).normal(0, 0.3, (8, 32)), []
    for turns in range(4):
        simulation = Simulation(BODIES["ant"], Parameters())
        simulation.reset(Still())
        reward = Reward("direction", {"heading_radians": 0.2 + turns * math.pi / 2})
        controller, seen = AntController(BODIES["ant"], reward, weights, 1.5), []
        controller.reset(Still())
        for _ in range(2):
            simulation.step(controller(simulation.inputs()))
            seen.append(controller.features(simulation.inputs().astype(float)))
        runs.append(seen)
    np.testing.assert_allclose(runs[1:], [runs[0]] * 3, atol=5e-3)
    assert np.ptp(np.array(runs[0]), axis=0).max() > 0.1


class Still:
    """A generator of no noise."""

    def uniform(self, low, high, size):
        return np.zeros(size)

    def standard_normal(self, size):
        return np.zeros(size)


# A hopper that falls forward at random is paid for its speed: in 1.6 s nobody does much better.
# The swimmer's speed swings with its strokes by more than its targets differ.
WEAK = ("humanoid", "hopper_upright", "swimmer_velocity")
SCRIPTED = [name for name in NAMES if not name.startswith(WEAK)]


@pytest.mark.parametrize("name", SCRIPTED)
def test_controllers_beat_chance_and_standing_still(rollout, name):
    suite = suite_of(name)
    # The fastest target: near standing still nobody beats standing still.
    speed = "target_metres_per_second"
    task, returns = max(suite.tasks("train"), key=lambda task: task.reward.parameters.get(speed, 0)), []
    env, controller = suite.make(task), suite.scripted(task)
    still, chance = np.zeros(env.action_space.shape), np.random.default_rng(0)
    acts = (controller, lambda _: still, lambda _: chance.uniform(-1, 1, still.size))
    for act in acts:
        controller.reset(chance)
        returns.append(rollout(env, act, seed=0)[0])
    assert returns[0] > max(returns[1:])


def test_the_humanoid_has_no_controller():
    suite = suite_of("humanoid_run")
    with pytest.raises(SuiteError, match="scripted"):
        suite.scripted(first(suite))
    assert suite.references(first(suite)) is None


def test_dynamics_are_a_field_of_any_task_and_an_option():
    suite = suite_of("hopper_velocity", dynamics={"mass_scale": 1.5})
    tasks = suite.sample("train", 3, 0)
    assert {task.dynamics for task in tasks} == {Parameters(mass_scale=1.5)}
    plain = suite_of("hopper_velocity").sample("train", 3, 0)
    assert [task.reward for task in tasks] == [task.reward for task in plain]
    masses = [suite.make(task).simulation.model.body_mass.sum() for task in (tasks[0], plain[0])]
    assert masses[0] == pytest.approx(1.5 * masses[1])
    assert set(tasks) <= set(suite.tasks("train"))
    assert suite.task_vector(tasks[0]).tolist() == pytest.approx([1.5, tasks[0].reward.parameters[
        "target_metres_per_second"]])  # fmt: skip


def test_splits_are_as_many_and_as_wide_as_said():
    for name in NAMES:
        body, _, kind = name.rpartition("_")
        planar = kind == "direction" and BODIES[body].axes == 1
        suite = suite_of(name)
        more = suite if planar else suite_of(name, train_tasks=100, test_tasks=30)
        lame = len(bodies.joints(BODIES[body])) if kind in ("run", "upright") else 0
        for split, count, larger in (("train", 20, 100), ("test", 10, 30)):
            extra = lame if split == "test" else 0
            assert len(suite.tasks(split)) == (1 if planar else count + extra)
            assert len(more.tasks(split)) == (1 if planar else larger + extra)
            assert set(suite.tasks(split)) <= set(more.tasks(split))
    goals = suite_of("ant_goal", train_tasks=500).tasks("train")
    spots = np.array([[*task.reward.parameters.values()] for task in goals])
    distances = np.linalg.norm(spots, axis=1)
    assert distances.max() <= 3 and np.mean(distances < 1.5) == pytest.approx(0.25, abs=0.08)
    targets = [task.reward.parameters["target_metres_per_second"] for task in speeds("swimmer")]
    assert 0.1 <= min(targets) < 0.11 and 0.19 < max(targets) <= 0.200001


def speeds(body):
    return suite_of(f"{body}_velocity", train_tasks=500).tasks("train")


def test_published_splits_have_both_directions():
    suite = suite_of("half_cheetah_direction", published_splits=True)
    headings = [task.reward.parameters["heading_radians"] for task in suite.tasks("test")]
    assert headings == [0.0, math.pi] and suite.tasks("train") == suite.tasks("test")


def test_a_body_makes_the_tasks_of_its_other_names():
    run, direction = suite_of("half_cheetah_run"), suite_of("half_cheetah_direction")
    env = run.make(first(direction, "test"))
    env.reset(seed=0)
    _, paid, _, _, info = env.step(np.zeros(6))
    assert paid == pytest.approx(-info["reward_inputs"][0])
    with pytest.raises(SuiteError, match="family"):
        run.make(first(suite_of("ant_run")))


def test_every_body_has_tasks_of_the_issue():
    assert set(TASKS) == set(BODIES) == set(IDS)
    assert all(name in task_suites.names("locomotion") for name in (f"locomotion/{n}" for n in NAMES))
    ours = [name for name in task_suites.names("locomotion") if name.startswith("locomotion/")]
    assert len(ours) == len(NAMES)


TURN = Reward("direction", {"heading_radians": 1.0})
WRONG = [
    ({"cameras": ("sid",)}, None, "'side'"),
    ({"cameras": ("side", "side")}, None, "twice"),
    ({"image_size": 4}, None, "image_size"),
    ({"episode_steps": 0}, None, "episode_steps"),
    ({"observation": "compat"}, None, "'compact'"),
    ({"terminate_when_unhealthy": "no"}, None, "terminate_when_unhealthy"),
    ({"train_tasks": 0}, None, "train_tasks"),
    ({"published_splits": True}, None, "published_splits"),
    ({"dynamics": {"mass": 2.0}}, None, "'mass_scale'"),
    ({"dynamics": {"mass_scale": 0.0}}, None, "mass_scale"),
    ({"dynamics": {"mass_scale": True}}, None, "mass_scale"),
    ({"dynamics": {"disabled_joint": "tail"}}, None, "disabled_joint"),
    ({}, Task("half_cheetah", Reward("sprint")), "reward of locomotion/half_cheetah_velocity 'sprint'"),
    ({}, Task("half_cheetah", Reward("goal", {"goal_x_metres": 1.0, "goal_y_metres": 1.0})), "'goal'"),
    ({}, Task("half_cheetah", Reward("velocity")), "target_metres_per_second"),
    ({}, Task("half_cheetah", Reward("velocity", {"target_metres_per_second": "fast"})), "expected a number"),
    ({}, Task("half_cheetah", TURN), "heading_radians"),
    ({}, Task("half_cheetah", Reward("run"), dynamics={"mass_scale": 99.0}), "mass_scale"),
]


@pytest.mark.parametrize(("options", "task", "said"), WRONG)
def test_wrong_options_and_tasks_are_named(options, task, said):
    with pytest.raises(SuiteError, match=said) as error:
        suite = suite_of("half_cheetah_velocity", **options)
        suite.make(task)
    assert "\n" not in str(error.value)


def test_the_swimmer_has_no_damping_and_run_no_common_dynamics():
    with pytest.raises(SuiteError, match="damping_scale"):
        suite_of("swimmer_velocity", dynamics={"damping_scale": 2.0})
    with pytest.raises(SuiteError, match="dynamics"):
        suite_of("ant_run", dynamics={"mass_scale": 2.0})


def test_inputs_are_named():
    for body in BODIES.values():
        names = bodies.input_names(body)
        suite = suite_of(f"{body.name}_run")
        env = suite.make(first(suite))
        inputs = env.reset(seed=0)[1]["reward_inputs"]
        assert len(names) == len(set(names)) == inputs.size
        state = np.concatenate([env.simulation.data.qpos, env.simulation.data.qvel])
        assert np.array_equal(inputs[bodies.position_start(body) :], state.astype(np.float32))
    assert bodies.input_names(BODIES["hopper"])[1:4] == ("rootx_metres", "rootz_metres", "rooty_radians")
    assert bodies.input_names(BODIES["ant"])[5] == "root_z_metres"
