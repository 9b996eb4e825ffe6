"""The answer to `propose`: its schema, made for one space, and the reading of what a model really wrote.

Reading is lenient about packaging (fences, prose around the object) and strict about content: every candidate is
held against the space, and what does not fit is kept with its problems, never repaired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from tunewright.engines.parameters import Categorical, Float, Parameter
from tunewright.engines.space import Space
from tunewright.prompts.reading import MAX_VALUE, bad_answer, find_object, scalar, words
from tunewright.prompts.text import condition_text, plain

Stance: TypeAlias = Literal["propose", "accept_engine", "abstain"]

MAX_SUMMARY, MAX_RATIONALE, MAX_PROBLEM = 600, 500, 240
MAX_PROBLEMS = 12  # of one candidate
MAX_UNKNOWN = 8  # unknown names kept of one candidate
MAX_LISTED = 200  # longer enumerations break providers' schema limits; the space is checked here anyway


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration as the model wrote it. Without problems `params` is a valid free configuration of the space."""

    params: Mapping[str, Any]
    rationale: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """`notes` tell what was left out of the model's answer and why."""

    summary: str
    stance: Stance
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------ the schema


def _drop_titles(schema: dict[str, Any]) -> None:
    """Pydantic titles every property with its internal name: noise, and tokens."""
    for entry in schema.get("properties", {}).values():
        entry.pop("title", None)


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra=_drop_titles, serialize_by_alias=True)


@lru_cache(maxsize=64)
def answer_type(space: Space, limit: int) -> type[BaseModel]:
    """The pydantic type of an answer with at most `limit` candidates, fit for providers' strict mode:
    every field required, nothing extra, null for a conditional parameter that is not active.

    Parameters are fields p0, p1 ... with their own names as aliases: a parameter may be called "json" or "opt.lr".
    """
    fields = {
        f"p{i}": (Annotated[Any, AfterValidator(_checker(p)), WithJsonSchema(_schema(p))], Field(alias=name))
        for i, (name, p) in enumerate(space.parameters.items())
    }
    params = create_model("Params", __base__=Closed, **fields)  # type: ignore[call-overload]
    candidate = create_model(
        "Candidate",
        __base__=Closed,
        rationale=(str, Field(description="Why this configuration, in one or two sentences.")),
        params=(params, ...),
    )
    return create_model(
        "Propose",
        __base__=Closed,
        summary=(str, Field(description="What the history shows, in one to three sentences.")),
        stance=(Stance, ...),
        candidates=(list[candidate], Field(max_length=limit)),  # type: ignore[valid-type]
    )


def _nullable(parameter: Parameter) -> bool:
    return parameter.when is not None or (isinstance(parameter, Categorical) and None in parameter.choices)


def _checker(parameter: Parameter) -> Any:
    def check(value: Any) -> Any:
        if value is None and _nullable(parameter):
            return None
        value = within(parameter, value)
        if problem := value_problem(parameter, value):
            raise ValueError(problem)
        return parameter.coerce(value)

    return check


def _schema(parameter: Parameter) -> dict[str, Any]:
    branches = _choice_schemas(parameter) if isinstance(parameter, Categorical) else [_range_schema(parameter)]
    if parameter.when is not None and {"type": "null"} not in branches:
        branches.append({"type": "null"})
    words = []
    if not isinstance(parameter, Categorical) and parameter.log:
        words.append("log scale")
    if not isinstance(parameter, Categorical) and parameter.step not in (None, 1):
        words.append(f"{parameter.low} plus a multiple of {parameter.step}")
    if parameter.when is not None:
        words.append(f"only when {condition_text(parameter.when)}, else null")
    schema = branches[0] if len(branches) == 1 else {"anyOf": branches}
    return schema | ({"description": "; ".join(words)} if words else {})


def _range_schema(parameter: Any) -> dict[str, Any]:
    kind = "number" if isinstance(parameter, Float) else "integer"
    return {"type": kind, "minimum": parameter.low, "maximum": parameter.high}


def _choice_schemas(parameter: Categorical) -> list[dict[str, Any]]:
    """One branch per JSON type: strict modes want a type beside every enum."""
    by_type: dict[str, list[Any]] = {}
    for choice in parameter.choices:
        by_type.setdefault(_json_type(choice), []).append(choice)
    if "integer" in by_type and "number" in by_type:
        by_type["number"] += by_type.pop("integer")
    out: list[dict[str, Any]] = []
    for kind, choices in by_type.items():
        whole = kind == "null" or (kind == "boolean" and len(choices) == 2) or len(choices) > MAX_LISTED
        out.append({"type": kind} if whole else {"type": kind, "enum": choices})
    return out


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "integer"}.get(type(value), "number")


# ------------------------------------------------------------------------------------------------ reading


def parse_propose(text: str, space: Space, limit: int) -> Answer:
    """The answer in a model's text. Raises BadAnswer when there is none, and nothing else for any text."""
    data = find_object(text, ("stance", "candidates"))
    stance, listed = data.get("stance", "propose"), data.get("candidates")
    problems = []
    if stance not in get_args(Stance):
        problems.append(f"stance: {plain(scalar(stance), MAX_VALUE)!r} is not one of {', '.join(get_args(Stance))}")
    if not isinstance(listed, list) and (listed is not None or "stance" not in data):
        problems.append("candidates: is not a list")
    if problems:
        raise bad_answer(*problems)
    written: list[Any] = listed if isinstance(listed, list) else []
    notes = []
    if stance != "propose" and written:
        notes.append(f"{len(written)} candidates left out: the stance is {stance}")
        written = []
    elif stance == "propose" and not written:
        notes.append("no candidate was proposed: taken as abstain")
        stance = "abstain"
    if len(written) > limit:
        notes.append(f"{len(written) - limit} candidates left out: at most {limit} were asked for")
    return Answer(
        summary=words(data.get("summary"), MAX_SUMMARY),
        stance=stance,
        candidates=tuple(_candidate(entry, space) for entry in written[:limit]),
        notes=tuple(notes),
    )


def _candidate(entry: Any, space: Space) -> Candidate:
    if not isinstance(entry, dict):
        return Candidate({}, "", ("candidate: is not an object",))
    rationale, written = words(entry.get("rationale"), MAX_RATIONALE), entry.get("params")
    if not isinstance(written, dict):
        return Candidate({}, rationale, ("params: is not an object",))
    params: dict[str, Any] = {}
    bad: dict[str, str] = {}
    unknown = 0
    for name, value in written.items():
        if name not in space.parameters:
            if not (name in space.derived and value is None):
                unknown += 1
                if unknown <= MAX_UNKNOWN:
                    bad[name] = (
                        "is computed from others and cannot be set" if name in space.derived else "is not a parameter"
                    )
            continue
        parameter = space.parameters[name]
        value = within(parameter, value)
        if value is None and not (isinstance(parameter, Categorical) and None in parameter.choices):
            continue
        if problem := value_problem(parameter, value):
            bad[name] = problem
            value = plain(scalar(value), MAX_VALUE) if isinstance(value, str | list | dict) else value
        params[name] = value
    problems = [f"{plain(name, MAX_VALUE)}: {message}" for name, message in bad.items()]
    if unknown > MAX_UNKNOWN:
        problems.append(f"{unknown - MAX_UNKNOWN} more names are not parameters")
    problems += _fit_problems(params, bad, space)
    if not problems:
        params = space.check(params)
    if len(problems) > MAX_PROBLEMS:
        problems = [*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more problems"]
    return Candidate(params, rationale, tuple(plain(p, MAX_PROBLEM) for p in problems))


def within(parameter: Parameter, value: Any) -> Any:
    """An end of the range for what reads the same in the four digits in which ranges are told: 2.718 for e."""
    if not isinstance(parameter, Float) or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    for end, beyond in ((parameter.low, value < parameter.low), (parameter.high, value > parameter.high)):
        if beyond and f"{value:.4g}" == f"{end:.4g}":
            return end
    return value


def value_problem(parameter: Parameter, value: Any) -> str | None:
    """What is wrong with one JSON value. Stricter than the space where Python calls True and 1 equal."""
    if isinstance(value, list | dict):
        return f"{scalar(value)} is not a value"
    chosen = parameter.coerce(value)
    if isinstance(parameter, Categorical) and isinstance(value, bool) is not isinstance(chosen, bool):
        return f"{value!r} is not one of {list(parameter.choices)!r}"
    problem = parameter.problem(chosen)
    return plain(problem, MAX_PROBLEM) if problem else None


def _fit_problems(params: dict[str, Any], bad: Mapping[str, str], space: Space) -> list[str]:
    """Problems of the whole: missing and inactive parameters, constraints. Drops the nulls of inactive parameters.

    Null is the value of a choice None where its parameter is active, and absence where it is not.
    """
    found = space.problems(params)
    absent = {p.field for p in found if p.field in params and params[p.field] is None}
    if absent:
        for name in absent:
            del params[name]
        found = space.problems(params)
    return [str(p) for p in found if p.field not in bad]
