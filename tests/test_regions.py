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
    assert {(b.parameter, b.relation) for b in region.bounds} == {("lr", ">="), ("batch", "<=")}
    values = {b.parameter: b.value for b in region.bounds}
    assert 0.01 < values["lr"] < 0.12
    assert 30 < values["batch"] < 130
    assert "trials failed" in str(region)


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


def test_failures_by_luck_make_no_region():
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found += bool(failure_regions(SPACE, drawn(seed), rng.random(80) < 0.2))
    assert found <= 2


def test_few_failures_make_no_region():
    configs = drawn(4, 10)
    assert failure_regions(SPACE, configs, np.arange(10) < 2) == []
    assert failure_regions(SPACE, configs, np.zeros(10, dtype=bool)) == []
