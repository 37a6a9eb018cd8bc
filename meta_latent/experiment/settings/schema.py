"""What an experiment is: typed, frozen, strict. A YAML in `configs/experiment/` holds these keys and no
others.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from meta_latent import ranges
from meta_latent.algorithms import registry
from meta_latent.algorithms.registry import Arm
from meta_latent.data.collect import NoiseConfig
from meta_latent.data.replay import ReplayConfig
from meta_latent.errors import UserError
from meta_latent.experiment.settings import names
from meta_latent.experiment.settings.structure import Contradictions, nearest
from meta_latent.experiment.settings.type_hints import Keyed
from meta_latent.models.config import ModelConfig
from meta_latent.models.learner import LearnerConfig
from meta_latent.policies.latent_agent import AdaptationConfig


def _settings_of(name: str) -> type:
    """The settings of the algorithm called `name`; KeyError with those there are."""
    if name not in registry.names():
        raise KeyError(*registry.names())
    return registry.get(name).config


@dataclass(frozen=True)
class DistractorConfig:
    """One visual distractor.

    Attributes:
        name: one of `task_suites.DISTRACTOR_NAMES`. intensity: 0 is invisible. seed: of what is drawn.
        folder: videos and images of your own, for "video" only; relative to the working folder. "": procedural.
    """

    name: str
    intensity: float = ranges.share()
    seed: int = ranges.whole(0, most=2**31)
    folder: str = names.path("", may_be_empty=True)


@dataclass(frozen=True)
class TaskConfig:
    """Which task of a distribution.

    Attributes:
        suite: name of the distribution, see `meta-latent tasks`. split: whose sample of tasks. index: which of these.
        distractors: what else is in the pictures.
        options: further options of `task_suites.get`, added to the experiment's `suite`.
    """

    suite: str
    split: Literal["train", "test"] = "test"
    index: int = ranges.whole(0)
    distractors: tuple[DistractorConfig, ...] = names.distractors()
    options: dict[str, Any] = names.suite_options()


@dataclass(frozen=True)
class TargetConfig(TaskConfig):
    """What is learned: one task, or a distribution of them, in trials of one task each.

    Attributes:
        tasks: the task itself (1), or so many tasks of the split "train", in an order of their own.
        test_tasks: of the split "test", so many in every evaluation, which is a meta-test where there are several
            tasks.
        episodes_per_trial: episodes of one task that follow each other; a belief lasts as long as a trial.
        data: a model folder whose source episodes are the logged data that algorithms without an environment
            learn from.
        arms: what learns it, instead of the experiment's arms.
        thresholds: scores that count, instead of the experiment's: raw ones, where the task has no references.
        warmup_episodes: instead of the experiment's: a family needs some of each task.
        training_options: further options of the suite, under which policies are trained: with {sparse: false}, agents
            see and are tested on sparse rewards, and critics learn from dense ones (MELD's recipe). Of meld, slac,
            no_carry and pearl; other algorithms learn from what they are shown.
    """

    tasks: int = ranges.count(1)
    test_tasks: int = ranges.whole(0)
    episodes_per_trial: int = ranges.count(1, most=10_000)
    data: str = names.path("", may_be_empty=True)
    arms: tuple[str, ...] | None = ranges.items(None)
    thresholds: tuple[float, ...] | None = ranges.numbers(None, -1e9, 1e9, may_be_empty=True, may_repeat=False)
    warmup_episodes: int | None = ranges.whole(None)
    training_options: dict[str, Any] = names.suite_options()

    def __post_init__(self):
        if self.training_options and self.tasks == 1:
            raise ValueError("training_options are for distributions of tasks; give tasks and test_tasks")
        if (self.tasks > 1) != (self.test_tasks > 0):
            raise ValueError(
                f"tasks={self.tasks} and test_tasks={self.test_tasks}: a distribution (tasks over 1) is tested "
                "on tasks of its own (test_tasks from 1), a single task is not"
            )
        if self.tasks > 1 and (self.index or self.split != "test"):
            raise ValueError("index and split name a single task; tasks and test_tasks are of both splits")


@dataclass(frozen=True)
class SourceConfig(TaskConfig):
    """A source task; its distractors' seeds are drawn anew for every episode.

    tasks: from number `index` on, so many tasks, each a source of its own.
    scripted: this source's share of scripted episodes (None: that of `PretrainConfig`); 0 where a target has
        the same reward, so that no source data hold a policy that solves it.
    data: logged episodes instead of played ones, paid as the source's task pays: the folder of a finished run, or
        minari:DATASET_ID; sources that name the same take its episodes in turn. Collecting ends when they are used up.
    """

    split: Literal["train", "test"] = "train"
    tasks: int = ranges.count(1, most=1000)
    scripted: float | None = ranges.share(None)
    data: str = names.path("", may_be_empty=True)


@dataclass(frozen=True)
class PretrainConfig:
    """Source data and updates.

    Attributes:
        sources: the tasks data come from. Each one's reward is learned from all episodes in which it can be computed;
            what only a simulator computes, from its own alone.
        env_steps: environment steps of source data in all.
        scripted: share of episodes by the suite's scripted policy, plus noise; what is neither scripted nor `on_policy`
            is correlated random actions.
        on_policy: share of episodes by an IVG policy that has been trained on the sources by then, collected in a
            second round; needs `policy_updates`.
        scripted_noise: strength of the noise on scripted actions.
        relabel: share of training sequences that are paid as another source pays, so that a model that reads rewards
            has more tasks to infer.
        episodes_per_trial: episodes of one source that follow each other in what core and heads learn from on cached
            embeddings. 1: windows of `learner.filter_length` within an episode, whose frames are so alike that a
            memory predicts their rewards without knowing the task. More: whole trials, as agents that infer tasks
            play them, `learner.filter_batch_size` of any episodes of a source.
        held_out: share of episodes kept for the report and never trained on.
        policy_source: number of the source whose policy is learned, from 0 on.
        policy_updates: updates of an IVG policy for source number `policy_source`, in imagination, at the
            end (0: none); its settings are `algorithms.ivg`. With `on_policy`, also before the second round of
            collection.
        head_share: probability that an ensemble head may train on an episode.
        own_heads: head k learns from sources k, k + heads, ... alone, whatever `head_share` is: for sources whose
            dynamics differ, and `mb_mpo` with `own_tasks`; others imagine in all heads alike.
        joint_updates: updates of the first stage, which learns everything from pixels.
        filter_updates: updates of the second stage, which learns core and heads, on the embeddings of the encoder as it
            then is.
        transition_updates: updates of the third stage, which learns the transition heads alone, on latents of the
            filter.
        checkpoint_updates: updates between checkpoints.
        num_workers: processes that share every update of these stages; results do not depend on it but for rounding.
    """

    sources: tuple[SourceConfig, ...] = ranges.items(may_be_empty=True, may_repeat=True)
    env_steps: int = ranges.count(45_000)
    scripted: float = ranges.share(0.25)
    on_policy: float = ranges.share(0.0, below=True)
    scripted_noise: float = ranges.nonnegative(0.5, most=100)
    relabel: float = ranges.share(0.0)
    episodes_per_trial: int = ranges.count(1, most=10_000)
    held_out: float = ranges.share(0.08, below=True)
    head_share: float = ranges.share(0.8, above=True)
    own_heads: bool = False
    joint_updates: int = ranges.whole(1000)
    filter_updates: int = ranges.whole(500)
    transition_updates: int = ranges.whole(4000)
    policy_updates: int = ranges.whole(0)
    policy_source: int = ranges.whole(0)
    checkpoint_updates: int = ranges.count(250)
    num_workers: int = ranges.count(1, most=1000)
    replay: ReplayConfig = field(default_factory=lambda: ReplayConfig(capacity=1_000_000))

    @cached_property
    def each_source(self) -> tuple[SourceConfig, ...]:
        """`sources` with one task each."""
        return tuple(replace(s, index=s.index + k, tasks=1) for s in self.sources for k in range(s.tasks))

    def entry_of(self, place: int) -> int:
        """The number of the entry of `sources` that number `place` of `each_source` is of."""
        return [number for number, source in enumerate(self.sources) for _ in range(source.tasks)][place]

    def source_key(self, place: int) -> str:
        """The key of number `place` of `each_source`: tasks of one entry share it."""
        return f"pretrain.sources.{self.entry_of(place)}"

    @property
    def logged(self) -> frozenset[int]:
        """Places of those with logged data, among `each_source`."""
        return frozenset(place for place, source in enumerate(self.each_source) if source.data)

    def __post_init__(self):
        if self.on_policy and not self.policy_updates:
            raise ValueError(f"on_policy={self.on_policy} needs policy_updates > 0")
        if self.on_policy and any(source.data for source in self.sources):
            raise ValueError(f"on_policy={self.on_policy} plays more episodes, but sources with data are not played")
        count = len(self.each_source)
        if count and not 0 <= self.policy_source < count:
            raise ValueError(f"policy_source={self.policy_source}, but there are {count} sources, from 0 on")


@dataclass(frozen=True)
class EvaluationConfig:
    """Fixed episodes at fixed intervals; never counted as data.

    Attributes:
        interval_env_steps: environment steps between evaluations.
        interval_updates: updates between evaluations, for algorithms that learn from logged data.
        episodes: of a single task. trials: of each test task. rollouts: episodes of a step of adaptation, for
            algorithms that adapt.
    """

    interval_env_steps: int = ranges.count(150)
    interval_updates: int = ranges.count(500)
    episodes: int = ranges.count(20, most=100_000)
    trials: int = ranges.count(2, most=100_000)
    rollouts: int = ranges.count(1, most=10_000)


@dataclass(frozen=True)
class TransferConfig:
    """Targets, arms and budgets.

    Attributes:
        targets: name -> what is learned. arms: "ALGORITHM/START" names. seeds: one run each.
        budget_env_steps: environment steps of a run, which ends with the round of episodes that spends them: per
            "TARGET/ARM", else per target, else per arm, else "default".
        budget_updates: updates of a run of an algorithm that learns from logged data, in the same way.
        thresholds: normalised scores that count; tasks without references need their own.
        stop_at_threshold: a run ends once two consecutive evaluations hold the highest threshold.
        adaptation: per arm, else per start, how the model keeps learning. An entry is whole: what it leaves out has
            the default of `AdaptationConfig`, not that of the start.
        head_share: probability that an ensemble head may train on an episode.
        side_by_side: environments that are played at once, where an algorithm wants many steps.
        source_episodes: source episodes that arms with +data use, spread evenly over all;
            source_episodes_at_once: how many of them have latents at a time where the encoder keeps learning.
        warmup_episodes: episodes of correlated random actions before learning starts (they count as data).
        epsilon: probability per step of learning that one action value strays: it is set to -1 or 1 and held for some
            steps, so that what a skill leads to is explored (`data.repeated_noise`); learners that need their own
            policy's data alone (trpo, ppo, rl2) never do.
        video: film the agent at a run's end.
    """

    targets: dict[str, TargetConfig] = names.targets()
    arms: tuple[str, ...] = ranges.items(("ivg/pretrained", "ivg/scratch", "sac/scratch"))
    seeds: tuple[int, ...] = ranges.seeds((0, 1, 2))
    budget_env_steps: dict[str, int] = ranges.counts_by_name({"default": 3000})
    budget_updates: dict[str, int] = ranges.counts_by_name({"default": 10_000})
    thresholds: tuple[float, ...] = ranges.numbers((0.6,), -1e9, 1e9, may_repeat=False)
    stop_at_threshold: bool = True
    warmup_episodes: int = ranges.whole(4)
    epsilon: float = ranges.share(0.0)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    adaptation: dict[str, AdaptationConfig] = field(default_factory=dict)
    head_share: float = ranges.share(0.8)
    side_by_side: int = ranges.count(20, most=10_000)
    source_episodes: int = ranges.count(300)
    source_episodes_at_once: int = ranges.count(40)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    video: bool = True

    def __post_init__(self):
        found: list[tuple[str, tuple[str, ...]]] = []
        for key, named in {"arms": self.arms, **{f"targets.{n}.arms": t.arms for n, t in self.targets.items()}}.items():
            for arm in named or ():
                try:
                    Arm.parse(arm)
                except UserError as error:
                    found.append((f"{key}: {error}", ()))
        arms = [str(arm) for arm in registry.arms()]
        budgets = {"default", *arms, *self.targets, *(f"{t}/{arm}" for t in self.targets for arm in arms)}
        used = ["default", *self.targets, *(arm for _, arm in self.pairs()), *map("/".join, self.pairs())]
        for name in ("budget_env_steps", "budget_updates"):
            for key in getattr(self, name):
                if key not in budgets:
                    meant = difflib.get_close_matches(key, budgets, n=1, cutoff=0.85) or used
                    found.append((f"{name} has no {key!r}{nearest(key, meant)}", ("targets",)))
        starts = {arm.start.removesuffix(registry.DATA) for arm in registry.arms()}
        for key in self.adaptation:
            if key not in (*starts, *arms):  # a start's settings count with source data too
                meant = key if "/" in key else key.removesuffix(registry.DATA)
                found.append((f"adaptation has no {key!r}{nearest(meant, [*starts, *arms])}", ()))
        if found:
            raise Contradictions(found)

    def pairs(self) -> list[tuple[str, str]]:
        """(target, arm) of all that is learned, arm by arm."""
        own = {name: self.arms if target.arms is None else target.arms for name, target in self.targets.items()}
        every = dict.fromkeys((*self.arms, *(arm for arms in own.values() for arm in arms)))
        return [(target, arm) for arm in every for target in own if arm in own[target]]

    def budget(self, target: str, arm: str) -> int:
        """Units of its algorithm's clock that `arm` may spend on `target`: the most specific budget."""
        clock = Arm.parse(arm).entry.clock
        budgets, key = getattr(self, f"budget_{clock}"), self.budget_key(target, arm)
        return budgets.get(key, 3000 if clock == "env_steps" else 10_000)

    def budget_key(self, target: str, arm: str) -> str:
        """The key of that budget."""
        budgets = getattr(self, f"budget_{Arm.parse(arm).entry.clock}")
        return next((key for key in (f"{target}/{arm}", target, arm) if key in budgets), "default")

    def warmup_of(self, target: str) -> int:
        """Random episodes that come first on `target`."""
        own = self.targets[target].warmup_episodes
        return self.warmup_episodes if own is None else own

    def thresholds_of(self, target: str, normalised: bool) -> tuple[float, ...]:
        """The scores that count on `target`, ascending; none where scores are raw and it has none of its own."""
        own = self.targets[target].thresholds
        found = own if own is not None else self.thresholds if normalised else ()
        return tuple(sorted(found))


@dataclass(frozen=True)
class ExperimentConfig:
    """One experiment.

    Attributes:
        name: of the run folder in `out`. seed: of pretraining. out: folder of all runs.
        device: "cpu", "cuda" or "cuda:N". workers: cells side by side; a sweep's pretraining counts as `num_workers`
            of them. pretrained: a model folder to use instead of this experiment's own. target, arm, run_seed: one
            cell only.
        suite: options for every distribution (image_size, cameras). random: the random behaviour, in source
            data and warm-up alike. algorithms: settings of the algorithms, by name. imports: packages that
            register more tasks and algorithms.
    """

    MEANT: ClassVar = {"algorithm": "arm"}

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
    algorithms: Annotated[dict[str, Any], Keyed(_settings_of)] = field(default_factory=dict)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)

    def settings_of(self, algorithm: str) -> Any:
        """The settings of an algorithm: what `algorithms` says, else its own defaults."""
        return self.algorithms.get(algorithm) or registry.get(algorithm).config()
