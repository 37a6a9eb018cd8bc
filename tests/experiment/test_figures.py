import math
import re
import tracemalloc

import matplotlib
import numpy as np
import pytest
from PIL import Image

from meta_latent.experiment.report.figures import curve_figures, drawing, time_figures
from meta_latent.ops import learning_speed as ls
from meta_latent.ops.learning_curve import Curve

pytestmark = pytest.mark.drawn


def curve(scores, every=100):
    steps = every * np.arange(len(scores))
    return Curve(steps, steps + 1, steps * 0.1, np.array(scores, dtype=float))


def arms():
    fast = tuple(curve([0, 0.9, 0.9]) for _ in range(3))
    return [
        curve_figures.ArmCurves("ivg/pretrained", 0, fast),
        curve_figures.ArmCurves("ivg/scratch $x$ <b>", 1, (curve([0] * 6),)),
    ]


def frame(ylabel="score", unit="env_steps"):
    return curve_figures.frame_of(arms(), unit, ylabel)


def rng():
    return np.random.default_rng(0)


def test_learning_curves_draw_every_seed_and_mark_crossings():
    axes = curve_figures.learning_curves(arms(), (0.8,), frame(), rng()).axes[0]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.8]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(thin) == 4 and [tuple(dot.get_xdata()) for dot in dots] == [(100,)] * 3
    assert axes.get_legend_handles_labels()[1] == ["ivg/pretrained", "ivg/scratch $x$ <b>", "threshold 0.8"]


def test_axes_show_where_learning_led_not_the_pit_it_began_in():
    pit = [curve_figures.ArmCurves("a", 0, (curve([-73, -2, 0.2, 0.5, 0.8, 0.9]),))]
    axes = curve_figures.learning_curves(pit, (0.8,), curve_figures.frame_of(pit, "env_steps", "score"), rng()).axes[0]
    assert -0.6 < axes.get_ylim()[0] <= -0.5 and axes.get_title("right") == "▼ down to −73, cut off"
    raw = curve_figures.frame_of(pit, "env_steps", "raw score", normalised=False)
    assert raw.limits[0] < -73  # of raw returns no zero is known
    stuck = [curve_figures.ArmCurves("a", 0, (curve([-73, -60, -50, -40, -30, -20]),))]
    assert -30 < curve_figures.frame_of(stuck, "env_steps", "score").limits[0] < -20


def test_arms_of_very_different_length_share_a_logarithmic_axis():
    long = Curve(env_steps=[100, 9000], updates=[1, 2], seconds=[1, 2], scores=[0, 1])
    short = Curve(env_steps=[100, 1000], updates=[1, 2], seconds=[1, 2], scores=[0, 1])
    arms = [curve_figures.ArmCurves("a", 0, (long,)), curve_figures.ArmCurves("b", 1, (short,))]
    found = curve_figures.frame_of(arms, "env_steps", "score")
    assert curve_figures.panel(arms[0], arms[1:], (0.5,), found, rng()).axes[0].get_xscale() == "log"
    assert curve_figures.frame_of(arms, "seconds", "score").left == 0


def test_every_threshold_is_drawn_and_its_crossing_marked():
    axes = curve_figures.learning_curves(arms(), (0.5, 0.95), frame("raw score"), rng()).axes[0]
    dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == [0.5, 0.95] and axes.get_ylabel() == "raw score"
    assert axes.get_legend_handles_labels()[1][-1] == "threshold 0.5, 0.95"
    axes = curve_figures.learning_curves(arms(), (), frame(), rng()).axes[0]
    assert not any(line.get_linestyle() == ":" for line in axes.lines)


def stopping(scores, stopped_at=0.5):
    found = curve(scores)
    return Curve(found.env_steps, found.updates, found.seconds, found.scores, stopped_at=stopped_at)


def test_the_central_line_is_carried_on_where_runs_had_stopped_and_says_so():
    solved, full = stopping([0, 1, 0.6]), curve([0, 0.8, 0.9, 0.95])
    line = curve_figures.central_line([solved, full, full], "env_steps", rng())
    np.testing.assert_array_equal(line.grid, [0, 100, 200, 300])
    np.testing.assert_array_equal(line.measured, [True, True, True, False])
    # The level that the run held twice, and no more, stands for what it would have done.
    np.testing.assert_allclose(line.middle, [0, (1 + 0.8 * 2) / 3, (0.6 + 0.9 * 2) / 3, (0.6 + 0.95 * 2) / 3])
    assert (line.low <= line.middle).all() and (line.middle <= line.high).all() and line.high[1] > line.low[1]
    assert np.isnan(
        curve_figures.central_line([solved, full], "env_steps", rng()).low
    ).all()  # two runs make no interval


def test_the_central_line_ends_with_the_first_run_that_did_not_stop_at_a_threshold():
    short, full = curve([0, 0.8]), curve([0, 0.8, 0.9, 0.95])
    line = curve_figures.central_line([short, full, full], "env_steps", rng())
    np.testing.assert_array_equal(line.grid, [0, 100])
    assert line.measured.all()
    every = curve_figures.central_line([stopping([0, 1, 1]), stopping([0, 0, 0, 1, 1])], "env_steps", rng())
    np.testing.assert_array_equal(every.grid, [0, 100, 200, 300, 400])
    np.testing.assert_allclose(every.middle, [0, 0.5, 0.5, 1, 1])


def test_the_band_of_many_runs_is_not_resampled_all_at_once():
    runs, points = 200, 100
    many = [curve(row) for row in rng().random((runs, points))]
    tracemalloc.start()
    try:
        curve_figures.central_line(many, "env_steps", rng())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500 * runs * points * 8 / 5  # bytes of every resample at every point


def test_thin_lines_of_many_runs_keep_their_peaks_and_not_their_points(monkeypatch):
    scores = rng().random(1000)
    seen = curve_figures.thinned(scores, 40)
    assert seen[0] == 0 and seen[-1] == 999 and len(seen) <= 42 and (np.diff(seen) > 0).all()
    for stretch in np.split(np.arange(1000), 20):
        assert {scores[stretch].min(), scores[stretch].max()} <= set(scores[seen])
    np.testing.assert_array_equal(curve_figures.thinned(scores[:40], 40), np.arange(40))
    many = (curve_figures.ArmCurves("a", 0, (curve(scores),) * 4),)
    for most, drawn in ((4000, 4000), (400, 408)):
        monkeypatch.setattr(curve_figures, "MOST_POINTS", most)
        axes = curve_figures.learning_curves(many, (), frame(), rng()).axes[0]
        assert 0.9 * drawn < sum(len(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 0.8) <= drawn


def test_what_was_not_measured_is_dashed_and_has_no_band():
    fast = curve_figures.ArmCurves("a", 0, (stopping([0, 1, 1]), *[stopping([0, 0.2, 0.4, 0.8, 0.9])] * 2))
    axes = curve_figures.learning_curves((fast,), (0.5,), frame(), rng()).axes[0]
    bold, dashed = (next(line for line in axes.lines if line.get_linewidth() == width) for width in (2.2, 1.3))
    assert tuple(bold.get_xdata()) == (0, 100, 200) and tuple(dashed.get_xdata()) == (200, 300, 400)
    assert bold.get_linestyle() == "-" and dashed.get_linestyle() == "--" and dashed.get_label().startswith("_")
    assert max(x for path in axes.collections[0].get_paths() for x, _ in path.vertices) == 200
    whole = curve_figures.ArmCurves("a", 0, (curve([0, 1, 1]),) * 3)
    axes = curve_figures.learning_curves((whole,), (0.5,), frame(), rng()).axes[0]
    assert not any(line.get_linewidth() == 1.3 for line in axes.lines)


def test_scores_by_number_are_one_line_per_run_and_a_bold_one():
    rows = np.array([[0.0, 0.5, 1.0], [0.2, 0.7, 1.0]])
    axes = curve_figures.by_number([curve_figures.ArmValues("a/scratch", 1, rows)], "episode", "score", rng()).axes[0]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(1, 2, 3)] * 3
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), [0.1, 0.6, 1.0])
    axes = curve_figures.by_number([curve_figures.ArmValues("a", 1, rows)], "task", "score", rng(), joined=False).axes[
        0
    ]
    assert [line.get_linestyle() for line in axes.lines] == ["None"]


def test_a_training_metric_leaves_gaps_and_its_bold_line_ends_with_the_first_run():
    values = np.array([[1.0, np.nan, 3.0, 4.0], [3.0, 5.0, 7.0, np.nan]])
    axes = curve_figures.training_metric([curve_figures.ArmMetric(0, np.arange(4.0), values)], "updates").axes[0]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(0, 2, 3), (0, 1, 2), (0, 2)]
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), [2, 5])
    assert axes.get_xlabel() == "updates"


def test_inline_svg_is_themed_and_refers_to_nothing_outside():
    svg = drawing.inline_svg(curve_figures.learning_curves(arms(), (0.8,), frame(unit="seconds"), rng()), "fig")
    assert svg.startswith("<svg") and "http" not in svg and "<metadata" not in svg
    assert "var(--arm-0)" in svg and "var(--ink)" in svg and not any(c in svg for c in drawing.THEME)
    assert "<b>" not in svg
    ids = set(re.findall(r'id="([^"]+)"', svg))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    assert used and used <= ids and all(i.startswith("fig-") for i in ids)


def test_figures_leave_matplotlibs_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    drawing.save_png(curve_figures.learning_curves(arms(), (), frame(), rng()), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    assert Image.open(tmp_path / "a.png").size[0] > 500


def test_censored_times_are_open_arrows():
    rows = [
        time_figures.TimeRow("fast", 0, (100, 200, 300), (), (200, 200), (100, 300)),
        time_figures.TimeRow("slow", 1, (900,), (1000, 1000), (1000, math.inf), (900, math.inf)),
    ]
    axes = time_figures.times_to_threshold(rows).axes[0]
    drawn = {(line.get_marker(), line.get_fillstyle(), tuple(np.ravel(line.get_xdata()))) for line in axes.lines}
    assert ("D", "full", (200,)) in drawn and (">", "none", (1000, 1000)) in drawn and (">", "none", (1000,)) in drawn
    assert not any(marker == "D" and x == (1000,) for marker, _, x in drawn)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["fast", "slow"]
    row = time_figures.TimeRow("one", 0, (100,), (), (100, 100), None, unfinished=(70,))
    one = time_figures.times_to_threshold([row], "updates").axes[0]
    assert [line.get_marker() for line in one.lines] == ["o", ">", "<", "x", "D"]  # no bar without an interval
    assert one.get_xlabel() == "updates to threshold"


def test_what_random_actions_earn_is_a_line_of_its_own():
    told = curve_figures.frame_of(arms(), "env_steps", "raw score", normalised=False, random=-7.0)
    axes = curve_figures.learning_curves(arms(), (), told, rng()).axes[0]
    assert [text.get_text() for text in axes.texts] == ["random actions"] and axes.get_ylim()[0] < -7
    assert any(set(np.ravel(line.get_ydata())) == {-7.0} for line in axes.lines)
    assert not curve_figures.learning_curves(arms(), (), frame(), rng()).axes[0].texts


def test_runs_there_at_their_first_evaluation_point_back():
    row = time_figures.TimeRow("one", 0, (300,), (), (0, 240), (0, 300), at_first=(240, 240))
    axes = time_figures.times_to_threshold([row]).axes[0]
    drawn = {(line.get_marker(), tuple(np.ravel(line.get_xdata()))) for line in axes.lines}
    assert {("<", (240, 240)), ("<", (240,)), ("o", (300,))} <= drawn and "D" not in dict(drawn)


def test_gain_marks_lower_bounds_and_missing_claims():
    points = [
        time_figures.GainPoint(1000, "a", ls.Ratio(2.0, False, (1.5, 3.0))),
        time_figures.GainPoint(5000, "a", ls.Ratio(4.0, True, (3.0, math.inf))),
        time_figures.GainPoint(1000, "b", ls.Ratio(None)),
        time_figures.GainPoint(1000, "one seed", ls.Ratio(3.0)),
    ]
    axes = time_figures.gain_against_pretraining(points).axes[0]
    marks = [(line.get_marker(), tuple(np.ravel(line.get_xdata()))) for line in axes.lines]
    assert ("o", (1000,)) in marks and ("^", (5000,)) in marks and ("x", (1000,)) in marks
    assert axes.get_yscale() == "log"


def test_styles_are_distinct_and_follow_the_start_not_the_algorithm():
    starts = ("pretrained", "scratch", "policy", "scratch+data")
    for algorithm in ("ivg", "zzz"):
        styles = drawing.assign_styles([f"{algorithm}/{start}" for start in starts])
        assert list(styles.values()) == [0, 1, 2, 4]
    styles = drawing.assign_styles([f"{a}/{start}" for a in ("a", "b") for start in starts])
    assert len(set(styles.values())) == 8
    assert len({colour for colour, _, _ in drawing.STYLES}) == len(drawing.STYLES)


def test_strips_repeat_pixels_and_put_real_above_imagined(tmp_path):
    real, imagined = np.zeros((4, 16, 16, 3), np.uint8), np.zeros((4, 16, 16, 3), np.uint8)
    real[..., 0], imagined[..., 2] = 200, 150
    path = curve_figures.strips(tmp_path / "deep" / "s.png", real, imagined, first_step=5)
    image = np.asarray(Image.open(path))
    red = (image == (200, 0, 0)).all(axis=-1)
    blue = (image == (0, 0, 150)).all(axis=-1)
    assert red.sum() == blue.sum() == 4 * 96 * 96
    assert np.where(red)[0].max() < np.where(blue)[0].min()
    with pytest.raises(ValueError, match="one shape"):
        curve_figures.strips(path, real, imagined[:2])
