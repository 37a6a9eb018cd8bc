"""Source data that are learned from as those of another task."""

from types import SimpleNamespace

import numpy as np
import pytest

from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import source_data, sources
from meta_latent.types import Spec
from task_suites.toy.hidden_goal import HiddenGoal, HiddenGoalRows

HEIGHTS = (0.0, 1.0, 0.4, 0.3, 0.9)
"""Of a body, along an episode; it begins on the floor."""


def logged(terminal=False, episodes=3, folder=None, **config):
    """Episodes of four steps, which end for good at the third step's height, or go on to the time limit."""
    replay = SequenceReplay(Spec({}, proprio=1, action_size=1, reward_inputs=1), ReplayConfig(**config), folder)
    heights = np.array(HEIGHTS[:3] if terminal else HEIGHTS, np.float32)[:, None]
    first, last = np.arange(len(heights)) == 0, np.arange(len(heights)) == len(heights) - 1
    for _ in range(episodes):
        replay.add_episode({
            "proprio": heights, "action": np.zeros_like(heights), "reward": np.zeros(len(heights), np.float32),
            "reward_present": ~first, "reward_inputs": heights, "is_first": first, "is_task_first": first,
            "is_last": last, "is_terminal": last & terminal})  # fmt: skip
    return replay


def falls(below):
    """A task whose episodes end for good where the body is lower than this."""
    ends = SimpleNamespace(terminated=lambda task, inputs, action: inputs[:, 0] < below)
    return SimpleNamespace(distribution=ends, task=None, in_words=lambda: "to stand")


def test_data_that_go_on_where_the_task_ends_are_refused():
    with pytest.raises(UserError, match=r"target t: 6 of 12 logged steps would have ended .*to stand.*data go on"):
        source_data.refuse_beyond_ends(logged(), falls(0.5), "target t")


@pytest.mark.parametrize(("replay", "below"), [(logged(terminal=True), 0.5), (logged(), 0.2), (logged(), -1.0)])
def test_data_that_end_as_the_task_does_pass(replay, below):
    source_data.refuse_beyond_ends(replay, falls(below), "target t")


def test_one_step_of_many_passes():
    replay = logged(terminal=True, episodes=120)
    replay.add_episode(
        {key: value for key, value in logged(episodes=1).read(0).items() if key not in ("head_mask", "task_index")}
    )
    assert replay.beyond_ends(lambda inputs, action: inputs[:, 0] < 0.35) == 1
    source_data.refuse_beyond_ends(replay, falls(0.35), "target t")


def test_steps_are_looked_at_that_are_held_whether_they_are_on_the_disk_or_not(tmp_path):
    """Of some of the episodes, as arms with +data hold, those alone; of a map all, also those not written yet."""
    some = logged(episodes=9).subset([0, 4])
    with pytest.raises(UserError, match="4 of 8 logged steps"):
        source_data.refuse_beyond_ends(some, falls(0.5), "target t")
    replay = logged(folder=tmp_path, memory_map=True)
    for written in (False, True):
        assert replay.beyond_ends(lambda inputs, action: inputs[:, 0] < 0.5) == 6, written
        replay.flush()


def test_a_policy_of_a_source_is_not_learned_from_data_that_go_on_where_it_ends(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(SequenceReplay, "beyond_ends", lambda replay, terminated: len(replay))
    toy.pretrain(tmp_path / "without")
    with pytest.raises(UserError, match="pretrain.policy_source: .* logged steps would have ended"):
        toy.pretrain(tmp_path / "with", "pretrain.policy_updates=2")


def test_of_many_sources_few_environments_are_open_and_the_data_are_the_same(toy, tmp_path, monkeypatch):
    still_open, most = set(), 0

    def make(suite, tasks):
        nonlocal most
        rows = HiddenGoalRows(suite, tasks)
        still_open.add(rows)
        monkeypatch.setattr(rows, "close", lambda: still_open.discard(rows))
        most = max(most, len(still_open))
        return rows

    monkeypatch.setattr(HiddenGoal, "make_vector", make)
    outcomes, counts = [], []
    for kept in (16, 2):
        monkeypatch.setattr(sources, "KEPT_OPEN", kept)
        most = 0
        run = toy.pretrain(tmp_path / str(kept), "pretrain.sources=[{suite: toy/hidden_goal, tasks: 5}]")
        outcomes.append(toy.outcome(run))
        counts.append(most)
        assert not still_open
    assert toy.first_difference(*outcomes) is None
    assert counts == [5, 3]
