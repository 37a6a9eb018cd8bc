"""Scheduler: order, failures, threads, and an orderly Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest

from meta_latent.errors import UserError
from meta_latent.experiment.runs.processes import ALLOCATOR, Cell, command
from meta_latent.experiment.runs.scheduler import Policy, _Pool, run_cells


def cell(name, code="", after=(), log=None):
    return Cell(name, (sys.executable, "-S", "-c", textwrap.dedent(code)), after, log)


def test_dependencies_wait_and_failures_skip_only_what_needs_them(tmp_path):
    events = []
    cells = [
        cell("last", after=("middle",)),
        cell("needs bad", after=("bad",)),
        cell("needs it too", after=("needs bad", "first")),
        cell("middle", f"import os; assert os.path.exists({str(tmp_path / 'made')!r})", after=("first",)),
        cell("bad", "print('working'); raise SystemExit('broken on purpose')"),
        cell("first", f"import time; time.sleep(0.3); open({str(tmp_path / 'made')!r}, 'w')"),
    ]
    outcome = run_cells(cells, 2, events.append)
    assert outcome == {
        "first": "done", "middle": "done", "last": "done",
        "bad": "failed", "needs bad": "skipped", "needs it too": "skipped",
    }  # fmt: skip
    (failed,) = [event for event in events if event.kind == "failed"]
    assert (failed.exit_status, failed.last_line) == (1, "broken on purpose")
    assert [event.cell.name for event in events if event.kind == "started"].index("last") == 3
    assert events[0].standing == "0 of 6 done, 1 running, 0 failed"
    assert events[-1].standing == "3 of 6 done, 0 running, 1 failed"


def test_never_more_than_the_workers_and_they_do_run_together(tmp_path):
    code = f"""
        import os, time
        path = {str(tmp_path)!r} + "/" + str(os.getpid())
        open(path, "w").close(); time.sleep(0.4)
        print(len(os.listdir({str(tmp_path)!r}))); time.sleep(0.2); os.remove(path)
    """
    seen = []
    run_cells(
        [cell(str(i), code) for i in range(4)],
        2,
        lambda e: e.kind == "done" and seen.append(int(e.last_line)),
    )
    assert len(seen) == 4 and max(seen) == 2


@pytest.mark.parametrize(("workers", "together"), [(2, [1, 1, 1, 1]), (3, [1, 2, 1, 1])])
def test_a_cell_of_several_cpus_waits_for_them_and_nobody_overtakes_it(workers, together):
    """Of 2, and of more than there are: those that begin in turn, and how many run when each does."""
    running, seen, begun = set(), [], []

    def note(event):
        (running.add if event.kind == "started" else running.discard)(event.cell.name)
        if event.kind == "started":
            begun.append(event.cell.name)
            seen.append(len(running))

    sizes = {"one": 1, "two": 2, "nine": 9, "last": 1}
    cells = [replace(cell(name, "import time; time.sleep(0.5)"), cpus=cpus) for name, cpus in sizes.items()]
    assert set(run_cells(cells, workers, note).values()) == {"done"}
    assert begun == list(sizes) and seen == together


def test_cells_get_one_thread_and_the_allocator_settings(tmp_path):
    log = tmp_path / "logs" / "a.log"
    outcome = run_cells([cell("a", "import json, os; print(json.dumps(dict(os.environ)))", log=log)], 1)
    found = json.loads(log.read_text())
    assert outcome == {"a": "done"} and found["OMP_NUM_THREADS"] == "1"
    assert ALLOCATOR.items() <= found.items()


def test_a_terminals_ctrl_c_does_not_reach_the_cells_directly():
    lines = []
    code = "import os; print(os.getsid(0) == os.getpid())"
    run_cells([cell("a", code)], 1, lambda event: lines.append(event.last_line))
    assert lines == ["", "True"]


def test_a_warning_is_repeated_and_is_no_result():
    events, lines = [], []
    code = "import time; print('score 0.5', flush=True); print('warning: no video', flush=True); time.sleep(1.5)"
    run_cells([cell("a", code)], 1, events.append, lambda cell, line: lines.append(line))
    assert "warning: no video" in lines and events[-1].last_line == "score 0.5"


def test_much_output_does_not_block(tmp_path):
    log = tmp_path / "a.log"
    assert run_cells([cell("a", "print('x' * 99 + '\\n', end='') or print(('y' * 99 + '\\n') * 20000)", log=log)], 1)
    assert log.stat().st_size > 2_000_000


@pytest.mark.parametrize(
    ("cells", "workers", "text"),
    [
        ([cell("a"), cell("a")], 1, "two cells are called 'a'"),
        ([cell("a", after=("b",))], 1, "needs 'b'"),
        ([cell("a", after=("b",)), cell("b", after=("a",)), cell("c")], 1, "circle: a, b"),
        ([cell("a")], 0, "workers=0"),
    ],
)
def test_mistakes(cells, workers, text):
    with pytest.raises(UserError, match=text):
        run_cells(cells, workers)


class Ends:
    """A process without time: "bad" cells have failed at once, others finish when they are interrupted."""

    last_line = ""

    def __init__(self, cell):
        self.status, self.killed = 1 if cell.name.startswith("bad") else None, False

    def poll(self):
        return self.status

    def interrupt(self):
        self.status = 0 if self.status is None else self.status

    def kill(self):
        self.killed = True

    def wait(self):
        """It has ended by then."""

    def reason(self):
        return "why"


@pytest.mark.parametrize(("names", "outcome", "standing"), [
    (("bad", "slow", "later"), {"bad": "failed", "slow": "done", "later": "stopped"},
     ["1 of 3 done, 0 running, 1 failed", "1 of 3 done, 0 running, 1 failed, 1 stopped"]),
    (("bad", "bad too", "later"), {"bad": "failed", "bad too": "stopped", "later": "stopped"},
     ["0 of 3 done, 0 running, 1 failed, 1 stopped", "0 of 3 done, 0 running, 1 failed, 2 stopped"]),
])  # fmt: skip
def test_a_failure_that_stops_all_may_find_others_that_ended(names, outcome, standing):
    told = []
    pool = _Pool([Cell(name, ("x",)) for name in names], 2, told.append, Policy(launch=Ends, fail_fast=True))
    pool.start()
    pool.collect()
    assert pool.outcome == outcome and [event.standing for event in told[-2:]] == standing
    assert all(event.exit_status is not None for event in told if event.kind == "done")


def test_a_second_ctrl_c_kills(monkeypatch):
    pool = _Pool([Cell("slow", ("x",))], 1, lambda event: None, Policy(launch=Ends))
    pool.start()
    (item,) = pool.running

    def impatient():
        raise KeyboardInterrupt

    monkeypatch.setattr(item.process, "wait", impatient)
    pool.interrupt()
    assert item.process.killed


def test_an_interrupt_while_a_cell_starts_finds_it_among_the_running():
    class Slow(Ends):
        def __init__(self, cell):
            super().__init__(cell)
            os.kill(os.getpid(), signal.SIGINT)

    pool = _Pool([Cell("slow", ("x",))], 1, lambda event: None, Policy(launch=Slow))
    with pytest.raises(KeyboardInterrupt):
        pool.start()
    assert [item.cell.name for item in pool.running] == ["slow"]


def test_without_a_terminal_every_line_is_handed_on_once(capsys):
    code = "import time\nfor k in (1, 1, 2):\n    print('evaluation', k, flush=True); time.sleep(0.35)"
    told = []
    run_cells([cell("a", code)], 1, on_line=lambda who, line: told.append((who.name, line)), progress=False)
    assert told == [("a", "evaluation 1"), ("a", "evaluation 2")]
    shown = []
    run_cells([cell("a", code)], 1, on_line=lambda who, line: shown.append(line), progress=True)
    assert shown == [] and "evaluation 2" in capsys.readouterr().err


def test_a_progress_line_per_worker(capsys):
    run_cells([cell("first cell", "import time; print('step 7', flush=True); time.sleep(0.5)")], 1, progress=True)
    shown = capsys.readouterr().err
    assert "first cell" in shown and "step 7" in shown and "1/1" in shown


SAVING = """
    import signal, sys, time
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(0.5)
        open(sys.argv[1], "a").write("saved ")
        sys.exit(130)
"""
PARENT = """
    import sys
    from meta_latent.experiment.runs.scheduler import Cell, run_cells
    cells = [Cell(str(i), (sys.executable, "-S", "-c", sys.argv[1], sys.argv[2])) for i in range(3)]
    started = lambda event: print(event.kind, flush=True)
    try:
        run_cells(cells, 2, started)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_lets_the_children_save_then_raises(tmp_path, kind):
    saved = tmp_path / "saved"
    code = [textwrap.dedent(text) for text in (PARENT, SAVING)]
    argv = [sys.executable, "-c", *code, str(saved)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert [parent.stdout.readline() for _ in range(2)] == ["started\n"] * 2
        time.sleep(0.7)  # the children need a moment to start
        parent.send_signal(kind)
        if kind == signal.SIGHUP:  # a terminal that closes may say so twice; that must not kill the children
            time.sleep(0.2)
            parent.send_signal(kind)
        assert parent.wait(timeout=20) == 130
        assert "waiting for 0, 1 to end what was begun" in parent.stderr.read()
    assert saved.read_text() == "saved saved "


def test_a_run_under_nohup_outlives_its_terminal():
    """SIGHUP is ignored there, and stays so."""
    code = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);" + textwrap.dedent(PARENT)
    argv = [sys.executable, "-c", code, "import time; time.sleep(1)", ""]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert [parent.stdout.readline() for _ in range(2)] == ["started\n"] * 2
        parent.send_signal(signal.SIGHUP)
        assert parent.wait(timeout=20) == 0


REASONS = {
    "ours": ("print('meta-latent: no such thing'); print('some more'); sys.exit(2)", "meta-latent: no such thing"),
    "traceback": ("int('x')", "ValueError: invalid literal for int() with base 10: 'x'"),
    "of a bare class": ("raise ZeroDivisionError", "ZeroDivisionError"),
    "chained": (
        """
        try:
            int('x')
        except ValueError:
            raise KeyError('the last one')""",
        "KeyError: 'the last one'",
    ),
    "noise at exit": (
        """
        class Context:
            def __del__(self):
                self.nothing
        kept = Context()
        raise RuntimeError('no pictures')""",
        "RuntimeError: no pictures",
    ),
    "noise before": (
        """
        class Context:
            def __del__(self):
                self.nothing
        Context()
        print('giving up')
        sys.exit(1)""",
        "giving up",
    ),
    "nothing": ("sys.exit(3)", "exit status 3, without any output"),
    "killed": ("print('step 7', flush=True); os.kill(os.getpid(), 9)", "killed by SIGKILL; last line: step 7"),
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_failed_cell_says_why(kind):
    code, reason = REASONS[kind]
    events = []
    assert run_cells([cell("a", "import os, sys\n" + textwrap.dedent(code))], 1, events.append) == {"a": "failed"}
    assert events[-1].last_line == reason


def test_a_log_that_cannot_be_made_hides_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    logs = (tmp_path / "file" / "output.log", tmp_path / ("a" * 300))
    for log in logs:
        events = []
        run_cells([cell("a", "print('x'); int('y')", log=log)], 1, events.append)
        assert events[-1].last_line.startswith("ValueError")
        assert run_cells([cell("a", "print('x' * 200000)", log=log)], 1, events.append) == {"a": "done"}
        assert events[-1].last_line.startswith(f"cannot write {log}")


COMMANDS = """
    import sys
    from meta_latent.experiment.runs.scheduler import Cell, run_cells
    code = "import sys; print(sys.argv[1])"
    cells = [Cell("a", (sys.executable, "-S", "-c", code, "д×"), (), __import__("pathlib").Path(sys.argv[1]))]
    try:
        print(run_cells(cells, 1, lambda event: print(event.kind, ascii(event.last_line))))
    except Exception as error:
        print(type(error).__name__, ascii(str(error)))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "1"},
    ],
)
def test_cells_may_be_called_anything_whatever_the_terminal_is(tmp_path, settings):
    log = tmp_path / "ü" / "a.log"
    argv = [sys.executable, "-c", textwrap.dedent(COMMANDS), str(log)]
    shown = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True)
    assert "done '\\u0434\\xd7'" in shown.stdout and not shown.stderr
    assert log.read_text(encoding="utf-8") == "д×\n"


def test_a_system_that_cannot_write_a_name_says_so(tmp_path):
    settings = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    argv = [sys.executable, "-c", textwrap.dedent(COMMANDS).replace('"д×"', "chr(1076)"), str(tmp_path / "a")]
    shown = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True)
    assert shown.stdout.startswith("UserError") and "LC_ALL=C.UTF-8" in shown.stdout


def test_a_users_files_beside_the_run_are_not_imported_in_place_of_pythons(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("queue", "profile", "numpy", "meta_latent"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger')")
    events = []
    run_cells([Cell("a", command("tasks", "toy/lqr"))], 1, events.append)
    assert events[-1].kind == "done", events[-1].last_line


def test_a_users_package_in_the_working_folder_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_tasks.py").write_text("import task_suites; task_suites.gymnasium_task('mine/pole', 'CartPole-v1')")
    events = []
    run_cells([Cell("a", command("tasks", "mine/pole", "imports=[my_tasks]"))], 1, events.append)
    assert events[-1].kind == "done", events[-1].last_line


def test_an_error_of_the_caller_leaves_no_orphan():
    pids = []

    def fail(event):
        raise ZeroDivisionError

    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    before = children()
    with pytest.raises(ZeroDivisionError):
        run_cells([cell("a", code)], 1, fail)
    time.sleep(0.2)
    pids = children() - before
    assert not [pid for pid in pids if alive(pid)]


def children():
    path = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    return set(open(path).read().split())


def alive(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")")[1].split()[0] != "Z"


class EndsWith(Ends):
    """A process that ends with the status that it is called after, once it is interrupted."""

    def __init__(self, cell):
        self.status, self.after = None, int(cell.name)

    def interrupt(self):
        self.status = self.after


def test_what_fails_while_it_is_interrupted_has_failed():
    told, statuses = [], {"0": "done", "130": "interrupted", "-9": "interrupted", "1": "failed", "2": "failed"}
    pool = _Pool([Cell(name, ("x",)) for name in statuses], len(statuses), told.append, Policy(launch=EndsWith))
    pool.start()
    pool.interrupt()
    pool.settle_interrupted()
    assert {event.cell.name: event.kind for event in told if event.kind != "started"} == statuses
    assert {event.last_line for event in told if event.kind == "failed"} == {"why"}
