"""Parzen estimators over the unit encoding of a space, for floats, integers and categories that may be inactive.

One kernel per observation, a product over parameters (Bergstra et al. 2011; multivariate as in Falkner et al. 2018):
a Gaussian truncated to [0, 1] for a float, its mass over the value's bin for a discrete number, and a smoothed count
for a category (Aitchison & Aitken 1976). Where bins are narrow, the density in the middle stands for the mass.
All densities are relative to the uniform one. Where the kernel's observation has no value, its factor is therefore 1:
the observation says nothing there. The prior is the kernel of an observation without any value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunewright.engines.bins import snapped
from tunewright.engines.parameters import Categorical, Int
from tunewright.engines.space import Space

TINY = 1e-300
MANY = 50  # bins, and more, are narrow
CELLS = 64  # of a column's table
NARROWEST = 1e-6  # part of the range, for which a share is read there
BLOCK = 50_000  # pairs of kernels and points at a time, for the processor's cache
PRIOR_WEIGHT = 1.0
# Of a kernel, times the column's spread and Scott's factor; chosen by measurement, as are the next two. A product over
# many parameters of much narrower kernels is nothing but its nearest kernel, and candidates stay where the best are.
WIDTH = 0.6
MIN_WIDTH = 0.01
MIN_MOVED = 0.4


@dataclass(frozen=True, slots=True)
class Bins:
    """Of a discrete number's column, the different `values` (k,) of some points, the bin around each, and which of them
    a point (m,) has."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    point: np.ndarray


@dataclass(frozen=True, slots=True)
class Points:
    """What estimators are asked about, and what all of them need of it. units: (m, d), NaN where inactive. features:
    (f, m), all zero in a column that a point does not use, which makes the kernels' factor 1. bins: of each discrete
    column. low, high: (m, numbers) around each number, where its share of a distribution is read."""

    units: np.ndarray
    features: np.ndarray
    bins: list[Bins]
    low: np.ndarray
    high: np.ndarray


class Axes:
    """What the estimator must know of each column of the encoding."""

    def __init__(self, space: Space):
        self.parameters = tuple(space.parameters.values())
        self.counts = np.array([p.count for p in self.parameters], dtype=float)
        self.categorical = np.array([isinstance(p, Categorical) for p in self.parameters])
        uneven = np.array([isinstance(p, Int) and p.log for p in self.parameters])
        # A column with a single value tells nothing, and is in none of the three.
        smooth = ~self.categorical & ~uneven & (self.counts >= MANY)
        several = self.counts > 1
        self.floats: list[int] = np.flatnonzero(smooth).tolist()
        self.categories: list[int] = np.flatnonzero(self.categorical & several).tolist()
        self.discrete: list[int] = np.flatnonzero(~self.categorical & ~smooth & several).tolist()
        self.numbers = self.floats + self.discrete
        self.single = space.encode([{n: p.value_at(0) for n, p in space.parameters.items() if p.count == 1}])[0]

    def snap(self, units: np.ndarray) -> np.ndarray:
        """(n, d) units moved to those of the values that they decode to."""
        out = units.copy()
        for column in np.flatnonzero(np.isfinite(self.counts) & (self.counts > 1)).tolist():
            out[:, column] = snapped(self.parameters[column], units[:, column])
        return np.where(np.isnan(self.single), out, self.single)

    def edges(self, column: int, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bin around each (n,) unit of a discrete number's column."""
        p = self.parameters[column]
        if isinstance(p, Int) and p.log:
            low, high = math.log(p.low - 0.5), math.log(p.high + 0.5)
            value = np.exp(low + units * (high - low))
            return (np.log(value - 0.5) - low) / (high - low), (np.log(value + 0.5) - low) / (high - low)
        half = 0.5 / p.count
        return units - half, units + half

    def choices(self, units: np.ndarray, column: int) -> np.ndarray:
        """(choices + 1, n) which choice each unit stands for; in the last row whether it stands for any."""
        count = int(self.counts[column])
        chosen = np.floor(units[:, column] * count) == np.arange(count)[:, None]
        return np.vstack([chosen, ~np.isnan(units[:, column])])

    def points(self, units: np.ndarray) -> Points:
        x = units[:, self.floats]
        low, high, bins = [x - 0.5 / CELLS], [x + 0.5 / CELLS], []
        for column in self.discrete:
            values, point = np.unique(units[:, column], return_inverse=True)
            bins.append(Bins(values, *self.edges(column, values), point))
            # Of a trillion values a bin is too narrow for a share of the distribution to have any digits.
            low.append(np.minimum(bins[-1].low, values - NARROWEST / 2)[point, None])
            high.append(np.maximum(bins[-1].high, values + NARROWEST / 2)[point, None])
        used = ~np.isnan(x.T)
        x = np.where(used, x.T - 0.5, 0.0)
        features = np.vstack(
            [x * x, x, used.astype(float), *(self.choices(units, column) for column in self.categories)]
        )
        return Points(units, features, bins, np.maximum(np.hstack(low), 0.0), np.minimum(np.hstack(high), 1.0))


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
        """One kernel for each of the (n, d) units with its (n,) weight, 1 for a whole observation, and the prior."""
        columns = units.shape[1]
        centers = np.vstack([units, np.full((1, columns), np.nan)])
        mass = np.append(weights, PRIOR_WEIGHT)
        return cls(axes, centers, _widths(axes, units, float(weights.sum())), mass / mass.sum())

    def log_density(self, units: np.ndarray) -> np.ndarray:
        """(m,) log densities of (m, d) units, relative to the uniform density."""
        return self._together(self.axes.points(units))

    def log_margins(self, units: np.ndarray) -> np.ndarray:
        """(m,) sums of the log density of each column that a point uses, taken alone, relative to the uniform one."""
        return self._alone(self.axes.points(units))

    def _together(self, points: Points) -> np.ndarray:
        # The log of a product of Gaussians is a quadratic form, so all pairs of kernels and points are one matrix
        # product: of the coefficients of each kernel with [x^2, x, 1]. A category is a coordinate per choice.
        kernels, start = self._kernels(), np.log(self.weights)[:, None]
        tables = [self._log_masses(column, bins) for column, bins in zip(self.axes.discrete, points.bins, strict=True)]
        tops, sums = [], []
        step = max(1, BLOCK // max(1, len(points.units)))
        for block in (slice(k, k + step) for k in range(0, len(start), step)):
            total = kernels[:, block].T @ points.features
            total += start[block]
            spare = np.empty_like(total)
            for logs, kernel in tables:
                total += np.take(logs, kernel[block], axis=0, out=spare, mode="clip")
            tops.append(total.max(axis=0))
            total -= tops[-1]
            # Terms between 0 and 1 need no more than half the digits, which take a third of the time.
            terms = np.exp(total, dtype=np.float32, casting="same_kind")
            sums.append(np.ones(len(terms), dtype=np.float32) @ terms)
        top = np.max(tops, axis=0)
        return np.asarray(top + np.log(np.sum(np.exp(tops - top) * sums, axis=0)))

    def _alone(self, points: Points) -> np.ndarray:
        # A number's comes from a table of the distribution function at CELLS + 1 positions. The kernels are moved
        # there, each in shares to the two beside it, so that the cost hardly grows with them.
        from scipy.special import ndtr

        numbers, units = self.axes.numbers, points.units
        centers, rows = self.centers[:, numbers], np.arange(len(numbers))
        known = ~np.isnan(centers)
        place, weight = np.where(known, centers, 0.0) * CELLS, self.weights[:, None] * known
        left = np.minimum(place.astype(int), CELLS - 1)
        right = place - left
        cell, size = (left + (CELLS + 1) * rows).ravel(), (CELLS + 1) * len(numbers)
        mass: np.ndarray = np.bincount(cell, (weight * (1 - right)).ravel(), size).astype(float)  # whole where empty
        mass[1:] += np.bincount(cell, (weight * right).ravel(), size)[:-1]
        mass = mass.reshape(len(numbers), CELLS + 1)
        below = ndtr(np.arange(-CELLS, CELLS + 1) / CELLS / self.widths[numbers, None])
        before = below[:, CELLS::-1]  # each kernel's part below 0
        mass /= below[:, : CELLS - 1 : -1] - before  # its part inside
        # Row t of a column's windows holds what each place, from the last to the first, has below position t.
        windows = np.lib.stride_tricks.sliding_window_view(below, CELLS + 1, axis=1)
        table = np.matmul(windows, mass[:, ::-1, None])[..., 0] - (before * mass).sum(axis=1, keepdims=True)
        table += (1.0 - weight.sum(axis=0))[:, None] * np.linspace(0.0, 1.0, CELLS + 1)
        share = _read(table, points.high) - _read(table, points.low)
        with np.errstate(invalid="ignore"):
            logs = np.log(np.maximum(share, TINY) / (points.high - points.low))
        out: np.ndarray = np.where(np.isnan(units[:, numbers]), 0.0, logs).sum(axis=1)
        for column in self.axes.categories:
            count, width = int(self.axes.counts[column]), self.widths[column]
            chosen = self.axes.choices(self.centers, column) @ self.weights
            shares = count * (1 - width) * chosen[:count] + width * chosen[count] + 1 - chosen[count]
            x = np.nan_to_num(units[:, column])
            out += np.where(np.isnan(units[:, column]), 0.0, np.log(shares)[np.floor(x * count).astype(int)])
        return out

    def _kernels(self) -> np.ndarray:
        """(f, n) each kernel's coefficients of the features of points."""
        from scipy.special import ndtr

        floats = self.axes.floats
        width, center = self.widths[floats, None], np.ascontiguousarray(self.centers[:, floats].T)
        used = ~np.isnan(center)
        mu = np.where(used, center, 0.5)
        inside = ndtr((1 - mu) / width) - ndtr(-mu / width)
        curvature = used / (2 * width * width)
        mu -= 0.5
        level = curvature * mu * mu + used * np.log(width * math.sqrt(2 * math.pi) * inside)
        parts = [-curvature, 2 * curvature * mu, -level]
        for column in self.axes.categories:
            share, count = self.widths[column], self.axes.counts[column]
            scale = np.full((int(count) + 1, 1), math.log((count * (1 - share) + share) / share))
            scale[-1] = math.log(share)
            parts.append(self.axes.choices(self.centers, column) * scale)
        return np.vstack(parts)

    def _log_masses(self, column: int, bins: Bins) -> tuple[np.ndarray, np.ndarray]:
        """(k, m) log factors of a discrete number at its k different centers, and (n,) which of these a kernel has.

        A factor is the kernel's mass over the bin of the value, over the bin's width; in a narrow bin the density.
        """
        from scipy.special import ndtr

        # Few values repeat often: each pair is computed once.
        width, low, high = self.widths[column], bins.low, bins.high
        means, kernel = np.unique(self.centers[:, column], return_inverse=True)
        means = means[:, None]
        inside = ndtr((1 - means) / width) - ndtr(-means / width)
        logs = -0.5 * np.square((bins.values - means) / width) - np.log(width * math.sqrt(2 * math.pi) * inside)
        wide = high - low > 1 / MANY
        low, high = low[wide], high[wide]
        mass = (ndtr((high - means) / width) - ndtr((low - means) / width)) / inside
        logs[:, wide] = np.log(np.maximum(mass / (high - low), TINY))
        return np.take(np.where(np.isnan(logs), 0.0, logs), bins.point, axis=1), kernel

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


def log_ratio(good: Parzen, bad: Parzen, units: np.ndarray, margins: float) -> np.ndarray:
    """(m,) log of good over bad at (m, d) units: of the joint densities, and with weight `margins` of each column
    alone."""
    points = good.axes.points(units)
    together = good._together(points) - bad._together(points)
    return (1 - margins) * together + margins * (good._alone(points) - bad._alone(points))


def _read(table: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(m, c) values, by linear interpolation, of c columns' tables (c, CELLS + 1) over [0, 1]; any where it is NaN."""
    place = np.nan_to_num(positions) * CELLS
    left = np.minimum(place.astype(int), CELLS - 1)
    columns = np.arange(len(table))
    start = table[columns, left]
    return start + (place - left) * (table[columns, left + 1] - start)


def _widths(axes: Axes, units: np.ndarray, n: float) -> np.ndarray:
    """(d,) for as many observations as the units weigh together."""
    columns = units.shape[1]
    # The ends of the range join the observations, so that a few equal values do not make a kernel of no width.
    known = ~np.isnan(units)
    x, count = np.where(known, units, 0.0), known.sum(axis=0) + 2
    spread = np.sqrt((np.square(x).sum(axis=0) + 1) / count - np.square((x.sum(axis=0) + 1) / count))
    numeric = np.clip(WIDTH * spread * max(n, 1) ** (-1 / (columns + 4)), MIN_WIDTH, 1.0)  # Scott's rule (Scott 1992)
    choices = np.where(axes.categorical, axes.counts, 1.0) / (n + 1)
    return np.where(axes.categorical, choices / (1 + choices), numeric)
