"""The words of a digest: a part that stays byte for byte the same over a study, and a part that changes.

Everything that people, files and programs wrote goes through `digest_words`, and the whole stays under a number of
tokens however long the study: each section asks for room in the order of its worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunewright.agent import digest_stats, digest_words
from tunewright.agent.digest import place
from tunewright.agent.digest_words import MAX_CHOICE, MAX_NAME, bound, cut, expression, number, pairs, safe, value_text
from tunewright.agent.digest_words import name as name_text
from tunewright.agent.records import Curve, TrialRecord
from tunewright.engines.space import Space
from tunewright.prompts.text import condition_text

WIDE = 100  # from the low to the high end, as a factor
MAX_TOKENS = 2_900  # of both parts
MAX_STUDY = 1_250
MAX_CHOICES = 12
MAX_CELLS, MAX_CELLS_TEXT = 12, 350  # parameters in which a trial is compared with the best one, and their characters
FIRST_ROWS = 6

Facts = Mapping[str, Any]


def render(facts: Facts, most: int = MAX_TOKENS) -> tuple[str, str]:
    """(study, history): at most `most` tokens together, whatever the facts hold. `wanted` 0 asks for no candidates,
    and whoever reads is then nobody's advisor."""
    study = _study(facts)
    room = _Room(most - digest_words.tokens(study) - 110)  # for titles, tags and the request itself
    return study, f"<data>\n{_history(facts, room)}\n</data>\n{_request(facts)}".rstrip()


class _Room:
    """Hands out space line by line: what does not fit is left out, so the order of asking is the order of worth."""

    def __init__(self, size: int):
        self.left = size

    def take(self, lines: Iterable[str], most: int, title: str | None = None) -> list[str]:
        """The first lines that fit in `most` tokens and in what is left; nothing when none fits under the title."""
        out = [title] if title else []
        used = _size(title) if title else 0
        for line in lines:
            if used + (size := _size(line)) > min(most, self.left):
                break
            used += size
            out.append(line)
        if title and len(out) == 1:
            return []
        self.left -= used
        return out


def _size(line: str) -> int:
    return digest_words.tokens(line) + 1


# ------------------------------------------------------------------------------------------------ the study


def _study(facts: Facts) -> str:
    room = _Room(MAX_STUDY)
    space = facts["space"]["parameters"]
    goals = " and ".join(f"{o['direction']} {name_text(o['name'])}" for o in facts["objectives"])
    lines = room.take([f"Objective: {goals}."], 200)
    if task := facts["task"]:
        lines += room.take([f"Task, in the user's words: {cut(task, 300)}"], 320)
    if data := facts["data"]:
        told = ", ".join(f"{name_text(n.replace('_', ' '))} {value_text(v)}" for n, v in data.items())
        lines += room.take([f"Data, as the user states: {cut(told, 150)}."], 170)
    if fidelity := facts["fidelity"]:
        trained = f"{fidelity['low']} to {fidelity['high']} {name_text(fidelity['name'])}"
        lines += room.take([f"A trial is trained for {trained}."], 60)
    listed = room.take((_parameter(n, p) for n, p in space.items()), room.left - 120, "Parameters:")
    lines += listed
    if (missing := len(space) - max(0, len(listed) - 1)) > 0:
        lines += room.take([f"- and {missing} more, with their ranges in the answer's schema"], 30)
    constraints = (f"- {expression(text)}" for text in facts["space"]["constraints"])
    lines += room.take(constraints, 150, "Constraints:")
    return "\n".join(["<data>", *lines, "</data>"])


def _parameter(name: str, p: Facts) -> str:
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


# ------------------------------------------------------------------------------------------------ the history


def _history(facts: Facts, room: _Room) -> str:
    best, order = facts["best"], [e["name"] for e in facts["effects"]]
    good = [
        row for row in facts["trials"] if row["state"] != "failed" and (best is None or row["number"] != best["number"])
    ]
    first = sorted(good, key=lambda row: ("best", "recent", "diverse").index(row["shown_as"]))[:FIRST_ROWS]
    rest = [row for row in sorted(good, key=lambda row: row["shown_as"] != "diverse") if row not in first]
    base = best["params"] if best else {}
    said = _rows(good, base, order, facts)

    head = room.take(_state(facts), 360)
    top = _top(room, best, facts) if best else []
    engine = _engine(room, facts)
    rejected = room.take((_rejected(r, base) for r in facts["rejected"]), 250, TURNED_DOWN)
    notes = room.take((f"- {cut(note, 70)}" for note in facts["notes"]), 220, "Notes:")
    kept = _fitting(room, first, said)
    failed = room.take(
        (_failure(row, base, order) for row in facts["trials"] if row["state"] == "failed"), 330, "Failures, by reason:"
    )
    failing = room.take((f"- {expression(words)}" for words in facts["failing"]), 150, FAILING)
    effects = _effects(room, facts["effects"])
    curves = room.take(_curves(facts), 330, "Curves, as step:value:")
    kept |= _fitting(room, rest, said)
    untested = room.take(map(_untested, facts["untested"]), 200, "Never tried:")
    running = room.take(
        (f"- #{r['number']} {_cells(r, base, order)}" for r in facts["running"]), 200, "Now running, result unknown:"
    )
    rows = [said[row["number"]] for row in good if row["number"] in kept]
    table = []
    if rows and best:
        late = ", those with less training last" if any(r["partial"] for r in good) and not best["partial"] else ""
        sampled = _sampled(facts, len(rows))
        table = [f"Other trials, best first{late}{sampled}. Only what differs from #{best['number']}:", *rows]
    parts = [head, top, table, failed, failing, running, curves, effects, untested, notes, rejected, engine]
    return "\n\n".join("\n".join(part) for part in parts if part)


EFFECTS = (
    "Effects seen, strongest first: mean rank (0 best, 100 worst) ± its error by value or part of the range, trials in "
    "brackets; trend is the rank correlation with the loss (+: larger is worse) ± what chance alone gives. Trials were "
    "not spread evenly, so these are hints."
)
TWO_RUNS = 1.96 * math.sqrt(2)  # standard deviations that two equal runs differ by in 95 of 100 cases
FAILING = "Where trials fail far more often than elsewhere (candidates there are turned down):"
TURNED_DOWN = "Your last candidates that were turned down (what they changed in the best trial: why):"


def _fitting(room: _Room, rows: Sequence[Facts], said: Mapping[int, str]) -> set[int]:
    return {row["number"] for row in rows if room.take([said[row["number"]]], 260)}


def _sampled(facts: Facts, rows: int) -> str:
    others = facts["n_trials"] - facts["failed"] - 1
    return f" ({rows} of {others})" if others > rows else ""


def _state(facts: Facts) -> list[str]:
    n, failed, left = facts["n_trials"], facts["failed"], facts["budget_left"]
    metric = name_text(facts["objectives"][0]["name"])
    words = [
        f"{n} trial{'s' * (n > 1)} finished" + (f", {failed} of them failed" if failed else "")
        if n
        else "No trial has finished yet"
    ]
    if left is not None:
        words.append(f"{left} left")
    if facts["since_best"] and facts["since_best"] > 2:
        words.append(f"none of the last {facts['since_best']} improved on the best")
    lines = ["; ".join(words) + "."]
    if told := facts["advised"]:
        failures = f", {told['failed']} failed" if told["failed"] else ""
        whose = "your" if facts["wanted"] else "the advisor's"
        tried = "1 was tried" if told["tried"] == 1 else f"{told['tried']} were tried"
        lines.append(f"Of {whose} candidates {tried}{failures}; {told['improved']} beat all trials before.")
    if facts["default_value"] is not None:
        reached = f"reached {metric} {number(facts['default_value'])}"
        lines.append(f"The starting configuration (#0: defaults, the middle where there is none) {reached}.")
    elif facts["default"] and not n:
        lines.append(f"Default configuration, not measured: {cut(pairs(facts['default'].items()), 200)}")
    lines += _noise(facts) if n else []
    if n or facts["engine"]:
        lines.append(
            "A percentage is the position in the parameter's range, on its own scale; (min) and (max) are its ends."
        )
    for quantity in facts["quantities"] if n else ():
        lines.append(f"{quantity['name']} below is {expression(quantity['formula'])}.")
    if n and any("when" in p for p in facts["space"]["parameters"].values()):
        lines.append("A parameter that is not listed with a trial has the best trial's value where it is active.")
    return lines


def _noise(facts: Facts) -> list[str]:
    noise, tied = facts["noise"], facts["ties"]
    if noise and noise["repeats"]:
        words = f"Noise: repeats of a configuration differ by {number(noise['std'], 2)} (std, from {noise['repeats']})."
    elif noise:
        words = f"Noise: {number(noise['std'], 2)} (std), by a model of the trials; no configuration was repeated."
    else:
        words = "Noise: not measured, no configuration was repeated."
    same = f" {tied} trials share the best value: the metric is coarse, or at its limit." if tied > 1 else ""
    if noise and facts["lead"] is not None and 0 < facts["lead"] <= TWO_RUNS * noise["std"]:
        same += f" The best is ahead of the next by {number(facts['lead'], 2)}: not better than the noise."
    return [words + same]


def _top(room: _Room, best: Facts, facts: Facts) -> list[str]:
    """The best trial with all its parameters, as far as they fit."""
    cells = [_cell(name, value, best) for name, value in best["params"].items()]
    wide = 6
    lines = ["  " + ", ".join(cells[i : i + wide]) for i in range(0, len(cells), wide)]
    title = f"Best{' by mean rank' if len(facts['objectives']) > 1 else ''}, {_head(best, facts)}:"
    kept = room.take(lines, 650, title)
    if (missing := len(cells) - wide * (len(kept) - 1)) > 0:
        kept += room.take([f"  and {missing} more"], 20)
    made = [f"{label} = {number(value, 3)}" for label, value in best["products"].items()]
    return kept + room.take([f"  ({', '.join(made)})"] if made else [], 60)


def _head(row: Facts, facts: Facts) -> str:
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


def _rows(rows: Sequence[Facts], base: Facts, order: Sequence[str], facts: Facts) -> dict[int, str]:
    """By trial number. A configuration is spelt out once."""
    seen: dict[str, int] = {}
    out = {}
    for row in rows:
        first = seen.setdefault(repr(sorted(row["params"].items())), row["number"])
        made = "".join(f"; {label} {number(value, 2)}" for label, value in row["products"].items())
        cells = _cells(row, base, order) + made if first == row["number"] else f"the same as #{first}"
        out[row["number"]] = f"{_head(row, facts)}: {cells}"
    return out


def _cells(row: Facts, base: Facts, order: Sequence[str], most: int = MAX_CELLS, size: int = MAX_CELLS_TEXT) -> str:
    """What differs from the best trial, the strongest effects first, at most `most` parameters."""
    differing = [n for n, v in row["params"].items() if n not in base or value_text(base[n]) != value_text(v)]
    if not differing:
        return "the same configuration" if base else pairs(row["params"].items())
    rank = {name: i for i, name in enumerate(order)}
    shown = set(sorted(differing, key=lambda n: rank.get(n, len(rank)))[:most])
    text, left = "", 0
    for name in differing:
        cell = _cell(name, row["params"][name], row)
        if name not in shown or len(text) + len(cell) > size:
            left += 1
        else:
            text += (", " if text else "") + cell
    return text + (f" and {left} more" if left else "")


def _cell(name: str, value: Any, row: Facts) -> str:
    place = f" {100 * row['unit'][name]:.0f}%" if name in row["unit"] else ""
    if end := row["at_bound"].get(name):
        place = " (min)" if end == "low" else " (max)"
    return f"{name_text(name)}={value_text(value)}{place}"


def _failure(row: Facts, base: Facts, order: Sequence[str]) -> str:
    times = f"{row['same_reason']} times, last " if row["same_reason"] > 1 else ""
    line = f'- "{safe(row["error"], 120)}" ({times}#{row["number"]}): {_cells(row, base, order)}'
    return line + "".join(
        f"; all at {_range(c)}, where {c['good']} of {c['of']} good trials are" for c in row["common"]
    )


def _range(entry: Facts) -> str:
    low, high = value_text(entry["low"]), value_text(entry["high"])
    return f"{name_text(entry['name'])}={low}" if low == high else f"{name_text(entry['name'])} {low} to {high}"


def _effects(room: _Room, found: Sequence[Facts]) -> list[str]:
    """Those that chance does not explain, then the names of the others."""
    clear = [effect for effect in found if _beyond_chance(effect)]
    lines = room.take(map(_effect, clear[:10]), 520, EFFECTS)
    if vague := [name_text(effect["name"]) for effect in found if effect not in clear]:
        lines += room.take([f"No effect beyond chance so far: {cut(', '.join(vague), 300)}."], 120)
    return lines


def _beyond_chance(effect: Facts) -> bool:
    leans = effect["trend"] is not None and abs(effect["trend"]) > 2 * effect["error"]
    return leans or bool(effect["strength"] > 2 * effect["chance"])


def _effect(effect: Facts) -> str:
    trend = f"trend {effect['trend']:+.2f}±{effect['error']:.2f}; " if effect["trend"] is not None else ""
    several = [g for g in effect["groups"] if g["n"] > 1]  # one trial is no evidence for its whole group
    groups = ", ".join(f"{safe(g['label'], MAX_CHOICE)}: {g['rank']}±{g['error']} ({g['n']})" for g in several[:8])
    return f"- {name_text(effect['name'])}: {trend}{groups or 'no value was tried twice'}"


def _untested(entry: Facts) -> str:
    if "values" in entry:
        return f"- {name_text(entry['name'])}: {', '.join(value_text(v) for v in entry['values'][:8])}"
    share = f"{100 * entry['share']:.0f}% of its range"
    return f"- {name_text(entry['name'])} between {value_text(entry['low'])} and {value_text(entry['high'])} ({share})"


def _curves(facts: Facts) -> list[str]:
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
    cells = _cells(place(space, space.free(record.params)), {}, (), 24, 900)
    made = ((q.name, q.compute(record.params)) for q in digest_stats.quantities(space.names))
    return cells + "".join(f"; {label} {number(value, 2)}" for label, value in made if value is not None)


def _engine(room: _Room, facts: Facts) -> list[str]:
    engine = facts["engine"]
    if engine is None or engine["params"] is None:
        return []
    how = " (spread over the space, it has no model yet)" if engine["startup"] else ""
    ends = "."
    if engine["mean"] is not None:
        spread = f" (uncertain by ± {number(engine['std'], 2)})" if engine["std"] is not None else ""
        ends = f". It expects {name_text(facts['objectives'][0]['name'])} {number(engine['mean'])} there{spread}."
    start = f"The engine, {safe(engine['name'], MAX_NAME)}, would try next{how}: "
    sizes = (900, MAX_CELLS_TEXT)  # all of it where names are short
    said = (start + _cells(engine, {}, (), 24, size) + ends for size in sizes)
    lines = next((kept for line in said if (kept := room.take([line], 420))), [])
    favoured = (_favoured(entry) for entry in engine["favoured"])
    return lines + room.take(
        favoured,
        220,
        "Where the best tenth of its own candidates lies, where that is narrow (its next point may lie elsewhere):",
    )


def _wide(parameter: Facts) -> bool:
    """Whether one would think in factors where the scale is linear."""
    return 0 < parameter["low"] * WIDE <= parameter["high"]


def _favoured(entry: Facts) -> str:
    if "values" in entry:
        shares = ", ".join(f"{value_text(value)} {100 * share:.0f}%" for value, share in entry["values"][:6])
        return f"- {name_text(entry['name'])}: {shares}"
    return f"- {_range(entry)}"


def _rejected(entry: Facts, base: Facts) -> str:
    changed = [(n, v) for n, v in entry["params"].items() if n not in base or base[n] != v]
    return f"- {cut(pairs(changed) or 'no parameters', 110)}: {safe(entry['reason'], 200)}"


def _request(facts: Facts) -> str:
    wanted = facts["wanted"]
    if not wanted:
        return ""
    fate = (
        "Each that passes the checks gets one of the first trials, in your order, not a point spread over the space."
        if facts["seeding"]
        else "At most one gets the next trial: the one that the engine's model rates highest, if it passes every check."
    )
    several = f"at most {wanted} candidates" + (
        ", the most promising first." if facts["seeding"] else ", in any order."
    )
    most = "at most one candidate." if wanted == 1 else several
    return f"{fate} Answer with {most}"
