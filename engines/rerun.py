"""The last trials of a noisy run go to its best configurations once more, so that luck is not called merit.

The best of many noisy results is better on paper than in truth (the optimizer's curse: Smith and Winkler, Management
Science 52, 2006). A second run of the first few, and the best mean of two, undo a part of it, at the price of as many
new configurations; docs/verify.md has what that brings and costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MOST = 3  # configurations that are run again
SHARE = 0.1  # of the run's trials, at most
NOISY = 0.25  # noise as a part of the spread between the median and the best trial
MIN_CONFIGURATIONS = 15
SAME = 1e-9  # relative: results closer than this are one value


@dataclass(frozen=True, slots=True)
class Runs:
    """All results of one configuration: `number` is its first trial; `losses` in the order of their trials; `pending`:
    whether it runs again now."""

    number: int
    losses: tuple[float, ...]
    pending: bool = False

    @property
    def mean(self) -> float:
        return sum(self.losses) / len(self.losses)

    @property
    def differ(self) -> bool:
        return max(self.losses) - min(self.losses) > SAME * max(1.0, abs(self.losses[0]))


@dataclass(frozen=True, slots=True)
class Rerun:
    """Trial `of` is run again: its configuration was among the best, `lead` is what the best was ahead of the next."""

    of: int
    rank: int  # from 1
    noise: float
    lead: float
    spread: float  # between the median and the best

    def __str__(self) -> str:
        again = f"trial {self.of} run again before a winner is called: it is "
        if self.rank == 1:
            return again + f"the best so far by {self.lead:.3g}, no more than the noise, about {self.noise:.3g}"
        return again + f"number {self.rank} so far, and results of equal runs differ"


def rerun(
    runs: Sequence[Runs], number: int, until: int, noise: Callable[[], float | None], *, strict: bool = False
) -> Rerun | None:
    """Whose configuration trial `number` of a run that ends before trial `until` repeats; None for none.

    Only the last min(MOST, SHARE) trials, and only where the noise (one standard deviation, asked for when it matters)
    is at least NOISY of the spread and no less than the lead. A repeat that came out the same ends it: there is no
    noise. `strict`: noise must have been seen in repeats that differ; a model's word for it is not enough.
    """
    most = min(MOST, int(SHARE * until))
    if not until - most <= number < until or len(runs) < MIN_CONFIGURATIONS:
        return None
    repeated = [r for r in runs if len(r.losses) > 1]
    if any(not r.differ for r in repeated) or (strict and not repeated):
        return None
    ranked = sorted(runs, key=lambda r: (r.losses[0], r.number))
    first = np.array([r.losses[0] for r in ranked])
    lead, spread = float(first[1] - first[0]), float(np.median(first) - first[0])
    floor = noise()
    if floor is None or spread <= 0:
        return None
    begun = len(ranked[0].losses) > 1 or ranked[0].pending  # one repeat tells little of the noise: what began goes on
    if not begun and (floor < NOISY * spread or floor < lead):
        return None
    left = ((rank, r) for rank, r in enumerate(ranked[:most], 1) if len(r.losses) == 1 and not r.pending)
    found = next(left, None)
    return None if found is None else Rerun(found[1].number, found[0], floor, lead, spread)
