"""What is believed of every trial's end after some rests: the process on the told values, and what follows from it.

A function of the observations alone. Hyperparameters are those of a shorter history, about a fifth apart, from at most
MAX_FIT points; the posterior stands on at most MAX_POINTS: the best, the latest and an even share of the others. Both
are approximations that keep long studies affordable.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from tunewright.engines.freeze_thaw.process import Hyperparameters, Points, Posterior, fit
from tunewright.engines.gp.encoding import Encoding
from tunewright.engines.gp.model import standardize
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation, losses

MAX_FIT = 100
MAX_POINTS = 260
GROWTH = 1.2
REMEMBERED = 64
INCUMBENTS = 5


@dataclass(frozen=True, slots=True)
class Model:
    """`posterior` is of (loss - centre) / unit. Of each trial that has a value: number, row (n, d), and the mean and
    deviation (n,) of its value at the highest step. `best`: the lowest mean of their configurations as such, which
    luck flatters less."""

    posterior: Posterior
    centre: float
    unit: float
    numbers: tuple[int, ...]
    rows: np.ndarray
    points: Points
    mean: np.ndarray
    std: np.ndarray
    best: float

    @property
    def incumbents(self) -> np.ndarray:
        """(b, d) rows whose trials are expected to end lowest."""
        return self.rows[np.argsort(self.mean, kind="stable")[:INCUMBENTS]]

    def believe(self, points: Points) -> Model:
        """As if running trials had come out at their means, which may make one of them the best."""
        if not len(points):
            return self
        lowest = float(self.posterior.predict(points)[0].min())
        return replace(self, posterior=self.posterior.believe(points), best=min(self.best, lowest))


class Belief:
    def __init__(self, space: Space, objective: Objective, fidelity: Fidelity):
        self.encoding = Encoding(space)
        self._objective, self._fidelity = objective, fidelity
        self._told: list[Observation] = []
        self._rows: dict[int, np.ndarray] = {}
        self._fitted: dict[int, Hyperparameters] = {}
        self._built: tuple[int, Model | None] = (0, None)

    def tell(self, observations: Sequence[Observation]) -> None:
        self._told += observations
        fresh = {o.number: o.params for o in observations if o.number not in self._rows}
        self._rows.update(zip(fresh, self.encoding.encode(list(fresh.values())), strict=True))

    def ends(self, rows: np.ndarray) -> Points:
        """Configurations (m, d) that have no trial yet, at the highest step."""
        return Points(self.encoding.features(rows), np.ones(len(rows)), np.full(len(rows), -1))

    def model(self) -> Model | None:
        """None until two trials have a value."""
        if self._built[0] != len(self._told):
            self._built = len(self._told), self._model()
        return self._built[1]

    def _model(self) -> Model | None:
        values = losses(self._told, self._objective)
        values[[any(c > 0 for c in o.constraints) for o in self._told]] = np.nan
        known = np.isfinite(values)
        numbers = tuple(dict.fromkeys(o.number for o, k in zip(self._told, known, strict=True) if k))
        if len(numbers) < 2:
            return None
        # A failure counts as the worst that was seen.
        values = np.where(known, values, values[known].max())
        points = self._points([o.number for o in self._told], [o.fidelity for o in self._told])
        keep = subset(values, MAX_POINTS)
        z, centre, unit = standardize(values[keep])
        posterior = Posterior(points[keep], self.encoding.groups, z, self._hyperparameters(points, values))
        failed = {o.number for o, k in zip(self._told, known, strict=True) if not k}
        numbers = tuple(n for n in numbers if n not in failed) or numbers
        ends = self._points(numbers, [None] * len(numbers))
        mean, std = posterior.predict(ends)
        rows = np.array([self._rows[n] for n in numbers])
        best = float(posterior.predict(self.ends(rows))[0].min())
        return Model(posterior, centre, unit, numbers, rows, ends, mean, std, best)

    def _points(self, numbers: Sequence[int], steps: Sequence[int | None]) -> Points:
        features = self.encoding.features(np.array([self._rows[n] for n in numbers]))
        times = np.array([self._fidelity.position(step) for step in steps])
        return Points(features, times, np.array(numbers))

    def _hyperparameters(self, points: Points, values: np.ndarray) -> Hyperparameters:
        n = refit_size(len(values))
        if n not in self._fitted:
            keep = subset(values[:n], MAX_FIT)
            z, _, _ = standardize(values[keep])
            self._fitted[n] = _fitted(points[keep], self.encoding.groups, z)
        return self._fitted[n]


_LATEST: OrderedDict[bytes, Hyperparameters] = OrderedDict()


def _fitted(points: Points, groups: np.ndarray, z: np.ndarray) -> Hyperparameters:
    """`fit`, remembered for a while: a study's engine and its scheduler ask for the same one after the other."""
    parts = (points.features, points.times, points.trials, groups, z)
    key = sha256(b"|".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()
    found = _LATEST.get(key)
    if found is None:
        found = _LATEST[key] = fit(points, groups, z)
        if len(_LATEST) > REMEMBERED:
            _LATEST.popitem(last=False)
    return found


def refit_size(n: int) -> int:
    """The history length whose hyperparameters serve n observations: steps of GROWTH."""
    size = 2
    while (longer := max(size + 1, int(size * GROWTH))) <= n:
        size = longer
    return size


def subset(values: np.ndarray, size: int) -> np.ndarray:
    """Indices, ascending, of at most `size` values (n,): a third the lowest, a third the latest, an even share of the
    rest."""
    n = len(values)
    if n <= size:
        return np.arange(n)
    taken = np.zeros(n, dtype=bool)
    taken[np.argsort(values, kind="stable")[: size // 3]] = True
    taken[n - size // 3 :] = True
    left = np.flatnonzero(~taken)
    taken[left[np.linspace(0, len(left) - 1, size - int(taken.sum())).astype(int)]] = True
    return np.flatnonzero(taken)
