"""Figures are built and not rendered, which takes most of the time of a report."""

import io

import pytest
from matplotlib.figure import Figure
from PIL import Image


def _pixel() -> bytes:
    """A PNG of one pixel."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


EMPTY = {"png": _pixel(), "svg": "<svg></svg>"}
"""What stands for a figure, by format."""


@pytest.fixture(autouse=True)
def sketched(request, monkeypatch):
    """Figures are neither laid out nor rendered, and saved empty, but for those of tests marked `drawn`."""
    if request.node.get_closest_marker("drawn") is None:
        monkeypatch.setattr(Figure, "draw_without_rendering", lambda figure: None)
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, format="png", **_: file.write(EMPTY[format]))
