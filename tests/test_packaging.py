"""What is installed: every package and every data file, the configs above all."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = (".yaml", ".json", ".xml", ".html", ".txt")


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(setup, section, option):
    return setup[section][option].split("\n")[1:]


def test_every_package_is_listed(setup):
    folders = [path.parent for package in ("meta_latent", "task_suites") for path in (ROOT / package).rglob("*.py")]
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(lines(setup, "options", "packages")) == names | {"meta_latent.configs"}


def test_constraints_fit_the_requirements(setup):
    from packaging.requirements import Requirement

    pinned = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    versions = {normal(p.name): next(iter(p.specifier)).version for p in pinned}
    extras = [line for option in setup["options.extras_require"] for line in requirement_lines(setup, option)]
    for line in [*lines(setup, "options", "install_requires"), *extras]:
        required = Requirement(line)
        assert required.specifier.contains(versions[normal(required.name)]), line


def test_the_lowest_versions_that_are_tested_are_those_that_are_admitted(setup):
    from packaging.requirements import Requirement
    from packaging.version import Version

    tested = {"test", "baselines"}
    admitted = [Requirement(line) for extra in tested for line in requirement_lines(setup, extra)]
    admitted += [Requirement(line) for line in lines(setup, "options", "install_requires")]
    floors = {
        normal(r.name): Version(next(s.version for s in r.specifier if s.operator in (">=", "=="))) for r in admitted
    }
    text = (ROOT / "constraints-floors.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in text if line[0] != "#"]
    assert {normal(p.name): Version(next(iter(p.specifier)).version) for p in pinned} == floors


def requirement_lines(setup, extra):
    return [line for line in setup["options.extras_require"][extra].split("\n") if line]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_version_is_the_same_everywhere(setup):
    import meta_latent

    assert setup["metadata"]["version"] == meta_latent.__version__
    assert f"## {meta_latent.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left in the source folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("meta_latent", "task_suites", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    subprocess.run([*pip, "wheel", *options, str(source)], check=True, capture_output=True)
    return next(target.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_source_and_data_file(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    paths = [path for name in ("meta_latent", "task_suites") for path in (ROOT / name).rglob("*")]
    expected = {path.relative_to(ROOT).as_posix() for path in paths if path.suffix in (".py", *DATA)}
    configs = {f"meta_latent/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs and held == expected | configs


@pytest.mark.slow
def test_an_installed_copy_finds_its_configs(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = (
        "import meta_latent; from meta_latent.experiment.settings import config;"
        "print(meta_latent.__file__);"
        "print(*[config.find('experiment', name) for name in config.choices('experiment')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    where, found = child.stdout.split("\n")[:2]
    assert where.startswith(str(tmp_path))
    assert found and all(path.startswith(str(tmp_path / "installed/meta_latent/configs")) for path in found.split())


def asked(folder, *words):
    """What make would run in a folder of its own, with no environment there. A make that runs this test hands its own
    settings on.
    """
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    argv = ["make", "-n", *words, "VENV=environment"]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True, env=alone).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("there", [True, False])
def test_lint_installs_nothing_where_there_is_ruff(tmp_path, there):
    """Be it older than the files it was installed by, as in a worktree with another one's environment."""
    ruff = tmp_path / "environment" / "bin" / "ruff"
    ruff.parent.mkdir(parents=True)
    if there:
        ruff.touch()
        os.utime(ruff, (0, 0))
    said = asked(tmp_path, "lint")
    assert "ruff check" in said and ("pip" not in said) == there


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_all_tests_are_those_of_every_extra(tmp_path, setup):
    said = asked(tmp_path, "test-all")
    chosen = " ".join(re.findall(r'-m "(.*?)"', said))
    for extra in set(setup["options.extras_require"]) - {"docs", "test"}:
        assert f'".[test,{extra}]"' in said and re.search(rf"(?<!not ){extra}\b", chosen), extra
