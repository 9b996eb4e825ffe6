from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.agent import digest_stats
from tunewright.engines import Categorical, Float, Space


def test_ranks_and_levels() -> None:
    assert digest_stats.ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]
    level = np.array([1.0, 1.0, 1.0, 9.0])
    out = digest_stats.relative_ranks(np.array([5.0, 7.0, 6.0, 0.0]), level)
    assert out[:3].tolist() == [0.0, 1.0, 0.5] and math.isnan(out[3])


@pytest.mark.parametrize(
    ("params", "name", "formula", "value"),
    [
        ({"lr": 0.1, "momentum": 0.9, "batch_size": 100}, "effective_lr", "lr/((1-momentum)*batch_size)", 0.01),
        ({"opt.lr": 0.1, "batch": 100}, "effective_lr", "opt.lr/batch", 0.001),
        ({"lr": 0.1, "batch": 100, "beta1": 0.9}, "effective_lr", "lr/batch", 0.001),
        ({"learning_rate": 0.1, "n_estimators": 50}, "rate_x_rounds", "learning_rate*n_estimators", 5.0),
        ({"eta": 0.1, "nrounds": 50}, "rate_x_rounds", "eta*nrounds", 5.0),
        ({"eta": 0.1, "rounds": 50, "rate_x_rounds": 1}, "rate_x_rounds (computed)", "eta*rounds", 5.0),
    ],
)
def test_quantities_that_names_allow(params: dict, name: str, formula: str, value: float) -> None:
    (found,) = digest_stats.quantities(list(params))
    assert (found.name, found.formula) == (name, formula) and found.compute(params) == pytest.approx(value)
    assert found.compute({}) is None


def test_quantities_need_one_clear_reading() -> None:
    assert digest_stats.quantities(["a.lr", "b.lr", "batch"]) == []
    assert digest_stats.quantities(["lr", "layers"]) == []
    (step,) = (q.compute for q in digest_stats.quantities(["lr", "momentum", "batch"]))
    assert step({"lr": 0.1, "batch": 10, "momentum": 0.5}) == pytest.approx(0.02)
    assert step({"lr": 0.1, "batch": 10}) is None  # no momentum active: another optimizer
    assert step({"lr": 0.1, "batch": 10, "momentum": 1.0}) is None
    assert step({"lr": 0.1, "batch": "full"}) is None


def test_the_strength_of_an_effect_is_less_what_chance_gives() -> None:
    space = Space({"c": Categorical(["a", "b"])})
    units = np.array([[0.25]] * 4 + [[0.75]] * 4)
    (effect,) = digest_stats.effects(space, units, np.array([0.0, 0.0, 2.0, 2.0, 1.0, 1.0, 3.0, 3.0]))
    # Between groups 2, in all 10, within 8 / (8 - 2): (2 - 4/3) / 10.
    assert effect["strength"] == 0.067 and effect["error"] == 0.38
    assert [(g["label"], g["n"]) for g in effect["groups"]] == [('"a"', 4), ('"b"', 4)]
    # The mean of four, each off by sqrt(8 / 6) within its group.
    assert [g["error"] for g in effect["groups"]] == [58, 58]


def test_failures_share_a_cause_only_where_good_trials_are_not() -> None:
    space = Space({"x": Float(0, 10), "y": Float(0, 1), "c": Categorical(["a", "b"])})
    failed = np.array([[0.9, 0.1, 0.25], [0.95, 0.5, 0.25], [1.0, 0.9, 0.25]])
    spread = np.array([[u, u, 0.75 if u > 0.1 else 0.25] for u in np.linspace(0, 0.85, 10)])
    found = digest_stats.common(space, failed, spread)
    assert [(e["name"], e["low"], e["high"], e["good"], e["of"]) for e in found] == [
        ("x", 9.0, 10.0, 0, 10),
        ("c", "a", "a", 2, 10),
    ]
    same_place = np.array([[0.95, 0.5, 0.25]] * 10)
    assert digest_stats.common(space, failed, same_place) == []
    assert digest_stats.common(space, failed[:2], spread) == []
