"""Which algorithms there are: one line registers one, from here or from a user's own package.

    register("mine", Algorithm(config=MineConfig, build=lambda config, setting: Mine(config, setting)))
    register("mine", "my_package.mine:ALGORITHM")       # the module is imported when the algorithm is used

Everything else knows no algorithm by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meta_latent.errors import UserError, calling_module
from meta_latent.ranges import is_filled_in, limits_of

if TYPE_CHECKING:
    import torch

    from meta_latent.policies.latent_agent import LatentParts
    from meta_latent.protocols import Agent
    from meta_latent.types import SequenceBatch, Spec

SHOWN = ("reward", "task", "index", "trial")
"""What an algorithm may be shown while it acts, beside observations and its own actions."""
NEEDS = ("functions", "states", "data", "density")
DATA, SCRATCH = "+data", "scratch"
PARTS = ("encoder", "sequence")
STARTS = (SCRATCH, "pretrained", *PARTS, "policy", SCRATCH + DATA, "pretrained" + DATA, "policy" + DATA)


@dataclass(frozen=True)
class Functions:
    """The tasks' own reward and end, vectorised, for torch tensors or numpy arrays.

    Attributes:
        reward, terminated: (task_index (...,), reward_inputs (..., R), action (..., A)) -> (...,) of the state
            that the action led to; task_index counts the setting's tasks.
        observed: proprioception IS reward_inputs, so that both hold for imagined states too.
        training_reward: like `reward`, what policies are trained on where that is not what agents are shown; else None.
        invariant: places of reward_inputs that change nothing but themselves, such as how far a body has come.
    """

    reward: Callable[[Any, Any, Any], Any]
    terminated: Callable[[Any, Any, Any], Any]
    observed: bool
    training_reward: Callable[[Any, Any, Any], Any] | None = None
    invariant: tuple[int, ...] = ()

    def paid(self, tasks: Any, batch: SequenceBatch, rows: Any = ..., function: Any = None) -> torch.Tensor:
        """What `rows` of a batch (B, T) are paid as steps of `tasks` (B,), where rewards are paid at all: (n, T).

        function: who says so, such as `training_reward`; None: `reward`.
        """
        paid = (function or self.reward)(tasks[rows], batch.reward_inputs[rows], batch.action[rows])
        return paid.float() * batch.reward_present[rows]

    def ended_anyway(self, batch: SequenceBatch, rows: Any) -> torch.Tensor:
        """Which steps (n, T) of `rows` of a batch (B, T) end episodes for good in any task: those that did, and that
        no rule of the task that was played ends, as where an environment has a rule of its own.
        """
        by_rule = self.terminated(batch.task_index[rows], batch.reward_inputs[rows], batch.action[rows])
        return batch.is_terminal[rows] & ~by_rule


@dataclass(frozen=True)
class Setting:
    """All that an algorithm may be built from.

    Attributes:
        spec: shapes. start: what the arm starts from. device: of the networks. seed: of the run.
        tasks: how many tasks there are; a replay's task_index is 0 to tasks - 1. task_vectors: (tasks, P)
            float32, the numbers that tell them apart (for algorithms that see "task").
        max_episode_steps, episodes_per_trial: of these tasks. budget: in units of `clock`; a run may be given more
            later, so it may size buffers, and nothing learned may hang on it.
        functions: rewards and ends, for algorithms that need "functions", else None.
        latent_parts: model, learner, cache, source data as `start` says; made when called.
        dynamics: of each task, a number that those share whose scene and dynamics are the same; (): none do.
        rewards: of each task, a number that those share which pay the same; (): none do.
        heads, reward_input: of the model in `latent_parts`, known before it is made: how many transition heads it has,
            and whether rewards may be an input of it.
        target: its name. warmup_trials: random ones that come first, of the tasks in turns, each once before one comes
            again; 0: the first are the agent's own.
    """

    spec: Spec
    start: str
    device: str
    seed: int
    tasks: int
    task_vectors: torch.Tensor
    max_episode_steps: int
    episodes_per_trial: int
    budget: int
    functions: Functions | None
    latent_parts: Callable[[], LatentParts]
    dynamics: tuple[int, ...] = ()
    rewards: tuple[int, ...] = ()
    heads: int = 1
    reward_input: bool = True
    target: str = ""
    warmup_trials: int = 0


@dataclass(frozen=True)
class Algorithm:
    """What there is to know about an algorithm.

    Attributes:
        config: frozen dataclass of its settings, each with a default and a range (`meta_latent.ranges`).
        build: (config, setting) -> agent; runs with all initial weights seeded.
        starts: what its arms, NAME/START, start from: "scratch", "pretrained" (the model's weights), "policy"
            (the source policy too), each with or without "+data" (source episodes beside the target's); "encoder"
            or "sequence": that part of the pretrained model alone, the rest of it new.
        compared_with: start -> start it is measured against; left out: X+data -> scratch+data, every other
            -> scratch.
        metrics: name -> what it means; `Agent.update` returns no other name.
        inspects: name -> what it means; `Agent.inspect` returns no other name. Not for algorithms that adapt, whose
            carry holds no belief.
        maps: `Agent.believed_rewards` says which rewards a belief expects in frames it is shown, so that there are
            maps of them over a family's workspace. Not for algorithms that adapt.
        needs: of `NEEDS`: "functions" (rewards and ends of observed states), "states" (the same, and that states are
            observed: proprioception is what rewards are computed from), "data" (logged episodes; its clock is
            updates), "density" (a core whose transitions have one).
        sees: of `SHOWN`, what it is shown while acting: "reward" (Step.reward and its presence flag), "task"
            (Step.task: an oracle), "index" (Step.task_index, in training alone: which of its models it is about),
            "trial" (Step.trial, in training alone: for those that take turns).
        relabels: the setting that says which share of replayed trials is paid as another task pays; "": none is.
            Targets where that is not known are refused, unless it is 0.
        adapts: `Agent.adapt` gives another agent for a trial's task; else its carry holds what it learned of it.
        warmup: random episodes come first. extra: (package extra, module that it brings), where it needs one.
        check: (config, setting) raises UserError where these do not go together; asked before anything starts, a
            pretraining too, when `latent_parts` cannot be called yet.
    """

    config: type
    build: Callable[[Any, Setting], Agent]
    starts: tuple[str, ...] = (SCRATCH,)
    compared_with: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    inspects: Mapping[str, str] = field(default_factory=dict)
    maps: bool = False
    needs: frozenset[str] = frozenset()
    sees: frozenset[str] = frozenset()
    relabels: str = ""
    adapts: bool = False
    warmup: bool = True
    extra: tuple[str, str] | None = None
    check: Callable[[Any, Setting], None] | None = None

    def __post_init__(self):
        for given, known, what in ((self.needs, NEEDS, "needs"), (self.sees, SHOWN, "sees"),
                                   (self.starts, STARTS, "starts from")):  # fmt: skip
            for name in (given,) if isinstance(given, str) else given:
                if name not in known:
                    raise UserError(f"an algorithm {what} {name!r}; choose from {', '.join(known)}")
        for start in (*self.compared_with, *self.compared_with.values()):
            if start not in self.starts:
                raise UserError(f"compared_with names {start!r}; the starts are {', '.join(self.starts)}")
        if self.adapts and (self.inspects or self.maps):
            raise UserError("an algorithm that adapts has no belief along a trial; leave out inspects and maps")
        if not self.starts:
            raise UserError("an algorithm starts from nothing; give it starts=('scratch',)")
        if not (isinstance(self.config, type) and dataclasses.is_dataclass(self.config)):
            raise UserError(f"an algorithm's config is a frozen dataclass, got {self.config!r}")
        if self.relabels and self.relabels not in {setting.name for setting in dataclasses.fields(self.config)}:
            raise UserError(f"relabels names {self.relabels!r}, which is no setting of {self.config.__name__}")
        _check_settings(self.config)

    @property
    def clock(self) -> str:
        """What its learning curve is measured over: "env_steps", or "updates" if it learns from logged data."""
        return "updates" if "data" in self.needs else "env_steps"

    def base(self, start: str) -> str | None:
        """The start that `start` is measured against; None where there is nothing to compare it with."""
        wanted = self.compared_with.get(start)
        if wanted is None:
            wanted = SCRATCH + DATA if start.endswith(DATA) and start != SCRATCH + DATA else SCRATCH
            wanted = wanted if wanted in self.starts else SCRATCH
        return wanted if wanted in self.starts and wanted != start else None

    def require_extra(self, name: str) -> None:
        """Raise UserError if the package extra that it needs is not installed."""
        if self.extra is not None:
            extra, module = self.extra
            try:
                found = importlib.util.find_spec(module)
            except ValueError:  # how Python says that somebody set sys.modules[module] to None
                found = None
            if found is None:
                raise UserError(
                    f"arms of {name} need {module}: install it, or this package with its extra {extra!r} "
                    f"(pip install '.[{extra}]' in a checkout)"
                )


def _check_settings(config: type) -> None:
    """Raise UserError for a setting, or one within it, that has no default, or holds numbers and has no range."""
    try:
        hints = typing.get_type_hints(config)
    except (NameError, TypeError):  # a name that is imported for type checkers alone
        hints = {setting.name: setting.type for setting in dataclasses.fields(config)}
    for setting in dataclasses.fields(config):
        where, hint = f"{config.__name__}.{setting.name}", hints[setting.name]
        if setting.default is setting.default_factory is dataclasses.MISSING:
            raise UserError(f"{where} has no default; settings need one, such as positive(1e-3) of meta_latent.ranges")
        if is_filled_in(setting) or limits_of(setting) is not None:
            continue
        if _holds_numbers(hint):
            example = "counts([64, 64])" if typing.get_origin(hint) in (list, tuple) else "positive(1e-3)"
            raise UserError(f"{where} has no range; numbers need one, such as {example} of meta_latent.ranges")
        if dataclasses.is_dataclass(hint):
            _check_settings(hint)


def _holds_numbers(hint: Any) -> bool:
    """Whether a setting of this type is a number, may be one, or lists them."""
    several = typing.get_origin(hint) in (typing.Union, types.UnionType, list, tuple)
    return hint in (int, float, "int", "float") or several and any(map(_holds_numbers, typing.get_args(hint)))


_ENTRIES: dict[str, Algorithm | str] = {}
_MODULES: dict[str, str] = {}
"""Whose code registered each."""


def register(name: str, entry: Algorithm | str) -> None:
    """Make an algorithm known as `name`; `entry` is the value, or "module:attribute" that holds it.

    The module that registered a name may do so again, as where a notebook's cell is run again: the new one counts.
    Raises UserError if an algorithm of ours, or another module's, has the name, or if it is no plain name.
    """
    if not name.isidentifier():
        raise UserError(f"an algorithm's name is a plain one such as ivg or my_sac, got {name!r}")
    if not isinstance(entry, Algorithm) and not (isinstance(entry, str) and all(entry.partition(":"))):
        raise UserError(f"algorithm {name!r}: expected an Algorithm or 'module:attribute', got {entry!r}")
    module = calling_module()
    if name in _ENTRIES:
        if _ENTRIES[name] == entry:
            return
        holder = _MODULES[name]
        if holder != module:
            raise UserError(f"there is an algorithm {name!r} already, of the module {holder}; choose another name")
    _ENTRIES[name], _MODULES[name] = entry, module


def names() -> list[str]:
    """Every registered name, sorted."""
    return sorted(_ENTRIES)


def get(name: str) -> Algorithm:
    """The algorithm called `name`. Raises UserError naming the nearest, and why one cannot be imported."""
    if name not in _ENTRIES:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())};"
        raise UserError(f"there is no algorithm {name!r}; {hint} imports=[my_package] registers your own")
    entry = _ENTRIES[name]
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        try:
            entry = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(f"algorithm {name!r} cannot be imported from {_ENTRIES[name]}: {error}") from error
        if not isinstance(entry, Algorithm):
            raise UserError(f"algorithm {name!r}: {_ENTRIES[name]} is no Algorithm")
    return entry


@dataclass(frozen=True)
class Arm:
    """One way to learn a target: an algorithm, and what it starts from."""

    algorithm: str
    start: str

    @classmethod
    def parse(cls, text: str) -> Arm:
        """The arm "ALGORITHM/START". Raises UserError listing what there is."""
        if not isinstance(text, str):
            raise UserError(f"expected one arm as text, such as 'ivg/scratch', got {text!r}; of several arms each is a "
                            "call of its own")  # fmt: skip
        algorithm, _, start = text.partition("/")
        if algorithm not in _ENTRIES:
            raise _no_arm(text, [str(arm) for arm in arms()], "imports=[my_package] registers your own; choose from")
        starts = get(algorithm).starts
        if start not in starts:
            raise _no_arm(text, [f"{algorithm}/{known}" for known in starts], f"those of {algorithm} are")
        return cls(algorithm, start)

    def __str__(self) -> str:
        return f"{self.algorithm}/{self.start}"

    @property
    def entry(self) -> Algorithm:
        """What is registered of the algorithm."""
        return get(self.algorithm)

    @property
    def base(self) -> Arm | None:
        """The arm it is measured against, or None."""
        start = self.entry.base(self.start)
        return None if start is None else Arm(self.algorithm, start)

    @property
    def from_scratch(self) -> bool:
        """Whether its weights are new."""
        return self.start.startswith(SCRATCH)

    @property
    def with_data(self) -> bool:
        """Whether source episodes stand beside the target's."""
        return self.start.endswith(DATA)

    @property
    def needs_model(self) -> bool:
        """Whether it needs a pretrained model, or the source data that its folder names."""
        return self.start != SCRATCH


def _no_arm(text: str, known: Sequence[str], introduced: str) -> UserError:
    """Says that there is no arm called `text`: with the nearest of those `known`, if both of its parts are near, or all
    of them.
    """
    near = [arm for arm in difflib.get_close_matches(text, known) if all(
        difflib.get_close_matches(part, [other]) for part, other in zip(text.split("/"), arm.split("/"), strict=False)
    )]  # fmt: skip
    hint = f"did you mean {near[0]!r}?" if near else f"{introduced} {', '.join(known)}"
    return UserError(f"there is no arm {text!r}; {hint}")


def arms() -> list[Arm]:
    """Every arm of every registered algorithm that can be imported (`get` says why one cannot)."""
    found = []
    for name in names():
        with contextlib.suppress(UserError):
            found += [Arm(name, start) for start in get(name).starts]
    return found
