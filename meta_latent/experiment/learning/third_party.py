"""Cells of third-party learners: the same episodes, budget, evaluations and run folder as every other arm.

They keep their data and optimisers to themselves, so an interrupted cell starts again from the first step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from meta_latent.algorithms.sb3_sac import SeededEpisodes, StableSAC
from meta_latent.experiment.learning.cells import Transfer
from meta_latent.experiment.runs import checkpoint
from meta_latent.experiment.runs.run_folder import CHECKPOINT
from meta_latent.rng import derive


@dataclass
class StepCount:
    """In place of our replay: only counts."""

    env_steps: int = 0


class StableTransfer(Transfer):
    """Stable-Baselines3's SAC learns one target; see `meta_latent.algorithms.sb3_sac`."""

    def _open(self, experiment, spec) -> None:
        self.replay, longest = StepCount(), self.bound.distribution.max_episode_steps
        self._env = SeededEpisodes(
            self.bound.make(), lambda index: derive(self.seed, "episode", self.bound.name, index) % 2**31
        )
        self.agent = StableSAC(
            self._env,
            self.config.sb3_sac,
            derive(self.seed, "agent", self.arm),
            self.config.warmup_episodes * longest,
            self.budget + longest,
            experiment.device,
        )
        self._fresh = 0

    def _resume(self) -> None:
        if checkpoint.exists(self.folder.path(CHECKPOINT)):
            print("sb3_sac cannot resume: this cell starts again from its first step")
        self.log.truncate(None)

    def _episode(self, env) -> None:
        self._fresh = self.agent.collect()
        self.replay.env_steps = self.agent.env_steps
        self.progress["episodes"] += 1

    def _update(self) -> None:
        if self.progress["episodes"] < self.config.warmup_episodes:
            return
        begun = time.monotonic()
        self.progress["metrics"] |= self.agent.update(self._fresh)
        self.progress["update_seconds"] += time.monotonic() - begun

    def save(self) -> None:
        """Only what acting needs: for `meta-latent evaluate`."""
        checkpoint.save(
            self.folder.path(CHECKPOINT),
            {"progress": self.progress, "streams": self.streams.state(), "agent": self.agent.state()},
        )

    def _finish(self, env) -> None:
        super()._finish(env)
        self._env.close()
