"""What a report says first: one sentence of what is known, and a headline per target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from meta_latent.experiment.report.reading.arms import primary_pair, uses_pretraining
from meta_latent.experiment.report.statistics.numbers import level
from meta_latent.experiment.report.words import text
from meta_latent.experiment.report.words.text import CLOCKS
from meta_latent.ops import learning_speed as ls


def listed(parts: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def unreached(report: dict[str, Any]) -> bool:
    """Whether there are thresholds, and no run of any arm reached any of them."""
    asked = [entry["reached"] for target in report["targets"].values() for entry in target["arms"].values()]
    return any(asked) and not any(count for reached in asked for count in reached.values())


def at_first(entry: dict[str, Any], at: str) -> list[bool]:
    """Per run of an arm whether it held threshold ``at`` from its first evaluation on; older reports did not say."""
    return entry.get("at_first_evaluation", {}).get(at, [])


def sentence(report: dict[str, Any]) -> str:
    """What is known, and no more."""
    targets = report["targets"]
    if not any(target["thresholds"] for target in targets.values()):
        return _without_threshold(targets) if targets else "Nothing was learned here yet."
    if unreached(report):
        levels = sorted({at for target in targets.values() for at in target["thresholds"]})
        goal = f"the threshold {' or '.join(map(text.threshold, levels))}"
        open_runs = _unfinished(entry for target in targets.values() for entry in target["arms"].values())
        return f"No run has reached {goal} yet; {open_runs}." if open_runs else f"No arm reached {goal}."
    if report["primary_pair"]:
        return _of_pair(report, *report["primary_pair"])
    return " ".join(_of_target(name, target) for name, target in targets.items() if target["thresholds"])


def _without_threshold(targets: dict[str, Any]) -> str:
    raw = {name: found for name, target in targets.items() if (found := target.get("uncounted_thresholds"))}
    if not raw:
        return "No threshold is set; what each arm scored stands below."
    levels = ", ".join(map(text.threshold, sorted({at for found in raw.values() for at in found})))
    names = [f"transfer.targets.{name}.thresholds" for name in raw]
    return (f"Thresholds [{levels}] do not count: scores are raw returns; {listed(names)} "
            f"{'set' if len(names) > 1 else 'sets'} raw ones. What each arm scored stands below.")  # fmt: skip


def _of_pair(report: dict[str, Any], arm: str, base: str) -> str:
    asked = {n: t for n, t in report["targets"].items() if {arm, base} <= set(t["arms"]) and t["thresholds"]}
    claims = {n: t["arms"][arm]["speedup"][level(t["thresholds"][0])][base] for n, t in asked.items()}
    faster = [n for n, claim in claims.items() if claim["ratio"] and claim["ratio"] > 1]
    sure = [n for n in faster if claims[n]["interval"] and (claims[n]["interval"][0] or 0) > 1]
    place, unit = _goal(asked, 0)
    if said := open_question(report, arm, base):
        return said
    so_far = "So far, " * _is_open(report, asked, (arm, base))
    if not faster and any(claim["ratio"] is None and not _arrived(asked[n]["arms"][base], asked[n], 0)
                          for n, claim in claims.items()):  # fmt: skip
        known = f"n no target {arm} is known to reach {place} in fewer {unit} than {base}"
        return f"{so_far}{'o' if so_far else 'O'}{known}."
    if not faster:
        anywhere = "" if len(asked) == 1 else " on any target"
        return f"{so_far}{arm} did not reach {place} in fewer {unit} than {base}{anywhere}."
    where = f" on {listed(faster)}" if len(faster) == len(asked) < 3 else f" on {len(faster)} of {len(asked)} targets"
    at_once, chance = _at_once(asked, arm, faster), _chance(len(sure), len(faster))
    more = at_once + chance if len(asked) == 1 else chance + at_once  # of several targets, each clause names its own
    return f"{so_far}{arm} reached {place} in fewer {unit} than {base}{where}{more}."


def _goal(targets: dict[str, Any], number: int) -> tuple[str, str]:
    """'score 0.5' for threshold number ``number`` of the targets, and the unit that they count in."""
    levels = {target["thresholds"][number] for target in targets.values()}
    units = {CLOCKS[target["clock"]] for target in targets.values()}
    place = f"score {text.threshold(levels.pop())}" if len(levels) == 1 else "each target’s threshold"
    return place, units.pop() if len(units) == 1 else "steps"


def open_question(report: dict[str, Any], arm: str, base: str, number: int = 0) -> str:
    """A sentence that nothing is known of which of two arms is faster to threshold number ``number``, and why; "" where
    something is.
    """
    asked = {n: t for n, t in report["targets"].items()
             if {arm, base} <= set(t["arms"]) and number < len(t["thresholds"])}  # fmt: skip
    claims = [t["arms"][arm]["speedup"][level(t["thresholds"][number])][base] for t in asked.values()]
    if not asked or any(claim["ratio"] and claim["ratio"] > 1 for claim in claims):
        return ""
    place, unit = _goal(asked, number)
    question, reasons = f"hether {arm} reaches {place} in fewer {unit} than {base}", {c["reason"] for c in claims}
    open_runs = _unfinished(t["arms"][one] for t in asked.values() for one in (arm, base))
    if ls.UNFINISHED in reasons and open_runs:
        return f"W{question} is not known yet: {open_runs}."
    if ls.AT_FIRST in reasons:
        return f"W{question} is not known: {base} was there at its first evaluation."
    if any(_arrived(t["arms"][one], t, number) for t in asked.values() for one in (arm, base)):
        return ""
    so_far = "So far, w" if _is_open(report, asked, (arm, base)) else "W"
    return f"{so_far}{question} is not known: the median run of neither did."


def _at_once(targets: dict[str, Any], arm: str, faster: Sequence[str]) -> str:
    """On which of the targets on which ``arm`` was faster its median run was there at its first evaluation."""
    medians = {n: targets[n]["arms"][arm]["medians"]["steps_to_thresholds"] for n in faster}
    found = [n for n in faster if _bounded(medians[n][level(targets[n]["thresholds"][0])])]
    if len(targets) == 1:
        return ", and held it from its first evaluation on" * bool(found)
    return f"; on {listed(found)} {arm} held it from its first evaluation on" if found else ""


def _arrived(entry: dict[str, Any], target: dict[str, Any], number: int) -> bool:
    """Whether the median run of an arm reached the target's threshold number ``number``."""
    return entry["medians"]["steps_to_thresholds"][level(target["thresholds"][number])][1] is not None


def _bounded(median: Sequence[float | None]) -> bool:
    """Whether a median is known from above only."""
    low, high = median
    return bool(high and not low)


def _is_open(report: dict[str, Any], targets: Iterable[str], arms: Sequence[str]) -> bool:
    """Whether runs of these arms on these targets are still to come, or to finish."""
    return any(c["status"] != "done" for c in report["cells"] if c["target"] in targets and c["arm"] in arms)


def _chance(sure: int, faster: int) -> str:
    """What the intervals say of ``faster`` gains, of which they hold up ``sure``."""
    if sure == faster:
        return ""
    if sure:
        return f"; on {sure} of these more clearly than chance explains"
    return f"; {'on each of these ' * (faster > 1)}chance could explain the difference"


def _unfinished(entries: Iterable[dict[str, Any]]) -> str:
    """'2 of 5 evaluated runs are unfinished'; "" where none is. Cells that have not begun are `summary.standing`'s."""
    cut = [one for entry in entries for one in entry.get("unfinished", ())]  # reports of before did not say
    return f"{sum(cut)} of {len(cut)} evaluated runs {'is' if sum(cut) == 1 else 'are'} unfinished" if any(cut) else ""


def _ranked(target: dict[str, Any], at: str) -> list[tuple[Sequence[float | None], str]]:
    """(bounds of the median steps to threshold ``at``, arm) of the arms whose median run reached it, the fastest
    first.
    """
    found = [(entry["medians"]["steps_to_thresholds"][at], arm) for arm, entry in target["arms"].items()]
    return sorted((one for one in found if one[0][1] is not None), key=lambda one: (one[0][1], one[0][0] or 0, one[1]))


def _later(median: Sequence[float | None], than: Sequence[float | None]) -> bool:
    """Whether all that is known of one median is later than another at its latest."""
    return (median[0] or 0) > than[1]


def _when(median: Sequence[float | None], unit: str = "") -> str:
    """'after 300 updates', 'after 100 to 150 updates', 'at or before 100 updates, the first evaluation'."""
    if _bounded(median):
        return f"at or before {text.count(median[1])} {unit}".rstrip() + ", the first evaluation"
    return f"after {text.median(median)} {unit}".rstrip()


def _of_target(name: str, target: dict[str, Any]) -> str:
    at, unit = target["thresholds"][0], CLOCKS[target["clock"]]
    fastest, *rest = _ranked(target, level(at)) or [None]
    if fastest is None:
        open_runs = _unfinished(target["arms"].values())
        return f"On {name} no arm’s median run reached {text.threshold(at)}{open_runs and f'; {open_runs}'}."
    others = len(target["arms"]) - 1 - len(rest)
    median, arm = fastest
    said = f"On {name}, {arm} reached {text.threshold(at)} {_when(median, unit)}"
    if rest:
        median, arm = rest[0]
        said += f", {arm} {_when(median)}"
    more = len(rest) - 1
    later = " later" * all(_later(other, median) for other, _ in rest[1:])  # those at the same evaluation are not
    said += f" and {more} more arm{'s' * (more > 1)}{later}" if more > 0 else ""
    open_runs = _unfinished(target["arms"].values())
    missed = f"; {others} did not{' yet' * bool(open_runs)}" if others else ""
    return f"{said}{missed}{open_runs and f'; {open_runs}'}."


def headlines(report: dict[str, Any], styles: dict[str, int]) -> list[dict[str, Any]]:
    """Per target that has a threshold what stands large at the top: ``value``, what it is of (``phrase``), its
    ``detail``, and further lines (``more``).
    """
    found = []
    for name, target in report["targets"].items():
        if not target["thresholds"]:
            continue
        pair = _pair(report, target)
        card = _claimed(report, target, *pair) if pair else _fastest(target)
        style = styles[card.pop("arm")] if card.get("arm") else None
        found.append(card | {"target": name, "style": style})
    return found


def _pair(report: dict[str, Any], target: dict[str, Any]) -> tuple[str, str] | None:
    """The report's pair of arms, or, where a target has other ones, the one that is compared there."""
    arms, pair = target["arms"], report["primary_pair"]
    if pair and set(pair) <= set(arms):
        return tuple(pair)
    own = {arm: (entry["base"],) for arm, entry in arms.items() if entry.get("base") in arms}
    return primary_pair(own, {arm: len(entry["seeds"]) for arm, entry in arms.items()})


def _claimed(report: dict[str, Any], target: dict[str, Any], arm: str, base: str) -> dict[str, Any]:
    entry, first, unit = target["arms"][arm], target["thresholds"][0], CLOCKS[target["clock"]]
    goal = f"score {text.threshold(first)}"
    if not entry["reached"][level(first)] and not target["arms"][base]["reached"][level(first)]:
        detail = _unfinished((entry, target["arms"][base]))
        return {"value": "not reached" + " yet" * bool(detail), "small": True, "detail": detail, "more": [],
                "phrase": f"{goal}, by neither {arm} nor {base}", "arm": arm}  # fmt: skip
    claim, in_time = (entry[key][level(first)][base] for key in ("speedup", "speedup_seconds"))
    value, detail = text.claim(claim)
    settled = value not in (text.UNSETTLED, "unknown")
    slower = claim["ratio"] is not None and claim["ratio"] <= 1
    verb = "the speed of" if slower else "faster than"
    phrase = f"{verb} {base} to {goal}, in {unit}" if settled else f"{arm} against {base}, to {goal}"
    cpu = entry.get("speedup_cpu_seconds", {}).get(level(first), {}).get(base)  # older runs did not record it
    own, more = entry["medians"]["steps_to_thresholds"][level(first)], []
    if _bounded(own):
        more.append(f"{arm} was there {_when(own, unit)}")
    more += [f"in time: {text.claim(in_time)[0]}" + (f"; in CPU time: {text.claim(cpu)[0]}" if cpu else "")]
    for at in target["thresholds"][1:]:
        more.append(f"to {text.threshold(at)}: {text.claim(entry['speedup'][level(at)][base])[0]}")
    if report["pretraining"] and uses_pretraining(arm) and settled:
        paid = paid_back(claim, in_time, report["pretraining"], target["clock"])
        if paid or not text.unsettled(in_time):
            more.append("pretraining paid back after " + ", ".join(paid) if paid else "pretraining not paid back")
    return {"value": value, "small": not settled, "phrase": phrase, "detail": detail, "more": more, "arm": arm}


def paid_back(claim: dict[str, Any], in_time: dict[str, Any], cost: dict[str, Any], clock: str) -> list[str]:
    """After how many such targets pretraining is paid, in steps (where they are environment steps) and in time, as far
    as that is settled.
    """
    found = []
    for part, saved, price, unit in ((claim, "saved_steps", cost["env_steps"], "steps"),
                                     (in_time, "saved_seconds", cost["seconds"], "time")):  # fmt: skip
        if text.unsettled(part) or (unit == "steps" and clock != "env_steps"):
            continue
        if part.get(saved) and part[saved] > 0:
            most = "≤ " if part["lower_bound"] else ""
            count = math.ceil(price / part[saved])
            noun = "" if found else f" target{'s' * (count != 1)}"
            found.append(f"{most}{count:,}{noun} in {unit}")
    return found


def unsettled(targets: dict[str, Any], arm: str, base: str | None, place: int, key: str = "speedup") -> bool:
    """Whether on any target ``arm``'s ratio to ``base`` at its threshold number ``place`` is unsettled."""
    shared = [t for t in targets.values() if {arm, base} <= set(t["arms"]) and place < len(t["thresholds"])]
    return any(text.unsettled(t["arms"][arm][key][level(t["thresholds"][place])][base]) for t in shared)


def _fastest(target: dict[str, Any]) -> dict[str, Any]:
    first, unit = target["thresholds"][0], CLOCKS[target["clock"]]
    ranked = _ranked(target, level(first))
    if not ranked:
        phrase = f"score {text.threshold(first)}, by the median run of any arm"
        detail = _unfinished(target["arms"].values())
        value = "not reached" + " yet" * bool(detail)
        return {"value": value, "small": True, "phrase": phrase, "detail": detail, "more": [], "arm": ""}
    median, arm = ranked[0]
    interval = target["arms"][arm]["intervals"]["steps_to_thresholds"][level(first)]
    detail = f"95 %: {text.interval(interval, text.count)}" if interval else ""
    count, ties = len(target["arms"]), [other for taken, other in ranked if taken == median]
    sure = all(_later(taken, median) for taken, _ in ranked[1:])
    rank = "" if count == 1 else f", the first of {count} arms" if sure else f" of {count} arms"
    more = [f"{other} {_when(taken)}" for taken, other in ranked if taken != median][:3]
    phrase = f"{unit} to score {text.threshold(first)}: {listed(ties)}{rank}"
    if _bounded(median):
        phrase += "; the first evaluation held it already"
    return {"value": text.median(median), "small": False, "phrase": phrase, "detail": detail, "more": more, "arm": arm}
