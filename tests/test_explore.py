"""The explore step of population based training: how the params of a copied member move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.engines import (
    Categorical,
    Float,
    Int,
    Space,
)
from tunewright.engines.schedulers.explore import explore, perturb
from tunewright.engines.schedulers.testing import SPACE
from tunewright.engines.types import stream


@pytest.mark.parametrize(
    ("parameter", "value", "factor", "expected"),
    [
        (Float(1e-4, 1.0, log=True), 0.01, 1.2, 0.012),
        (Float(0.0, 1.0), 0.5, 0.8, 0.4),
        (Float(0.0, 1.0), 0.9, 1.2, 1.0),  # cut at the bound
        (Float(0.3, 1.0), 0.31, 0.8, 0.3),
        (Float(-2.0, 2.0), -1.0, 1.2, -1.2),
        (Float(0.0, 1.0), 0.0, 1.2, 0.0),
        (Float(0.0, 1.0, step=0.25), 0.5, 1.2, 0.75),  # less than half a step would not move it
        (Int(1, 100), 50, 0.8, 40),
        (Int(1, 100), 2, 1.2, 3),
        (Int(1, 100), 2, 0.8, 1),
        (Int(1, 100), 1, 0.8, 2),  # turns back at the border
        (Int(1, 100), 100, 1.2, 99),
        (Int(-5, 5), -2, 1.2, -3),
        (Int(-5, 5), -2, 0.8, -1),
        (Int(0, 9), 0, 1.2, 1),
        (Int(8, 64, step=8), 32, 1.2, 40),
        (Int(1, 512, log=True), 100, 1.2, 120),
        (Int(4, 4), 4, 1.2, 4),
        (Categorical(["a", "b"]), "a", 1.2, "a"),
    ],
)
def test_perturb(parameter, value, factor, expected):
    moved = perturb(parameter, value, factor)
    assert moved == pytest.approx(expected) if isinstance(expected, float) else moved == expected
    assert parameter.problem(moved) is None


@given(low=st.integers(-50, 50), count=st.integers(2, 60), step=st.integers(1, 4), data=st.data())
def test_a_perturbed_integer_always_moves_and_stays_in_range(low, count, step, data):
    parameter = Int(low, low + step * (count - 1), step=step)
    value = parameter.value_at(data.draw(st.integers(0, count - 1)))
    moved = perturb(parameter, value, data.draw(st.sampled_from([0.8, 1.2])))
    assert moved != value and parameter.problem(moved) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), resample=st.sampled_from([0.0, 0.25, 1.0]))
def test_explore_gives_valid_configurations(seed, resample):
    rng = np.random.default_rng(seed)
    config = explore(SPACE, SPACE.sample(rng), rng, resample=resample)
    assert SPACE.problems(config) == []


def test_explore_meets_constraints_or_leaves_the_params_alone():
    near = Space({"a": Float(1, 10), "b": Float(1, 10)}, constraints=["a <= b"])
    for k in range(50):
        config = explore(near, {"a": 5.0, "b": 5.0}, stream(0, k))
        assert config["a"] <= config["b"]
    frozen = Space({"a": Int(1, 2**40)}, constraints=["a == 7"])
    assert explore(frozen, {"a": 7}, stream(0, 0)) == {"a": 7}


def test_explore_without_resampling_multiplies_each_parameter_by_a_factor_of_its_own():
    space = Space({"a": Float(0.001, 1000, log=True), "b": Float(0.001, 1000), "c": Categorical(["x", "y"])})
    seen = set()
    for k in range(200):
        config = explore(space, {"a": 1.0, "b": 10.0, "c": "x"}, stream(1, k), resample=0.0)
        assert config["c"] == "x"
        seen.add((round(config["a"], 9), round(config["b"], 9)))
    assert seen == {(0.8, 8.0), (0.8, 12.0), (1.2, 8.0), (1.2, 12.0)}


def test_explore_resamples_with_the_given_probability():
    space = Space({"a": Float(0.0, 1e6), "c": Categorical(list(range(1000)))})
    configs = [explore(space, {"a": 1.0, "c": 0}, stream(2, k)) for k in range(1000)]
    for moved in (sum(c["a"] > 1.3 for c in configs), sum(c["c"] != 0 for c in configs)):
        assert 200 < moved < 300  # 250 expected, standard deviation 13.7


def test_a_new_choice_brings_its_own_parameters():
    space = Space({"opt": Categorical(["sgd", "adam"]), "momentum": Float(0, 0.9, when={"opt": "sgd"})})
    configs = [explore(space, {"opt": "adam"}, stream(3, k), resample=1.0) for k in range(50)]
    drawn = {c["momentum"] for c in configs if c["opt"] == "sgd"}
    assert len(drawn) > 10 and all("momentum" not in c for c in configs if c["opt"] == "adam")
