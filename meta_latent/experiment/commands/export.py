"""`meta-latent export RUN minari:DATASET_ID`: what a run collected, for others to learn from."""

from __future__ import annotations

from pathlib import Path

from meta_latent.data import minari_episodes
from meta_latent.errors import UserError
from meta_latent.experiment.pretraining import logged_data
from meta_latent.files import expanded


def run(folder: str, out: str) -> None:
    """Write the episodes of the finished run in `folder` and say how many there were."""
    count = export(folder, out)
    print(f"{out}: {count} episodes")


def export(folder: str | Path, out: str) -> int:
    """Write the episodes that the finished run in `folder` collected as `out`, "minari:DATASET_ID"; returns how many.

    Raises UserError if `out` is something else or there already, or if there are no episodes.
    """
    if not out.removeprefix(minari_episodes.PREFIX) or not out.startswith(minari_episodes.PREFIX):
        raise UserError(f"expected minari:DATASET_ID, such as minari:toy/lqr-v0, got {out!r}")
    replay = logged_data.open_run(Path(expanded(folder)))
    return minari_episodes.write(replay, out.removeprefix(minari_episodes.PREFIX), "Episodes collected by meta-latent.")
