"""The house rules, held against the real source; each rule is also shown to catch a breach."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("meta_latent", "task_suites")

# Rooms of meta_latent by floor: imports go down only; only the ground floor's may import each other.
FLOORS = (
    {"errors", "files", "types", "protocols", "ranges", "rng", "learn2learn_core"},
    {"nets", "ops"},
    {"models", "data", "policies"},
    {"algorithms"},
    {"experiment"},
    {"cli"},
    {"__main__"},
)
# Rooms of meta_latent.experiment, lowest first: each may import itself and what stands before it.
ROOMS = ("settings", "runs", "report", "pretraining", "learning", "commands")
ONLY = {("pretraining", "report"): "figures"}
REPORT = ("reading", "statistics", "words", "figures", "page")
"""Rooms of the report, lowest first, by the same rule; what builds reports stands beside them and imports all."""
SHARED = {"algorithms": "registry"}
"""The one file of a room that its other files, and settings, may import."""
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
PICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
GLOBAL_RANDOMNESS = re.compile(
    r"\btorch\.(cuda\.)?(manual_)?seed(_all)?\(|\brandom\.seed\("
    r"|\b(np|numpy)\.random\.(?!default_rng|Generator|BitGenerator|SeedSequence|PCG64|Philox|MT19937)\w+"
)
UNPICKLING = re.compile(r"(?<![\w.])torch\.(load|save)\(|allow_pickle\s*=\s*True")


def sources(root: Path, *folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text()


def imports(text: str, path: str) -> Iterator[str]:
    """Full names of the modules (or names in modules) that a file imports, also inside functions."""
    package = Path(path).parent.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    """Room of `meta_latent.ROOM...`, "" for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def floor(name: str) -> int | None:
    return next((level for level, rooms in enumerate(FLOORS) if name in rooms), None)


def layering(root: Path) -> list[str]:
    problems = []
    for path, text in sources(root, *PACKAGES):
        here = path.removesuffix(".py").replace("/", ".")
        names = list(imports(text, path))
        if path.startswith("task_suites/"):
            problems += [f"{path} imports {n}" for n in names if n.split(".")[0] in ("torch", "meta_latent")]
            continue
        mine = room(here)
        if mine == "__init__":
            continue
        level = floor(mine)
        if level is None:
            problems.append(f"{path} is in no room of the plan")
            continue
        for name in names:
            top = name.split(".")[0]
            if top == "task_suites" and mine not in ("experiment", "cli"):
                problems.append(f"{path} imports {name}")
            if top != "meta_latent":
                continue
            other, other_level = room(name), floor(room(name))
            if other_level is None:
                if other not in ("", "__version__"):
                    problems.append(f"{path} imports {name}, which is in no room of the plan")
            elif other_level > level or (other_level == level > 0 and other != mine):
                problems.append(f"{path} imports {name}")
            elif mine == other == "algorithms":
                target = name.split(".")[2] if name.count(".") > 1 else ""
                own = ("", here.split(".")[-1], SHARED["algorithms"])
                if target not in own and not here.endswith("__init__"):
                    problems.append(f"{path} imports {name}: no algorithm imports another")
    return problems


def experiment_rooms(root: Path) -> list[str]:
    """Breaches of the order of the experiment's rooms, and files that stand in none."""
    problems, start = [], "meta_latent.experiment."
    for path, text in sources(root, "meta_latent/experiment"):
        parts = path.removesuffix(".py").split("/")[2:]
        if len(parts) < 2:
            if parts != ["__init__"]:
                problems.append(f"{path} stands in no room of the experiment")
            continue
        for name in imports(text, path):
            if not name.startswith(start):
                continue
            room, _, rest = name.removeprefix(start).partition(".")
            if room not in ROOMS or ROOMS.index(room) > ROOMS.index(parts[0]):
                problems.append(f"{path} imports {name}")
            elif rest.split(".")[0] != ONLY.get((parts[0], room), rest.split(".")[0]):
                problems.append(f"{path} imports {name}: of {room} only {ONLY[parts[0], room]}")
    return problems


def report_rooms(root: Path) -> list[str]:
    """Breaches of the order of the report's rooms."""
    problems, start = [], "meta_latent.experiment.report."
    for path, text in sources(root, *(f"meta_latent/experiment/report/{room}" for room in REPORT)):
        mine = REPORT.index(path.split("/")[3])
        for name in imports(without_type_checking(text), path):
            room = name.removeprefix(start).partition(".")[0]
            if name.startswith(start) and room not in REPORT[: mine + 1]:
                problems.append(f"{path} imports {name}")
    return problems


def circles(root: Path) -> list[str]:
    """Files that import each other, directly or by way of others (type checkers' imports do not count)."""
    modules = {}
    for path, text in sources(root, *PACKAGES):
        name = path.removesuffix(".py").replace("/", ".")
        modules[name.removesuffix(".__init__")] = (path, without_type_checking(text))
    graph = {}
    for name, (path, text) in modules.items():
        found = {n if n in modules else n.rpartition(".")[0] for n in imports(text, path)}
        graph[name] = {n for n in found if n in modules and not name.startswith(f"{n}.") and n != name}
    done: set[str] = set()
    problems = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            problems.append(" -> ".join([*above[above.index(name) :], name]))
        elif name not in done:
            for following in sorted(graph[name]):
                visit(following, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    return problems


def without_type_checking(text: str) -> str:
    """The source without its `if TYPE_CHECKING:` blocks."""
    tree = ast.parse(text)
    guarded = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    tree.body = [node for node in tree.body if node not in guarded]
    return ast.unparse(tree)


def metaworld_files(root: Path) -> list[str]:
    files = [
        path
        for path, text in sources(root, *PACKAGES)
        if any(n.split(".")[0] == "metaworld" for n in imports(text, path))
    ]
    return [f"metaworld belongs into one adapter file, found {files}"] if len(files) > 1 else []


def forbidden_names(root: Path) -> list[str]:
    return [path for path, _ in sources(root, *PACKAGES) if FORBIDDEN_NAMES & set(path.removesuffix(".py").split("/"))]


def global_randomness(root: Path) -> list[str]:
    problems = []
    for path, text in sources(root, *PACKAGES, "examples", "benchmarks", "docs"):
        if path == "meta_latent/rng.py":
            continue
        problems += [f"{path}: {m.group()}" for m in GLOBAL_RANDOMNESS.finditer(text)]
        problems += [f"{path} imports random" for name in imports(text, path) if name.split(".")[0] == "random"]
    return problems


def pickles(root: Path) -> list[str]:
    problems = []
    for path, text in sources(root, *PACKAGES, "examples", "benchmarks", "docs"):
        problems += [f"{path}: {m.group()}" for m in UNPICKLING.finditer(text)]
        problems += [f"{path} imports {name}" for name in imports(text, path) if name.split(".")[0] in PICKLING]
    return problems


def undocumented(root: Path) -> list[str]:
    problems = []
    for path, text in sources(root, *PACKAGES):
        tree = ast.parse(text)
        if tree.body and not ast.get_docstring(tree):
            problems.append(path)
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                problems.append(f"{path}: {node.name}")
    return problems


def sizes(root: Path) -> list[str]:
    problems = []
    for path, text in sources(root, *PACKAGES):
        if len(text.splitlines()) > 400:
            problems.append(f"{path} has {len(text.splitlines())} lines, at most 400")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 60:
                problems.append(f"{path}: {node.name} has {node.end_lineno - node.lineno + 1} lines, at most 60")
    return problems


RULES = (
    layering, experiment_rooms, report_rooms, circles, metaworld_files, forbidden_names, global_randomness, pickles,
    undocumented, sizes,
)  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule):
    assert rule(ROOT) == []


def test_the_source_is_found():
    found = [path for path, _ in sources(ROOT, *PACKAGES)]
    assert "meta_latent/cli.py" in found and "task_suites/__init__.py" in found


GOOD = '"""Documented."""\n'
BREACHES = [
    (layering, "task_suites/a.py", "import torch"),
    (layering, "task_suites/a.py", "def f():\n    from meta_latent import files"),
    (layering, "meta_latent/models/a.py", "from meta_latent.data.replay import Replay"),
    (layering, "meta_latent/models/a.py", "from meta_latent import algorithms"),
    (layering, "meta_latent/models/a.py", "from ..policies import actor"),
    (layering, "meta_latent/nets.py", "import meta_latent.models.core"),
    (layering, "meta_latent/ops/a.py", "from meta_latent.nets import MLP"),
    (layering, "meta_latent/algorithms/sac.py", "from meta_latent.algorithms.ivg import Agent"),
    (layering, "meta_latent/algorithms/sac.py", "from .ivg import Agent"),
    (layering, "meta_latent/algorithms/sac.py", "import task_suites"),
    (layering, "meta_latent/experiment/a.py", "from meta_latent.cli import main"),
    (layering, "meta_latent/extras.py", ""),
    (experiment_rooms, "meta_latent/experiment/a.py", ""),
    (experiment_rooms, "meta_latent/experiment/runs/a.py", "from meta_latent.experiment.learning import loop"),
    (experiment_rooms, "meta_latent/experiment/report/a.py", "from meta_latent.experiment.other import b"),
    (experiment_rooms, "meta_latent/experiment/pretraining/a.py", "from meta_latent.experiment.report import page"),
    (report_rooms, "meta_latent/experiment/report/words/a.py", "from meta_latent.experiment.report.page import b"),
    (report_rooms, "meta_latent/experiment/report/words/a.py", "from meta_latent.experiment.report import build"),
    (circles, "meta_latent/data/a.py", "import meta_latent.data.b"),
    (circles, "meta_latent/data/a.py", "def f():\n    from meta_latent.data import b"),
    (layering, "meta_latent/experiment/a.py", "import meta_latent.extras"),
    (forbidden_names, "meta_latent/utils.py", ""),
    (forbidden_names, "task_suites/common/a.py", ""),
    (global_randomness, "meta_latent/a.py", "torch.manual_seed(0)"),
    (global_randomness, "meta_latent/a.py", "np.random.seed(0)"),
    (global_randomness, "meta_latent/a.py", "x = np.random.rand(3)"),
    (global_randomness, "examples/a.py", "from random import choice"),
    (pickles, "meta_latent/a.py", "import pickle"),
    (pickles, "meta_latent/a.py", "torch.load('x')"),
    (pickles, "meta_latent/a.py", "np.load('x', allow_pickle=True)"),
    (undocumented, "meta_latent/a.py", "def public():\n    pass"),
    (undocumented, "meta_latent/a.py", "class Public:\n    pass"),
    (sizes, "meta_latent/a.py", "x = 1\n" * 400),
    (sizes, "meta_latent/a.py", "def _f():\n" + "    x = 1\n" * 60),
]
ALLOWED = [
    (
        layering,
        "meta_latent/algorithms/sac.py",
        "from meta_latent import files\nfrom meta_latent.models import core",
    ),
    (layering, "meta_latent/algorithms/__init__.py", "from meta_latent.algorithms.sac import Agent"),
    (layering, "meta_latent/algorithms/sac.py", "from meta_latent.algorithms.registry import Algorithm"),
    (
        experiment_rooms,
        "meta_latent/experiment/pretraining/a.py",
        "from meta_latent.experiment.report import figures\nfrom meta_latent.experiment.settings.schema import X",
    ),
    (circles, "meta_latent/data/a.py", "from meta_latent.data import b\nfrom meta_latent import files"),
    (
        layering,
        "meta_latent/experiment/a.py",
        "import task_suites, torch\nfrom meta_latent.experiment import config",
    ),
    (layering, "meta_latent/files.py", "from meta_latent.errors import RunError"),
    (
        global_randomness,
        "meta_latent/a.py",
        "g = np.random.default_rng(0)\nt = torch.Generator().manual_seed(0)",
    ),
    (global_randomness, "meta_latent/rng.py", "torch.manual_seed(0)"),
    (undocumented, "meta_latent/a.py", "def _private():\n    pass"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_the_rule_catches_a_breach(tmp_path, rule, path, text):
    if rule is circles:
        write(tmp_path, "meta_latent/data/b.py", "from meta_latent.data import c")
        write(tmp_path, "meta_latent/data/c.py", "from meta_latent.data.a import f")
    write(tmp_path, path, text)
    assert rule(tmp_path)


@pytest.mark.parametrize(("rule", "path", "text"), ALLOWED)
def test_the_rule_allows_what_is_allowed(tmp_path, rule, path, text):
    write(tmp_path, path, text)
    assert not rule(tmp_path)


def test_metaworld_in_two_files_is_caught(tmp_path):
    for name in "ab":
        write(tmp_path, f"task_suites/{name}.py", "import metaworld")
    assert metaworld_files(tmp_path)


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(GOOD + text)


def test_a_task_runs_without_torch_or_the_learner():
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "meta_latent"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import task_suites
suite = task_suites.get("tabletop/reach")
(task,) = suite.sample("train", 1, seed=0)
env = suite.make(task)
env.reset(seed=0)
env.step(env.action_space.sample())
env.close()
print("ran")
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert child.stdout == "ran\n", child.stderr
