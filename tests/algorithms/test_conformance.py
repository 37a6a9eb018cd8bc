"""Every registered algorithm keeps the contract of `protocols.Agent`; a new one is held to it by its registration."""

import dataclasses
import inspect
import json

import pytest
import torch

from meta_latent import protocols
from meta_latent.algorithms import registry
from meta_latent.algorithms.registry import Arm
from meta_latent.data import collect
from meta_latent.data.collect import Shown, play
from meta_latent.errors import UserError
from meta_latent.experiment.learning import starts
from meta_latent.experiment.learning.inspection import inspected, replay_of
from meta_latent.experiment.runs import checkpoint
from meta_latent.rng import Streams
from meta_latent.types import Spec, Step

COUNTING = {"suite": "toy/counting", "options": {"episode_steps": 6, "ends": "terminate"}}


VARIANTS = {"mb_mpo_alpha0", "mb_mpo_first_order", "mb_mpo_one_model", "me_ppo", "ppo"}
"""The same agents as others, with a setting changed."""


def marked(name, value=None, slow=False):
    marks = pytest.mark.baselines if registry.get(name).extra is not None else ()
    return pytest.param(value or name, marks=pytest.mark.slow if slow or name in VARIANTS else marks)


def brings_most(arm):
    """Whether no other arm of its algorithm takes over and keeps more, which is what a checkpoint is about."""

    def rank(start):
        return start.startswith("pretrained"), len(start)

    return rank(arm.start) == max(map(rank, registry.get(arm.algorithm).starts))


NAMES = [marked(name) for name in registry.names()]
ARMS = [marked(arm.algorithm, str(arm)) for arm in registry.arms()]
RESUMED = [marked(arm.algorithm, str(arm), slow=not brings_most(arm)) for arm in registry.arms()]


def first_arm(name):
    """The arm that needs least."""
    starts_ = registry.get(name).starts
    return f"{name}/{'scratch' if 'scratch' in starts_ else starts_[0]}"


def counting(bench, arm):
    """The counting task as a target that fits the arm; another one where it shows too little of its state."""
    if "states" in registry.get(arm.partition("/")[0]).needs:
        return {"suite": "toy/rotated_actuators", "options": {"episode_steps": 6}}
    if Arm.parse(arm).with_data and "functions" in registry.get(arm.partition("/")[0]).needs:
        return {"suite": "toy/counting", "options": {"episode_steps": 6}}  # source episodes end as the target's do
    needs_data = "data" in registry.get(arm.partition("/")[0]).needs
    return COUNTING | ({"data": str(bench.model("toy/counting"))} if needs_data else {})


@pytest.mark.parametrize("name", NAMES)
def test_the_agent_has_every_method_with_its_parameters(bench, tmp_path, name):
    with bench.learning(bench.experiment(tmp_path, first_arm(name)), first_arm(name)) as learning:
        assert isinstance(learning.agent, protocols.Agent)
        for method, wanted in vars(protocols.Agent).items():
            if inspect.isfunction(wanted) and not method.startswith("_"):
                found = list(inspect.signature(getattr(type(learning.agent), method)).parameters)
                assert found == list(inspect.signature(wanted).parameters), method
        assert learning.agent.updates == 0 and 1 <= learning.agent.heads <= 32
        assert learning.agent.wants() is None or learning.agent.wants() >= 0


class Only:
    """A replay that has what `protocols.Replay` has, and nothing else."""

    named = {*vars(protocols.Replay), *protocols.Replay.__annotations__}

    def __init__(self, replay):
        self._replay = replay

    def __len__(self):
        return len(self._replay)

    def __getattr__(self, name):
        if name.startswith("_") or name not in self.named:
            raise AttributeError(f"protocols.Replay has no {name}")
        found = getattr(self._replay, name)
        return (lambda *given, **more: Only(found(*given, **more))) if name == "view" else found


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_from_what_the_protocol_says_of_a_replay(bench, tmp_path, name):
    with bench.learning(bench.experiment(tmp_path, first_arm(name)), first_arm(name)) as learning:
        for _ in range(2):
            learning.collector.round(learning.agent, learning.replay, learning.streams)
            learning.agent.update(Only(learning.replay), learning.streams)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("suite", ["its own", "toy/counting"])
def test_it_acts_alike_given_its_streams(bench, tmp_path, frozen, arm, suite):
    """Actions (B, A) in [-1, 1] whatever the length of episodes, and the same ones again from the same streams."""
    target = None if suite == "its own" else counting(bench, arm)
    if target and Arm.parse(arm).needs_model:
        bench.model(target["suite"])
    with bench.learning(bench.experiment(tmp_path, arm, target=target), arm) as learning:
        agent, bound, count = learning.agent, learning.target, 3
        task = starts.task_vectors(bound.tasks[:1]).expand(count, -1)
        before = frozen(agent.state())
        for explore in (False, True):
            seen = []
            for _ in range(2):
                probe = Recorder(agent)
                seen.append(probe.calls)
                with learning.collector._envs.rows([bound.tasks[0]] * count) as rows:
                    play(rows, probe, torch.arange(2 * count).view(count, 2).numpy(), Streams(3), explore=explore,
                         shown=Shown(learning.arm.entry.sees, task))  # fmt: skip
            for action, carry in probe.calls:
                assert action.shape == (count, bound.distribution.action_space.shape[0])
                assert action.dtype == torch.float32 and action.device.type == "cpu" and not action.requires_grad
                assert action.abs().max() <= 1 and all(len(leaf) == count for leaf in leaves(carry))
            assert frozen(seen[0]) == frozen(seen[1])
        assert frozen(agent.state()) == before


class Recorder:
    """An agent whose actions and carries are written down."""

    def __init__(self, agent):
        self.agent, self.calls = agent, []

    def begin_task(self, batch_size):
        return self.agent.begin_task(batch_size)

    def act(self, step, carry, rng, explore):
        action, after = self.agent.act(step, carry, rng, explore)
        self.calls.append((action, after))
        return action, after


def leaves(carry):
    """The tensors of a carry."""
    if carry is None:
        return []
    if isinstance(carry, torch.Tensor):
        return [carry]
    if dataclasses.is_dataclass(carry):
        carry = {f.name: getattr(carry, f.name) for f in dataclasses.fields(carry)}
    parts = carry.values() if isinstance(carry, dict) else carry
    return [leaf for part in parts for leaf in leaves(part)]


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_its_carry_can_be_selected(bench, tmp_path, name):
    """A row that is kept stands still, the others go on."""
    arm = first_arm(name)
    with bench.learning(bench.experiment(tmp_path, arm), arm) as learning:
        probe, bound = Recorder(learning.agent), learning.target
        task = starts.task_vectors(bound.tasks[:1]).expand(2, -1)
        with learning.collector._envs.rows([bound.tasks[0]] * 2) as rows:
            play(rows, probe, torch.tensor([[0], [1]]).numpy(), Streams(0), explore=True,
                 shown=Shown(learning.arm.entry.sees, task))  # fmt: skip
        (_, old), (_, new) = probe.calls[:2]
        for begun in (old, learning.agent.begin_task(2)):  # also where a trial begins anew in some rows
            mixed = collect.select(torch.tensor([True, False]), new, begun)
            for got, after, before in zip(leaves(mixed), leaves(new), leaves(begun), strict=True):
                assert torch.equal(got[0], after[0]) and torch.equal(got[1], before[1])


@pytest.mark.parametrize("name", NAMES)
def test_it_tells_what_it_declares_of_trials_of_any_length(bench, tmp_path, frozen, name):
    """One number per observation, by names of its registration; asked twice it says the same, and learns nothing."""
    arm = first_arm(name)
    with bench.learning(bench.experiment(tmp_path, arm), arm) as learning:
        agent, bound, spec = learning.agent, learning.target, Spec.of(learning.target.distribution)
        before, task = frozen(agent.state()), starts.task_vectors(bound.tasks[:1]).expand(2, -1)
        for episodes in (1, 3):
            with learning.collector._envs.rows([bound.tasks[0]] * 2) as rows:
                played = play(rows, agent, torch.arange(2 * episodes).view(2, episodes).numpy(), Streams(0),
                              explore=False, shown=Shown(learning.arm.entry.sees, task), keep=True)  # fmt: skip
            found = [inspected(agent, learning.arm.entry, spec, played.episodes) for _ in range(2)]
            assert found[0] == found[1] and set(found[0]) <= set(learning.arm.entry.inspects)
            if learning.arm.entry.maps:
                trials = replay_of(spec, played.episodes, agent.heads).trials(None, episodes)
                count = trials.reward.shape[1]
                cut = {field.name: getattr(trials, field.name)[:1, 2:5] for field in dataclasses.fields(Step)
                       if isinstance(x := getattr(trials, field.name), torch.Tensor) and x.ndim > 1}  # fmt: skip
                images = {name: x[:1, 2:5] for name, x in trials.images.items()}
                expected = agent.believed_rewards(trials, dataclasses.replace(trials, images=images, **cut))
                assert expected.shape == (2, count, 3) and expected.isfinite().all() and not expected.requires_grad
        assert frozen(agent.state()) == before
        assert all(meaning for meaning in learning.arm.entry.inspects.values())


@pytest.mark.parametrize("arm", RESUMED)
def test_it_goes_on_bit_for_bit_from_a_checkpoint_after_every_round(bench, tmp_path, frozen, arm):
    """Slices of one update are rounds too. Only declared metrics are returned."""
    whole, cut = (bench.experiment(tmp_path / name, arm) for name in ("whole", "cut"))
    rounds, states, measured = 6, [], []
    with bench.learning(whole, arm) as learning:
        for _ in range(rounds):
            measured.append(bench.round(learning))
            states.append(frozen([learning.agent.state(), learning.streams.state(), learning.replay.env_steps]))
        updates = learning.agent.updates
    assert updates > 0 and set().union(*measured) and set().union(*measured) <= set(learning.arm.entry.metrics)
    assert all(isinstance(value, float) for metrics in measured for value in metrics.values())
    for k in range(rounds):
        with bench.learning(cut, arm) as learning:
            assert bench.round(learning) == measured[k]
            found = frozen([learning.agent.state(), learning.streams.state(), learning.replay.env_steps])
            assert found == states[k], f"after round {k}"
            learning.saved.save()


@pytest.mark.parametrize("arm", ARMS)
def test_a_whole_cell(bench, tmp_path, arm):
    folder = bench.cell(bench.experiment(tmp_path, arm), arm)
    record = json.loads((folder / "run.json").read_text())
    parsed = Arm.parse(arm)
    assert record["status"] == "done" and record["clock"] == parsed.entry.clock
    assert (record["algorithm"], record["start"]) == (parsed.algorithm, parsed.start)
    assert record["compared_with"] == (str(parsed.base) if parsed.base else None)
    assert record["metrics"] == dict(parsed.entry.metrics)
    assert record[record["clock"]] >= record["budget"] and record["updates"] > 0
    assert checkpoint.load(folder / "checkpoints")["agent"]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_given_more_budget_it_ends_as_if_it_had_had_it_from_the_start(bench, tmp_path, frozen, arm):
    def agent(out, budget):
        clock = Arm.parse(arm).entry.clock
        folder = bench.cell(bench.experiment(tmp_path / out, arm, f"transfer.budget_{clock}.default={budget}"), arm)
        found = frozen(checkpoint.load(folder / "checkpoints")["agent"])
        return found, json.loads((folder / "run.json").read_text())[clock]

    less, more, whole = agent("parts", 100), agent("parts", 200), agent("whole", 200)
    assert less[1] < more[1] and less[0] != more[0]
    assert more == whole


@pytest.mark.parametrize("arm", ARMS)
def test_a_target_that_lacks_what_it_needs_is_refused_by_name(bench, tmp_path, unpaid, arm):
    """Data that are missing, or that nobody would read; a reward that cannot be computed; a core without density."""
    parsed, target = Arm.parse(arm), bench.target(arm)
    wrong = {k: v for k, v in target.items() if k != "data"}
    if "data" not in target:
        wrong["data"] = str(bench.model("toy/lqr"))
    with pytest.raises(UserError, match=f"^{arm}.*transfer.targets.target.data".replace("+", r"\+")):
        bench.cell(bench.experiment(tmp_path, arm, target=wrong), arm)
    if "functions" in parsed.entry.needs and not parsed.needs_model:
        with pytest.raises(UserError, match="target target has no reward function"):
            bench.cell(bench.experiment(tmp_path, arm, target={"suite": "mine/unpaid"}), arm)
    if "density" in parsed.entry.needs and parsed.from_scratch:
        with pytest.raises(UserError, match=f"^{arm}.*density".replace("+", r"\+")):
            bench.cell(bench.experiment(tmp_path, arm, "model.core.kind=deterministic"), arm)
