"""The words of a digest: a part that stays byte for byte the same over a study, and a part that changes.

Everything that people, files and programs wrote goes through `digest_words`, and the whole stays under a number of
tokens however long the study: each section asks for room in the order of its worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tunewright.agent import digest_lines, digest_words
from tunewright.agent.digest_lines import MAX_CELLS_TEXT, Facts
from tunewright.agent.digest_words import MAX_NAME, cut, expression, number, pairs, safe, value_text
from tunewright.agent.digest_words import name as name_text

MAX_TOKENS = 2_900  # of both parts
MAX_STUDY = 1_250
FIRST_ROWS, TOP_ROWS = 8, 4  # other trials told before anything else, and the best among them
KEPT_FOR_EFFECTS = 450


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
    listed = room.take((digest_lines.parameter_line(n, p) for n, p in space.items()), room.left - 120, "Parameters:")
    lines += listed
    if (missing := len(space) - max(0, len(listed) - 1)) > 0:
        lines += room.take([f"- and {missing} more, with their ranges in the answer's schema"], 30)
    constraints = (f"- {expression(text)}" for text in facts["space"]["constraints"])
    lines += room.take(constraints, 150, "Constraints:")
    return "\n".join(["<data>", *lines, "</data>"])


# ------------------------------------------------------------------------------------------------ the history


def _history(facts: Facts, room: _Room) -> str:
    best, order = facts["best"], [e["name"] for e in facts["effects"]]
    good = [
        row for row in facts["trials"] if row["state"] != "failed" and (best is None or row["number"] != best["number"])
    ]
    by_worth = _by_worth(good)
    top, first, rest = by_worth[:TOP_ROWS], by_worth[TOP_ROWS:FIRST_ROWS], by_worth[FIRST_ROWS:]
    base = best["params"] if best else {}
    said = digest_lines.rows(good, base, order, facts)

    head = room.take(_state(facts), 360)
    leader = _top(room, best, facts) if best else []
    engine = _engine(room, facts)
    rejected = room.take((digest_lines.rejected_line(r, base) for r in facts["rejected"]), 250, NOT_TRIED)
    if rejected and (more := len(facts["rejected"]) + 1 - len(rejected)):
        rejected += room.take([f"- {more} more"], 10)
    notes = room.take((f"- {cut(note, 70)}" for note in facts["notes"]), 220, "Notes:")
    kept = _fitting(room, top, said) | _fitting(room, first, said, leave=KEPT_FOR_EFFECTS)
    failed = room.take(
        (digest_lines.failure_line(row, base, order) for row in facts["trials"] if row["state"] == "failed"),
        330,
        "Failures, by reason:",
    )
    failing = room.take((f"- {expression(words)}" for words in facts["failing"]), 150, FAILING)
    effects = _shared(room, facts) + _effects(room, facts)
    curves = room.take(digest_lines.curve_lines(facts), 330, "Curves, as step:value:")
    kept |= _fitting(room, rest, said)
    untested = room.take(
        map(digest_lines.untested_line, facts["untested"]), 200, "Never tried (ranges without their ends):"
    )
    running = room.take(
        (f"- #{r['number']} {digest_lines.cells(r, base, order)}" for r in facts["running"]),
        200,
        "Now running, result unknown:",
    )
    rows = [said[row["number"]] for row in good if row["number"] in kept]
    table = []
    if rows and best:
        late = ", those with less training last" if any(r["partial"] for r in good) and not best["partial"] else ""
        sampled = _sampled(facts, [row for row in good if row["number"] in kept])
        table = [f"Other trials, best first{late}{sampled}. Only what differs from #{best['number']}:", *rows]
    parts = [head, leader, table, failed, failing, running, curves, effects, untested, notes, rejected, engine]
    return "\n\n".join("\n".join(part) for part in parts if part)


EFFECTS = (
    "Effects seen, strongest first: mean rank (0 best, 100 worst) ± its error by value or part of the range, trials in "
    "brackets; trend is the rank correlation with the loss (+: larger is worse) ± what chance alone gives. Trials were "
    "not spread evenly, so these are hints."
)
EFFECTS_NEAR = "The same within the better half of the trials, where the bad ones hide nothing:"
TWO_RUNS = 1.96 * math.sqrt(2)  # standard deviations that two equal runs differ by in 95 of 100 cases
FAILING = "Where trials fail far more often than elsewhere (candidates there are turned down):"
NOT_TRIED = "Of your last candidates these were not tried (what they change in the best trial: why):"


def _by_worth(rows: Sequence[Facts]) -> list[Facts]:
    """A few of the best, then the trials that answer the last question, then the other best ones, those that were
    advised, and the most different."""
    top = [row for row in rows[:TOP_ROWS] if row["shown_as"] == "best"]
    rest = [row for row in rows if row not in top]
    worth = {"best": 1, "advised": 2, "recent": 3, "diverse": 4}
    return top + sorted(rest, key=lambda row: 0 if row["answers"] else worth[row["shown_as"]])


def _fitting(room: _Room, rows: Sequence[Facts], said: Mapping[int, str], leave: int = 0) -> set[int]:
    """`leave`: tokens for what comes after."""
    return {row["number"] for row in rows if room.take([said[row["number"]]], min(260, room.left - leave))}


def _sampled(facts: Facts, rows: Sequence[Facts]) -> str:
    others = facts["n_trials"] - facts["failed"] - 1
    if others <= len(rows):
        return ""
    kinds = {"best": "the best", "advised": "yours" if facts["wanted"] else "advised ones", "recent": "the latest"}
    named = [words for kind, words in kinds.items() if any(row["shown_as"] == kind for row in rows)]
    named += ["some of the most different"] if any(row["shown_as"] == "diverse" for row in rows) else []
    return f" ({len(rows)} of {others}: {', '.join(named)})"


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
        whose = "Your" if facts["wanted"] else "The advisor's"
        latest = ", ".join(
            f"#{one['number']} {_outcome(one)}" + (" (the best until then)" if one["improved"] else "")
            for one in told["latest"]
        )
        more = f" (the latest of {told['tried']})" if told["tried"] > len(told["latest"]) else ""
        lines.append(f"{whose} candidates that were tried{more}: {latest}.")
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
    for quantity in facts["quantities"] if n or (facts["engine"] and facts["engine"]["products"]) else ():
        lines.append(f"{quantity['name']} below is {expression(quantity['formula'])}.")
    if n and any("when" in p for p in facts["space"]["parameters"].values()):
        lines.append("A parameter that is not listed with a trial has the best trial's value where it is active.")
    return lines


def _outcome(one: Facts) -> str:
    if one["values"] is None:
        return "failed"
    return " and ".join(map(number, one["values"])) + (" after less training" if one["partial"] else "")


def _noise(facts: Facts) -> list[str]:
    noise, tied = facts["noise"], facts["ties"]
    if noise and noise["repeats"]:
        words = f"Noise: repeats of a configuration differ by {number(noise['std'], 2)} (std, from {noise['repeats']})."
    elif noise:
        most = number(noise["std"], 2)
        words = f"Noise: about {most} (std), what a model of the trials cannot explain; no configuration was repeated."
    else:
        words = "Noise: not measured, no configuration was repeated."
    same = f" {tied} trials share the best value: the metric is coarse, or at its limit." if tied > 1 else ""
    if noise and facts["lead"] is not None and 0 < facts["lead"] <= TWO_RUNS * noise["std"]:
        same += f" The best is ahead of the next by {number(facts['lead'], 2)}"
        same += ": not better than the noise." if noise["repeats"] else ", which may be noise."
    return [words + same]


def _top(room: _Room, best: Facts, facts: Facts) -> list[str]:
    """The best trial with all its parameters, as far as they fit."""
    cells = [digest_lines.cell(name, value, best) for name, value in best["params"].items()]
    wide = 6
    lines = ["  " + ", ".join(cells[i : i + wide]) for i in range(0, len(cells), wide)]
    title = f"Best{' by mean rank' if len(facts['objectives']) > 1 else ''}, {digest_lines.head(best, facts)}:"
    kept = room.take(lines, 650, title)
    if (missing := len(cells) - wide * (len(kept) - 1)) > 0:
        kept += room.take([f"  and {missing} more"], 20)
    made = [f"{label} = {number(value, 3)}" for label, value in best["products"].items()]
    return kept + room.take([f"  ({', '.join(made)})"] if made else [], 60)


def _effects(room: _Room, facts: Facts) -> list[str]:
    """Those that chance does not explain, in all trials and in the better half, then the names of the others."""
    found = facts["effects"]
    clear = [effect for effect in found if digest_lines.beyond_chance(effect)]
    near = [effect for effect in facts["effects_near"] if digest_lines.beyond_chance(effect)]
    lines = room.take(map(digest_lines.effect_line, clear[:10]), 480, EFFECTS)
    legend = EFFECTS_NEAR if lines else f"{EFFECTS}\n{EFFECTS_NEAR}"
    lines += room.take(map(digest_lines.effect_line, near[:5]), 220 if lines else 320, legend)
    told = {e["name"] for e in (*clear, *near)}
    names = [name_text(e["name"]) for e in found if e["name"] not in told and digest_lines.compared(e)]
    if names:
        words = f"No effect of one parameter alone beyond chance in all trials: {cut(', '.join(names), 300)}."
        lines += room.take([words if clear else "No parameter alone has an effect beyond chance in all trials."], 120)
    if found:
        told |= {e["name"] for e in found if digest_lines.compared(e)}
        free = [n for n, p in facts["space"]["parameters"].items() if p["type"] != "derived" and n not in told]
        lines += room.take(
            [f"Tried in too few places to compare: {cut(', '.join(map(name_text, free)), 200)}."] if free else [], 90
        )
    return lines


def _shared(room: _Room, facts: Facts) -> list[str]:
    found, leaders = facts["shared"], facts["leaders"]
    if not found:
        return []
    lies = [f"{digest_lines.range_words(e)} ({e['others']} of {e['of']} others)" for e in found[:8]]
    title = f"The {leaders['count']} best trials have in common"
    if leaders["next"] is not None:
        title = f"The {leaders['count']} best trials stand apart (the next has {number(leaders['next'])}). In common"
    return room.take([f"{title}, with how many of the other trials lie there too: {', '.join(lies)}."], 260)


def _engine(room: _Room, facts: Facts) -> list[str]:
    engine = facts["engine"]
    if engine is None or engine["params"] is None:
        return []
    how = " (drawn without a model, to cover the space)" if engine["startup"] else ""
    ends = "."
    if engine["mean"] is not None:
        spread = f" (± {number(engine['std'], 2)}, one standard deviation)" if engine["std"] is not None else ""
        ends = f". It expects {name_text(facts['objectives'][0]['name'])} {number(engine['mean'])} there{spread}"
        ends += _beside_the_best(engine["mean"], facts["best"], facts["objectives"][0]["direction"])
    made = ", ".join(f"{label} = {number(value, 3)}" for label, value in engine["products"].items())
    ends = (f" ({made})" if made else "") + ends
    start = f"The engine, {safe(engine['name'], MAX_NAME)}, would try next{how}: "
    sizes = (900, MAX_CELLS_TEXT)  # all of it where names are short
    said = (start + digest_lines.cells(engine, {}, (), 24, size) + ends for size in sizes)
    lines = next((kept for line in said if (kept := room.take([line], 420))), [])
    untried = {entry["name"]: entry["values"] for entry in facts["untested"] if "values" in entry}
    favoured = (digest_lines.favoured_line(e, untried.get(e["name"], ())) for e in engine["favoured"])
    return lines + room.take(
        favoured,
        220,
        "Where the best tenth of its own candidates lies, where that is narrow (its next point may lie elsewhere):",
    )


def _beside_the_best(mean: float, best: Facts | None, direction: str) -> str:
    if best is None:
        return "."
    worse = mean > best["value"] if direction == "minimize" else mean < best["value"]
    why = ": it explores, since what it does not know there leaves the most room to improve" if worse else ""
    return f"; the best trial has {number(best['value'])}{why}."


def _request(facts: Facts) -> str:
    wanted = facts["wanted"]
    if not wanted:
        return ""
    fate = (
        "Those that pass the checks get trials, in your order, between the engine's own first points, while they do "
        "well and it has no model: that is often time for two or three of them."
        if facts["seeding"]
        else "At most one gets the next trial: the one that the engine's model rates highest, if it passes every check."
    )
    several = f"at most {wanted} candidates" + (
        ", the most promising first." if facts["seeding"] else ", in any order."
    )
    most = "at most one candidate." if wanted == 1 else several
    return f"{fate} Answer with {most}"
