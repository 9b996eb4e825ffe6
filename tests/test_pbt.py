"""Population based training: the contract, who is copied, how params move, and the toy problem of its paper."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.engines import (
    Categorical,
    Derived,
    Fidelity,
    FixArgument,
    Float,
    Int,
    Objective,
    Observation,
    Space,
    State,
    Verdict,
)
from tunewright.engines.schedulers import PBT, Clone, New, Resume, TrialView, Wait
from tunewright.engines.schedulers.explore import explore, perturb
from tunewright.engines.schedulers.pbt import Segment, params_at, schedule
from tunewright.engines.schedulers.simulation import Driver, Started, Told, simulate
from tunewright.engines.schedulers.testing import SPACE, SchedulerContract
from tunewright.engines.types import stream

RATES = Space({"rate": Float(0.001, 1000.0, log=True)})


class TestPBT(SchedulerContract):
    scheduler = PBT
    options: ClassVar = {"population": 8, "interval": 3}


class TestSmallestPBT(SchedulerContract):
    scheduler = PBT
    options: ClassVar = {"population": 2, "interval": 1, "quantile": 0.5}


# ------------------------------------------------------------------------------------------------ explore


@pytest.mark.parametrize(
    ("parameter", "value", "factor", "expected"),
    [
        (Float(1e-4, 1.0, log=True), 0.01, 1.2, 0.012),
        (Float(0.0, 1.0), 0.5, 0.8, 0.4),
        (Float(0.0, 1.0), 0.9, 1.2, 1.0),  # cut at the bound
        (Float(0.3, 1.0), 0.31, 0.8, 0.3),
        (Float(-2.0, 2.0), -1.0, 1.2, -1.2),
        (Float(0.0, 1.0), 0.0, 1.2, 0.0),
        (Float(0.0, 1.0, step=0.25), 0.5, 1.2, 0.75),  # less than half a step would not move it
        (Int(1, 100), 50, 0.8, 40),
        (Int(1, 100), 2, 1.2, 3),
        (Int(1, 100), 2, 0.8, 1),
        (Int(1, 100), 1, 0.8, 2),  # turns back at the border
        (Int(1, 100), 100, 1.2, 99),
        (Int(-5, 5), -2, 1.2, -3),
        (Int(-5, 5), -2, 0.8, -1),
        (Int(0, 9), 0, 1.2, 1),
        (Int(8, 64, step=8), 32, 1.2, 40),
        (Int(1, 512, log=True), 100, 1.2, 120),
        (Int(4, 4), 4, 1.2, 4),
        (Categorical(["a", "b"]), "a", 1.2, "a"),
    ],
)
def test_perturb(parameter, value, factor, expected):
    moved = perturb(parameter, value, factor)
    assert moved == pytest.approx(expected) if isinstance(expected, float) else moved == expected
    assert parameter.problem(moved) is None


@given(low=st.integers(-50, 50), count=st.integers(2, 60), step=st.integers(1, 4), data=st.data())
def test_a_perturbed_integer_always_moves_and_stays_in_range(low, count, step, data):
    parameter = Int(low, low + step * (count - 1), step=step)
    value = parameter.value_at(data.draw(st.integers(0, count - 1)))
    moved = perturb(parameter, value, data.draw(st.sampled_from([0.8, 1.2])))
    assert moved != value and parameter.problem(moved) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), resample=st.sampled_from([0.0, 0.25, 1.0]))
def test_explore_gives_valid_configurations(seed, resample):
    rng = np.random.default_rng(seed)
    config = explore(SPACE, SPACE.sample(rng), rng, resample=resample)
    assert SPACE.problems(config) == []


def test_explore_meets_constraints_or_leaves_the_params_alone():
    near = Space({"a": Float(1, 10), "b": Float(1, 10)}, constraints=["a <= b"])
    for k in range(50):
        config = explore(near, {"a": 5.0, "b": 5.0}, stream(0, k))
        assert config["a"] <= config["b"]
    frozen = Space({"a": Int(1, 2**40)}, constraints=["a == 7"])
    assert explore(frozen, {"a": 7}, stream(0, 0)) == {"a": 7}


def test_explore_without_resampling_multiplies_each_parameter_by_a_factor_of_its_own():
    space = Space({"a": Float(0.001, 1000, log=True), "b": Float(0.001, 1000), "c": Categorical(["x", "y"])})
    seen = set()
    for k in range(200):
        config = explore(space, {"a": 1.0, "b": 10.0, "c": "x"}, stream(1, k), resample=0.0)
        assert config["c"] == "x"
        seen.add((round(config["a"], 9), round(config["b"], 9)))
    assert seen == {(0.8, 8.0), (0.8, 12.0), (1.2, 8.0), (1.2, 12.0)}


def test_explore_resamples_with_the_given_probability():
    space = Space({"a": Float(0.0, 1e6), "c": Categorical(list(range(1000)))})
    configs = [explore(space, {"a": 1.0, "c": 0}, stream(2, k)) for k in range(1000)]
    for moved in (sum(c["a"] > 1.3 for c in configs), sum(c["c"] != 0 for c in configs)):
        assert 200 < moved < 300  # 250 expected, standard deviation 13.7


def test_a_new_choice_brings_its_own_parameters():
    space = Space({"opt": Categorical(["sgd", "adam"]), "momentum": Float(0, 0.9, when={"opt": "sgd"})})
    configs = [explore(space, {"opt": "adam"}, stream(3, k), resample=1.0) for k in range(50)]
    drawn = {c["momentum"] for c in configs if c["opt"] == "sgd"}
    assert len(drawn) > 10 and all("momentum" not in c for c in configs if c["opt"] == "adam")


# ------------------------------------------------------------------------------------------------ exploit


def make(population=5, interval=10, high=100, direction="minimize", seed=0, **options):
    objectives = [Objective("loss", direction)]
    return PBT(
        objectives, Fidelity("step", 1, high), seed, space=RATES, population=population, interval=interval, **options
    )


def settle(pbt, *steps_and_losses):
    """Begins one member for each (step, loss) and reports it, the last one last; returns the last verdict."""
    for number in range(len(steps_and_losses)):
        pbt.started(number, pbt.next(range(number)))
    verdict = None
    for number, (step, loss) in enumerate(steps_and_losses):
        verdict = report(pbt, number, step, loss)
    return verdict


def report(pbt, number, *points):
    curve = [points] if isinstance(points[0], int) else list(points)
    return pbt.judge(TrialView(number, 100, {"rate": float(number + 1)}), curve)


def stop(pbt, number, step, loss=9.0):
    pbt.tell(Observation(number, {}, (loss,), State.STOPPED, step))


def test_the_worst_fifth_is_stopped_and_continues_from_the_best():
    pbt = make(resample=0.0)
    assert settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4), (10, 0.5)) is Verdict.STOP
    assert report(pbt, 3, (10, 0.4)) is Verdict.CONTINUE
    stop(pbt, 4, 10)
    clone = pbt.next(range(4))
    assert isinstance(clone, Clone)
    assert (clone.parent, clone.step, clone.fidelity) == (0, 10, 100)
    assert clone.params["rate"] in (pytest.approx(0.8), pytest.approx(1.2))
    assert clone.tags == {"member": 4, "generation": 1, "replaces": 4}


def test_maximizing_copies_the_highest():
    pbt = make(direction="maximize")
    assert settle(pbt, (10, 0.5), (10, 0.9), (10, 0.3), (10, 0.4), (10, 0.1)) is Verdict.STOP
    stop(pbt, 4, 10)
    assert pbt.next(range(4)).parent == 1


def test_the_copied_member_is_drawn_from_all_of_the_best_share():
    parents = set()
    for seed in range(40):
        pbt = make(population=10, seed=seed)
        settle(pbt, *[(10, float(n)) for n in range(10)])
        stop(pbt, 9, 10)
        parents.add(pbt.next(range(9)).parent)
    assert parents == {0, 1}


def test_members_are_measured_at_ready_points_only():
    pbt = make()
    settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4))
    pbt.started(4, pbt.next(range(4)))
    assert report(pbt, 4, (9, 9.0)) is Verdict.CONTINUE
    assert report(pbt, 4, (9, 9.0), (12, 9.0)) is Verdict.STOP  # the first report past the point
    assert report(pbt, 4, (9, 9.0), (12, 9.0), (13, 9.0)) is Verdict.CONTINUE  # vetoed: not asked again
    assert report(pbt, 4, (9, 9.0), (12, 9.0), (20, 9.0)) is Verdict.STOP


def test_nobody_is_stopped_before_half_of_the_population_is_measured():
    pbt = make(population=6)
    for number in range(6):
        pbt.started(number, pbt.next(range(number)))
    assert report(pbt, 0, (10, 0.1)) is Verdict.CONTINUE
    assert report(pbt, 1, (10, 0.9)) is Verdict.CONTINUE
    assert report(pbt, 2, (10, 0.95)) is Verdict.STOP


def test_the_middle_of_three_is_neither_best_nor_worst():
    assert settle(make(population=3, quantile=0.5), (10, 0.1), (10, 0.3), (10, 0.2)) is not Verdict.STOP
    assert settle(make(population=3, quantile=0.5), (10, 0.1), (10, 0.2), (10, 0.3)) is Verdict.STOP


def test_a_vacant_place_has_no_rank_and_waits_for_a_worker():
    pbt = make()
    settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4), (10, 0.5))
    stop(pbt, 4, 10)
    assert report(pbt, 3, (10, 0.4), (20, 0.4)) is Verdict.STOP  # now the worst
    assert report(pbt, 2, (10, 0.3), (20, 0.3)) is Verdict.PAUSE  # the clone can have its worker


def test_a_member_that_ended_by_itself_is_not_copied():
    pbt = make()
    settle(pbt, (50, 0.1), (50, 0.2), (50, 0.3), (50, 0.4), (50, 0.5))
    pbt.tell(Observation(0, {}, (0.1,), State.COMPLETE, 50))
    stop(pbt, 4, 50)
    assert pbt.next(range(4)).parent == 1


def test_a_clone_that_failed_at_once_is_not_set_back_further():
    for seed in range(10):
        pbt = make(population=10, seed=seed)
        settle(pbt, (20, 0.0), (40, 1.0), *[(40, float(n)) for n in range(2, 10)])
        stop(pbt, 9, 40)
        pbt.started(10, pbt.next(range(9)))
        pbt.tell(Observation(10, {}, None, State.FAILED, 40))
        assert pbt.next(range(9)).parent == 1


def test_a_place_whose_clones_always_fail_is_given_up():
    pbt = make()
    settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4), (10, 0.5))
    stop(pbt, 4, 10)
    for number in range(5, 15):
        assert isinstance(clone := pbt.next(range(4)), Clone)
        pbt.started(number, clone)
        pbt.tell(Observation(number, {}, None, State.FAILED, 10))
    assert pbt.next(range(4)) == Wait("every member is training")


def test_derived_values_are_left_out_of_clones_and_schedules():
    space = Space({"a": Float(1, 2), "twice": Derived("2 * a")})
    pbt = PBT([Objective("loss")], Fidelity("step", 1, 100), 0, space=space, population=2, interval=10)
    for number in range(2):
        pbt.started(number, pbt.next(range(number)))
        verdict = pbt.judge(TrialView(number, 100, {"a": 1.5, "twice": 3.0}), [(10, float(number))])
    assert verdict is Verdict.STOP
    stop(pbt, 1, 10)
    clone = pbt.next([0])
    assert space.problems(clone.params) == []
    pbt.started(2, clone)
    assert schedule(pbt.lineage, 2)[0] == (0, {"a": 1.5})


def test_a_copy_sets_a_member_back_by_one_interval_at_most():
    assert settle(make(), (20, 0.1), (20, 0.2), (20, 0.3), (20, 0.4), (30, 0.5)) is Verdict.STOP
    assert settle(make(), (20, 0.1), (20, 0.2), (20, 0.3), (20, 0.4), (40, 0.5)) is Verdict.CONTINUE
    assert settle(make(), (80, 0.1), (20, 0.2), (20, 0.3), (20, 0.4), (10, 0.5)) is Verdict.STOP  # far behind


def test_a_trained_member_is_neither_stopped_nor_copied():
    assert settle(make(), (90, 0.1), (90, 0.2), (90, 0.3), (90, 0.4), (100, 0.5)) is Verdict.CONTINUE
    pbt = make()
    assert settle(pbt, (100, 0.1), (90, 0.2), (90, 0.3), (90, 0.4), (90, 0.5)) is Verdict.CONTINUE
    pbt.tell(Observation(4, {}, None, State.FAILED, 91))
    assert pbt.next(range(4)).parent == 1  # a failed one is replaced from the best that still train


def test_a_clone_is_not_copied_before_it_was_measured():
    pbt = make()
    settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4), (10, 0.5))
    stop(pbt, 4, 10)
    pbt.started(5, pbt.next(range(4)))
    pbt.tell(Observation(0, {}, None, State.FAILED, 11))
    assert pbt.next(range(6)).parent == 1
    report(pbt, 5, (20, 0.05))
    assert pbt.next(range(6)).parent == 5


def test_a_clone_is_ready_an_interval_after_its_start():
    pbt = make()
    settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4), (10, 0.5))
    stop(pbt, 4, 10)
    pbt.started(5, replace(pbt.next(range(4)), step=14))  # its parent's newest checkpoint
    assert report(pbt, 5, (15, 9.0)) is Verdict.CONTINUE
    assert report(pbt, 5, (15, 9.0), (20, 9.0)) is Verdict.STOP


def test_advice_may_change_the_params_of_a_clone():
    pbt = make()
    settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4), (10, 0.5))
    stop(pbt, 4, 10)
    pbt.started(5, replace(pbt.next(range(4)), params={"rate": 77.0}))
    assert schedule(pbt.lineage, 5) == [(0, {"rate": 1.0}), (10, {"rate": 77.0})]


@pytest.mark.parametrize(
    "action",
    [Clone(0, {}, 10, 100), Clone(0, {}, 10, 100, {"replaces": 1}), Clone(8, {}, 10, 100, {"replaces": 4})],
)
def test_a_clone_that_was_not_asked_for_is_refused(action):
    pbt = make()
    settle(pbt, (10, 0.1), (10, 0.2), (10, 0.3), (10, 0.4), (10, 0.5))
    stop(pbt, 4, 10)
    with pytest.raises(FixArgument, match="not a clone"):
        pbt.started(5, action)


# ------------------------------------------------------------------------------------------------ workers


def curve_of(number):
    return float(stream(11, number).random())


def test_with_one_worker_the_members_take_turns():
    driver = Driver(make(population=5), lambda run, step: curve_of(run.number), lambda n: {"rate": 1.0}, 5)
    while run := driver.start():
        while run.state is State.RUNNING:
            driver.report(run, run.reached + 1)
        held = [r.reached for r in driver.runs.values() if r.state is State.PAUSED]
        if len(driver.runs) >= 5 and held:
            assert max(held) - min(held) <= 10
    assert sum(r.state is State.COMPLETE for r in driver.runs.values()) == 5


def test_with_a_worker_for_each_member_nobody_pauses_and_surplus_workers_wait():
    driver = Driver(make(population=5), lambda run, step: curve_of(run.number), lambda n: {"rate": 1.0}, 50)
    driver.drain(8)
    told = {event.observation.state for event in driver.log if isinstance(event, Told)}
    assert told == {State.COMPLETE, State.STOPPED}
    assert driver.begun == 5 and driver.next() == Wait("every member is trained", done=True)


def test_a_paused_member_furthest_behind_goes_on_first():
    pbt = make(population=3)
    settle(pbt, (30, 0.1), (20, 0.2), (40, 0.3))
    for number, step in enumerate([30, 20, 40]):
        pbt.tell(Observation(number, {}, (0.1,), State.PAUSED, step))
    assert pbt.next([]) == Resume(1, 100)
    pbt.started(1, Resume(1, 100))
    assert report(pbt, 1, (30, 0.1)) is Verdict.PAUSE  # others wait for the worker


def test_a_small_budget_of_trials_trains_the_members_it_has():
    driver = Driver(make(population=20), lambda run, step: curve_of(run.number), lambda n: {"rate": 1.0}, 3)
    driver.drain(2)
    assert sum(r.reached == 100 for r in driver.runs.values()) == 3


def test_members_that_only_get_worse_do_not_set_each_other_back_for_ever():
    pbt = make(population=4)
    driver = Driver(pbt, lambda run, step: float(step), lambda n: {"rate": 1.0}, 4)
    driver.drain(4, steps=4 * 100 * 3)
    begun = [event.action for event in driver.log if isinstance(event, Started)]
    assert max(action.tags["generation"] for action in begun if isinstance(action, Clone)) == 10
    assert sum(run.state is State.COMPLETE for run in driver.runs.values()) == 4


def test_stragglers_hold_nobody_up():
    pbt = make(population=50)
    driver = Driver(pbt, lambda run, step: curve_of(run.number), lambda n: {"rate": 1.0}, 50)
    slow = {0, 1, 2}
    share = simulate(driver, 50, lambda run: 100.0 if run.number in slow else 1.0, horizon=100.0, stride=1)
    assert share > 0.99
    driver = Driver(make(population=50), lambda run, step: curve_of(run.number), lambda n: {"rate": 1.0}, 50)
    simulate(driver, 50, lambda run: 100.0 if run.number in slow else 1.0, horizon=1500.0, stride=1)
    assert sum(run.state is State.COMPLETE for run in driver.runs.values()) >= 47


# ------------------------------------------------------------------------------------------------ schedules


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


# ------------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"population": 1}, "population"),
        ({"interval": 0}, "interval"),
        ({"interval": 101}, "interval"),
        ({"quantile": 0.0}, "quantile"),
        ({"quantile": 0.6}, "quantile"),
        ({"resample": 1.5}, "resample"),
        ({"factors": ()}, "factors"),
        ({"factors": (0.8, -1.0)}, "factors"),
    ],
)
def test_bad_options_name_their_field(options, field):
    with pytest.raises(FixArgument) as error:
        make(**options)
    assert error.value.field == field


def test_a_space_is_needed():
    with pytest.raises(FixArgument) as error:
        PBT([Objective("loss")], Fidelity("step", 1, 100), 0)
    assert error.value.field == "space"


def test_the_interval_is_a_tenth_of_the_training_by_default():
    pbt = PBT([Objective("loss")], Fidelity("step", 1, 80), 0, space=RATES, population=2)
    pbt.started(0, New(80))
    assert pbt.judge(TrialView(0, 80, {"rate": 1.0}), [(7, 1.0)]) is Verdict.CONTINUE
    assert pbt.judge(TrialView(0, 80, {"rate": 1.0}), [(8, 1.0)]) is Verdict.PAUSE
