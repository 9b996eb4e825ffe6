"""The answers to `diagnose` and `summarize`: their schemas, and the reading of what a model really wrote.

They are words for people and for memory. What can be held against the study is: a remedy names a parameter and a value
of the space, a finding names trials that exist. What does not fit is left out and noted, never repaired.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, Field, create_model

from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space
from tunewright.prompts.answers import Closed, value_problem
from tunewright.prompts.reading import MAX_VALUE, bad_answer, find_object, member, scalar, words
from tunewright.prompts.text import plain

Finding: TypeAlias = Literal[
    "crashed", "out of memory", "timed out", "diverged", "oscillating", "overfitting", "underfitting", "slow", "stuck",
    "worse than others", "healthy", "unclear",
]  # fmt: skip
Change: TypeAlias = Literal["raise", "lower", "switch"]
Strength: TypeAlias = Literal["clear", "hint"]

MAX_SENTENCE, MAX_PARAGRAPH = 400, 900
MAX_REMEDIES, MAX_FINDINGS, MAX_OPEN, MAX_CITED = 3, 5, 3, 6
Scalar: TypeAlias = str | bool | int | float | None


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change of one parameter. `to` is a value of the space, None for any step in that direction."""

    parameter: str
    change: Change
    to: Scalar
    because: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`outside` is what must change outside the space, empty for nothing."""

    finding: Finding
    evidence: str
    cause: str
    remedies: tuple[Remedy, ...] = ()
    outside: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Learned:
    """A finding with the trials that show it."""

    statement: str
    trials: tuple[int, ...]
    strength: Strength


@dataclass(frozen=True, slots=True)
class Summary:
    """`memory` stands alone: it is for a later study that knows nothing of this one."""

    headline: str
    findings: tuple[Learned, ...]
    open: tuple[str, ...]
    next: str
    memory: str
    notes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ diagnose


@lru_cache(maxsize=64)
def diagnosis_type(space: Space) -> type[BaseModel]:
    """The pydantic type of an answer to `diagnose`, fit for providers' strict mode."""
    named: Any = Literal[tuple(space.names)]
    remedy = create_model(
        "Remedy",
        __base__=Closed,
        because=(str, Field(description="One sentence.")),
        parameter=(named, ...),
        change=(Change, ...),
        to=(Scalar, Field(description="A value inside the parameter's range, or null.")),
    )
    return create_model(
        "Diagnose",
        __base__=Closed,
        evidence=(str, Field(description="The numbers that decide it, in one or two sentences.")),
        finding=(Finding, ...),
        cause=(str, Field(description="One sentence.")),
        remedies=(list[remedy], Field(max_length=MAX_REMEDIES)),  # type: ignore[valid-type]
        outside=(str, Field(description="What must change outside the space, or empty.")),
    )


def parse_diagnosis(text: str, space: Space, params: Mapping[str, Any]) -> Diagnosis:
    """The diagnosis in a model's text, of a trial with these parameters. Raises BadAnswer when there is none."""
    data = find_object(text, ("finding", "evidence"))
    finding, evidence = member(data.get("finding"), Finding), words(data.get("evidence"), MAX_SENTENCE)
    problems = []
    if finding is None:
        said = plain(scalar(data.get("finding")), MAX_VALUE)
        problems.append(f"finding: {said!r} is not one of {', '.join(get_args(Finding))}")
    if not evidence:
        problems.append("evidence: is missing")
    if problems:
        raise bad_answer(*problems)
    notes: list[str] = []
    remedies = []
    for entry in _listed(data, "remedies", MAX_REMEDIES, notes):
        problem = _remedy_problem(entry, space, params)
        if problem:
            notes.append(f"a remedy was left out: {problem}")
        else:
            parameter = space.parameters[entry["parameter"]]
            value = None if entry.get("to") is None else parameter.coerce(entry["to"])
            remedies.append(
                Remedy(entry["parameter"], entry["change"], value, words(entry.get("because"), MAX_SENTENCE))
            )
    return Diagnosis(
        finding=finding,
        evidence=evidence,
        cause=words(data.get("cause"), MAX_SENTENCE),
        remedies=tuple(remedies),
        outside=words(data.get("outside"), MAX_SENTENCE),
        notes=tuple(notes),
    )


def _remedy_problem(entry: Any, space: Space, params: Mapping[str, Any]) -> str | None:
    if not isinstance(entry, dict):
        return "it is not an object"
    name, change, to = entry.get("parameter"), member(entry.get("change"), Change), entry.get("to")
    if not isinstance(name, str) or name not in space.parameters:
        return f"{plain(scalar(name), MAX_VALUE)!r} is not a parameter"
    if change is None:
        return f"{name}: it is not said how to change it"
    parameter = space.parameters[name]
    if isinstance(parameter, Categorical) is not (change == "switch"):
        return f"{name} cannot be {'switched' if change == 'switch' else change + 'ed'}"
    if to is None:
        return "switched to what is not said" if change == "switch" else None
    if problem := value_problem(parameter, to):
        return f"{name}: {problem}"
    now = params.get(name)
    if now is None or change == "switch":
        return f"{name} is {now!r} already" if now is not None and parameter.coerce(to) == now else None
    wrong = to <= now if change == "raise" else to >= now
    return f"{name}: to {change} {now!r} it cannot be {to!r}" if wrong else None


# ------------------------------------------------------------------------------------------------ summarize


class _Learned(Closed):
    statement: str = Field(description="One sentence.")
    trials: list[int] = Field(max_length=MAX_CITED, description="Numbers of trials that show it.")
    strength: Strength


class SummaryType(Closed):
    """The pydantic type of an answer to `summarize`."""

    headline: str = Field(description="One sentence.")
    findings: list[_Learned] = Field(max_length=MAX_FINDINGS)
    open: list[str] = Field(max_length=MAX_OPEN)
    next: str = Field(description="One or two sentences.")
    memory: str = Field(description="Two or three sentences that stand alone.")


def parse_summary(text: str, trials: Collection[int]) -> Summary:
    """The summary in a model's text; `trials` are the numbers that exist. Raises BadAnswer when there is none."""
    data = find_object(text, ("headline", "findings"))
    headline, memory = words(data.get("headline"), MAX_SENTENCE), words(data.get("memory"), MAX_PARAGRAPH)
    missing = [f"{name}: is missing" for name, said in (("headline", headline), ("memory", memory)) if not said]
    if missing:
        raise bad_answer(*missing)
    notes: list[str] = []
    findings = []
    for entry in _listed(data, "findings", MAX_FINDINGS, notes):
        learned = _learned(entry, trials)
        if isinstance(learned, str):
            notes.append(f"a finding was left out: {learned}")
        else:
            findings.append(learned)
    return Summary(
        headline=headline,
        findings=tuple(findings),
        open=tuple(said for q in _listed(data, "open", MAX_OPEN, notes) if (said := words(q, MAX_SENTENCE))),
        next=words(data.get("next"), MAX_SENTENCE),
        memory=memory,
        notes=tuple(notes),
    )


def _learned(entry: Any, trials: Collection[int]) -> Learned | str:
    """The finding, or why it is none."""
    if not isinstance(entry, dict):
        return "it is not an object"
    statement, cited = words(entry.get("statement"), MAX_SENTENCE), entry.get("trials")
    if not statement:
        return "it says nothing"
    numbers = [n for n in cited if type(n) is int and n in trials] if isinstance(cited, list) else []
    if not numbers:
        return "it names no trial of this study"
    strength: Strength = "clear" if entry.get("strength") == "clear" else "hint"
    return Learned(statement, tuple(dict.fromkeys(numbers))[:MAX_CITED], strength)


def _listed(data: Mapping[str, Any], key: str, most: int, notes: list[str]) -> list[Any]:
    listed = data.get(key)
    if not isinstance(listed, list):
        return []
    if len(listed) > most:
        notes.append(f"{len(listed) - most} of {key} left out: at most {most} were asked for")
    return listed[:most]
