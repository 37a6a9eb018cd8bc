"""The benchmarks beside other libraries: our side runs, and the page shows what was measured."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "peers"
MODULES = ("scripts", "world_models", "replays", "pixels", "limits", "tables")


@pytest.fixture
def peers(monkeypatch):
    """The scripts' modules by name, as running the folder imports them, with sizes of a moment."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = {name: importlib.import_module(name) for name in MODULES}
    tiny = {"world_models": {"batch": 2, "length": 7, "side": 16, "rollouts": 10, "horizon": 2},
            "replays": {"batch": 2, "length": 3, "side": 8, "frames": 40, "episode": 10},
            "limits": {"runs": 4, "points": 5}}  # fmt: skip
    for name, sizes in tiny.items():
        for size, value in sizes.items():
            monkeypatch.setattr(found[name].SIZES, size, value)
    monkeypatch.setattr(found["pixels"], "PICTURES", 1)
    yield found
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("make", ["our_update", "our_imagination"])
def test_our_models_take_part(peers, make):
    models = peers["world_models"]
    names = (models.OURS, models.CONV)
    for name in names:
        getattr(models, make)(name)()
    assert all(models.PARAMETERS[name] > 1000 for name in names)


def test_the_large_model_has_sheeprls_parameters(peers, monkeypatch):
    models = peers["world_models"]
    monkeypatch.setattr(models.SIZES, "side", 64)
    models.our_model(models.EQUAL)
    assert abs(models.PARAMETERS[models.EQUAL] / measured()["parameters"][models.SHEEPRL] - 1) < 0.02


def test_our_replay_takes_part(peers):
    replays = peers["replays"]
    batch, copy = replays.ours()(), replays.copied()()
    assert batch.images["top"].shape == copy.shape == (2, 3, 8, 8, 3)
    assert (batch.images["top"] > 0).any() and (copy > 0).any()


def test_our_pictures_take_part(peers):
    draws = peers["pixels"].drawers("tabletop/gather")
    assert [draws[name]()[0].shape for name in list(draws)[:2]] == [(64, 64, 3)] * 2


def test_a_checkpoint_is_measured(peers):
    found = peers["limits"].checkpoint(2)
    assert found["highest_seconds"] >= found["seconds"] > 0 and found["megabytes"] > 0.1


@pytest.mark.slow
def test_the_log_and_a_report_are_measured(peers):
    found = peers["limits"].logging(2)
    assert 0 < found["share"] < 0.5
    found = peers["limits"].report(1)
    assert found["megabytes"] > 50 and found["cpu_seconds"] > 0 and found["runs"] == 4


def measured():
    return json.loads((ROOT / "docs" / "peers.json").read_text())


def test_the_page_says_what_was_measured(peers):
    page, fill = (ROOT / "docs" / "peers.md").read_text(), peers["tables"].filled
    assert fill(page, measured()) == page
    other = measured()
    next(iter(other["subjects"].values()))["contestants"].popitem()
    assert fill(page, other) != page  # control: the tables are found


def test_the_page_says_how_models_of_equal_size_compare(peers):
    models, update = peers["world_models"], measured()["subjects"]["update"]["contestants"]
    ratio = update[models.SHEEPRL]["milliseconds"] / update[models.EQUAL]["milliseconds"]
    assert f"takes {ratio:.2f} times as long" in (ROOT / "docs" / "peers.md").read_text()
