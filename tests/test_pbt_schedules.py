"""Population based training on the toy problem of its paper, and the schedules it discovers."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.engines import (
    Fidelity,
    FixArgument,
    Float,
    Objective,
    Space,
    State,
)
from tunewright.engines.schedulers import PBT
from tunewright.engines.schedulers.pbt import Segment, params_at, schedule
from tunewright.engines.schedulers.simulation import Driver


def test_a_schedule_is_read_off_the_lineage():
    lineage = [
        Segment(0, None, 0, {"rate": 1.0}),
        Segment(3, 0, 20, {"rate": 2.0}),
        Segment(5, 3, 20, {"rate": 3.0}),  # copied again before trial 3 had trained a step
        Segment(7, 5, 50, {"rate": 4.0}),
    ]
    found = schedule(lineage, 7)
    assert found == [(0, {"rate": 1.0}), (20, {"rate": 3.0}), (50, {"rate": 4.0})]
    assert [params_at(found, step)["rate"] for step in (1, 20, 21, 50, 51, 99)] == [1.0, 1.0, 3.0, 3.0, 4.0, 4.0]
    with pytest.raises(FixArgument):
        schedule(lineage, 6)


# ------------------------------------------------------------------------------------------------ the paper's toy

TOY = Space({"h0": Float(0.0, 1.0), "h1": Float(0.0, 1.0)})
STEP_SIZE = 0.01


def quality(theta):
    """Jaderberg et al. 2017, figure 2: Q(theta) = 1.2 - (theta_0^2 + theta_1^2), to be maximized."""
    return 1.2 - float(np.sum(theta**2))


def descend(theta, params):
    """A gradient step on what training sees there: Q(theta | h) = 1.2 - (h_0 theta_0^2 + h_1 theta_1^2)."""
    return theta - STEP_SIZE * 2 * np.array([params["h0"], params["h1"]]) * theta


class Toy(Driver):
    """Members that start at theta = (0.9, 0.9); with `exploit` off, verdicts to stop are not carried out."""

    def __init__(self, starts, seed, exploit=True, steps=100):
        scheduler = PBT(
            [Objective("q", "maximize")],
            Fidelity("step", 1, steps),
            seed,
            space=TOY,
            population=len(starts),
            interval=5,
        )
        self.exploit, self.thetas = exploit, {}
        super().__init__(scheduler, self.train, lambda number: starts[number], len(starts))

    def train(self, run, step):
        source = run.number if run.curve else run.parent
        before = np.array([0.9, 0.9]) if source is None else self.thetas[source, step - 1]
        self.thetas[run.number, step] = descend(before, run.params)
        return quality(self.thetas[run.number, step])

    def end(self, run, state):
        if self.exploit or state is not State.STOPPED:
            super().end(run, state)

    def best(self):
        self.drain(len(self.runs) or 100)
        return max((run.curve[-1][1], run.number) for run in self.runs.values() if run.state is State.COMPLETE)


def test_the_toy_of_the_paper_is_solved_by_copying_and_not_without():
    # Two kinds of member, each of which can improve one coordinate only.
    starts = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}] * 5
    alone, _ = Toy(starts, 0, exploit=False, steps=300).best()
    assert alone == pytest.approx(1.2 - 0.9**2, abs=1e-4)
    together, _ = Toy(starts, 0, steps=300).best()
    assert together > 1.1


def test_pbt_beats_the_same_population_without_exploit():
    wins = 0
    for seed in range(20):
        starts = TOY.sample(np.random.default_rng(seed), 10)
        wins += Toy(starts, seed).best()[0] > Toy(starts, seed, exploit=False).best()[0]
    assert wins >= 16  # one-sided sign test: 16 of 20 or more by chance has p = 0.006


def test_a_discovered_schedule_trains_to_the_same_weights():
    toy = Toy([{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}] * 5, 5)
    toy.drain(10)
    lengths = set()
    for run in toy.runs.values():
        if run.state is not State.COMPLETE:
            continue
        found = schedule(toy.scheduler.lineage, run.number)
        lengths.add(len(found))
        theta = np.array([0.9, 0.9])
        for step in range(1, 101):
            theta = descend(theta, params_at(found, step))
        assert quality(theta) == run.curve[-1][1]
    assert max(lengths) > 2
