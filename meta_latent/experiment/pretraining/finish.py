"""What comes out of a pretraining: held-out measures, pictures, the model folder, `pretraining.json`."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING

import numpy as np

from meta_latent import files
from meta_latent.errors import counted
from meta_latent.experiment.pretraining import held_out, model_folder, source_data
from meta_latent.experiment.pretraining.held_out import POSITIONS
from meta_latent.experiment.runs.run_folder import RunFolder
from meta_latent.models.config import EncoderConfig

if TYPE_CHECKING:
    from meta_latent.experiment.pretraining.stages import Pretraining

FACTS = "pretraining.json"
MEASURED_FROM = 4
"""Held-out episodes: of fewer nothing is measured."""
UNSEEN = 0.1
"""Share of the variance of positions from which on an object is not placed well enough to learn anything about it."""


def write(run: Pretraining, clocks: dict) -> None:
    """Measure the model on held-out episodes, draw it, and write the model folder of a `run` whose stages are
    done.
    """
    held, sources = run.held_out(), run.sources
    plain = np.array([e for e in held if not sources[e % len(sources)].task.distractors], int)
    other, metrics = np.setdiff1d(held, plain), {}
    for episodes, suffix in ((plain, ""), (other, "_distractors")):
        if len(episodes) >= MEASURED_FROM:
            objects = sources[0].object_inputs()
            found = held_out.measure(run.model, run.replay, episodes, objects, own_heads=run.config.own_heads)
            metrics |= {f"{name}{suffix}": value for name, value in found.items()}
    for episode in [*plain[-2:], *other[-1:]]:
        images = run.folder.path("images", "strips").parent
        with files.full_disk_named(images):
            held_out.draw_strips(run.model, run.replay, int(episode), images, own_heads=run.config.own_heads)
    digest = _write_model(run, clocks)
    firsts = itertools.accumulate((source.tasks for source in run.config.sources), initial=0)
    pays = [sources[first].in_words() for first, _ in itertools.pairwise(firsts)]
    scripted = run.collector.scripted_outcomes(run.replay)
    facts = {**clocks, "model_sha256": digest, "held_out": metrics, "pays": pays}
    facts["scripted"] = [dataclasses.asdict(outcome) for outcome in scripted]
    files.atomic_write_bytes(run.folder.path(FACTS), files.to_json(facts, indent=1))
    measured = held_out.describe(metrics)
    few = f"{counted(len(held), 'episode')} {'is' if len(held) == 1 else 'are'} held out, {MEASURED_FROM} are needed"
    print(f"held out: {measured}" if measured else f"{few}: nothing was measured; raise pretrain.env_steps or "
          "pretrain.held_out")  # fmt: skip
    if metrics.get(POSITIONS) is not None and metrics[POSITIONS] > UNSEEN:
        print(_unseen(metrics[POSITIONS], run.experiment.model.encoder))
    for outcome in scripted:
        if outcome.solvable and not outcome.solved:
            print(f"warning: none of the {outcome.episodes} scripted episodes of the source that pays {outcome.pays!r} "
                  "came to where its task is solved, and so the model has not seen what happens there: lower "
                  "pretrain.scripted_noise")  # fmt: skip


def _unseen(missed: float, encoder: EncoderConfig) -> str:
    keypoints = encoder.kind == "keypoints" and not encoder.pictured
    small = "; where the pictures are small and one thing moves in them, set model.encoder.pictured=true" * keypoints
    return (f"warning: the model misses {missed:.0%} of where things are ({POSITIONS}; above {UNSEEN} is much), and "
            f"little can be learned about what it does not see: raise pretrain.joint_updates{small}; docs/tuning.md "
            "says more")  # fmt: skip


def _write_model(run: Pretraining, clocks: dict) -> str:
    run.replay.flush()
    path, policy = run.folder.path("model"), None
    if run.policy is not None:
        policy = model_folder.PolicyWeights(run.policy.tensors(), run.policy.facts())
    paid = run.replay.transitions().reward
    logged = [settings.data for settings in run.config.each_source]
    facts = {
        "rewards": [float(paid.min()), float(paid.max())],
        "suite_fingerprints": sorted({source.distribution.fingerprint() for source in run.sources}),
        "budget": clocks,
        "sources": [
            {"suite": s.name, "task": json.loads(s.task.to_json())} | ({"data": data} if data else {})
            for s, data in zip(run.sources, logged, strict=True)
        ],
    }
    return model_folder.save(path, run.model, facts, policy, source_data.describe(run.replay, path))


def facts(folder: RunFolder) -> dict:
    """What `pretraining.json` says."""
    return json.loads(folder.path(FACTS).read_text())
