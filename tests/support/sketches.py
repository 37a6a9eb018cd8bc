"""Figures are built and not rendered, which takes most of the time of a report."""

import contextlib
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


@contextlib.contextmanager
def empty_figures():
    """Figures are neither laid out nor rendered in here, and saved empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "draw_without_rendering", lambda figure: None)
        patch.setattr(Figure, "savefig", lambda figure, file, format="png", **_: file.write(EMPTY[format]))
        yield


@pytest.fixture(autouse=True)
def sketched(request):
    """No test renders figures but those marked `drawn`."""
    with contextlib.nullcontext() if request.node.get_closest_marker("drawn") else empty_figures():
        yield
