"""Every registered distribution keeps the contract of TaskDistribution and of Gymnasium."""

import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import task_suites
from task_suites import Distractor, SuiteError, Task, references, registry

# Other names of classes that are held to all this by their fast ones.
SLOW = ("metaworld/ml", "metaworld/custom")
# Where some tasks' scores stay raw, or all: no script is known, or none that beats chance on them.
SOME_RAW = ("locomotion/", "meld/cheetah_velocity", "mine/")
ALL_RAW = ("locomotion/humanoid", "mine/")


def marked(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name.startswith(SLOW) else name for name in names]


OWN = "mine/reacher"  # a user's environment is held to the same contract
NAMES = marked([*task_suites.names(), OWN])
SCALED = marked(name for name in task_suites.names() if not name.startswith(ALL_RAW))
# Success as references.json has it: at the last step. Counting to the end takes no skill, and the script of
# the hopper moves on by less than its stride.
UNSOLVED = ("toy/counting", "locomotion/hopper_run", "locomotion/hopper_upright", *ALL_RAW)
SOLVED = marked(name for name in task_suites.names() if not name.startswith(UNSOLVED))
DRAWN = marked(name for name in [*task_suites.names(), OWN] if not name.startswith("toy/"))
# Some of their tasks change the dynamics and others do not, or hide other things: no vector of one length.
DIFFERENT_WORDS = tuple(
    f"locomotion/{body}_{task}"
    for body in ("ant", "half_cheetah", "hopper", "humanoid", "swimmer", "walker2d")
    for task in ("run", "upright")
) + ("metaworld/ml10", "metaworld/ml25", "metaworld/ml45", "metaworld/custom")
OPTIONS = {
    "meld": {"image_size": 32},
    "metaworld": {"image_size": 32, "antialias": False},
    "mine": {"image_size": 32},
    "tabletop": {"image_size": 32},
}
BLIND = {"meld": {"cameras": ()}, "metaworld": {"state": True}, "tabletop": {"cameras": ()}}
STEPS = 6


def swing(inputs, action, cost):
    """Turns the joint ahead at little torque."""
    return inputs[..., 0] - cost * (action * action).sum(-1)


@pytest.fixture(autouse=True, scope="module")
def own():
    """Registers OWN, and makes its name free again."""
    task_suites.gymnasium_task(
        OWN,
        "Reacher-v5",
        reward={"swing": swing},
        reward_inputs=lambda env: env.data.qpos[:1],
        reward_input_names=("joint_radians",),
        tasks={"train": [{"cost": 0.1}], "test": [{"cost": 0.2}]},
        pixels="mujoco",
    )
    yield
    registry._ENTRIES.pop(OWN)
    gymnasium.registry.pop(task_suites.gymnasium_id(OWN))


def suite_of(name, **options):
    return task_suites.get(name, **{**OPTIONS.get(name.split("/")[0], {}), **options})


def play(env, seed, steps=STEPS):
    """Return (observations, rewards, infos) of one start and some random actions that `seed` determines."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    observations, rewards, infos, actions = [observation], [], [info], []
    for _ in range(steps):
        actions.append(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
    return observations, rewards, infos, actions


@pytest.fixture(params=NAMES)
def suite(request):
    return suite_of(request.param)


@pytest.fixture
def env(suite):
    env = suite.make(suite.sample("train", 1, 0)[0])
    yield env
    env.close()


def test_spaces_dtypes_and_info(suite, env):
    assert env.observation_space == suite.observation_space
    assert env.action_space == suite.action_space
    observations, rewards, infos, _ = play(env, 0)
    for observation in observations:
        assert set(observation) == set(suite.observation_space.spaces)
        assert suite.observation_space.contains(observation)
        assert np.isfinite(observation.get("proprio", 0.0)).all()
    assert all(type(reward) is float and np.isfinite(reward) for reward in rewards)
    for info in infos:
        assert type(info["success"]) is bool
        assert info["task"] == env.task
        inputs = info["reward_inputs"]
        assert inputs.dtype == np.float32 and inputs.shape == (len(suite.reward_input_names),)


def test_a_seed_determines_the_episode_and_seeds_differ(suite, env):
    first, again, other = play(env, 3), play(env, 3), play(env, 4)
    for key in suite.observation_space.spaces:
        for a, b in zip(first[0], again[0], strict=True):
            assert np.array_equal(a[key], b[key])
    assert first[1] == again[1]
    assert not np.array_equal(first[2][0]["reward_inputs"], other[2][0]["reward_inputs"])
    assert any(not np.array_equal(first[0][0][key], other[0][0][key]) for key in first[0][0])


def test_a_second_environment_plays_the_same_episode(suite, env):
    other = suite.make(suite.sample("train", 1, 0)[0])
    play(other, 5)  # its history must not matter
    for a, b in zip(play(env, 3)[0], play(other, 3)[0], strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)
    other.close()


def test_rows_play_what_environments_play_and_stand_still_when_told(suite):
    tasks = suite.sample("train", 1, 0) + suite.sample("test", 1, 0)
    alone, envs = [], [suite.make(task) for task in tasks]
    for seed, env in zip((3, 4), envs, strict=True):
        alone.append(play(env, seed, steps=2))
    vector = suite.make_vector(tasks)
    shown = [vector.reset([3, 4])]
    for actions, alive in ((0, [True, True]), (1, [True, False])):
        given = np.stack([row[3][actions] for row in alone])
        observation, reward, terminated, truncated, info = vector.step(given, np.array(alive))
        shown.append((observation, info))
        paid = [row[1][actions] * go for row, go in zip(alone, alive, strict=True)]
        assert reward.tolist() == paid
        assert terminated.dtype == truncated.dtype == np.bool_
    for row, steps in enumerate(([0, 1, 2], [0, 1, 1])):
        observations, _, infos, _ = alone[row]
        for (observation, info), step in zip(shown, steps, strict=True):
            assert all(np.array_equal(observation[key][row], observations[step][key]) for key in observation)
            assert np.array_equal(info["reward_inputs"][row], infos[step]["reward_inputs"])
            assert info["success"][row] == infos[step]["success"]
    picture, expected = vector.render(1), envs[1].render()  # it has stood still since its first step
    assert (picture is None) == (expected is None)
    for env in (*envs, vector, vector):
        env.close()


def test_task_vectors_tell_tasks_apart_and_are_of_one_length(suite):
    tasks = suite.tasks("train") + suite.tasks("test")
    try:
        vectors = [suite.task_vector(task) for task in tasks]
    except SuiteError as error:
        assert suite.name.startswith(DIFFERENT_WORDS)
        assert "in some tasks and not in others" in str(error) and "\n" not in str(error)
        return
    assert not suite.name.startswith(DIFFERENT_WORDS)
    assert {(vector.dtype, vector.shape) for vector in vectors} == {(np.dtype("float32"), vectors[0].shape)}
    assert len({vector.tobytes() for vector in vectors}) == len(tasks)


def test_reset_without_a_seed_goes_on_with_the_own_stream(env):
    env.reset(seed=1)
    second = env.reset()[1]["reward_inputs"]
    third = env.reset()[1]["reward_inputs"]
    assert not np.array_equal(second, third)
    env.reset(seed=1)
    assert np.array_equal(env.reset()[1]["reward_inputs"], second)


def test_observations_share_no_memory(env):
    observations, _, infos, _ = play(env, 0, steps=3)
    arrays = [(index, array) for index, item in enumerate(observations) for array in item.values()]
    arrays += [(index, info["reward_inputs"]) for index, info in enumerate(infos)]
    for index, array in arrays:
        assert not any(np.shares_memory(array, other) for at, other in arrays if at != index)


def test_reward_of_the_distribution_is_what_was_paid(suite):
    for split in ("train", "test"):
        task = suite.sample(split, 1, 1)[0]
        env = suite.make(task)
        _, rewards, infos, actions = play(env, 7)
        env.close()
        inputs = np.stack([info["reward_inputs"] for info in infos[1:]])
        paid = suite.reward(task, inputs, np.stack(actions))
        assert paid.shape == (STEPS,)
        np.testing.assert_allclose(paid, rewards, rtol=0, atol=1e-6)
        again = suite.reward(task, inputs[None, :, None], np.stack(actions)[None, :, None])
        np.testing.assert_allclose(again[0, :, 0], rewards, rtol=0, atol=1e-6)
        successes = [info["success"] for info in infos[1:]]
        assert suite.success(task, inputs).tolist() == successes


def test_reward_takes_torch_tensors(suite):
    torch = pytest.importorskip("torch")
    task = suite.sample("test", 1, 1)[0]
    env = suite.make(task)
    _, rewards, infos, actions = play(env, 7)
    env.close()
    inputs = torch.tensor(np.stack([info["reward_inputs"] for info in infos[1:]]), requires_grad=True)
    paid = suite.reward(task, inputs, torch.tensor(np.stack(actions)))
    assert isinstance(paid, torch.Tensor) and paid.is_floating_point()
    np.testing.assert_allclose(paid.detach().numpy(), rewards, rtol=0, atol=1e-6)
    paid.sum().backward()
    assert torch.isfinite(inputs.grad).all()


def test_episodes_end_at_the_time_limit(suite, env):
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    for step in range(suite.max_episode_steps):
        _, _, terminated, truncated, info = env.step(action)
        assert terminated == bool(suite.terminated(env.task, info["reward_inputs"], action))
        assert truncated == (step == suite.max_episode_steps - 1 and not terminated)
        if terminated:
            break


@pytest.mark.parametrize("name", NAMES[:-1])  # OWN's is a wrapper, see test_adapter
def test_the_registered_environment_passes_gymnasiums_checker(name):
    env = gymnasium.make(task_suites.gymnasium_id(name), render_mode="rgb_array", **OPTIONS.get(name.split("/")[0], {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. the advice to bound every Box
        check_env(env.unwrapped, skip_close_check=True)
    assert env.unwrapped.render().shape[-1] == 3
    env.close()
    env.close()  # twice is allowed


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_takes_a_task_or_its_json(name):
    suite = suite_of(name)
    task = suite.sample("test", 1, 0)[0]
    for value in (task, task.to_json()):
        env = gymnasium.make(task_suites.gymnasium_id(name), task=value)
        assert env.env.task == task
        env.close()


def test_tasks_survive_json_and_hash(suite):
    for split in ("train", "test"):
        for task in suite.tasks(split):
            assert Task.from_json(task.to_json()) == task
            assert hash(Task.from_json(task.to_json())) == hash(task)
    assert Task.from_json(task.to_json()).to_json() == task.to_json()


def test_train_and_test_are_disjoint_and_sampling_has_no_repeats(suite):
    train, test = suite.tasks("train"), suite.tasks("test")
    assert not set(train) & set(test)
    for split, tasks in (("train", train), ("test", test)):
        sampled = suite.sample(split, len(tasks), 0)
        assert len(set(sampled)) == len(tasks) and set(sampled) == set(tasks)
        assert suite.sample(split, len(tasks), 0) == sampled
        with pytest.raises(SuiteError, match="asked for"):
            suite.sample(split, len(tasks) + 1, 0)


def test_wrong_use_is_told_in_one_line(suite, env):
    other = Task("nowhere", task_suites.Reward("none"))
    calls = [
        (lambda: suite.sample("validation", 1, 0), "split"),
        (lambda: suite.make(other), "family"),
        (lambda: task_suites.get(suite.name, imagesize=3), "image_size"),
        (lambda: suite_of(suite.name).make("task"), "expected a Task"),
    ]
    env.reset(seed=0)
    calls.append((lambda: env.step(np.zeros(99)), "finite numbers"))
    calls.append((lambda: env.step(np.full(env.action_space.shape, np.nan)), "finite numbers"))
    for call, message in calls:
        with pytest.raises(SuiteError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_step_before_reset_is_refused(env):
    with pytest.raises(SuiteError, match="reset"):
        env.step(np.zeros(env.action_space.shape))


def test_references_are_committed_and_ignore_distractors(suite):
    raw = [task for split in ("train", "test") for task in suite.tasks(split) if not suite.references(task)]
    assert not raw or suite.name.startswith(SOME_RAW)
    assert (len(raw) == len(suite.tasks("train") + suite.tasks("test"))) == suite.name.startswith(ALL_RAW)
    for split in ("train", "test"):
        for task in set(suite.tasks(split)) - set(raw):
            floor, reference = suite.references(task)
            assert reference > floor
            if suite.shows_distractors:
                distracted = task.replace(distractors=(task_suites.Distractor("video", 0.5, 3),))
                assert suite.references(distracted) == (floor, reference)


@pytest.mark.parametrize("suite", SCALED, indirect=True)
def test_the_script_reaches_the_reference(suite, rollout):
    tasks = [task for split in ("test", "train") for task in suite.sample(split, len(suite.tasks(split)), 0)]
    referenced = [task for task in tasks if suite.references(task)]
    alike = [task for task in referenced if suite.reference_key(task) == suite.reference_key(referenced[0])]
    quick = task_suites.get(suite.name, **BLIND.get(suite.name.split("/")[0], {}))
    returns = []
    for seed in range(5):
        task = alike[seed % len(alike)]
        env, policy = quick.make(task), quick.scripted(task)
        policy.reset(np.random.default_rng(seed))
        returns.append(rollout(env, policy, seed)[0])
        env.close()
    floor, reference = suite.references(task)
    assert np.mean(returns) > floor + 0.6 * (reference - floor)


@pytest.mark.parametrize("suite", NAMES, indirect=True)
def test_a_goal_lies_in_the_workspace_where_the_script_ends(suite):
    assert len(suite.workspace) in (0, 2) and set(suite.workspace) <= set(suite.reward_input_names)
    goals = {task: suite.goal(task) for split in ("train", "test") for task in suite.tasks(split)}
    if not suite.workspace:
        assert set(goals.values()) <= {None}
        return
    low, high = np.array(list(suite.workspace.values())).T
    columns = [suite.reward_input_names.index(name) for name in suite.workspace]
    known = {task: goal for task, goal in goals.items() if goal is not None}
    assert all((low <= goal).all() and (goal <= high).all() for goal in known.values())
    quick = task_suites.get(suite.name, **BLIND.get(suite.name.split("/")[0], {}))
    for task in list(known)[:2]:
        env, policy = quick.make(task), quick.scripted(task)
        policy.reset(np.random.default_rng(0))
        ended, info = False, env.reset(seed=0)[1]
        while not ended:
            _, _, terminated, truncated, info = env.step(policy(info["reward_inputs"]))
            ended = terminated or truncated
        assert np.abs(info["reward_inputs"][columns] - known[task]).max() < 0.05 * (high - low).max()
        env.close()


@pytest.mark.parametrize("suite", SOLVED, indirect=True)
def test_success_is_within_reach_and_not_by_chance(suite):
    entries = references.entries()
    known = [suite.reference_key(task) for split in ("train", "test") for task in suite.tasks(split)]
    known = [entries[key]["success"] for key in known if key in entries]
    scripted, random = (np.mean([rates[how] for rates in known]) for how in ("scripted", "random"))
    assert scripted > random + 0.1 and random < 0.5


@pytest.mark.parametrize("suite", DRAWN, indirect=True)
def test_distractors_leave_physics_and_rewards_alone(suite):
    name = suite.name
    if name.startswith("locomotion/"):
        suite = suite_of(name, cameras=("side",), image_size=16)
    plain = suite.tasks("train")[0]
    changed = tuple(Distractor(name, 1.0, 1) for name in ("objects", "textures", "video"))
    envs = [suite.make(task) for task in (plain, plain.replace(distractors=changed))]
    first, second = (play(env, 3, steps=3) for env in envs)
    assert first[1] == second[1]
    for a, b in zip(first[2], second[2], strict=True):
        assert np.array_equal(a["reward_inputs"], b["reward_inputs"]) and a["success"] == b["success"]
    pictures = [key for key in suite.observation_space.spaces if key.startswith("image_")]
    assert not all(np.array_equal(first[0][-1][key], second[0][-1][key]) for key in pictures)
    for env in envs:
        env.close()


@pytest.mark.parametrize("suite", NAMES[:-1], indirect=True)  # OWN's is told by its docstring
def test_rewards_are_told_in_words(suite):
    for split in ("train", "test"):
        told = [suite.describe(task) for task in suite.tasks(split)]
        for task, words in zip(suite.tasks(split), told, strict=True):
            assert task.reward.name in suite.reward_words, "reward_words lacks it"
            assert "{" not in words and "\n" not in words
            assert not words.startswith("reward "), "only the fallback is said"


def test_fingerprints_tell_options_apart(suite):
    assert suite.fingerprint() == suite_of(suite.name).fingerprint()
    assert suite.fingerprint() != suite_of(suite.name, image_size=48).fingerprint()


def test_the_package_imports_neither_torch_nor_meta_latent():
    import subprocess

    code = (
        "import sys, task_suites\n"
        "for name in task_suites.names(): task_suites.get(name)\n"
        "bad = {'torch', 'meta_latent'} & set(sys.modules); sys.exit(f'imported {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
