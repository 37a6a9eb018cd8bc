"""The measured numbers as tables of docs/peers.md."""

from __future__ import annotations

import re

BLOCK = re.compile(r"(<!-- peers:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A table; the word says which."""

BOUNDS = {
    "checkpoint": "a checkpoint of `keypoints_rssm` at 64x64 with the moments of its optimisers, {megabytes} MB: "
    "{seconds} s until it is on the disk (at most {highest_seconds} s), of which {cpu_seconds} s of CPU time",
    "logging": "the records of an evaluation: {milliseconds} ms beside {training_milliseconds} ms of the demo's "
    "updates between two of them, {share:.2%} of both",
    "report": "a report over {runs:,} runs of {points:,} points: {cpu_seconds} s of CPU time ({seconds} s by the "
    "clock), {megabytes} MB",
}
"""Name -> what was found."""


def filled(page: str, result: dict) -> str:
    """The page with its tables made from `result`, what `benchmarks/peers` wrote."""
    made = {"timing": timings(result), "limits": limits(result), "origin": origin(result)}
    return BLOCK.sub(lambda match: match[1] + made[match[2]] + match[3], page)


def timings(result: dict) -> str:
    """A row per contestant."""
    rows = ["| subject | contestant | parameters | ms | over ours [lowest, highest] |", "|---|---|---|---|---|"]
    for subject, found in result["subjects"].items():
        for place, (name, row) in enumerate(found["contestants"].items()):
            count = result["parameters"].get(name) if ":" not in subject and subject != "replay" else None
            size = f"{count / 1e6:.2f} M" if count else "–"
            times = f"{row['ratio']:.2f} [{row['lowest']:.2f}, {row['highest']:.2f}]" if place else "1"
            rows.append(f"| {subject} | {name} | {size} | {row['milliseconds']:.4g} | {times} |")
    return "\n".join(rows) + "\n"


def limits(result: dict) -> str:
    """A line per bound."""
    return "".join(f"- {BOUNDS[name].format(**found)}\n" for name, found in result["limits"].items())


def origin(result: dict) -> str:
    """Machine and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    rounds = {str(found["rounds"]) for found in result["subjects"].values()}
    return f"{result['machine']}, one thread, rounds: {'/'.join(sorted(rounds))}; {versions}.\n"
