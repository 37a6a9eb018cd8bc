"""docs/make_screenshots.py: pictures of the size that was asked for, in both colour schemes."""

from pathlib import Path

import docs_scripts
import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def script():
    return docs_scripts.load("make_screenshots")


def test_the_committed_pictures_are_those_that_the_script_takes_and_the_page_shows(script):
    text = (DOCS / "report.md").read_text()
    for name, _, width, height, dark in script.SHOTS:
        picture = Image.open(DOCS / "report" / f"{name}.png")
        assert picture.size == (width, height) and f"report/{name}.png" in text
        assert (np.asarray(picture.convert("L")).mean() < 128) == dark


@pytest.mark.slow
def test_a_page_is_shot_in_light_and_dark(script, tmp_path):
    try:
        script.browser()
    except SystemExit:
        pytest.skip("needs chromium")
    page = tmp_path / "page.html"
    page.write_text("<style>:root { color-scheme: light dark } body { color: red }</style>x")
    ground = {}
    for dark in (False, True):
        picture = Image.open(script.shoot(page, tmp_path / f"{dark}.png", 390, 500, dark))
        assert picture.size == (390, 500)
        ground[dark] = np.asarray(picture.convert("L"))[-1, -1]
    assert ground[False] == 255 and ground[True] < 64
