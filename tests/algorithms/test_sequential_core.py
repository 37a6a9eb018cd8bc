"""What acts on a latent state model acts on the two-layer one as well: pretrained, imagined, resumed bit for bit."""

import json

import pytest

from meta_latent.experiment.pretraining import pretrain

SEQUENTIAL = "model.core.kind=sequential"


@pytest.mark.parametrize("arm", ["ivg/scratch", "sac/scratch"])
def test_it_learns_and_goes_on_bit_for_bit_from_a_checkpoint(bench, tmp_path, frozen, arm):
    whole, cut = (bench.experiment(tmp_path / name, arm, SEQUENTIAL) for name in ("whole", "cut"))
    rounds, states, measured = 3, [], []
    with bench.learning(whole, arm) as learning:
        for _ in range(rounds):
            measured.append(bench.round(learning))
            states.append(frozen(learning.agent.state()))
        assert learning.agent.updates > 0
    for k in range(rounds):
        with bench.learning(cut, arm) as learning:
            assert bench.round(learning) == measured[k] and frozen(learning.agent.state()) == states[k]
            learning.saved.save()


def test_a_pretrained_one_is_measured_saved_and_reused_with_its_policy(bench, tmp_path):
    sources, arm = "pretrain.sources=[{suite: toy/lqr}]", "ivg/policy"
    folder = pretrain.pretrain(bench.experiment(tmp_path, "ivg/scratch", SEQUENTIAL, sources))
    chosen = bench.experiment(tmp_path, "ivg/scratch", f"pretrained={folder}", f"transfer.arms=[{arm}]")
    record = json.loads((bench.cell(chosen, arm) / "run.json").read_text())
    assert record["status"] == "done" and record["updates"] > 0
    stored = json.loads((folder / "model.json").read_text())
    assert stored["config"]["core"]["kind"] == "sequential"
