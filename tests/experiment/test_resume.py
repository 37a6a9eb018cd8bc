"""Exact resume: however a run was stopped, the same command ends with the same bits."""

import json
import shutil

import pytest

from meta_latent import files
from meta_latent.errors import UserError
from meta_latent.experiment.learning import cells as transfer
from meta_latent.experiment.pretraining import pretrain
from meta_latent.experiment.runs import checkpoint, run_folder

ARMS = (
    "ivg/pretrained",
    "ivg/scratch",
    "sac/scratch",
    "ivg/pretrained+data",
    "ivg/scratch+data",
    "ivg/policy",
)
TWO_ROUNDS = ("pretrain.policy_updates=4", "pretrain.on_policy=0.3")
EVICTING = (
    "transfer.replay.capacity=40",
    "transfer.replay.segment=30",
    "transfer.budget_env_steps.default=200",
)
MAPPED = ("transfer.replay.memory_map=true",)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Hundreds of runs, and no power cut among them: leave out the real syncs and what asks git."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(run_folder, "commit", lambda: None)


def interrupted(monkeypatch, module, command, stop):
    """Interrupt with `stop(n)`, run the same command again, ... until it ends: (how often, what it
    returned).
    """
    for count in range(1000):
        with monkeypatch.context() as patch:
            patch.setattr(module, "deferred", stop(count))
            try:
                return count, command()
            except KeyboardInterrupt:
                continue
    raise AssertionError("the run never ends")


@pytest.mark.parametrize("queries", [1, pytest.param(2, marks=pytest.mark.slow), 5])
def test_pretraining_interrupted_again_and_again(toy, toy_model, tmp_path, monkeypatch, queries):
    count, folder = interrupted(
        monkeypatch, pretrain, lambda: toy.pretrain(tmp_path, *TWO_ROUNDS), lambda n: toy.StopAfter(queries + n % 2)
    )
    assert count > 3
    assert toy.first_difference(toy.outcome(toy_model), toy.outcome(folder)) is None


EVERY = [(arm, ()) for arm in ARMS] + [
    (arm, more) for arm in ARMS[:3] for more in (EVICTING, MAPPED, EVICTING + MAPPED)
]
FAST = [
    (ARMS[0], ()),
    (ARMS[1], EVICTING + MAPPED),
    (ARMS[2], EVICTING),
    (ARMS[3], MAPPED),
    (ARMS[4], ()),
    (ARMS[5], ()),
]


@pytest.mark.parametrize(
    ("arm", "more"),
    [pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow) for pair in dict.fromkeys([*FAST, *EVERY])]
    + [
        pytest.param("sb3_sac/scratch", (*more, "algorithms.sb3_sac.batch_size=8"), marks=pytest.mark.baselines)
        for more in ((), EVICTING)
    ],
)
def test_transfer_interrupted_after_every_episode(toy, toy_model, tmp_path, monkeypatch, arm, more):
    overrides = (f"pretrained={toy_model / 'model'}", *more)
    whole = toy.transfer(tmp_path / "whole", arm, *overrides)
    count, folder = interrupted(
        monkeypatch,
        transfer,
        lambda: toy.transfer(tmp_path / "parts", arm, *overrides),
        lambda n: toy.StopAfter(0),
    )
    assert count == (8 if "transfer.budget_env_steps.default=200" in more else 4)  # episodes of 25 steps
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None


def test_a_run_that_goes_on_says_what_is_asked_of_it(toy, tmp_path, monkeypatch):
    """Its report knows the threshold, and on which scale the scores are."""
    whole = run_folder.read_record(toy.transfer(tmp_path / "whole", "ivg/scratch"))
    monkeypatch.setattr(transfer, "deferred", toy.StopAfter(0))
    with pytest.raises(KeyboardInterrupt):
        toy.transfer(tmp_path / "parts", "ivg/scratch")
    (folder,) = (path.parent for path in (tmp_path / "parts").rglob("run.json"))
    stopped = run_folder.read_record(folder)
    assert stopped["status"] == "interrupted" and whole["thresholds"] and whole["reference"] is not None
    at_the_end = {"random_return", "stopped_at", "env_steps", "updates", "seconds", "cpu_seconds", "update_seconds"}
    assert whole.keys() - stopped.keys() == at_the_end
    own = ("pid", "started", "updated", "status", "settings_sha256", "command")
    assert all(whole[key] == stopped[key] for key in stopped if key not in own)


@pytest.mark.parametrize("arm", [ARMS[0], *(pytest.param(arm, marks=pytest.mark.slow) for arm in ARMS[1:])])
def test_a_finished_run_that_is_given_more_budget_ends_as_if_it_had_had_it_from_the_start(
    toy, toy_model, tmp_path, capsys, monkeypatch, arm
):
    def learn(out, budget):
        more = (f"transfer.budget_env_steps.default={budget}", "transfer.evaluation.interval_env_steps=50")
        return toy.transfer(tmp_path / out, arm, f"pretrained={toy_model / 'model'}", *more)

    whole, less = learn("whole", 100), toy.outcome(learn("more", 50))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(transfer, "deferred", toy.StopAfter(0))
        learn("more", 100)
    assert capsys.readouterr().out.count("goes on after 50 of 100 steps\n") == 1
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "more").rglob("run.json"))
    assert (record["status"], record["budget"]) == ("interrupted", 100)
    folder = learn("more", 100)
    assert capsys.readouterr().out.startswith("goes on after 75 of 100 steps\n")
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None
    assert toy.outcome(folder)["metrics"][: len(less["metrics"])] == less["metrics"]
    assert run_folder.read_record(folder)["budget"] == 100
    with pytest.raises(UserError, match=r"transfer\.budget_env_steps\.default=100, .*, and not less than 100: "):
        learn("more", 50)
    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
    ):
        patch.setattr(transfer, "deferred", toy.StopAfter(0))
        learn("more", 1_000_000)
    assert run_folder.read_record(folder)["status"] == "interrupted"
    with pytest.raises(UserError, match="it may get more, and not less than 100: "):
        learn("more", 75)
    assert toy.outcome(learn("more", 125))["record"]["env_steps"] == run_folder.read_record(folder)["budget"] == 125


def test_eviction_keeps_the_capacity_and_counts_all_steps(toy, toy_model, tmp_path):
    folder = toy.transfer(tmp_path, "sac/pretrained", f"pretrained={toy_model / 'model'}", *EVICTING)
    found = toy.outcome(folder)
    assert found["record"]["env_steps"] == 200 and found["metrics"][-1]["env_steps"] == 200
    assert len(found["checkpoint"]["replay"]["segments"]) == 2  # 50 steps in two segments, the others are gone
    before = checkpoint.load(folder / "checkpoints", previous=True)["replay"]["segments"]
    named = {row[0] for row in (*found["checkpoint"]["replay"]["segments"], *before)}
    assert {int(path.name[-6:]) for path in (folder / "replay").iterdir()} == named


def photographed(monkeypatch, folder, command, keep):
    """Run `command`; at every step of writing that `keep(number)` wants, copy `folder`: what a kill would
    leave.
    """
    copies = folder.with_name("copies")
    seen = []

    def hook(event, path):
        seen.append(f"{event} {path.name}")
        if keep(len(seen)):
            shutil.copytree(folder, copies / f"{len(seen):04d} {event} {path.name}")

    with monkeypatch.context() as patch:
        patch.setattr(files, "fault_hook", hook)
        command()
    assert len(seen) > 40
    return sorted(copies.iterdir())


def check_every_copy(toy, copies, folder, command, wanted):
    """From each copy the same command must reach the same outcome."""
    for copy in copies:
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
        command()
        assert toy.first_difference(wanted, toy.outcome(folder)) is None, f"killed before {copy.name}"


def killed_everywhere(toy, monkeypatch, folder, command, keep):
    """Kill before the steps of writing that `keep` wants, resume, compare."""
    copies = photographed(monkeypatch, folder, command, keep)
    check_every_copy(toy, copies, folder, command, toy.outcome(folder))


def test_pretraining_killed_while_writing(toy, tmp_path, monkeypatch):
    folder = tmp_path / "toy" / "pretrain" / "0"
    killed_everywhere(toy, monkeypatch, folder, lambda: toy.pretrain(tmp_path), lambda n: n % 11 == 0)


@pytest.mark.slow
def test_pretraining_killed_before_many_writes(toy, tmp_path, monkeypatch):
    folder = tmp_path / "toy" / "pretrain" / "0"
    killed_everywhere(toy, monkeypatch, folder, lambda: toy.pretrain(tmp_path), lambda n: n % 5 == 1)


def test_transfer_killed_while_writing(toy, toy_model, tmp_path, monkeypatch):
    folder = transfer.cell_folder(toy.experiment(tmp_path), "goal", "ivg/pretrained", 0)
    overrides = (f"pretrained={toy_model / 'model'}", *EVICTING)
    killed_everywhere(
        toy, monkeypatch, folder, lambda: toy.transfer(tmp_path, "ivg/pretrained", *overrides), lambda n: n % 23 == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_transfer_killed_before_many_writes(toy, toy_model, tmp_path, monkeypatch, arm):
    folder = transfer.cell_folder(toy.experiment(tmp_path), "goal", arm, 0)
    overrides = (f"pretrained={toy_model / 'model'}", "transfer.video=true")
    killed_everywhere(toy, monkeypatch, folder, lambda: toy.transfer(tmp_path, arm, *overrides), lambda n: n % 13 == 1)
