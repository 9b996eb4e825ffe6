"""Population based training: the contract, who is stopped and copied, and how workers are shared."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from tunewright.engines import (
    Derived,
    Fidelity,
    FixArgument,
    Float,
    Objective,
    Observation,
    Space,
    State,
    Verdict,
)
from tunewright.engines.schedulers import PBT, Clone, New, Resume, TrialView, Wait
from tunewright.engines.schedulers.pbt import schedule
from tunewright.engines.schedulers.simulation import Driver, Started, Told, simulate
from tunewright.engines.schedulers.testing import SchedulerContract
from tunewright.engines.types import stream

RATES = Space({"rate": Float(0.001, 1000.0, log=True)})


class TestPBT(SchedulerContract):
    scheduler = PBT
    options: ClassVar = {"population": 8, "interval": 3}


class TestSmallestPBT(SchedulerContract):
    scheduler = PBT
    options: ClassVar = {"population": 2, "interval": 1, "quantile": 0.5}


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
        clone = pbt.next(range(4))
        assert isinstance(clone, Clone)
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


def test_a_member_that_trains_anew_passes_the_ready_points_that_it_went_on_from():
    pbt = make(population=2)
    pbt.started(0, pbt.next([]))
    assert report(pbt, 0, 10, 9.0) is Verdict.PAUSE
    pbt.tell(Observation(0, {}, (9.0,), State.PAUSED, 10))
    pbt.started(1, pbt.next([]))
    pbt.started(0, Resume(0, 100))
    # From nothing, and better this time: nothing ends or rests there again, but it is what counts.
    assert report(pbt, 0, 5, 2.0) is Verdict.CONTINUE
    assert report(pbt, 0, (5, 2.0), (10, 1.0)) is Verdict.CONTINUE
    assert report(pbt, 1, 10, 5.0) is Verdict.STOP, "member 0 has 1.0 there now, not 9.0"
    assert report(pbt, 0, (5, 2.0), (10, 1.0), (20, 1.0)) is Verdict.CONTINUE


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
