"""Blocks of documents about sweeps say what docs/results/ says; the script that writes them reports facts only."""

import json
from pathlib import Path

import docs_scripts
import pytest

from meta_latent.experiment.report import sweep_report

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def make_sweeps():
    """docs/make_sweeps.py as a module."""
    return docs_scripts.load("make_sweeps")


def test_documents_say_what_the_committed_results_say(make_sweeps):
    shown = {page: make_sweeps.blocks(page.read_text()) for page in make_sweeps.PAGES}
    assert {name for found in shown.values() for name in found} == {"ivg_lift_curves", "reuse_models"}
    for page, found in shown.items():
        for name, text in found.items():
            assert text == make_sweeps.block(name, make_sweeps.committed(name)), (page, name)


def test_the_page_of_reuse_says_what_other_models_gave(make_sweeps):
    text = " ".join((ROOT / "docs" / "reuse.md").read_text().split())
    (group,) = make_sweeps.committed("reuse_models")["sweep"]["groups"].values()
    told = [group["arms"][f"{name}/pretrained"]["targets"]["place"] for name in ("ivg", "mb_mpo", "sac")]
    at = [entry["thresholds"]["0.85"] for entry in told]
    assert all(found["reached"] == len(entry["runs"]) == 6 for found, entry in zip(at, told, strict=True))
    ivg, mb_mpo, sac = (f"{found['median'][0]:,.0f}{' steps' * (k == 0)} [{found['interval'][0]:,.0f}, "
                        f"{found['interval'][1]:,.0f}]" for k, found in enumerate(at))  # fmt: skip
    assert f"to 0.85 IVG takes {ivg}, MB-MPO {mb_mpo} and SAC on the features {sac}, each in all six runs" in text
    final = (
        ", ".join(f"{entry['final_score_iqm']:.2f}" for entry in told[:2]) + f" and {told[2]['final_score_iqm']:.2f}"
    )
    solved = [f"{100 * entry['final_success_iqm']:.0f}" for entry in told]
    assert f"they end at {final}, with {', '.join(solved[:2])} and {solved[2]} % of episodes solved" in text
    assert at[2]["interval"][0] > max(found["interval"][1] for found in at[:2])


def write_run(folder, model, after, asked):
    """A finished run that comes to 0.5 after so many steps, of 300."""
    folder.mkdir(parents=True)
    facts = {"status": "done", "target": "goal", "algorithm": "ivg", "start": "pretrained", "seed": int(folder.name),
             "thresholds": asked, "floor": 0.0, "reference": 1.0, "budget": 300, "clock": "env_steps",
             "env_steps": 300, "updates": 3, "seconds": 7.0, "model_sha256": model, "commit": "0123456789abcdef",
             "versions": {"torch": "0"}, "command": ["/x/cli.py", "transfer", "tiny", "out=/x/y"]}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    rows = [{"kind": "evaluation", "env_steps": at, "updates": 1, "seconds": 1.0, "score": 0.5 * (at >= after),
             "success": 0.25, "raw_return": 1.0} for at in (0, 100, 200, 300)]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_row_per_variant_says_what_its_runs_did(make_sweeps, tmp_path):
    variants = [("all", "all", {}), ("all_1", "all", {"seed": 1}), ("few", "few", {})]
    for (name, *_), model, after in zip(variants, ("a", "b", "c"), ((100, 100), (200, 200), (200, 900)), strict=True):
        for seed, steps in enumerate(after):
            folder = tmp_path / "tiny" / name / "transfer" / "goal" / "ivg" / "pretrained" / str(seed)
            write_run(folder, model, steps, [0.5] if name == "few" else [0.5, 0.9])
    sweep_report.write_variants(tmp_path / "tiny", variants)
    facts = make_sweeps.facts_of(tmp_path / "tiny", "tiny")
    lines = make_sweeps.block("tiny", facts).splitlines()
    assert lines[0].startswith("| variant | arm | models x runs | steps to 0.5, median [95 %]; reached |")
    assert lines[2] == "| all | ivg/pretrained | 2 x 2 | 150 [100, 200]; 4 / 4 | > 300 [300, ∞]; 0 / 4 | 0.50 | 25 % |"
    assert lines[3] == "| few | ivg/pretrained | 1 x 2 | > 250 [200, ∞]; 1 / 2 | – | 0.25 | 25 % |"
    assert lines[5] == "Made by `meta-latent sweep tiny`; run seeds 0, 1; torch 0;"
    assert make_sweeps.picture(tmp_path / "tiny").width > 300


def test_a_folder_without_a_sweep_is_refused(make_sweeps, tmp_path):
    with pytest.raises(SystemExit, match="holds no sweep"):
        make_sweeps.facts_of(tmp_path, "tiny")
