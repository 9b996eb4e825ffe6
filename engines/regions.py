"""Where trials fail, in words: conditions, and pairs of them, that hold far more failures than chance would put there.

Subgroup discovery (Klösgen 1996) over conditions of at most two parameters. A subgroup is ranked by the hypergeometric
tail, the chance of as many failures among as many trials drawn without looking at the parameters, so a region always
beats the study's own rate of failures. That chance is multiplied by the number of different subgroups that were looked
at (Bonferroni) and could have been telling at all: one too small to reach the limit, whatever its trials do, does not
count (Tarone 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tunewright.engines.parameters import Categorical, Parameter
from tunewright.engines.space import Space
from tunewright.engines.types import Params

CUTS = 32  # thresholds per number
MIN_FAILED = 3
MAX_CHANCE = 0.02  # of naming any region where failures are luck
PURITY = 0.6  # of the trials inside must have failed
BEST_PAIRED = 40  # single conditions that are tried in pairs


@dataclass(frozen=True, slots=True)
class Bound:
    """`parameter` `relation` `value`, with relation one of ">", "<", ">=", "<=" and "==": the first two for numbers
    without steps, with a round value from the gap between the trials inside and those outside."""

    parameter: str
    relation: str
    value: object

    def __str__(self) -> str:
        value = f"{self.value:.6g}" if isinstance(self.value, float) else repr(self.value)
        return f"{self.parameter} {'is' if self.relation == '==' else self.relation} {value}"

    def holds(self, space: Space, units: np.ndarray) -> np.ndarray:
        """(n,) whether each of the encoded configurations (n, parameters) meets it; an inactive parameter does not."""
        column = units[:, space.names.index(self.parameter)]
        at = space.parameters[self.parameter].to_unit(self.value)  # type: ignore[arg-type]
        with np.errstate(invalid="ignore"):
            if self.relation == "==":
                return np.isclose(column, at)
            return column >= at - 1e-9 if self.relation[0] == ">" else column <= at + 1e-9


@dataclass(frozen=True, slots=True)
class Region:
    """`failed` of the `tried` trials inside failed; `chance` is what luck alone would explain, at most."""

    bounds: tuple[Bound, ...]
    failed: int
    tried: int
    chance: float

    @property
    def risk(self) -> float:
        """Probability in [0, 1] that a configuration inside fails, by Laplace's rule of succession."""
        return (self.failed + 1) / (self.tried + 2)

    def words(self, verb: str = "fails") -> str:
        return f"{' with '.join(map(str, self.bounds))} {verb}: {self.failed} of {self.tried} trials"

    def __str__(self) -> str:
        return self.words()

    def holds(self, space: Space, units: np.ndarray) -> np.ndarray:
        """(n,) whether each of the encoded configurations (n, parameters) lies inside."""
        return np.logical_and.reduce([bound.holds(space, units) for bound in self.bounds])


def failure_regions(
    space: Space, configs: Sequence[Params], failed: np.ndarray, most: int = 3, max_chance: float = MAX_CHANCE
) -> list[Region]:
    """The regions that explain the failures (n,), most telling first, each for failures that none before it holds."""
    failed = np.asarray(failed, dtype=bool)
    if failed.sum() < MIN_FAILED:
        return []
    units = space.encode(configs)
    out: list[Region] = []
    # Trials that an earlier region explains are set aside, failed or not: they say nothing about another cause.
    open_ = np.ones(len(units), dtype=bool)
    while len(out) < most and (failed & open_).sum() >= MIN_FAILED:
        region = _best(space, units, failed & open_, open_, max_chance)
        if region is None:
            break
        out.append(region)
        open_ &= ~region.holds(space, units)
    return out


def _best(space: Space, units: np.ndarray, failed: np.ndarray, open_: np.ndarray, max_chance: float) -> Region | None:
    bounds, holds = _conditions(space, units)
    if not bounds:
        return None
    holds &= open_
    tail = _tail(int(open_.sum()), int(failed.sum()))
    alone = tail[holds.sum(axis=1), (holds & failed).sum(axis=1)]
    ranked = np.argsort(alone, kind="stable")[:BEST_PAIRED].tolist()
    which: list[tuple[int, ...]] = [(k,) for k in range(len(bounds))]
    which += [(a, b) for a, b in combinations(ranked, 2) if bounds[a].parameter != bounds[b].parameter]
    pairs = np.array([k for k in which if len(k) == 2], dtype=int).reshape(-1, 2)
    insides = np.concatenate([holds, holds[pairs[:, 0]] & holds[pairs[:, 1]]])
    # Of subgroups with the same trials the first is kept: the one with fewest conditions.
    _, first = np.unique(np.packbits(insides, axis=1), axis=0, return_index=True)
    first.sort()
    tried, bad = insides[first].sum(axis=1), (insides[first] & failed).sum(axis=1)
    chances = np.minimum(1.0, tail[tried, bad] * _tests(tail, tried, max_chance))
    for i in np.lexsort((first, chances)):
        if chances[i] > max_chance:
            return None
        if bad[i] >= MIN_FAILED and bad[i] >= PURITY * tried[i]:
            told = tuple(bounds[k] for k in which[first[i]])
            return Region(told, int(bad[i]), int(tried[i]), float(chances[i]))
    return None


def _conditions(space: Space, units: np.ndarray) -> tuple[list[Bound], np.ndarray]:
    """Every condition on one parameter, and (conditions, n) which trials meet it."""
    bounds: list[Bound] = []
    holds: list[np.ndarray] = []
    for (name, parameter), column in zip(space.parameters.items(), units.T, strict=True):
        active = ~np.isnan(column)
        if isinstance(parameter, Categorical):
            for choice in parameter.choices:
                bounds.append(Bound(name, "==", choice))
                holds.append(active & np.isclose(column, parameter.to_unit(choice)))
            continue
        values = np.unique(column[active])
        if len(values) < 2:
            continue
        for at in np.unique(np.linspace(0, len(values) - 2, CUTS).astype(int)).tolist():
            low, high = float(values[at]), float(values[at + 1])
            with np.errstate(invalid="ignore"):
                above = column > (low + high) / 2
            bounds += [_bound(name, parameter, ">", low, high), _bound(name, parameter, "<", low, high)]
            holds += [active & above, active & ~above]
    return bounds, np.array(holds, dtype=bool).reshape(len(bounds), len(units))


def _bound(name: str, parameter: Parameter, relation: str, low: float, high: float) -> Bound:
    """Between two neighbouring values in [0, 1], of which the region holds the upper (">") or the lower ("<")."""
    below, above = parameter.from_unit(low), parameter.from_unit(high)
    if not isinstance(below, float) or not isinstance(above, float) or getattr(parameter, "step", None) is not None:
        return Bound(name, ">=", above) if relation == ">" else Bound(name, "<=", below)
    return Bound(name, relation, _round_between(below, above))


def _round_between(low: float, high: float) -> float:
    """The number with the fewest digits between two, nearest to their middle; the middle where they are too close."""
    middle = (low + high) / 2
    if low > 0 and high / low > 4:
        middle = (low * high) ** 0.5
    for digits in range(1, 7):
        rounded = float(f"{middle:.{digits}g}")
        if low < rounded < high:
            return rounded
    return middle


def _tail(n: int, failed: int) -> np.ndarray:
    """(n + 1, failed + 1): P(at least b failures among s trials drawn of n of which `failed` failed)."""
    steps = np.log(np.maximum(1, np.arange(n + 1)))
    logs = np.cumsum(steps)  # log k!
    s, b = np.arange(n + 1)[:, None], np.arange(failed + 1)[None, :]
    rest = n - failed
    possible = (b <= s) & (s - b <= rest)
    good = np.clip(s - b, 0, rest)
    log = (logs[failed] - logs[b] - logs[failed - b]) + (logs[rest] - logs[good] - logs[rest - good])
    mass = np.where(possible, np.exp(log - (logs[n] - logs[s] - logs[n - s])), 0.0)
    return np.minimum(1.0, np.cumsum(mass[:, ::-1], axis=1)[:, ::-1])


def _tests(tail: np.ndarray, tried: np.ndarray, max_chance: float) -> int:
    """By how much a chance is multiplied: the smallest k such that at most k subgroups can reach max_chance / k."""
    failed = tail.shape[1] - 1
    # Sorted, the k-th smallest of what each can reach at best.
    reach = np.sort(tail[tried, np.minimum(tried, failed)])
    k = np.arange(1, len(reach) + 1)
    counts = np.searchsorted(reach, max_chance / k, side="right")
    return int(k[counts <= k][0])
