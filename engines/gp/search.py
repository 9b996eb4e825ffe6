"""Where the acquisition is highest: random and local candidates, hill climbing, then gradients for the numbers.

Works on genotypes, (m, d) unit positions without NaN (see `encoding`), scored in batches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tunewright.engines.gp.encoding import Encoding
from tunewright.engines.space import Params

BASES = 6
LOCAL_SHARE = 0.5
ROUNDS = 4
FIRST_WIDTH = 0.2
WIDEST = 0.3
REDRAWN = 0.05
STEP = 0.7
CHILDREN = 16
ASCENTS = 4
ASCENT_STEPS = 25

Score = Callable[[np.ndarray], np.ndarray]
"""Rows (m, d), NaN where inactive, to (m,) values, -inf where not allowed."""
Slope = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Rows (m, d) to (m,) values and (m, d) gradients, zero for categories and inactive parameters."""


def draw(encoding: Encoding, bases: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n snapped genotypes: half perturbations of the bases (b, d), which may hold NaN, the others uniform within the
    constraints."""
    local = int(n * LOCAL_SHARE)
    out = rng.random((n, encoding.width))
    chosen = bases[rng.integers(len(bases), size=local)]
    out[:local] = perturb(encoding, np.where(np.isnan(chosen), out[:local], chosen), rng)
    if encoding.space.constraints:
        # Uniform draws seldom meet a tight constraint; drawing within it is worth its cost.
        met = encoding.encode(encoding.space.sample(rng, n - local))
        out[local:] = np.where(np.isnan(met), out[local:], met)
    return encoding.snap(out)


def configurations(encoding: Encoding, bases: np.ndarray, n: int, rng: np.random.Generator) -> list[Params]:
    """n valid configurations as `draw` makes them, uniform ones in place of those outside the constraints."""
    drawn = encoding.space.decode(draw(encoding, bases, n, rng))
    good = [config for config in drawn if encoding.space.feasible(config)]
    return good + encoding.space.sample(rng, n - len(good))


def perturb(encoding: Encoding, genotypes: np.ndarray, rng: np.random.Generator, widest: float = WIDEST) -> np.ndarray:
    """Each genotype (m, d) with some of its parameters changed: numbers by a Gaussian of a random width, categories
    and a share of the numbers drawn anew."""
    m, d = genotypes.shape
    rate = np.maximum(1.0 / d, rng.random((m, 1)) ** 2)
    changed = rng.random((m, d)) < rate
    changed[np.arange(m), rng.integers(d, size=m)] = True
    width = widest * 10.0 ** (-2.0 * rng.random((m, 1)))
    # A discrete number must be able to reach its neighbour, however narrow the width.
    moved = genotypes + np.maximum(width, STEP / encoding.counts) * rng.standard_normal((m, d))
    fresh = encoding.categorical | (rng.random((m, d)) < REDRAWN)
    moved = np.where(fresh, rng.random((m, d)), np.abs(moved))
    moved = np.where(moved > 1.0, np.maximum(2.0 - moved, 0.0), moved)
    return encoding.snap(np.where(changed, moved, genotypes))


def maximise(
    encoding: Encoding, score: Score, slope: Slope, start: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Every genotype visited (m, d), snapped, and its value (m,), from candidates `start` on."""
    pool, values = start, score(encoding.mask(start))
    width = FIRST_WIDTH
    seeds = np.argsort(-values, kind="stable")[:BASES]
    best, best_values = pool[seeds], values[seeds]
    for _ in range(ROUNDS):
        children = perturb(encoding, np.repeat(best, CHILDREN, axis=0), rng, width)
        found = score(encoding.mask(children))
        pool, values = np.vstack([pool, children]), np.concatenate([values, found])
        family = np.concatenate([best_values[:, None], found.reshape(len(best), CHILDREN)], axis=1)
        winner = family.argmax(1)
        members = np.concatenate([best[:, None], children.reshape(len(best), CHILDREN, -1)], axis=1)
        best, best_values = members[np.arange(len(best)), winner], family.max(1)
        width /= 2
    climbed = ascend(encoding, slope, _distinct(best, best_values, ASCENTS))
    refined = np.vstack([climbed, *(encoding.neighbours(row) for row in climbed)])
    return np.vstack([pool, refined]), np.concatenate([values, score(encoding.mask(refined))])


def _distinct(genotypes: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    order = np.argsort(-values, kind="stable")
    _, first = np.unique(genotypes[order], axis=0, return_index=True)
    return genotypes[order][np.sort(first)[:n]]


def ascend(encoding: Encoding, slope: Slope, genotypes: np.ndarray) -> np.ndarray:
    """Genotypes (m, d) moved uphill in their numbers together, by one quasi-Newton run on the sum of their values."""
    from scipy.optimize import fmin_l_bfgs_b

    free = encoding.numeric
    if not len(free) or not len(genotypes):
        return genotypes
    rows = encoding.mask(encoding.snap(genotypes))
    active = ~np.isnan(rows[:, free])  # for the whole climb; where it ends, conditions are asked again

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows[:, free] = np.where(active, flat.reshape(active.shape), np.nan)
        value, gradient = slope(rows)
        return -float(value.sum()), -gradient[:, free].reshape(-1)

    start = genotypes[:, free].reshape(-1)
    flat, _, _ = fmin_l_bfgs_b(loss, start, bounds=[(0.0, 1.0)] * len(start), maxiter=ASCENT_STEPS, m=20)
    moved = genotypes.copy()
    moved[:, free] = flat.reshape(len(genotypes), len(free))
    return np.vstack([encoding.snap(moved), genotypes])
