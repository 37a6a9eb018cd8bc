"""`meta-latent report NAME... [key=value ...]`: writes report.json, report.html and report/*.png of runs."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meta_latent import files
from meta_latent.errors import UserError, visible
from meta_latent.experiment.report import comparison, sweep_report
from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.reading.records import number
from meta_latent.experiment.report.reading.sources import holds_runs
from meta_latent.experiment.report.statistics.numbers import Bootstrap
from meta_latent.experiment.report.words import told_tasks
from meta_latent.experiment.report.words.summary import summary
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.ops import learning_speed as ls

RUNS = Path("runs")
PARTS = ("transfer", "pretrain", "adapt")
# For terminals that cannot show what the page can.
PLAIN = str.maketrans({"×": "x", "−": "-", "–": "-", "∞": "inf", "≤": "<=", "≥": ">="})


def run(*names: str | Path | Sequence[str | Path], overrides: Sequence[str] = ()) -> None:
    """Command ``meta-latent report NAME... [thresholds=[..]] [resamples=N] [seed=N] [out=FOLDER] [imports=[..]]``;
    prints what was written.

    ``names``: runs or paths, one by one or as a list; a ``key=value`` among them is an override, unless
    a folder is called so. ``thresholds`` replace those that the runs recorded. ``out`` is the folder that
    a single run lies in, as for other commands. Several runs are compared on one page,
    ``comparison.html`` in ``out`` (default: the first run's report/); where they differ in pretraining, beside it stand
    ``gain_against_pretraining.png`` and ``.json``, speed-up against its amount. For these a run without a scratch arm
    is compared with that of another run (see ``gain.with_scratch``). The folder of a sweep gets the sweep's page.
    Nothing that a folder names is imported; ``imports=[..]`` of the command line has been, for own tasks' pictures.
    Raises UserError.
    """
    given = [n for name in names for n in ([name] if isinstance(name, str | Path) else name)]
    options_given = [str(n) for n in given if "=" in str(n) and not Path(n).is_dir()]
    options = _options([*options_given, *overrides])
    wanted = [name for name in given if str(name) not in options_given]
    if not wanted:
        raise UserError("report: name at least one run, or a path to a run folder")
    folders = [find(name, options["out"] if len(wanted) == 1 else "") for name in wanted]
    thresholds, draw = options["thresholds"], Bootstrap(options["resamples"], options["seed"])
    sweeps, folders = parted(folders, options["out"])
    for folder in sweeps:
        told = sweep_report.build(folder, thresholds=thresholds, resamples=draw.resamples, seed=draw.seed)
        say(f"{sweep_report.table(told)}\n{folder / sweep_report.PAGE}")
    if not folders:
        return
    if len(folders) > 1:
        _compare(folders, options["out"], thresholds, draw)
        return
    report = build(folders[0], thresholds=thresholds, resamples=draw.resamples, seed=draw.seed)
    say(f"{folders[0] / 'report.html'}: {report['summary']}")
    if missing := told_tasks.left_out(report["not_imported"]):
        say(missing)


def parted(folders: Sequence[Path], out: str) -> tuple[list[Path], list[Path]]:
    """The folders of sweeps and those of runs. Raises UserError where ``out`` means nothing to several of them."""
    sweeps = [folder for folder in folders if sweep_report.is_sweep(folder)]
    if out and len(folders) - len(sweeps) < 2 <= len(folders):
        raise UserError("report: out= takes the comparison of several runs, and the page of a sweep stands in its "
                        "folder: leave one out")  # fmt: skip
    return sweeps, [folder for folder in folders if folder not in sweeps]


def _compare(folders: Sequence[Path], out: str, thresholds: Sequence[float], draw: Bootstrap) -> None:
    """Write one page of several runs into ``out``, and say what it says."""
    compared = comparison.compare(folders, Path(out) if out else None, thresholds, draw)
    if compared.gain:
        say(f"{compared.gain}: speed-up against the amount of pretraining, {len(folders)} runs")
    for side in compared.sides:
        say(f"{side.name}: {summary(side.report)}")
    say(f"{compared.page}: {len(folders)} runs side by side")


def find(name: str | Path, out: str = "") -> Path:
    """The run folder called ``name``: a path to it or to a part of it, a run under runs/, or the experiment of the
    runs: its name or YAML. ``out``: the folder that the run lies in, where it is not runs/.

    Raises UserError naming the nearest run.
    """
    name = files.expanded(name)
    if out:
        return _inside(name, Path(out))
    paths = [path for path in (Path(name), RUNS / name) if path.is_dir()]
    for path in paths:
        # A run can lie inside folders that are called like a part of one: only what holds runs is one.
        for folder in (path, *path.parents, *path.absolute().parents):
            below = () if folder == path else path.absolute().relative_to(folder.absolute()).parts
            if below[:1] in ((), *((part,) for part in PARTS)) and holds_runs(folder):
                return folder
    if paths:
        return paths[0]
    if folder := _of_experiment(name):
        return folder
    runs = [p.name for p in RUNS.iterdir() if p.is_dir()] if RUNS.is_dir() else []
    near = difflib.get_close_matches(Path(name).name, runs, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"runs in {RUNS}/: {', '.join(sorted(runs)) or 'none'}"
    what = f"no run called {name!r} under {RUNS}/ and no such folder"
    raise UserError(f"{f'there is no folder {name}' if '/' in name else what}; {hint}")


def _inside(name: str, out: Path) -> Path:
    """The runs called ``name``, or of the experiment in this YAML, that lie in ``out``. Raises UserError, also for a
    path to other runs of that name.
    """
    called, meant = Path(name).name, True
    if called.endswith((".yaml", ".yml")):
        called = str(config.read_yaml(config.find("experiment", name)).get("name", ExperimentConfig.name))
    elif len(Path(name).parts) > 1:
        meant = Path(name).resolve() == (out / called).resolve()
    if not meant or not (out / called).is_dir():
        raise UserError(f"report: {out} holds no runs of {called if meant else name}: a report is written beside its "
                        "runs, and out= is the folder that they lie in; of several runs, where their comparison "
                        "goes")  # fmt: skip
    return find(out / called)


def _of_experiment(name: str) -> Path | None:
    """Where the runs of an experiment lie that is called by its name or its YAML; None if it is neither.

    Raises UserError if there are none yet.
    """
    if not name.endswith((".yaml", ".yml")) and name not in config.choices("experiment"):
        return None
    given = config.read_yaml(path := config.find("experiment", name))
    out, called = given.get("out", ExperimentConfig.out), given.get("name", ExperimentConfig.name)
    if not (isinstance(out, str) and isinstance(called, str)):
        raise UserError(f"{path}: out and name say where its runs lie, and should be text, got {out!r} and {called!r}")
    folder, command = Path(files.expanded(out)) / called, "sweep" if "sweep" in given else "demo"
    if not folder.is_dir():
        raise UserError(f"{name} is {'a sweep' if command == 'sweep' else 'an experiment'} whose runs would lie in "
                        f"{folder}, where there are none: meta-latent {command} {name} makes them; if they lie "
                        "elsewhere, give that folder")  # fmt: skip
    return find(folder)


def _options(overrides: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"thresholds": (), "resamples": ls.RESAMPLES, "seed": 0, "out": "", "imports": ""}
    read: dict[str, Callable[[str], Any]] = {
        "thresholds": _thresholds, "resamples": lambda v: _whole("resamples", v, 10),
        "seed": lambda v: _whole("seed", v, 0), "out": lambda v: str(Path(v).expanduser()) if v else "",
        "imports": str,  # the command line has imported them
    }  # fmt: skip
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in options:
            near = difflib.get_close_matches(key, options, n=1) or sorted(options)
            raise UserError(f"report: unknown option {key!r}; did you mean {' or '.join(near)}?")
        options[key] = read[key](value)
    return options


def _whole(key: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"report: {key}={text!r} should be a whole number >= {least}")
    return int(text)


def _thresholds(text: str) -> tuple[float, ...]:
    """'0.5', '[0.5, 0.85]' -> numbers, each once, in order of size."""
    words = text.strip().removeprefix("[").removesuffix("]").split(",")
    try:
        found = [number(float(word)) for word in words]
    except ValueError:
        found = [None]
    if None in found:
        raise UserError(f"report: thresholds={text!r} should be a list of numbers, as thresholds=[0.5,0.85]")
    return tuple(sorted(set(found)))


def say(text: str) -> None:
    """Print, in signs that the terminal has, and that do not command it."""
    text = visible(text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    print(text)
