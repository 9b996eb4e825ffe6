"""NSGA-II: its sort and crowding are those of the definitions, and it finds fronts that random search does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spaces

from tunewright.engines import Categorical, FixArgument, Float, Int, Objective, Observation, Space, State
from tunewright.engines.nsga2 import NSGA2
from tunewright.engines.pareto import crowding_distances, non_dominated_fronts, pareto_front
from tunewright.engines.random import Random
from tunewright.engines.space import Params

BOTH = (Objective("loss"), Objective("time"))
LINE = Space({"x": Float(0, 1)})
tables = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.lists(st.integers(0, 4), min_size=m, max_size=m), min_size=1, max_size=14)
).map(lambda rows: np.array(rows, dtype=float))  # fmt: skip


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def area(points: list[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The hypervolume of two losses: what is dominated by some point, up to the reference."""
    total, lowest = 0.0, reference[1]
    for a, b in sorted(points):
        if a < reference[0] and b < lowest:
            total += (reference[0] - a) * (lowest - b)
            lowest = b
    return total


def run(engine, f, trials: int) -> list[tuple[float, float]]:
    values = []
    for k in range(trials):
        params = dict(engine.ask(index=k)[0].params)
        values.append(f(params))
        engine.tell([Observation(k, params, values[-1])])
    return values


# ------------------------------------------------------------------------------------------------ sort and crowding


@settings(max_examples=200, deadline=None)
@given(tables)
def test_the_front_is_what_no_other_dominates(losses: np.ndarray) -> None:
    expected = [i for i, row in enumerate(losses) if not any(dominates(other, row) for other in losses)]
    assert pareto_front(losses) == expected


@settings(max_examples=200, deadline=None)
@given(tables)
def test_the_sort_takes_away_front_after_front(losses: np.ndarray) -> None:
    left, expected = list(range(len(losses))), []
    while left:
        front = [i for i in left if not any(dominates(losses[j], losses[i]) for j in left)]
        expected.append(front)
        left = [i for i in left if i not in front]
    assert [front.tolist() for front in non_dominated_fronts(losses)] == expected


def test_crowding_is_the_side_of_the_box_between_neighbours_and_infinite_at_the_ends() -> None:
    front = np.array([[0.0, 10.0], [1.0, 6.0], [3.0, 5.0], [4.0, 0.0]])
    got = crowding_distances(front[[2, 0, 3, 1]])
    assert got.tolist() == pytest.approx([3 / 4 + 6 / 10, math.inf, math.inf, 3 / 4 + 5 / 10])
    assert np.all(np.isinf(crowding_distances(np.array([[1.0, 2.0]]))))
    assert not np.any(np.isnan(crowding_distances(np.ones((5, 2)))))


@settings(max_examples=100, deadline=None)
@given(tables)
def test_crowding_of_the_ends_is_infinite_and_of_none_undefined(losses: np.ndarray) -> None:
    got = crowding_distances(losses)
    assert not np.any(np.isnan(got)) and np.all(got >= 0)
    for column in losses.T:
        assert np.isinf(got[column == column.min()]).any() and np.isinf(got[column == column.max()]).any()


# ------------------------------------------------------------------------------------------------ the population


def alive(observations: list[Observation], objectives=BOTH, population: int = 2) -> list[int]:
    engine = NSGA2(LINE, objectives, 0, population=population)
    engine.tell(observations)
    return [o.number for o in engine._population]


def seen(number: int, *values: float, **more) -> Observation:
    return Observation(number, {"x": number / 100}, values or None, **more)


def test_the_better_front_stays_and_of_one_front_the_more_isolated() -> None:
    assert set(alive([seen(0, 5, 5), seen(1, 1, 4), seen(2, 4, 1)])) == {1, 2}
    front = [seen(0, 0, 10), seen(1, 4.9, 5.1), seen(2, 5, 5), seen(3, 5.2, 4.8), seen(4, 10, 0)]
    assert set(alive(front, population=3)) == {0, 1, 4}  # 2, and then 3, is nearer to its neighbours than 1


def test_directions_turn_the_losses() -> None:
    objectives = (Objective("accuracy", "maximize"), Objective("time"))
    assert set(alive([seen(0, 0.9, 5), seen(1, 0.5, 9), seen(2, 0.4, 1), seen(3, 0.3, 2)], objectives)) == {0, 2}


def test_failures_then_broken_constraints_then_lower_fidelities_are_last() -> None:
    good, early = seen(0, 9, 9, fidelity=9), seen(1, 0, 0, state=State.STOPPED, fidelity=3)
    broken, more = seen(2, -5, -5, fidelity=9, constraints=(0.1, -3)), seen(3, -6, -6, fidelity=9, constraints=(0.2, 0))
    odd, failed = seen(4, math.nan, 1.0), seen(5, state=State.FAILED)
    rows = [failed, odd, more, broken, early, good]
    assert alive(rows, population=4) == [0, 1, 2, 3]
    assert set(alive(rows, population=5)) > {0, 1, 2, 3}


# ------------------------------------------------------------------------------------------------ children


def test_children_stay_near_their_parents() -> None:
    space = Space({f"x{i}": Float(0, 1) for i in range(10)})
    engine = NSGA2(space, BOTH, 0, population=10)
    rng = np.random.default_rng(0)
    low, high = ({f"x{i}": float(level + 0.05 * rng.random()) for i in range(10)} for level in (0.2, 0.7))
    engine.tell([Observation(k, low if k % 2 else high, (float(k % 2), 1.0 - k % 2)) for k in range(10)])
    units = space.encode([p.params for p in engine.ask(60, index=10)])
    near = np.minimum(np.abs(units - 0.225), np.abs(units - 0.725)) < 0.1
    assert 0.85 < near.mean() < 1


def test_what_neither_parent_has_is_drawn_and_choices_are_exchanged() -> None:
    space = Space(
        {
            "model": Categorical(["linear", "net"]),
            "opt": Categorical(["a", "b", "c"]),
            "layers": Int(1, 5, when={"model": "net"}),
        }
    )
    engine = NSGA2(space, BOTH, 0, population=4)
    pair = [{"model": "linear", "opt": "a"}, {"model": "net", "opt": "b", "layers": 5}]
    engine.tell([Observation(k, pair[k % 2], (float(k % 2), 1.0 - k % 2)) for k in range(4)])
    children = [dict(p.params) for k in range(40) for p in engine.ask(3, index=4 + k)]
    assert all(space.problems(child) == [] for child in children)
    assert {"model": "linear", "opt": "b"} in children
    assert any(child["model"] == "net" and child["opt"] == "a" for child in children)


@settings(max_examples=30, deadline=None)
@given(spaces(), st.integers(0, 999))
def test_children_of_any_space_are_valid(space: Space, seed: int) -> None:
    engine = NSGA2(space, BOTH, seed, population=4)
    rng = np.random.default_rng(seed)
    configs = space.sample(rng, 8)
    engine.tell([Observation(k, c, None if k == 3 else tuple(rng.normal(size=2))) for k, c in enumerate(configs)])
    assert all(space.problems(p.params) == [] for p in engine.ask(4, index=8))


# ------------------------------------------------------------------------------------------------ fronts


def zdt1(params: Params) -> tuple[float, float]:
    """Zitzler, Deb & Thiele 2000, test function 1; its front is reached where all but the first are zero."""
    x = np.array(list(params.values()))
    g = 1 + 9 * x[1:].mean()
    return float(x[0]), float(g * (1 - math.sqrt(x[0] / g)))


def test_hypervolume_on_zdt1_against_random_search() -> None:
    """ZDT1 with 10 variables instead of 30 and 150 evaluations; paired over 10 seeds."""
    space = Space({f"x{i}": Float(0, 1) for i in range(10)})
    reference = (1.1, 6.0)
    pairs = np.array(
        [[area(run(kind(space, BOTH, seed), zdt1, 150), reference) for kind in (NSGA2, Random)] for seed in range(10)]
    )
    assert np.all(pairs[:, 0] > pairs[:, 1])
    assert (pairs[:, 0] - pairs[:, 1]).mean() > 0.4


def test_a_front_of_mixed_conditional_choices() -> None:
    """Better and slower with each layer of a net; the linear model is the fast end of the front."""
    space = Space(
        {
            "model": Categorical(["linear", "net"]),
            "layers": Int(1, 8, when={"model": "net"}),
            "act": Categorical(["relu", "tanh", "sigmoid"], when={"model": "net"}),
            "lr": Float(1e-5, 1.0, log=True),
        }
    )

    def f(c: Params) -> tuple[float, float]:
        off = abs(math.log10(c["lr"]) + 2)
        if c["model"] == "linear":
            return 0.6 + off, -1.0
        return 0.5 / c["layers"] + 0.2 * (c["act"] != "tanh") + off, -1.0 - c["layers"]

    objectives = (Objective("loss"), Objective("speed", "maximize"))

    def found(kind, seed: int) -> float:
        values = run(kind(space, objectives, seed), f, 100)
        return area([(loss, -speed) for loss, speed in values], (2.0, 10.0))

    pairs = np.array([[found(NSGA2, seed), found(Random, seed)] for seed in range(10)])
    assert pairs[:, 0].mean() > pairs[:, 1].mean() and np.mean(pairs[:, 0] > pairs[:, 1]) >= 0.8


def test_bad_options_are_refused() -> None:
    for options in ({"population": 1}, {"population": True}, {"mutation": 3}):
        with pytest.raises(FixArgument, match=r"population|mutation"):
            NSGA2(LINE, BOTH, 0, **options)
