"""What the documents say is there: links lead somewhere, commands are taken, pages stand in the contents."""

import re
import shlex
from pathlib import Path

import pytest

import meta_latent
from meta_latent import cli
from meta_latent.experiment.settings import sweep

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
EXPERIMENTS = ("pretrain", "transfer", "demo", "config")


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
