"""Copies what a report found into docs/results/: `python docs/make_results.py runs/demo [docs/results/demo]`.

Writes NAME.json (the facts of report.json with the commands, versions and commits of the runs), NAME.png (an
imagined sequence above the learning curves), and in docs/results/README.md the block between `<!-- results:NAME -->`
and `<!-- /results:NAME -->`, which is made from NAME.json alone; experiments of `FAMILIES` have rows of a table there
instead, those of `SHOWN` also rows of a table in the README. A test holds them together. Without a folder: all blocks
anew, from what is committed.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from meta_latent.errors import UserError
from meta_latent.experiment.report.figures import drawing
from meta_latent.experiment.report.figures.pictures import MOST_TOGETHER, curves_png, time_rows
from meta_latent.experiment.report.figures.time_figures import times_to_threshold
from meta_latent.experiment.report.gain import GAIN
from meta_latent.experiment.report.page.tables import time_unit, to_success
from meta_latent.experiment.report.reading.sources import Run, read_run
from meta_latent.experiment.report.statistics import saved
from meta_latent.experiment.report.statistics.numbers import level
from meta_latent.experiment.report.words.summary import summary
from meta_latent.experiment.report.words.text import (
    SECONDS,
    Unit,
    command,
    count,
    interval,
    median,
    percent,
    score,
    times,
)

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results" / "README.md"
FAMILIES = ("hidden_goal_arm", "locomotion", "locomotion_pixels", "metaworld", "metaworld_door")
"""One experiment per family kind, beside tabletop's: rows of the table in docs/results/README.md."""
SHOWN = {"reuse": "ways-to-reuse-one-model", "ivg_lift": "lifting", "ivg_lift_distractors": "lifting",
         "demo": "the-demo", "puck": "a-puck-pushed-to-a-hidden-place"}  # fmt: skip
"""Experiments of the table in the README, and their section in docs/results/README.md."""
BESIDE = ("mb_mpo_pixels", "ivg_stack_distractors", "transfer_tabletop")
"""Experiments that have no rows there."""
PAIR = "ivg/pretrained", "ivg/scratch"
FORMAT = 1
CELL_KEYS = ("target", "arm", "run_seed")
ELSEWHERE = ("out", "workers")
"""Overrides that say where and how fast a command ran, not what it found."""
WIDTH, TITLE = 1600, 30


def provenance(run: Run) -> dict:
    """Commands (without what names one cell), seeds, versions and commits of the runs, each once."""
    commands, commits, versions = {}, {}, {}
    for facts in run.facts:
        if typed := command(facts.get("command"), without=(*CELL_KEYS, *ELSEWHERE)):
            commands[typed] = True
        if facts.get("commit"):
            commits[str(facts["commit"])] = True
        for name, version in (facts.get("versions") or {}).items():
            versions.setdefault(name, {})[str(version)] = True
    return {
        "commands": list(commands),
        "commits": list(commits),
        "seeds": sorted({cell.seed for cell in run.cells}, key=lambda seed: (len(seed), seed)),
        "versions": {name: ", ".join(found) for name, found in sorted(versions.items())},
    }


def facts_of(folder: Path, name: str) -> dict:
    """The content of NAME.json: report.json without the curves, which NAME.png shows.

    SystemExit: there is no report.
    """
    report = _report(folder)
    for target in report["targets"].values():
        for arm in target["arms"].values():
            arm.pop("curve")
            kept = ("meaning", "last")
            arm["metrics"] = {m: {key: found[key] for key in kept} for m, found in arm["metrics"].items()}
    facts = {"format": FORMAT, "name": name, **provenance(read_run(folder)), "report": report}
    gain = folder / "report" / f"{GAIN}.json"
    if not gain.is_file():
        return facts
    found = json.loads(gain.read_text())
    made = [{"run": Path(run).name, **provenance(read_run(Path(run)))} for run in found["runs"]]
    return facts | {GAIN: {"runs": made, "points": found["points"]}}


def _report(folder: Path) -> dict:
    """The content of report.json. SystemExit: there is none that can be read."""
    try:
        return saved.read(folder / "report.json")
    except UserError as error:
        raise SystemExit(str(error)) from error


def picture(folder: Path) -> Image.Image:
    """The first imagined sequence of the pretraining, above the learning curves of every target, its arms' times where
    they are many, and the gain against the amount of pretraining, where runs were compared.
    """
    strips, report = sorted(folder.glob("pretrain/*/images/*.png"))[:1], _report(folder)
    curves: dict[Path | io.BytesIO, str] = {}
    for name, target in report["targets"].items():
        curves[curves_png(folder, name, target)] = name
        if len(target["arms"]) > MOST_TOGETHER:
            highest = level(max(target["thresholds"]))
            curves[ranking(target, list(report["aggregate"]))] = f"{name}: how fast to {highest}"
    if not all(path.is_file() for path in curves if isinstance(path, Path)):
        raise SystemExit(f"{folder} lacks pictures: run `meta-latent report {folder}` first")
    curves |= {path: path.stem for path in (folder / "report").glob(f"{GAIN}.png")}
    title = "an episode not trained on: real frames above what was imagined from frame 0 on"
    parts = [_titled(path, WIDTH, title) for path in strips]
    width = WIDTH // min(max(len(curves), 2), 3)
    parts += [_titled(path, width, name) for path, name in curves.items()]
    places, x, y, tallest = [], 0, 0, 0
    for part in parts:
        if x + part.width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        places.append((x, y))
        x, tallest = x + part.width, max(tallest, part.height)
    whole = Image.new("RGB", (WIDTH, y + tallest), "white")
    for part, place in zip(parts, places, strict=True):
        whole.paste(part, place)
    return whole


def ranking(target: dict, arms: list[str]) -> io.BytesIO:
    """A PNG of the times to the highest threshold, the fastest arm first, in the colours of a report on `arms`."""
    highest, styles = max(target["thresholds"]), drawing.assign_styles(arms)
    rows = time_rows({**target, "thresholds": [highest]}, highest, styles)
    figure = times_to_threshold(rows, target["clock"])
    content = io.BytesIO()
    figure.savefig(content, dpi=150)
    return content


def _titled(path: Path | io.BytesIO, width: int, title: str) -> Image.Image:
    """The picture in `path`, `width` pixels wide, below its title."""
    picture = Image.open(path).convert("RGB")
    height = picture.height * width // picture.width
    whole = Image.new("RGB", (width, TITLE + height), "white")
    whole.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (0, TITLE))
    ImageDraw.Draw(whole).text((width // 2, 2), title, "black", ImageFont.load_default(20), anchor="ma")
    return whole


def block(name: str, facts: dict | None) -> str:
    """The text of a block of docs/results/README.md, made from the content of NAME.json; None: there is none yet."""
    if facts is None:
        return "No result is committed yet: `make demo` makes one in `runs/demo/report.html`."
    report = saved.upgraded(facts["report"])
    lines = [f"![An imagined sequence and learning curves]({name}.png)", ""]
    lines += [summary(report), ""]  # of its numbers, in the words that are used now
    unit = time_unit(_arms(report))
    columns = ("target", "threshold", "arm", "reached", "steps to threshold, median [95 %]", f"time, {unit.name}")
    solved = _solved(report)
    columns += ("speed-up [95 %]", "final score (IQM)", *["success", "steps to 50 % / 80 % success"] * solved)
    lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for target, entry in report["targets"].items():
        for arm, found in entry["arms"].items():
            success = [percent(found.get("final_success_iqm")), _to_success(found)] * solved
            lines += [f"| {' | '.join([target, *row, *success])} |" for row in _rows(arm, found, entry, unit)]
    gain = facts.get(GAIN)
    lines += ["", _legend(report)]
    budgets = [f"{target}: {_budgets(entry['arms'])}" for target, entry in report["targets"].items()]
    lines += [f"Budgets in steps: {'; '.join(budgets)}."]
    lines += [_gain(gain["points"])] if gain else []
    lines += made_by(facts)
    lines += [f"All numbers: [{name}.json]({name}.json)."]
    return "\n".join(lines)


def made_by(facts: dict) -> list[str]:
    """Two lines: commands, seeds and versions; commits."""
    made = "; ".join(f"`{command}`" for command in facts["commands"])
    packages = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return [f"Made by {made}; run seeds {', '.join(facts['seeds'])}; {packages};",
            f"commit {', '.join(_short(commit) for commit in facts['commits'])}."]  # fmt: skip


def _legend(report: dict) -> str:
    """What the columns of the table are."""
    raw = [name for name, target in report["targets"].items() if not target["normalised"]]
    text = f"Scores are {'normalised' if not raw else 'raw returns on ' + ', '.join(raw)}."
    text += " Speed-up: ratio of the medians to the arm that it is compared with, without pretraining."
    text += f" Final score: mean of a run's last {report['final_score_evaluations']} evaluations,"
    stops = [arm.get("stopped_at") for arm in _arms(report)]
    whole = all(stop is not None and not any(stop) for stop in stops)
    ends = "its budget is spent" if whole else "the threshold holds, or its budget is spent"
    text += f" interquartile mean (IQM) over runs; a run ends when {ends}."
    success = (" Success: likewise, the share of episodes that end solved; the last column has the medians of when two"
               " evaluations in a row had so much of it (seeds that got there / seeds), not known where runs stopped at"
               " a threshold of scores before.")  # fmt: skip
    return text + success * _solved(report)


def _arms(report: dict) -> list[dict]:
    return [arm for target in report["targets"].values() for arm in target["arms"].values()]


def _solved(report: dict) -> bool:
    """Whether the report says how many episodes were solved; results of before do not."""
    return any(arm.get("final_success_iqm") is not None for arm in _arms(report))


def _gain(points: list[dict]) -> str:
    """Speed-ups after less pretraining and after all of it, a sentence per target."""
    text = []
    for target in dict.fromkeys(point["target"] for point in points):
        own = {p["pretraining_env_steps"]: p["ratio"] for p in points if p["target"] == target}
        after = [
            f"{times(ratio['value'], ratio['lower_bound'], ratio.get('upper_bound', False))} after {count(steps)}"
            for steps, ratio in sorted(own.items())
        ]
        text.append(f"Speed-up on {target} by steps of pretraining: {', '.join(after)}.")
    return " ".join(text)


def _budgets(arms: dict) -> str:
    """One number where all arms have the same budget, else one per arm."""
    found = {arm: entry["budget"] for arm, entry in arms.items()}
    if len(set(found.values())) == 1:
        return count(next(iter(found.values())))
    return ", ".join(f"{arm} {count(steps)}" for arm, steps in found.items())


def _short(commit: str) -> str:
    """A commit in 12 digits, with "+changes" where the source was not exactly that commit."""
    digits, plus, changes = commit.partition("+")
    return digits[:12] + plus + changes


def _rows(arm: str, found: dict, target: dict, unit: Unit = SECONDS) -> list[list[str]]:
    """The cells of one arm's rows, one row per threshold. unit: of its time."""
    rows = []
    for at in map(level, target["thresholds"]):
        claim = found["speedup"][at].get(found.get("base"), {})
        speedup = times(claim.get("ratio"), claim.get("lower_bound", False), claim.get("upper_bound", False))
        if claim.get("ratio") is not None:
            speedup = _with(speedup, claim["interval"], times)
        seconds = median(found["medians"]["seconds_to_thresholds"][at], unit.show)
        rows.append([at, arm, *_steps(found, at), seconds, speedup, score(found["final_score_iqm"])])
    return rows


def _with(text: str, ends: list | None, show) -> str:
    return text if ends is None else f"{text} {interval(ends, show)}"


def _steps(arm: dict, at: str) -> list[str]:
    """How many seeds reached the threshold, and when."""
    steps = median(arm["medians"]["steps_to_thresholds"][at])
    steps = _with(steps, arm["intervals"]["steps_to_thresholds"][at], count)
    return [f"{arm['reached'][at]} / {len(arm['seeds'])}", steps]


def _to_success(arm: dict) -> str:
    """When half and four fifths of the episodes of two evaluations in a row were solved, and by how many seeds."""
    cells = []
    for at, steps in arm["steps_to_success"].items():
        there = sum(step is not None for step in steps)
        cells.append(f"{to_success(arm, at)[0]} ({there}/{len(arm['seeds'])})")
    return " / ".join(cells) or "–"


def families() -> str:
    """The table of `FAMILIES`, made from their committed JSONs. No times: they shared a busy machine."""
    columns = ("experiment", "target", "threshold", "arm", "reached", "steps to threshold, median [95 %]")
    lines = [f"| {' | '.join(columns)} | final score (IQM) |", f"|{'---|' * 7}"]
    for name, facts in ((name, committed(name)) for name in FAMILIES):
        for target, entry in (saved.upgraded(facts["report"])["targets"] if facts else {}).items():
            rows = [row for arm, found in entry["arms"].items() for row in _rows(arm, found, entry)]
            for at, arm, reached, steps, _, _, final in rows:
                cells = (f"[{name}]({name}.png)", target, at, arm, reached, steps, final)
                lines += [f"| {' | '.join(cells)} |"]
    return "\n".join(lines)


def shown() -> str:
    """The README's table: the pair of `PAIR` in the experiments of `SHOWN`, made from their committed JSONs."""
    columns = ("experiment", "target", "threshold", "pretrained: steps [95 %]", "from scratch", "times fewer [95 %]")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, section in SHOWN.items():
        facts = committed(name)
        for target, entry in (saved.upgraded(facts["report"])["targets"] if facts else {}).items():
            if not all(arm in entry["arms"] for arm in PAIR):
                continue
            for ours, base in zip(*(_rows(arm, entry["arms"][arm], entry) for arm in PAIR), strict=True):
                (at, _, reached, steps, _, speedup, _), (_, _, others, scratch, *_) = ours, base
                cells = (f"[`{name}`](docs/results/README.md#{section})", target, at,
                         *(f"{found}; {n.replace(' ', '')}" for found, n in ((steps, reached), (scratch, others))),
                         speedup)  # fmt: skip
                lines += [f"| {' | '.join(cells)} |"]
    return "\n".join(lines)


def committed(name: str) -> dict | None:
    """The committed NAME.json, or None."""
    path = ROOT / "docs" / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def put(text: str, name: str, content: str, kind: str = "results") -> str:
    """`text` with the block NAME of this kind replaced by `content`. SystemExit: `text` has no such block."""
    start, end = f"<!-- {kind}:{name} -->", f"<!-- /{kind}:{name} -->"
    if start not in text or end not in text:
        raise SystemExit(f"the page has no block {start} ... {end}")
    return text[: text.index(start) + len(start)] + f"\n{content}\n" + text[text.index(end) :]


def main(folder: Path, target: Path, results: Path = RESULTS, readme: Path = README) -> None:
    """Write TARGET.json, TARGET.png, its block or the table of families in `results`, and the table in `readme`."""
    facts, image = facts_of(folder, target.name), target.with_suffix(".png")
    target.parent.mkdir(parents=True, exist_ok=True)
    picture(folder).save(image, optimize=True)
    facts["picture_sha256"] = hashlib.sha256(image.read_bytes()).hexdigest()
    target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    name, content = ("families", families()) if target.name in FAMILIES else (target.name, block(target.name, facts))
    results.write_text(put(results.read_text(), name, content))
    if target.name in SHOWN:
        readme.write_text(put(readme.read_text(), "shown", shown()))
    print(f"{target.with_suffix('.json')}, {image} and what is made of them")


def write_blocks(results: Path = RESULTS, readme: Path = README) -> None:
    """Write all blocks of `results` and `readme` anew from the committed JSONs, in the words that are used now."""
    text = put(results.read_text(), "families", families())
    for name in (*SHOWN, *BESIDE):
        text = put(text, name, block(name, committed(name)))
    results.write_text(text)
    readme.write_text(put(readme.read_text(), "shown", shown()))
    print(f"{results} and {readme}")


if __name__ == "__main__":
    if len(sys.argv) > 3:
        raise SystemExit(__doc__)
    if len(sys.argv) == 1:
        write_blocks()
        raise SystemExit
    source = Path(sys.argv[1])
    main(source, Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS.parent / source.name)
