"""The words of a digest: a part that stays byte for byte the same over a study, and a part that changes.

Names, choices, tasks, errors and notes come from people, files and programs: each is one printable line here, and
nothing in it can close the block that marks it as data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunewright.agent.digest_stats import short
from tunewright.prompts.text import condition_text, plain

MAX_BYTES = 9_500  # of both parts: 3,000 tokens at the three bytes per token that tables of numbers take
MAX_STUDY_BYTES = 4_500
MAX_NAME, MAX_CHOICE, MAX_CHOICES = 40, 40, 12
MAX_CELLS, MAX_CELLS_TEXT = 12, 350  # parameters in which a trial is compared with the best one, and their characters
FIRST_ROWS = 6

_FENCE = re.compile(r"<(?=[/|!]|\s*data)", re.IGNORECASE)
_NEUTRAL = str.maketrans({"<": "[", ">": "]", "`": "'"})

Facts = Mapping[str, Any]


def render(facts: Facts) -> tuple[str, str]:
    """(study, history): at most MAX_BYTES of UTF-8 together, whatever the facts hold."""
    study = _study(facts)
    room = _Room(MAX_BYTES - len(study.encode()) - 200)
    return study, f"<data>\n{_history(facts, room)}\n</data>\n{_request(facts)}"


class _Room:
    """Hands out space line by line: what does not fit is left out, so the order of asking is the order of worth."""

    def __init__(self, size: int):
        self.left = size

    def take(self, lines: Iterable[str], most: int, title: str | None = None) -> list[str]:
        """The first lines that fit in `most` bytes and in what is left; nothing when none fits under the title."""
        out = [title] if title else []
        used = _size(title) if title else 0
        for line in lines:
            if used + _size(line) > min(most, self.left):
                break
            used += _size(line)
            out.append(line)
        if title and len(out) == 1:
            return []
        self.left -= used
        return out


def _size(line: str) -> int:
    return len(line.encode()) + 1


# ------------------------------------------------------------------------------------------------ the study


def _study(facts: Facts) -> str:
    room = _Room(MAX_STUDY_BYTES)
    space = facts["space"]["parameters"]
    goals = " and ".join(f"{o['direction']} {_name(o['name'])}" for o in facts["objectives"])
    head = [f"Objective: {goals}."]
    if task := facts["task"]:
        head.append(f"Task, in the user's words: {_cut(task, 1_500)}")
    if fidelity := facts["fidelity"]:
        head.append(f"A trial is trained for {fidelity['low']} to {fidelity['high']} {_name(fidelity['name'])}.")
    lines = room.take(head, MAX_STUDY_BYTES)
    listed = room.take((_parameter(n, p) for n, p in space.items()), MAX_STUDY_BYTES - 700, "Parameters:")
    lines += listed
    if (missing := len(space) - max(0, len(listed) - 1)) > 0:
        lines += room.take([f"- and {missing} more, with their ranges in the answer's schema"], 100)
    lines += room.take((f"- {_expression(text)}" for text in facts["space"]["constraints"]), 600, "Constraints:")
    return "\n".join(["<data>", *lines, "</data>"])


def _parameter(name: str, p: Facts) -> str:
    if p["type"] == "derived":
        return f"- {_name(name)} = {_expression(p['expression'])} (computed, never part of an answer)"
    if p["type"] == "categorical":
        shown = [_value(c) for c in p["choices"][:MAX_CHOICES]]
        more = len(p["choices"]) - len(shown)
        words = ["one of " + ", ".join(shown) + (f" and {more} more" if more else "")]
    else:
        words = [f"{p['type']} {json.dumps(p['low'])} to {json.dumps(p['high'])}"]
        words += ["log scale"] if p.get("log") else []
        words += [f"step {json.dumps(p['step'])}"] if "step" in p else []
    if "default" in p:
        words.append(f"default {_value(p['default'])}")
    if "when" in p:
        words.append(f"only when {_expression(condition_text(p['when']))}")
    return f"- {_name(name)}: {', '.join(words)}"


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

    head = room.take(_state(facts), 1_000)
    top = _top(room, best, facts) if best else []
    engine = room.take(_engine(facts["engine"], base, order, facts), 700)
    rejected = room.take(
        (_rejected(r, base) for r in facts["rejected"]), 800, "Your last candidates that were turned down:"
    )
    notes = room.take((f"- {_safe(note, 200)}" for note in facts["notes"]), 600, "Notes:")
    kept = _fitting(room, first, said)
    failed = room.take(
        (_failure(row, base, order) for row in facts["trials"] if row["state"] == "failed"),
        1_000,
        "Failures, by reason:",
    )
    effects = room.take(map(_effect, facts["effects"][:10]), 1_400, EFFECTS)
    curves = room.take(_curves(facts), 900, "Curves, as step:value:")
    kept |= _fitting(room, rest, said)
    untested = room.take(map(_untested, facts["untested"]), 600, "Never tried:")
    running = room.take(
        (f"- #{r['number']} {_cells(r, base, order)}" for r in facts["running"]), 600, "Now running, result unknown:"
    )
    rows = [said[row["number"]] for row in good if row["number"] in kept]
    late = ", those with less training last" if any(row["partial"] for row in good) else ""
    title = (
        f"Other trials, best first{late}{_sampled(facts, len(rows))}. Only what differs from #{best['number']}:"
        if best
        else ""
    )
    table = [title] if rows else []
    parts = [head, top, [*table, *rows], failed, running, curves, effects, untested, notes, rejected, engine]
    return "\n\n".join("\n".join(part) for part in parts if part)


EFFECTS = (
    "Effects seen, strongest first: mean rank (0 best, 100 worst) by value or part of the range, trials in brackets; "
    "trend is the rank correlation with the loss. Trials were not spread evenly, so these are hints."
)


def _fitting(room: _Room, rows: Sequence[Facts], said: Mapping[int, str]) -> set[int]:
    return {row["number"] for row in rows if room.take([said[row["number"]]], 500)}


def _sampled(facts: Facts, rows: int) -> str:
    others = facts["n_trials"] - facts["failed"] - 1
    return f" ({rows} of {others})" if others > rows else ""


def _state(facts: Facts) -> list[str]:
    n, failed, left = facts["n_trials"], facts["failed"], facts["budget_left"]
    metric = _name(facts["objectives"][0]["name"])
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
    if facts["default_value"] is not None:
        reached = f"reached {metric} {_number(facts['default_value'])}"
        lines.append(f"The starting configuration (#0: defaults, the middle where there is none) {reached}.")
    elif facts["default"] and not n:
        lines.append(f"Default configuration, not measured: {_cut(_pairs(facts['default'].items()), 700)}")
    if noise := facts["noise"]:
        lines.append(
            f"Noise: repeats of a configuration differ by {_number(noise['std'], 2)} (std, from {noise['repeats']})."
        )
    elif n:
        lines.append("Noise: not measured, no configuration was repeated.")
    if n:
        lines.append(
            "A percentage is the position in the parameter's range, on its own scale; (min) and (max) are its ends."
        )
    return lines


def _top(room: _Room, best: Facts, facts: Facts) -> list[str]:
    """The best trial with all its parameters, as far as they fit."""
    cells = [_cell(name, value, best) for name, value in best["params"].items()]
    wide = 6
    lines = ["  " + ", ".join(cells[i : i + wide]) for i in range(0, len(cells), wide)]
    title = f"Best{' by mean rank' if len(facts['objectives']) > 1 else ''}, {_head(best, facts)}:"
    kept = room.take(lines, 1_800, title)
    if (missing := len(cells) - wide * (len(kept) - 1)) > 0:
        kept += room.take([f"  and {missing} more"], 100)
    return kept + room.take((f"  {_name(label)} = {_number(value)}" for label, value in best["products"].items()), 300)


def _head(row: Facts, facts: Facts) -> str:
    if row["values"] is not None and len(row["values"]) > 1:
        names = [_name(o["name"]) for o in facts["objectives"]]
        value = ", ".join(f"{n} {_number(v)}" for n, v in zip(names, row["values"], strict=True))
    else:
        value = f"{_name(facts['objectives'][0]['name'])} {_number(row['value'])}"
    tags = [row["source"]] if row["source"] != "engine" else []
    if row["fidelity"] is not None and (row["partial"] or facts["fidelity"]):
        unit = _name(facts["fidelity"]["name"]) if facts["fidelity"] else "fidelity"
        tags.append(f"{unit} {row['fidelity']}")
    tags += ["stopped early"] if row["state"] == "stopped" else []
    tags += ["Pareto"] if row.get("pareto") else []
    return f"#{row['number']} {value}" + (f" ({', '.join(tags)})" if tags else "")


def _rows(rows: Sequence[Facts], base: Facts, order: Sequence[str], facts: Facts) -> dict[int, str]:
    """By trial number. A configuration is spelt out once."""
    seen: dict[str, int] = {}
    out = {}
    for row in rows:
        cells = _cells(row, base, order)
        first = seen.setdefault(repr(sorted(row["params"].items())), row["number"])
        out[row["number"]] = f"{_head(row, facts)}: {cells if first == row['number'] else f'the same as #{first}'}"
    return out


def _cells(row: Facts, base: Facts, order: Sequence[str]) -> str:
    """What differs from the best trial, the strongest effects first, at most MAX_CELLS parameters."""
    differing = [n for n, v in row["params"].items() if n not in base or _value(base[n]) != _value(v)]
    if not differing:
        return "the same configuration" if base else _pairs(row["params"].items())
    rank = {name: i for i, name in enumerate(order)}
    shown = set(sorted(differing, key=lambda n: rank.get(n, len(rank)))[:MAX_CELLS])
    text, left = "", 0
    for name in differing:
        cell = _cell(name, row["params"][name], row)
        if name not in shown or len(text) + len(cell) > MAX_CELLS_TEXT:
            left += 1
        else:
            text += (", " if text else "") + cell
    return text + (f" and {left} more" if left else "")


def _cell(name: str, value: Any, row: Facts) -> str:
    place = f" {100 * row['unit'][name]:.0f}%" if name in row["unit"] else ""
    if end := row["at_bound"].get(name):
        place = " (min)" if end == "low" else " (max)"
    return f"{_name(name)}={_value(value)}{place}"


def _failure(row: Facts, base: Facts, order: Sequence[str]) -> str:
    times = f"{row['same_reason']} times, last " if row["same_reason"] > 1 else ""
    line = f'- "{_safe(row["error"], 120)}" ({times}#{row["number"]}): {_cells(row, base, order)}'
    return line + "".join(
        f"; all at {_range(c)}, where {c['good']} of {c['of']} good trials are" for c in row["common"]
    )


def _range(entry: Facts) -> str:
    low, high = _value(entry["low"]), _value(entry["high"])
    return f"{_name(entry['name'])}={low}" if low == high else f"{_name(entry['name'])} {low} to {high}"


def _effect(effect: Facts) -> str:
    trend = f"trend {effect['trend']:+.2f}±{effect['error']:.2f}; " if effect["trend"] is not None else ""
    several = [g for g in effect["groups"] if g["n"] > 1]  # one trial is no evidence for its whole group
    groups = ", ".join(f"{_safe(g['label'], MAX_CHOICE)}: {g['rank']} ({g['n']})" for g in several[:8])
    return f"- {_name(effect['name'])}: {trend}{groups or 'no value was tried twice'}"


def _untested(entry: Facts) -> str:
    if "values" in entry:
        return f"- {_name(entry['name'])}: {', '.join(_value(v) for v in entry['values'][:8])}"
    share = f"{100 * entry['share']:.0f}% of its range"
    return f"- {_name(entry['name'])} between {_value(entry['low'])} and {_value(entry['high'])} ({share})"


def _curves(facts: Facts) -> list[str]:
    lines = [f"- #{d['number']}: {_safe(d['text'], 200)}" for d in facts["diagnoses"]]
    for curve in facts["curves"]:
        points = " ".join(
            f"{step:g}:{'nan' if value is None else _number(value, 3)}" for step, value in curve["points"]
        )
        lines.append(f"- #{curve['number']} {_safe(curve['metric'], MAX_NAME)} {points}")
    return lines


def _engine(engine: Facts | None, base: Facts, order: Sequence[str], facts: Facts) -> list[str]:
    if engine is None or engine["params"] is None:
        return []
    how = " (spread over the space, it has no model yet)" if engine["startup"] else ""
    line = f"The engine, {_safe(engine['name'], MAX_NAME)}, would try next{how}: {_cells(engine, {}, order)}"
    if engine["mean"] is not None:
        spread = f" ± {_number(engine['std'], 2)}" if engine["std"] is not None else ""
        line += f". It expects {_name(facts['objectives'][0]['name'])} {_number(engine['mean'])}{spread} there"
    return [line + "."]


def _rejected(entry: Facts, base: Facts) -> str:
    changed = [(n, v) for n, v in entry["params"].items() if n not in base or base[n] != v]
    return f"- {_cut(_pairs(changed) or 'no parameters', 240)}: {_safe(entry['reason'], 200)}"


def _request(facts: Facts) -> str:
    wanted = facts["wanted"]
    return (
        "Answer with at most one candidate."
        if wanted == 1
        else f"Answer with at most {wanted} candidates, the most promising first."
    )


# ------------------------------------------------------------------------------------------------ words


def _pairs(items: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{_name(n)}={_value(v)}" for n, v in items)


def _name(name: str) -> str:
    """Long names lose their middle: what tells them apart stands at the ends."""
    short_name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2]}…{name[1 - MAX_NAME // 2 :]}"
    return _safe(short_name, MAX_NAME)


def _safe(text: object, limit: int) -> str:
    return plain(text, limit).translate(_NEUTRAL)


def _expression(text: str) -> str:
    """A formula keeps its comparisons; only what could close the block or pass for a model's control token goes."""
    return _FENCE.sub("[", plain(text, 160).replace("`", "'"))


def _cut(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8."""
    safe = _safe(text, size)
    return safe if len(safe.encode()) <= size else safe.encode()[: size - 3].decode("utf-8", "ignore") + "…"


def _number(value: float, digits: int = 5) -> str:
    return short(value, digits)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(_safe(value, MAX_CHOICE), ensure_ascii=False)
    if isinstance(value, float):
        return _number(value, 4)
    return _safe(json.dumps(value, default=str), MAX_CHOICE)
