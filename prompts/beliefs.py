"""The answer to `priors`: what a person said, as soft beliefs about single parameters. They tilt and never forbid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from tunewright.engines.parameters import Categorical, Parameter
from tunewright.engines.priors import Belief, Certainty, Prior
from tunewright.engines.space import Space
from tunewright.prompts.answers import Closed, value_problem
from tunewright.prompts.opinions import Scalar
from tunewright.prompts.reading import MAX_VALUE, bad_answer, find_object, member, scalar, words
from tunewright.prompts.text import plain

ON_VALUES = ("prefer_values", "avoid_values")
NEEDS = {"avoid_above": "high", "avoid_below": "low"}

MAX_PRIORS, MAX_WORDS, MAX_VALUES, MAX_LEFT = 20, 300, 12, 12
_GAP = re.compile(r"\s*(?:\.{3}|…)\s*")


@dataclass(frozen=True, slots=True)
class Priors:
    """`left_over` is what became no belief, in the model's words; `notes` what of its answer was left out and why."""

    priors: tuple[Prior, ...]
    left_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def priors_type(space: Space) -> type[BaseModel]:
    """The pydantic type of an answer to `priors`, fit for providers' strict mode."""
    named: Any = Literal[tuple(space.names)]
    condition: Any = create_model("Condition", __base__=Closed, parameter=(named, ...), value=(Scalar, ...))
    prior = create_model(
        "Prior",
        __base__=Closed,
        words=(str, Field(description="The part of the text it rests on, quoted.")),
        parameter=(named, ...),
        belief=(Belief, ...),
        low=(float | None, ...),
        high=(float | None, ...),
        values=(list[Scalar] | None, ...),
        strength=(Certainty, ...),
        when=(condition | None, ...),
    )
    return create_model(
        "Priors",
        __base__=Closed,
        priors=(list[prior], Field(max_length=MAX_PRIORS)),  # type: ignore[valid-type]
        left_over=(list[str], Field(max_length=MAX_LEFT)),
    )


def parse_priors(text: str, space: Space, said: str) -> Priors:
    """The beliefs in a model's text about what a person `said`. Raises BadAnswer when there is no answer.

    A belief that rests on none of the person's words is left out: it came from somewhere else.
    """
    data = find_object(text, ("priors", "left_over"))
    listed = data.get("priors")
    if not isinstance(listed, list):
        raise bad_answer("priors: is not a list")
    notes = [f"{len(listed) - MAX_PRIORS} priors left out: at most {MAX_PRIORS}"] if len(listed) > MAX_PRIORS else []
    priors = []
    for entry in listed[:MAX_PRIORS]:
        found = _prior(entry, space, said)
        if isinstance(found, str):
            notes.append(f"a belief was left out: {found}")
        else:
            priors.append(found)
    left = data.get("left_over")
    left_over = [words(one, MAX_WORDS) for one in left[:MAX_LEFT]] if isinstance(left, list) else []
    return Priors(tuple(priors), tuple(filter(None, left_over)), tuple(notes))


def _prior(entry: Any, space: Space, said: str) -> Prior | str:
    """The belief, or why it is none."""
    if not isinstance(entry, dict):
        return "it is not an object"
    name, belief = entry.get("parameter"), member(entry.get("belief"), Belief)
    if not isinstance(name, str) or name not in space.parameters:
        return f"{plain(scalar(name), MAX_VALUE)!r} is not a parameter"
    if belief is None:
        return f"{name}: {plain(scalar(entry.get('belief')), MAX_VALUE)!r} is not a belief"
    quoted = words(entry.get("words"), MAX_WORDS)
    if not _rests_on(quoted, said):
        return f"{name}: it rests on no words of the person"
    parameter = space.parameters[name]
    when = _condition(entry.get("when"), space, name)
    if isinstance(when, str):
        return f"{name}: {when}"
    limits: Any = _values(entry, parameter) if belief in ON_VALUES else _range(entry, parameter, belief)
    if isinstance(limits, str):
        return f"{name}: {limits}"
    certainty: Certainty = member(entry.get("strength"), Certainty) or "weak"
    return Prior(name, belief, certainty, quoted, when=when, **limits)


def _rests_on(quoted: str, said: str) -> bool:
    """Whether every part of the quotation stands in what was said."""

    def folded(text: str) -> str:
        return " ".join(re.sub(r"[\"'\u201c\u201d\u2018\u2019`]", "", text).casefold().split())

    parts = [part for part in map(folded, _GAP.split(quoted)) if part]
    return bool(parts) and all(part in folded(said) for part in parts)


def _condition(when: Any, space: Space, name: str) -> Mapping[str, Any] | str | None:
    if when is None:
        return None
    other = when.get("parameter") if isinstance(when, dict) else None
    if not isinstance(other, str) or other not in space.parameters or other == name:
        return "its condition names no other parameter"
    value = when.get("value")
    if problem := value_problem(space.parameters[other], value):
        return f"its condition: {other}: {problem}"
    return {other: space.parameters[other].coerce(value)}


def _values(entry: Mapping[str, Any], parameter: Parameter) -> dict[str, Any] | str:
    listed = entry.get("values")
    if not isinstance(listed, list) or not listed:
        return "it names no value"
    for value in listed[:MAX_VALUES]:
        if problem := value_problem(parameter, value):
            return problem
    return {"values": tuple(dict.fromkeys(map(parameter.coerce, listed[:MAX_VALUES])))}


def _range(entry: Mapping[str, Any], parameter: Parameter, belief: str) -> dict[str, Any] | str:
    if isinstance(parameter, Categorical):
        return "choices have no order"
    if belief in ("rising", "falling"):
        return {}
    ends = {}
    for end in ("low", "high"):
        value = entry.get(end)
        if value is None or (belief in NEEDS and end != NEEDS[belief]):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{end}: {plain(scalar(value), MAX_VALUE)!r} is not a number"
        if not parameter.low <= value <= parameter.high:
            return f"{end}: {value!r} is outside [{parameter.low}, {parameter.high}]"
        ends[end] = value
    if belief in NEEDS and NEEDS[belief] not in ends:
        return f"{NEEDS[belief]} is missing"
    low, high = ends.get("low", parameter.low), ends.get("high", parameter.high)
    if low > high:
        return f"{low!r} to {high!r} is no range"
    whole = (low, high) == (parameter.low, parameter.high)
    return "it tells nothing apart: that is the whole range" if whole else ends
