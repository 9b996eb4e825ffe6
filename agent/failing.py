"""Where a study's trials fail and how, in words: "lr > 0.03 with batch <= 16 diverges: 7 of 8 trials".

What a training died of is read from its error. Trials that diverge and trials that run out of memory have different
causes, so each kind of failure is looked for by itself, against the trials that brought a result; only where no kind
has a region of its own are all failures taken together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tunewright.agent.records import TrialRecord
from tunewright.engines.regions import MAX_CHANCE, MIN_FAILED, PURITY, Region, failure_regions
from tunewright.engines.space import Space
from tunewright.engines.types import State

MAX_TRIALS = 300  # the latest ones that are looked at: what an old bug made fail says little of today's
MAX_REGIONS = 3
ANY = "fails"
CRASHES = "crashes"
SIGNS = (
    ("runs out of memory", re.compile(r"out of memory|\boom\b|cannot allocate|memoryerror|bad_alloc", re.I)),
    ("takes too long", re.compile(r"time[ds]?[ -]?out|took too long|time limit|deadline", re.I)),
    (
        "diverges",
        re.compile(r"\bnan\b|\binf(inity)?\b|diverg|explod|overflow|(not (a )?|no |non-?)finite|not a number", re.I),
    ),
)


@dataclass(frozen=True, slots=True)
class FailingRegion:
    """`verb` is what trials inside do: "diverges", "runs out of memory", "takes too long", "crashes", or "fails"."""

    region: Region
    verb: str

    def to_dict(self) -> dict[str, Any]:
        bounds = [asdict(bound) for bound in self.region.bounds]
        counts = {"failed": self.region.failed, "tried": self.region.tried, "chance": self.region.chance}
        return {"bounds": bounds, "verb": self.verb, **counts, "words": str(self)}

    def __str__(self) -> str:
        return self.region.words(self.verb)


def kind(error: str | None) -> str:
    """What a failed trial did, by the words of its error."""
    return next((verb for verb, sign in SIGNS if sign.search(error or "")), CRASHES)


def failing(space: Space, trials: Sequence[TrialRecord]) -> list[FailingRegion]:
    """At most MAX_REGIONS, most failures first. `trials` lie in the space; those that have not ended do not count."""
    ended = [t for t in trials if t.state.finished][-MAX_TRIALS:]
    failed = [t for t in ended if t.state is State.FAILED]
    if len(failed) < MIN_FAILED:
        return []
    by_kind: dict[str, list[TrialRecord]] = {}
    for trial in failed:
        by_kind.setdefault(kind(trial.error), []).append(trial)
    kinds = [verb for verb, group in by_kind.items() if len(group) >= MIN_FAILED]
    tests = len(kinds) + (len(by_kind) > 1)  # each is one more chance to be fooled by luck
    found = [one for verb in kinds for one in _of(space, ended, by_kind[verb], verb, tests)]
    if not found and len(by_kind) > 1:
        found = _of(space, ended, failed, ANY, tests)
    return sorted(found, key=lambda one: (-one.region.failed, one.region.chance))[:MAX_REGIONS]


def _of(
    space: Space, ended: Sequence[TrialRecord], group: Sequence[TrialRecord], verb: str, tests: int
) -> list[FailingRegion]:
    """Of one kind of failure. Trials that failed in another way tell nothing of it, unless they lie in the same place:
    then the place has no kind."""
    bad = {t.number for t in group}
    compared = [t for t in ended if t.number in bad or t.state is not State.FAILED]
    others = [t for t in ended if t.number not in bad and t.state is State.FAILED]
    configs, elsewise = ([space.free(t.params) for t in some] for some in (compared, others))
    marks = np.array([t.number in bad for t in compared])
    found = failure_regions(space, configs, marks, max_chance=MAX_CHANCE / tests)
    places = space.encode(elsewise)
    mixed = [int(region.holds(space, places).sum()) for region in found]
    return [
        FailingRegion(region, verb)
        for region, n in zip(found, mixed, strict=True)
        if region.failed >= PURITY * (region.failed + n)
    ]
