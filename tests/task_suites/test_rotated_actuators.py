"""Rotated actuators: what is hidden and what is not, the optimum, walls, spread angles, and exact fast rows."""

import math

import numpy as np
import pytest
from scipy.optimize import lsq_linear

import task_suites
from task_suites import SuiteError
from task_suites.rows import Rows

BOTH = pytest.mark.parametrize("inertia", [False, True])


def suite_of(**options):
    return task_suites.get("toy/rotated_actuators", **options)


def task_at(suite, angle):
    return suite.tasks("train")[0].replace(dynamics={"angle_radians": angle})


def angles(tasks):
    return np.array([task.dynamics["angle_radians"] for task in tasks])


def turned(action, angle):
    """By the rotation matrix, independently of the family's own formula."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ action


def play(env, seed, act):
    """Return (states (T + 1, R), rewards (T,), actions (T, 2)); act(reward_inputs)."""
    _, info = env.reset(seed=seed)
    states, rewards, actions = [info["reward_inputs"]], [], []
    over = False
    while not over:
        actions.append(act(info["reward_inputs"]))
        _, reward, _, over, info = env.step(actions[-1])
        states.append(info["reward_inputs"])
        rewards.append(reward)
    return np.array(states, np.float64), np.array(rewards), np.array(actions)


@BOTH
@pytest.mark.parametrize("observation", ["state", "picture", "both"])
def test_the_angle_shows_in_nothing_but_where_actions_lead(observation, inertia):
    suite, rng = suite_of(observation=observation, inertia=inertia), np.random.default_rng(0)
    one, other = (suite.make(task_at(suite, angle)) for angle in (0.5, -2.0))
    first, second = (env.reset(seed=1)[0] for env in (one, other))
    assert all(np.array_equal(first[key], second[key]) for key in first)
    for step in range(20):
        action = rng.uniform(-1, 1, 2)
        first, second = (env.step(action)[0] for env in (one, other))
        if step < 3:
            assert not any(np.array_equal(first[key], second[key]) for key in first)


@BOTH
def test_turning_actions_back_undoes_the_angle(inertia):
    suite, rng = suite_of(inertia=inertia), np.random.default_rng(0)
    plan = iter(0.7 * rng.uniform(-1, 1, (40, 2)))  # turned, they stay in the action box
    straight = play(suite.make(task_at(suite, 0.0)), 3, lambda _: next(plan))
    wanted = iter(straight[2])
    back = play(suite.make(task_at(suite, 2.1)), 3, lambda _: turned(next(wanted), -2.1))
    np.testing.assert_allclose(back[0], straight[0], atol=1e-6)
    wanted = iter(straight[2])
    wrong = play(suite.make(task_at(suite, 2.1)), 3, lambda _: turned(next(wanted), 2.1))
    assert np.abs(wrong[0] - straight[0]).max() > 0.1


def test_equations_of_motion_and_rewards_by_hand():
    suite = suite_of()
    env = suite.make(task_at(suite, math.pi / 2))
    env.reset(seed=0)
    env._state = np.array([0.2, 0.0])
    _, reward, _, _, info = env.step(np.array([1.0, 0.5]))  # turned to the left: (-0.5, 1)
    np.testing.assert_allclose(info["reward_inputs"], [0.05, 0.3], atol=1e-7)
    assert reward == pytest.approx(-(0.05**2 + 0.3**2) - 0.05 * 1.25) and not info["success"]
    _, reward, _, _, info = env.step(np.array([-9.0, 0.0]))  # clipped, then turned: (0, -1)
    np.testing.assert_allclose(info["reward_inputs"], [0.05, 0.0], atol=1e-7)
    assert reward == pytest.approx(-(0.05**2) - 0.05) and info["success"]


def test_with_inertia_actions_change_the_velocity_and_walls_end_it():
    suite = suite_of(inertia=True)
    env = suite.make(task_at(suite, math.pi))
    env.reset(seed=0)
    env._state = np.array([0.0, 0.9, 0.4, 2.0])
    info = env.step(np.array([1.0, 0.0]))[4]  # turned around: (-1, 0)
    np.testing.assert_allclose(info["reward_inputs"], [-0.012, 1.0, -0.12, 0.0], atol=1e-7)


@BOTH
def test_proprioception_is_what_rewards_are_computed_from(inertia):
    suite = suite_of(inertia=inertia, observation="both")
    env = suite.make(suite.tasks("test")[3])
    observation, info = env.reset(seed=0)
    for _ in range(5):
        assert observation["proprio"].shape == (4 if inertia else 2,)
        assert np.array_equal(observation["proprio"], info["reward_inputs"])
        assert observation["image_top"].shape == (16, 16, 3)
        observation, *_, info = env.step(np.ones(2))


def best_return(suite, start):
    """The optimum of the turned-back axes as bounded least squares, from responses of the environment itself."""
    steps, size = suite.max_episode_steps, len(suite.reward_input_names)
    states, response = np.zeros((steps, size)), np.zeros((steps, steps))
    for push in range(steps):
        state = np.zeros(size)
        for step in range(steps):
            state = suite.moved(state, np.array([0.1 * (step == push), 0.0]))
            states[step] = state
        response[:, push] = states[:, 0] / 0.1
    system = np.concatenate([response, np.sqrt(0.05) * np.eye(steps)])
    total = 0.0
    for place in start[:2]:
        aim = np.concatenate([np.full(steps, -place), np.zeros(steps)])
        total -= 2 * lsq_linear(system, aim, (-1.0, 1.0), tol=1e-12).cost
    return total


@BOTH
def test_the_script_is_the_optimum_within_the_action_box(inertia):
    suite, largest = suite_of(inertia=inertia), []
    for seed, task in enumerate(suite.sample("test", 7, 0)):
        states, rewards, actions = play(suite.make(task), seed, suite.scripted(task))
        angle, start = task.dynamics["angle_radians"], states[0].copy()
        start[:2] = turned(start[:2], -angle)  # the frame in which the action box is upright
        assert rewards.sum() == pytest.approx(best_return(suite, start), abs=1e-5)
        assert np.abs(states[1:, :2]).max() < 1.0  # no wall was of help
        largest.append(np.abs(actions).max())
    assert max(largest) == 1.0  # the box was felt


@BOTH
def test_no_perturbed_script_does_better(inertia, rollout):
    suite, rng = suite_of(inertia=inertia), np.random.default_rng(0)
    task = suite.tasks("test")[4]
    env, policy = suite.make(task), suite.scripted(task)
    best = rollout(env, policy, 2)[0]
    for _ in range(20):
        policy.reset(rng)
        shift = 0.1 * rng.standard_normal(2)
        assert rollout(env, lambda inputs, shift=shift: policy(inputs) + shift, 2)[0] < best
    unaware = suite.scripted(task_at(suite, 0.0))
    assert rollout(env, unaware, 2)[0] < best - 1.0


def test_no_memoryless_linear_policy_is_good_on_the_whole_circle(rollout):
    """What makes adapting pay: what solves one angle loses more on the opposite one than doing nothing does."""
    suite = suite_of()
    ahead, back = task_at(suite, 0.0), task_at(suite, math.pi)
    returns = {}
    for task, name in ((ahead, "ahead"), (back, "back")):
        policy = suite.scripted(ahead)
        policy.reset(None)
        returns[name] = rollout(suite.make(task), policy, 0)[0]
    nothing = rollout(suite.make(back), lambda _: np.zeros(2), 0)[0]
    assert returns["ahead"] > nothing / 4 > nothing > returns["back"]


@pytest.mark.parametrize(("largest", "train", "test"), [(math.pi, 100, 20), (1.5, 48, 10), (0.25, 8, 2)])
def test_test_angles_lie_among_train_angles_within_the_range(largest, train, test):
    suite = suite_of(largest_radians=largest)
    learned, held = angles(suite.tasks("train")), angles(suite.tasks("test"))
    assert (len(learned), len(held)) == (train, test)
    assert max(abs(learned).max(), abs(held).max()) <= largest
    distance = np.abs(held[:, None] - learned[None]).min(1)
    assert distance.min() > 0.05 and distance.max() < 0.06
    assert all(suite.references(task) for split in ("train", "test") for task in suite.tasks(split))


@pytest.mark.parametrize(("split", "count"), [("train", 10), ("train", 33), ("test", 7), ("test", 1), ("test", 20)])
def test_samples_are_evenly_spread_over_the_circle(split, count):
    suite, seen = suite_of(), set()
    for seed in range(5):
        chosen = suite.sample(split, count, seed)
        assert len(set(chosen)) == count
        gaps = np.diff(np.sort(angles(chosen)), append=np.sort(angles(chosen))[0] + 2 * math.pi)
        apart = 2 * math.pi / len(suite.tasks(split))
        assert np.ptp(gaps) < 2.01 * apart and gaps.mean() == pytest.approx(2 * math.pi / count)
        seen.add(frozenset(chosen))
    assert len(seen) > 1 or count == len(suite.tasks(split))


def outputs(vector, seeds, actions, alive):
    """All that a vector says of an episode, flat."""
    said = [vector.reset(seeds)]
    said += [vector.step(action, some) for action, some in zip(actions, alive, strict=True)]
    found = []
    for step in said:
        for part in step:
            found += list(part.values()) if isinstance(part, dict) else [part]
    return [*found, vector.render(0)]


@BOTH
@pytest.mark.parametrize("observation", ["state", "both"])
def test_native_rows_are_bit_for_bit_ordinary_ones(observation, inertia):
    suite = suite_of(inertia=inertia, observation=observation, episode_steps=9)
    tasks = suite.sample("train", 20, seed=0) + suite.sample("test", 3, seed=0)
    rng = np.random.default_rng(0)
    actions = 2.0 * rng.uniform(-1, 1, (12, 23, 2)).astype(np.float32)  # some beyond the box
    alive = rng.uniform(size=(12, 23)) < 0.8  # some pause and go on
    alive &= alive.cumsum(0) <= 9
    native, ordinary = suite.make_vector(tasks), Rows([suite.make(task) for task in tasks])
    assert not isinstance(native, Rows) and native.render_fps == ordinary.render_fps
    for seeds in (np.arange(23), np.arange(23) + 100):
        pairs = zip(*(outputs(v, seeds, actions, alive) for v in (native, ordinary)), strict=True)
        for one, other in pairs:
            assert one.dtype == other.dtype and np.array_equal(one, other)
    assert 0 < (alive.sum(0) == 9).sum() < 23


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"observation": "pixels"}, "unknown observation"),
        ({"inertia": 1}, "inertia is 1"),
        ({"largest_radians": 0.1}, "largest_radians is 0.1"),
        ({"largest_radians": 4.0}, "largest_radians is 4.0"),
        ({"episode_steps": 0}, "episode_steps is 0"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(SuiteError, match=said):
        suite_of(**options)


def test_angles_beyond_half_a_turn_are_refused():
    suite = suite_of()
    with pytest.raises(SuiteError, match="angle_radians"):
        suite.make(task_at(suite, 4.0))
