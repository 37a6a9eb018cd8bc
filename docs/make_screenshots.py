"""Takes the pictures of docs/report.md: `python docs/make_screenshots.py runs/demo runs/mb_mpo_toy [--out DIR]`.

Of the first run: report.html on a desktop, on a phone and in the dark; of the second, which should have many arms, its
small multiples. Reports are written anew where a run has none. Needs chromium; nothing is fetched.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from meta_latent.experiment.report.build import build

OUT = Path(__file__).resolve().parent / "report"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SHOTS = (
    ("desktop", 0, 1280, 1950, False), ("phone", 0, 390, 1950, False), ("dark", 0, 1280, 1950, True),
    ("many_arms", 1, 1280, 1950, False),
)  # fmt: skip
"""File, number of the run, width and height in pixels, whether in the dark."""


def browser() -> str:
    """The first of `BROWSERS` that is installed. SystemExit: there is none."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    return found


def shoot(page: Path, picture: Path, width: int, height: int, dark: bool = False) -> Path:
    """Write what a browser window of `width` x `height` shows of `page` into `picture`, returned."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   f"--window-size={width},{height}", f"--screenshot={raw}"]  # fmt: skip
        if dark:
            command.append("--blink-settings=preferredColorScheme=0")
        subprocess.run([*command, page.resolve().as_uri()], check=True, capture_output=True, timeout=120)
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.open(raw).convert("RGB").save(picture, optimize=True)
    return picture


def main() -> None:
    """Take all pictures that the named runs allow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    for run in given.runs:
        if not (run / "report.html").is_file():
            build(run)
    for name, place, width, height, dark in SHOTS:
        if place < len(given.runs):
            print(shoot(given.runs[place] / "report.html", given.out / f"{name}.png", width, height, dark))


if __name__ == "__main__":
    main()
