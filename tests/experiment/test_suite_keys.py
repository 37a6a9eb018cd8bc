"""What a suite refuses is told with the key that says it, as the user wrote it."""

import pytest

from meta_latent import cli
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import pretrain
from meta_latent.experiment.settings import experiments, suites
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import bind_source, bind_target

GOALS = "{suite: toy/hidden_goal, test_tasks: 2"


def load(*overrides):
    return experiments.load(ExperimentConfig, "toy", list(overrides))


@pytest.mark.parametrize(("given", "said"), [
    ("options={episode_steps: 0}",
     r"^transfer.targets.goal.options.episode_steps is 0: expected a whole number from 1$"),
    ("options={episode_stepz: 9}",
     r"^transfer.targets.goal.options.episode_stepz: unknown option of toy/lqr 'episode_stepz'; did you mean"),
    ("suite=toy/lqrr", r"^transfer.targets.goal.suite: there is no task distribution 'toy/lqrr'; did you mean"),
    ("index=999", r"^transfer.targets.goal.index=999: toy/lqr has \d+ test tasks, expected 0 to \d+$"),
])  # fmt: skip
def test_a_target_s(given, said):
    with pytest.raises(UserError, match=said):
        bind_target(load(f"transfer.targets.goal.{given}"), "goal")


@pytest.mark.parametrize(("given", "said"), [
    ("tasks: 999}", r"^transfer.targets.goal.tasks=999: toy/hidden_goal has \d+ train tasks; ask for no more$"),
    ("tasks: 5, training_options: {reward: dens}}", "^transfer.targets.goal.training_options.reward"),
    ("tasks: 5, training_options: {reward: dense}}", "^transfer.targets.goal.training_options change no reward"),
    ("tasks: 5, options: {reward: dens}}", "^transfer.targets.goal.options.reward"),
])  # fmt: skip
def test_a_family_s(given, said):
    with pytest.raises(UserError, match=said):
        bind_target(load(f"transfer.targets.goal={GOALS}, {given}"), "goal")


def test_the_options_of_all_suites_and_what_replaces_them():
    with pytest.raises(UserError, match="^suite.image_size is -1"):
        bind_target(load("suite={image_size: -1}"), "goal")
    with pytest.raises(UserError, match="^transfer.targets.goal.options.image_size is -2"):
        bind_target(load("suite={image_size: 16}", "transfer.targets.goal.options={image_size: -2}"), "goal")


def test_sources_of_one_entry_share_its_key():
    sources = "pretrain.sources=[{suite: toy/lqr}, {suite: toy/hidden_goal, tasks: 3, options: {goals: no}}]"
    for place in (1, 3):
        with pytest.raises(UserError, match=r"^pretrain.sources.1.options.goals"):
            bind_source(load(sources), place)
    with pytest.raises(UserError) as told:
        pretrain.checked(load(sources))
    assert str(told.value).count("pretrain.sources.1.options.goals") == 1  # not once per task


def test_the_suite_of_an_entry_is_opened_once_however_many_tasks_it_asks_for(monkeypatch):
    """Opening one of a user's tries all of its tasks."""
    opened, original = [], suites.open_distribution
    monkeypatch.setattr(suites, "open_distribution", lambda *args: opened.append(args) or original(*args))
    bound, _ = pretrain.checked(load("pretrain.sources=[{suite: toy/lqr}, {suite: toy/lqr, index: 1, tasks: 3}]"))
    assert len(bound) == 4 and len({one.task for one in bound}) == 4 and len(opened) == 2


@pytest.mark.parametrize("suite", ["toy/rotated_actuators", "toy/hidden_goal"])  # an even choice, and any
def test_a_source_of_several_tasks_has_those_that_a_target_of_as_many_learns_on(suite):
    chosen = load(f"pretrain.sources=[{{suite: {suite}, tasks: 6}}]",
                  f"transfer.targets.goal={{suite: {suite}, tasks: 6, test_tasks: 2}}")  # fmt: skip
    tasks = [bind_source(chosen, place).task for place in range(6)]
    assert tasks == [bound.task for bound in bind_target(chosen, "goal").tasks]


@pytest.mark.parametrize(("given", "said"), [
    ("tasks: 999", "tasks=999 asks for tasks 0 to 998"),
    ("index: 1, tasks: 998", "tasks=998 asks for tasks 1 to 998"),
    ("index: 998, tasks: 2", "index=998"),
    ("index: 998", "index=998"),
])  # fmt: skip
def test_a_source_that_asks_for_too_many_tasks_is_told_of_the_key_that_does(given, said):
    with pytest.raises(UserError) as told:
        pretrain.checked(load(f"pretrain.sources=[{{suite: toy/lqr, {given}}}]"))
    (first, *_) = str(told.value).splitlines()
    assert first.startswith(f"pretrain.sources.0.{said}: toy/lqr has ") and str(told.value).count("tasks=") <= 1


@pytest.mark.parametrize(("given", "said"), [
    ("transfer.targets={corner: toy/lqr}",
     "transfer.targets.corner=toy/lqr: expected a mapping such as {suite: toy/lqr}"),
    ("transfer.targets.corner=mine/windy",
     "transfer.targets.corner=mine/windy: expected a mapping such as {suite: mine/windy}"),
    ("pretrain.sources=[toy/lqr]", "pretrain.sources.0=toy/lqr: expected a mapping such as {suite: toy/lqr}"),
    ("transfer.targets.corner=windy", "there is no configs/corner/windy.yaml"),
    ("model=toy/lqr", "there is no configs/model/toy/lqr.yaml"),
])  # fmt: skip
def test_a_bare_name_where_a_mapping_is_expected(given, said):
    with pytest.raises(UserError) as told:
        load(given)
    assert str(told.value).startswith(said) and "\n" not in str(told.value)


def test_a_suite_that_is_not_there_is_named_beside_other_faults(capsys, tmp_path):
    assert (
        cli.main(["pretrain", "toy", "pretrain.sources.0.suite=toy/lqrr", "learner.length=0", f"out={tmp_path}"]) == 2
    )
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1].startswith(
        "meta-latent: pretrain.sources.0.suite: there is no task distribution"
    )
