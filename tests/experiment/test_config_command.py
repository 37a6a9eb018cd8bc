"""`meta-latent config`: what it shows is what is loaded, and where it came from; docs/settings.md is up to date."""

import json
from pathlib import Path

import docs_scripts
import pytest

from meta_latent import cli
from meta_latent.experiment.settings import config, listing
from meta_latent.experiment.settings.schema import ExperimentConfig

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def said(capsys):
    def call(*arguments, status=0):
        assert cli.main(["config", *arguments]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return call


def test_what_differs_from_the_defaults_with_its_origin(said):
    lines = [line.split() for line in said("demo", "seed=3").splitlines()[:-1]]
    told = {words[0]: (words[2], " ".join(words[3:])) for words in lines}
    assert told["seed"] == ("3", "(the command line)")
    assert told["model.core.memory"][1].endswith("configs/model/keypoints_rssm.yaml)")
    assert told["algorithms.ivg.mix"][0] == "0.5" and told["algorithms.ivg.mix"][1].endswith("experiment/demo.yaml)")
    assert "transfer.head_share" not in told and "pretrain.replay.capacity" not in told


def test_all_together_give_the_same_experiment(said):
    """Every value that is shown, given again as an override of nothing, loads to what was shown."""
    text = said("demo", "all", "algorithms.ivg.horizon=7")
    shown = dict(line.split(" = ", 1) for line in text.splitlines() if not line.startswith(" "))
    assert shown["algorithms.ivg.horizon"] == "7" and len(shown) > 200
    loaded = config.load(ExperimentConfig, [config.find("experiment", "demo")], ["algorithms.ivg.horizon=7"])
    values = {s.key: s.value for s in listing.settings(loaded)}
    assert values.items() <= {key: json.loads(text) for key, text in shown.items()}.items()


def test_one_setting_in_words(said):
    assert said("demo", "transfer.evaluation.episodes", "transfer.evaluation.episodes=3") == (
        "transfer.evaluation.episodes = 3\n"
        "    a whole number from 1 to 100000; default 20; from the command line\n"
        "    of a single task\n")  # fmt: skip
    assert "\n    a whole number from 1 to 1000; the default\n    N, imagined steps\n" in said("demo", "algorithms.ivg")


@pytest.mark.parametrize(("arguments", "words"), [
    (("demo", "transfer.evalution"), "no setting 'transfer.evalution'; did you mean 'transfer.evaluation'?"),
    (("demo", "qqq"), "no setting 'qqq'; choose from algorithms, arm, device, "),
    (("demo", "transfer", "pretrain"), "expected one KEY, got transfer and pretrain"),
    (("demo", "transfer.sedes=[1]"), "'transfer.sedes' (in the command line); did you mean 'transfer.seeds'?"),
    (("dmo",), "there is no configs/experiment/dmo.yaml; did you mean 'demo'?"),
])  # fmt: skip
def test_wrong_input_is_told_in_one_line(said, arguments, words):
    text = said(*arguments, status=2)
    assert words in text and text.count("\n") == 1


def test_the_page_of_settings_is_up_to_date():
    maker = docs_scripts.load("make_settings")
    assert (DOCS / "settings.md").read_text() == maker.page(), "run python docs/make_settings.py"


def test_every_setting_has_a_meaning():
    maker = docs_scripts.load("make_settings")
    silent = [line for line in maker.page().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert silent == []
