"""Spaces: units, sampling, conditions, counting, files, identity, and what is said about bad ones."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import spaces

from tunewright.engines import Categorical, Derived, FixExpression, FixParams, FixSpace, Float, Int, Space, counting

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=60, deadline=None)


# ------------------------------------------------------------------------------------------------ units and sampling


@few
@given(spaces(), seeds)
def test_samples_are_valid_and_survive_the_unit_encoding(space: Space, seed: int) -> None:
    configs = space.sample(np.random.default_rng(seed), 20)
    units = space.encode(configs)
    assert units.shape == (20, len(space.names))
    present = ~np.isnan(units)
    assert np.all((units[present] >= 0) & (units[present] <= 1))
    for config, row, back in zip(configs, present, space.decode(units), strict=True):
        assert space.problems(config) == []
        assert {n for n, on in zip(space.names, row, strict=True) if on} == set(config)
        assert list(back) == list(config)
        for name, value in config.items():
            if isinstance(space.parameters[name], Float) and space.parameters[name].step is None:
                span = max(abs(space.parameters[name].low), abs(space.parameters[name].high))
                assert math.isclose(back[name], value, rel_tol=1e-9, abs_tol=1e-12 * span)
            else:
                assert back[name] == value and type(back[name]) is type(value)


@pytest.mark.parametrize(
    "parameter",
    [
        Float(1e-5, 1e-1, log=True),
        Float(-3.0, 7.0),
        Float(0.1, 0.95, step=0.1),
        Int(1, 1000, log=True),
        Int(-5, 20, step=3),
        Categorical(["a", 2, None, False]),
    ],
)
def test_ten_thousand_samples_stay_in_bounds_and_reach_every_value(parameter) -> None:
    space = Space({"p": parameter})
    values = [config["p"] for config in space.sample(np.random.default_rng(0), 10_000)]
    assert all(parameter.problem(value) is None for value in values)
    if parameter.count <= 10:
        counts = [sum(v == parameter.value_at(k) for v in values) for k in range(parameter.count)]
        assert sum(counts) == 10_000
        assert stats.chisquare(counts).pvalue > 1e-4


def test_log_scaled_floats_are_log_uniform() -> None:
    space = Space({"lr": Float(1e-6, 1.0, log=True)})
    logs = [math.log10(config["lr"]) for config in space.sample(np.random.default_rng(3), 5000)]
    assert stats.kstest(logs, stats.uniform(-6, 6).cdf).pvalue > 1e-3
    assert stats.kstest([10**x for x in logs], stats.uniform(0, 1).cdf).pvalue < 1e-6


def test_log_scaled_ints_give_each_value_its_share_of_the_log_axis() -> None:
    space = Space({"n": Int(1, 8, log=True)})
    drawn = [config["n"] for config in space.sample(np.random.default_rng(3), 20_000)]
    edges = np.log(np.arange(0.5, 9))
    expected = 20_000 * np.diff(edges) / (edges[-1] - edges[0])
    assert stats.chisquare([drawn.count(k) for k in range(1, 9)], expected).pvalue > 1e-4


def test_the_ends_of_a_range_are_exact() -> None:
    for p in (Float(1e-5, 0.1, log=True), Float(-0.3, 0.9), Float(-1e308, 1e308), Float(1e-300, 1e300, log=True)):
        assert (p.from_unit(0), p.from_unit(1)) == (p.low, p.high)
        assert (p.to_unit(p.low), p.to_unit(p.high)) == (0, 1)
        assert p.low < p.from_unit(0.5) < p.high
    assert Float(0, 5e-324).to_unit(5e-324) == 1  # half of which is nothing


def test_stepped_values_are_free_of_decimal_noise_at_any_scale() -> None:
    assert [Float(0, 0.5, step=0.1).value_at(k) for k in range(6)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert [Float(1e-14, 4e-14, step=1e-14).value_at(k) for k in range(4)] == [1e-14, 2e-14, 3e-14, 4e-14]
    awkward = Float(0.12345678901234567, 1, step=0.1)
    assert all(awkward.problem(awkward.value_at(k)) is None for k in range(awkward.count))
    assert math.copysign(1, Float(-0.2, 0.2, step=0.1).value_at(2)) == 1


def test_one_valued_parameters_have_one_value() -> None:
    space = Space({"f": Float(2, 2), "l": Float(2, 2, log=True), "s": Float(2, 2.5, step=1), "i": Int(3, 3)})
    assert space.size() == 1
    assert space.sample(np.random.default_rng(0)) == {"f": 2.0, "l": 2.0, "s": 2.0, "i": 3}


def test_constraints_that_leave_nothing_are_reported() -> None:
    space = Space({"a": Float(0, 1)}, constraints=["a > 2"])
    with pytest.raises(FixSpace, match="a > 2"):
        space.sample(np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------ conditions


DEEP = Space(
    {
        "nesterov": Categorical([True, False], when="momentum > 0.5"),
        "momentum": Float(0, 0.99, when={"opt": ["sgd", "rms"]}),
        "opt": Categorical(["sgd", "adam", "rms"], when={"model": "net"}),
        "model": Categorical(["net", "tree"]),
        "lr2": Derived("2 * momentum"),
        "depth": Int(1, 3, when="lr2 > 1.5"),
    },
    constraints=["momentum < 0.9"],
)


def test_children_follow_their_parents_at_any_depth() -> None:
    assert DEEP.names == ("model", "opt", "momentum", "nesterov", "depth")
    seen = set()
    for config in DEEP.sample(np.random.default_rng(1), 300):
        assert ("opt" in config) == (config["model"] == "net")
        assert ("momentum" in config) == (config.get("opt") in ("sgd", "rms"))
        assert ("nesterov" in config) == (config.get("momentum", 0) > 0.5)
        assert ("depth" in config) == (2 * config.get("momentum", 0) > 1.5)
        assert config.get("momentum", 0) < 0.9
        seen.add(tuple(config))
    assert len(seen) == 5


@few
@given(spaces(), seeds)
def test_an_inactive_parameter_is_never_part_of_a_valid_configuration(space: Space, seed: int) -> None:
    config = space.sample(np.random.default_rng(seed))
    for name in space.names:
        if name not in config:
            extra = {**config, name: space.parameters[name].value_at(0)}
            assert any(p.field == name and "not active" in p.message for p in space.problems(extra))
        else:
            fields = {p.field for p in space.problems({n: v for n, v in config.items() if n != name})}
            assert name in fields


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({"x": Int(0, 3), "y": Int(0, 9), "inverse": Derived("1 / x")}, 3 * 10),
        ({"x": Int(0, 3), "inverse": Derived("1 / x"), "y": Int(0, 9, when="inverse > 0.4")}, 2 * 10 + 1),
        ({"x": Int(0, 3), "y": Int(0, 9, when="6 / x > 2")}, 2 * 10 + 1),
    ],
)
def test_what_cannot_be_computed_is_infeasible_and_never_sampled(parameters, size) -> None:
    space = Space(parameters)
    configs = space.sample(np.random.default_rng(0), 200)
    assert {c["x"] for c in configs} == {1, 2, 3}
    assert all(space.problems(c) == [] for c in configs)
    for params in ({"x": 0}, {"x": 0, "y": 1}):
        assert not space.feasible(params)
        assert space.problems(params)
    assert space.size() == sum(1 for _ in space.enumerate(2)) == size


def test_completing_adds_derived_values_where_their_sources_are_active() -> None:
    assert DEEP.complete({"model": "net", "opt": "sgd", "momentum": 0.25}) == {
        "momentum": 0.25,
        "opt": "sgd",
        "model": "net",
        "lr2": 0.5,
    }
    assert DEEP.complete({"model": "tree"}) == {"model": "tree"}
    assert DEEP.free(DEEP.complete({"model": "net", "opt": "sgd", "momentum": 0.25})).keys() == {
        "model",
        "opt",
        "momentum",
    }


def test_the_default_is_made_of_defaults_then_knowledge_then_middles() -> None:
    space = Space(
        {"a": Float(0, 1, default=0.9), "b": Int(1, 9), "c": Categorical(["x", "y"]), "d": Float(0, 1, when={"c": "y"})}
    )
    assert space.default() == {"a": 0.9, "b": 5, "c": "x"}
    assert space.default({"a": 0.1, "b": 2.0, "c": "y", "nothing": 3}) == {"a": 0.9, "b": 2, "c": "y", "d": 0.5}
    assert space.default({"b": 99}) == {"a": 0.9, "b": 5, "c": "x"}
    assert Space({"b": Int(1, 9)}).default() is None
    assert Space({"b": Int(1, 9, default=8)}, ["b < 5"]).default() is None


# ------------------------------------------------------------------------------------------------ counting


@few
@given(spaces(finite=True, most=4))
def test_a_finite_space_has_as_many_configurations_as_it_lists(space: Space) -> None:
    listed = list(space.enumerate(points=2))
    assert space.size() == len(listed)
    assert len({space.key(config) for config in listed}) == len(listed)
    assert all(space.problems(config) == [] for config in listed)


def test_listing_takes_all_values_of_a_discrete_and_some_of_a_continuous_parameter() -> None:
    space = Space({"lr": Float(1e-3, 1e-1, log=True), "n": Int(1, 7)})
    listed = list(space.enumerate(3))
    assert space.size() == math.inf
    assert [c["n"] for c in listed[:7]] == [1, 2, 3, 4, 5, 6, 7]
    assert [c["lr"] for c in listed[::7]] == pytest.approx([1e-3, 1e-2, 1e-1])


def test_a_space_is_counted_once(monkeypatch) -> None:
    counted = []
    monkeypatch.setattr(counting, "size", lambda space: counted.append(space) or 7.0)
    space = Space({"i": Int(1, 7)})
    assert (space.size(), space.size(), len(counted)) == (7, 7, 1)


def test_the_size_of_a_large_space_is_a_bound_found_at_once() -> None:
    space = Space({f"p{i}": Int(1, 1000) for i in range(4)}, constraints=["p0 * p1 * p2 * p3 < 5"])
    assert space.size() == 1000**4
    assert next(space.enumerate(5)) == {"p0": 1, "p1": 1, "p2": 1, "p3": 1}


# ------------------------------------------------------------------------------------------------ files and identity


@few
@given(spaces(), seeds)
def test_a_space_survives_json_and_yaml(space: Space, seed: int) -> None:
    config = space.sample(np.random.default_rng(seed))
    for again in (Space.from_json(space.to_json()), Space.from_yaml(space.to_yaml()), Space.from_dict(space.to_dict())):
        assert again == space and hash(again) == hash(space)
        assert again.names == space.names
        assert again.key(config) == space.key(config)
        assert again.sample(np.random.default_rng(seed)) == config
        assert again.to_json() == space.to_json()


def test_every_argument_of_a_parameter_survives_a_file() -> None:
    parameters = {
        "f": Float(0, 4, step=1.0, default=2.0),
        "i": Int(2, 64, log=True, default=8, when={"c": ["x", "y"], "b": True}),
        "c": Categorical(["x", "y", "null"], default="y"),
        "b": Categorical([True, False], default=False),
        "d": Derived("f * 2"),
    }
    again = Space.from_yaml(Space(parameters, ["f < 4"]).to_yaml())
    assert again.declared["f"] == parameters["f"]
    assert again.declared["i"].when == {"c": ["x", "y"], "b": True}
    assert again.declared["i"].log and again.declared["i"].default == 8
    assert again.declared["c"] == parameters["c"] and again.declared["b"] == parameters["b"]
    assert again.declared["d"] == parameters["d"] and [c.text for c in again.constraints] == ["f < 4"]


def test_yaml_numbers_without_a_dot_are_numbers() -> None:
    space = Space.from_yaml(
        "parameters: {lr: {type: float, low: 1e-5, high: 1e-1, log: true}, n: {type: int, low: 1, high: 1e3}}"
    )
    assert space.parameters["lr"] == Float(1e-5, 1e-1, log=True)
    assert space.parameters["n"] == Int(1, 1000)


def test_the_key_depends_on_values_not_on_how_they_are_written() -> None:
    space = Space({"a": Float(-1, 1), "n": Int(1, 9), "c": Categorical(["x", 1, None])})
    key = space.key({"a": 0.0, "n": 3, "c": 1})
    for same in (
        {"c": 1, "n": 3, "a": 0.0},
        {"a": -0.0, "n": 3.0, "c": 1.0},
        {"a": np.float64(0), "n": np.int64(3), "c": True},
    ):
        assert space.key(same) == key
    assert space.key({"a": 0, "n": np.int32(3), "c": np.float32(1), "derived": 5}) == key
    assert space.key({"a": 1e-9, "n": 3, "c": 1}) != key
    assert space.key({"a": 0.0, "n": 4, "c": 1}) != key
    assert space.key({"a": 0.0, "n": 3, "c": "x"}) != key
    # The way through the unit interval and back costs the last digits of a float.
    assert space.key({"a": 0.1 + 0.2, "n": 3, "c": 1}) == space.key({"a": 0.3, "n": 3, "c": 1})
    # Stored keys must still be found by a later release.
    assert key == "20a36b83a55e7757"


def test_spaces_in_another_order_are_other_spaces() -> None:
    one, two = Space({"a": Int(1, 2), "b": Int(1, 2)}), Space({"b": Int(1, 2), "a": Int(1, 2)})
    assert one != two
    assert one == Space({"a": Int(1, 2), "b": Int(1, 2)})


def test_numpy_scalars_come_back_plain() -> None:
    space = Space(
        {
            "lr": Float(np.float64(0.1), np.float32(0.5), default=np.float64(0.2)),
            "n": Int(np.int64(1), np.int32(9)),
            "c": Categorical([np.float64(0.5), np.int64(3), np.str_("s"), np.bool_(False)]),
        }
    )
    config = space.check({"lr": np.float64(0.3), "n": np.float64(4.0), "c": np.int64(3)})
    assert [type(v) for v in config.values()] == [float, int, int]
    assert [type(c) for c in space.parameters["c"].choices] == [float, int, str, bool]
    assert type(space.parameters["lr"].low) is type(space.parameters["lr"].default) is float
    json.dumps(space.to_dict(), allow_nan=False)


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float(1, 0), ("Float", "inverted", "Float(0.0, 1.0)")),
        (lambda: Float(0, 1, log=True), ("log scale", "raise low")),
        (lambda: Float(0, math.inf), ("high", "finite")),
        (lambda: Float("a", 1), ("low", "'a'")),
        (lambda: Float(0, 1, step=0), ("step", "above zero")),
        (lambda: Float(0.1, 1, step=0.1, log=True), ("step", "log")),
        (lambda: Float(0, 1, default=2), ("default", "outside")),
        (lambda: Float(0, True), ("high", "number")),
        (lambda: Float(0, 10**400), ("high", "finite")),
        (lambda: Int(1, 2.5), ("whole", "2.5", "Float")),
        (lambda: Int(1, 5, step=0), ("step", "at least 1")),
        (lambda: Int(1, None), ("high", "number")),
        (lambda: Int(1, 5, default=9), ("default", "outside")),
        (lambda: Categorical([]), ("non-empty",)),
        (lambda: Categorical("abc"), ("non-empty", '["a", "b"]')),
        (lambda: Categorical(["a", "a"]), ("twice",)),
        (lambda: Categorical([1, True]), ("twice",)),
        (lambda: Categorical([math.inf]), ("finite",)),
        (lambda: Categorical([[1, 2]]), ("string",)),
        (lambda: Categorical(["a"], default="b"), ("default", "not one of")),
        (lambda: Space({}), ("at least one",)),
        (lambda: Space({"a b": Int(1, 2)}), ("a b", "rename")),
        (lambda: Space({"a": 3}), ("space['a']", "Float")),
        (lambda: Space({"a": Derived("1")}), ("derived",)),
        (lambda: Space({"a": Int(1, 2, when={"b": 1})}), ("a.when", "b")),
        (lambda: Space({"a": Int(1, 2), "b": Int(1, 2, when={"a": 3})}), ("b.when", "never takes", "3")),
        (lambda: Space({"a": Int(1, 2), "b": Int(1, 2, when={"a": []})}), ("b.when",)),
        (lambda: Space({"a": Int(1, 2, when="b > 1"), "b": Int(1, 2, when="a > 1")}), ("circle", "a -> b -> a")),
        (lambda: Space({"a": Int(1, 2)}, "a < 2"), ("constraints", "['a < 2']")),
        (lambda: Space({"a": Int(1, 2)}, ["c < 2"]), ("constraints[0]", "c")),
        (lambda: Space.from_dict({"a": 1}), ("parameters",)),
        (lambda: Space.from_dict({"parameters": {"a": {"type": "real"}}}), ("space['a']", "float, int")),
        (lambda: Space.from_dict({"parameters": {"a": {"type": "int", "lo": 1}}}), ("space['a']", "lo")),
        (
            lambda: Space.from_dict({"parameters": {"a": {"type": "int", "low": 3, "high": 1}}}),
            ("space['a']", "inverted"),
        ),
        (lambda: Space.from_json("{"), ("JSON",)),
        (lambda: Space.from_yaml("a: ["), ("YAML",)),
    ],
)
def test_a_bad_space_is_named_with_its_value_and_a_fix(make, words) -> None:
    with pytest.raises(FixSpace) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"n": 3, "c": "x"}, "a: is missing"),
        ({"a": 2.0, "n": 3, "c": "x"}, "outside [0.0, 1.0]"),
        ({"a": math.nan, "n": 3, "c": "x"}, "not finite"),
        ({"a": "0.5", "n": 3, "c": "x"}, "not a number"),
        ({"a": 10**400, "n": 3, "c": "x"}, "not finite"),
        ({"a": np.zeros(2), "n": 3, "c": "x"}, "not a number"),
        ({"a": 0.5, "n": 3.5, "c": "x"}, "not a whole number"),
        ({"a": 0.5, "n": True, "c": "x"}, "not a whole number"),
        ({"a": 0.5, "n": 4, "c": "x"}, "multiple of 2"),
        ({"a": 0.5, "n": 3, "c": "1"}, "not one of"),
        ({"a": 0.5, "n": 3, "c": ["x"]}, "not one of"),
        ({"a": 0.5, "n": 3, "c": np.zeros(2)}, "not one of"),
        ({"a": 0.5, "n": 3, "c": "x", "e": 1}, "not a parameter"),
        ({"a": 0.5, "n": 3, "c": "x", "d": 1}, "cannot be set"),
        ({"a": 0.9, "n": 9, "c": "x"}, "'a * n < 8' is broken"),
        ([1, 2], "a mapping"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_reason(params, words) -> None:
    space = Space(
        {"a": Float(0, 1), "n": Int(1, 9, step=2), "c": Categorical(["x", 1]), "d": Derived("a + n")}, ["a * n < 8"]
    )
    with pytest.raises(FixParams) as caught:
        space.check(params)
    assert words in str(caught.value)


def test_every_problem_is_listed() -> None:
    with pytest.raises(FixParams) as caught:
        Space({"a": Float(0, 1), "b": Int(1, 2)}).check({"a": 3, "z": 1})
    assert [p.field for p in caught.value.data["problems"]] == ["z", "a", "b"]


def test_a_condition_on_a_bad_expression_names_its_field() -> None:
    with pytest.raises(FixExpression, match=r"b\.when"):
        Space({"a": Int(1, 2), "b": Int(1, 2, when="a.real > 1")})
