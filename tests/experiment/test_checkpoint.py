"""Checkpoints: exact round trips, and old or new (never neither, never garbage) after a kill."""

import json
import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from meta_latent import files
from meta_latent.errors import RunError, UserError
from meta_latent.experiment.runs import checkpoint


def same(a, b):
    """Bit-equal, of the same type, dtype and shape (a tuple may have become a list)."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and raw(a) == raw(b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (
            b.dtype,
            b.shape,
            b.tobytes(),
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


TENSORS = {
    "bfloat16": torch.arange(6.0).bfloat16().reshape(2, 3),
    "float16": torch.tensor([1.5, math.inf]).half(),
    "float32": torch.tensor([math.nan, -0.0, 1e-45]),
    "float64": torch.tensor([1 / 3, 5e-324], dtype=torch.float64),
    "uint8": torch.arange(256).to(torch.uint8),
    "bool": torch.tensor([True, False]),
    "int64": torch.tensor([-(2**63), 2**63 - 1]),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(2.5),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "channels_last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "parameter": torch.nn.Parameter(torch.ones(2)).detach(),
}
ARRAYS = {
    "float32": np.float32([math.nan, 1]),
    "float64": np.float64([1 / 3]),
    "uint8": np.arange(4, dtype=np.uint8).reshape(2, 2),
    "uint32": np.uint32([2**32 - 1]),
    "uint64": np.uint64([2**64 - 1]),
    "bool": np.array([True]),
    "int64": np.array([-(2**63)]),
    "empty": np.zeros((0, 3), np.int16),
    "scalar": np.array(3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}
PLAIN = {
    "none": None,
    "bools": [True, False],
    "big": 2**200 + 1,
    "negative": -(10**40),
    "floats": [0.1, 1e308, 5e-324, -0.0, math.nan, math.inf, -math.inf, 1.0],
    "text": "ä\n\u2028\0",
    "pair": (1, (2.0, "x")),
    "empty": {"list": [], "dict": {}},
    "$tensor": {"$array": "looks like ours", "$float": "nan", "$$": 1},
    "a.b": 1,
    "": 0,
}


@pytest.mark.parametrize("state", [TENSORS, ARRAYS, PLAIN, {"a": {"b": TENSORS["uint8"]}, "a.b": TENSORS["bool"]}])
def test_round_trip_is_exact(tmp_path, state):
    checkpoint.save(tmp_path, state)
    loaded = checkpoint.load(tmp_path)
    assert same(state, loaded)
    assert math.copysign(1, checkpoint.load(tmp_path).get("floats", [0] * 3 + [-0.0])[3]) == -1


def test_the_comparison_above_can_fail():
    assert not same(1, 1.0)
    assert not same(torch.tensor(0.0), torch.tensor(-0.0))
    assert not same(np.zeros(2, np.float32), np.zeros(2))
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_generators_go_on_bit_exactly(tmp_path):
    bits = [np.random.PCG64(3), np.random.MT19937(3), np.random.Philox(3)]
    numpy_generators = [np.random.Generator(bit) for bit in bits]
    generator = torch.Generator().manual_seed(3)
    for g in numpy_generators:
        g.integers(10, size=3, dtype=np.int32)  # leaves half a 64-bit draw in the state
    torch.randn(5, generator=generator)
    checkpoint.save(
        tmp_path, {"numpy": [g.bit_generator.state for g in numpy_generators], "torch": generator.get_state()}
    )
    expected = [g.integers(2**31, size=4, dtype=np.int32).tolist() for g in numpy_generators]
    expected_torch = torch.randn(5, generator=generator)
    state = checkpoint.load(tmp_path)
    for kind, saved, numbers in zip(
        (np.random.PCG64, np.random.MT19937, np.random.Philox), state["numpy"], expected, strict=True
    ):
        restored = np.random.Generator(kind(99))
        restored.bit_generator.state = saved
        assert restored.integers(2**31, size=4, dtype=np.int32).tolist() == numbers
    restored_torch = torch.Generator()
    restored_torch.set_state(state["torch"])
    assert torch.equal(torch.randn(5, generator=restored_torch), expected_torch)


def test_optimiser_state_with_shared_and_cuda_free_tensors(tmp_path):
    shared = torch.ones(3)
    checkpoint.save(tmp_path, {"a": shared, "b": shared, "view": shared[1:]})
    loaded = checkpoint.load(tmp_path)
    assert same(loaded, {"a": shared, "b": shared, "view": shared[1:]})
    loaded["a"].add_(1)
    assert loaded["b"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {0: 1}}, "string keys.*0.*int.*at a"),
        ({"a": [1, {2}]}, r"set at a\.1"),
        ({"a": np.float32(1)}, r"float32 at a; use \.item\(\)"),
        ({"a": np.array(["x"])}, "array of <U1 at a"),
        ({"a": np.array([object()])}, "array of object at a"),
        ({"f": print}, "at f"),
    ],
)
def test_refuses_what_it_could_not_restore(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path, state)
    assert not checkpoint.exists(tmp_path)


def test_the_checkpoint_before_the_last_is_kept_older_ones_go_and_strangers_stay(tmp_path):
    (tmp_path / "segments.bin").write_bytes(b"replay")
    assert not checkpoint.exists(tmp_path, previous=True)
    for n in range(4):
        checkpoint.save(tmp_path, {"n": n, "a": torch.full((3,), n)})
    suffixes = sorted(p.suffix for p in tmp_path.iterdir())
    assert suffixes == [".bin", ".json", ".json", ".safetensors", ".safetensors"]
    for previous, n in ((False, 3), (True, 2)):
        state = checkpoint.load(tmp_path, previous)
        assert state["n"] == n and state["a"].tolist() == [n] * 3
    checkpoint.restore_previous(tmp_path)
    assert checkpoint.load(tmp_path)["n"] == 2 and not checkpoint.exists(tmp_path, previous=True)
    checkpoint.save(tmp_path, {"n": 9})
    assert checkpoint.load(tmp_path, previous=True)["n"] == 2 and len(list(tmp_path.iterdir())) == 5


def test_a_damaged_last_checkpoint_does_not_replace_the_one_before(tmp_path):
    checkpoint.save(tmp_path, {"n": 1})
    (tmp_path / checkpoint.INDEX).write_text("{")
    checkpoint.save(tmp_path, {"n": 2})
    assert checkpoint.load(tmp_path)["n"] == 2 and not checkpoint.exists(tmp_path, previous=True)


def test_two_checkpoints_never_hang_on_one_file(tmp_path):
    for step, value, is_new in ((1, 0.0, True), (2, 1.0, True), (3, 1.0, True), (3, 1.0, False)):
        assert checkpoint.save(tmp_path, {"step": step, "weights": torch.full((3,), value)}) == is_new
    assert len(list(tmp_path.glob("tensors-*"))) == 2
    assert checkpoint.load(tmp_path)["step"] == 3
    (tmp_path / json.loads((tmp_path / checkpoint.INDEX).read_text())["tensors"]).unlink()
    assert checkpoint.load(tmp_path, previous=True)["step"] == 2


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Torch not compiled with CUDA enabled"),
        RuntimeError("shapes differ\nin many lines"),
        KeyError("agent"),
        RuntimeError(),
    ],
)
def test_what_does_not_fit_is_a_misfit_and_no_advice_destroys_data(tmp_path, error):
    checkpoint.save(tmp_path, {"n": 1})
    with pytest.raises(checkpoint.Misfit) as caught, checkpoint.fitting(tmp_path):
        raise error
    said = str(caught.value)
    assert type(error).__name__ in said and "\n" not in said and "delete" not in said
    assert checkpoint.load(tmp_path)["n"] == 1


def test_missing_checkpoint(tmp_path):
    assert not checkpoint.exists(tmp_path)
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_every_truncation_and_flipped_byte_is_noticed(tmp_path, suffix):
    checkpoint.save(tmp_path, {"a": torch.arange(3), "b": 12345, "c": {"d": "text"}})
    (path,) = tmp_path.glob(f"*{suffix}")
    intact = path.read_bytes()
    damaged = [intact[:n] for n in range(0, len(intact), 7)]
    damaged += [intact[:n] + bytes([intact[n] ^ 1]) + intact[n + 1 :] for n in range(len(intact))]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError):
            checkpoint.load(tmp_path)
    path.write_bytes(intact)
    assert checkpoint.load(tmp_path)["b"] == 12345
    path.unlink()
    with pytest.raises(UserError):
        checkpoint.load(tmp_path)


def test_index_cannot_point_outside_the_folder(tmp_path):
    checkpoint.save(tmp_path / "a", {"x": torch.ones(1)})
    index = json.loads((tmp_path / "a" / checkpoint.INDEX).read_text())
    (tmp_path / "a" / index["tensors"]).rename(tmp_path / index["tensors"])
    index["tensors"] = f"../{index['tensors']}"
    (tmp_path / "a" / checkpoint.INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(tmp_path / "a")


def test_newer_format_is_named(tmp_path):
    checkpoint.save(tmp_path, {})
    index = json.loads((tmp_path / checkpoint.INDEX).read_text())
    (tmp_path / checkpoint.INDEX).write_text(json.dumps({**index, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("step", [1, 2, 5, 6, 9, 10])
def test_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch, step):
    checkpoint.save(tmp_path, {"n": 1, "t": torch.ones(2)})
    events = []

    def hook(event, path):
        events.append(event)
        if len(events) == step:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "fault_hook", hook)
    with pytest.raises(RunError, match="disk is full"):
        checkpoint.save(tmp_path, {"n": 2, "t": torch.zeros(2)})
    assert checkpoint.load(tmp_path)["n"] == 1


KILLS = """
    import os, sys, torch
    from meta_latent import files
    from meta_latent.experiment.runs import checkpoint
    folder = sys.argv[1]
    state = lambda n: {"n": n, "t": torch.full((100,), n)}

    if sys.argv[2] == "naive":
        def naive(path, data):  # what an author in a hurry would write
            with open(path, "wb") as file:
                file.write(data[: len(data) // 2]); file.flush()
                files._announce("write", path)
                file.write(data[len(data) // 2 :])
        files.atomic_write_bytes = naive

    count, outcomes = 0, []
    while True:
        checkpoint.save(folder, state(1))
        child = os.fork()
        if child == 0:
            seen = 0
            def hook(event, path):
                global seen
                seen += 1
                if seen > count:
                    os._exit(9)
            files.fault_hook = hook
            checkpoint.save(folder, state(2))
            os._exit(0)
        finished = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        try:
            loaded = checkpoint.load(folder)
            consistent = bool((loaded["t"] == loaded["n"]).all()) and len(loaded["t"]) == 100
            outcomes.append(loaded["n"] if consistent else "mixed")
        except Exception as error:
            outcomes.append(type(error).__name__)
        if finished:
            break
        count += 1
    print(outcomes)
"""


def kill_at_every_step(folder, writer):
    argv = [sys.executable, "-c", textwrap.dedent(KILLS), str(folder), writer]
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.replace("'", '"'))


def test_killed_before_every_step_the_old_or_the_new_loads(tmp_path):
    outcomes = kill_at_every_step(tmp_path, "ours")
    assert outcomes == [1] * 11 + [2, 2]  # 4 steps per file; new from the third file's rename on


def test_the_kill_test_catches_a_naive_writer(tmp_path):
    assert "UserError" in kill_at_every_step(tmp_path, "naive")
