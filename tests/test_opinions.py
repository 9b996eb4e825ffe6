"""Answers to diagnose, summarize and priors: their schemas, what is kept of a model's text and what is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tunewright.engines import Categorical, Float, Int, Space
from tunewright.prompts import (
    BadAnswer,
    SummaryType,
    diagnosis_type,
    parse_diagnosis,
    parse_priors,
    parse_summary,
    priors_type,
)

SPACE = Space(
    {
        "lr": Float(1e-5, 0.1, log=True),
        "layers": Int(1, 6),
        "opt": Categorical(["sgd", "adam"]),
        "momentum": Float(0.0, 0.99, when={"opt": "sgd"}),
        "json": Categorical([True, False]),
    }
)
PARAMS = {"lr": 0.01, "layers": 3, "opt": "sgd", "momentum": 0.9, "json": True}
REMEDY = {"because": "it diverged", "parameter": "lr", "change": "lower", "to": 0.001}
DIAGNOSIS = {"evidence": "nan at 3", "finding": "diverged", "cause": "the rate", "remedies": [REMEDY], "outside": ""}
SUMMARY = {
    "headline": "0.1 with adam",
    "findings": [{"statement": "adam wins", "trials": [1, 2], "strength": "clear"}],
    "open": ["layers 6"],
    "next": "go on",
    "memory": "adam at 0.001",
}
SAID = 'Rates above 0.05 diverged.\nI like "adam"; small nets are enough.'
PRIOR = {
    "words": "Rates above 0.05 diverged", "parameter": "lr", "belief": "avoid_above", "low": None, "high": 0.05,
    "values": None, "strength": "strong", "when": None,
}  # fmt: skip


def priors(*entries: dict[str, Any], left: Any = ()) -> Any:
    return parse_priors(json.dumps({"priors": list(entries), "left_over": list(left)}), SPACE, SAID)


# ------------------------------------------------------------------------------------------------ schemas


@pytest.mark.parametrize("kind", [diagnosis_type(SPACE), SummaryType, priors_type(SPACE)])
def test_schemas_are_fit_for_strict_modes(kind) -> None:
    schema = kind.model_json_schema()
    objects = [schema, *schema.get("$defs", {}).values()]
    for entry in objects:
        assert entry["additionalProperties"] is False and entry["required"] == list(entry["properties"])
        for prop in entry["properties"].values():
            assert {"type", "anyOf", "$ref", "enum"} & set(prop)
    strict = pytest.importorskip("openai.lib._pydantic").to_strict_json_schema
    assert strict(kind) == schema


def test_the_types_take_what_fits_and_refuse_what_does_not() -> None:
    diagnosis_type(SPACE).model_validate(DIAGNOSIS)
    SummaryType.model_validate(SUMMARY)
    priors_type(SPACE).model_validate({"priors": [PRIOR], "left_over": []})
    for kind, bad in [
        (diagnosis_type(SPACE), DIAGNOSIS | {"finding": "haunted"}),
        (diagnosis_type(SPACE), DIAGNOSIS | {"remedies": [REMEDY | {"parameter": "width"}]}),
        (SummaryType, SUMMARY | {"extra": 1}),
        (priors_type(SPACE), {"priors": [PRIOR | {"belief": "forbid"}], "left_over": []}),
    ]:
        with pytest.raises(ValidationError):
            kind.model_validate(bad)


# ------------------------------------------------------------------------------------------------ diagnose


def test_a_diagnosis_is_read_from_prose_and_fences() -> None:
    text = f"I think:\n```json\n{json.dumps(DIAGNOSIS)}\n```\nThat is all."
    found = parse_diagnosis(text, SPACE, PARAMS)
    assert (found.finding, found.evidence, found.cause, found.notes) == ("diverged", "nan at 3", "the rate", ())
    (remedy,) = found.remedies
    assert (remedy.parameter, remedy.change, remedy.to) == ("lr", "lower", 0.001)


@pytest.mark.parametrize(
    "remedy",
    [
        REMEDY | {"parameter": "width"},
        REMEDY | {"to": 7.0},
        REMEDY | {"to": 0.02},  # lower than 0.01 it is not
        REMEDY | {"to": "0.001"},
        REMEDY | {"to": [0.001]},
        REMEDY | {"change": "delete"},
        REMEDY | {"change": "switch"},
        {"parameter": "opt", "change": "raise", "to": "adam"},
        {"parameter": "opt", "change": "switch", "to": "sgd"},
        {"parameter": "opt", "change": "switch", "to": None},
        {"parameter": "json", "change": "switch", "to": 0},
        {"parameter": ["lr"], "change": "lower", "to": None},
        "lower the rate",
    ],
)
def test_a_remedy_that_fits_nothing_is_left_out_with_the_reason(remedy: Any) -> None:
    found = parse_diagnosis(json.dumps(DIAGNOSIS | {"remedies": [remedy]}), SPACE, PARAMS)
    assert found.remedies == () and len(found.notes) == 1


def test_remedies_beyond_the_limit_are_counted() -> None:
    found = parse_diagnosis(json.dumps(DIAGNOSIS | {"remedies": [REMEDY] * 9}), SPACE, PARAMS)
    assert len(found.remedies) == 3 and found.notes == ("6 of remedies left out: at most 3 were asked for",)


@pytest.mark.parametrize("bad", [{"finding": "haunted"}, {"finding": ["crashed"]}, {"evidence": " "}])
def test_a_diagnosis_without_its_substance_is_none(bad: dict) -> None:
    with pytest.raises(BadAnswer):
        parse_diagnosis(json.dumps(DIAGNOSIS | bad), SPACE, PARAMS)


# ------------------------------------------------------------------------------------------------ summarize


def test_a_finding_names_trials_that_exist() -> None:
    findings = [
        {"statement": "a", "trials": [1, 99, 1, True], "strength": "clear"},
        {"statement": "b", "trials": [99], "strength": "clear"},
        {"statement": "c", "trials": "1", "strength": "clear"},
        {"statement": "", "trials": [1], "strength": "clear"},
        {"statement": "d", "trials": [2], "strength": "proven"},
    ]
    found = parse_summary(json.dumps(SUMMARY | {"findings": findings}), {0, 1, 2})
    assert [(f.statement, f.trials, f.strength) for f in found.findings] == [("a", (1,), "clear"), ("d", (2,), "hint")]
    assert len(found.notes) == 3 and found.memory == "adam at 0.001"
    with pytest.raises(BadAnswer, match="memory"):
        parse_summary(json.dumps(SUMMARY | {"memory": None}), {1})


# ------------------------------------------------------------------------------------------------ priors


def test_beliefs_in_each_form() -> None:
    found = priors(
        PRIOR,
        PRIOR | {"belief": "prefer_range", "low": 1e-4, "high": None, "words": "rates ABOVE"},
        PRIOR | {"words": "like ... small nets", "parameter": "layers", "belief": "falling"},
        PRIOR | {"words": "I like adam", "parameter": "opt", "belief": "prefer_values", "values": ["adam", "adam"]},
        PRIOR | {"when": {"parameter": "opt", "value": "sgd"}, "strength": "absolute"},
        left=["before noon", 7],
    )
    assert found.notes == () and found.left_over == ("before noon",)
    above, over, falling, adam, under = found.priors
    assert (above.low, above.high, above.strength) == (None, 0.05, "strong")
    assert (over.low, over.high) == (1e-4, None)
    assert (falling.low, falling.high, falling.values) == (None, None, ())
    assert adam.values == ("adam",) and under.when == {"opt": "sgd"} and under.strength == "weak"


@pytest.mark.parametrize(
    "change",
    [
        {"words": "nrounds must be 5000"},  # nobody said so
        {"words": ""},
        {"words": "..."},
        {"parameter": "nrounds"},
        {"belief": "forbid"},
        {"high": 0.5},
        {"high": 0.1},  # the whole range
        {"high": None},
        {"high": True},
        {"high": "0.05"},
        {"belief": "prefer_range", "low": 0.09, "high": 0.01},
        {"belief": "prefer_values", "values": [7.0]},
        {"belief": "avoid_values", "values": []},
        {"parameter": "opt"},
        {"parameter": "opt", "belief": "rising"},
        {"when": {"parameter": "lr", "value": 0.1}},
        {"when": {"parameter": "opt", "value": "lion"}},
        {"when": "always"},
    ],
)
def test_what_is_no_belief_is_left_out_with_the_reason(change: dict) -> None:
    found = priors(PRIOR | change)
    assert found.priors == () and len(found.notes) == 1


WORDS = ["lr", "opt", "sgd", "avoid_above", "raise", "lower", "diverged", "Rates"]
KEYS = [*PRIOR, *DIAGNOSIS, *SUMMARY, *REMEDY, "priors", "trials", "statement"]
LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)


def nest(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, nest, max_leaves=20), st.text(max_size=20))
def test_no_text_breaks_the_readers(value: Any, prose: str) -> None:
    for seed in (DIAGNOSIS, SUMMARY, {"priors": [value], "left_over": value}):
        text = prose + json.dumps({**seed, **(value if isinstance(value, dict) else {})})
        for parse in (
            lambda t: parse_diagnosis(t, SPACE, PARAMS),
            lambda t: parse_summary(t, {1}),
            lambda t: parse_priors(t, SPACE, SAID),
        ):
            try:
                found = parse(text)
            except BadAnswer:
                continue
            for remedy in getattr(found, "remedies", ()):
                assert remedy.to is None or SPACE.parameters[remedy.parameter].problem(remedy.to) is None
            for prior in getattr(found, "priors", ()):
                assert prior.parameter in SPACE.parameters
