"""What users do wrong, and what goes wrong in a run: exit status, one line, and nothing lost."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import forked
import pytest
import torch
from safetensors.torch import load_file, save_file

from meta_latent import cli, files
from meta_latent.algorithms import ivg
from meta_latent.experiment.learning import cells as transfer
from meta_latent.experiment.pretraining import model_folder, pretrain
from meta_latent.experiment.runs import checkpoint, run_folder
from meta_latent.models import losses


@pytest.fixture
def command(toy, capsys):
    """Run the command line in this process: (exit status, lines on stderr without progress bars)."""

    def call(*arguments):
        capsys.readouterr()
        status = cli.main([*arguments, *toy.small])
        return status, [line for line in capsys.readouterr().err.splitlines() if line and "it/s" not in line]

    return call


def one_line(result, status, *parts):
    """The status, and one line without a traceback that holds all `parts`."""
    found, lines = result
    assert found == status, lines
    message = lines[-1]
    assert message.startswith("meta-latent: ") and not any("Traceback" in line for line in lines)
    for part in parts:
        assert str(part) in message


def test_ctrl_c_saves_says_how_to_resume_and_loses_nothing(toy, tmp_path, command, monkeypatch):
    whole = toy.pretrain(tmp_path / "whole")
    seen = []

    def hook(event, path):
        seen.append(path)
        if len(seen) == 60:  # within the updates
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(files, "fault_hook", hook)
    before = signal.getsignal(signal.SIGINT)
    status, lines = command("pretrain", "toy", f"out={tmp_path / 'parts'}")
    assert status == 130 and "meta-latent pretrain toy" in lines[-1] and "goes on" in lines[-1]
    assert signal.getsignal(signal.SIGINT) is before
    folder = tmp_path / "parts" / "toy" / "pretrain" / "0"
    assert run_folder.read_record(folder)["status"] == "interrupted"
    monkeypatch.setattr(files, "fault_hook", None)
    assert command("pretrain", "toy", f"out={tmp_path / 'parts'}")[0] == 0
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None


def test_a_folder_in_use_is_refused(tmp_path, command):
    folder = tmp_path / "toy" / "pretrain" / "0"
    folder.mkdir(parents=True)
    code = (
        "import sys; from meta_latent.experiment.runs import run_folder;"
        f"lock = run_folder._lock(run_folder.Path({str(folder)!r}));"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        one_line(command("pretrain", "toy", f"out={tmp_path}"), 2, folder, holder.pid)
        holder.stdin.close()


def fail_at(step, seen):
    def hook(event, path):
        seen.append(path)
        if len(seen) >= step and event == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    return hook


@pytest.mark.parametrize("step", [1, 12, 30, 45, 70])
def test_a_full_disk_ends_the_run_and_keeps_what_was_saved(toy, toy_model, tmp_path, command, monkeypatch, step):
    whole = tmp_path / "whole" / "toy" / "pretrain" / "0"
    monkeypatch.setattr(files, "fault_hook", fail_at(step, []))
    one_line(command("pretrain", "toy", f"out={tmp_path / 'parts'}"), 1, "disk is full")
    folder = tmp_path / "parts" / "toy" / "pretrain" / "0"
    if checkpoint.exists(folder / "checkpoints"):
        checkpoint.load(folder / "checkpoints")
    monkeypatch.setattr(files, "fault_hook", None)
    assert command("pretrain", "toy", f"out={tmp_path / 'parts'}")[0] == 0
    whole = toy.pretrain(tmp_path / "whole")
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None


def test_a_non_finite_loss_names_its_term(toy, toy_model, tmp_path, command, monkeypatch):
    def broken(*arguments):
        return real(*arguments) * float("nan")

    real = losses.divergence
    monkeypatch.setattr(losses, "divergence", broken)
    one_line(command("pretrain", "toy", f"out={tmp_path}"), 1, "non-finite loss", "divergence", "joint")
    assert run_folder.read_record(tmp_path / "toy" / "pretrain" / "0")["status"] == "failed"


def test_a_non_finite_policy_loss_names_its_term(toy, toy_model, tmp_path, command, monkeypatch):
    real = ivg.lambda_returns
    monkeypatch.setattr(ivg, "lambda_returns", lambda *arguments: real(*arguments) * float("nan"))
    cell = ("target=goal", "arm=ivg/pretrained", "run_seed=0", f"pretrained={toy_model / 'model'}")
    status, lines = command("transfer", "toy", f"out={tmp_path}", *cell)
    assert status == 1 and "non-finite" in lines[-1] and "policy term of IVG" in lines[-1]


def test_another_config_is_refused_naming_the_key(toy, tmp_path, command):
    toy.pretrain(tmp_path)
    one_line(
        command("pretrain", "toy", f"out={tmp_path}", "learner.horizon=2"),
        2,
        "learner.horizon=3",
        "horizon=2",
    )


def test_too_small_a_capacity_is_refused(toy, tmp_path, command):
    one_line(command("pretrain", "toy", f"out={tmp_path}", "pretrain.replay.capacity=10"), 2, "replay.capacity=10")


def test_a_damaged_replay_is_refused(toy, toy_model, tmp_path, command):
    folder = tmp_path / "toy" / "pretrain" / "0"
    shutil.copytree(toy_model, folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    path = folder / "source" / "segment_000000" / "action.bin"
    path.write_bytes(path.read_bytes()[:-1])
    status = command("pretrain", "toy", f"out={tmp_path}", "pretrain.policy_updates=4", "pretrain.on_policy=0.3")
    one_line(status, 2, path)


# Model folders


def edited(key, value):
    """An edit of model.json."""

    def edit(folder):
        card = json.loads((folder / "model.json").read_text())
        card[key] = value
        (folder / "model.json").write_text(json.dumps(card))

    return edit


def truncated(name):
    """A file that lost its end."""

    def edit(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])

    return edit


def nested(folder):
    """A card that no reader can follow."""
    (folder / "model.json").write_text('{"format":' * 100_000)


def weights(change, name="model.safetensors"):
    """Other weights, under a card that names them."""

    def edit(folder):
        tensors = {key: change(value) for key, value in load_file(folder / name).items()}
        save_file(tensors, folder / name)
        card = json.loads((folder / "model.json").read_text())
        (card if name == "model.safetensors" else card["policy"])["sha256"] = files.sha256(folder / name)
        card["card_sha256"] = model_folder._card_sha256(card)
        (folder / "model.json").write_text(json.dumps(card))

    return edit


def with_nan(tensor):
    """One bad number among many."""
    tensor = tensor.clone()
    if tensor.is_floating_point():
        tensor.view(-1)[-1] = float("nan")
    return tensor


def as_double(tensor):
    """The same numbers, of another type."""
    return tensor.double() if tensor.is_floating_point() else tensor


def flipped(folder):
    """One bit of the weights."""
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


DAMAGES = {
    "missing": (shutil.rmtree, "there is no folder"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "truncated card": (truncated("model.json"), "damaged"),
    "not an object": (lambda folder: (folder / "model.json").write_text("[1]"), "damaged"),
    "truncated weights": (truncated("model.safetensors"), "truncated or edited"),
    "flipped bit": (flipped, "truncated or edited"),
    "edited spec": (edited("spec", {"images": 3}), "edited"),
    "nested": (nested, "model.json is damaged"),
    "not a number": (weights(with_nan), "holds NaN or infinity"),
    "float64": (weights(as_double), "torch.float64, expected torch.float32"),
    "other format": (edited("format", 2), "format 2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_folder_is_refused(toy, toy_model, tmp_path, command, damage):
    edit, message = DAMAGES[damage]
    folder = tmp_path / "model"
    shutil.copytree(toy_model / "model", folder)
    edit(folder)
    cell = ("target=goal", "arm=ivg/pretrained", "run_seed=0", f"pretrained={folder}")
    one_line(command("transfer", "toy", f"out={tmp_path}", *cell), 2, folder, message)


@pytest.mark.parametrize(("change", "message"), [(with_nan, "holds NaN"), (as_double, "expected torch.float32")])
def test_a_damaged_source_policy_is_refused(toy_model, tmp_path, change, message):
    folder = tmp_path / "model"
    shutil.copytree(toy_model / "model", folder)
    weights(change, "policy.safetensors")(folder)
    with pytest.raises(model_folder.UserError, match=message):
        model_folder.load_policy(folder)
    model_folder.load(folder)


def test_a_partial_load_refuses_what_a_whole_one_refuses(toy_model, tmp_path):
    folder, model = tmp_path / "model", model_folder.load(toy_model / "model")
    shutil.copytree(toy_model / "model", folder)
    weights(with_nan)(folder)
    with pytest.raises(model_folder.UserError, match="holds NaN"):
        model_folder.load_into(model, folder)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_a_card_never_holds_what_json_lacks(toy_model, tmp_path):
    model = model_folder.load(toy_model / "model")
    model_folder.save(tmp_path / "model", model, {"budget": {"seconds": float("nan")}})
    assert "NaN" not in (tmp_path / "model" / "model.json").read_text()
    assert model_folder.read_card(tmp_path / "model")["budget"] == {"seconds": None}


def test_a_model_of_another_spec_is_refused(toy, toy_model, tmp_path, command):
    cell = ("target=goal", "arm=ivg/pretrained", "run_seed=0", f"pretrained={toy_model / 'model'}")
    one_line(
        command("transfer", "toy", f"out={tmp_path}", *cell, "suite.image_size=8"),
        2,
        "images",
        "(16, 16, 3)",
        "(8, 8, 3)",
    )


def test_a_card_of_other_sizes_is_refused(toy_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(toy_model / "model", folder)
    card = json.loads((folder / "model.json").read_text())
    card["config"]["core"]["memory"] = 9
    card["card_sha256"] = model_folder._card_sha256(card)
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(model_folder.UserError, match="pretrain again"):
        model_folder.load(folder)


@pytest.mark.parametrize("config", [None, [1], "x", 3])
def test_a_card_whose_settings_are_no_mapping_is_damaged(toy_model, tmp_path, config):
    folder = tmp_path / "model"
    shutil.copytree(toy_model / "model", folder)
    card = json.loads((folder / "model.json").read_text()) | {"config": config}
    card["card_sha256"] = model_folder._card_sha256(card)
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(model_folder.UserError, match="is damaged"):
        model_folder.read_card(folder)


def test_a_saved_model_loads_bit_equal_and_reports_partial_loads(toy_model, toy):
    first, again = model_folder.load(toy_model / "model"), model_folder.load(toy_model / "model")
    stored = checkpoint.load(toy_model / "checkpoints")["learner"]["model"]
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, stored[name]) and torch.equal(tensor, again.state_dict()[name])
    other = type(first)(first.spec, first.config, ("a", "b"))
    report = model_folder.load_into(other, toy_model / "model")
    assert report.new == report.skipped and all("task_reward_head" in name for name in report.new) and report.new


# Real processes


LONG = ("pretrain.joint_updates=80", "pretrain.filter_updates=80", "pretrain.transition_updates=160")
KILLS = 10


@pytest.mark.slow
def test_killed_again_and_again(toy, tmp_path):
    """SIGKILL at random moments of real processes; the one that is left alone ends as one never killed, in a process
    with another seed of Python's hashes.
    """

    def start():
        return forked.Command(["pretrain", "toy", *toy.small, f"out={tmp_path / 'parts'}", *LONG])

    rng = random.Random(0)
    started = time.monotonic()
    whole = toy.pretrain(tmp_path / "whole", *LONG)
    seconds = time.monotonic() - started  # how long one takes here and now
    folder = pretrain.folder_of(toy.experiment(tmp_path / "parts"))
    kills = 0
    for attempt in range(3 * KILLS):
        if kills == KILLS:
            break
        process = start()
        process.join(seconds * rng.uniform(0.1, 0.6))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0, process.ended(0)[1]
            shutil.move(folder, tmp_path / f"finished{attempt}")  # it was too quick: start again
    assert kills > KILLS // 2
    status, said = start().ended(300)
    assert status == 0, said
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None
    for finished in tmp_path.glob("finished*"):
        assert toy.first_difference(toy.outcome(whole), toy.outcome(finished)) is None


def start(toy, out, command, *overrides):
    """A process as a user starts it, which a signal reaches."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "meta_latent.cli", command, "toy", *toy.small, f"out={out}", *overrides]
    return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_real_process_is_interrupted(toy, toy_model, tmp_path, number):
    cell = (
        "transfer",
        "target=goal",
        "arm=ivg/scratch",
        "run_seed=0",
        "transfer.budget_env_steps.default=300",
    )
    whole = toy.transfer(tmp_path / "whole", "ivg/scratch", cell[-1])
    process = start(toy, tmp_path / "parts", *cell)
    folder = transfer.cell_folder(toy.experiment(tmp_path / "parts"), "goal", "ivg/scratch", 0)
    deadline = time.monotonic() + 60
    while not checkpoint.exists(folder / "checkpoints"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in errors and "Traceback" not in errors
    process = start(toy, tmp_path / "parts", *cell)
    assert process.wait(timeout=120) == 0
    assert toy.first_difference(toy.outcome(whole), toy.outcome(folder)) is None
