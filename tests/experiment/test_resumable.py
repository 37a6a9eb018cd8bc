"""Resumable runs: parts saved and loaded together; the checkpoint before the last where the last fails."""

import contextlib
import shutil

import numpy as np
import pytest
import torch

from meta_latent import files
from meta_latent.data.replay import ReplayConfig, SequenceReplay
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.runs import checkpoint, metrics, run_folder
from meta_latent.experiment.runs.metrics import MetricLog
from meta_latent.experiment.runs.resumable import Progress, Resumable
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.rng import Streams
from meta_latent.types import Spec

SPEC = Spec({"top": (2, 2, 3)}, 1, 1, 1)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Hundreds of runs, and no power cut among them: leave out the real syncs and what asks git."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(run_folder, "commit", lambda: None)


class Agent:
    """Draws from a stream, so that its weights tell how often it was updated, and with what."""

    def __init__(self):
        self.weights = torch.zeros(3)

    def state(self):
        return {"weights": self.weights}

    def load_state(self, state):
        self.weights = state["weights"] + torch.zeros(3)  # another shape is a RuntimeError


class Run:
    """A toy run with the parts of a real one: segments of two episodes, the last three kept."""

    def __init__(self, root):
        self.folder = RunFolder(root, {"a": 1})
        self.streams, self.agent, self.log = Streams(3), Agent(), MetricLog(self.folder)
        self.progress = Progress(episodes=0)
        config = ReplayConfig(capacity=12, segment=10)
        self.replay = SequenceReplay(SPEC, config, self.folder.path("replay"))
        self.run = Resumable(
            self.folder,
            {
                "progress": self.progress,
                "streams": self.streams,
                "agent": self.agent,
                "policy": None,
                "replay": self.replay,
                "log": self.log,
            },
        )
        try:
            self.resumed = self.run.resume()
        except BaseException:
            self.folder.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.close()
        self.folder.close()

    def rounds(self, until, save=True):
        while self.progress["episodes"] < until:
            index = self.progress["episodes"]
            values = self.streams.numpy("data").random((5, 1), np.float32)
            self.replay.add_episode(
                {
                    "image_top": np.full((5, 2, 2, 3), index, np.uint8),
                    "proprio": values,
                    "action": values,
                    "reward": values[:, 0],
                    "reward_present": np.ones(5),
                    "reward_inputs": values,
                    **dict.fromkeys(("is_first", "is_last", "is_terminal", "is_task_first"), np.zeros(5, bool)),
                }
            )
            self.agent.weights = self.agent.weights + float(values.sum())
            self.progress["episodes"] = index + 1
            clocks = {"env_steps": self.replay.env_steps, "updates": index, "seconds": 0.0}
            self.log.write("train", {**clocks, "loss": float(values[0, 0])})
            if save:
                self.run.save()
        return self


def outcome(root):
    found = {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "replay").rglob("*.bin"))}
    state = checkpoint.load(root / "checkpoints")
    return found | {
        "lines": metrics.read(root),
        "weights": state["agent"]["weights"].tolist(),
        "names": list(state),
        "progress": state["progress"],
        "log": state["log"],
        "streams": state["streams"],
        "replay": str(state["replay"]),
    }


@pytest.fixture
def whole(tmp_path):
    with Run(tmp_path / "whole") as run:
        assert not run.resumed
        run.rounds(9)
    return outcome(tmp_path / "whole")


def begun(root, until):
    with Run(root) as run:
        run.rounds(until)
    return root


def test_a_resumed_run_ends_as_one_never_stopped(tmp_path, whole):
    for until in range(1, 10):
        with Run(tmp_path / "parts") as run:
            assert run.resumed == (until > 1) and run.progress == {"episodes": until - 1}
            run.rounds(until)
    assert outcome(tmp_path / "parts") == whole
    assert whole["names"] == ["progress", "streams", "agent", "policy", "replay", "log"]


def test_without_a_checkpoint_the_log_begins_again(tmp_path):
    with Run(tmp_path) as run:
        run.rounds(2, save=False)
    with Run(tmp_path) as run:
        assert not run.resumed and metrics.read(tmp_path) == [] and run.replay.env_steps == 0


def cut(pattern, by=1):
    def damage(root):
        path = sorted(root.glob(pattern))[-1]
        path.write_bytes(path.read_bytes()[:-by])

    return damage


def newest_tensors(root):
    name = checkpoint._read_index(root / "checkpoints" / checkpoint.INDEX)["tensors"]
    path = root / "checkpoints" / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")


DAMAGES = {
    "images": cut("replay/*/image_top.bin"),
    "rewards": cut("replay/*/reward.bin", 3),
    "segment": lambda root: shutil.rmtree(sorted((root / "replay").iterdir())[-1]),
    "log": cut("metrics.jsonl"),
    "tensors": newest_tensors,
    "index": cut("checkpoints/checkpoint.json", 40),
    "no index": lambda root: (root / "checkpoints" / "checkpoint.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_where_the_last_checkpoint_does_not_fit_the_one_before_is_taken(tmp_path, whole, capsys, damage):
    # Seven episodes: the last one began a segment, and an older segment was evicted with it.
    root = begun(tmp_path / "parts", 7)
    DAMAGES[damage](root)
    with Run(root) as run:
        assert run.resumed and run.progress["episodes"] == 6
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("going on from the checkpoint before the last one") and "delete" not in line
        assert not checkpoint.exists(root / "checkpoints", previous=True)
    with Run(root) as run:  # stopped at once: the damaged one is not tried again
        assert run.progress["episodes"] == 6 and not capsys.readouterr().err
        run.rounds(9)
    assert outcome(root) == whole


def test_segments_that_the_checkpoint_before_names_stay(tmp_path):
    with Run(tmp_path) as run:
        for until in range(1, 12):
            run.rounds(until)
            there = {int(path.name[-6:]) for path in (tmp_path / "replay").iterdir()}
            named = [
                {row[0] for row in checkpoint.load(tmp_path / "checkpoints", previous)["replay"]["segments"]}
                for previous in (False, True)
                if checkpoint.exists(tmp_path / "checkpoints", previous)
            ]
            assert there == set.union(*named)
        run.run.save()  # nothing new: what the one before it names stays
        assert {int(path.name[-6:]) for path in (tmp_path / "replay").iterdir()} == there


def test_a_second_save_of_the_same_costs_the_one_before_nothing(tmp_path, whole):
    root = tmp_path / "parts"
    with Run(root) as run:
        run.rounds(7)
        run.run.save()
    newest_tensors(root)
    with Run(root) as run:
        assert run.progress["episodes"] == 6
        run.rounds(9)
    assert outcome(root) == whole


def contents(root):
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.suffix in (".bin", ".jsonl")}


@pytest.mark.parametrize("name", ["reward.bin", "metrics.jsonl"])
def test_if_both_fail_the_run_stops_with_one_line_and_changes_no_file(tmp_path, name):
    """The log is the last part: the replay must not have been cut by then."""
    root = begun(tmp_path, 8)
    path = sorted(root.rglob(name))[-1]
    intact = path.read_bytes()
    path.write_bytes(intact[:3])
    before = contents(root)
    with pytest.raises(UserError, match=f"{name}.* before it cannot .*{name}") as caught:
        Run(root)
    assert "delete" not in str(caught.value) and "\n" not in str(caught.value)
    assert contents(root) == before
    path.write_bytes(intact)
    with Run(root) as run:
        assert run.progress["episodes"] == 8


def test_the_only_checkpoint_fails(tmp_path):
    root = begun(tmp_path, 1)
    newest_tensors(root)
    with pytest.raises(UserError, match="is damaged") as caught:
        Run(root)
    assert "before" not in str(caught.value)


def test_another_version_does_not_cost_the_last_checkpoint(tmp_path, monkeypatch):
    root = begun(tmp_path, 3)
    before = contents(root)
    with monkeypatch.context() as patch:
        patch.setattr(Agent, "load_state", lambda self, state: state["missing"])
        with pytest.raises(checkpoint.Misfit, match="KeyError: 'missing'.*out=") as caught:
            Run(root)
    assert "delete" not in str(caught.value) and contents(root) == before
    with Run(root) as run:
        assert run.progress["episodes"] == 3


def test_killed_at_any_step_of_a_save(tmp_path, whole, monkeypatch):
    class Kill(BaseException):
        pass

    for step in range(60):
        root, seen = tmp_path / str(step), []
        begun(root, 6)

        def hook(event, path, seen=seen, step=step):
            seen.append(event)
            if len(seen) > step:
                raise Kill

        with Run(root) as run, monkeypatch.context() as patch:
            patch.setattr(files, "fault_hook", hook)
            with contextlib.suppress(Kill):
                run.rounds(7)
        finished = len(seen) <= step
        with Run(root) as run:
            assert run.progress["episodes"] in ((7,) if finished else (6, 7))
            run.rounds(9)
        assert outcome(root) == whole
        if finished:
            break
    assert step > 20


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    with Run(tmp_path) as run:
        run.rounds(2)

        def hook(event, path):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(files, "fault_hook", hook)
            with pytest.raises(RunError, match="disk is full"):
                run.run.save()
    with Run(tmp_path) as run:
        assert run.progress["episodes"] == 2
