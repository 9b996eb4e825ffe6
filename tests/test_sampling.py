"""Random configurations under constraints, also where next to none meets them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.engines.errors import FixSpace
from tunewright.engines.history import History
from tunewright.engines.parameters import Categorical, Float, Int
from tunewright.engines.space import Space
from tunewright.engines.types import Observation

CORNER = Space({name: Float(0, 1) for name in "abc"}, ["a + b + c <= 0.2"])  # one in 750


def drawn(space, count, seed=0):
    return space.sample(np.random.default_rng(seed), count)


def test_a_corner_is_filled_evenly():
    points = np.array([list(config.values()) for seed in range(20) for config in drawn(CORNER, 180, seed)])
    assert len({tuple(point) for point in points}) == len(points)
    # Of a simplex with side s, uniformly: the mean of a coordinate is s / 4, that of their sum 3 s / 4.
    assert points.mean(axis=0) == pytest.approx(np.full(3, 0.05), abs=0.004)
    assert points.sum(axis=1).mean() == pytest.approx(0.15, abs=0.004)
    assert np.mean(points[:, 0] > 0.1) == pytest.approx(0.125, abs=0.02)


def test_parts_that_do_not_touch_all_get_their_share():
    space = Space({"x": Float(0, 1), "y": Float(0, 1)}, ["x < 0.01 or x > 0.98", "y < 0.5"])
    shares = [np.mean([config["x"] > 0.5 for config in drawn(space, 50, seed)]) for seed in range(40)]
    assert np.mean(shares) == pytest.approx(2 / 3, abs=0.08)


@pytest.mark.parametrize(
    ("parameters", "constraint", "least"),
    [
        ({"a": Int(0, 100), "b": Int(0, 100)}, "a + b == 100", 70),  # of 101
        ({"a": Int(1, 256, log=True), "b": Int(1, 256, log=True)}, "a * b == 240", 16),  # of 20
        ({"a": Categorical([*"abcdefghijkl"]), "b": Categorical([*"abcdefghijkl"]), "c": Int(1, 99)}, "a == b", 12),
        ({"a": Int(0, 9999), "b": Int(0, 9999)}, "abs(a - b) <= 1", 200),
        ({"a": Float(0, 1), "b": Float(0, 1), "c": Float(0, 1)}, "abs(a + b + c - 1) < 0.01", 250),
    ],
)
def test_parameters_that_are_bound_together_take_many_values_in_one_call(parameters, constraint, least):
    space = Space(parameters, [constraint])
    configs = drawn(space, 256)
    assert not any(space.problems(config) for config in configs)
    assert len({config["a"] for config in configs}) >= least
    # Not gathered around the few that the others began from.
    lower = np.mean([space.encode([config])[0, 0] < 0.5 for config in configs])
    assert lower == pytest.approx(np.mean([space.encode([c])[0, 0] < 0.5 for c in drawn(space, 2000, 1)]), abs=0.15)


def test_a_draw_that_repeats_gives_way_to_a_new_one_and_then_to_itself():
    space = Space({"a": Int(0, 300), "b": Int(0, 300)}, ["a + b == 300"])  # too many combinations to list
    every = [{"a": a, "b": 300 - a} for a in range(301)]
    history, rng = History(space), np.random.default_rng(0)
    history.tell([Observation(number, config, (1.0,)) for number, config in enumerate(every[:200])])
    assert history.fresh(lambda: every[0], rng, set())["a"] >= 200
    history.tell([Observation(number, config, (1.0,)) for number, config in enumerate(every) if number >= 200])
    assert history.fresh(lambda: every[0], rng, set()) == every[0]


def test_the_same_draws_again():
    assert drawn(CORNER, 100, seed=3) == drawn(CORNER, 100, seed=3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60))
def test_all_of_them_meet_the_constraints(seed, count):
    space = Space(
        {
            "kind": Categorical(["plain", "deep", "wide"]),
            "depth": Int(1, 64, when="kind == 'deep'"),
            "width": Int(1, 4096, log=True),
            "rate": Float(1e-6, 1, log=True),
        },
        ["kind == 'deep'", "depth * width <= 64", "rate * depth < 1e-3"],
    )
    configs = drawn(space, count, seed)
    assert len(configs) == count and not any(space.problems(config) for config in configs)


def test_nothing_left_is_an_error_that_says_so():
    space = Space({"a": Float(0, 1), "b": Float(0, 1)}, ["a + b > 1.9999"])
    with pytest.raises(FixSpace, match="none of 10000 random configurations") as raised:
        drawn(space, 10)
    assert raised.value.field == "constraints"
