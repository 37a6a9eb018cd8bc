"""`meta_latent.report` takes what the command and the other functions take."""

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


def test_what_is_none_of_these_is_a_line():
    with pytest.raises(meta_latent.UserError, match="no run called 'nope'"):
        meta_latent.report("nope")
    with pytest.raises(meta_latent.UserError, match="expected an experiment, or a name, path or dict"):
        meta_latent.report(3)
