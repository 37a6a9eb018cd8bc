"""Exact resume: however a run was stopped, the same command ends with the same bits."""

import errno

import pytest

from meta_latent import files
from meta_latent.errors import RunError
from meta_latent.experiment import checkpoint, pretrain, run_folder, transfer

ARMS = ("ivg/pretrained", "ivg/scratch", "sac/scratch")


class Killed(BaseException):
    """Stands in for a kill: nothing in the package may catch it."""


class KillAt:
    """A fault hook that raises before the n-th step of writing."""

    def __init__(self, count=None, error=None):
        self.left, self.seen, self.error = count, [], error or Killed

    def __call__(self, event, path):
        self.seen.append((event, path.name))
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise self.error


def until_done(command, stops):
    """Run `command` again and again, each time with the next way to stop it, until it ends."""
    for stop in stops:
        with stop():
            return command()
    return command()


@pytest.fixture
def unsynced(monkeypatch):
    """Hundreds of runs, and no power cut among them: leave out the real syncs."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(run_folder, "commit", lambda: None)
    monkeypatch.setattr(run_folder, "versions", dict)


def interrupted_everywhere(monkeypatch, module, command, step):
    """Interrupt after `step` questions, resume, interrupt again... ; returns how often and the finished folder."""
    for count in range(1000):
        with monkeypatch.context() as patch:
            patch.setattr(module, "deferred", step(count))
            try:
                return count, command()
            except KeyboardInterrupt:
                continue
    raise AssertionError("the run never ends")


@pytest.mark.parametrize("queries", [1, 2, 5])
def test_pretraining_interrupted_again_and_again(toy, toy_model, tmp_path, monkeypatch, unsynced, queries):
    count, folder = interrupted_everywhere(
        monkeypatch, pretrain, lambda: toy.pretrain(tmp_path), lambda n: toy.StopAfter(queries + n % 2))
    assert count > 3
    assert toy.first_difference(toy.outcome(toy_model), toy.outcome(folder)) is None


@pytest.mark.parametrize("arm", ARMS)
def test_transfer_interrupted_after_every_episode(toy, toy_model, tmp_path, monkeypatch, unsynced, arm):
    model = f"pretrained={toy_model / 'model'}"
    whole = toy.transfer(tmp_path / "whole", arm, model)
    count, folder = interrupted_everywhere(
        monkeypatch, transfer, lambda: toy.transfer(tmp_path / "parts", arm, model), lambda n: toy.StopAfter(0))
    assert count == 4  # budget / episode
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None


def killed_everywhere(monkeypatch, command, folder_of, stride):
    """Kill before the first step of writing, resume and kill later, ... each time a few steps further."""
    for count in range(0, 10_000, stride):
        hook = KillAt(count)
        monkeypatch.setattr(files, "fault_hook", hook)
        try:
            return command()
        except Killed:
            if checkpoint.exists(folder_of / "checkpoints"):
                checkpoint.load(folder_of / "checkpoints")
    raise AssertionError("the run never ends")


def test_pretraining_killed_before_every_write(toy, toy_model, tmp_path, monkeypatch, unsynced):
    out = tmp_path / "out"
    folder = killed_everywhere(monkeypatch, lambda: toy.pretrain(out), out / "toy" / "pretrain" / "0", 1)
    assert toy.first_difference(toy.outcome(toy_model), toy.outcome(folder)) is None


@pytest.mark.parametrize("arm", ARMS[:2])
def test_transfer_killed_before_every_write(toy, toy_model, tmp_path, monkeypatch, unsynced, arm):
    model = f"pretrained={toy_model / 'model'}"
    whole = toy.transfer(tmp_path / "whole", arm, model)
    out = tmp_path / "parts"
    folder = killed_everywhere(monkeypatch, lambda: toy.transfer(out, arm, model),
                               transfer.cell_folder(toy.experiment(out), "goal", arm, 0), 3)
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None
