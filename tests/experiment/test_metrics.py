"""Metric log: lines, TensorBoard scalars, and a resume that forgets what came after the checkpoint."""

import json
import math

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from meta_latent import files
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.runs import metrics
from meta_latent.experiment.runs.metrics import MetricLog


def train(step, **more):
    return {"env_steps": step, "updates": 2 * step, "seconds": 0.5 * step, **more}


def board(path, tag):
    accumulator = EventAccumulator(str(path / "tensorboard")).Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_records_go_to_both_places(tmp_path):
    log = MetricLog(tmp_path)
    log.write("train", train(1, loss=torch.tensor(0.5), count=np.int64(3), note="x", flag=True, none=None))
    log.write("evaluation", train(2, score=0.25, raw_return=np.float32(10), success=0.5))
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == {"kind": "train", **train(1, loss=0.5, count=3, note="x", flag=True, none=None)}
    assert lines == metrics.read(tmp_path) and metrics.read(tmp_path, "evaluation") == lines[1:]
    assert board(tmp_path, "train/loss") == [(1, 0.5)]
    assert board(tmp_path, "evaluation/score") == [(2, 0.25)]


def test_non_finite_numbers_leave_valid_json(tmp_path):
    log = MetricLog(tmp_path)
    log.write("train", train(1, a=math.nan, b=np.float64("inf"), c=torch.tensor(-math.inf)))
    log.close()
    assert [metrics.read(tmp_path)[0][name] for name in "abc"] == [None] * 3


def test_lists_and_mappings_are_written_but_not_drawn(tmp_path):
    log = MetricLog(tmp_path)
    log.write("train", train(1, a={"x": [1, np.float32(0.5), math.nan]}, b=[np.int64(3), math.inf]))
    log.close()
    (found,) = metrics.read(tmp_path)
    assert (found["a"], found["b"]) == ({"x": [1, 0.5, None]}, [3, None])
    drawn = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["scalars"]
    assert drawn == ["train/updates", "train/seconds"]


def test_mistakes_in_a_record(tmp_path):
    log = MetricLog(tmp_path)
    with pytest.raises(ValueError, match="'test'"):
        log.write("test", train(1))
    with pytest.raises(ValueError, match="'updates'"):
        log.write("train", {"env_steps": 1, "seconds": 1})
    with pytest.raises(ValueError, match="'success'"):
        log.write("evaluation", train(1, score=1, raw_return=1))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_resume_forgets_what_came_after_the_checkpoint(tmp_path):
    log = MetricLog(tmp_path)
    for step in (10, 20):
        log.write("train", train(step, loss=float(step)))
    state = log.state()
    for step in (30, 40):
        log.write("train", train(step, loss=float(step)))
    log.close()

    log = MetricLog(tmp_path)
    log.load_state(json.loads(json.dumps(state)))
    assert log.state() == state
    log.write("train", train(30, loss=-1.0))
    log.close()
    assert [r["loss"] for r in metrics.read(tmp_path)] == [10, 20, -1]
    assert board(tmp_path, "train/loss") == [(10, 10), (20, 20), (30, -1)]


def test_without_a_checkpoint_everything_is_forgotten(tmp_path):
    log = MetricLog(tmp_path)
    log.write("train", train(10, loss=1.0))
    log.close()
    log = MetricLog(tmp_path)
    log.reset()
    log.write("train", train(5, loss=2.0))
    log.close()
    assert [r["loss"] for r in metrics.read(tmp_path)] == [2]
    assert board(tmp_path, "train/loss") == [(5, 2)]


def test_without_truncating_the_log_goes_on(tmp_path):
    for step in (1, 2):
        log = MetricLog(tmp_path)
        log.write("train", train(step, loss=float(step)))
        log.close()
    assert log.state()["env_steps"] == 2
    assert board(tmp_path, "train/loss") == [(1, 1), (2, 2)]


def test_many_resumes_within_one_second_stay_in_order(tmp_path):
    states = [None]
    for step in range(1, 13):  # past 9, where the counter in TensorBoard's own file names sorts wrongly
        log = MetricLog(tmp_path)
        log.reset() if states[-1] is None else log.load_state(states[-1])
        log.write("train", train(step, loss=float(step)))
        states.append(log.state())
        log.close()
    assert board(tmp_path, "train/loss") == [(step, step) for step in range(1, 13)]


def test_a_file_shorter_than_its_checkpoint_is_refused(tmp_path):
    log = MetricLog(tmp_path)
    log.write("train", train(1))
    state = log.state()
    log.close()
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=f"expects {state['bytes']}"):
        MetricLog(tmp_path).load_state(state)
    with pytest.raises(UserError, match="out=") as caught:
        MetricLog(tmp_path).check(state)
    assert "delete" not in str(caught.value)


def test_reading_after_a_kill_and_after_damage(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "env_steps": 1}\n{"kind": "tr')
    assert len(metrics.read(tmp_path)) == 1
    (tmp_path / "metrics.jsonl").write_text('{"kind": "tr\n{"kind": "train", "env_steps": 1}\n')
    with pytest.raises(UserError, match="line 1"):
        metrics.read(tmp_path)
    assert metrics.read(tmp_path / "nowhere") == []


def test_full_disk(tmp_path, monkeypatch):
    def hook(event, path):
        raise OSError(28, "No space left on device")

    log = MetricLog(tmp_path)
    monkeypatch.setattr(files, "fault_hook", hook)
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        log.write("train", train(1))
