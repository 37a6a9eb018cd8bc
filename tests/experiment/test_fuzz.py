"""Wrong words on the command line: a status and a line for each fault, no traceback, nothing written elsewhere.

What begins work is replaced: an input that is taken is told from others, and does no harm.
"""

import importlib
import os
import random
import sys
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from meta_latent import cli
from meta_latent.errors import RunError
from meta_latent.experiment.learning import cells, checking, sweep
from meta_latent.experiment.pretraining import pretrain

pytestmark = pytest.mark.slow
BEGINS = "work would begin"
WORKERS = [(cells, "Learning"), (cells, "run_cells"), (checking, "_suite"), (pretrain, "Pretraining"),
           (sweep, "run_cells")]  # fmt: skip
COMMANDS = ["adapt", "algorithms", "check", "config", "demo", "evaluate", "export", "pretrain", "report", "sweep",
            "sweep --dry-run", "tasks", "transfer"]  # fmt: skip
FILES = {
    "deep.yaml": "a: " + "{b: " * 500 + "1" + "}" * 500,
    "nan.yaml": "{name: n, learner: {learning_rate: .nan}}",
    "object.yaml": "name: !!python/object/apply:os.system ['touch harmed']",
    "above.yaml": "{name: t, transfer: {targets: {'../../../x': {suite: toy/lqr}}}}",
    "variant.yaml": "{name: s, sweep: {of: toy, variants: {'../../evil': {}}}}",
    "control.yaml": "\x01\x02\ufffe\t- :",
}
NAMES = [*FILES, "puck", "demo", "reuse_models", "", "nosuch", ".", "/", "/dev/null", "toy/", "../toy", "\x00",
         "runs/x/transfer/a/b/c/0", "--", "-x", "é", "\x1b[31m", "a" * 5000]  # fmt: skip
KEYS = """
arm target run_seed episodes trials video fresh seed name out suite suite.image_size suite.cameras model
model.encoder.kind model.core.kind model.ensemble.heads learner.batch_size learner.learning_rate pretrain.sources
pretrain.env_steps pretrain.scripted pretrain.own_heads pretrain.relabel pretrain.on_policy pretrain.num_workers
transfer.targets transfer.arms transfer.seeds transfer.thresholds transfer.budget_env_steps transfer.evaluation
transfer.evaluation.episodes transfer.adaptation transfer.epsilon transfer.warmup_episodes transfer.video
transfer.stop_at_threshold transfer.side_by_side algorithms.ivg algorithms.ivg.horizon algorithms.mb_mpo.tasks
algorithms.cem.reward random random.drift sweep.executor workers device imports pretrained sweep.grid sweep.of
"""
VALUES = ["", "-1", "0", "1e999", "nan", ".nan", "{}", "null", "true", "abc", "[1,2", "{a: 1}", "[[[]]]", "1.5",
          "9" * 23, "é", "\x00", "\x1b[31m", "a\nb", "../..", "/", "/dev/null", "~", "${seed}", "${oc.env:HOME}",
          "!!python/object/apply:os.system [ls]", "[null]", "{null: 1}", "{1: 2}", "&a [*a]",
          "[ivg/pretrained, ivg/pretrained]", "[ivg/nothing]", "{x: {suite: toy/lqr, index: -1}}",
          "{x: {suite: nosuch}}", "{x: null}", "{x: {suite: toy/lqr, distractors: [{name: a}]}}", "0x10", "2024-01-01",
          "'", "=", "a=b", "[0.5, nan]", "[-1]", "[1, 1]", "{default: -5}", "{default: nan}", "x" * 5000, "[" * 300,
          "[{suite: toy/lqr, tasks: 1e9}]", "[{suite: toy/lqr, index: 9999999999999999999}]"]  # fmt: skip

written, watching = set(), []


def watch(event, arguments):
    """Notes files that are about to be written, and folders about to be made."""
    if watching and event in ("open", "os.mkdir", "os.rename", "os.link", "os.symlink"):
        path = arguments[event not in ("open", "os.mkdir")]
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.update([os.path.realpath(os.fsdecode(path))] if not isinstance(path, int) else [])


sys.addaudithook(watch)  # for good: there is no taking it away


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder: all that may be written to."""
    importlib.import_module("matplotlib.font_manager")  # which writes a list of fonts once
    for module, name in WORKERS:
        monkeypatch.setattr(module, name, Mock(side_effect=RunError(BEGINS)))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written.clear()
    watching.append(True)
    yield tmp_path
    watching.clear()


def words(rng, out):
    """A command line that is nearly always wrong; whatever it says, it is about the folder `out`."""
    command, *flags = rng.choice(COMMANDS).split()
    argv = [command, *flags, rng.choice(["toy"] * 10 + NAMES)]
    for _ in range(rng.randint(1, 2)):
        key = rng.choice(KEYS.split())
        if rng.random() < 0.15:
            at = rng.randrange(len(key))
            key = key[:at] + rng.choice("xq._=[ -") + key[at + 1 :]
        argv.append(f"{key}={rng.choice(VALUES)}")
    if command == "export":
        return [*argv[:2], rng.choice(["minari:x", "minari:../../y-v0", "x", "minari:a/b-v0", "minari:"])]
    return argv if command in ("tasks", "algorithms") else [*argv, f"out={out}"]


@pytest.mark.parametrize("seed", range(8))
def test_wrong_words_end_in_a_line_for_each_fault(here, capsys, seed):
    rng, statuses = random.Random(seed), []
    for _ in range(100):
        argv = words(rng, here / "out")
        try:
            status = cli.main(argv)
        except Exception as error:
            error.add_note(f"of {argv}")
            raise
        printed, said = capsys.readouterr()
        lines, case = said.splitlines(), (argv, status, said)
        assert status in (0, 2) or (status == 1 and lines[-1].endswith(BEGINS)), case
        assert "Traceback" not in said and not {"\x00", "\x1b"} & {*printed, *said}, case
        if status == 2 and f"meta-latent {argv[0]}: error: " not in lines[-1]:  # argparse's, which tells of the usage
            assert all(line.startswith("meta-latent: ") for line in lines), case
        statuses.append(status)
    assert {path for path in written if not Path(path).is_relative_to(here)} <= {os.devnull}
    assert {path.name for path in here.iterdir()} - {"out"} == {*FILES}
    assert statuses.count(2) >= 70
