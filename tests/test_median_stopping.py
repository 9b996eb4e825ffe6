"""Median stopping: the contract and worked examples."""

from __future__ import annotations

from tunewright.engines import Fidelity, Objective, Observation, State, Verdict
from tunewright.engines.schedulers import (
    MedianStopping,
    New,
    TrialView,
)
from tunewright.engines.schedulers.testing import SchedulerContract


class TestMedianStopping(SchedulerContract):
    scheduler = MedianStopping


def make_median(*curves, direction="minimize", **options):
    """A rule that was told of trials 0, 1, ... with these values at steps 1, 2, ... and has trial 99 running."""
    rule = MedianStopping([Objective("loss", direction)], Fidelity("epoch", 1, 10), 0, **options)
    for number, values in enumerate(curves):
        rule.started(number, New(10))
        curve = list(enumerate(values, start=1))
        rule.judge(TrialView(number, 10, {}), curve)
        rule.tell(Observation(number, {}, (values[-1],), State.COMPLETE, len(values)))
    rule.started(99, New(10))
    return rule


def verdict(rule, *values):
    return rule.judge(TrialView(99, 10, {}), list(enumerate(values, start=1)))


def test_median_compares_the_best_so_far_with_the_median_of_running_averages():
    rule = make_median([9, 1, 9], [4, 4, 4], [8, 4, 4], min_trials=3)
    # at step 2 the averages are 5, 4, 6 (median 5); at step 3 they are 19/3, 4, 16/3 (median 16/3)
    assert verdict(rule, 7, 5.1) is Verdict.STOP
    assert verdict(rule, 7, 5) is Verdict.CONTINUE  # equal is not worse
    assert verdict(rule, 5, 9) is Verdict.CONTINUE  # the best counts, not the last
    assert verdict(rule, 7, 6, 5.3) is Verdict.CONTINUE
    assert verdict(rule, 7, 6, 5.4) is Verdict.STOP


def test_median_maximizes_too():
    rule = make_median([1, 2], [3, 4], [5, 6], direction="maximize", min_trials=3)
    assert verdict(rule, 2, 3.4) is Verdict.STOP
    assert verdict(rule, 2, 3.6) is Verdict.CONTINUE


def test_median_waits_for_the_grace_and_enough_trials():
    curves = [[1.0] * 5] * 3
    assert verdict(make_median(*curves, min_trials=4), 2) is Verdict.CONTINUE
    patient = make_median(*curves, min_trials=3, grace=3)
    assert verdict(patient, 2, 2) is Verdict.CONTINUE
    assert verdict(patient, 2, 2, 2) is Verdict.STOP


def test_median_hears_only_trials_that_reached_the_step_and_did_not_fail():
    rule = make_median([1, 1], [1, 1], [5, 5, 5], min_trials=1)
    assert verdict(rule, 4, 4) is Verdict.STOP
    assert verdict(rule, 4, 4, 4) is Verdict.CONTINUE  # only the third got to step 3
    rule.started(50, New(10))
    rule.judge(TrialView(50, 10, {}), [(1, 0.0), (2, 0.0), (3, 0.0)])
    rule.tell(Observation(50, {}, None, State.FAILED, 3))
    assert verdict(rule, 4, 4, 4) is Verdict.CONTINUE


def test_median_counts_stopped_trials_but_not_running_ones():
    rule = make_median([1, 1], min_trials=2)
    rule.started(50, New(10))
    rule.judge(TrialView(50, 10, {}), [(1, 1.0), (2, 1.0)])
    assert verdict(rule, 4, 4) is Verdict.CONTINUE
    rule.tell(Observation(50, {}, (1.0,), State.STOPPED, 2))
    assert verdict(rule, 4, 4) is Verdict.STOP


def test_median_never_stops_a_trial_that_is_fully_trained():
    rule = make_median([1] * 10, min_trials=1)
    assert verdict(rule, *[2] * 9) is Verdict.STOP
    assert verdict(rule, *[2] * 10) is Verdict.CONTINUE
