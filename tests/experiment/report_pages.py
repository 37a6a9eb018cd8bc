"""A large run whose report is looked at as a page, and what its HTML says."""

import html
import re
from html.parser import HTMLParser

import yaml
from fabricated_runs import new_facts, ramp, write_cell, write_pretraining

from meta_latent.experiment.report.build import build

ARMS = ("ivg/pretrained", "ivg/scratch", "sac/scratch", "meld/scratch", "rl2/scratch")
LARGEST_PAGE = 3_000_000


def solved(steps, score):
    return {"success": min(1.0, steps / 1000), "raw_return": 100 * score - 10}


def keep_settings(folder, suite="toy/lqr", **algorithm):
    """config.yaml of a cell in ``folder``."""
    name = folder.parts[-3]
    task = {"suite": suite, "split": "test", "index": 0, "options": {"image_size": 16}, "tasks": 1, "test_tasks": 0,
            "distractors": [], "data": ""}  # fmt: skip
    settings = {"name": "x", "suite": {}, "task": task, "algorithms": {name: algorithm}, "device": "cpu"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


def large(root):
    """Five arms on two targets, three seeds, two thresholds: the pages of the largest presets."""
    write_pretraining(root, held_out={"open_loop_r2": 0.7, "positions_1_minus_r2": 0.1, "mine": 3.0})
    for target in ("near", "far"):
        for k, arm in enumerate(ARMS):
            for seed in range(3):
                rows = ramp(250 + 250 * k, 0.02, seed, stop=False)
                rows[1] = (rows[1][0], -73.0)
                facts = {"thresholds": [0.5, 0.8], "evaluation_episodes": 14, "started": "2024-05-01T10:00:00+00:00",
                         "machine": {"system": "fabricated-os", "cores": "2 cores"},
                         "metrics": {"loss": "a made-up loss"},
                         "compared_with": "ivg/scratch" if k == 0 else None}  # fmt: skip
                folder = write_cell(root, target, arm, seed, rows, facts=new_facts, evaluation=solved, **facts)
                keep_settings(folder, horizon=5 + k)
    return root, build(root, resamples=50)


class Elements(HTMLParser):
    """Every element of a page with its attributes and the elements around it."""

    VOID = {"meta", "img", "br", "link", "input", "hr", "wbr"}

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), tuple(self.open)))
        if tag not in self.VOID:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        self.open.pop()


def page_of(root):
    return (root / "report.html").read_text()


def words(page):
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
