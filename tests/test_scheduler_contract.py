"""That the shipped contract of schedulers catches broken ones."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tunewright.engines.schedulers import (
    ASHA,
    New,
    Wait,
)
from tunewright.engines.schedulers.testing import SchedulerContract
from tunewright.engines.types import stream


class CountsItsCalls(ASHA):
    """`next` changes what `next` answers."""

    calls = 0

    def next(self, running, *, fresh=True):
        self.calls += 1
        action = super().next(running, fresh=fresh)
        return replace(action, tags={"calls": self.calls}) if isinstance(action, New) else action


class NeverDone(ASHA):
    def next(self, running, *, fresh=True):
        action = super().next(running, fresh=fresh)
        return replace(action, done=False) if isinstance(action, Wait) else action


class TrustsInfinity(ASHA):
    def judge(self, trial, curve):
        return self._judge(trial, curve)


class CountsReports(ASHA):
    """Keeps more of a curve than its newest state."""

    reports = 0

    def judge(self, trial, curve):
        self.reports += 1
        return super().judge(trial, curve)

    def next(self, running, *, fresh=True):
        action = super().next(running, fresh=fresh)
        return replace(action, tags={"reports": self.reports}) if isinstance(action, New) else action


SCRIPT = [(int(kind), int(which)) for kind, which in stream(0, 3).integers(97, size=(100, 2))]


@pytest.mark.parametrize(
    ("broken", "test", "arguments"),
    [
        (CountsItsCalls, "test_replay_gives_the_same_actions_and_verdicts", (SCRIPT, 4)),
        (CountsReports, "test_replay_gives_the_same_actions_and_verdicts", (SCRIPT, 4)),
        (NeverDone, "test_no_trial_is_lost_or_trained_twice", (SCRIPT, 4)),
        (NeverDone, "test_it_ends_when_everything_fails", (1,)),
        (TrustsInfinity, "test_a_value_that_is_not_finite_stops_the_trial_and_never_wins", (math.nan,)),
    ],
)
def test_the_contract_catches_a_broken_scheduler(broken, test, arguments):
    suite = type("Suite", (SchedulerContract,), {"scheduler": broken, "__test__": False})()
    check = getattr(SchedulerContract, test)
    with pytest.raises(AssertionError):
        getattr(check, "hypothesis", SimpleNamespace(inner_test=check)).inner_test(suite, *arguments)
