"""How a page of a report looks: its signs, figures, contrast, width and size."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from fabricated_runs import ramp, write_cell, write_pretraining
from PIL import Image
from report_pages import LARGEST_PAGE, Elements, keep_settings, large, page_of, words

from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.figures import drawing, media
from meta_latent.experiment.report.words import text


def test_a_page_has_one_minus_sign(tmp_path):
    for arm in ("ivg/pretrained", "ivg/scratch"):
        pays = "the goal at x +0.38 m, y -0.70 m"
        keep_settings(write_cell(tmp_path, "t", arm, 0, [(100, -3.0), (200, -2.5)], thresholds=[-1.5], pays=pays))
    assert "threshold -1.5" in str(build(tmp_path, resamples=50)["warnings"])
    said = words(page_of(tmp_path))
    assert "y −0.70 m" in said and "threshold −1.5" in said and not re.search(r"(?<![\w.)\-])-\.?\d", said)


def test_a_ratio_of_areas_below_the_floor_has_that_sign_too(tmp_path):
    write_cell(tmp_path, "t", "ivg/pretrained", 0, [(100, -0.3), (900, -0.3)])
    write_cell(tmp_path, "t", "ivg/scratch", 0, ramp(900, stop=False))
    ratio = build(tmp_path, resamples=50)["targets"]["t"]["arms"]["ivg/pretrained"]["area_ratio"]["ivg/scratch"]
    assert f"{ratio:.2f}×".replace("-", "−") in words(page_of(tmp_path)) and ratio < 0
    assert text.times(-0.001) == "0.00×" == text.times(0.0) and text.times(-12.3, True) == "> −12.30×"


def test_many_arms_are_small_multiples(many):
    labels = re.findall(r'aria-label="(Score on near against environment steps[^"]*)"', page_of(many[0]))
    assert labels == [f"Score on near against environment steps: {arm}" for arm in many[1]["targets"]["near"]["arms"]]


def test_nothing_is_wider_than_a_phone_but_what_scrolls_by_itself(many):
    """Tables, pictures and drawings wider than the page lie in boxes that scroll, and that can be reached by keys."""
    for tag, attributes, around in Elements(page_of(many[0])).found:
        if tag == "table":
            box = next(a for t, a in around if a.get("class") == "scroll")
            assert box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"]
        assert tag != "img" or attributes.get("alt")
    assert ".hint { display: block" in page_of(many[0])


def test_every_picture_has_words(many):
    found = Elements(page_of(many[0])).found
    drawings = [around for tag, _, around in found if tag == "svg"]
    assert len(drawings) > 10
    assert all(any(a.get("role") == "img" and a.get("aria-label") for _, a in around) for around in drawings)
    assert all(a.get("alt") for tag, a, _ in found if tag == "img")
    assert all(a.get("aria-label") for tag, a, _ in found if tag == "video")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one, other):
    """Of WCAG 2: 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_told_from_its_ground_and_lines_from_theirs(many, scheme):
    """AA: 4.5 for text, 3 for what is drawn."""
    blocks = re.findall(r":root \{([^}]*)\}", page_of(many[0]))
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    for ground in ("paper", "raised"):
        for ink in ("ink", "muted", "warn", "link"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    arms = [name for name in colours if name.startswith("arm-")]
    assert len(arms) == len(drawing.STYLES)
    assert all(contrast(colours[name], colours["paper"]) >= 3 for name in arms)


@pytest.mark.slow
@pytest.mark.drawn
def test_pages_are_light_enough_to_mail(tmp_path):
    page = page_of(large(tmp_path)[0])
    assert "<svg></svg>" not in page and len(page.encode()) < LARGEST_PAGE


def test_pictures_that_would_make_a_page_heavy_are_linked(tmp_path):
    folder = write_pretraining(tmp_path)
    (folder / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    for k in range(3):
        Image.fromarray(noise).save(folder / "images" / f"strip_{k}.png")
    write_cell(tmp_path, "t", "a/scratch", 0, ramp(300))
    build(tmp_path, resamples=50)
    sources = re.findall(r'<img src="([^"]{9})', page_of(tmp_path))
    size = (folder / "images" / "strip_0.png").stat().st_size
    embedded = [s for s in sources if s.startswith("data:")]
    assert len(sources) == 3 and len(embedded) == (media.LARGEST_STRIPS - 1) // size


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium, to lay the page out")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.drawn
def test_the_page_does_not_scroll_sideways(tmp_path, width):
    """Laid out by a browser inside a frame of that width, offline."""
    inner = html.escape(page_of(large(tmp_path / "many")[0]))
    frame = f'<iframe id="f" style="border:0;width:{width}px;height:800px" srcdoc="{inner}"></iframe>'
    script = """<script>onload = () => {
      const root = document.getElementById("f").contentDocument.documentElement;
      const widest = Math.max(...[...root.querySelectorAll("table")].map(table => table.scrollWidth));
      document.title = JSON.stringify({page: root.scrollWidth, table: widest}); }</script>"""
    (tmp_path / "frame.html").write_text(f"<!doctype html><title>none</title>{script}{frame}")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{tmp_path}/frame.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1]))
    assert found["page"] <= width
    assert width > 390 or found["table"] > width  # the table does not fit: it is its box that scrolls
