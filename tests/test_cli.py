"""Command line: exit statuses, one-line errors, lazy imports, Ctrl-C."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from PIL import Image

import task_suites
from meta_latent import cli
from meta_latent.errors import RunError, UserError


@pytest.fixture
def transfer(monkeypatch):
    """Stands for the module behind `transfer`; a test sets its `run`."""
    module = types.ModuleType("meta_latent.experiment.commands.transfer")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.calls = []
    module.run = lambda name, overrides: module.calls.append((name, overrides))
    return module


def test_a_command_gets_its_name_and_overrides(transfer):
    assert cli.main(["transfer", "push", "seed=1", "model.rate=1e-3"]) == 0
    assert transfer.calls == [("push", ["seed=1", "model.rate=1e-3"])]


def test_a_path_may_hold_an_equals_sign(transfer, tmp_path, capsys, monkeypatch):
    """As those of a sweep's experiments do, where `out` or a variant's name has one."""
    path = tmp_path / "a=b" / "experiment.yaml"
    assert cli.main(["transfer", str(path), "seed=1"]) == 2 and "as NAME" in capsys.readouterr().err
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    short = "~/a=b/experiment.yaml"
    assert cli.main(["transfer", str(path), "seed=1"]) == cli.main(["transfer", short]) == 0
    assert transfer.calls == [(str(path), ["seed=1"]), (short, [])]


@pytest.mark.parametrize(
    ("error", "status"),
    [(UserError("two\nlines"), 2), (RunError("the disk is full"), 1), (KeyboardInterrupt(), 130)],
)
def test_exit_status_and_message(transfer, capsys, error, status):
    def run(name, overrides):
        raise error

    transfer.run = run
    assert cli.main(["transfer", "push", "out=/tmp/a b"]) == status
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    if status == 130:
        assert "meta-latent transfer push 'out=/tmp/a b'" in printed[0]
    else:
        assert printed[0] == f"meta-latent: {' '.join(str(error).split())}"


def test_a_status_that_a_command_returns_is_kept(transfer):
    transfer.run = lambda name, overrides: 1
    assert cli.main(["transfer", "push"]) == 1


def test_mistakes_of_the_suites_are_wrong_input_and_other_value_errors_are_bugs(transfer, capsys):
    import task_suites

    def suite(name, overrides):
        task_suites.get("tabletop/reech")

    transfer.run = suite
    assert cli.main(["transfer", "push"]) == 2
    assert "tabletop/reach" in capsys.readouterr().err

    def bug(name, overrides):
        raise ValueError("a bug")

    transfer.run = bug
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["transfer", "push"])


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["transfer", "seed=1"], "NAME"),
        (["transfer", "push", "seed"], "key=value"),
        (["tasks", "seed=1"], "imports="),
        (["tasks", "toy/lqrr"], "toy/lqr"),
        (["tasks", "toy/lqr", "--tag", "toy"], "--tag"),
        (["tasks", "picture=a.png"], "NAME"),
        (["tasks", "toy/lqr", "picture=/nowhere/at/all.png"], "picture="),
        (["tasks", "imports=[no_such_package]"], "no_such_package"),
        (["trasnfer", "push"], "there is no command 'trasnfer'; did you mean 'transfer'?"),
        (["demo", "push", "--seeds", "3"], '--seeds 3 is not understood; settings are key=value, such as "transfer'),
        (["doctor", "--all"], "--all is not understood; see: meta-latent doctor --help"),
        (["transfer"], "required: NAME\n"),
        (["transfer", "nosuch.yaml"], "there is no file nosuch.yaml"),
        (["tasks", "toy/lqr", "image_sise=3"], "image_size"),
        (["tasks", "mine/nothing"], "imports=[my_package]"),
        (
            ["pretrain", "toy", "pretrain.sources=[{suite: toy/lqr, index: 99}]"],
            "pretrain.sources.0.index=99: toy/lqr has",
        ),
    ],
)
def test_wrong_usage(capsys, argv, text):
    assert cli.main(argv) == 2
    assert text in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main(["transfer", "toy", "arm=sac/scratch", f"out={tmp_path}/file/x/y"]) == 2
    assert f"cannot write the folder {tmp_path}/file/x" in capsys.readouterr().err


def test_alone_it_says_what_to_try_first_and_which_commands_there_are(capsys):
    assert cli.main([]) == 0
    said, _ = capsys.readouterr()
    for words in (
        "meta-latent doctor",
        "meta-latent demo puck",
        "\n  transfer    learn target tasks",
        "COMMAND --help",
    ):
        assert words in said
    assert "None" not in said and max(map(len, said.splitlines())) <= 125


def test_demo_needs_no_name(monkeypatch):
    calls = []
    module = types.ModuleType("meta_latent.experiment.commands.demo")
    module.run = lambda *a: calls.append(a)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for argv in (["demo"], ["demo", "seed=1"], ["demo", "other", "seed=1"]):
        assert cli.main(argv) == 0
    assert calls == [("demo", []), ("demo", ["seed=1"]), ("other", ["seed=1"])]


def test_tasks_lists_the_suites_by_tag(capsys):
    assert cli.main(["tasks"]) == 0
    everything = capsys.readouterr().out.split()
    assert "tabletop/reach" in everything
    assert cli.main(["tasks", "--tag", "mujoco"]) == 0
    assert set(capsys.readouterr().out.split()) <= set(everything)


def test_tasks_shows_one_in_words_and_pictures(capsys, tmp_path):
    assert cli.main(["tasks", "toy/lqr", f"picture={tmp_path / 'lqr.png'}"]) == 0
    said = capsys.readouterr().out
    suite = task_suites.get("toy/lqr")
    first = suite.sample("train", 1, seed=0)[0]  # that of index 0
    pays = suite.describe(first)
    for words in ("13 tasks", f"first reward: {pays}", "task_suites/toy-lqr-v0", "proprio float32 (4,)"):
        assert words in said
    assert f"\nits dynamics: {first.dynamics.in_words()}\n" in said and "drag_per_second=" in first.dynamics.in_words()
    assert (tmp_path / "lqr.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["tasks", "toy/lqr"]) == 0
    assert "picture=FILE.png" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "shown"), [(16, 128), (50, 150), (200, 200)])
def test_small_pictures_are_scaled_by_whole_factors(tmp_path, size, shown):
    path = tmp_path / "lqr.png"
    assert cli.main(["tasks", "toy/lqr", f"image_size={size}", f"picture={path}"]) == 0
    picture, times = np.array(Image.open(path)), shown // size
    assert picture.shape == (shown, 6 * shown, 3)
    assert (picture == picture[::times, ::times].repeat(times, 0).repeat(times, 1)).all()


def test_tasks_takes_the_options_of_one_and_shows_them(capsys):
    assert cli.main(["tasks", "tabletop/reach"]) == 0
    usual = capsys.readouterr().out
    assert 'cameras=["fit"], image_size=64,' in usual and "episode_steps=null" in usual
    chosen = ("image_size=32", "cameras=[top, left]", "episode_steps=7", "distractors={video: 0.5}")
    assert cli.main(["tasks", "tabletop/reach", *chosen]) == 0
    said = capsys.readouterr().out
    assert 'cameras=["top", "left"], image_size=32,' in said and "7 steps" in said
    assert "image_left uint8 (32, 32, 3)" in said and 'distractors={"video": 0.5}' in said
    assert "episode_steps=7" in said
    assert cli.main(["tasks", "toy/hidden_goal", "goals=half_ring"]) == 0
    assert 'goals="half_ring", reward="dense"' in capsys.readouterr().out


def test_tasks_says_that_there_is_no_picture(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))
    task_suites.gymnasium_task("mine/blind", lambda: PendulumEnv(), max_episode_steps=5)
    assert cli.main(["tasks", "mine/blind", f"picture={tmp_path / 'a.png'}"]) == 0
    said = capsys.readouterr().out
    assert "picture:      none: it shows no pictures" in said and "action:       1 number in [-1, 1]" in said
    assert not list(tmp_path.iterdir())
    task_suites.registry.gymnasium.registry.pop("task_suites/mine-blind-v0")


def test_help_shows_the_example_line_by_line(capsys):
    assert cli.main(["--help"]) == 0
    assert '\n    config = meta_latent.configure("puck", "seed=1")\n' in capsys.readouterr().out


def test_tasks_draws_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["tasks", "toy/lqr"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "\u2580" in line]
    assert len(lines) == 32 and all(line.count("\u2580") == 64 for line in lines)


def test_tasks_knows_a_users_own_package(capsys, tmp_path, monkeypatch):
    """One that registers a task when it is imported."""
    monkeypatch.setattr(task_suites.registry, "_ENTRIES", dict(task_suites.registry._ENTRIES))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_tasks_of_test.py").write_text(
        "import task_suites\ntask_suites.gymnasium_task('mine/pole', 'CartPole-v1', tags=('wanted',))\n"
    )
    assert cli.main(["tasks", "imports=[my_tasks_of_test]", "--tag", "wanted"]) == 0
    assert capsys.readouterr().out == "mine/pole\n"
    assert cli.main(["tasks", "mine/pole", "imports=[my_tasks_of_test]"]) == 0
    assert "what the environment itself pays" in capsys.readouterr().out
    task_suites.registry.gymnasium.registry.pop("task_suites/mine-pole-v0")


def test_imports_come_first_and_from_the_working_folder(transfer, tmp_path, monkeypatch):
    (tmp_path / "my_package_of_test.py").write_text("import meta_latent.cli as c; c.seen = True\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "seen", False, raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    seen = []
    transfer.run = lambda name, overrides: seen.append((cli.seen, overrides))
    assert cli.main(["transfer", "push", "imports=[my_package_of_test]"]) == 0
    assert seen == [(True, ["imports=[my_package_of_test]"])]


def test_a_missing_dependency_inside_a_users_package_is_named(transfer, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_broken_package.py").write_text("import no_such_dependency\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["transfer", "push", "imports=[my_broken_package]"]) == 2
    said = "imports: 'my_broken_package' imports 'no_such_dependency', which is not installed"
    assert capsys.readouterr().err == f"meta-latent: {said}\n"


@pytest.mark.parametrize(("code", "said"), [
    ("task_suites.gymnasium_task('mine/x', object, max_episode_stps=3)\n",
     r"TypeError: .*'max_episode_stps'.* \(.*my_faulty_package\.py:2, in <module>\)"),
    ("def f(:\n", r"SyntaxError: .*my_faulty_package\.py, line 2\)"),
])  # fmt: skip
def test_a_users_package_that_raises_is_wrong_input(transfer, tmp_path, monkeypatch, capsys, code, said):
    (tmp_path / "my_faulty_package.py").write_text("import task_suites\n" + code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["transfer", "push", "imports=[my_faulty_package]"]) == 2
    assert re.fullmatch(f"meta-latent: imports: 'my_faulty_package': {said}\n", capsys.readouterr().err)


def test_help_is_fast_because_nothing_heavy_is_imported():
    code = "import sys, meta_latent.cli as c; c.main(['--help']); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "gymnasium", "omegaconf", "matplotlib"} & set(modules)
    assert "meta_latent.cli" in modules


def test_the_process_of_a_run_begins_without_what_only_reports_draw_with():
    """Each of a sweep's cells would pay for it anew: half of the time that importing takes."""
    code = "import sys, meta_latent.experiment.commands.transfer; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "scipy", "jinja2", "imageio"} & set(modules)
    assert "torch" in modules


PROCESS = """
import sys, types
module = types.ModuleType("meta_latent.experiment.commands.evaluate")
def run(name, overrides):
    import time
    print("running", flush=True)
    time.sleep(60)
module.run = run
sys.modules[module.__name__] = module
sys.argv = ["meta-latent", "evaluate", "push"]
from meta_latent import cli
sys.exit(cli.main())
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("by_scheduler", [False, True])
def test_signals_interrupt_a_real_process(kind, by_scheduler):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    if by_scheduler:
        # The scheduler may run in the background of a script, where shells let processes ignore Ctrl-C.
        ignore = "import os, signal as s, sys; s.signal(s.SIGINT, s.SIG_IGN); _, *a = sys.argv; os.execv(a[0], a)"
        argv = [sys.executable, "-c", ignore, sys.executable, "-c", PROCESS]
    else:
        argv = [sys.executable, "-c", PROCESS]
    with subprocess.Popen(argv, start_new_session=by_scheduler, **options) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.1)
        process.send_signal(kind)
        try:
            assert process.wait(timeout=10) == 130
        finally:
            process.kill()
        assert "begins anew, for it keeps nothing: meta-latent evaluate push" in process.stderr.read()


def test_python_m_is_the_same_command_and_a_users_files_are_harmless(tmp_path):
    for name in ("queue", "profile", "argparse", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger')")
    argv = [sys.executable, "-m", "meta_latent", "tasks", "toy/lqr"]
    child = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0 and "13 tasks" in child.stdout, child.stderr


def test_a_warning_is_a_line_without_its_place_in_the_source():
    code = """
import sys, types, warnings
module = types.ModuleType("meta_latent.experiment.commands.report")
module.run = lambda *paths: warnings.warn("no video:\\nrender() failed")
sys.modules[module.__name__] = module
sys.argv = ["meta-latent", "report", "x"]
from meta_latent import cli
sys.exit(cli.main())
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "warning: no video: render() failed\n")


def test_a_mistake_in_somebodys_code_ends_with_one_line_that_names_its_place(tmp_path):
    (tmp_path / "mine.py").write_text("import json\n\n\ndef step():\n    json.loads('{')\n")
    code = """
import sys, types
module = types.ModuleType("meta_latent.experiment.commands.report")
sys.path.append(sys.argv[1])
import mine
module.run = lambda *paths: mine.step()
sys.modules[module.__name__] = module
sys.argv = ["meta-latent", "report", "x"]
from meta_latent import cli
sys.exit(cli.main())
"""
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    lines = child.stderr.splitlines()
    assert child.returncode == 1 and lines[0] == "Traceback (most recent call last):" and len(lines) > 5
    assert lines[-1].startswith("meta-latent: report failed: JSONDecodeError: Expecting property name")
    assert lines[-1].endswith(f" ({tmp_path / 'mine.py'}:5, in step)")


def test_output_that_the_terminal_cannot_show_is_written_in_ascii():
    code = """
import sys, types
module = types.ModuleType("meta_latent.experiment.commands.report")
module.run = lambda *paths: print("2 \\u00d7 faster")
sys.modules[module.__name__] = module
sys.argv = ["meta-latent", "report", "x"]
from meta_latent import cli
sys.exit(cli.main())
"""
    for settings in ({"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1:strict"}):
        child = subprocess.run([sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True)
        assert child.returncode == 0, child.stderr
        assert child.stdout in (b"2 \\xd7 faster\n", b"2 \xd7 faster\n")


@pytest.mark.parametrize(
    ("code", "status"), [(errno.EROFS, 1), (errno.EACCES, 1), (errno.ENAMETOOLONG, 2), (errno.ENOSPC, 1)]
)
def test_what_the_machine_lacks_is_one_line(transfer, capsys, code, status):
    """And what no machine could have, such as a name of five thousand letters, is wrong input."""

    def run(name, overrides):
        raise OSError(code, os.strerror(code), "/some/file")

    transfer.run = run
    assert cli.main(["transfer", "push"]) == status
    assert capsys.readouterr().err == f"meta-latent: /some/file: {os.strerror(code)}\n"


def test_a_file_that_a_program_forgot_is_a_bug(transfer):
    def run(name, overrides):
        os.stat("/nowhere/at/all")

    transfer.run = run
    with pytest.raises(FileNotFoundError):
        cli.main(["transfer", "push"])


def test_heavy_commands_start_again_with_the_allocator_settings():
    code = """
import os, sys, types
module = types.ModuleType("meta_latent.experiment.commands.pretrain")
module.run = lambda name, overrides: print(os.environ.get("MALLOC_TOP_PAD_"), os.getpid(), name)
sys.modules[module.__name__] = module
sys.argv = ["meta-latent", "pretrain", "push"]
from meta_latent import cli
sys.exit(cli.main())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        output = process.communicate(timeout=20)[0].split()
    assert output == ["268435456", str(process.pid), "push"]
