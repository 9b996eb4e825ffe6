"""Distances between configurations: 0 the same, 1 as different as can be, whatever is active."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spaces

from tunewright.engines import Categorical, Float, Int, Space
from tunewright.engines.novelty import distance, distances, nearest

SPACE = Space(
    {
        "lr": Float(1e-4, 1e-2, log=True),
        "n": Int(1, 5),
        "opt": Categorical(["sgd", "adam"]),
        "momentum": Float(0, 1, when={"opt": "sgd"}),
    }
)
BASE = {"lr": 1e-3, "n": 3, "opt": "adam"}


@pytest.mark.parametrize(
    ("a", "b", "squares"),
    [
        ({}, {}, [0, 0, 0]),
        ({"lr": 1e-4}, {"lr": 1e-2}, [1, 0, 0]),
        ({}, {"lr": 1e-2}, [0.25, 0, 0]),
        ({"n": 1}, {"n": 5}, [0, 1, 0]),
        ({"n": 1}, {"n": 2}, [0, 1 / 16, 0]),
        ({}, {"opt": "sgd", "momentum": 0.5}, [0, 0, 1, 1]),
        ({"opt": "sgd", "momentum": 0.5}, {"opt": "sgd", "momentum": 0.8}, [0, 0, 0, 0.09]),
    ],
)
def test_the_root_mean_square_over_what_is_active_in_either(a, b, squares) -> None:
    assert distance(SPACE, BASE | a, BASE | b) == pytest.approx(np.sqrt(np.mean(squares)))


def test_the_nearest_of_several_and_of_none() -> None:
    others = [{**BASE, "n": 5}, {**BASE, "n": 4}, {**BASE, "lr": 1e-2}]
    assert nearest(SPACE, BASE, SPACE.encode(others)) == pytest.approx(0.25 / np.sqrt(3))
    assert nearest(SPACE, BASE, SPACE.encode([])) == 1


@settings(max_examples=50, deadline=None)
@given(spaces(), st.integers(0, 999))
def test_a_bounded_symmetric_distance_that_is_zero_for_the_same(space: Space, seed: int) -> None:
    configs = space.sample(np.random.default_rng(seed), 6)
    table = np.array([distances(space, config, space.encode(configs)) for config in configs])
    assert np.all((table >= 0) & (table <= 1))
    assert np.allclose(table, table.T, atol=1e-12) and np.all(np.diag(table) == 0)
