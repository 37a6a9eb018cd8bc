"""What an agent is shown in trials of episodes, and what replay, views and batches make of them.

Observations of toy/counting say which step of which episode they are, so that every frame can be told.
"""

import weakref

import gymnasium
import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, Shown, play, select
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import RunError, UserError
from meta_latent.rng import Streams
from meta_latent.types import Spec
from task_suites import Rows

LENGTHS = (2, 5, 3)


def suite(steps, ends="terminate"):
    return task_suites.get("toy/counting", episode_steps=steps, image_size=4, ends=ends)


SPEC = Spec.of(suite(1))


def rows(lengths=LENGTHS, ends="terminate"):
    """One environment per length of episode."""
    made = [suite(steps, ends) for steps in lengths]
    return Rows([one.make(one.sample("train", 1, 0)[0]) for one in made])


class Counter:
    """Counts, per row, the frames and rewards it was shown and the trials it began; writes down every step.

    The action is (frames shown / 100, 0), so that arrays tell what the carry held when it was chosen.
    """

    heads, updates = 1, 0

    def __init__(self, wanted=0):
        self.steps, self.begun, self.last, self.wanted = [], [], None, wanted

    def begin_task(self, batch_size):
        self.begun.append(batch_size)
        return {"frames": torch.zeros(batch_size), "paid": (torch.zeros(batch_size), None)}

    def act(self, step, carry, rng, explore):
        self.steps.append(step)
        frames = carry["frames"] + 1
        paid = carry["paid"][0] + step.reward * step.reward_present
        self.last = {"frames": frames, "paid": (paid, None)}
        return torch.stack([frames / 100, torch.zeros(len(frames))], -1), self.last

    def wants(self):
        return self.wanted

    def column(self, name, row):
        """One field of every step, as a row saw it."""
        return [float(getattr(step, name)[row]) for step in self.steps]


def seeds(trials, episodes):
    return np.arange(trials * episodes).reshape(trials, episodes)


def played(episodes=2, show=("reward",), lengths=LENGTHS, **more):
    probe = Counter()
    return probe, play(rows(lengths), probe, seeds(len(lengths), episodes), Streams(0), explore=True,
                       shown=Shown(show, **more), keep=True)  # fmt: skip


@pytest.mark.parametrize("episodes", [2, 3])
def test_a_trial_shows_every_frame_of_a_row_once(episodes):
    """Rows whose episode is over keep their carry; their last frames come before the next episode begins."""
    probe, result = played(episodes)
    assert probe.begun == [len(LENGTHS)]
    for b, steps in enumerate(LENGTHS):
        for e, episode in enumerate(result.episodes[b]):
            assert len(episode["reward"]) == steps + 1
            shown = e * (steps + 1) + 1 + np.arange(steps)
            np.testing.assert_allclose(episode["action"][1:, 0], shown / 100, rtol=1e-6)
            assert not episode["action"][0].any()
            assert episode["proprio"][:, 0].tolist() == list(range(steps + 1))
    # By the end the longest row was shown all but its very last frame, whose action nobody would take.
    assert probe.last["frames"][np.argmax(LENGTHS)] == episodes * (max(LENGTHS) + 1) - 1


@pytest.mark.parametrize("show", [("reward",), ()])
def test_all_rewards_of_finished_episodes_reach_the_carry_if_they_are_shown(show):
    probe, result = played(3, show)
    long = int(np.argmax(LENGTHS))
    whole = result.returns[long].sum() - result.episodes[long][-1]["reward"][-1]
    assert float(probe.last["paid"][0][long]) == pytest.approx(whole if show else 0, rel=1e-5)
    present = [set(probe.column("reward_present", b)) for b in range(len(LENGTHS))]
    assert present == [{0.0, 1.0} if show else {0.0}] * len(LENGTHS)
    if not show:
        assert all(not step.reward.any() for step in probe.steps)
    np.testing.assert_allclose(
        result.returns, [[e["reward"].sum() for e in trial] for trial in result.episodes], rtol=1e-5)  # fmt: skip


class Failing(gymnasium.Wrapper):
    """An environment that returns `wrong` as a number of `key` after `after` steps."""

    def __init__(self, env, key, wrong, after):
        super().__init__(env)
        self.key, self.wrong, self.after, self.taken = key, wrong, after, 0

    def reset(self, **given):
        observation, info = self.env.reset(**given)
        return self.spoilt(observation, 0.0, info)[::2]

    def step(self, action):
        self.taken += 1
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, reward, info = self.spoilt(observation, reward, info)
        return observation, reward, terminated, truncated, info

    def spoilt(self, observation, reward, info):
        if self.taken == self.after:
            number = {"proprio": observation, "reward_inputs": info}.get(self.key)
            if number is not None:
                number[self.key] = np.full_like(number[self.key], self.wrong)
            reward = self.wrong if self.key == "reward" else reward
        return observation, reward, info


@pytest.mark.parametrize("key", ["proprio", "reward", "reward_inputs"])
@pytest.mark.parametrize(("wrong", "after"), [(np.nan, 2), (-np.inf, 1), (np.nan, 0)])
def test_numbers_that_are_not_finite_are_refused_before_they_are_stored(key, wrong, after):
    if key == "reward" and not after:
        return
    good, bad = (suite(4).make(suite(4).sample("train", 1, 0)[0]) for _ in range(2))
    with pytest.raises(UserError, match=f"after {after} steps of an episode .* returned {wrong} in {key}: every numb"):
        play(Rows([good, Failing(bad, key, wrong, after)]), Counter(), seeds(2, 1), Streams(0), explore=True)


def test_what_a_row_says_whose_episode_is_over_is_not_looked_at():
    short, long = (suite(steps).make(suite(steps).sample("train", 1, 0)[0]) for steps in (2, 4))
    rows = Rows([short, long])
    step = rows.step

    def stepped(actions, alive):
        answer = step(actions, alive)
        answer[1][~alive] = np.nan
        return answer

    rows.step = stepped
    assert np.isfinite(play(rows, Counter(), seeds(2, 1), Streams(0), explore=True).returns).all()


@pytest.mark.parametrize("keep", [False, ("reward",), True])
def test_pictures_are_held_where_they_are_kept_alone(keep):
    """An evaluation of many long episodes would fill the memory."""
    pictures, held = [], []

    class Watched(Rows):
        def step(self, actions, alive):
            answer = super().step(actions, alive)
            pictures.append(weakref.ref(answer[0]["image_top"]))
            return answer

    def count(_):
        held.append(sum(picture() is not None for picture in pictures))

    made = Watched([one.make(one.sample("train", 1, 0)[0]) for one in (suite(30), suite(12))])
    found = play(made, Noise(2, NoiseConfig()), np.array([[0, 1], [2, 3]]), Streams(0), explore=True, keep=keep,
                 watch=count)  # fmt: skip
    assert max(held) == 30 if keep is True else max(held) <= 2
    kept = {key for trial in found.episodes for episode in trial for key in episode}
    assert "image_top" in kept if keep is True else kept == set(keep or ())


def test_rewards_are_absent_at_first_observations_only():
    probe, _ = played(2)
    for step in probe.steps:
        assert torch.equal(step.reward_present == 0, step.is_first)


def test_the_last_frame_of_each_row_is_shown_with_its_reward_before_the_next_episode():
    probe, result = played(2)
    between = max(LENGTHS)  # every row's own last instant, at once
    step = probe.steps[between]
    assert step.proprio[:, 0].tolist() == list(LENGTHS) and step.is_last.all() and step.is_terminal.all()
    assert step.reward.tolist() == [float(trial[0]["reward"][-1]) for trial in result.episodes]
    torch.testing.assert_close(
        step.action, torch.from_numpy(np.stack([t[0]["action"][-1] for t in result.episodes])))  # fmt: skip
    after = probe.steps[between + 1]
    assert after.is_first.all() and not after.action.any() and not after.is_last.any()
    assert len(probe.steps) == 2 * between + 1  # after the last episode comes nothing


def test_a_task_begins_once_a_trial():
    probe, result = played(3)
    first = [step.is_task_first.tolist() for step in probe.steps]
    assert first[0] == [True] * 3 and not np.array(first[1:]).any()
    assert sum(step.is_first.all() for step in probe.steps) == 3
    for trial in result.episodes:
        assert [episode["is_task_first"].nonzero()[0].tolist() for episode in trial] == [[0], [], []]
        assert [episode["is_first"].nonzero()[0].tolist() for episode in trial] == [[0]] * 3


@pytest.mark.parametrize("ends", ["terminate", "truncate"])
def test_ends_for_good_are_told_from_time_limits(ends):
    probe = Counter()
    result = play(rows(ends=ends), probe, seeds(3, 2), Streams(0), explore=True, keep=True)
    for (episode, _), steps in zip(result.episodes, LENGTHS, strict=True):
        assert episode["is_last"].nonzero()[0].tolist() == [steps]
        assert episode["is_terminal"].tolist() == [ends == "terminate" and t == steps for t in range(steps + 1)]
    assert result.success.all()


def test_privileged_inputs_and_the_task_are_shown_where_they_are_asked_for():
    told = torch.arange(6.0).view(3, 2)
    hidden, shown = (played(1, show, task=told)[0].steps for show in ((), ("inputs", "task")))
    assert all(step.task is None and step.reward_inputs is None for step in hidden)
    assert all(torch.equal(step.task, told) for step in shown)
    assert all(torch.equal(step.reward_inputs, step.proprio[:, :2]) for step in shown)


def test_carries_of_every_shape_are_selected_by_row():
    mask, new, old = torch.tensor([True, False]), torch.ones(2, 3), torch.zeros(2, 3)
    whole = {"a": (new, [new, None])}
    got = select(mask, whole, {"a": (old, [old, None])})
    assert got["a"][1][1] is None and torch.equal(got["a"][0], torch.tensor([[1.0] * 3, [0.0] * 3]))
    assert torch.equal(got["a"][1][0], got["a"][0])
    with pytest.raises(RunError, match="a carry holds tensors in dicts, tuples, lists and dataclasses, got int"):
        select(mask, {"a": 1}, {"a": 2})


# What replay makes of trials


def filled(trials=4, episodes=3, tasks=2, **config):
    """Trials of `LENGTHS[trial % 3]` steps an episode, of tasks in turn."""
    replay = SequenceReplay(SPEC, ReplayConfig(**config), heads=1)
    for k in range(trials):
        one = play(rows([LENGTHS[k % 3]]), Counter(), seeds(1, episodes) + k * episodes, Streams(0), explore=True,
                   shown=Shown(("reward",)), keep=True)  # fmt: skip
        for episode in one.episodes[0]:
            replay.add_episode(episode, task_index=k % tasks)
    return replay


def test_trials_are_whole_padded_and_in_order():
    batch = filled().trials(None, 3)
    lengths = [3 * (LENGTHS[k % 3] + 1) for k in range(4)]
    assert batch.valid.sum(1).tolist() == lengths and batch.valid.shape == (4, max(lengths))
    assert batch.task_index.tolist() == [0, 1, 0, 1]
    for b, length in enumerate(lengths):
        assert batch.valid[b, :length].all()
        steps = LENGTHS[b % 3]
        counted = batch.proprio[b, :length].view(3, steps + 1, 4)
        assert counted[:, :, 0].tolist() == [list(range(steps + 1))] * 3
        assert counted[:, 0, 1].tolist() == [3 * b, 3 * b + 1, 3 * b + 2]
        assert batch.is_task_first[b].nonzero().flatten().tolist() == [0]
        assert batch.is_first[b].sum() == 3
        for field in ("proprio", "action", "reward", "reward_present", "is_first", "is_last", "reward_inputs"):
            assert not getattr(batch, field)[b, length:].any(), field
        assert not batch.images["top"][b, length:].any()


@pytest.mark.parametrize("mixed", [False, True])
def test_frames_of_a_trial_are_places_among_all_frames_that_are_held(mixed):
    """What is cached per frame is found by them, without pictures too, and after the oldest were forgotten."""
    replay = filled(trials=12, segment=20, capacity=60)
    assert replay.evicted
    every = np.concatenate([replay.read(i)["proprio"] for i in range(len(replay.episodes))])
    batch = replay.trials(30, 2, np.random.default_rng(0), mixed, images=False)
    assert not batch.images and (batch.frames[~batch.valid] == 0).all()
    np.testing.assert_array_equal(every[batch.frames[batch.valid]], batch.proprio[batch.valid])


def test_shorter_trials_are_the_first_episodes_of_one():
    batch = filled().trials(None, 2)
    firsts = [batch.proprio[b][batch.is_first[b] & batch.valid[b], 1].tolist() for b in range(4)]
    assert firsts == [[3.0 * b, 3.0 * b + 1] for b in range(4)]
    with pytest.raises(UserError, match=r"no stored trial has 4 episodes.*transfer\.replay\.capacity"):
        filled().trials(None, 4)


@pytest.mark.parametrize("mixed", [False, True])
def test_drawn_trials_hold_one_task_each(mixed):
    replay, rng = filled(trials=6, tasks=3), np.random.default_rng(0)
    batch = replay.trials(400, 3, rng, mixed=mixed)
    found = set()
    for b in range(400):
        numbers = batch.proprio[b][batch.is_first[b] & batch.valid[b], 1].long()
        assert len(set(numbers.tolist())) == 3
        assert (numbers // 3 % 3 == batch.task_index[b]).all()  # episodes 3 k to 3 k + 2 are of trial k
        assert batch.is_task_first[b].nonzero().flatten().tolist() == [0]
        found.add(tuple(numbers.tolist()))
    consecutive = {(3 * k, 3 * k + 1, 3 * k + 2) for k in range(6)}
    assert found == consecutive if not mixed else len(found) > 100


def test_views_hold_one_task_or_what_is_new():
    replay = filled()
    one = replay.view(tasks=1)
    assert [one.read(k)["proprio"][0, 1] for k in range(6)] == [3, 4, 5, 9, 10, 11] and len(one.episodes) == 6
    before = replay.added
    for episode in play(rows([2]), Counter(), seeds(1, 3) + 50, Streams(0), explore=True, keep=True).episodes[0]:
        replay.add_episode(episode, task_index=1)
    fresh = replay.view(since=before)
    assert [fresh.read(k)["proprio"][0, 1] for k in range(len(fresh.episodes))] == [50, 51, 52]
    assert len(replay.view(tasks=[0], since=before).episodes) == 0
    assert set(fresh.transitions().episode.tolist()) == {12, 13, 14}  # numbers are those of the whole
    assert [e.number for e in fresh.view(since=13).episodes] == [13, 14]
    assert replay.subset([0, 2, 3]).whole_trials() == [[0], [2]]  # episode 1 is missing between 0 and 2
    assert fresh.trials(None, 3).valid.all() and len(replay.view().episodes) == len(replay.episodes) == 15


def test_transitions_are_in_order_and_never_lead_into_the_next_episode():
    replay = filled()
    found, steps = replay.transitions(), [LENGTHS[k // 3 % 3] for k in range(12)]
    assert len(found.reward) == sum(steps) == len(replay)
    assert found.episode.tolist() == np.repeat(np.arange(12), steps).tolist()
    assert found.proprio[:, 0].tolist() == [t for n in steps for t in range(n)]
    assert torch.equal(found.next_proprio[:, 0], found.proprio[:, 0] + 1)
    assert torch.equal(found.next_proprio[:, 1], found.proprio[:, 1])
    assert torch.equal(found.proprio[:, 1].long(), found.episode)
    torch.testing.assert_close(found.next_proprio[:, 2:], found.action)  # the task says which action led there
    torch.testing.assert_close(found.reward, 0.1 * found.next_proprio[:, 0] + found.action[:, 0])
    assert found.terminal.tolist() == [t == n - 1 for n in steps for t in range(n)]
    assert torch.equal(found.reward_inputs, found.proprio[:, :2])
    assert torch.equal(found.next_reward_inputs, found.next_proprio[:, :2])
    assert torch.equal(found.task_index, found.episode // 3 % 2)


def test_trials_that_lost_their_beginning_are_gone_with_it():
    """Segments are forgotten whole, so a trial can be cut in two; episode numbers go on."""
    replay = filled(trials=8, capacity=30, segment=10)
    assert replay.evicted > 0 and replay.evicted % 3 != 0
    batch = replay.trials(None, 3)
    kept = batch.proprio[:, 0, 1].long().tolist()
    assert kept == [3 * k for k in range(8) if 3 * k >= replay.evicted]
    assert replay.transitions().episode[0] == replay.evicted == replay.read(0)["proprio"][0, 1]
    numbers = replay.view(since=replay.added - 2)
    assert [numbers.read(k)["proprio"][0, 1] for k in range(2)] == [22, 23]
    assert len(replay.view(since=0).episodes) == len(replay.episodes)
