"""The doctor: says what is wrong and what mends it, and never raises."""

import importlib.metadata
import subprocess
import sys
import time

import pytest

from meta_latent.experiment.commands import doctor

CANNED = """print('{"backend": "egl", "gl_renderer": "canned", "frames_per_second": 5000.0}')"""


@pytest.fixture
def canned(monkeypatch):
    """The renderer is not what this test is about: answer for it at once."""
    monkeypatch.setattr(doctor, "_PROBE", CANNED)


def examine():
    lines = []
    status = doctor.run(lines.append)
    return status, "\n".join(lines)


def test_here_everything_needed_works_in_time():
    start = time.perf_counter()
    status, text = examine()
    assert (status, text.splitlines()[-1]) == (0, "everything needed works"), text
    assert time.perf_counter() - start < 10
    assert "frames/s" in text and "torch 2." in text


def test_a_missing_package_comes_with_its_command(monkeypatch, canned):
    real = importlib.metadata.version

    def version(name):
        if name in ("mujoco", "jinja2"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    status, text = examine()
    assert status == 1 and "needs mending: mujoco, jinja2" in text
    assert f"-> {sys.executable} -m pip install mujoco==3.3.0" in text
    assert f"-> {sys.executable} -m pip install jinja2" in text


def test_another_version_than_the_tested_is_a_warning(monkeypatch, canned):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.0.0" if name == "mujoco" else real(name))
    status, text = examine()
    assert status == 0 and "4.0.0; tested with 3.3.0" in text


def test_without_a_renderer_the_system_packages_are_named(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    status, text = examine()
    assert status == 1 and "libegl1" in text and "needs mending: rendering" in text


@pytest.mark.parametrize("code", ["import os; os.abort()", "raise SystemExit(3)", "print('not json')", "1/0"])
def test_a_crash_of_the_driver_is_a_finding(monkeypatch, code):
    monkeypatch.setattr(doctor, "_PROBE", code)
    status, text = examine()
    assert status == 1 and "needs mending: rendering" in text


def test_a_hanging_driver_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 0.5)
    status, text = examine()
    assert status == 1 and "no picture within 0.5 s" in text


def test_any_error_of_a_check_is_a_finding(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("surprise")

    monkeypatch.setattr(subprocess, "run", broken)
    monkeypatch.setattr(importlib.metadata, "version", broken)
    status, text = examine()
    assert status == 1 and "RuntimeError: surprise" in text


def test_it_starts_without_any_dependency():
    code = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "numpy", "omegaconf", "tqdm", "gymnasium", "mujoco", "yaml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
from meta_latent import cli
sys.exit(cli.main(["doctor"]))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 1 and "Traceback" not in child.stderr + child.stdout
    assert "needs mending" in child.stdout
