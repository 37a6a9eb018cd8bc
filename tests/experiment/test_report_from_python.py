"""`meta_latent.report` takes what the command and the other functions take."""

import numpy as np
import pytest
from fabricated_runs import new_facts, ramp, write_cell

import meta_latent
from meta_latent.experiment.commands.report import find


@pytest.mark.parametrize(
    "named", ["mine", "runs/mine", "runs/mine/transfer", "mine.yaml", {"name": "mine"}, {"name": "mine", "out": "runs"}]
)
def test_names_paths_and_dicts_are_taken(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    write_cell("runs/mine", "goal", "sac/scratch", 0, ramp(300), new_facts)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    assert meta_latent.report(named)["run"] == "mine"


def test_runs_in_the_home_folder_are_found_by_their_yaml(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_cell(tmp_path / "kept" / "mine", "goal", "sac/scratch", 0, ramp(300), new_facts)
    (tmp_path / "mine.yaml").write_text("name: mine\nout: ~/kept\n")
    assert find(tmp_path / "mine.yaml") == tmp_path / "kept" / "mine"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: mine", "mine.yaml is an experiment whose runs would lie in runs/mine, .* meta-latent demo mine.yaml"),
        ("name: mine\nsweep: {of: puck}", "mine.yaml is a sweep whose runs .* meta-latent sweep mine.yaml makes them"),
        ("name: [mine]", r"mine.yaml: out and name .* should be text, got 'runs' and \['mine'\]"),
        ("out: 3", "should be text, got 3 and"),
    ],
)
def test_a_yaml_without_runs_says_what_makes_them(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"{content}\n")
    with pytest.raises(meta_latent.UserError, match=said):
        find("mine.yaml")


def test_several_runs_are_compared(tmp_path):
    for name, ready in (("slow", 900), ("fast", 450)):
        write_cell(tmp_path / name, "goal", "sac/scratch", 0, ramp(ready), new_facts)
    given = [tmp_path / "slow", {"name": "fast", "out": str(tmp_path)}]
    numbers = meta_latent.report(given, thresholds=[0.5])
    assert list(numbers) == ["slow", "fast"] and (tmp_path / "slow/report/comparison.html").is_file()
    reached = [one["targets"]["goal"]["arms"]["sac/scratch"]["steps_to_thresholds"]["0.5"]
               for one in numbers.values()]  # fmt: skip
    assert reached[0] > reached[1]  # steps of the one seed
    meta_latent.report(given, out=tmp_path / "both")
    assert (tmp_path / "both/comparison.html").is_file()
    assert meta_latent.report(given[:1])["run"] == "slow"
    for one in ("fast", given[1] | {"out": "elsewhere"}):
        assert meta_latent.report(one, out=tmp_path)["run"] == "fast"
    with pytest.raises(meta_latent.UserError, match="name at least one run"):
        meta_latent.report([])


@pytest.mark.parametrize("wrong", ["0.5", "runs/other", 0.5, None, ["0.5"], [float("nan")], [True], {0.5: 1}])
def test_thresholds_are_numbers(tmp_path, wrong):
    write_cell(tmp_path, "goal", "sac/scratch", 0, ramp(300), new_facts)
    with pytest.raises(
        meta_latent.UserError, match=r"thresholds=.* should be a list of numbers, such as \[0.5, 0.85\]"
    ):
        meta_latent.report(tmp_path, wrong)
    assert not (tmp_path / "report.html").exists()


def test_a_second_run_is_told_from_thresholds(tmp_path):
    write_cell(tmp_path, "goal", "sac/scratch", 0, ramp(300), new_facts)
    for second in (str(tmp_path), tmp_path):
        with pytest.raises(meta_latent.UserError, match=r"give a list of them: report\(\[A, B\]\)$"):
            meta_latent.report(tmp_path, second)
    numbers = meta_latent.report(tmp_path, np.array([0.75, 0.5, 0.75]))
    assert numbers["targets"]["goal"]["thresholds"] == [0.5, 0.75]


def test_what_is_none_of_these_is_a_line():
    with pytest.raises(meta_latent.UserError, match="no run called 'nope'"):
        meta_latent.report("nope")
    with pytest.raises(meta_latent.UserError, match="expected an experiment, or a name, path or dict"):
        meta_latent.report(3)
