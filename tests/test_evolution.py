"""Regularised evolution: the oldest dies, one parameter mutates, and it finds architectures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spaces

from tunewright.engines import Categorical, FixArgument, Float, Int, Objective, Observation, Space, State
from tunewright.engines.evolution import Evolution, mutant
from tunewright.engines.random import Random
from tunewright.engines.space import Params
from tunewright.engines.variation import mutated, sbx

LOSS = (Objective("loss"),)
LINE = Space({"x": Int(0, 100_000)})
OPERATIONS = ["conv3", "conv5", "sep3", "sep5", "pool", "skip"]
CELLS = Space(
    {
        "cells": Int(2, 6),
        **{
            f"{kind}{i}": Categorical(choices, when=f"cells >= {i}")
            for i in range(1, 7)
            for kind, choices in (("op", OPERATIONS), ("input", ["image", "previous", "both"]))
        },
    }
)
WANTED = ["sep5", "conv3", "skip", "sep3", "pool", "conv5"]


def architecture(config: Params) -> float:
    """Wrong operations cost 1, wrong inputs 0.5 where the operation fits; too shallow or too deep costs 0.7 a cell."""
    used = config["cells"]
    wrong = sum(config[f"op{i}"] != WANTED[i - 1] for i in range(1, used + 1))
    unfed = sum(config[f"input{i}"] != "both" and config[f"op{i}"] == WANTED[i - 1] for i in range(1, used + 1))
    return wrong / used + 0.5 * unfed / used + 0.7 * abs(used - 4)


def told(engine, values: dict[int, float | None], start: int = 0):
    engine.tell(
        [Observation(start + k, {"x": x}, None if v is None else (v,)) for k, (x, v) in enumerate(values.items())]
    )
    return engine


def test_the_best_dies_of_old_age() -> None:
    engine = Evolution(LINE, LOSS, 0, population=4, sample=50)
    told(engine, {10_000: 0.0, 90_000: 5.0, 89_000: 6.0, 88_000: 7.0})
    assert np.median([p.params["x"] for p in engine.ask(40, index=9)]) < 30_000
    # One more observation, however bad, and the best has left: the next best is the parent.
    told(engine, {50_000: 9.0}, start=4)
    assert np.median([p.params["x"] for p in engine.ask(40, index=9)]) > 75_000


def test_only_the_last_told_are_alive_whoever_proposed_them() -> None:
    engine = Evolution(LINE, LOSS, 0, population=3, sample=60)
    engine.tell([Observation(k, {"x": 10_000}, (0.0,)) for k in range(9)])
    engine.tell([Observation(9 + k, {"x": 95_000 + k}, (1.0,), own=False) for k in range(3)])
    assert min(p.params["x"] for p in engine.ask(30, index=20)) > 20_000


def test_a_child_differs_from_its_parent_in_one_parameter() -> None:
    space = Space({"a": Float(0, 1), "b": Float(0, 1), "n": Int(1, 9), "c": Categorical(list("pqr")), "one": Int(3, 3)})
    parent = {"a": 0.25, "b": 0.75, "n": 4, "c": "q", "one": 3}
    changed = []
    for seed in range(200):
        child = mutant(space, parent, np.random.default_rng(seed))
        changed += [name for name in parent if child[name] != parent[name]]
    assert len(changed) == 200 and set(changed) == {"a", "b", "n", "c"}
    assert min(changed.count(name) for name in "abnc") > 30


def test_what_a_mutation_switches_on_is_drawn_and_what_it_switches_off_is_gone() -> None:
    parent = {"cells": 2, "op1": "pool", "input1": "both", "op2": "skip", "input2": "image"}
    drawn = [mutant(CELLS, parent, np.random.default_rng(seed)) for seed in range(300)]
    assert all(CELLS.problems(child) == [] for child in drawn)
    assert len({child["op3"] for child in drawn if child["cells"] >= 3}) > 3


@pytest.mark.parametrize(
    "worse",
    [
        Observation(9, {"x": 90_000}, None, State.FAILED),
        Observation(9, {"x": 90_000}, (float("nan"),)),
        Observation(9, {"x": 90_000}, (-9.0,), State.COMPLETE, 9, (0.5,)),
        Observation(9, {"x": 90_000}, (-9.0,), State.STOPPED, 3),
    ],
    ids=["failed", "nan", "broken constraint", "lower fidelity"],
)
def test_what_loses_every_tournament(worse: Observation) -> None:
    engine = Evolution(LINE, LOSS, 0, population=2, sample=40)
    engine.tell([Observation(0, {"x": 10_000}, (1.0,), State.COMPLETE, 9), worse])
    assert np.median([p.params["x"] for p in engine.ask(40, index=9)]) < 30_000


def test_it_starts_with_the_default_and_random_configurations() -> None:
    engine = Evolution(Space({"x": Float(0, 1, default=0.125), "c": Categorical(["a", "b"])}), LOSS, 0, population=5)
    first = engine.ask(5, index=0)
    assert first[0].params == {"x": 0.125, "c": "a"}
    assert all(p.tags == {"phase": "startup"} for p in first)
    engine.tell([Observation(k, p.params, (1.0,)) for k, p in enumerate(first)])
    assert engine.ask(index=5)[0].tags == {"phase": "model"}


def test_it_beats_random_search_on_architectures() -> None:
    """Paired over 15 seeds: better on most, and the mean is lower by three standard errors."""

    def best(kind, seed: int) -> float:
        engine, values = kind(CELLS, LOSS, seed), []
        for k in range(150):
            params = engine.ask(index=k)[0].params
            values.append(architecture(dict(params)))
            engine.tell([Observation(k, params, (values[-1],))])
        return min(values)

    gain = np.array([best(Random, seed) - best(Evolution, seed) for seed in range(15)])
    assert np.mean(gain > 0) > 0.8
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(15)


@settings(max_examples=40, deadline=None)
@given(spaces(), st.integers(0, 999))
def test_children_of_any_space_are_valid(space: Space, seed: int) -> None:
    engine = Evolution(space, LOSS, seed, population=5)
    configs = space.sample(np.random.default_rng(seed), 8)
    engine.tell([Observation(k, c, None if k == 3 else (float(k % 4),)) for k, c in enumerate(configs)])
    assert all(space.problems(p.params) == [] for p in engine.ask(4, index=8))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_mutation_gives_another_value_in_range(data) -> None:
    space = data.draw(spaces(most=1, constrained=False))
    (parameter,) = space.parameters.values()
    if parameter.count == 1 or len({parameter.from_unit(u) for u in np.linspace(0, 1, 50)}) == 1:
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    unit = parameter.to_unit(parameter.from_unit(data.draw(st.floats(0, 1))))
    moved = mutated(parameter, unit, rng, data.draw(st.sampled_from([0.5, 3.0, 20.0])))
    assert 0 <= moved <= 1
    if np.isfinite(parameter.count):
        assert parameter.from_unit(moved) != parameter.from_unit(unit)


def test_mutations_and_crossovers_are_local_and_keep_to_the_range() -> None:
    rng = np.random.default_rng(0)
    x = Float(0, 1)
    steps = {eta: np.mean([abs(mutated(x, 0.5, rng, eta) - 0.5) for _ in range(2000)]) for eta in (3.0, 20.0)}
    # Away from the borders the step is uniform ** (1 / (eta + 1)) - 1, whose mean size is 1 / (eta + 2).
    assert steps[20.0] == pytest.approx(1 / 22, rel=0.1) and steps[3.0] > 3 * steps[20.0]
    children = np.array([sbx(0.3, 0.5, rng, 20.0) for _ in range(4000)])
    assert children.mean() == pytest.approx(0.4, abs=0.01), "the two children lie symmetrically about the middle"
    assert np.all((children >= 0) & (children <= 1)) and np.mean(np.abs(children - 0.4) < 0.13) > 0.9


def test_bad_options_are_refused() -> None:
    for options in ({"population": 0}, {"sample": 1.5}, {"tournament": 3}):
        with pytest.raises(FixArgument, match=r"population|sample|tournament"):
            Evolution(LINE, LOSS, 0, **options)
