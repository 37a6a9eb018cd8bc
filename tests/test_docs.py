"""What the documents say is there: links lead somewhere, commands are taken, code runs, pages stand in the contents;
every algorithm has a page, and what that says of settings, metrics and arms is so.
"""

import json
import re
import shlex
import sys
from functools import reduce
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import meta_latent
from meta_latent import cli
from meta_latent.algorithms import registry
from meta_latent.experiment.settings import sweep
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.structure import plain
from meta_latent.models import parts
from task_suites import registry as suites

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
EXPERIMENTS = ("pretrain", "transfer", "demo", "config")
RUN_ELSEWHERE = ("docs/python.md", "docs/offline.md")  # tests/experiment/: test_player.py, test_logged_data.py
ALGORITHM_PARTS = (
    "How it works",
    "Deviations from the paper",
    "Settings",
    "Metrics",
    "Arms and a run",
    "Result",
    "When not to use",
)


def heads(page):
    """Anchors that GitHub and MyST give a page's headings."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower().strip()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in heads(target), link


def commands():
    """Commands of the documents that name no placeholder, with where they stand."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?:    |\t)?\s*(meta-latent [^\n`]+)$", text, re.M):
            words = shlex.split(line, comments=True)[1:]
            if words and not any(re.fullmatch(r"[A-Z_/]+|.*\.\.\..*|\[.*|.*(NAME|FOLDER|TARGET|PACKAGE).*", word)
                                 for word in words):  # fmt: skip
                yield pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_are_taken(words):
    if words[0] == "sweep":
        sweep.load(words[1], [word for word in words[2:] if not word.startswith("-")])
        return
    parsed = cli._parser().parse_args(words)
    if words[0] == "demo" and "=" in parsed.name:
        meta_latent.configure("demo", *words[1:])
    elif words[0] in EXPERIMENTS and "/" not in parsed.name and "imports=" not in " ".join(words):
        given = [word for word in words[2:] if "=" in word]
        meta_latent.configure(parsed.name, *given)


def test_every_page_stands_in_the_contents():
    listed = set(re.findall(r"^(?!:|```)([\w/]+)$", (ROOT / "docs/index.md").read_text(), re.M))
    docs = ROOT / "docs"
    pages = {str(page.relative_to(docs).with_suffix("")) for page in PAGES if page.is_relative_to(docs)}
    assert listed == pages - {"index"}


def long_lines(text):
    """Lines of prose above 120 characters; tables, pictures, code, and what scripts write into a page may be longer."""
    made = r"<!-- (results|trials|sweep):(\S+) -->.*?<!-- /\1:\2 -->|<!-- peers:\S+ -->.*?<!-- end -->"
    text = re.sub(rf"^```.*?^```$|{made}", "", text, flags=re.M | re.S)
    return [line for line in text.splitlines() if len(line) > 120 and not re.match(r"\||!\[|    ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_as_wide_as_code(page):
    assert long_lines(page.read_text()) == []


def test_a_long_line_is_seen():
    long = "word " * 30
    text = f"| {long} |\n```python\n{long}\n```\n<!-- results:a -->\n{long}\n<!-- /results:a -->\n- {long}\n"
    assert long_lines(text) == [f"- {long}"]


def test_what_rewards_of_other_sizes_change_is_what_was_measured():
    page = " ".join((ROOT / "docs" / "own.md").read_text().split())
    runs = json.loads((ROOT / "docs" / "reward_sizes.json").read_text())["runs"]
    curves = {
        name: [runs[f"{name}_{times}"]["curve"] for times in ("0.01", "1", "100")] for name in ("ivg", "cem", "sac")
    }
    first = {name: [next((steps for steps, score, _ in curve if score >= 0.85), None) for curve in found]
             for name, found in curves.items()}  # fmt: skip
    assert "IVG first had 0.85 after {}, {} and {} steps".format(*first["ivg"]) in page
    assert "the planner after {}, {} and {} (one run each".format(*first["cem"]) in page
    assert "had {:.2f}, {:.2f} and {:.2f} after 600".format(*(curve[-1][1] for curve in curves["sac"])) in page


# Code


def blocks(page):
    """The page's code in Python, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)


def files(page):
    """The blocks that are to be saved: name -> content."""
    return dict(re.findall(r"^Save it as `(\w+\.py)`[^\n]*:\n\n```python\n(.*?)^```$", page.read_text(), re.M | re.S))


WITH_CODE = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_runs(page, tmp_path, monkeypatch):
    if str(page.relative_to(ROOT)) in RUN_ELSEWHERE:
        for code in blocks(page):
            compile(code, str(page), "exec")
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for place in (registry, suites):
        monkeypatch.setattr(place, "_ENTRIES", dict(place._ENTRIES))
    monkeypatch.setattr(parts, "_OTHERS", dict(parts._OTHERS))
    saved = files(page)
    for name, code in saved.items():
        Path(name).write_text(code)
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    before, known, scope = suites.names(), dict(gymnasium.registry), {"__name__": "page"}
    try:
        for code in (code for code in blocks(page) if code not in saved.values()):
            exec(compile(code, str(page), "exec"), scope)
        for name in set(suites.names()) - set(before):  # which calls every function of the suite once
            suites.get(name)
    finally:
        for name in saved:
            sys.modules.pop(name.removesuffix(".py"), None)
        gymnasium.registry.clear()
        gymnasium.registry.update(known)


def test_code_is_found():
    found = {str(page.relative_to(ROOT)) for page in WITH_CODE}
    assert found >= {
        "docs/python.md",
        "docs/own.md",
        "docs/own_algorithm.md",
        "docs/tasks.md",
        "docs/suites/own.md",
        "docs/suites/pictures.md",
    }
    for page in PAGES:  # a fence of another spelling would not be found
        assert page.read_text().count("```python") == len(blocks(page)), page


@pytest.mark.parametrize("of", [np.array, torch.tensor])
def test_a_pendulum_that_went_round_is_where_it_was(of):
    scope = {"np": np}
    exec(re.search(r"^def away.*?(?=^task_suites\.)", (ROOT / "docs" / "own.md").read_text(), re.M | re.S)[0], scope)
    paid = [float(scope["hold"](of([0.5 + turns * 2 * np.pi, 0.0]), of([0.0]), 0.6)) for turns in (0, 1, -3)]
    assert paid == pytest.approx([-0.1] * 3, abs=1e-4)


# Pages of algorithms


def algorithms_of(page):
    """Names of the algorithms that the page says it is about, right below its title."""
    found = re.match(r"# .*\n\nAlgorithms?: ((?:`\w+`(?:, )?)+)\.", page.read_text())
    return re.findall(r"`(\w+)`", found[1]) if found else []


ALGORITHM_PAGES = [page for page in PAGES if algorithms_of(page)]


def test_every_algorithm_has_one_page_in_the_contents():
    own = sorted(name for name, entry in registry._ENTRIES.items() if str(entry).startswith("meta_latent."))
    assert own == sorted(name for page in ALGORITHM_PAGES for name in algorithms_of(page))
    contents = (ROOT / "docs/index.md").read_text().partition(":caption: Algorithms")[2].partition("```")[0].split()
    assert sorted(contents) == sorted(str(page.relative_to(ROOT / "docs").with_suffix("")) for page in ALGORITHM_PAGES)


def section(text, title):
    """What stands below a heading, up to the next of its level."""
    return text.partition(f"\n## {title}")[2].partition("\n## ")[0]


def wrong_defaults(text, name):
    """Rows | `setting` | `default` | of the section Settings that are not as the code has them; how many there are."""
    defaults, wrong = plain(registry.get(name).config()), []
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", section(text, "Settings"), re.M)
    for key, said in rows:
        found = reduce(lambda value, part: (value or {}).get(part), key.split("."), defaults)
        if found is None or json.loads(said) != json.loads(json.dumps(found)):
            wrong.append((key, said, found))
    return wrong, len(rows)


def wrong_keys(text):
    """Rows | ... | `key` | `default` | whose key does not exist or has another default; how many there are."""
    schema, wrong = plain(ExperimentConfig()), []
    schema["algorithms"] = {name: plain(registry.get(name).config()) for name in ("ivg",)}
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| `([^`]+)` \|$", text, re.M)
    for key, said in rows:
        found = schema
        for part in key.split("."):
            found = found.get(part, "no such key") if isinstance(found, dict) else "no such key"
        if found == "no such key" or json.loads(said) != json.loads(json.dumps(found)):
            wrong.append((key, said, found))
    return wrong, len(rows)


def test_the_settings_that_are_touched_most_exist_with_their_defaults():
    assert wrong_keys(section((ROOT / "docs/tuning.md").read_text(), "What you will turn")) == ([], 20)


def test_a_wrong_key_is_seen():
    text = "| a | `transfer.sedes` | `[0]` |\n| b | `transfer.seeds` | `[0]` |\n| c | `seed` | `0` |\n"
    wrong, rows = wrong_keys(text)
    assert [key for key, *_ in wrong] == ["transfer.sedes", "transfer.seeds"] and rows == 3


SHORT = [page for page in ALGORITHM_PAGES if page.parent.name == "algorithms"]


@pytest.mark.parametrize("page", ALGORITHM_PAGES, ids=lambda page: page.stem)
def test_defaults_on_the_page_of_an_algorithm_are_those_of_the_code(page):
    for name in algorithms_of(page):
        wrong, rows = wrong_defaults(page.read_text(), name)
        assert not wrong
        assert rows >= 5 or page.stem == "mb_mpo"  # which says how to choose them


def test_a_wrong_default_is_seen():
    text = "\n## Settings\n\n| `discount` | `0.93` | |\n| `steps` | `4` | |\n| `no` | `1` | |\n\n## Metrics\n"
    assert wrong_defaults(text, "sac") == ([("steps", "4", 3), ("no", "1", None)], 3)


@pytest.mark.parametrize("page", SHORT, ids=lambda page: page.stem)
def test_a_page_of_an_algorithm_is_whole(page):
    text = page.read_text()
    assert [title for title in ALGORITHM_PARTS if f"\n## {title}" not in text.replace("the papers", "the paper")] == []
    said = set(re.findall(r"^\| `(\w+)` \|", section(text, "Metrics"), re.M))
    for name in algorithms_of(page):
        entry = registry.get(name)
        assert said and said <= entry.metrics.keys() | entry.inspects.keys()
        for start in entry.starts:
            assert f"`{name}/{start}`" in text
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", section(text, "Result")):
        assert (page.parent / picture).is_file()
        break
    else:
        raise AssertionError("no figure of a run")


def test_every_family_of_tasks_has_a_page():
    families = {name.partition("/")[0] for name in suites.names() if "own" not in suites.tags(name)}
    text = (ROOT / "docs/tasks.md").read_text()
    assert families and all(f"](suites/{family}.md)" in text for family in families)
    for family in families:
        page = (ROOT / f"docs/suites/{family}.md").read_text()
        tails = [name.partition("/")[2] for name in suites.names() if name.startswith(f"{family}/")]
        assert all(tail in page or tail.endswith("_run") for tail in tails)
