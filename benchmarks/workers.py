"""Updates per second of a pretraining's model, by one process and by several that share each update.

    python benchmarks/workers.py [--workers 2] [--rounds 5] [--json PATH] [KEY=VALUE ...]

The `joint` update (on pixels) and the `transition` update (on cached latents) of `configs/experiment/demo.yaml` with
the KEY=VALUE overrides, on random data, one thread per process. In each round one process and then several make equal
updates, so that ratios mean something where absolute figures drift. Rates are by the clock: other load on the cores
spoils them, so the load average is told too. CPU times suffer less: `cpu_ms` of an update are those of one process, of
the lead of several, and of its busiest worker; `bound` is the first over the sum of the others, the ratio on free
cores if nobody waited.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from meta_latent.data.latents import LatentWindows
from meta_latent.experiment.pretraining.team import Team
from meta_latent.experiment.settings import config
from meta_latent.experiment.settings.schema import ExperimentConfig
from meta_latent.experiment.settings.suites import bind, common_spec
from meta_latent.models.latent_state_model import LatentStateModel
from meta_latent.models.learner import ModelLearner
from meta_latent.rng import seeded_construction
from meta_latent.types import SequenceBatch, Spec

UPDATES = {"joint": 10, "transition": 40}
"""Kind -> updates per round."""


def team_of(overrides: list[str], count: int) -> tuple[Team, Spec]:
    """A new model of the demo, and who learn it."""
    words = [*overrides, f"pretrain.num_workers={count}"]
    experiment = config.load(ExperimentConfig, [config.find("experiment", "demo")], words)
    spec = common_spec([bind(experiment, source) for source in experiment.pretrain.each_source])
    with seeded_construction(0):
        model = LatentStateModel(spec, experiment.model, ("a", "b"))
    return Team(experiment, ModelLearner(model, experiment.learner)), spec


def inputs_of(kind: str, team: Team, spec: Spec) -> dict[str, Any]:
    """A batch of random data."""
    sizes, model, rng = team.learner.config, team.learner.model, torch.Generator().manual_seed(0)
    if kind == "transition":
        lead = (sizes.transition_batch_size, sizes.horizon + 1)
        widths = ((model.latent_size,), (model.core.memory_size,), (spec.action_size,), ())
        columns = [torch.randn(*lead, *width, generator=rng) for width in widths]
        never, mask = torch.zeros(lead, dtype=torch.bool), torch.ones(lead[0], model.heads, dtype=torch.bool)
        return {"windows": LatentWindows(*columns, never, mask, never.long())}
    lead = (sizes.batch_size, sizes.length)
    never, values = torch.zeros(lead, dtype=torch.bool), [torch.randn(*lead, generator=rng) for _ in range(2)]
    images = {c: torch.randint(256, (*lead, *shape), generator=rng, dtype=torch.uint8)
              for c, shape in spec.images.items()}  # fmt: skip
    batch = SequenceBatch(
        images, torch.randn(*lead, spec.proprio, generator=rng), torch.rand(*lead, spec.action_size, generator=rng),
        values[0], torch.ones(lead), never, never, never, never,
        head_mask=torch.ones(lead[0], model.heads, dtype=torch.bool))  # fmt: skip
    return {"batch": batch, "task_rewards": torch.stack(values, -1)}


def cpu_seconds(team: Team) -> list[float]:
    """CPU time so far of this process, and of each worker."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in team.process_ids]
    return [time.process_time(), *((int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK") for stat in stats)]


def run(team: Team, kind: str, inputs: dict[str, Any], updates: int) -> None:
    """Some updates."""
    rng = torch.Generator().manual_seed(0)
    for _ in range(updates):
        team.update(kind, rng, 1.0, **inputs)


def measure(team: Team, kind: str, inputs: dict[str, Any], updates: int) -> tuple[float, list[float]]:
    """Updates per second; milliseconds of CPU time per update of this process and, where there are any, of the busiest
    worker.
    """
    spent, begun = cpu_seconds(team), time.perf_counter()
    run(team, kind, inputs, updates)
    seconds = time.perf_counter() - begun
    own, *workers = [1e3 * (b - a) / updates for a, b in zip(spent, cpu_seconds(team), strict=True)]
    return updates / seconds, [own, max(workers)] if workers else [own]


def main(workers: int, rounds: int, overrides: list[str]) -> dict[str, Any]:
    """Medians over `rounds`, ratios within each round."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {"overrides": overrides, "workers": workers, "rounds": rounds, "cores": os.cpu_count(),
                              "torch": torch.__version__}  # fmt: skip
    (alone, spec), (several, _) = team_of(overrides, 1), team_of(overrides, workers)
    with contextlib.closing(several):
        for kind, updates in UPDATES.items():
            inputs = inputs_of(kind, alone, spec)
            for team in (alone, several):  # starts the workers, and lets the allocator settle
                run(team, kind, inputs, 2)
            found = [[measure(team, kind, inputs, updates) for team in (alone, several)] for _ in range(rounds)]
            rates = [[rate for rate, _ in both] for both in found]
            ratios = [many / one for one, many in rates]
            times = [[*one, *many] for (_, one), (_, many) in found]
            cpu = [statistics.median(each) for each in zip(*times, strict=True)]
            result[kind] = {
                "updates_per_second": [round(statistics.median(each), 2) for each in zip(*rates, strict=True)],
                "ratio": round(statistics.median(ratios), 2),
                "lowest_ratio": round(min(ratios), 2),
                "highest_ratio": round(max(ratios), 2),
                "cpu_ms": [round(each, 1) for each in cpu],
                "bound": round(cpu[0] / sum(cpu[1:]), 2),
            }
            print(f"{kind:11} {result[kind]}", flush=True)
    result["load_average"] = round(os.getloadavg()[0], 1)
    print(f"load average {result['load_average']} on {result['cores']} cores")
    return result


if __name__ == "__main__":
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of the experiment")
    given = parser.parse_args()
    result = main(given.workers, given.rounds, given.overrides)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
