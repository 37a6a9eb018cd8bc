import math
import re

import matplotlib
import numpy as np
import pytest
from PIL import Image

from meta_latent.experiment.report import figures
from meta_latent.experiment.settings.schema import ARMS
from meta_latent.ops import learning_speed as ls


def curve(scores, every=100):
    steps = every * np.arange(len(scores))
    return ls.Curve(steps, steps, steps * 0.1, np.array(scores, dtype=float))


def arms():
    fast = tuple(curve([0, 0.9, 0.9]) for _ in range(3))
    return [
        figures.ArmCurves("ivg/pretrained", 0, fast),
        figures.ArmCurves("ivg/scratch $x$ <b>", 1, (curve([0] * 6),)),
    ]


def rng():
    return np.random.default_rng(0)


def test_learning_curves_draw_every_seed_and_mark_crossings():
    axes = figures.learning_curves(arms(), 0.8, "env_steps", rng()).axes[0]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.8]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(thin) == 4 and [tuple(dot.get_xdata()) for dot in dots] == [(100,)] * 3
    assert axes.get_legend_handles_labels()[1] == ["ivg/pretrained", "ivg/scratch $x$ <b>", "threshold 0.8"]


def test_central_line_keeps_solved_runs_at_the_threshold_and_ends_where_an_unsolved_run_ends():
    solved, full, cut = curve([0, 1, 1]), curve([0, 0.2, 0.4, 0.6]), curve([0, 0])
    grid, line, low, high = figures.central_line([solved, full, full], 0.8, "env_steps", rng())
    np.testing.assert_array_equal(grid, [0, 100, 200, 300])
    np.testing.assert_allclose(line, [0, (1 + 0.2 * 2) / 3, (1 + 0.4 * 2) / 3, (0.8 + 0.6 * 2) / 3])
    assert (low <= line).all() and (line <= high).all() and high[1] > low[1]
    grid, *_ = figures.central_line([solved, cut, full], 0.8, "env_steps", rng())
    np.testing.assert_array_equal(grid, [0, 100])
    _, _, low, _ = figures.central_line([solved, full], 0.8, "env_steps", rng())
    assert np.isnan(low).all()  # two runs make no interval


def test_inline_svg_is_themed_and_refers_to_nothing_outside():
    svg = figures.inline_svg(figures.learning_curves(arms(), 0.8, "seconds", rng()), "fig")
    assert svg.startswith("<svg") and "http" not in svg and "<metadata" not in svg
    assert "var(--arm-0)" in svg and "var(--ink)" in svg and not any(c in svg for c in figures.THEME)
    assert "<b>" not in svg
    ids = set(re.findall(r'id="([^"]+)"', svg))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    assert used and used <= ids and all(i.startswith("fig-") for i in ids)


def test_figures_leave_matplotlibs_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    figures.save_png(figures.learning_curves(arms(), None, "env_steps", rng()), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    assert Image.open(tmp_path / "a.png").size[0] > 500


def test_censored_times_are_open_arrows():
    rows = [
        figures.TimeRow("fast", 0, (100, 200, 300), (), (200, 200), (100, 300)),
        figures.TimeRow("slow", 1, (900,), (1000, 1000), (1000, math.inf), (900, math.inf)),
    ]
    axes = figures.times_to_threshold(rows).axes[0]
    drawn = {
        (line.get_marker(), line.get_fillstyle(), tuple(np.ravel(line.get_xdata()))) for line in axes.lines
    }
    assert (
        ("D", "full", (200,)) in drawn
        and (">", "none", (1000, 1000)) in drawn
        and (">", "none", (1000,)) in drawn
    )
    assert not any(marker == "D" and x == (1000,) for marker, _, x in drawn)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["fast", "slow"]


def test_gain_marks_lower_bounds_and_missing_claims():
    points = [
        figures.GainPoint(1000, "a", ls.Ratio(2.0, False, (1.5, 3.0))),
        figures.GainPoint(5000, "a", ls.Ratio(4.0, True, (3.0, math.inf))),
        figures.GainPoint(1000, "b", ls.Ratio(None)),
    ]
    axes = figures.gain_against_pretraining(points).axes[0]
    marks = [(line.get_marker(), tuple(np.ravel(line.get_xdata()))) for line in axes.lines]
    assert ("o", (1000,)) in marks and ("^", (5000,)) in marks and ("x", (1000,)) in marks
    assert axes.get_yscale() == "log"


def test_styles_are_distinct_and_follow_the_start():
    arms = [f"{algorithm}/{start}" for algorithm, starts in ARMS.items() for start in starts]
    styles = figures.assign_styles(arms)
    assert styles["ivg/pretrained"] == 0 and styles["ivg/scratch"] == 1
    assert len(set(styles.values())) == len(arms)
    assert len({colour for colour, _, _ in figures.STYLES}) == len(figures.STYLES)


def test_strips_repeat_pixels_and_put_real_above_imagined(tmp_path):
    real, imagined = np.zeros((4, 16, 16, 3), np.uint8), np.zeros((4, 16, 16, 3), np.uint8)
    real[..., 0], imagined[..., 2] = 200, 150
    path = figures.strips(tmp_path / "deep" / "s.png", real, imagined, first_step=5)
    image = np.asarray(Image.open(path))
    red = (image == (200, 0, 0)).all(axis=-1)
    blue = (image == (0, 0, 150)).all(axis=-1)
    assert red.sum() == blue.sum() == 4 * 96 * 96
    assert np.where(red)[0].max() < np.where(blue)[0].min()
    with pytest.raises(ValueError, match="one shape"):
        figures.strips(path, real, imagined[:2])
