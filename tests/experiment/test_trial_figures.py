"""Figures along trials: which lines there are, where they end, what is marked."""

import json

import numpy as np
import pytest

from meta_latent.experiment.report.figures import drawing, trial_figures
from meta_latent.experiment.report.reading import adaptations
from meta_latent.experiment.report.statistics.numbers import Bootstrap

pytestmark = pytest.mark.drawn


def adaptation(episodes=3, learned=2, seeds=2, tasks=2, steps=(2, 3, 3), cleared=True, **arm):
    """An arm whose seed s gets s, whose task n gets 10 n, and whose episode e gets e more per step."""

    def measured(seed):
        place = np.indices((tasks, 2, episodes))
        rewards = [[e + t / 10 + seed for t in range(steps[e])] for e in range(episodes)]
        return {"returns": (seed + 10 * place[0] + place[2]).tolist(), "success": np.ones(place[0].shape).tolist(),
                "reward_by_step": rewards, "success_by_step": rewards}  # fmt: skip

    told = {"spread": [1.0] * (sum(steps[:episodes]) + episodes)}
    entries = {str(s): measured(s) | {"inspected": told} | ({"cleared": measured(s)} if cleared else {})
               for s in range(seeds)}  # fmt: skip
    content = {"format": 1, "target": "goal", "episodes": episodes, "episodes_per_trial": learned, "trials": 2,
               "test_tasks": [str(n) for n in range(tasks)], "references": [[0, 30]] * tasks,
               "arms": {"x/scratch": {"inspects": {"spread": "of it"}, "seeds": entries} | arm}}  # fmt: skip
    made = adaptations.of(json.loads(json.dumps(content)), None)
    return made, adaptations.numbers(made, Bootstrap(50))


def lines(figure, width):
    return [line for line in figure.axes[0].lines if line.get_linewidth() == width]


def legend(figure):
    return figure.axes[0].get_legend_handles_labels()[1]


def test_returns_have_a_thin_line_per_task_and_bold_ones_for_the_means():
    figure = trial_figures.return_by_episode(*adaptation(), {"x/scratch": 1})
    assert [line.get_ydata().tolist() for line in lines(figure, 0.7)] == [[0.5, 1.5, 2.5], [10.5, 11.5, 12.5]]
    (bold,), (cleared,) = lines(figure, 2.2), lines(figure, 1.6)
    assert bold.get_ydata().tolist() == cleared.get_ydata().tolist() == [5.5, 6.5, 7.5]
    assert bold.get_xdata().tolist() == [1, 2, 3] and cleared.get_fillstyle() == "none"
    assert bold.get_color() == cleared.get_color() == drawing.STYLES[1][0]
    assert legend(figure) == ["x/scratch", "x/scratch, cleared", "reference", "learned with 2 episodes"]
    (learned,) = [line for line in lines(figure, 0.8) if line.get_label().startswith("learned")]
    assert learned.get_xdata() == [2.5, 2.5]
    figure = trial_figures.return_by_episode(*adaptation(2, cleared=False), {"x/scratch": 1})
    assert legend(figure) == ["x/scratch", "reference"]


def test_who_adapts_is_counted_in_steps_of_adapting():
    given = adaptation(adapts=True)
    figure = trial_figures.return_by_episode(*given, {"x/scratch": 1})
    (bold,) = lines(figure, 2.2)
    assert bold.get_xdata().tolist() == [0, 1, 2] and figure.axes[0].get_xlabel() == "adaptation step"
    assert legend(figure) == ["x/scratch", "x/scratch, not adapting", "reference", "evaluated with 1 step"]
    (evaluated,) = [line for line in lines(figure, 0.8) if line.get_label().startswith("evaluated")]
    assert evaluated.get_xdata() == [1.5, 1.5]
    figure = trial_figures.course(given[0].lines, "reward_by_step", "reward", {"x/scratch": 0}, None)
    assert figure.axes[0].get_xlabel() == "environment step; adapting at dotted lines"
    labels = [label for _, _, label in trial_figures.figures_of(*given, {"x/scratch": 0})]
    assert labels[0] == "Return on goal against the adaptation step"
    figure = trial_figures.return_by_episode(*adaptation(), {"x/scratch": 1})
    assert figure.axes[0].get_xlabel() == "episode of the trial"


def test_many_tasks_or_episodes_are_not_told_apart():
    figure = trial_figures.return_by_episode(*adaptation(tasks=41), {"x/scratch": 0})
    assert not lines(figure, 0.7)
    many = adaptation(25, steps=[1] * 25)
    assert lines(trial_figures.return_by_episode(*many, {"x/scratch": 0}), 2.2)[0].get_marker() == "None"
    figure = trial_figures.course(many[0].lines, "reward_by_step", "reward", {"x/scratch": 0}, None)
    assert not [line for line in lines(figure, 0.8) if line.get_linestyle() == ":"]


def test_the_course_of_a_trial_is_broken_where_episodes_end():
    made, _ = adaptation()
    figure = trial_figures.course(made.lines, "reward_by_step", "reward", {"x/scratch": 0}, None)
    bold, thin = lines(figure, 2.2), [line for line in lines(figure, 0.8) if line.get_linestyle() == "-"]
    assert [line.get_xdata().tolist() for line in bold] == [[1, 2], [3, 4, 5], [6, 7, 8]]
    np.testing.assert_allclose(bold[1].get_ydata(), [1.5, 1.6, 1.7])
    assert len(thin) == 2 * 3 and len(lines(figure, 1.6)) == 3  # seeds of each episode; none of a cleared belief
    ends = [line.get_xdata()[0] for line in lines(figure, 0.8) if line.get_linestyle() == ":"]
    assert ends == [2.5, 5.5] and legend(figure) == ["x/scratch", "x/scratch, cleared"]


def test_what_is_told_has_vertical_lines_only_where_they_belong():
    for lengths, ends in (([3, 4, 4], [2.5, 6.5]), ([4, 4, 4], [])):
        figure = trial_figures.along_trial({"x": [[1.0] * 11, None, [3.0, None, *[3.0] * 9]]}, {"x": 0}, lengths)
        marks = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
        assert marks == ends
        assert lines(figure, 1.8)[0].get_ydata().tolist() == [2.0] * 10  # of the two seeds that tell, where both do
    figure = trial_figures.along_trial({"x": [[1.0, 2.0], [3.0, 4.0], [5.0, None]]}, {"x": 0}, [2], "spread")
    assert legend(figure) == ["x"] and figure.axes[0].get_ylabel() == "spread"
    assert lines(figure, 1.8)[0].get_xdata().tolist() == [0] and lines(figure, 1.8)[0].get_ydata().tolist() == [3]


def test_all_figures_of_an_adaptation():
    made, told = adaptation(seeds=1, tasks=1)
    found = trial_figures.figures_of(made, told, {"x/scratch": 0})
    kinds = [kind for kind, _, _ in found]
    assert kinds == ["return_by_episode", "reward_by_step", "success_by_step", "inspected_spread"]
    assert all("<path" in drawing.inline_svg(figure, kind) for kind, figure, _ in found)
