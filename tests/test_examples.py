"""Every example runs as it stands, with --quick, and shows what it promises."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import meta_latent

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[0-9]*.py"))
PROMISES = {
    "01_world_model.py": (r"open_loop\.png: above what happened", "world_model/open_loop.png"),
    "02_transfer.py": (r"ivg/pretrained +(more than )?\d+ steps +final score", "first_transfer/report.html"),
    "03_own_task.py": (
        r"raw return +-?\d+\.\d+",
        "own_task/transfer/goal/ivg/pretrained/0/videos/evaluation_0.mp4",
    ),
    "04_sb3_sac.py": (r"score after 300 steps -?\d+\.\d+", "sb3_sac/policy.zip"),
    "05_own_algorithm.py": (r"pathwise/scratch +scores( -?\d+\.\d\d)+ \(0:", "own_algorithm/report.html"),
    "06_task_inference.py": (
        r"first episode \d+\.\d, second \d+\.\d",
        "meld_toy/adapt/sparse/meld/scratch/0/belief_0.png",
    ),
    "07_meta_policy.py": (r"meta-learned to adapt \(MB-MPO\): return after .*(-?\d+\.\d ?){4}", "meta_policy.png"),
    "08_sweep.py": (r"ivg/pretrained scores higher than .* with probability \d\.\d\d", "first_sweep/sweep.html"),
    "09_own_model_part.py": (r"PixelEncoder, \d+,\d+ weights", "own_encoder/pretrain/0/model/model.safetensors"),
}


def test_every_example_is_tested():
    assert list(PROMISES) == EXAMPLES


def marked(name):
    return pytest.param(name, marks=pytest.mark.baselines if "sb3" in name else pytest.mark.slow)


@pytest.mark.parametrize("name", [marked(name) for name in EXAMPLES])
def test_the_example_runs(name, tmp_path):
    command = [sys.executable, str(ROOT / "examples" / name), "--quick", "--out", str(tmp_path / "runs")]
    child = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert child.returncode == 0, child.stderr
    words, made = PROMISES[name]
    assert re.search(words, child.stdout)
    assert (tmp_path / "runs" / made).stat().st_size > 500


def test_the_sweep_of_one_run_each_has_no_intervals_to_print(monkeypatch, capsys):
    one = {"group": "b", "arm": "x/scratch", "base_group": "a", "base": "x/scratch", "probability": 1.0}
    comparisons = [one | {"interval": None}, one | {"interval": (0.25, 1.0)}]
    monkeypatch.setattr(meta_latent, "sweep", lambda *_: {"groups": {}, "comparisons": comparisons})
    monkeypatch.setattr(sys, "argv", ["08_sweep.py"])
    runpy.run_path(str(ROOT / "examples" / "08_sweep.py"), run_name="__main__")
    said = "b x/scratch scores higher than a x/scratch with probability 1.00"
    assert capsys.readouterr().out.splitlines()[:2] == [said, f"{said} [0.25, 1.00]"]


def test_a_users_own_task_takes_less_than_60_lines_of_code():
    lines = (ROOT / "examples" / "03_own_task.py").read_text().split("CONFIG = ")[0].splitlines()
    assert len([line for line in lines if line.strip()]) < 60


def test_a_users_own_algorithm_takes_less_than_100_lines():
    for name in ("my_planner.py", "my_pathwise.py", "my_reinforce.py"):
        assert len((ROOT / "examples" / name).read_text().splitlines()) < 100


def test_examples_use_public_names_only():
    for name in [*EXAMPLES, "my_planner.py", "my_pathwise.py", "my_reinforce.py", "my_encoder.py"]:
        for line in (ROOT / "examples" / name).read_text().splitlines():
            if re.match(r"\s*(import|from) meta_latent", line):
                assert "experiment" not in line and " _" not in line, f"{name}: {line}"
