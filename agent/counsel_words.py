"""One trial as a prompt tells it, and answers as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.agent.beliefs import statement
from tunewright.agent.digest_lines import curve_line, trial_line
from tunewright.agent.digest_words import cut, name, safe, tokens
from tunewright.agent.readings import words
from tunewright.agent.records import Curve, TrialRecord
from tunewright.engines.curves import Reading
from tunewright.engines.types import State
from tunewright.prompts import Diagnosis, Priors, Summary

ROOM_FOR_TRIAL = 750  # tokens
MAX_METRICS = 6
POINTS = 12  # of one curve


def render_trial(
    record: TrialRecord,
    facts: Mapping[str, Any],
    rank: tuple[int, int] | None,
    curves: Sequence[Curve],
    found: Reading | None,
    output: str,
) -> str:
    """The trial that is asked about, as a block of data of at most ROOM_FOR_TRIAL tokens."""
    metric = name(facts["objectives"][0]["name"])
    state = str(record.state) if record.state is not State.STOPPED else "stopped early"
    lines = [f"The trial asked about is #{record.number}: {state}."]
    if record.values:
        place = f" (rank {rank[0]} of {rank[1]}, 1 is best)" if rank else ""
        lines.append(f"Its {metric} is {record.values[0]:.5g}{place}; {_standing(record, facts)}.")
    lines.append(f"Its parameters: {trial_line(record, facts)}.")
    if record.error:
        lines.append(f'Its error: "{cut(_telling(record.error), 120)}"')
    if output.strip():
        lines.append(f'The end of what it printed: "{cut(output[-600:], 150)}"')
    if found is not None:
        lines.append(f"The curve reader: {cut(words(found), 80)}.")
    else:
        lines.append("It reported no curve.")
    if curves:
        lines.append("Its curves, as step:value:")
        lines += [curve_line(record.number, curve, POINTS) for curve in _tuned_first(curves, facts)[:MAX_METRICS]]
    kept: list[str] = []
    for line in lines:
        if tokens("\n".join([*kept, line])) <= ROOM_FOR_TRIAL - 20:
            kept.append(line)
    return "\n".join(["<data>", *kept, "</data>"])


def _telling(error: str) -> str:
    """A traceback's last lines, where it says what happened."""
    return error[-500:] if error.startswith("Traceback") else error[:500]


def _tuned_first(curves: Sequence[Curve], facts: Mapping[str, Any]) -> list[Curve]:
    tuned = facts["objectives"][0]["name"]
    return sorted(curves, key=lambda curve: (curve.metric != tuned, curve.metric))


def _standing(record: TrialRecord, facts: Mapping[str, Any]) -> str:
    best = facts["best"]
    if best is None or best["value"] is None or record.values is None:
        return "there is nothing to compare it with"
    if best["number"] == record.number:
        return "it is the best"
    return f"the best, #{best['number']}, has {best['value']:.5g}"


# ------------------------------------------------------------------------------------------------ for people


def lines_of(answer: Diagnosis | Summary | Priors, by: str, trouble: str | None) -> list[str]:
    """Each line is one line: what a model wrote cannot forge another."""
    if isinstance(answer, Diagnosis):
        lines = _diagnosis(answer)
    elif isinstance(answer, Summary):
        lines = _summary(answer)
    else:
        lines = _priors(answer)
    if by != "rules":
        told = f"Said by {by}"
    else:
        told = "Read by patterns" if isinstance(answer, Priors) else "Said by curves and statistics"
    lines.append(told + (f", since the model did not answer: {trouble}" if trouble else "") + ".")
    lines += [f"Left out: {note}" for note in answer.notes]
    return [line[: len(line) - len(line.lstrip(" "))] + safe(line, 1_500) for line in lines]


def _diagnosis(d: Diagnosis) -> list[str]:
    lines = [f"Finding: {d.finding}", f"  {d.evidence}"]
    lines += [f"  {d.cause}"] if d.cause else []
    for i, r in enumerate(d.remedies, start=1):
        to = f" to {_value(r.to)}" if r.to is not None else ""
        lines.append(f"{i}. {r.change} {r.parameter}{to}" + (f": {r.because}" if r.because else ""))
    return lines + ([f"Outside the space: {d.outside}"] if d.outside else [])


def _summary(s: Summary) -> list[str]:
    lines = [s.headline]
    for finding in s.findings:
        trials = ", ".join(f"#{n}" for n in finding.trials)
        lines.append(f"- {finding.statement} ({trials}; {finding.strength})")
    lines += [f"? {question}" for question in s.open]
    return lines + ([f"Next: {s.next}"] if s.next else []) + [f"To remember: {s.memory}"]


def _priors(p: Priors) -> list[str]:
    lines = []
    for one in p.priors:
        lines.append(f'- {statement(one)} ({one.strength}; "{one.words}")')
    return [*(lines or ["No belief about a parameter."]), *(f"Left over: {text}" for text in p.left_over)]


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
