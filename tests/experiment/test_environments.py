"""Environments that are kept for the next round, and closed where a round fails."""

import pytest

from meta_latent.experiment.learning.environments import Environments
from meta_latent.experiment.settings.suites import BoundTask
from task_suites import TaskDistribution


class Env:
    def __init__(self, broken=False):
        self.closed, self.broken = 0, broken

    def close(self):
        self.closed += 1
        if self.broken:
            raise OSError("closing fails, too")


class Suite:
    """A family whose environments are those that it is given; where there are no more, making one fails."""

    make_vector = TaskDistribution.make_vector

    def __init__(self, *envs):
        self._left = list(envs)

    def make(self, task):
        return self._left.pop(0)


@pytest.fixture(autouse=True)
def plain_rows(monkeypatch):
    monkeypatch.setattr("meta_latent.experiment.learning.environments.Rows", list)


def test_environments_of_a_round_are_kept_for_the_next():
    env, kept = Env(), Environments()
    tasks = [BoundTask("", Suite(env), "task")]
    for _ in range(2):
        with kept.rows(tasks) as rows:
            assert rows == [env] and not env.closed
    kept.close()
    assert env.closed == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_environments_of_a_round_that_failed_are_closed_and_not_played_again(error):
    envs, kept = [Env(broken=True), Env()], Environments()
    tasks = [BoundTask("", Suite(*envs, Env()), "task")] * 2
    with pytest.raises(error, match="the round fails"), kept.rows(tasks):
        raise error("the round fails")
    assert [env.closed for env in envs] == [1, 1]
    with kept.rows(tasks[:1]) as rows:
        assert rows[0] not in envs


def test_environments_are_closed_where_the_next_one_cannot_be_made():
    env = Env()
    with pytest.raises(IndexError), Environments().rows([BoundTask("", Suite(env), "task")] * 2):
        raise AssertionError
    assert env.closed == 1
