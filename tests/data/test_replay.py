"""Replay: what was collected comes back at the right place, from memory and from disk."""

import numpy as np
import pytest
import torch

import task_suites
from meta_latent.data.collect import Noise, NoiseConfig, Scripted, Shown, play_episode
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.data.segments import layout, predicted_bytes
from meta_latent.errors import UserError
from meta_latent.experiment.runs import checkpoint
from meta_latent.rng import Streams
from meta_latent.types import Spec

SUITE = task_suites.get("toy/counting", episode_steps=7, image_size=4)
SPEC = Spec.of(SUITE)
TASK = SUITE.sample("train", 1, 0)[0]


class Probe:
    """Acts so that each action tells which observation it followed: (0.01 * step, 0.001 * episode)."""

    def begin_task(self, batch_size):
        self.seen = []

    def act(self, step, carry, rng, explore):
        row = (step.proprio[0].numpy(), step.action[0].numpy(), float(step.reward[0]), bool(step.is_first[0]))
        self.seen.append(row)
        return step.proprio[:, :2] * torch.tensor([0.01, 0.001]), carry


def episodes(count, suite=SUITE):
    rows = suite.make_vector([TASK])
    return [play_episode(rows, Probe(), k, Streams(0)) for k in range(count)]


def filled(count=6, folder=None, heads=3, suite=SUITE, **config):
    replay = SequenceReplay(SPEC, ReplayConfig(**config), folder, heads)
    for k, episode in enumerate(episodes(count, suite)):
        replay.add_episode(episode, np.array([k % 2, 1, 0], bool), k % 4)
    return replay


def check_batch(batch, length=4):
    """What the counting task and the probe say about every step of a batch."""
    step, episode = batch.proprio[..., 0], batch.proprio[..., 1]
    assert (step[:, 1:] == step[:, :-1] + 1).all() and (episode == episode[:, :1]).all()  # never across episodes
    first = step == 0
    assert torch.equal(batch.is_first, first) and torch.equal(batch.is_task_first, first)
    assert torch.equal(batch.is_last, step == 7) and not batch.is_terminal.any()
    # action[t] and reward[t] led to observation[t]: the probe chose it seeing step - 1
    wanted = torch.stack([0.01 * (step - 1), 0.001 * episode], -1) * ~first[..., None]
    torch.testing.assert_close(batch.action, wanted)
    torch.testing.assert_close(batch.proprio[..., 2:], wanted)  # what the environment says led there
    torch.testing.assert_close(batch.reward, (0.1 * step + 0.01 * (step - 1)) * ~first)
    assert torch.equal(batch.reward_present, (~first).float())
    assert torch.equal(batch.reward_inputs, batch.proprio[..., :2])
    assert torch.equal(batch.images["top"][..., 0, 0, 0].float(), step)
    assert torch.equal(batch.images["top"][..., 0, 0, 1].float(), episode)
    assert torch.equal(batch.task_index, episode[:, 0].long() % 4)
    mask = torch.stack([episode[:, 0] % 2, torch.ones(len(step)), torch.zeros(len(step))], -1).bool()
    assert torch.equal(batch.head_mask, mask)
    assert torch.equal(batch.frames, (8 * episode + step).long())
    assert batch.reward.shape[1] == length


def test_an_episode_in_the_time_convention():
    probe = Probe()
    arrays = play_episode(SUITE.make_vector([TASK]), probe, 3, Streams(0), shown=Shown(("reward",)))
    assert {len(x) for x in arrays.values()} == {8}
    assert arrays["action"][0].tolist() == [0, 0] and arrays["reward"][0] == arrays["reward_present"][0] == 0
    assert arrays["success"].tolist() == [False] * 7 + [True]
    # the behaviour saw each observation with the action and reward that led to it
    for t, (proprio, action, reward, first) in enumerate(probe.seen):
        assert np.array_equal(proprio, arrays["proprio"][t]) and np.array_equal(action, arrays["action"][t])
        assert reward == pytest.approx(arrays["reward"][t]) and first == (t == 0)


def test_termination_is_not_a_time_limit():
    suite = task_suites.get("toy/counting", episode_steps=7, image_size=4, ends="terminate")
    arrays = play_episode(suite.make_vector([TASK]), Probe(), 3, Streams(0))
    assert arrays["is_terminal"].tolist() == arrays["is_last"].tolist() == [False] * 7 + [True]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("segment", [1, 20, 10_000])
def test_batches_hold_what_was_collected(tmp_path, mapped, segment):
    replay = filled(folder=tmp_path, memory_map=mapped, segment=segment)
    rng = np.random.default_rng(0)
    for flush in (False, True):
        if flush:
            replay.flush()
        check_batch(replay.sequences(200, 4, rng))
    assert (len(replay), replay.frames, len(replay.episodes)) == (42, 48, 6)


def test_windows_are_uniform_and_stay_among_the_chosen():
    batch = filled().subset([1, 4]).sequences(20_000, 5, np.random.default_rng(0))
    places, counts = torch.unique(batch.frames[:, 0], return_counts=True)
    assert places.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]  # counted in the replay of the chosen ones
    assert (counts - 2500).abs().max() < 5 * (20_000 / 8 * 7 / 8) ** 0.5


def test_too_long_a_window_is_refused():
    with pytest.raises(UserError, match="has 8 observations, windows take 9"):
        filled().sequences(1, 9, np.random.default_rng(0))


def same(a, b):
    assert len(a.episodes) == len(b.episodes) and len(a) == len(b) and a.env_steps == b.env_steps
    for k in range(len(a.episodes)):
        x, y = a.read(k), b.read(k)
        assert x.keys() == y.keys() and all(np.array_equal(x[key], y[key]) for key in x)


def test_disk_equals_memory_also_half_flushed(tmp_path):
    memory, disk = filled(9), filled(5, tmp_path, memory_map=True, segment=30)
    disk.flush()
    for k, episode in enumerate(episodes(9)[5:], 5):
        disk.add_episode(episode, np.array([k % 2, 1, 0], bool), k % 4)
    same(memory, disk)
    check_batch(disk.sequences(300, 4, np.random.default_rng(1)))


@pytest.mark.parametrize("mapped", [False, True])
def test_state_forgets_what_was_written_after_it(tmp_path, mapped):
    replay = filled(5, tmp_path / "replay", memory_map=mapped, segment=30)
    replay.flush()
    checkpoint.save(tmp_path / "checkpoint", replay.state())
    for episode in episodes(9)[5:]:
        replay.add_episode(episode)
    replay.flush()
    again = SequenceReplay(SPEC, ReplayConfig(memory_map=mapped, segment=30), tmp_path / "replay", 3)
    again.load_state(checkpoint.load(tmp_path / "checkpoint"))
    same(again, filled(5))
    for k, episode in enumerate(episodes(9)[5:], 5):
        again.add_episode(episode, np.array([k % 2, 1, 0], bool), k % 4)
    again.flush()
    same(again, filled(9))
    last = SequenceReplay(SPEC, ReplayConfig(memory_map=mapped, segment=30), tmp_path / "replay", 3)
    last.load_state(again.state())
    same(last, filled(9))


def test_a_truncated_file_is_refused(tmp_path):
    replay = filled(5, tmp_path)
    replay.flush()
    path = tmp_path / "segment_000000" / "reward.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path}: 159 bytes, the checkpoint counts on 160"):
        SequenceReplay(SPEC, ReplayConfig(), tmp_path, 3).load_state(replay.state())


def test_eviction_forgets_the_oldest_and_waits_for_prune(tmp_path):
    replay = SequenceReplay(SPEC, ReplayConfig(capacity=25, segment=16), tmp_path, 3)
    for k, episode in enumerate(episodes(12)):
        replay.add_episode(episode)
        assert len(replay) >= min(7 * (k + 1), 25)
        assert replay.env_steps == 7 * (k + 1) and len(replay.episodes) + replay.evicted == k + 1
        replay.flush()
    assert len(replay) < 25 + 16 and replay.read(0)["proprio"][0, 1] == replay.evicted
    assert len(list(tmp_path.iterdir())) == 6
    again = SequenceReplay(SPEC, ReplayConfig(capacity=25, segment=16), tmp_path, 3)
    again.load_state(replay.state())
    same(again, replay)
    assert again.evicted == replay.evicted
    replay.prune()
    assert len(list(tmp_path.iterdir())) == len(replay.segments) == 2


def test_that_an_episode_ended_for_good_outlasts_it(tmp_path):
    config = ReplayConfig(capacity=25, segment=16)
    replay = SequenceReplay(SPEC, config, tmp_path, 3)
    for k, episode in enumerate(episodes(12)):
        assert replay.ended == (k > 1)
        fatal = episode["is_last"] if k == 1 else np.zeros(8, bool)
        replay.add_episode({**episode, "is_terminal": fatal})
    assert replay.evicted > 2 and replay.view().ended
    replay.flush()
    state, again = replay.state(), SequenceReplay(SPEC, config, tmp_path, 3)
    again.load_state(state)
    assert again.ended
    again.load_state({**state, "ended": False})
    assert not again.ended
    before = {key: value for key, value in state.items() if key != "ended"}  # saved before it was: what is held tells
    again.load_state(before)
    assert not again.ended
    replay.add_episode({**next(iter(episodes(1))), "is_terminal": np.arange(8) == 7})
    replay.flush()
    again.load_state({key: value for key, value in replay.state().items() if key != "ended"})
    assert again.ended


def test_a_subset_shares_the_data():
    replay = filled(6)
    subset = replay.subset([4, 1])
    assert [subset.read(k)["proprio"][0, 1] for k in range(2)] == [4, 1] and len(subset) == 14
    assert len(replay.episodes) == 6
    assert np.shares_memory(subset.read(0)["image_top"], replay.read(4)["image_top"])


@pytest.mark.parametrize("mapped", [False, True])
def test_predicted_bytes_are_exact(tmp_path, mapped):
    replay = filled(6, tmp_path, memory_map=mapped, segment=48)
    replay.flush()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.bin")) == predicted_bytes(SPEC, replay.frames)
    if not mapped:
        assert sum(x.nbytes for x in replay.segments[0].arrays.values()) == predicted_bytes(SPEC, replay.frames)


def anonymous_megabytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024


def memory_of(folder, frames, bound):
    """Write `frames` 64x64 frames memory-mapped, read batches; anonymous memory may grow by `bound` MB."""
    spec = Spec({"top": (64, 64, 3)}, 4, 2, 4)
    replay = SequenceReplay(spec, ReplayConfig(memory_map=True), folder, 2)
    length, image = 50, np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), np.uint8)
    arrays = {k: np.zeros((length, *shape), dtype) for k, (dtype, shape) in layout(spec).items()}
    arrays |= {name: np.zeros(length, bool) for name in ("is_first", "is_last", "is_terminal", "is_task_first")}
    rng, before = np.random.default_rng(0), anonymous_megabytes()
    highest = 0.0
    for _ in range(frames // length):
        replay.add_episode(arrays | {"image_top": image.copy()})
        if len(replay.episodes) % 7 == 0:
            replay.sequences(8, 6, rng)
            highest = max(highest, anonymous_megabytes() - before)
    replay.flush()
    replay.sequences(16, 6, rng)
    assert max(highest, anonymous_megabytes() - before) < bound
    return sum(path.stat().st_size for path in folder.rglob("*.bin")), predicted_bytes(spec, frames)


def test_memory_mapped_frames_stay_on_the_disk(tmp_path):
    found, predicted = memory_of(tmp_path, 5000, 30)  # 61 MB of frames
    assert found == predicted


@pytest.mark.slow
def test_a_hundred_thousand_frames(tmp_path):
    found, predicted = memory_of(tmp_path, 100_000, 50)
    assert found == predicted and 1.2e9 < found < 1.25e9


def test_memory_map_needs_a_folder():
    with pytest.raises(UserError, match="folder"):
        SequenceReplay(SPEC, ReplayConfig(memory_map=True))


def test_as_many_heads_have_masks_as_there_are_bits_for():
    replay = SequenceReplay(SPEC, ReplayConfig(), heads=32)
    replay.add_episode(episodes(1)[0])
    assert replay.read(0)["head_mask"].sum() == 32
    with pytest.raises(UserError, match="33 heads"):
        SequenceReplay(SPEC, ReplayConfig(), heads=33)


def test_behaviours_depend_on_their_generator_alone():
    rows = SUITE.make_vector([TASK])
    for make in (lambda: Noise(2, NoiseConfig()), lambda: Scripted([SUITE.scripted(TASK)], 2, 0.5)):
        a, b, c = (play_episode(rows, make(), 0, Streams(s), shown=Shown(("inputs",)))["action"] for s in (1, 1, 2))
        assert np.array_equal(a, b) and not np.array_equal(a, c) and np.abs(a).max() <= 1
    with pytest.raises(UserError, match="3 values"):
        Noise(2, NoiseConfig(drift=(0.0, 0.0, 1.0)))


@pytest.mark.parametrize("mapped", [False, True])
def test_relabelled_episodes_are_of_one_task_and_paid_anew(tmp_path, mapped):
    replay = filled(folder=tmp_path, memory_map=mapped, segment=20)
    replay.flush()
    before = [replay.read(k) for k in range(6)]
    replay.relabel(lambda inputs, action: 2 * inputs[:, 0] + action[:, 0] + 5)
    for k in range(6):
        episode = replay.read(k)
        wanted = (2 * episode["reward_inputs"][:, 0] + episode["action"][:, 0] + 5) * episode["reward_present"]
        np.testing.assert_allclose(episode["reward"], wanted)
        assert episode["task_index"] == 0 and before[k]["task_index"] == k % 4
        assert np.array_equal(episode["proprio"], before[k]["proprio"])
    assert len(replay.view(tasks=[0]).episodes) == 6
    again = SequenceReplay(SPEC, ReplayConfig(memory_map=mapped, segment=20), tmp_path, 3)
    again.load_state(replay.state())
    assert np.array_equal(again.read(1)["reward"], before[1]["reward"])  # the files are as they were


def test_no_episodes_make_no_transitions():
    none, some = filled().view(tasks=[99]).transitions(), filled().transitions()
    for name, values in vars(some).items():
        assert vars(none)[name].shape == (0, *values.shape[1:]) and vars(none)[name].dtype == values.dtype
