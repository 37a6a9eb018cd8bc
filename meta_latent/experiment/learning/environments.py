"""Environments by task, kept while they may be played again: making one can cost more than an episode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import gymnasium

from meta_latent.experiment.settings.suites import BoundTask
from task_suites import LockstepRows, Rows, Task, TaskDistribution


class Environments:
    """At most `limit` environments that are free; families that step many at once make theirs anew, which is
    cheap.
    """

    def __init__(self, limit: int = 64):
        self.limit = limit
        self._free: dict[Task, list[gymnasium.Env]] = {}

    @contextlib.contextmanager
    def rows(self, tasks: Sequence[BoundTask]) -> Iterator[LockstepRows]:
        """One environment per task, in lockstep; after an error they are closed."""
        distribution = tasks[0].distribution
        if type(distribution).make_vector is not TaskDistribution.make_vector:
            with contextlib.closing(distribution.make_vector([bound.task for bound in tasks])) as rows:
                yield rows
            return
        envs: list[gymnasium.Env] = []
        try:
            envs.extend(map(self._take, tasks))
            yield Rows(envs)
        except BaseException:  # nobody knows how far they are
            for env in envs:
                with contextlib.suppress(Exception):  # the error that brought us here is the one to show
                    env.close()
            raise
        for bound, env in zip(tasks, envs, strict=True):
            self._give_back(bound.task, env)

    def _take(self, bound: BoundTask) -> gymnasium.Env:
        free = self._free.get(bound.task)
        return free.pop() if free else bound.make()

    def _give_back(self, task: Task, env: gymnasium.Env) -> None:
        if sum(map(len, self._free.values())) < self.limit:
            self._free.setdefault(task, []).append(env)
        else:
            env.close()

    def close(self) -> None:
        """Close those that are free."""
        for envs in self._free.values():
            for env in envs:
                env.close()
        self._free = {}
