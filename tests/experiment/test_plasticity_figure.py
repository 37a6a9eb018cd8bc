"""Plasticity against disagreement: whose paths there are, and that a page shows them."""

import pytest
from fabricated_runs import new_facts, ramp, write_cell

from meta_latent.experiment.report.build import build
from meta_latent.experiment.report.figures import drawing, plasticity

BOTH = {"disagreement": {"values": [[4.0, 2.0, None], [2.0, 2.0, 1.0]]},
        "plasticity": {"values": [[0.0, 1.0, 5.0], [2.0, 1.0, 5.0]]}}  # fmt: skip


def target(**arms):
    return {"arms": {arm: {"metrics": metrics} for arm, metrics in arms.items()}}


@pytest.mark.drawn
def test_seeds_are_thin_and_their_median_goes_as_far_as_all_of_them(monkeypatch):
    drawn, phase = [], plasticity.phase
    monkeypatch.setattr(plasticity, "phase", lambda *args: drawn.append(phase(*args)) or drawn[-1])
    (shown,) = plasticity.figures_of("t", target(a=BOTH, b={"plasticity": BOTH["plasticity"]}), {"a": 1, "b": 0})
    assert shown["arms"] == [{"arm": "a", "style": "1"}] and shown["name"] == "plasticity and disagreement"
    thin = [line.get_xydata().tolist() for line in drawn[0].axes[0].lines if line.get_linewidth() == 0.8]
    assert thin == [[[4, 0], [2, 1]], [[2, 2], [2, 1], [1, 5]]]
    (bold,) = [line for line in drawn[0].axes[0].lines if line.get_linewidth() == 1.8]
    assert bold.get_xydata().tolist() == [[3, 1], [2, 1]] and bold.get_color() == drawing.STYLES[1][0]
    ring, dot = [line for line in drawn[0].axes[0].lines if line.get_marker() == "o"]
    assert (ring.get_xydata().tolist(), ring.get_fillstyle()) == ([[3, 1]], "none")
    assert (dot.get_xydata().tolist(), dot.get_fillstyle()) == ([[2, 1]], "full")


def test_no_figure_where_no_arm_has_both():
    assert plasticity.figures_of("t", target(a={}, b={"disagreement": BOTH["disagreement"]}), {"a": 0, "b": 1}) == []


@pytest.mark.parametrize("logged", [("plasticity", "disagreement"), ("plasticity",)])
def test_a_page_shows_it_among_the_training_metrics(tmp_path, logged):
    for seed in (0, 1):
        write_cell(
            tmp_path,
            "t",
            "mb_mpo/scratch",
            seed,
            ramp(2000, budget=300),
            facts=new_facts,
            metrics=dict.fromkeys(logged, "of it"),
            train=lambda steps, _: dict.fromkeys(logged, steps / 100),
        )
    build(tmp_path, resamples=50)
    page = (tmp_path / "report.html").read_text()
    assert ("Plasticity on t by disagreement" in page) is (len(logged) == 2)
    assert f"Training metrics ({3 if len(logged) == 2 else 1})" in page
