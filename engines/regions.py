"""Where trials fail, in words: conditions, and pairs of them, that hold far more failures than chance would put there.

Subgroup discovery (Klösgen 1996) over conditions of at most two parameters; a subgroup is ranked by the hypergeometric
tail, the chance of as many failures among as many trials, multiplied by the number of subgroups looked at (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space
from tunewright.engines.types import Params

CUTS = 32  # thresholds per number
MIN_FAILED = 3
MAX_CHANCE = 0.01
PURITY = 0.6  # of the trials inside must have failed
BEST_PAIRED = 40  # single conditions that are tried in pairs


@dataclass(frozen=True, slots=True)
class Bound:
    """`parameter` `relation` `value`, with relation one of ">=", "<=" and "=="."""

    parameter: str
    relation: str
    value: object

    def __str__(self) -> str:
        value = f"{self.value:.3g}" if isinstance(self.value, float) else repr(self.value)
        return f"{self.parameter} {'is' if self.relation == '==' else self.relation} {value}"


@dataclass(frozen=True, slots=True)
class Region:
    """`failed` of the `tried` trials inside failed; `chance` is what luck alone would explain, at most."""

    bounds: tuple[Bound, ...]
    failed: int
    tried: int
    chance: float

    def __str__(self) -> str:
        return f"{' and '.join(map(str, self.bounds))}: {self.failed} of {self.tried} trials failed"


def failure_regions(space: Space, configs: Sequence[Params], failed: np.ndarray, most: int = 3) -> list[Region]:
    """The regions that explain the failures (n,), most telling first, each for failures that none before it holds."""
    failed = np.asarray(failed, dtype=bool)
    units = space.encode(configs)
    out: list[Region] = []
    left = failed.copy()
    while len(out) < most and left.sum() >= MIN_FAILED:
        # Trials that an earlier region explains are set aside, failed or not: they say nothing about another cause.
        open_ = ~_inside(out, units, space) if out else np.ones(len(units), dtype=bool)
        region = _best(space, units, failed & open_, open_)
        if region is None:
            break
        out.append(region)
        left = failed & ~_inside(out, units, space)
    return out


def _best(space: Space, units: np.ndarray, failed: np.ndarray, open_: np.ndarray) -> Region | None:
    singles = [(bound, inside & open_) for bound, inside in _conditions(space, units)]
    if not singles:
        return None
    alone = _chances([inside for _, inside in singles], failed, open_)
    ranked = np.argsort(alone, kind="stable")[:BEST_PAIRED].tolist()
    which: list[tuple[int, ...]] = [(k,) for k in range(len(singles))]
    which += [(a, b) for a, b in combinations(ranked, 2) if singles[a][0].parameter != singles[b][0].parameter]
    insides = [np.logical_and.reduce([singles[k][1] for k in ks]) for ks in which]
    chances = np.minimum(1.0, _chances(insides, failed, open_) * len(which))
    for i in np.lexsort(([len(ks) for ks in which], chances)):
        tried, bad = int(insides[i].sum()), int((insides[i] & failed).sum())
        if chances[i] > MAX_CHANCE:
            return None
        if bad >= MIN_FAILED and bad >= PURITY * tried:
            return Region(tuple(singles[k][0] for k in which[i]), bad, tried, float(chances[i]))
    return None


def _conditions(space: Space, units: np.ndarray) -> list[tuple[Bound, np.ndarray]]:
    """Every condition on one parameter, with the trials (n,) that meet it."""
    out = []
    for (name, parameter), column in zip(space.parameters.items(), units.T, strict=True):
        active = ~np.isnan(column)
        if isinstance(parameter, Categorical):
            for choice in parameter.choices:
                inside = active & np.isclose(column, parameter.to_unit(choice))
                out.append((Bound(name, "==", choice), inside))
            continue
        values = np.unique(column[active])
        if len(values) < 2:
            continue
        middles = (values[1:] + values[:-1]) / 2
        for cut in middles[np.unique(np.linspace(0, len(middles) - 1, CUTS).astype(int))]:
            above, below = values[values > cut][0], values[values < cut][-1]
            with np.errstate(invalid="ignore"):
                out.append((Bound(name, ">=", parameter.from_unit(float(above))), active & (column > cut)))
                out.append((Bound(name, "<=", parameter.from_unit(float(below))), active & (column < cut)))
    return out


def _chances(insides: Sequence[np.ndarray], failed: np.ndarray, open_: np.ndarray) -> np.ndarray:
    """(m,) P(at least as many failures among as many trials drawn without looking)."""
    from scipy.stats import hypergeom

    stacked = np.array(insides)
    bad, tried = (stacked & failed).sum(axis=1), stacked.sum(axis=1)
    return hypergeom.sf(bad - 1, int(open_.sum()), int(failed.sum()), tried)


def _inside(regions: Sequence[Region], units: np.ndarray, space: Space) -> np.ndarray:
    out = np.zeros(len(units), dtype=bool)
    for region in regions:
        every = np.ones(len(units), dtype=bool)
        for bound in region.bounds:
            column = units[:, space.names.index(bound.parameter)]
            at = space.parameters[bound.parameter].to_unit(bound.value)  # type: ignore[arg-type]
            with np.errstate(invalid="ignore"):
                every &= {
                    "==": np.isclose(column, at), ">=": column >= at - 1e-9, "<=": column <= at + 1e-9
                }[bound.relation]  # fmt: skip
        out |= every
    return out
