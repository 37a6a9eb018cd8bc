"""`meta-latent evaluate NAME target=... arm=... run_seed=...`: score or film a saved agent; nothing is
learned.

Without the three keys, the source policy of the experiment's pretraining is scored on its source task.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meta_latent import ranges
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cells as transfer
from meta_latent.experiment.learning import starts as agents
from meta_latent.experiment.learning.playing import Evaluator, evaluation_seed, play
from meta_latent.experiment.pretraining import source_policy
from meta_latent.experiment.runs import checkpoint, run_folder, video
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import Bound, bind
from meta_latent.rng import Streams, derive
from meta_latent.types import Spec

AT_ONCE = 20
"""Episodes played side by side."""


@dataclass(frozen=True)
class EvaluateConfig(ExperimentConfig):
    """An experiment and how to evaluate it.

    Attributes:
        episodes: how many; null: as many as in the run's own evaluations. video: film the first so many of
            them.
        fresh: null: the fixed episodes of the learning curve; a number: other ones, drawn with this seed.
    """

    episodes: int | None = ranges.count(None, most=100_000)
    video: int = ranges.whole(1, most=1000)
    fresh: int | None = ranges.seed(None)


@dataclass(frozen=True)
class Result:
    """What was measured, one value per episode: raw returns (N,) and success (N,); the task's scale; files
    written.
    """

    returns: np.ndarray
    success: np.ndarray
    floor: float
    reference: float
    videos: tuple[Path, ...]

    def table(self) -> str:
        """Raw return, normalised score and success with their standard errors."""
        scores = (self.returns - self.floor) / (self.reference - self.floor)
        rows = [("raw return", self.returns), ("score", scores), ("success", self.success.astype(float))]
        lines = [f"{'':12}{'mean':>10}{'std. error':>12}"]
        for name, values in rows:
            error = f"{values.std(ddof=1) / np.sqrt(len(values)):12.3f}" if len(values) > 1 else f"{'-':>12}"
            lines.append(f"{name:12}{values.mean():10.3f}{error}")
        return "\n".join(lines)


def run(name: str, overrides: list[str]) -> None:
    """Evaluate the experiment `name` with `overrides`, which also take episodes=, video= and fresh=; prints a
    table.
    """
    settings = config.load(EvaluateConfig, [config.find("experiment", name)], overrides)
    result = evaluate(settings)
    print(f"{len(result.returns)} episodes\n{result.table()}")
    for path in result.videos:
        print(path)


def evaluate(settings: EvaluateConfig) -> Result:
    """Load the agent that `target`, `arm` and `run_seed` name, or the source policy if all are None, and play
    it.

    Raises UserError if the agent was never saved, or the run's configuration is another one.
    """
    keys = ("target", "arm", "run_seed")
    missing = [key for key in keys if getattr(settings, key) is None]
    if missing and len(missing) < len(keys):
        raise UserError(f"one cell needs target=, arm= and run_seed=; {missing[0]} is missing")
    bound, folder, load = (_source_policy if missing else _cell)(settings)
    count = settings.episodes or settings.transfer.evaluation.episodes
    seeds = [
        evaluation_seed(k)
        if settings.fresh is None
        else derive(settings.fresh, "fresh evaluation", k) % 2**31
        for k in range(count)
    ]
    returns, success, videos = [], [], []
    probe = Evaluator(bound, min(count, AT_ONCE))
    try:
        agent = load(probe.envs[0])
        for start in range(0, count, AT_ONCE):
            part = seeds[start : start + AT_ONCE]
            rewards, solved = play(agent, probe.envs[: len(part)], part, Streams(0))
            returns, success = [*returns, *rewards], [*success, *solved]
        for k in range(min(settings.video, count)):
            videos.append(film(agent, probe.envs[0], seeds[k], folder / "videos" / f"evaluation_{k}.mp4"))
    finally:
        probe.close()
    return Result(np.array(returns), np.array(success), *probe.references, tuple(filter(None, videos)))


def film(agent, env, seed: int, path: Path) -> Path | None:
    """Play one episode and write it as a video; None where the environment draws nothing."""
    frames: list[np.ndarray] = []
    play(agent, [env], [seed], Streams(0), frames)
    return video.write_episode(path, frames, env)


Opened = tuple[Bound, Path, Callable]


def _source_policy(settings: EvaluateConfig) -> Opened:
    path = transfer.model_path(settings)
    agent = source_policy.load_agent(path, settings.device)
    bound = bind(settings, settings.pretrain.sources[settings.pretrain.policy_source])
    reason = agent.model.spec.mismatch(Spec.of(bound.distribution))
    if reason:
        raise UserError(f"{path} does not fit {bound.name}: {reason}")
    return bound, path.parent, lambda env: agent


def _cell(settings: EvaluateConfig) -> Opened:
    target, arm, seed = settings.target, settings.arm, settings.run_seed
    bound, folder = transfer.bind_target(settings, target), transfer.cell_folder(settings, target, arm, seed)
    agents.split(arm)
    if not checkpoint.exists(folder / run_folder.CHECKPOINT):
        raise UserError(
            f"{folder} holds no saved agent; learn it first: meta-latent transfer with the same NAME and "
            f"options, target={target} arm={arm} run_seed={seed}"
        )
    stored = json.loads(json.dumps(config.read_yaml(folder / run_folder.CONFIG)))
    plain = ExperimentConfig(
        **{f.name: getattr(settings, f.name) for f in dataclasses.fields(ExperimentConfig)}
    )
    pretrained = transfer.model_path(settings) if transfer.needs_model(arm) else None
    wanted = transfer.narrowed(plain, target, arm, seed, pretrained)
    difference = run_folder.first_difference(stored, wanted, ("device",))
    if difference:
        key, before, now = difference
        raise UserError(
            f"{folder} holds a run with {key}={before}, but this command says {key}={now}; "
            "give the same value"
        )

    def load(env):
        with checkpoint.fitting(folder / run_folder.CHECKPOINT) as state:
            agent = agents.build_for(plain, arm, bound, seed, pretrained, env)
            agent.load_state(state["agent"])
        return agent

    return bound, folder, load
