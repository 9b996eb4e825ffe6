"""Errors of the loop and the store, named by what the caller should do next. All carry their facts in `data`."""

from __future__ import annotations

from tunewright.engines.errors import TunewrightError


class AlreadyObserved(TunewrightError):
    """A trial that ended was given another result. `data`: number, first, second (both tuples or None).

    The first result stands; the second is kept as a repeat.
    """


class UnknownTrial(TunewrightError, LookupError):
    """The study has no trial of that number."""


class UnknownStudy(TunewrightError, LookupError):
    """The store has no study of that name or id."""


class StudyExists(TunewrightError):
    """A study of that name is there already: resume it, or choose another name."""


class StudyMoved(TunewrightError):
    """Another process changed the study in between: look at it again, then repeat the step."""


class CapReached(TunewrightError):
    """The next call could exceed a cap. `data`: cap ("tokens" or "usd"), limit, used, reserve."""


class BudgetSpent(TunewrightError):
    """The study's budget allows no further trial."""


class AwaitTrials(TunewrightError):
    """Nothing can be started until a running trial has a result: the scheduler compares several of them first.
    `data`: running (their numbers)."""


class TrialStopped(TunewrightError):
    """Raised inside an objective when its trial should end now; let it pass."""

    verdict = "stop"


class TrialPaused(TrialStopped):
    """Raised inside an objective when its trial should end for now; it may go on later from its checkpoint."""

    verdict = "pause"


class TrialFailed(TunewrightError):
    """Raised by whatever carries a trial out, when the trial brought no result; the message is the trial's error."""


class WorkerDied(TrialFailed):
    """Raised by a runner whose worker ended without an answer: the trial is given to another, once."""


class UpgradeSQLite(TunewrightError):
    """The SQLite library is too old, or unsafe for the journal this file uses."""


class RestoreDatabase(TunewrightError):
    """The file is damaged. It is left as it is: salvage it or restore a copy."""


class UnlockDatabase(TunewrightError):
    """Another process holds the file for longer than any transaction of ours lasts."""


class FixDatabasePath(TunewrightError):
    """The file cannot be used: missing folder, no permission, full disk, not a store, or made by a newer release."""
