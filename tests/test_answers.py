from __future__ import annotations

import json
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tunewright.engines import Categorical, Derived, Float, Int, Space, TunewrightError
from tunewright.prompts import Answer, BadAnswer, answer_type, parse_propose, reading

SPACE = Space(
    {
        "lr": Float(1e-5, 0.1, log=True),
        "opt.kind": Categorical(["sgd", "adam"]),
        "momentum": Float(0.0, 0.99, when={"opt.kind": "sgd"}),
        "layers": Int(2, 8, step=2),
        "json": Categorical([True, False]),
        "model_config": Categorical([1, 2.5, None, "auto"]),
        "twice": Derived("2 * layers"),
    },
    constraints=["twice <= 12"],
)
GOOD = {"lr": 0.01, "opt.kind": "sgd", "momentum": 0.9, "layers": 4, "json": True, "model_config": None}


def text(*candidates: dict, **over: object) -> str:
    body = {
        "summary": "low rates win",
        "stance": "propose",
        "candidates": [{"rationale": "r", "params": c} for c in candidates],
    }
    return json.dumps(body | over)


def only(params: dict, space: Space = SPACE):
    (candidate,) = parse_propose(text(params), space, 3).candidates
    return candidate


def nested(schema: object):
    yield schema
    for child in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from nested(child)


# ------------------------------------------------------------------------------------------------ schema


def test_schema_is_strict_and_speaks_the_users_names() -> None:
    schema = answer_type(SPACE, 3).model_json_schema()
    objects = [s for s in nested(schema) if isinstance(s, dict) and s.get("type") == "object"]
    assert len(objects) == 3
    for entry in objects:
        assert entry["additionalProperties"] is False
        assert entry["required"] == list(entry["properties"])
    params = schema["$defs"]["Params"]["properties"]
    assert list(params) == ["lr", "opt.kind", "momentum", "layers", "json", "model_config"]
    assert list(schema["$defs"]["Candidate"]["properties"]) == ["rationale", "params"]
    assert (params["lr"]["minimum"], params["lr"]["maximum"], params["lr"]["type"]) == (1e-5, 0.1, "number")
    assert params["opt.kind"] == {"type": "string", "enum": ["sgd", "adam"]}
    assert {"type": "null"} in params["momentum"]["anyOf"] and 'opt.kind = "sgd"' in params["momentum"]["description"]
    assert params["layers"]["type"] == "integer" and "2 plus a multiple of 2" in params["layers"]["description"]
    assert params["json"] == {"type": "boolean"}
    kinds = {branch["type"]: branch.get("enum") for branch in params["model_config"]["anyOf"]}
    assert kinds == {"number": [2.5, 1], "string": ["auto"], "null": None}
    assert schema["properties"]["candidates"]["maxItems"] == 3
    # Strict modes want a type (or a union or reference) wherever a schema stands.
    for entry in [*params.values(), *schema["properties"].values()]:
        assert {"type", "anyOf", "$ref"} & set(entry)


def test_a_long_choice_list_is_not_enumerated() -> None:
    space = Space({"c": Categorical([f"v{i}" for i in range(201)])})
    assert answer_type(space, 1).model_json_schema()["$defs"]["Params"]["properties"]["c"] == {"type": "string"}


@pytest.mark.parametrize(
    "name", ["schema", "json", "copy", "model_config", "model_fields", "dict", "__class__", "p0", "opt.lr", "größe"]
)
def test_any_name_a_space_allows_can_be_answered(name: str) -> None:
    space = Space({name: Int(1, 3), "p1": Float(0, 1)})
    answer = text({name: 2, "p1": 0.5})
    model = answer_type(space, 2).model_validate_json(answer)
    assert json.loads(model.model_dump_json())["candidates"][0]["params"] == {name: 2, "p1": 0.5}
    assert parse_propose(answer, space, 2).candidates[0].params == {name: 2, "p1": 0.5}


def test_the_type_takes_what_fits_and_refuses_what_does_not() -> None:
    kind = answer_type(SPACE, 1)
    kind.model_validate_json(text(GOOD))
    kind.model_validate_json(text(GOOD | {"opt.kind": "adam", "momentum": None}))
    bad = [GOOD | {"lr": "0.01"}, GOOD | {"lr": True}, GOOD | {"layers": 3}, GOOD | {"extra": 1}, GOOD | {"lr": None}]
    bad += [{k: v for k, v in GOOD.items() if k != "momentum"}, GOOD | {"json": 1}]
    for params in bad:
        with pytest.raises(ValidationError):
            kind.model_validate_json(text(params))
    with pytest.raises(ValidationError):
        kind.model_validate_json(text(GOOD, GOOD))


def test_the_type_is_made_once_per_space() -> None:
    assert answer_type(SPACE, 3) is answer_type(Space.from_dict(SPACE.to_dict()), 3)
    assert answer_type(SPACE, 3) is not answer_type(SPACE, 2)


def test_openai_takes_the_schema_as_it_is() -> None:
    strict = pytest.importorskip("openai.lib._pydantic").to_strict_json_schema
    kind = answer_type(SPACE, 3)
    assert strict(kind) == kind.model_json_schema()


# ------------------------------------------------------------------------------------------------ content


def test_a_good_candidate_comes_back_in_plain_scalars_and_the_spaces_order() -> None:
    candidate = only(
        {"layers": 4.0, "lr": 0.01, "opt.kind": "adam", "momentum": None, "json": False, "model_config": 2.5}
    )
    assert candidate.problems == ()
    assert list(candidate.params.items()) == [
        ("lr", 0.01),
        ("opt.kind", "adam"),
        ("layers", 4),
        ("json", False),
        ("model_config", 2.5),
    ]
    assert type(candidate.params["layers"]) is int


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lr": 0.2}, "lr"),
        ({"lr": "0.01"}, "lr"),
        ({"lr": True}, "lr"),
        ({"lr": None}, "lr"),
        ({"lr": [0.01]}, "lr"),
        ({"lr": {"value": 0.01}}, "lr"),
        ({"layers": 3}, "layers"),
        ({"layers": 4.5}, "layers"),
        ({"layers": 10**30}, "layers"),
        ({"layers": 10**5000}, "layers"),
        ({"layers": 8}, "constraints[0]"),
        ({"json": 1}, "json"),
        ({"model_config": True}, "model_config"),
        ({"opt.kind": "adam"}, "momentum"),
        ({"opt.kind": "SGD"}, "opt.kind"),
        ({"momentum": None}, "momentum"),
        ({"unknown": 1}, "unknown"),
        ({"twice": 8}, "twice"),
    ],
)
def test_each_problem_is_named_and_nothing_is_repaired(change: dict, field: str) -> None:
    with_huge = text(GOOD | {k: v for k, v in change.items() if v != 10**5000})
    if change.get("layers") == 10**5000:
        with_huge = with_huge.replace('"layers": 4', '"layers": 1' + "0" * 5000)
    (candidate,) = parse_propose(with_huge, SPACE, 3).candidates
    assert any(problem.startswith(f"{field}: ") for problem in candidate.problems)
    json.dumps(dict(candidate.params), allow_nan=False).encode()


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400])
def test_numbers_that_no_float_holds_are_problems(literal: str) -> None:
    (candidate,) = parse_propose(text(GOOD).replace("0.01", literal), SPACE, 3).candidates
    assert any(problem.startswith("lr: ") for problem in candidate.problems)
    json.dumps(dict(candidate.params), allow_nan=False)


def test_an_end_of_a_range_may_be_written_as_it_is_told() -> None:
    """Ranges are told in four digits; their ends may have more."""
    space = Space({"w": Float(2.718281828459045, 148.4131591025766, log=True), "u": Float(0.00010000000000000009, 0.1)})
    found = only({"w": 2.718, "u": 0.0001}, space)
    assert not found.problems and found.params == {"w": 2.718281828459045, "u": 0.00010000000000000009}
    high = only({"w": 148.42, "u": 0.1}, space)  # reads 148.4
    assert not high.problems and high.params["w"] == 148.4131591025766
    assert only({"w": 2.717, "u": 0.1}, space).problems and only({"w": 2.72, "u": 0.1001}, space).problems
    made = answer_type(space, 1).model_validate(json.loads(text({"w": 2.718, "u": 0.0001})))
    assert made.candidates[0].params.model_dump(by_alias=True)["w"] == 2.718281828459045


def test_null_is_a_choice_where_active_and_absence_where_not() -> None:
    space = Space({"on": Categorical([True, False]), "mode": Categorical(["a", None], when={"on": True})})
    assert only({"on": True, "mode": None}, space).params == {"on": True, "mode": None}
    off = only({"on": False, "mode": None}, space)
    assert (off.params, off.problems) == ({"on": False}, ())
    assert only({"on": False, "mode": "a"}, space).problems


def test_an_unknown_name_never_becomes_a_known_one() -> None:
    candidate = only({("lr\u200b" if k == "lr" else k): v for k, v in GOOD.items()})
    assert "lr" not in candidate.params and len(candidate.problems) == 2


def test_floods_are_bounded() -> None:
    flood = {f"x{i}": i for i in range(5000)} | {"y" * 10_000: 1}
    candidate = only({k: v for k, v in GOOD.items() if k != "lr"} | flood)
    assert len(candidate.problems) <= 13 and sum(map(len, candidate.problems)) < 4000
    assert "lr: is missing" in candidate.problems  # not lost among the unknown names
    many = parse_propose(text(*[GOOD] * 500), SPACE, 3)
    assert len(many.candidates) == 3 and "497" in many.notes[0]


# ------------------------------------------------------------------------------------------------ packaging


@pytest.mark.parametrize(
    "wrap",
    [
        "{}",
        "\ufeff{}",
        "```json\n{}\n```",
        'Let me think about {{lr}} and {{"x": 1}}.\n{}\nHope this helps!',
        '<think>{{"summary": "draft", "stance": "abstain", "candidates": []}}</think>\n{}',
        '\n\n {} {{"unfinished": ',
    ],
)
def test_packaging_is_forgiven(wrap: str) -> None:
    answer = parse_propose(wrap.format(text(GOOD)), SPACE, 3)
    assert answer.stance == "propose" and answer.candidates[0].params == {k: GOOD[k] for k in SPACE.names}


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "I cannot help.",
        "[]",
        "42",
        "null",
        "{}",
        '{"lr": 0.1}',
        text(GOOD)[:-5],
        text(GOOD, stance="maybe"),
        text(GOOD, stance=["propose"]),
        '{"stance": "propose", "candidates": {"a": 1}}',
        '{"candidates": null}',
    ],
)
def test_what_is_no_answer_says_why(bad: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        parse_propose(bad, SPACE, 3)
    assert isinstance(caught.value, TunewrightError) and caught.value.problems and all(caught.value.problems)


def test_stances_without_candidates() -> None:
    engine = parse_propose('{"summary": "s", "stance": "accept_engine", "candidates": []}', SPACE, 3)
    assert engine == Answer("s", "accept_engine")
    assert parse_propose('{"stance": "abstain"}', SPACE, 3).stance == "abstain"
    empty = parse_propose(text(), SPACE, 3)
    assert empty.stance == "abstain" and empty.notes
    torn = parse_propose(text(GOOD, stance="abstain"), SPACE, 3)
    assert torn.candidates == () and "1 candidates left out" in torn.notes[0]


def test_words_are_cut_and_cannot_drive_a_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[31mred\u202e\ud800\u2028line\r\nnext\x00 " + "z" * 100_000
    answer = parse_propose(text(GOOD | {evil: 1, "opt.kind": evil}, summary=evil), SPACE, 3)
    (candidate,) = answer.candidates
    shown = [answer.summary, candidate.rationale, *candidate.problems, *map(str, candidate.params.values())]
    assert all(unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" for line in shown for c in line)
    assert max(map(len, shown)) <= 600 and answer.summary.endswith("…")
    json.dumps(dict(candidate.params)).encode()


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 900_000,
        '{"a":' * 150_000,
        '{"candidates":' + "[" * 500_000,
        '{"candidates": [' + "1," * 400_000,
        '{"' * 400_000,
        '{"a": "' * 120_000,
        " " * 900_000,
        "{" + " " * 900_000,
        '{"x":[' + "1," * 300_000 + '{"a":' * 60_000,
        "x" * 2_000_000,
    ],
)
def test_large_and_deep_texts_end_in_bad_answer(hostile: str) -> None:
    with pytest.raises(BadAnswer):
        parse_propose(hostile, SPACE, 3)


def test_a_text_is_not_read_again_for_every_brace_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(reading, "MAX_TEXT", 10_000)
    monkeypatch.setattr(reading, "_number", lambda digits, kind: read.append(digits))
    with pytest.raises(BadAnswer):
        parse_propose('{"a":[' * 300 + "1," * 3_500, SPACE, 3)
    assert 0 < len(read) < 10 * 3_500


def test_a_deep_value_is_a_problem() -> None:
    deep = text(GOOD).replace("0.01", "[" * 400 + "]" * 400)
    (candidate,) = parse_propose(deep, SPACE, 3).candidates
    assert candidate.problems == ("lr: a list is not a value",)


# ------------------------------------------------------------------------------------------------ fuzz


def check_anything(raw: str) -> bool:
    try:
        answer = parse_propose(raw, SPACE, 3)
    except BadAnswer:
        return False
    assert len(answer.candidates) <= 3
    for candidate in answer.candidates:
        json.dumps(dict(candidate.params), allow_nan=False).encode()
        if not candidate.problems:
            assert SPACE.check(candidate.params) == candidate.params
    return True


TOKENS = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "NaN",
    "1e999",
    "true",
    "-",
    "0",
    "\\",
    "\\ud800",
    "\x1b",
    "\x00",
    "'",
    "9" * 330,
]


def test_mutated_answers_raise_nothing_else() -> None:
    rng = random.Random(7)
    seeds = [text(GOOD), text(GOOD, GOOD | {"opt.kind": "adam", "momentum": None}), f"```json\n{text(GOOD)}\n```"]
    kept = 0
    for _ in range(20_000):
        raw = rng.choice(seeds)
        for _ in range(rng.randint(1, 4)):
            at, end = sorted(rng.randrange(len(raw)) for _ in range(2))
            raw = raw[:at] + rng.choice(TOKENS) + raw[rng.choice((at, at + 1, end)) :] + " "
        kept += check_anything(raw)
    assert 500 < kept < 19_500


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(list(GOOD.values()))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
PARAMS = st.dictionaries(st.sampled_from([*GOOD, "twice"]) | st.text(max_size=6), VALUES, max_size=8).map(
    lambda d: GOOD | d
)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES | st.fixed_dictionaries({"rationale": VALUES, "params": PARAMS | VALUES}), max_size=5), VALUES)
def test_any_json_content(candidates: list, summary: object) -> None:
    assert check_anything(json.dumps({"summary": summary, "stance": "propose", "candidates": candidates}))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from('{}[]",:\\ntrue0123456789.eE- \n`abc') | st.characters(), max_size=120))
def test_any_text(raw: str) -> None:
    check_anything(raw)
    check_anything('{"stance": "propose", "candidates": [' + raw + "]}")
