"""Freeze-thaw: the process over configurations and steps, who goes on, and a study with the pair."""

from __future__ import annotations

from statistics import mean

import curves
import numpy as np
import pytest

from tunewright.agent import Agent, Budget
from tunewright.engines import Fidelity, FixArgument, Float, Int, Objective, Observation, Space, State
from tunewright.engines.freeze_thaw import FreezeThaw as Engine
from tunewright.engines.freeze_thaw.process import Points, Posterior, fit
from tunewright.engines.random import Random
from tunewright.engines.schedulers import ASHA, FreezeThaw, New, Resume, TrialView
from tunewright.engines.schedulers.simulation import Driver, Started, simulate
from tunewright.engines.schedulers.testing import SPACE

LOSS = [Objective("loss")]


def points(n, seed, trials=None):
    rng = np.random.default_rng(seed)
    numbers = np.arange(n) if trials is None else np.asarray(trials)
    return Points(rng.random((n, 2)), rng.random(n), numbers)


def test_posterior_equals_the_textbook_formula():
    """Written out entry by entry from the kernel in the module's first lines."""
    seen, asked = points(9, 1, [0, 0, 0, 1, 1, 2, 3, 3, 4]), points(4, 2, [0, 3, -1, -1])
    y = np.sin(np.arange(9.0))
    parameters = fit(seen, np.arange(2), y)

    def matern(r):
        return (1 + 5**0.5 * r + 5 / 3 * r * r) * np.exp(-(5**0.5) * r)

    def kernel(left, i, right, j):
        a, b, c, e = parameters.variances
        alike = matern(np.sqrt((((left.features[i] - right.features[j]) / parameters.lengthscales) ** 2).sum()))
        near = matern(abs(left.times[i] - right.times[j]) / parameters.time)
        same = left.trials[i] == right.trials[j] >= 0
        return alike * (a + b * near) + near * (c + e * same)

    def matrix(left, right):
        return np.array([[kernel(left, i, right, j) for j in range(len(right))] for i in range(len(left))])

    inverse = np.linalg.inv(matrix(seen, seen) + parameters.noise * np.eye(9))
    cross = matrix(asked, seen)
    expected = cross @ inverse @ y, np.diag(matrix(asked, asked) - cross @ inverse @ cross.T)
    found, deviation = Posterior(seen, np.arange(2), y, parameters).predict(asked)
    np.testing.assert_allclose(found, expected[0], atol=1e-4)
    np.testing.assert_allclose(deviation**2, expected[1], atol=1e-4)


def test_a_shared_curve_is_learned_and_a_trial_keeps_its_own_deviation():
    """All curves fall by the same step; a trial that lies higher than its configuration explains stays higher."""
    rng = np.random.default_rng(0)
    x, own = rng.random((20, 1)), np.repeat(0.3 * rng.standard_normal(20), 4)
    times, numbers = np.tile([0.0, 0.3, 0.6, 1.0], 20), np.repeat(np.arange(20), 4)
    y = np.repeat(x[:, 0], 4) - times + own
    seen = Points(np.repeat(x, 4, axis=0), times, numbers)
    short = ~((numbers >= 10) & (times > 0.5))  # half of the curves are cut
    parameters = fit(seen[short], np.zeros(1, dtype=int), y[short])
    ends = Points(x[10:], np.ones(10), np.arange(10, 20))
    expected, _ = Posterior(seen[short], np.zeros(1, dtype=int), y[short], parameters).predict(ends)
    np.testing.assert_allclose(expected, y[times == 1.0][10:], atol=0.1)


# ------------------------------------------------------------------------------------------------ the scheduler

STEEP = Space({"steep": Float(0, 1), "seed": Int(0, 10**6)})
LOW = Fidelity("epoch", 1, 9)


def crossing(config, step):
    """A steep curve begins higher and ends lower."""
    return 1 + 0.3 * config["steep"] - (0.2 + 0.5 * config["steep"]) * np.log(step) / np.log(9)


def started(scheduler, number, config, action):
    scheduler.started(number, action)
    target = action.to if isinstance(action, Resume) else action.fidelity
    curve = [(step, crossing(config, step)) for step in range(1, target + 1)]
    scheduler.judge(TrialView(number, target, config), curve)
    state = State.COMPLETE if target == LOW.high else State.PAUSED
    scheduler.tell(Observation(number, config, (curve[-1][1],), state, target))


def test_the_trial_that_is_expected_to_end_best_goes_on_though_others_are_ahead():
    scheduler = FreezeThaw(LOSS, LOW, 0, space=STEEP, eta=3)
    plain = ASHA(LOSS, LOW, 0, space=STEEP)
    rng = np.random.default_rng(3)
    configs = {n: {"steep": float(rng.random()), "seed": n} for n in range(40)}
    for number in range(12):  # three whole rungs of curves to learn from
        for to in (None, 3, 9):
            action = New(1) if to is None else Resume(number, to)
            started(scheduler, number, configs[number], action)
            started(plain, number, configs[number], action)
    for number in range(12, 40):
        started(scheduler, number, configs[number], New(1))
        started(plain, number, configs[number], New(1))
    waiting = {n: configs[n]["steep"] for n in range(12, 40)}
    ahead = min(waiting, key=lambda n: waiting[n])
    for number in range(40, 80):  # until a promotion is due
        action = scheduler.next([])
        if isinstance(action, Resume):
            break
        configs[number] = {"steep": 0.0, "seed": number}
        started(scheduler, number, configs[number], action)
    assert isinstance(action, Resume)
    assert waiting[action.number] > 0.9 * max(waiting.values())
    assert plain._home[ahead].promotable(len(plain._home[ahead].ranked)) == ahead


def test_no_more_trials_go_on_than_with_asha():
    space = curves.SPACE
    configs = space.sample(np.random.default_rng(0), 120)
    driver = Driver(
        FreezeThaw(LOSS, curves.EPOCHS, 0, space=space),
        lambda run, step: curves.loss(run.params, step),
        lambda number: configs[number],
        120,
    )
    simulate(driver, 5, lambda run: 1.0, horizon=300)
    levels = [rung.level for rung in driver.scheduler.rungs]
    reached = [sum(run.reached >= level for run in driver.runs.values()) for level in levels]
    promoted = [
        sum(isinstance(e.action, Resume) and e.action.to == level for e in driver.log if isinstance(e, Started))
        for level in levels[1:]
    ]
    assert all(up <= below / 2 for up, below in zip(promoted, reached, strict=False))
    assert promoted[0] > 3


def test_uneven_workers_are_kept_busy():
    configs = SPACE.sample(np.random.default_rng(0), 150)
    driver = Driver(
        FreezeThaw(LOSS, Fidelity("epoch", 1, 27), 0, space=SPACE),
        lambda run, step: abs(np.log10(run.params["lr"]) + 2) + 3 / step,
        lambda number: configs[number],
        150,
    )
    busy = simulate(driver, 8, lambda run: 1 + run.number % 7, horizon=50)
    assert busy > 0.99


def test_it_needs_the_space():
    with pytest.raises(FixArgument) as error:
        FreezeThaw(LOSS, LOW, 0)
    assert error.value.field == "space"


# ------------------------------------------------------------------------------------------------ the pair


def test_it_beats_asha_with_random_draws_on_surrogate_curves():
    def usual(engine, scheduler):
        return mean(
            curves.best_after(
                engine(curves.SPACE, LOSS, seed, fidelity=curves.EPOCHS),
                scheduler(LOSS, curves.EPOCHS, seed, space=curves.SPACE),
                5 * 27,
            )
            for seed in range(5)
        )

    assert usual(Engine, FreezeThaw) < usual(Random, ASHA) - 0.01


def test_a_study_with_the_pair_ends_with_its_best_trained_to_the_end():
    def objective(trial):
        for step in range(1, trial.fidelity + 1):
            trial.report(step, curves.loss(trial.params, step))
        return curves.loss(trial.params, trial.fidelity)

    agent = Agent(
        curves.SPACE,
        metric="loss",
        engine="freeze-thaw",
        fidelity=Fidelity("epoch", 1, 9),
        advisor=None,
        budget=Budget(trials=18),
        store=None,
        seed=1,
    )
    agent.tune(objective)
    assert agent.best.fidelity == 9
    assert {t.proposer for t in agent.trials} == {"freeze-thaw"}
    assert sum(t.state is State.PAUSED for t in agent.trials) >= 9
