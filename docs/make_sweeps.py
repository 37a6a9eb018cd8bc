"""Copies what a sweep found into docs/results/: `python docs/make_sweeps.py runs/NAME`.

Writes NAME.json (the content of sweep.json with commands, versions and commits of the runs), NAME.png (the times to
thresholds of all variants), and in the pages of docs/ the blocks `<!-- sweep:NAME -->`, made from NAME.json alone: a
row per variant and arm. A test holds them together.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

from make_results import FORMAT, RESULTS, committed, made_by, provenance, put
from PIL import Image

from meta_latent.errors import UserError
from meta_latent.experiment.report import sweep_report
from meta_latent.experiment.report.reading.sources import read_run
from meta_latent.experiment.report.words.text import count, interval, median, percent, score, threshold

DOCS = Path(__file__).resolve().parent
PAGES = sorted([*DOCS.glob("*.md"), RESULTS])
"""What may hold blocks."""
MOST_ACROSS = 3


def facts_of(folder: Path, name: str) -> dict:
    """The content of NAME.json. SystemExit: there is no sweep."""
    try:
        report = sweep_report.build(folder)
    except UserError as error:
        raise SystemExit(str(error)) from error
    made = [provenance(read_run(folder / variant["name"])) for variant in report["variants"]]
    versions = {package: version for one in made for package, version in one["versions"].items()}
    return {
        "format": FORMAT, "name": name, "commands": [f"meta-latent sweep {name}"],
        "commits": sorted({commit for one in made for commit in one["commits"]}),
        "seeds": sorted({seed for one in made for seed in one["seeds"]}, key=lambda seed: (len(seed), seed)),
        "versions": versions, "sweep": report,
    }  # fmt: skip


def picture(folder: Path) -> Image.Image:
    """The times to every threshold of every target, side by side."""
    parts = [Image.open(path).convert("RGB") for path in sorted((folder / "report").glob("sweep_times_*.png"))]
    rows = [parts[at : at + MOST_ACROSS] for at in range(0, len(parts), MOST_ACROSS)]
    size = max(sum(p.width for p in row) for row in rows), sum(max(p.height for p in row) for row in rows)
    whole, y = Image.new("RGB", size, "white"), 0
    for row in rows:
        x = 0
        for part in row:
            whole.paste(part, (x, y))
            x += part.width
        y += max(part.height for part in row)
    return whole


def block(name: str, facts: dict) -> str:
    """The text of a block, a row per variant, arm and target."""
    report = facts["sweep"]
    arms = [(group, arm, told) for group, found in report["groups"].items() for arm, told in found["arms"].items()]
    several = len({target for *_, told in arms for target in told["targets"]}) > 1
    asked = list(dict.fromkeys(at for *_, told in arms for t in told["targets"].values() for at in t["thresholds"]))
    columns = ["variant", "arm", *["target"] * several, "models x runs",
               *(f"steps to {threshold(float(at))}, median [95 %]; reached" for at in asked), "final score (IQM)",
               "success"]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for group, arm, told in arms:
        for target, entry in told["targets"].items():
            models = len({run["model_sha256"] for run in entry["runs"]})
            cells = [group, arm, *[target] * several, f"{models} x {len(entry['runs']) / models:g}",
                     *(_time(entry["thresholds"].get(at)) for at in asked), score(entry["final_score_iqm"]),
                     percent(entry["final_success_iqm"])]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *made_by(facts), f"All numbers: [{name}.json]({name}.json)."])


def _time(found: dict | None) -> str:
    if found is None:
        return "–"
    said = f"{median(found['median'])} {interval(found['interval'], count)}"
    return f"{said}; {found['reached']} / {len(found['steps'])}"


def blocks(text: str) -> dict[str, str]:
    """The blocks of a page: name -> content."""
    return dict(re.findall(r"<!-- sweep:(\w+) -->\n(.*?)\n<!-- /sweep:\1 -->", text, re.DOTALL))


def main(folder: Path) -> None:
    """Write NAME.json, NAME.png and the blocks of all pages."""
    name = folder.name
    target, image = RESULTS.parent / f"{name}.json", RESULTS.parent / f"{name}.png"
    facts = facts_of(folder, name)
    picture(folder).save(image, optimize=True)
    facts["picture_sha256"] = hashlib.sha256(image.read_bytes()).hexdigest()
    target.write_text(json.dumps(facts) + "\n")
    for page in PAGES:
        if name in blocks(text := page.read_text()):
            page.write_text(put(text, name, block(name, committed(name)), "sweep"))
    print(target, image, sep="\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
