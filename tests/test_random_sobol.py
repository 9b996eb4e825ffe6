"""Random and Sobol search: coverage, no repeats while there is room, each proposal from its own stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spaces

from tunewright.engines import Categorical, FixArgument, FixSpace, Float, Int, Objective, Observation, Proposal, Space
from tunewright.engines.random import Random
from tunewright.engines.sobol import Sobol

LOSS = (Objective("loss"),)
SQUARE = Space({"x": Float(0, 1), "y": Float(0, 1)})
both = pytest.mark.parametrize("engine", [Random, Sobol])


def told(engine, configs) -> None:
    engine.tell([Observation(k, c, (0.0,)) for k, c in enumerate(configs)])


@both
def test_the_kth_proposal_does_not_depend_on_what_was_asked_before(engine) -> None:
    one, other = engine(SQUARE, LOSS, 5), engine(SQUARE, LOSS, 5)
    batch = one.ask(5, index=3)
    assert [other.ask(index=k)[0].params for k in (7, 3, 5)] == [batch[4].params, batch[0].params, batch[2].params]
    assert engine(SQUARE, LOSS, 6).ask(index=3)[0].params != batch[0].params
    assert len({p.params["x"] for p in batch}) == 5
    assert all(p.tags == {"phase": "startup"} for p in batch)


@both
@settings(max_examples=30, deadline=None)
@given(space=spaces(), seed=st.integers(0, 99))
def test_any_space_is_covered_by_valid_proposals(engine, space: Space, seed: int) -> None:
    assert all(space.problems(p.params) == [] for p in engine(space, LOSS, seed).ask(3, index=4))


@both
def test_a_finite_space_is_used_up_before_anything_repeats(engine) -> None:
    space = Space({"c": Categorical(list("abcde")), "n": Int(1, 40)})
    search = engine(space, LOSS, 0)
    running = [Proposal({"c": "a", "n": n}) for n in range(1, 6)]
    told(search, [p.params for p in search.ask(100, running, index=0)])
    rest = search.ask(95, running, index=100)
    told(search, [p.params for p in rest])
    assert len(search._history.keys) == 195
    repeat = search.ask(index=200, pending=running)[0].params
    assert space.problems(repeat) == [] and repeat not in [p.params for p in running]


@both
def test_the_last_untried_configuration_of_a_constrained_space_is_found(engine) -> None:
    space = Space({"a": Int(1, 20), "b": Int(1, 20)}, constraints=["a + b <= 3", "a <= 2"])
    search = engine(space, LOSS, 0)
    told(search, [{"a": 1, "b": 1}, {"a": 2, "b": 1}])
    assert search.ask(index=2)[0].params == {"a": 1, "b": 2}


def test_random_is_uniform_on_the_scale_of_each_parameter() -> None:
    space = Space({"lr": Float(1e-4, 1, log=True)})
    units = space.encode([p.params for p in Random(space, LOSS, 1).ask(800, index=0)])
    assert np.histogram(units, bins=4, range=(0, 1))[0] == pytest.approx([200] * 4, abs=50)


def test_sobol_covers_more_evenly_than_chance() -> None:
    points = SQUARE.encode([p.params for p in Sobol(SQUARE, LOSS, 3).ask(64, index=0)])
    # 64 points of a (0, 2)-sequence: exactly one in each cell of an 8 x 8 grid.
    assert len({tuple(cell) for cell in np.floor(points * 8).astype(int)}) == 64


def test_sobol_skips_what_breaks_a_constraint_and_stays_even() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)}, constraints=["x + y <= 1"])
    points = space.encode([p.params for p in Sobol(space, LOSS, 3).ask(128, index=0)])
    assert np.all(points.sum(axis=1) <= 1)
    inside = np.floor(points * 4).astype(int)
    full = [(i, j) for i in range(4) for j in range(4) if i + j < 3]
    counts = [int(np.all(inside == cell, axis=1).sum()) for cell in full]
    assert min(counts) >= 13 and max(counts) <= 19


def test_sobol_reports_constraints_that_leave_nothing() -> None:
    with pytest.raises(FixSpace, match="x > 2"):
        Sobol(Space({"x": Float(0, 1)}, ["x > 2"]), LOSS, 0).ask(index=0)


@both
def test_unknown_options_are_refused(engine) -> None:
    with pytest.raises(FixArgument, match="scramble"):
        engine(SQUARE, LOSS, 0, scramble=False)
