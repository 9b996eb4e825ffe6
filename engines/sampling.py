"""Random configurations of a space, uniform on each parameter's scale, within its constraints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright.engines.errors import FixSpace

if TYPE_CHECKING:
    from tunewright.engines.space import Space

SAMPLING_TRIES = 10_000  # random configurations, after which a space counts as empty
FEW = 0.05  # share of them that meets the constraints, below which drawing on takes longer than moving those found
MOVES = 6  # of each, along a parameter and along a way
SHRINKS = 40  # of a line; next to nothing is left of it then


def sample(space: Space, rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """n configurations that meet the constraints. Raises FixSpace when the constraints leave almost nothing.

    What meets them among random ones. Where that is less than FEW of many, each of the others starts at one of those
    found and is moved along lines, which leaves uniform what is uniform (hit-and-run, Smith 1984, by slice sampling,
    Neal 2003): along parameters, and along the way from one found to another, since a constraint such as "a == b" lets
    no parameter move alone.
    """
    found: list[dict[str, Any]] = []
    batches: list[tuple[np.ndarray, list[bool]]] = []  # with which rows meet the constraints
    drawn = 0
    while len(found) < n and drawn < max(SAMPLING_TRIES, n / FEW):
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
    if len(found) < n:
        starts = np.vstack([batch[met] for batch, met in batches])
        found += space.decode(_moved(space, rng, starts, n - len(found)))
    return found


def _moved(space: Space, rng: np.random.Generator, starts: np.ndarray, n: int) -> np.ndarray:
    """(n, d) units that meet the constraints, from (s, d) that do."""
    units = starts[rng.integers(len(starts), size=n)]
    columns = rng.permuted(np.tile(np.arange(units.shape[1]), (n, 1)), axis=1)
    for column in columns.T[:MOVES]:
        units = _along(space, rng, units, np.eye(units.shape[1])[column])
        one, other = rng.integers(len(starts), size=(2, n))
        units = _along(space, rng, units, starts[one] - starts[other])
    return units


def _along(space: Space, rng: np.random.Generator, units: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Each of the (n, d) units anywhere on the line through it, in the direction of its (d,) way, where the constraints
    hold and no unit leaves [0, 1]."""
    units = units.copy()
    # An end of the line for each parameter: none where the way does not lead along it.
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([-units / ways, (1 - units) / ways])
    low = np.where(ways == 0, -np.inf, ends.min(axis=0)).max(axis=1)
    high = np.where(ways == 0, np.inf, ends.max(axis=0)).min(axis=1)
    left = np.flatnonzero(np.isfinite(high - low))
    for _ in range(SHRINKS):
        if not len(left):
            break
        steps = rng.uniform(low[left], high[left])
        there = np.clip(units[left] + steps[:, None] * ways[left], 0.0, 1.0)
        met = np.array([space.feasible(config) for config in space.decode(there)])
        units[left[met]] = there[met]
        # What breaks a constraint becomes an end of the line, which still holds where it began.
        left, steps = left[~met], steps[~met]
        low[left[steps < 0]] = steps[steps < 0]
        high[left[steps >= 0]] = steps[steps >= 0]
    return units
