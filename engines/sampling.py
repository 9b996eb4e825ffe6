"""Random configurations of a space, uniform on each parameter's scale, within its constraints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright.engines.errors import FixSpace

if TYPE_CHECKING:
    from tunewright.engines.space import Space

SAMPLING_TRIES = 10_000  # random configurations before a space counts as empty
RARE = 0.05  # share of random configurations that meet the constraints, below which most draws start from others
STARTS = 8  # of these
SWEEPS = 2  # over all parameters
SHRINKS = 40  # of a line, after which it is no longer than rounding


def sample(space: Space, rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """n configurations that meet the constraints. Raises FixSpace when the constraints leave almost nothing.

    By rejection; where that is slow, the first STARTS of them are, and the others come from these by SWEEPS of slice
    sampling (Neal 2003, section 4), which keep what is uniform uniform and move every parameter.
    """
    found: list[dict[str, Any]] = []
    batches: list[tuple[np.ndarray, list[bool]]] = []  # with which rows meet the constraints
    drawn = 0
    while len(found) < n:
        batch = rng.random((n - len(found), len(space.names)))
        configs = space.decode(batch)
        met = [space.feasible(config) for config in configs]
        batches.append((batch, met))
        found += [config for config, meets in zip(configs, met, strict=True) if meets]
        drawn += len(batch)
        if not found and drawn >= SAMPLING_TRIES:
            raise FixSpace(
                f"none of {drawn} random configurations meets the constraints",
                field="constraints",
                value=[c.text for c in space.constraints],
                fix="loosen them, or shrink the ranges to where they hold",
            )
        if len(found) < min(n, RARE * drawn) and (len(found) >= STARTS or drawn >= SAMPLING_TRIES):
            starts = np.vstack([batch[met] for batch, met in batches])
            moved = starts[rng.integers(len(starts), size=n - len(found))]
            for _ in range(SWEEPS):
                moved = _sweep(space, rng, moved)
            found += space.decode(moved)
    return found


def _sweep(space: Space, rng: np.random.Generator, units: np.ndarray) -> np.ndarray:
    """(n, d) units that meet the constraints, from (n, d) of such: each column in turn drawn anew from where, with the
    others as they are, the constraints hold."""
    units = units.copy()
    rows = np.arange(len(units))
    order = rng.permuted(np.tile(np.arange(units.shape[1]), (len(units), 1)), axis=1)
    for columns in order.T:
        here = units[rows, columns]
        low, high, left = np.zeros(len(units)), np.ones(len(units)), rows
        for _ in range(SHRINKS):
            there = low[left] + rng.random(len(left)) * (high - low)[left]
            moved = units[left]
            moved[np.arange(len(left)), columns[left]] = there
            met = np.array([space.feasible(config) for config in space.decode(moved)])
            units[left[met]] = moved[met]
            # What broke a constraint becomes an end of the line, which still holds the point that met them.
            left, there = left[~met], there[~met]
            if not len(left):
                break
            below = there < here[left]
            low[left[below]], high[left[~below]] = there[below], there[~below]
    return units
