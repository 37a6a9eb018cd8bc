"""What an experiment is: typed, frozen, strict. A YAML in `configs/experiment/` holds these keys and no
others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from meta_latent import ranges
from meta_latent.algorithms.ivg import IVGConfig
from meta_latent.algorithms.sac import SACConfig
from meta_latent.algorithms.sb3_sac import StableSACConfig
from meta_latent.data.collect import NoiseConfig
from meta_latent.data.replay import ReplayConfig
from meta_latent.experiment.settings import names
from meta_latent.experiment.settings.structure import nearest
from meta_latent.models.config import ModelConfig
from meta_latent.models.learner import LearnerConfig
from meta_latent.policies.latent_agent import AdaptationConfig

ARMS = {"ivg": ("pretrained", "pretrained+data", "scratch", "scratch+data", "policy"),
        "sac": ("pretrained", "scratch"), "sb3_sac": ("scratch",)}
"""Algorithm -> starts: pretrained weights, from scratch, either with source data (+data), or the source
policy too.
"""


@dataclass(frozen=True)
class DistractorConfig:
    """One visual distractor: a name of `task_suites.DISTRACTOR_NAMES`, intensity 0..1, seed.

    folder: videos and images of your own, for "video" only; relative to the working folder. "": procedural.
    """

    name: str
    intensity: float = ranges.share()
    seed: int = ranges.whole(0, most=2**31)
    folder: str = names.path("", may_be_empty=True)


@dataclass(frozen=True)
class TaskConfig:
    """Which task of a distribution: `suite` is its name, the task is number `index` of the split's sample.

    options: further options of `task_suites.get`, added to the experiment's `suite`.
    """

    suite: str
    split: Literal["train", "test"] = "test"
    index: int = ranges.whole(0)
    distractors: tuple[DistractorConfig, ...] = names.distractors()
    options: dict[str, Any] = names.suite_options()


@dataclass(frozen=True)
class SourceConfig(TaskConfig):
    """A source task; its distractors' seeds are drawn anew for every episode.

    scripted: this source's share of scripted episodes (None: that of `PretrainConfig`); 0 where a target has
        the same reward, so that no source data hold a policy that solves it.
    """

    split: Literal["train", "test"] = "train"
    scripted: float | None = ranges.share(None)


@dataclass(frozen=True)
class PretrainConfig:
    """Source data and updates.

    Attributes:
        sources: the tasks data come from; each has a reward function that can be relabelled.
        env_steps: environment steps of source data in all.
        scripted, on_policy: shares of episodes by the suite's scripted policy (plus noise) and by an IVG
            policy trained on the sources; the rest is correlated random actions.
        scripted_noise: strength of the noise on scripted actions.
        held_out: share of episodes kept for the report and never trained on.
        policy_updates: updates of an IVG policy for source number `policy_source`, in imagination, at the
            end (0: none); its settings are `transfer.ivg`. With `on_policy`, also before the second round of
            collection.
        head_share: probability that an ensemble head may train on an episode.
        joint_updates, filter_updates, transition_updates: updates of the learner's three stages.
        checkpoint_updates: updates between checkpoints.
    """

    sources: tuple[SourceConfig, ...] = ranges.items(may_be_empty=True, may_repeat=True)
    env_steps: int = ranges.count(45_000)
    scripted: float = ranges.share(0.25)
    on_policy: float = ranges.share(0.0, below=True)
    scripted_noise: float = ranges.nonnegative(0.5, most=100)
    held_out: float = ranges.share(0.08, below=True)
    head_share: float = ranges.share(0.8, above=True)
    joint_updates: int = ranges.whole(1000)
    filter_updates: int = ranges.whole(500)
    transition_updates: int = ranges.whole(4000)
    policy_updates: int = ranges.whole(0)
    policy_source: int = ranges.whole(0)
    checkpoint_updates: int = ranges.count(250)
    replay: ReplayConfig = field(default_factory=lambda: ReplayConfig(capacity=1_000_000))

    def __post_init__(self):
        if self.on_policy and not self.policy_updates:
            raise ValueError(f"on_policy={self.on_policy} needs policy_updates > 0")
        if self.sources and not 0 <= self.policy_source < len(self.sources):
            raise ValueError(
                f"policy_source={self.policy_source}, but there are {len(self.sources)} sources, from 0 on"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """Fixed episodes at a fixed interval of environment steps; never counted as data."""

    interval_env_steps: int = ranges.count(150)
    episodes: int = ranges.count(20, most=100_000)


@dataclass(frozen=True)
class TransferConfig:
    """Targets, arms and budgets.

    Attributes:
        targets: name -> task. arms: "ALGORITHM/START" names. seeds: one run each.
        budget_env_steps: per "TARGET/ARM", else per target, else per arm, else "default". threshold:
            normalised score that counts.
        stop_at_threshold: a run ends once two consecutive evaluations hold the threshold.
        ivg, sac, sb3_sac: hyper-parameters of the algorithms. adaptation: per arm, else per start (of
            which +data is no part), how the model keeps learning.
        source_episodes: source episodes that arms with +data use, spread evenly over all;
            source_episodes_at_once: how many of them have latents at a time where the encoder keeps learning.
        warmup_episodes: episodes of correlated random actions before learning starts (they count as data).
    """

    targets: dict[str, TaskConfig] = names.targets()
    arms: tuple[str, ...] = ranges.items(("ivg/pretrained", "ivg/scratch", "sac/scratch"))
    seeds: tuple[int, ...] = ranges.seeds((0, 1, 2))
    budget_env_steps: dict[str, int] = ranges.counts_by_name({"default": 3000})
    threshold: float = ranges.between(0.6, -1e9, 1e9)
    stop_at_threshold: bool = True
    warmup_episodes: int = ranges.whole(4)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    adaptation: dict[str, AdaptationConfig] = field(default_factory=dict)
    ivg: IVGConfig = field(default_factory=IVGConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    sb3_sac: StableSACConfig = field(default_factory=StableSACConfig)
    source_episodes: int = ranges.count(300)
    source_episodes_at_once: int = ranges.count(40)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    video: bool = True

    def __post_init__(self):
        for arm in self.arms:
            algorithm, _, start = arm.partition("/")
            if start not in ARMS.get(algorithm, ()):
                known = ", ".join(f"{name}/{start}" for name, starts in ARMS.items() for start in starts)
                raise ValueError(f"arms holds {arm!r}; the arms are {known}")
        arms = [f"{name}/{start}" for name, starts in ARMS.items() for start in starts]
        budgets = ["default", *arms, *self.targets, *(f"{t}/{arm}" for t in self.targets for arm in arms)]
        for key in self.budget_env_steps:
            if key not in budgets:
                raise ValueError(f"budget_env_steps has no {key!r}{nearest(key, budgets)}")
        starts = [*arms, *(arm.partition("/")[2] for arm in arms)]
        keys = dict.fromkeys(key for key in starts if "/" in key or not key.endswith("+data"))
        for key in self.adaptation:
            if key not in keys:  # a start's settings count with source data too
                meant = key if "/" in key else key.removesuffix("+data")
                raise ValueError(f"adaptation has no {key!r}{nearest(meant, keys)}")

    def budget(self, target: str, arm: str) -> int:
        """Environment steps that `arm` may take on `target`: the most specific of `budget_env_steps`."""
        for key in (f"{target}/{arm}", target, arm):
            if key in self.budget_env_steps:
                return self.budget_env_steps[key]
        return self.budget_env_steps.get("default", 3000)


@dataclass(frozen=True)
class ExperimentConfig:
    """One experiment.

    Attributes:
        seed: of pretraining. out: folder of all runs. device: "cpu", "cuda" or "cuda:N". workers: cells side
            by side.
        pretrained: a model folder to use instead of this experiment's own. target, arm, run_seed: one cell
            only.
        suite: options for every distribution (image_size, cameras). random: the random behaviour, in source
            data and warm-up alike. imports: packages that register more tasks
            and algorithms.
    """

    name: str = names.folder_name("experiment")
    seed: int = ranges.seed(0)
    out: str = names.path("runs")
    device: str = names.device("cpu")
    workers: int = ranges.count(2, most=1000)
    imports: tuple[str, ...] = ranges.items(may_be_empty=True, may_repeat=True)
    pretrained: str | None = names.path(None)
    target: str | None = None
    arm: str | None = None
    run_seed: int | None = ranges.seed(None)
    suite: dict[str, Any] = names.suite_options()
    random: NoiseConfig = field(default_factory=NoiseConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
