"""Halving, Hyperband and ASHA under many uneven workers, in simulated time."""

from __future__ import annotations

import math

import pytest

from tunewright.engines import Fidelity, Objective, State
from tunewright.engines.schedulers import ASHA, Hyperband, Resume, SuccessiveHalving
from tunewright.engines.schedulers.simulation import Driver, Started, simulate
from tunewright.engines.types import stream

LOSS = [Objective("loss")]


def crowd(kind, workers, **options):
    """The share of time that `workers` spend training, with paces drawn from a lognormal with sigma 1."""
    scheduler = kind(LOSS, Fidelity("epoch", 1, 81), 0, **options)
    quality = [float(q) for q in stream(0, 1).random(30_000)]
    pace = [float(p) for p in stream(0, 2).lognormal(0.0, 1.0, 30_000)]
    driver = Driver(scheduler, lambda run, step: quality[run.number] + 1 / step, lambda number: {}, 30_000)
    return simulate(driver, workers, lambda run: pace[run.number], horizon=40.0), driver


@pytest.mark.parametrize("kind", [ASHA, Hyperband])
def test_a_thousand_uneven_workers_are_kept_busy(kind):
    share, driver = crowd(kind, 1000)
    assert share >= 0.98
    assert sum(run.state is State.COMPLETE for run in driver.runs.values()) > 10
    # No trial is lost: each runs, rests or is trained. None was sent to a rung twice, or trained past it.
    assert {n for n, run in driver.runs.items() if run.state is State.RUNNING} == set(driver.running)
    assert len(driver.running) == 1000
    assert {run.state for run in driver.runs.values()} == {State.RUNNING, State.PAUSED, State.COMPLETE}
    sent = [(e.number, e.action.to if isinstance(e.action, Resume) else e.action.fidelity)
            for e in driver.log if isinstance(e, Started)]  # fmt: skip
    assert len(sent) == len(set(sent)) and {n for n, _ in sent} == driver.runs.keys()
    for run in driver.runs.values():
        steps = [step for step, _ in run.curve]
        assert run.reached <= run.target and steps == sorted(set(steps))


def test_synchronous_halving_leaves_uneven_workers_idle():
    share, _ = crowd(SuccessiveHalving, 81)
    assert share < 0.5  # the meter can tell


def test_asha_spends_on_good_trials():
    _, driver = crowd(ASHA, 100)
    by_loss = sorted(driver.runs.values(), key=lambda run: run.curve[0][1] if run.curve else math.inf)
    told = [run for run in by_loss if run.curve]
    best, rest = told[: len(told) // 10], told[len(told) // 2 :]
    assert min(run.reached for run in best[:5]) > 1
    assert sum(run.reached for run in best) / len(best) > 5 * sum(run.reached for run in rest) / len(rest)
