"""Parzen estimators over the unit encoding of a space, for floats, integers and categories that may be inactive.

One kernel per observation, a product over parameters (Bergstra et al. 2011; multivariate as in Falkner et al. 2018):
a Gaussian truncated to [0, 1] for a float, its mass over the value's bin for a discrete number, and a smoothed count
for a category (Aitchison & Aitken 1976). All densities are relative to the uniform one. Where the kernel's observation
has no value, its factor is therefore 1: the observation says nothing there. The prior is the kernel of an
observation without any value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunewright.engines.parameters import Categorical, Int
from tunewright.engines.space import Space

TINY = 1e-300
PRIOR_WEIGHT = 1.0
# Of a kernel, times the column's spread and Scott's factor; chosen by measurement, as are the next two. A product over
# many parameters of much narrower kernels is nothing but its nearest kernel, and candidates stay where the best are.
WIDTH = 0.6
MIN_WIDTH = 0.01
MIN_MOVED = 0.4


class Axes:
    """What the estimator must know of each column of the encoding."""

    def __init__(self, space: Space):
        self.parameters = tuple(space.parameters.values())
        self.counts = np.array([p.count for p in self.parameters], dtype=float)
        self.categorical = np.array([isinstance(p, Categorical) for p in self.parameters])

    def edges(self, column: int, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bin around each (n,) unit of a discrete number's column."""
        p = self.parameters[column]
        if isinstance(p, Int) and p.log:
            low, high = math.log(p.low - 0.5), math.log(p.high + 0.5)
            value = np.exp(low + units * (high - low))
            return (np.log(value - 0.5) - low) / (high - low), (np.log(value + 0.5) - low) / (high - low)
        half = 0.5 / p.count
        return units - half, units + half


@dataclass(frozen=True, slots=True)
class Parzen:
    """centers: (n, d) units, NaN where inactive. widths: (d,) standard deviations, for a category the share of a
    kernel's mass that is spread over all choices. weights: (n,), summing to 1."""

    axes: Axes
    centers: np.ndarray
    widths: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, axes: Axes, units: np.ndarray, weights: np.ndarray) -> Parzen:
        """One kernel for each of the (n, d) units with its (n,) weight, mean 1, and the prior with weight 1."""
        columns = units.shape[1]
        centers = np.vstack([units, np.full((1, columns), np.nan)])
        mass = np.append(weights, PRIOR_WEIGHT)
        return cls(axes, centers, _widths(axes, units), mass / mass.sum())

    def log_density(self, units: np.ndarray) -> np.ndarray:
        """(m,) log densities of (m, d) units, relative to the uniform density."""
        total = np.broadcast_to(np.log(self.weights), (len(units), len(self.weights))).copy()
        for column in range(units.shape[1]):
            points = np.flatnonzero(~np.isnan(units[:, column]))
            kernels = np.flatnonzero(~np.isnan(self.centers[:, column]))
            if points.size and kernels.size:
                x, mu = units[points, column], self.centers[kernels, column]
                total[np.ix_(points, kernels)] += self._log_kernel(column, x, mu)
        top = total.max(axis=1)
        return top + np.log(np.exp(total - top[:, None]).sum(axis=1))

    def _log_kernel(self, column: int, x: np.ndarray, mu: np.ndarray) -> np.ndarray:
        """(points, kernels) log factors of one column."""
        from scipy.special import ndtr

        width, count = self.widths[column], self.axes.counts[column]
        if count == 1:
            return np.zeros((len(x), len(mu)))
        if self.axes.categorical[column]:
            match = np.abs(x[:, None] - mu) * count < 0.5
            return np.where(match, math.log(count * (1 - width) + width), math.log(width))
        if math.isinf(count):
            inside = ndtr((1 - mu) / width) - ndtr(-mu / width)
            z = (x[:, None] - mu) / width
            return -0.5 * z * z - np.log(width * math.sqrt(2 * math.pi) * inside)
        # Few values repeat often: each pair is computed once.
        values, back = np.unique(x, return_inverse=True)
        means, kernel = np.unique(mu, return_inverse=True)
        low, high = (edge[:, None] for edge in self.axes.edges(column, values))
        inside = ndtr((1 - means) / width) - ndtr(-means / width)
        mass = (ndtr((high - means) / width) - ndtr((low - means) / width)) / inside
        return np.log(np.maximum(mass / (high - low), TINY))[back][:, kernel]

    def recombine(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n, d) units whose columns come from different kernels, a random part of them moved by the kernel.

        Combines what good observations have in common where each of them is off in a few parameters.
        """
        columns = self.centers.shape[1]
        units = rng.random((n, columns))
        moved = rng.random((n, columns)) < max(MIN_MOVED, 2 / columns)
        noise = rng.standard_normal((n, columns))
        for column in range(columns):
            known = self.centers[:, column][~np.isnan(self.centers[:, column])]
            if not known.size:
                continue
            base = known[rng.integers(known.size, size=n)]
            near = np.clip(base + self.widths[column] * noise[:, column], 0.0, 1.0)
            other = units[:, column] if self.axes.categorical[column] else near
            units[:, column] = np.where(moved[:, column], other, base)
        return units

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n, d) units; a column is filled even where the configuration will turn out not to use it."""
        from scipy.special import ndtr, ndtri

        centers = self.centers[rng.choice(len(self.weights), size=n, p=self.weights)]
        uniform = rng.random(centers.shape)
        spread = rng.random(centers.shape)
        with np.errstate(invalid="ignore"):
            low, high = ndtr(-centers / self.widths), ndtr((1 - centers) / self.widths)
            normal = np.clip(centers + self.widths * ndtri(low + uniform * (high - low)), 0.0, 1.0)
            category = np.where(spread < self.widths, uniform, centers)
        drawn = np.where(self.axes.categorical, category, normal)
        return np.where(np.isnan(centers), uniform, drawn)


def _widths(axes: Axes, units: np.ndarray) -> np.ndarray:
    n, columns = units.shape
    # The ends of the range join the observations, so that a few equal values do not make a kernel of no width.
    spread = np.nanstd(np.vstack([units, np.zeros(columns), np.ones(columns)]), axis=0)
    numeric = np.clip(WIDTH * spread * max(n, 1) ** (-1 / (columns + 4)), MIN_WIDTH, 1.0)  # Scott's rule (Scott 1992)
    choices = np.where(axes.categorical, axes.counts, 1.0) / (n + 1)
    return np.where(axes.categorical, choices / (1 + choices), numeric)
