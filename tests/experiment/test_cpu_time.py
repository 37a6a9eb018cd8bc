"""CPU time beside time: what a run's clock keeps, and what a report shows of it."""

import math
import time

import numpy as np
import pytest
from fabricated_runs import ramp, write_cell, write_pretraining

from meta_latent.experiment.report.build import build
from meta_latent.experiment.runs.resumable import Progress, RunClock


def test_waiting_takes_time_but_no_cpu_time(monkeypatch):
    wall, cpu = iter([100.0, 110.0, 200.0, 205.0]), iter([1.0, 3.0, 50.0, 50.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(wall))
    monkeypatch.setattr(time, "process_time", lambda: next(cpu))
    progress = Progress(seconds=7.0, cpu_seconds=5.0)
    clock = RunClock(progress)
    clock.read()
    assert dict(progress) == {"seconds": 17.0, "cpu_seconds": 7.0}
    clock.go()  # an evaluation took 90 s, which do not count
    clock.read()
    assert dict(progress) == {"seconds": 22.0, "cpu_seconds": 7.5}


def test_of_a_run_that_began_without_it_cpu_time_is_not_known():
    progress = Progress(seconds=7.0)
    clock = RunClock(progress)
    clock.read()
    assert math.isnan(progress["cpu_seconds"]) and progress["seconds"] >= 7.0


def test_a_report_shows_cpu_time_beside_time_where_all_runs_recorded_it(tmp_path):
    slower = {"ivg/pretrained": 0.2, "ivg/scratch": 0.1}  # CPU seconds a step; both take 0.5 s of the clock's
    for name, told in (("new", True), ("old", False)):
        write_pretraining(tmp_path / name)
        for arm, full_at in (("ivg/pretrained", 250), ("ivg/scratch", 750)):
            for seed in range(2):
                each = slower[arm] + (np.nan if seed == 1 and not told else 0)
                extra = (
                    {}
                    if np.isnan(each)
                    else {"evaluation": lambda steps, score, each=each: {"cpu_seconds": each * steps}}
                )
                write_cell(tmp_path / name, "t", arm, seed, ramp(full_at), **extra)
    new, old = (build(tmp_path / name, resamples=50) for name in ("new", "old"))
    fast, slow = (new["targets"]["t"]["arms"][arm] for arm in slower)
    assert fast["cpu_seconds_to_thresholds"]["0.8"] == [40, 40] and slow["cpu_seconds_to_thresholds"]["0.8"] == [60, 60]
    assert fast["seconds_to_thresholds"]["0.8"] == [100, 100]
    assert fast["speedup_seconds"]["0.8"]["ivg/scratch"]["ratio"] == pytest.approx(3)
    assert fast["speedup_cpu_seconds"]["0.8"]["ivg/scratch"]["ratio"] == pytest.approx(1.5)
    page = (tmp_path / "new/report.html").read_text()
    assert "in time: 3.0×; in CPU time: 1.50×" in page and "<br>to threshold" in page and "CPU time, s<br>" in page
    unknown = old["targets"]["t"]["arms"]["ivg/pretrained"]
    assert unknown["cpu_seconds_to_thresholds"] == {} and unknown["speedup_cpu_seconds"]["0.8"] == {}
    page = (tmp_path / "old/report.html").read_text()
    assert "in time: 3.0×<" in page and "CPU time, " not in page
