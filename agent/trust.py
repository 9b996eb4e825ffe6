"""What an advisor has earned: a discounted Beta over how its evaluated trials rank among the engine's own.

Each advised trial is held against the engine's trials that ended nearest to it: the share that it beats, ties inside
the noise floor counting half, is one fractional success of a Bernoulli trial. Older ones fade, so that an advisor which
was good once cannot live on it. What an advisor says of its own confidence has no place here.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

PRIOR = 2.0
"""Both parameters of the Beta before anything was evaluated: an advisor starts as good as the engine."""

FADING = 0.85
"""Weight of an evaluated trial relative to the next one."""

WINDOW = 5
"""Engine trials on either side that an advised one is held against."""

FEWEST = 3
"""Comparisons with engine trials before lost trust also parts the engine from advice, for good."""

NONE, FULL = 0.35, 0.5
"""Posterior means at and below which advice has no share, and from which it has all of it."""


@dataclass(frozen=True, slots=True)
class Result:
    """The first result of a trial, in the order in which results came. `by` is who advised it, None for the engine's
    own; `loss` is lower for better, infinite for a failure; `fidelity` is the step at which it was measured."""

    number: int
    by: str | None
    loss: float
    fidelity: int | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """A Beta(alpha, beta) belief that an advised trial beats one of the engine's, after `evaluated` trials that were
    held against `rivals` of the engine's in all."""

    alpha: float = PRIOR
    beta: float = PRIOR
    evaluated: int = 0
    rivals: int = 0

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)

    @property
    def factor(self) -> float:
        """The part of its share that advice may fill, from 0 to 1: 0 too while none of its trials has beaten a single
        one of the engine's, however few they are."""
        if self.evaluated and self.alpha <= PRIOR:
            return 0.0
        return min(1.0, max(0.0, (self.mean - NONE) / (FULL - NONE)))

    @property
    def low(self) -> bool:
        return self.factor == 0.0

    @property
    def lost(self) -> bool:
        """Whether it is low by at least FEWEST comparisons: one trial that lost to three of the engine's is enough."""
        return self.low and self.rivals >= FEWEST

    def __str__(self) -> str:
        return f"{self.mean:.2f} after {self.evaluated} evaluated trials"


UNTRIED = Trust()


def earned(results: Sequence[Result], advisor: str, noise: float = 0.0) -> Trust:
    """The trust in `advisor` after all results so far. `noise`: differences up to it are ties."""
    engine: dict[int | None, list[int]] = defaultdict(list)  # positions among the results, by fidelity
    for i, result in enumerate(results):
        if result.by is None:
            engine[result.fidelity].append(i)
    alpha = beta = 0.0
    evaluated = met = 0
    for i, result in enumerate(results):
        if result.by != advisor:
            continue
        rivals = _nearest(engine[result.fidelity], i)
        if not rivals:
            continue
        wins = sum(_beats(result.loss, results[j].loss, noise) for j in rivals) / len(rivals)
        alpha, beta = FADING * alpha + wins, FADING * beta + 1.0 - wins
        evaluated, met = evaluated + 1, met + len(rivals)
    return Trust(PRIOR + alpha, PRIOR + beta, evaluated, met)


def _nearest(engine: Sequence[int], at: int) -> Sequence[int]:
    """The WINDOW of the engine's positions before `at` and as many behind it."""
    behind = bisect(engine, at)
    return engine[max(0, behind - WINDOW) : behind + WINDOW]


def _beats(loss: float, rival: float, noise: float) -> float:
    """1 for better, 0 for worse, 0.5 for a tie."""
    if loss == rival or (math.isfinite(loss) and math.isfinite(rival) and abs(loss - rival) <= noise):
        return 0.5
    return 1.0 if loss < rival else 0.0
