"""Failure regions in words: planted ones are found, and nothing is found where failures are luck."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.engines import Categorical, Float, Int, Space
from tunewright.engines.regions import failure_regions

SPACE = Space({
    "lr": Float(1e-5, 1.0, log=True), "batch": Int(8, 512, log=True), "depth": Int(1, 12),
    "opt": Categorical(["sgd", "adam", "lion"]), "momentum": Float(0, 0.99, when={"opt": "sgd"}),
})  # fmt: skip


def drawn(seed, n=80):
    return SPACE.sample(np.random.default_rng(seed), n)


@pytest.mark.parametrize("seed", range(8))
def test_a_high_rate_with_a_small_batch_is_found(seed):
    configs = drawn(seed)
    failed = np.array([c["lr"] > 0.03 and c["batch"] < 64 for c in configs])
    region = failure_regions(SPACE, configs, failed)[0]
    assert {(b.parameter, b.relation) for b in region.bounds} == {("lr", ">"), ("batch", "<=")}
    values = {b.parameter: b.value for b in region.bounds}
    assert 0.01 < values["lr"] < 0.12
    assert 30 < values["batch"] < 130
    assert str(region).startswith(" with ".join(str(b) for b in region.bounds) + " fails: ")


def test_a_single_cause_is_told_with_a_single_condition():
    configs = drawn(1)
    failed = np.array([c["opt"] == "lion" for c in configs])
    (region,) = failure_regions(SPACE, configs, failed)
    assert str(region.bounds[0]) == "opt is 'lion'"
    assert len(region.bounds) == 1


def test_two_causes_are_told_apart():
    configs = drawn(2, 160)
    failed = np.array([c["depth"] >= 11 or c["lr"] > 0.2 for c in configs])
    found = failure_regions(SPACE, configs, failed)
    assert {r.bounds[0].parameter for r in found} == {"depth", "lr"}


def test_conditional_parameters_count_where_they_are_active():
    configs = drawn(3, 200)
    failed = np.array([c.get("momentum", 0) > 0.7 for c in configs])
    region = failure_regions(SPACE, configs, failed)[0]
    assert [b.parameter for b in region.bounds] == ["momentum"]


@pytest.mark.parametrize(("n", "rate"), [(20, 0.3), (40, 0.2), (40, 0.8), (80, 0.5)])
def test_failures_by_luck_make_no_region(n, rate):
    """At most one study in twenty, at any rate of failures; 100 studies each."""
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found += bool(failure_regions(SPACE, drawn(seed, n), rng.random(n) < rate))
    assert found <= 5


def test_planted_regions_are_found_where_they_are_though_some_failures_are_luck():
    """Found in nine of ten studies of 60 trials, of which one in twenty has the wrong mark, and mostly the same trials
    lie inside."""
    found, alike = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        configs = drawn(seed, 60)
        planted = np.array([c["lr"] > 0.03 and c["batch"] < 64 for c in configs])
        if regions := failure_regions(SPACE, configs, planted ^ (rng.random(60) < 0.05)):
            found += 1
            others = SPACE.sample(rng, 400)
            truth = np.array([c["lr"] > 0.03 and c["batch"] < 64 for c in others])
            told = regions[0].holds(SPACE, SPACE.encode(others))
            alike.append((truth & told).sum() / (truth | told).sum())
    assert found >= 34
    assert np.mean(alike) > 0.7


def test_a_bound_is_a_round_number_between_the_trials_on_its_sides():
    configs = [{"lr": lr} for lr in (0.001, 0.004, 0.011, 0.0197, 0.0412, 0.07, 0.2, 0.5)] * 2
    space = Space({"lr": Float(1e-5, 1.0, log=True)})
    (region,) = failure_regions(space, configs, np.array([c["lr"] > 0.03 for c in configs]))
    assert str(region) == "lr > 0.03 fails: 8 of 8 trials"
    assert region.holds(space, space.encode([{"lr": 0.035}, {"lr": 0.025}])).tolist() == [True, False]


def test_a_region_beats_the_rate_of_failures_elsewhere():
    """Nine in ten trials fail everywhere: nothing is worth saying of any part."""
    configs = drawn(5, 100)
    failed = np.random.default_rng(5).random(100) < 0.9
    assert failure_regions(SPACE, configs, failed) == []


def test_few_failures_make_no_region():
    configs = drawn(4, 10)
    assert failure_regions(SPACE, configs, np.arange(10) < 2) == []
    assert failure_regions(SPACE, configs, np.zeros(10, dtype=bool)) == []
