"""The trials of a digest as the rules read them: what was tried, how it ranked, and why trials failed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.engines.space import Params, Space
from tunewright.plugins.rules.book import Trouble
from tunewright.plugins.rules.fitting import apart, same_place

REPEAT = 0.02  # configurations this close on every number's scale count as the same
SAME_SETTING = 0.125  # of every scale: a setting within it is no other one than what was measured
FEWEST_TO_DOUBT = 3
NEAR = 0.1  # mean distance over the parameters, within which a trial says something of a configuration
_SIGNS: Mapping[Trouble, re.Pattern[str]] = {
    "memory": re.compile(r"out of memory|\boom\b|memoryerror|bad_alloc|alloc\w* (failed|error)|cannot allocate", re.I),
    "timeout": re.compile(r"time[ds]?[ -]?out|time limit|deadline|too (slow|long)", re.I),
    "diverged": re.compile(r"\b(nan|inf|infinity|infinite)\b|(non-?|not |no )finite|diverg|explod|overflow", re.I),
}


_SHAPES: Mapping[str, Trouble] = {
    "diverged": "diverged",
    "exploding": "diverged",
    "oscillating": "oscillating",
    "overfitting": "overfitting",
    "plateau": "plateau",
    "mode collapse": "collapsed",
    "unbalanced": "unbalanced",
}
"""The troubles behind the shapes of curves."""
_DISCRIMINATOR = re.compile(r"(^|[^a-z])(d|dis|disc|discriminator|netd|critic)([^a-z]|$)", re.I)


@dataclass(frozen=True, slots=True)
class Tried:
    number: int
    params: Params
    loss: float | None = None  # first objective, lower is better; None for a failure
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a trial's curve says, in words too."""

    trial: Tried
    trouble: Trouble
    text: str


@dataclass(frozen=True, slots=True)
class Past:
    """`finished`: measured trials, best first. `failed` in the order of their numbers. `elsewhere`: configurations
    that run now or were turned down. `diagnoses`: of curves with a trouble, the best trial's first."""

    space: Space
    finished: tuple[Tried, ...]
    failed: tuple[Tried, ...]
    elsewhere: tuple[Params, ...]
    n_trials: int
    n_failed: int
    diagnoses: tuple[Diagnosis, ...] = ()

    @property
    def best(self) -> Tried | None:
        return self.finished[0] if self.finished else None

    @property
    def just_won(self) -> bool:
        """Whether the newest of several measured trials is the best."""
        return len(self.finished) > 1 and self.finished[0].number == max(trial.number for trial in self.finished)

    def has(self, params: Params, others: Sequence[Params] = ()) -> bool:
        """Whether this configuration, or one all but equal, was tried or is in `others`."""
        seen = [*(t.params for t in (*self.finished, *self.failed)), *self.elsewhere, *others]
        key = self.space.key(params)
        return any(same_place(self.space, params, other, REPEAT) or self.space.key(other) == key for other in seen)

    def near(self, params: Params) -> bool:
        """Whether a measured trial is so near that this configuration would teach little."""
        return any(same_place(self.space, params, trial.params, SAME_SETTING) for trial in self.finished)

    def doubts(self, params: Params) -> bool:
        """Whether the nearest measured trial, if any is near, is among the worse half. Never of few trials."""
        if len(self.finished) < FEWEST_TO_DOUBT:
            return False
        gaps = [apart(self.space, params, trial.params) for trial in self.finished]
        return min(gaps) <= NEAR and gaps.index(min(gaps)) >= (len(gaps) + 1) // 2


def read_past(facts: Mapping[str, Any], space: Space) -> Past:
    """From a digest; missing keys, trials of an older space and values that are no numbers are passed over."""
    objectives = facts.get("objectives") or [{}]
    sign = -1.0 if objectives[0].get("direction") == "maximize" else 1.0
    finished: list[tuple[bool, Tried]] = []
    failed = []
    rows = list(facts.get("trials") or ())
    listed = {row.get("number") for row in rows}
    extra = facts["failed"] if isinstance(facts.get("failed"), list) else []
    rows += [{**row, "state": "failed"} for row in extra if row.get("number") not in listed]
    for row in rows:
        params = _valid(space, row.get("params"))
        if params is None:
            continue
        value, number = row.get("value"), row.get("number", -1)
        if row.get("state") == "failed":
            failed.append(Tried(number, params, trouble=_trouble(row.get("error"))))
        elif isinstance(value, int | float) and math.isfinite(value):
            finished.append((bool(row.get("partial")), Tried(number, params, sign * value)))
    finished.sort(key=lambda pair: (pair[0], pair[1].loss, pair[1].number))
    others = [row.get("params") for key in ("running", "rejected") for row in facts.get(key) or ()]
    count = facts.get("failed")
    known = [*(t for _, t in finished), *failed]
    return Past(
        space,
        tuple(t for _, t in finished),
        tuple(sorted(failed, key=lambda t: t.number)),
        tuple(p for params in others if (p := _valid(space, params)) is not None),
        max(len(finished) + len(failed), facts.get("n_trials") or 0),
        max(len(failed), count if isinstance(count, int) else 0),
        tuple(_diagnoses(facts, known)),
    )


def _diagnoses(facts: Mapping[str, Any], known: Sequence[Tried]) -> Iterator[Diagnosis]:
    """In the order of the trials; a curve that is healthy, or of a trial that is not listed, is none."""
    said = {row.get("number"): str(row.get("text") or "") for row in facts.get("diagnoses") or ()}
    for trial in known:
        text = said.get(trial.number, "")
        shape, _, evidence = text.partition(": ")
        trouble = _SHAPES.get(shape)
        if trouble == "unbalanced" and not _DISCRIMINATOR.search(evidence.split(" fell ")[0]):
            trouble = "outrun"
        if trouble is not None:
            yield Diagnosis(trial, trouble, text)


def _valid(space: Space, params: Any) -> Params | None:
    if not isinstance(params, Mapping):
        return None
    free = space.coerce(space.free(params))
    return None if space.problems(free) else free


def _trouble(error: Any) -> Trouble | None:
    return next((trouble for trouble, sign in _SIGNS.items() if sign.search(str(error or ""))), None)
