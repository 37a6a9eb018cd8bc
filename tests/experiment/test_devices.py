"""What `device=cuda` sets for a run, and what a run says of its machine; no GPU is needed to see that."""

import os

import pytest
import torch

from meta_latent.experiment.runs import devices


def settings():
    return (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory)  # fmt: skip


def test_a_run_on_a_gpu_repeats_and_the_process_is_as_before(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = settings()
    with pytest.raises(KeyError), devices.repeatable("cuda:1"):
        assert settings() == (True, True, False, False) and torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise KeyError
    assert settings() == before and before[:3] == (False, False, True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"  # a process reads it once
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with devices.repeatable("cuda:1"):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_run_on_a_cpu_changes_nothing(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with devices.repeatable("cpu"):
        assert settings() == before and "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_the_machine_of_a_run_on_a_gpu_is_told_with_its_gpu(monkeypatch):
    assert set(devices.machine("cpu")) == {"system", "processor", "cores"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the name of {device}")
    assert devices.machine("cuda:1")["gpu"] == "the name of cuda:1" and "gpu" not in devices.machine("cpu")
