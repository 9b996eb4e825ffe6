"""The single lines of a digest's words: a parameter, a trial, an effect, a curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.agent import digest_stats
from tunewright.agent.digest_history import place
from tunewright.agent.digest_words import MAX_CHOICE, MAX_NAME, bound, cut, expression, number, pairs, safe, value_text
from tunewright.agent.digest_words import name as name_text
from tunewright.agent.records import Curve, TrialRecord
from tunewright.engines.space import Space
from tunewright.prompts.text import condition_text

WIDE = 100  # from the low to the high end, as a factor
MAX_CHOICES = 12
MAX_CELLS, MAX_CELLS_TEXT = 12, 350  # parameters in which a trial is compared with the best one, and their characters

Facts = Mapping[str, Any]


def parameter_line(name: str, p: Facts) -> str:
    if p["type"] == "derived":
        return f"- {name_text(name)} = {expression(p['expression'])} (computed, never part of an answer)"
    if p["type"] == "categorical":
        shown = [value_text(c) for c in p["choices"][:MAX_CHOICES]]
        more = len(p["choices"]) - len(shown)
        words = ["one of " + ", ".join(shown) + (f" and {more} more" if more else "")]
    else:
        words = [f"{p['type']} {bound(p['low'], up=True)} to {bound(p['high'], up=False)}"]
        words += ["log scale"] if p.get("log") else ["linear scale"] if _wide(p) else []
        words += [f"step {number(p['step'])}"] if "step" in p else []
    if "default" in p:
        words.append(f"default {value_text(p['default'])}")
    if "when" in p:
        words.append(f"only when {expression(condition_text(p['when']))}")
    return f"- {name_text(name)}: {', '.join(words)}"


def _wide(parameter: Facts) -> bool:
    """Whether one would think in factors where the scale is linear."""
    return 0 < parameter["low"] * WIDE <= parameter["high"]


def head(row: Facts, facts: Facts) -> str:
    if row["values"] is not None and len(row["values"]) > 1:
        names = [name_text(o["name"]) for o in facts["objectives"]]
        value = ", ".join(f"{n} {number(v)}" for n, v in zip(names, row["values"], strict=True))
    else:
        value = f"{name_text(facts['objectives'][0]['name'])} {number(row['value'])}"
    advised = "yours" if facts["wanted"] else "advised"
    tags = [] if row["source"] == "engine" else [advised if row["source"] == "advisor" else row["source"]]
    if row["fidelity"] is not None and (row["partial"] or facts["fidelity"]):
        unit = name_text(facts["fidelity"]["name"]) if facts["fidelity"] else "fidelity"
        tags.append(f"{unit} {row['fidelity']}")
    tags += ["stopped early"] if row["state"] == "stopped" else []
    tags += ["Pareto"] if row.get("pareto") else []
    return f"#{row['number']} {value}" + (f" ({', '.join(tags)})" if tags else "")


def rows(shown: Sequence[Facts], base: Facts, order: Sequence[str], facts: Facts) -> dict[int, str]:
    """By trial number. A configuration is spelt out once."""
    seen: dict[str, int] = {}
    out = {}
    for row in shown:
        first = seen.setdefault(repr(sorted(row["params"].items())), row["number"])
        made = "".join(f"; {label} {number(value, 2)}" for label, value in row["products"].items())
        differs = cells(row, base, order) + made if first == row["number"] else f"the same as #{first}"
        out[row["number"]] = f"{head(row, facts)}: {differs}"
    return out


def cells(row: Facts, base: Facts, order: Sequence[str], most: int = MAX_CELLS, size: int = MAX_CELLS_TEXT) -> str:
    """What differs from the best trial, the strongest effects first, at most `most` parameters."""
    differing = [n for n, v in row["params"].items() if n not in base or value_text(base[n]) != value_text(v)]
    if not differing:
        return "the same configuration" if base else pairs(row["params"].items())
    rank = {name: i for i, name in enumerate(order)}
    shown = set(sorted(differing, key=lambda n: rank.get(n, len(rank)))[:most])
    text, left = "", 0
    for name in differing:
        one = cell(name, row["params"][name], row)
        if name not in shown or len(text) + len(one) > size:
            left += 1
        else:
            text += (", " if text else "") + one
    return text + (f" and {left} more" if left else "")


def cell(name: str, value: Any, row: Facts) -> str:
    place = f" {100 * row['unit'][name]:.0f}%" if name in row["unit"] else ""
    if end := row["at_bound"].get(name):
        place = " (min)" if end == "low" else " (max)"
    return f"{name_text(name)}={value_text(value)}{place}"


def failure_line(row: Facts, base: Facts, order: Sequence[str]) -> str:
    times = f"{row['same_reason']} times, last " if row["same_reason"] > 1 else ""
    line = f'- "{safe(row["error"], 120)}" ({times}#{row["number"]}): {cells(row, base, order)}'
    return line + "".join(
        f"; all at {range_words(c)}, where {c['good']} of {c['of']} good trials are" for c in row["common"]
    )


def range_words(entry: Facts) -> str:
    low, high = value_text(entry["low"]), value_text(entry["high"])
    return f"{name_text(entry['name'])}={low}" if low == high else f"{name_text(entry['name'])} {low} to {high}"


def beyond_chance(effect: Facts) -> bool:
    return _leans(effect) or bool(effect["strength"] > 2 * effect["chance"])


def _leans(effect: Facts) -> bool:
    return effect["trend"] is not None and bool(abs(effect["trend"]) > 2 * effect["error"])


def effect_line(effect: Facts) -> str:
    trend = f"trend {effect['trend']:+.2f}±{effect['error']:.2f}; " if _leans(effect) else ""
    groups = [f"{safe(g['label'], MAX_CHOICE)}: {g['rank']}±{g['error']} ({g['n']})" for g in _several(effect)[:8]]
    once = [safe(g["label"], MAX_CHOICE) for g in effect["groups"] if g["n"] == 1]
    groups += [f"tried once: {' and '.join(once[:4])}"] if once else []
    return f"- {name_text(effect['name'])}: {trend}{', '.join(groups)}"


def compared(effect: Facts) -> bool:
    """Whether there is anything to tell from: trials at several places, more than one at each."""
    return len(_several(effect)) > 1


def _several(effect: Facts) -> list[Facts]:
    return [group for group in effect["groups"] if group["n"] > 1]  # one trial is no evidence for its whole group


def untested_line(entry: Facts) -> str:
    if "values" in entry:
        return f"- {name_text(entry['name'])}: {', '.join(value_text(v) for v in entry['values'][:8])}"
    share = f"{100 * entry['share']:.0f}% of its range"
    return f"- {name_text(entry['name'])} between {value_text(entry['low'])} and {value_text(entry['high'])} ({share})"


def favoured_line(entry: Facts, untried: Sequence[Any]) -> str:
    """`untried`: values of the parameter that no trial has."""
    if "values" in entry:
        shares = ", ".join(
            f"{value_text(value)} {100 * share:.0f}%" + (" (never tried)" if value in untried else "")
            for value, share in entry["values"][:6]
        )
        return f"- {name_text(entry['name'])}: {shares}"
    return f"- {range_words(entry)}"


def rejected_line(entry: Facts, base: Facts) -> str:
    changed = [(n, v) for n, v in entry["params"].items() if n not in base or value_text(base[n]) != value_text(v)]
    line = f"- {cut(pairs(changed) or 'no parameters', 110)}: {safe(entry['reason'], 200)}"
    again = "; it may come again" if entry["again"] else ""
    if entry["expected"] is None:
        return line + again
    mean, std = entry["expected"]
    worse = ", clearly worse than the best" if entry["worse"] else ""
    return f"{line} (now the model expects {number(mean)} of it, ± {number(std, 2)}{worse}){again}"


def curve_lines(facts: Facts) -> list[str]:
    lines = [f"- #{d['number']}: {cut(d['text'], 60)}" for d in facts["diagnoses"]]
    for curve in facts["curves"]:
        points = " ".join(f"{step:g}:{'nan' if value is None else number(value, 3)}" for step, value in curve["points"])
        lines.append(f"- #{curve['number']} {safe(curve['metric'], MAX_NAME)} {points}")
    return lines


def curve_line(number: int, curve: Curve, most: int) -> str:
    """A curve's ends and points between, for a reader."""
    n = len(curve.steps)
    picked = range(n) if n <= most else sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})
    points = " ".join(f"{curve.steps[i]:g}:{number_text(curve.values[i])}" for i in picked)
    return f"- #{number} {safe(curve.metric, MAX_NAME)} {points}"


def number_text(value: float) -> str:
    return number(value, 3) if math.isfinite(value) else str(value)


def trial_line(record: TrialRecord, facts: Facts) -> str:
    """All of a trial's parameters, with what they make up together."""
    space = Space.from_dict(facts["space"])
    values = cells(place(space, space.free(record.params)), {}, (), 24, 900)
    made = ((q.name, q.compute(record.params)) for q in digest_stats.quantities(space.names))
    return values + "".join(f"; {label} {number(value, 2)}" for label, value in made if value is not None)
