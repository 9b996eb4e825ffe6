"""Halving, Hyperband and ASHA: the shipped contract and worked examples."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.engines import Fidelity, FixArgument, Objective, Observation, State, Verdict
from tunewright.engines.schedulers import (
    ASHA,
    PBT,
    Clone,
    Hyperband,
    MedianStopping,
    New,
    Resume,
    Scheduler,
    SuccessiveHalving,
    TrialView,
    Wait,
)
from tunewright.engines.schedulers.hyperband import brackets
from tunewright.engines.schedulers.rungs import ladder
from tunewright.engines.schedulers.simulation import Driver, Started
from tunewright.engines.schedulers.testing import SPACE, SchedulerContract

LOSS = [Objective("loss")]


class TestSuccessiveHalving(SchedulerContract):
    scheduler = SuccessiveHalving
    options: ClassVar = {"n": 9}


class TestHyperband(SchedulerContract):
    scheduler = Hyperband


class TestASHA(SchedulerContract):
    scheduler = ASHA


class TestASHAWithOffset(SchedulerContract):
    scheduler = ASHA
    options: ClassVar = {"eta": 2, "offset": 1, "grace": 2}


def begin(scheduler, number):
    """Carries out what `next` asks for, with every unfinished trial listed as running."""
    action = scheduler.next(range(1000))
    assert not isinstance(action, Wait)
    scheduler.started(action.number if isinstance(action, Resume) else number, action)
    return action


def reach(scheduler, number, level, loss, state=State.PAUSED):
    if state is State.PAUSED:
        assert scheduler.judge(TrialView(number, level, {}), [(level, loss)]) is Verdict.PAUSE
    values = None if state is State.FAILED else (loss,)
    scheduler.tell(Observation(number, {}, values, state, level))


# ------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize(
    ("low", "high", "eta", "expected"),
    [
        (10, 100, 3, [10, 30, 90, 100]),
        (1, 81, 3, [1, 3, 9, 27, 81]),
        (5, 5, 3, [5]),
        (2, 16, 2, [2, 4, 8, 16]),
        (4, 5, 4, [4, 5]),
    ],
)
def test_ladder(low, high, eta, expected):
    assert ladder(low, high, eta) == expected


def test_hyperband_brackets_are_those_of_the_paper():
    # Li et al. 2018, table 1 (R = 81, eta = 3)
    assert brackets(1, 81, 3) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


def test_hyperband_loses_no_bracket_to_floating_point():
    assert math.floor(math.log(243) / math.log(3)) == 4  # what a logarithm makes of it
    assert [plan[0] for plan in brackets(1, 243, 3)] == [(243, 1), (98, 3), (41, 9), (18, 27), (9, 81), (6, 243)]


@given(low=st.integers(1, 50), times=st.integers(1, 2000), eta=st.integers(2, 5))
def test_hyperband_levels_stay_between_the_bounds(low, times, eta):
    high = low + times
    for plan in brackets(low, high, eta):
        sizes, levels = [n for n, _ in plan], [r for _, r in plan]
        assert levels[-1] == high and levels[0] >= low and levels == sorted(set(levels))
        assert sizes[-1] >= 1 and all(above == below // eta for below, above in itertools.pairwise(sizes[:2]))


def test_asha_rungs_start_at_the_grace_and_the_offset_leaves_low_ones_out():
    fidelity = Fidelity("epoch", 1, 100)
    assert [r.level for r in ASHA(LOSS, fidelity, 0, grace=10).rungs] == [10, 30, 90, 100]
    assert [r.level for r in ASHA(LOSS, fidelity, 0, grace=10, offset=2).rungs] == [90, 100]


# ------------------------------------------------------------------------------------------------ ASHA


def make_asha(**options):
    return ASHA(LOSS, Fidelity("epoch", 1, 9), 0, **options)


def test_asha_promotes_the_best_of_three_before_it_begins_another():
    asha = make_asha()
    for number, loss in enumerate([0.3, 0.1, 0.2]):
        assert begin(asha, number) == New(1)
        reach(asha, number, 1, loss)
    assert begin(asha, 3) == Resume(1, 3)
    assert asha.next(range(9)) == New(1)  # the second best is not in the top third


def test_asha_does_not_wait_for_a_straggler():
    asha = make_asha()
    for number in range(4):
        begin(asha, number)
    for number in (1, 2, 3):
        reach(asha, number, 1, float(number))
    assert asha.next(range(4)) == Resume(1, 3)


def test_asha_looks_at_the_highest_rung_first():
    asha = make_asha()
    for number in range(12):
        asha.started(number, New(1))
    for number in range(9):
        reach(asha, number, 1, float(number))
    for number in range(3):
        assert begin(asha, 99) == Resume(number, 3)
        reach(asha, number, 3, float(number))
    for number in (9, 10, 11):
        reach(asha, number, 1, -1.0 * number)  # rung 0 has a candidate as well now
    assert asha.next(range(12)) == Resume(0, 9)


def test_asha_a_better_late_result_is_promoted_past_the_quota_already_used():
    asha = make_asha()
    for number, loss in enumerate([0.3, 0.1, 0.2]):
        begin(asha, number)
        reach(asha, number, 1, loss)
    begin(asha, 3)  # promotes trial 1
    asha.started(4, New(1))
    reach(asha, 4, 1, 0.05)
    assert asha.next(range(9)) == Resume(4, 3)  # best of four: within floor(4 / 3) = 1


def test_asha_failures_count_as_worst():
    asha = make_asha()
    for number in range(3):
        begin(asha, number)
    reach(asha, 0, 1, 0.0, State.FAILED)
    reach(asha, 1, 1, 0.0, State.FAILED)
    assert asha.next(range(9)) == New(1)
    reach(asha, 2, 1, 1e9)
    assert asha.next(range(9)) == Resume(2, 3)


@pytest.mark.parametrize("state", [State.STOPPED, State.FAILED])
def test_a_trial_ended_below_its_rung_is_worst_there(state):
    asha = make_asha(grace=3)
    for number in range(3):
        begin(asha, number)
    asha.tell(Observation(0, {}, (0.0,), state, 2))
    reach(asha, 1, 3, 0.5)
    reach(asha, 2, 3, 0.6)
    assert asha.next(range(9)) == Resume(1, 9)


def test_a_trial_that_ended_by_itself_keeps_its_rank_but_is_not_resumed():
    asha = make_asha(grace=3)
    for number in range(3):
        begin(asha, number)
    asha.tell(Observation(0, {}, (0.0,), State.COMPLETE, 2))
    reach(asha, 1, 3, 0.5)
    reach(asha, 2, 3, 0.6)
    assert asha.next(range(9)) == New(3)


def test_asha_sends_the_best_of_a_small_study_to_the_top_when_no_trial_is_left():
    losses = [0.4, 0.2, 0.3, 0.5]
    driver = Driver(make_asha(), lambda run, step: losses[run.number], lambda number: {}, 4)
    driver.drain(2)
    assert [run.reached for run in driver.runs.values()] == [1, 9, 1, 1]
    assert driver.runs[1].state is State.COMPLETE


def test_a_paused_trial_whose_value_is_not_finite_is_worst():
    asha = make_asha()
    for number, loss in enumerate([math.nan, -math.inf, 0.5]):
        begin(asha, number)
        asha.tell(Observation(number, {}, (loss,), State.PAUSED, 1))
    assert asha.next(range(9)) == Resume(2, 3)


def test_a_pause_below_the_rung_is_refused():
    asha = make_asha(grace=3)
    begin(asha, 0)
    with pytest.raises(FixArgument, match="pauses at its rung, 3"):
        asha.tell(Observation(0, {}, (0.1,), State.PAUSED, 2))


@pytest.mark.parametrize("kind", [ASHA, SuccessiveHalving, Hyperband, MedianStopping])
def test_schedulers_refuse_actions_that_are_not_theirs(kind):
    scheduler = kind(LOSS, Fidelity("epoch", 1, 9), 0)
    with pytest.raises(FixArgument):
        scheduler.started(0, Clone(1, {}, 1, 9))


@pytest.mark.parametrize("kind", [ASHA, SuccessiveHalving])
def test_a_resume_must_name_a_rung_and_leaves_nothing_behind(kind):
    scheduler = kind(LOSS, Fidelity("epoch", 1, 9), 0)
    first = begin(scheduler, 0)
    reach(scheduler, 0, first.fidelity, 0.5)
    with pytest.raises(FixArgument, match="not a rung"):
        scheduler.started(0, Resume(0, 4))
    scheduler.started(0, Resume(0, 3))


# ------------------------------------------------------------------------------------------------ brackets


def make_halving(**options):
    return SuccessiveHalving(LOSS, Fidelity("epoch", 1, 9), 0, **options)


def test_halving_waits_for_the_slowest_of_a_rung():
    halving = make_halving()
    for number in range(9):
        assert begin(halving, number) == New(1, {"bracket": 0})
    for number in range(8):
        reach(halving, number, 1, float(number))
        assert halving.next(range(9)) == Wait("a rung is still training")
    reach(halving, 8, 1, -1.0)
    assert [begin(halving, 0).number for _ in range(3)] == [8, 0, 1]
    assert halving.next(range(9)) == Wait("a rung is still training")


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(9)), losses=st.lists(st.integers(0, 5), min_size=9, max_size=9))
def test_halving_keeps_the_best_third_whatever_the_order_of_events(order, losses):
    halving = make_halving()
    for number in range(9):
        begin(halving, number)
    for number in order:
        reach(halving, number, 1, float(losses[number]))
    kept = [begin(halving, 0).number for _ in range(3)]
    assert kept == sorted(range(9), key=lambda n: (losses[n], n))[:3]


def test_halving_of_few_trials_sends_one_to_every_rung():
    driver = Driver(make_halving(n=2), lambda run, step: float(run.number), lambda number: {}, 4)
    driver.drain(2)
    assert [run.reached for run in driver.runs.values()] == [9, 1, 9, 1]


def test_halving_begins_the_next_bracket_after_the_last():
    driver = Driver(make_halving(n=3), lambda run, step: float(run.number), lambda number: {}, 6)
    driver.drain(4)
    begun = [e.action for e in driver.log if isinstance(e, Started)]
    assert [a.tags["bracket"] for a in begun if isinstance(a, New)] == [0, 0, 0, 1, 1, 1]
    assert [run.reached for run in driver.runs.values()] == [9, 1, 1, 9, 1, 1]


def test_a_half_filled_bracket_is_decided_over_the_trials_it_has_and_can_be_filled_later():
    driver = Driver(make_halving(), lambda run, step: float(-run.number), lambda number: {}, 6)
    driver.drain(6)
    assert [run.reached for run in driver.runs.values()] == [1, 1, 1, 1, 3, 9]
    driver.trials = 9
    driver.drain(6)
    # Two of three places in the second rung were taken; only the best newcomer gets the third.
    assert [run.reached for run in driver.runs.values()] == [1, 1, 1, 1, 3, 9, 1, 1, 3]


def test_hyperband_runs_every_bracket_of_the_round_as_planned():
    fidelity = Fidelity("epoch", 1, 27)
    plans = brackets(1, 27, 3)
    total = sum(plan[0][0] for plan in plans)
    driver = Driver(Hyperband(LOSS, fidelity, 0), lambda run, step: float(run.number % 7), lambda number: {}, total)
    driver.drain(5)
    seen: dict[int, dict[int, int]] = {}
    home: dict[int, int] = {}
    for event in driver.log:
        if isinstance(event, Started):
            action = event.action
            level = action.to if isinstance(action, Resume) else action.fidelity
            bracket = home.setdefault(event.number, action.tags["bracket"] if isinstance(action, New) else -1)
            seen.setdefault(bracket, {}).setdefault(level, 0)
            seen[bracket][level] += 1
    assert seen == {k: {level: n for n, level in plan} for k, plan in enumerate(plans)}


def test_hyperband_begins_the_next_bracket_while_the_first_trains():
    hyperband = Hyperband(LOSS, Fidelity("epoch", 1, 9), 0)
    begun = [begin(hyperband, number) for number in range(9 + 5 + 3 + 1)]
    assert [a.tags["bracket"] for a in begun] == [0] * 9 + [1] * 5 + [2] * 3 + [3]
    assert [a.fidelity for a in begun] == [1] * 9 + [3] * 5 + [9] * 3 + [1]


def test_a_new_trial_without_its_bracket_is_refused():
    with pytest.raises(FixArgument, match="not an open bracket"):
        make_halving().started(0, New(1))


# ------------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("kind", "options", "field"),
    [
        (ASHA, {"eta": 1}, "eta"),
        (ASHA, {"eta": 2.5}, "eta"),
        (ASHA, {"grace": 0}, "grace"),
        (ASHA, {"grace": 10}, "grace"),
        (ASHA, {"offset": 3}, "offset"),
        (SuccessiveHalving, {"n": 0}, "n"),
        (SuccessiveHalving, {"eta": True}, "eta"),
        (Hyperband, {"eta": 0}, "eta"),
        (Hyperband, {"grace": 99}, "grace"),
        (MedianStopping, {"min_trials": 0}, "min_trials"),
        (MedianStopping, {"grace": 10}, "grace"),
    ],
)
def test_bad_options_name_their_field(kind, options, field):
    with pytest.raises(FixArgument) as error:
        kind(LOSS, Fidelity("epoch", 1, 9), 0, **options)
    assert error.value.field == field and error.value.value == options[field]


@pytest.mark.parametrize("kind", [ASHA, SuccessiveHalving, Hyperband, MedianStopping, PBT])
def test_every_scheduler_needs_a_fidelity_and_an_objective(kind):
    with pytest.raises(FixArgument) as error:
        kind(LOSS, None, 0, space=SPACE)
    assert error.value.field == "fidelity"
    with pytest.raises(FixArgument) as error:
        kind([], Fidelity("epoch", 1, 9), 0, space=SPACE)
    assert error.value.field == "objectives"
    assert isinstance(kind(LOSS, Fidelity("epoch", 1, 9), 0, space=SPACE), Scheduler)


@pytest.mark.parametrize("kind", [ASHA, SuccessiveHalving, Hyperband])
def test_the_first_objective_decides(kind):
    both = [Objective("acc", "maximize"), Objective("ms")]
    scheduler = kind(both, Fidelity("epoch", 1, 3), 0)
    for number, acc in enumerate([0.1, 0.9, 0.5]):
        scheduler.started(number, scheduler.next([]))
        scheduler.tell(Observation(number, {}, (acc, acc), State.PAUSED, 1))
    assert scheduler.next([]) == Resume(1, 3)
