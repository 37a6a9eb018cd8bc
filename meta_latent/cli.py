"""`meta-latent COMMAND NAME [key=value ...]`: the composition root.

Exit status: 0 done; 1 a run failed; 2 wrong input (a line on stderr for each fault); 130 interrupted, the same command
resumes what trains.
"""

import argparse
import contextlib
import errno
import importlib
import io
import os
import shlex
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import meta_latent
from meta_latent.errors import RunError, UserError, UserErrors, described, visible

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

_EXPERIMENTS = {
    "pretrain": "pretrain a latent state model on a distribution of tasks",
    "transfer": "learn target tasks, from a pretrained model and from scratch",
    "check": "try what the runs of an experiment would do: its suites, its arms, their checkpoints",
    "evaluate": "score a saved agent, or film it",
    "adapt": "play trials of the test tasks with trained agents: what they gain from episode to episode",
    "demo": "pretrain, transfer and report in minutes on a CPU",
}
_WHICH = {
    "target": "the target that was learned",
    "arm": "ALGORITHM/START",
    "run_seed": "the seed of the run",
}
_KEYS = {
    "evaluate": _WHICH | {
        "episodes": "how many, or trials of each test task (default: as in the run's own evaluations)",
        "video": "film the first so many of them (default 1)",
        "fresh": "a seed: other episodes than the learning curve's",
    },
    "adapt": {
        "target": "the target that was learned",
        "arm": "ALGORITHM/START (default: all that are trained)",
        "run_seed": "the seed of a run (default: all that are trained, pooled)",
        "episodes": "of each trial, up to 1000 (default: as many as in training); the belief goes on in more",
        "trials": "of each test task (default: as in the run's own evaluations)",
        "cleared": "true: also with the belief cleared between episodes, side by side (default false)",
        "video": "film so many trials of the first test task (default 0)",
        "maps": "of so many test tasks, pictures of the rewards that a belief expects where (default 2)",
    },
}  # fmt: skip
"""Keys of a command beside those of the experiment, as its help shows them."""
_NAMES = {"evaluate": "a YAML of configs/experiment/, or its path; or runs/NAME/transfer/TARGET/ALGORITHM/START/SEED, "
                      "which needs none of the experiment's keys",
          "adapt": "a YAML of configs/experiment/, or its path; or runs/NAME/transfer/TARGET/ALGORITHM/START/SEED, or "
                   "a folder above it, whose runs need none of the experiment's keys"}  # fmt: skip
_SWEEP_FLAGS = {
    "--fail-fast": "the first cell that fails for good stops all",
    "--retry-failed": "try cells again that failed for good in an earlier call",
    "--dry-run": "only say which cells there are, and what they will take",
}
_FIRST = """\
meta-latent pretrains a latent state model once, reuses it in many algorithms, and measures how much faster they learn.

To begin with:
  meta-latent doctor         is anything missing on this machine?
  meta-latent demo puck      pretrain, learn and report, in three minutes
  meta-latent config puck    what it was set to, and where to change it

Commands:"""
_HEAVY = ("pretrain", "transfer", "demo", "sweep")
"""Commands that train: they save what they have done, and go on from there."""
_ENVIRONMENT = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG,
    errno.EMFILE, errno.ENFILE,
)  # fmt: skip
"""What the machine lacks, as against what a program does wrong."""

Run = Callable[[argparse.Namespace], int | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. argv: the arguments; None: the process's own."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["sweep"]:  # its flags may stand anywhere, which argparse does not allow
        arguments[1:] = sorted(arguments[1:], key=lambda word: not word.startswith("-"))
    parser = _parser()
    try:
        parsed, unknown = parser.parse_known_args(_known_command(arguments, parser.get_default("commands")))
        if unknown:
            raise UserError(_not_understood(unknown, parsed))
    except UserError as error:
        return _report(error, WRONG_INPUT)
    except SystemExit as stop:  # argparse has printed help (0) or one usage error (2)
        return int(stop.code or 0)
    try:
        return _status(parsed, arguments, argv is None)
    except Exception as error:
        if argv is not None:
            raise
        traceback.print_exc()
        return _report(f"{parsed.command} failed: {described(error)}", FAILED)


def _status(parsed: argparse.Namespace, arguments: Sequence[str], real: bool) -> int:
    """Run the command. Raises what is nobody's input and nothing that the machine lacks: a mistake in some code."""
    try:
        with _real_process(parsed.command) if real else contextlib.nullcontext():
            status = parsed.run(parsed)
            sys.stdout.flush()
            return DONE if status is None else int(status)
    except (UserError, RunError) as error:
        if isinstance(error, UserErrors):
            return [_report(fault, WRONG_INPUT) for fault in error.faults][0]
        return _report(error, WRONG_INPUT if isinstance(error, UserError) else FAILED)
    except KeyboardInterrupt:
        again = shlex.join(["meta-latent", *arguments])
        with contextlib.suppress(OSError):  # the terminal may be gone
            what = "goes on where it stopped" if parsed.command in _HEAVY else "begins anew, for it keeps nothing"
            print(f"\ninterrupted; the same command {what}: {again}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.errno not in _ENVIRONMENT:
            raise
        named = error.errno == errno.ENAMETOOLONG  # by the user
        return _report(f"{error.filename or 'a file'}: {error.strerror}", WRONG_INPUT if named else FAILED)
    except ValueError as error:
        if _is_suite_error(error):
            return _report(error, WRONG_INPUT)
        raise


def _known_command(arguments: list[str], commands: Mapping[str, argparse.ArgumentParser]) -> list[str]:
    """`arguments`. Raises UserError if they begin with another word than a command."""
    word = arguments[0] if arguments else "-"
    if not word.startswith("-") and word not in commands:
        nearest = _module("meta_latent.experiment.settings.structure").nearest
        raise UserError(f"there is no command {word!r}{nearest(word, commands)}")
    return arguments


def _not_understood(words: Sequence[str], parsed: argparse.Namespace) -> str:
    settings = '; settings are key=value, such as "transfer.seeds=[3]"' if hasattr(parsed, "overrides") else ""
    return f"{shlex.join(words)} is not understood{settings}; see: meta-latent {parsed.command} --help"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meta-latent",
        description=meta_latent.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # it holds an example
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"meta-latent {meta_latent.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.set_defaults(run=lambda parsed: print(_overview(commands.choices)), commands=commands.choices)
    for name, text in _EXPERIMENTS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False, epilog=_keys(name),
                                      formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        default = {"nargs": "?", "default": "demo"} if name == "demo" else {}
        command.add_argument(
            "name", metavar="NAME", help=_NAMES.get(name, "a YAML of configs/experiment/, or its path"), **default
        )
        command.add_argument(
            "overrides", nargs="*", default=[], metavar="key=value", help="typed overrides, e.g. seed=1"
        )
        command.set_defaults(run=_run_experiment)
    text = "run many variants of an experiment: every combination of settings, targets, arms and seeds, in one pool"
    sweep = commands.add_parser("sweep", help=text, description=text, allow_abbrev=False)
    sweep.add_argument("name", metavar="NAME", help="a YAML of configs/experiment/, or its path; its section `sweep` "
                                                    "says what varies (docs/sweeps.md)")  # fmt: skip
    sweep.add_argument("overrides", nargs="*", default=[], metavar="key=value",
                       help="typed overrides, e.g. sweep.grid.seed=[0,1,2]")  # fmt: skip
    for flag, meaning in _SWEEP_FLAGS.items():
        sweep.add_argument(flag, action="store_true", help=meaning)
    sweep.set_defaults(run=_run_sweep)
    _add_readers(commands)
    return parser


def _add_readers(commands: argparse._SubParsersAction) -> None:
    """The commands that show what there is, and change no run."""
    text = "write the episodes that a finished run collected as a Minari data set"
    export = commands.add_parser("export", help=text, description=text, allow_abbrev=False)
    export.add_argument("run_folder", metavar="RUN", help="runs/NAME/pretrain/SEED, its model/, or "
                                                          "runs/NAME/transfer/TARGET/ALGORITHM/START/SEED")  # fmt: skip
    export.add_argument("out", metavar="minari:DATASET_ID", help="such as minari:toy/lqr-v0")
    export.set_defaults(run=_run_export)
    text = "write the report of a run, or one page that compares several"
    report = commands.add_parser("report", help=text, description=text, allow_abbrev=False)
    report.add_argument("paths", nargs="+", metavar="PATH",
                        help="runs/NAME, or the NAME or YAML of the experiment; out=FOLDER that it lies in, or that "
                             "the comparison of several goes to; thresholds=[0.5,0.85]; resamples=2000 and seed=0 of "
                             "the bootstrap; imports=[my_package] runs your own code, for pictures of your own "
                             "tasks")  # fmt: skip
    report.set_defaults(run=_run_report)
    text = "show the settings of an experiment: values, ranges, defaults, meanings, and where each came from"
    settings = commands.add_parser("config", help=text, description=text, allow_abbrev=False)
    settings.add_argument("name", metavar="NAME", help="a YAML of configs/experiment/, or its path")
    settings.add_argument("rest", nargs="*", default=[], metavar="KEY or key=value",
                          help="a setting or a section, such as transfer.evaluation, or all (default: what is not the "
                               "default); and overrides")  # fmt: skip
    settings.set_defaults(run=_run_config)
    text = "check this machine; says which command mends what is missing"
    doctor = commands.add_parser("doctor", help=text, description=text, allow_abbrev=False)
    doctor.set_defaults(run=_run_doctor)
    text = "list the task distributions, or show one: its spaces, its reward in words, a picture"
    tasks = commands.add_parser("tasks", help=text, description=text, allow_abbrev=False)
    tasks.add_argument("name", metavar="NAME", nargs="?", help="show this one, such as tabletop/reach")
    tasks.add_argument("--tag", help="list only those with this tag")
    tasks.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="imports=[package]: also those of your own package; with NAME, picture=FILE.png, references=50 "
        "(measures what sets a scale, in so many episodes) and options of it, e.g. image_size=32",
    )
    tasks.set_defaults(run=_run_tasks)
    text = "list the algorithms, or show one: its arms, settings and metrics"
    algorithms = commands.add_parser("algorithms", help=text, description=text, allow_abbrev=False)
    algorithms.add_argument("name", metavar="NAME", nargs="?", help="show this one, such as ivg")
    algorithms.add_argument("overrides", nargs="*", default=[], metavar="key=value",
                            help="imports=[package]: also those of your own package")  # fmt: skip
    algorithms.set_defaults(run=_run_algorithms)


def _overview(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """What there is and what to try first: the answer to `meta-latent` alone."""
    rows = (f"  {name:12}{parser.description}" for name, parser in commands.items())
    return "\n".join(
        [_FIRST, *rows, "", "meta-latent COMMAND --help says more of each; --help, how to use it from Python."]
    )


def _keys(command: str) -> str | None:
    """The keys that a command has of its own, one a line."""
    if command not in _KEYS:
        return None
    lines = [f"  {f'{key}=':12}{meaning}" for key, meaning in _KEYS[command].items()]
    return "\n".join(["keys beside those of the experiment:", *lines])


def _run_experiment(parsed: argparse.Namespace) -> int | None:
    name, overrides = parsed.name, list(parsed.overrides)
    if "=" in name and not os.path.exists(os.path.expanduser(name)):  # cells of a sweep in such a folder name a path
        if parsed.command != "demo":
            raise UserError(f"expected meta-latent {parsed.command} NAME [key=value ...], got {name!r} as NAME")
        name, overrides = "demo", [name, *overrides]
    for override in overrides:
        if "=" not in override:
            raise UserError(f"expected key=value after NAME, got {override!r}")
    _import_packages(overrides)
    return _function(parsed.command)(name, overrides)


def _run_sweep(parsed: argparse.Namespace) -> int | None:
    _import_packages(parsed.overrides)
    options = _module("meta_latent.experiment.learning.sweep").Options(parsed.fail_fast, parsed.retry_failed)
    return _function("sweep")(parsed.name, parsed.overrides, options, parsed.dry_run)


def _run_report(parsed: argparse.Namespace) -> int | None:
    _import_packages(parsed.paths)
    return _function("report")(*parsed.paths)


def _run_export(parsed: argparse.Namespace) -> int | None:
    return _function("export")(parsed.run_folder, parsed.out)


def _run_config(parsed: argparse.Namespace) -> int | None:
    keys = [word for word in parsed.rest if "=" not in word]
    if len(keys) > 1:
        raise UserError(f"expected one KEY, got {' and '.join(keys)}")
    overrides = [word for word in parsed.rest if "=" in word]
    _import_packages(overrides)
    return _function("config")(parsed.name, keys[0] if keys else None, overrides)


def _run_doctor(parsed: argparse.Namespace) -> int | None:
    return _function("doctor")()


def _run_tasks(parsed: argparse.Namespace) -> int | None:
    name, overrides = _name_and_overrides(parsed)
    return _function("tasks")(name, parsed.tag, overrides)


def _run_algorithms(parsed: argparse.Namespace) -> int | None:
    return _function("algorithms")(*_name_and_overrides(parsed))


def _name_and_overrides(parsed: argparse.Namespace) -> tuple[str | None, list[str]]:
    """Of a command whose NAME may be left out; what its overrides import is then imported."""
    name, overrides = parsed.name, list(parsed.overrides)
    if name is not None and "=" in name:
        name, overrides = None, [name, *overrides]
    _import_packages(overrides)
    return name, overrides


def _function(command: str) -> Callable[..., int | None]:
    """The function `run` of a command's module; imported here, so that `--help` stays fast."""
    return _module(f"meta_latent.experiment.commands.{command}").run


def _module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith(("meta_latent.", "task_suites.")):
            raise UserError(f"{missing} is not part of this version") from error
        raise UserError(f"the package {missing!r} is missing; see: meta-latent doctor") from error


def _import_packages(overrides: Sequence[str]) -> None:
    """Import the packages of `imports=[...]`, which register a user's own tasks, models and algorithms."""
    for override in overrides:
        key, _, text = override.partition("=")
        if key != "imports":
            continue
        names = (part.strip(" '\"") for part in text.strip("[] ").split(","))
        _module("meta_latent.experiment.settings.extensions").import_packages(name for name in names if name)


@contextlib.contextmanager
def _real_process(command: str) -> Iterator[None]:
    """Allocator settings, signals that let a run save, and output that any terminal takes: for the real
    process, not for calls of `main`.
    """
    if command in _HEAVY and sys.platform == "linux":
        allocator = _module("meta_latent.experiment.runs.processes").ALLOCATOR
        if not any(name in os.environ for name in allocator):
            # They count only if set before Python starts: once more, with them.
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **allocator})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if os.getsid(0) == os.getpid():
        # Started by our scheduler in a session of its own: no terminal sends SIGINT, so it must heed ours.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # The text alone, in a line: where in the source it comes from helps no user.
    warnings.formatwarning = lambda message, *where, **more: f"warning: {visible(' '.join(str(message).split()))}\n"
    with _module("meta_latent.experiment.runs.interrupts").raised():
        yield


def _is_suite_error(error: ValueError) -> bool:
    suites = sys.modules.get("task_suites")
    return suites is not None and isinstance(error, suites.SuiteError)


def _report(error: Exception | str, status: int) -> int:
    print(f"meta-latent: {visible(' '.join(str(error).split()))}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
