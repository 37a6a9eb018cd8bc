"""Pretraining and transfer on a user's own environment, whose episodes end early and which has no script."""

import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

import meta_latent
import task_suites
from meta_latent import cli
from meta_latent.experiment.runs import run_folder, video
from task_suites import Rows, registry

POLE = "pretrain.sources=[{suite: mine/pole}]"


@pytest.fixture
def command(toy, capsys, monkeypatch):
    """Run the command line in this process: (exit status, last line on stderr); there is a task mine/pole."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    task_suites.gymnasium_task(
        "mine/pole", Pole, pixels="render", max_episode_steps=500, reward_inputs=lambda env: env.state,
        reward_input_names=("place", "speed", "angle", "turn"), terminated=fallen
    )  # fmt: skip

    def call(*arguments):
        capsys.readouterr()
        status = cli.main([*arguments[:2], *toy.small, *arguments[2:]])
        return status, capsys.readouterr().err.rpartition("meta-latent: ")[2]

    yield call
    gymnasium.registry.pop(task_suites.gymnasium_id("mine/pole"), None)


class Pole(CartPoleEnv):
    """It draws where the pole leans to."""

    render_mode = "rgb_array"

    def render(self):
        picture = np.zeros((16, 16, 3), np.uint8)
        picture[:, int(np.clip(8 + 30 * self.state[2], 0, 15))] = 255
        return picture


def fallen(inputs, action):
    """CartPole's own rule."""
    return (abs(inputs[..., 0]) > 2.4) | (abs(inputs[..., 2]) > 12 * 2 * np.pi / 360)


@pytest.mark.usefixtures("command")
def test_all_that_is_wrong_before_the_start_is_told_at_once(tmp_path, toy, capsys):
    given = (f"out={tmp_path}", POLE, "learner.filter_length=502", "pretrain.replay.capacity=1",
             "transfer.targets.pole={suite: mine/pole, index: 7}",
             "transfer.targets.other={suite: mine/pale}")  # fmt: skip
    assert cli.main(["demo", "toy", *toy.small, *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    for words in ("mine/pole has no scripted policy; set pretrain.scripted=0",
                  "learner.filter_length (which takes 502)", "pretrain.replay.capacity=1 is less",
                  "mine/pole has 0 test tasks", "there is no task distribution 'mine/pale'",
                  "target goal does not fit the model of pretrain.sources: images: "):  # fmt: skip
        assert sum(words in line for line in lines) == 1, words
    assert len(lines) == 6 and all(line.startswith("meta-latent: ") for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("command")
def test_from_python_what_a_suite_refuses_is_a_user_error(tmp_path, toy):
    with pytest.raises(meta_latent.UserError, match=r"^mine/pole has no scripted policy; set pretrain.scripted=0$"):
        meta_latent.pretrain(toy.experiment(tmp_path, POLE))


def test_episodes_of_any_length_can_be_learned_from(tmp_path, command):
    folder = tmp_path / "toy" / "pretrain" / "0"
    given = ("pretrain", "toy", f"out={tmp_path}", POLE)
    status, said = command(*given)
    assert status == 2 and "mine/pole has no scripted policy; set pretrain.scripted=0" in said
    assert not folder.exists()
    status, said = command(*given, "pretrain.scripted=0", "learner.filter_length=501", "learner.horizon=900")
    assert status == 2 and "501 observations (500 steps)" in said and "filter_length" not in said
    assert "learner.horizon (which takes 901)" in said and not folder.exists()
    status, said = command(*given, "pretrain.scripted=0", "learner.filter_length=400")
    assert status == 2 and "learner.filter_length (which takes 400)" in said
    assert run_folder.read_record(folder)["status"] == "failed"
    cell = ("transfer", "toy", f"out={tmp_path}", "transfer.targets={t: {suite: mine/pole, split: train}}")
    status, said = command(*cell, "target=t", "arm=ivg/pretrained", "run_seed=0")
    assert status == 2 and f"{folder}, has not finished: run meta-latent pretrain" in said
    # Nothing was saved, so that the same folder serves the changed command.
    assert command(*given, "pretrain.scripted=0")[0] == 0
    held_out = run_folder.read_record(folder)["held_out"]
    constant = {key for key, value in held_out.items() if value is None}  # CartPole pays 1 for every step
    assert constant == {"reward_1_minus_r2", "reward_1_minus_r2_blind"}
    assert all(np.isfinite(value) for key, value in held_out.items() if key not in constant)


def test_very_short_episodes_are_measured_too(toy, tmp_path):
    short = "pretrain.sources=[{suite: toy/lqr, options: {episode_steps: 4}}]"
    folder = toy.pretrain(tmp_path, short, "learner.filter_length=4", "pretrain.env_steps=60")
    record = run_folder.read_record(folder)
    assert {"positions_1_minus_r2", "open_loop_r2", "reward_1_minus_r2"} < set(record["held_out"])
    assert list((folder / "images").glob("imagined_vs_real*.png"))


def test_too_few_held_out_episodes_say_so(toy, tmp_path, capsys):
    toy.pretrain(tmp_path, "pretrain.held_out=0.01")
    said = capsys.readouterr().out
    assert "2 episodes are held out, 4 are needed: nothing was measured; raise pretrain.env_steps" in said


def test_without_a_terminal_every_stage_is_a_line(toy, tmp_path, capsys):
    toy.pretrain(tmp_path)
    lines, sizes = capsys.readouterr().out.splitlines(), toy.experiment(tmp_path).pretrain
    assert lines[0].endswith("steps of source data take under 1 MB")
    wanted = [f"collect: {sizes.env_steps:,} steps", f"joint: {sizes.joint_updates:,} updates"]
    assert lines[1:3] == wanted and lines[-1].startswith("held out: ")


def test_pretraining_that_was_never_started_is_named(tmp_path, command):
    status, said = command("transfer", "toy", f"out={tmp_path}", "transfer.arms=[ivg/pretrained]")
    assert status == 2 and "was never started: run meta-latent pretrain" in said


class Undrawn(gymnasium.Env):
    """Its render is broken."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def render(self):
        raise AttributeError("Unexpected mode: None")


class NoPictures(gymnasium.Env):
    """Its render is not implemented."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,))


def test_an_environment_that_cannot_draw_costs_the_film_only():
    with pytest.warns(UserWarning, match="no video: .*Unexpected mode"):
        assert video.picture(Rows([Undrawn()])) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert video.picture(Rows([NoPictures()])) is None


def test_a_target_with_too_short_episodes_names_the_keys(tmp_path, command):
    target = "transfer.targets={t: {suite: mine/pole, split: train}}"
    cell = (target, "target=t", "arm=ivg/scratch", "run_seed=0")
    status, said = command("transfer", "toy", f"out={tmp_path}", *cell, "algorithms.ivg.horizon=600")
    assert status == 2 and "windows take 601: lower learner.horizon" in said


@pytest.mark.parametrize(("horizon", "times"), [(20, 1), (3, 0)])
def test_what_a_run_does_not_learn_from_short_episodes_is_told_once(tmp_path, command, recwarn, horizon, times):
    """Random actions let the pole fall after 10 to 40 steps."""
    cell = ("transfer.targets={t: {suite: mine/pole, split: train}}", "target=t", "arm=ivg/scratch", "run_seed=0")
    assert command("transfer", "toy", f"out={tmp_path}", *cell, f"algorithms.ivg.horizon={horizon}")[0] == 0
    told = [str(one.message) for one in recwarn if "windows take" in str(one.message)]
    words = (rf"windows take {horizon + 1} observations of an episode: \d+ % of the episodes so far are shorter, and "
             r"nothing is learned there from their \d+ % of all steps: lower learner\.horizon, or ")  # fmt: skip
    assert len(told) == times and all(re.match(words, one) for one in told)


@pytest.mark.parametrize("tried", [True, False])
def test_what_a_reward_raises_in_another_task_than_its_first_is_a_line(tmp_path, command, tried):
    """tried: already of what it is tried on when the suite is opened, not only of what is played."""

    def off(inputs, action, by):
        if by == 2 and (tried or inputs.shape[:-1] != (2, 3)):
            raise KeyError(f"no target {by}")
        return -abs(inputs[..., 0] - by)

    tasks = {"train": [{"by": 2}], "test": [{"by": 1}]}
    task_suites.with_rewards("mine/off", "toy/lqr", reward=off, tasks=tasks)
    wrong, out = "{suite: mine/off, split: train}", f"out={tmp_path}"
    one = (f"transfer.targets={{goal: {wrong}}}", "transfer.arms=[sac/scratch]", "arm=sac/scratch", "run_seed=0")
    try:
        for status, said in (command("pretrain", "toy", out, f"pretrain.sources=[{wrong}]", "pretrain.scripted=0"),
                             command("transfer", "toy", out, "target=goal", *one)):  # fmt: skip
            assert status == 2 and said.count("\n") == 1 and ("given numpy arrays" in said) == tried
            assert re.search(r"mine/off: task \{'by': 2\}, reward 'off'.*: KeyError: 'no target 2'", said)
    finally:
        gymnasium.registry.pop(task_suites.gymnasium_id("mine/off"), None)
