"""A tool's result in words, for a conversation without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunewright.agent.cli import study_file
from tunewright.agent.space_words import parameter_words
from tunewright.agent.why import values_text
from tunewright.agent.worth import Worth
from tunewright.engines.space import Space
from tunewright.prompts.text import plain

MAX_LINE = 300
SPARKS = "▁▂▃▄▅▆▇█"


def tell(tool: str, result: Any) -> list[str]:
    """A tool's result as lines for a person."""
    if isinstance(result, str):
        return [_indent(line) + plain(line, MAX_LINE) for line in result.splitlines()]
    lines = _WORDS[tool](result) if tool in _WORDS else [str(line) for line in result]
    return [plain(line, MAX_LINE) if not line.startswith(" ") else "  " + plain(line, MAX_LINE) for line in lines]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" "))]


def _study(found: Mapping[str, Any]) -> list[str]:
    goal = ", ".join(f"{o['direction']} {o['name']}" for o in found["objectives"])
    counts = ", ".join(f"{n} {state}" for state, n in found["trials"].items()) or "none yet"
    cap = found["budget"].get("trials")
    lines = [f"{found['study']}: {goal}; trials: {counts}" + (f"; budget {cap}" if cap else "")]
    if found["best"]:
        lines.append(f"Best so far: {trial_line(found['best'])}")
    lines += [f"{state}: {words}" for state, words in found.get("states_mean", {}).items()]
    lines += _training(found["training"]) if found["training"] else []
    if left := found.get("left_of_a_broken_off_run"):
        lines.append(f"A run was broken off with {left} to go; `resume` goes on with it.")
    return lines + [f"Note: {note}" for note in found["notes"]]


def _training(found: Mapping[str, Any]) -> list[str]:
    state = "Training now" if found["going_on"] else "The run is over"
    lines = [f"{state}: {found['ended']} of {found['trials']} trials ended."]
    lines += [f"Trouble: {found['trouble']}"] if found.get("trouble") else []
    return lines + [f"Notice: {text}" for text in found.get("notices", ())]


def trial_line(row: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value:.6g}" for name, value in row["values"].items())
    if not values:
        last = row.get("last_report")
        values = row["state"] + (f" at {last[0]:g} with {last[1]:.6g}" if last else "")
    error = f"  error: {row['error']}" if row.get("error") else ""
    return f"trial {row['number']}: {values}  {values_text(row['params'])}  ({row['by']}){error}"


def _trials(found: Mapping[str, Any]) -> list[str]:
    lines = [trial_line(row) for row in found["result"]] or ["No trial has a result yet."]
    return lines + ([f"Left out: {found['left_out']}."] if "left_out" in found else [])


def _trial(found: Mapping[str, Any]) -> list[str]:
    curve = found["curve"]
    lines = [trial_line(found), f"Its end: {found['ended_because']}"]
    if curve:
        ends = f"{curve[0][1]:.4g} at {curve[0][0]:g} to {curve[-1][1]:.4g} at {curve[-1][0]:g}"
        lines.append(f"Curve: {_sparks([value for _, value in curve])}  {ends}")
    return lines + ([f"Its last words: {found['last_words']}"] if found.get("last_words") else [])


def _sparks(values: Sequence[float]) -> str:
    finite = [v for v in values if abs(v) != float("inf") and v == v]
    low, span = min(finite, default=0.0), (max(finite, default=0.0) - min(finite, default=0.0)) or 1.0
    return "".join(SPARKS[round((v - low) / span * (len(SPARKS) - 1))] if v in finite else "x" for v in values)


def _compare(found: Mapping[str, Any]) -> list[str]:
    heads = [
        f"trial {n}: " + (", ".join(f"{k} {v:.6g}" for k, v in values.items()) or "no result")
        for n, values in zip(found["trials"], found["values"], strict=True)
    ]
    return heads + [f"  {name}: {' | '.join(map(str, values))}" for name, values in found["differ_in"].items()]


def _space(found: Mapping[str, Any]) -> list[str]:
    lines = [f"{name}: {words}" for name, words in found["parameters"].items()]
    lines += [f"constraint: {text}" for text in found["constraints"]]
    lines += [f"edit {i}: {line}" for i, edit in enumerate(found["edits"], 1) for line in edit]
    outside = found["trials_outside"]
    return lines + ([f"Outside it now: trials {', '.join(map(str, outside))}"] if outside else [])


def _doctor(found: Sequence[Mapping[str, Any]]) -> list[str]:
    if not found:
        return ["Nothing is wrong that the doctor knows of."]
    return [line for f in found for line in (f"{f['severity']}: {f['message']}", f"  fix: {f['fix']}")]


def _ideas(found: Mapping[str, Any]) -> list[str]:
    if not found["ideas"]:
        return [f"No idea: {found.get('silence', 'the advisor had none')}"]
    return [
        line
        for idea in found["ideas"]
        for line in (
            values_text(idea["params"]),
            f"  because: {idea['because']}",
            *(f"  but: {p}" for p in idea["problems"]),
        )
    ]


def _draft(found: Mapping[str, Any]) -> list[str]:
    lines = [f"{found['file']}: {found['about']}"] if found["about"] else []
    lines.append(f"{found['metric']['goal']} {found['metric']['name']}, {found['trials']} trials")
    for name, entry in found["parameters"].items():
        made = Space({name: study_file.parameter(name, entry)}).to_dict()["parameters"][name]
        lines.append(f"  {name}: {parameter_words(made)}")
    lines += [f"left as they are: {', '.join(found['left'])}"] if found["left"] else []
    return [*lines, *(f"Look at this: {doubt}" for doubt in found["doubts"]), f"`tune {found['file']}` makes a study."]


_WORDS: Mapping[str, Callable[[Any], list[str]]] = {
    "study": _study,
    "space": _space,
    "trials": _trials,
    "trial": _trial,
    "compare": _compare,
    "importance": lambda shares: [f"{name}: {share:.0%}" for name, share in shares.items()],
    "doctor": _doctor,
    "diagnose": lambda found: [
        f"trial {found['number']}, {found['state']}: {found['text']}"
        + (f"; {found['error']}" if "error" in found else "")
    ],
    "search": lambda hits: (
        [f"trial {hit['trial']}, {hit['kind']}: {hit['text']}" for hit in hits] or ["Nothing found."]
    ),
    "ideas": _ideas,
    "beliefs": lambda found: [row["fate"] for row in found] or ["Nobody said anything to believe."],
    "advice": lambda found: [str(Worth(**row)) for row in found] or ["No advice was asked for."],
    "wait": _training,
    "run": lambda found: [
        f"Training {found['trials_in_the_background']} trials in the background; `status` shows how far it is."
    ],
    "files": lambda found: [f"{f['file']}: {f['what']}" for f in found] or ["No script or study file is here."],
    "draft": _draft,
    "suggest": lambda t: [f"trial {t['number']}: {values_text(t['params'])}",
                          f"Train it, then tell me: observe {t['number']} VALUE"],
    "export": lambda found: [f"{found['file']} is written."],
}  # fmt: skip
