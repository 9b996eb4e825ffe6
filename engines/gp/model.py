"""What the engine believes after some trials: a process for the loss, and one for whether a trial succeeds.

Depends on the told trials alone. Past FIT_EACH trials the hyperparameters are those of a shorter history, one tenth
apart, from at most MAX_FIT trials; the posterior stands on at most MAX_TRIALS: the best, the latest, and then those
farthest from what is already in. Both are approximations, and what keeps thousands of trials affordable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tunewright.engines.gp.acquisition import make
from tunewright.engines.gp.encoding import Encoding
from tunewright.engines.gp.regression import SHARED, Hyperparameters, Posterior, fit
from tunewright.engines.priors import Tilt

FIT_EACH = 60
MAX_FIT = 150
MAX_TRIALS = 400
WINSOR_REACH = 3.0
INCUMBENTS = 5
LOG_RISKY = float(np.log(0.25))
RISKY_PENALTY = 100.0


@dataclass(frozen=True, slots=True)
class Data:
    """Trials as they were told: rows (n, d), fidelity levels (n,) in [0, 1], losses (n,) with NaN for failures,
    and whether each succeeded (n,), its measured constraints included."""

    rows: np.ndarray
    levels: np.ndarray
    losses: np.ndarray
    succeeded: np.ndarray


@dataclass(frozen=True, slots=True)
class Model:
    """`objective` is of (loss - centre) / unit; `best` its lowest mean at a told configuration, at full fidelity, which
    noise flatters less than the lowest loss; `incumbents` (b, d) the rows with the lowest means."""

    objective: Posterior
    success: Posterior | None
    centre: float
    unit: float
    best: float
    incumbents: np.ndarray

    def believe(self, features: np.ndarray) -> Model:
        """As if pending trials at features (m, p) had come out at their means. They may become the best as well: were
        `best` to stay, the next trial would be drawn to where one of them already promises more than that."""
        if not len(features):
            return self
        objective = self.objective.believe(features)
        return replace(self, objective=objective, best=min(self.best, float(objective.predict(features)[0].min())))

    def log_success(self, features: np.ndarray) -> np.ndarray:
        """(m,) log probability of success: least-squares classification through a probit (Rasmussen and Williams 2006,
        sections 3.9 and 6.5), one half far from all trials. Less than LOG_RISKY is penalised: where no trial succeeds
        the objective is extrapolated, and its promise outgrows any small probability."""
        if self.success is None:
            return np.zeros(len(features))
        from scipy.special import log_ndtr

        mean, std = self.success.predict(features)
        log_probability = log_ndtr(mean / np.sqrt(std**2 + self.success.parameters.noise))
        return log_probability - np.where(log_probability < LOG_RISKY, RISKY_PENALTY, 0.0)


@dataclass(frozen=True, slots=True)
class Surface:
    """The acquisition over rows, tilted by what is known beforehand."""

    encoding: Encoding
    model: Model
    acquisition: str
    kappa: float
    tilt: Tilt | None = None

    def tilted(self, rows: np.ndarray) -> np.ndarray:
        """(m,) what the priors add."""
        return np.zeros(len(rows)) if self.tilt is None else self.tilt.log(rows)

    def value(self, rows: np.ndarray) -> np.ndarray:
        """(m,) acquisition (ei and pi in logarithms) plus log probability of success; -inf outside the constraints."""
        features = self.encoding.features(rows)
        acquire = make(self.acquisition, self.model.best, self.kappa)
        value = acquire(*self.model.objective.predict(features))[0] + self.model.log_success(features)
        return np.where(self.encoding.feasible(rows), value + self.tilted(rows), -np.inf)

    def slope(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The acquisition alone, (m,), and its gradient (m, d) in the active numbers. Success is left to `value`."""
        encoding = self.encoding
        mean, std, mean_gradient, std_gradient = self.model.objective.predict_gradient(encoding.features(rows))
        value, by_mean, by_std = make(self.acquisition, self.model.best, self.kappa)(mean, std)
        by_feature = by_mean[:, None] * mean_gradient + by_std[:, None] * std_gradient
        gradient = np.zeros_like(rows)
        gradient[:, encoding.numeric] = by_feature[:, encoding.numeric_features]
        if self.tilt is not None:
            value, gradient = value + self.tilt.log(rows), gradient + self.tilt.gradient(rows)
        return value, np.where(np.isnan(rows), 0.0, gradient)


class Learner:
    """Builds models; remembers hyperparameters by history length, which changes their cost and not their value."""

    def __init__(self, encoding: Encoding, kernel: str):
        self._encoding, self._kernel = encoding, kernel
        self._fitted: dict[tuple[bool, int], Hyperparameters] = {}

    def model(self, data: Data) -> Model | None:
        """None until two trials have a loss."""
        known = np.isfinite(data.losses)
        if known.sum() < 2:
            return None
        encoding = self._encoding
        rows, losses = data.rows[known], data.losses[known]
        features = encoding.features(rows, data.levels[known])
        z, centre, unit = standardize(losses)
        keep = subset(features, losses, MAX_TRIALS)
        hyperparameters = self._hyperparameters(False, features, losses, lambda part: standardize(part)[0])
        objective = Posterior(features[keep], encoding.groups, z[keep], hyperparameters, self._kernel)
        success = None
        if not data.succeeded.all():
            everything = encoding.features(data.rows, data.levels)
            labels = np.where(data.succeeded, 1.0, -1.0)
            keep = subset(everything, labels, MAX_TRIALS)
            hyperparameters = self._hyperparameters(True, everything, labels, lambda part: part)
            success = Posterior(everything[keep], encoding.groups, labels[keep], hyperparameters, self._kernel)
        allowed = data.succeeded[known]
        candidates = rows[allowed] if allowed.any() else rows
        mean, _ = objective.predict(encoding.features(candidates))
        order = np.argsort(mean, kind="stable")[:INCUMBENTS]
        return Model(objective, success, centre, unit, float(mean[order[0]]), candidates[order])

    def _hyperparameters(
        self, success: bool, features: np.ndarray, y: np.ndarray, scaled: Callable[[np.ndarray], np.ndarray]
    ) -> Hyperparameters:
        encoding, n = self._encoding, refit_size(len(y))
        if (success, n) not in self._fitted:
            keep = subset(features[:n], y[:n], MAX_FIT)
            z = scaled(y[:n])[keep]
            # Many short trials tell the parameters apart; a common part made the first of them no better.
            shared = 0.0 if encoding.with_fidelity else SHARED
            self._fitted[success, n] = fit(features[keep], encoding.groups, z, self._kernel, shared=shared)
        return self._fitted[success, n]


def refit_size(n: int) -> int:
    """The history length whose hyperparameters serve n trials: n itself to FIT_EACH, then steps of a tenth."""
    size = FIT_EACH
    while n > FIT_EACH and size * 11 // 10 <= n:
        size = size * 11 // 10
    return min(n, size)


def standardize(losses: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(losses - centre) / unit, with the bad tail drawn in first, and centre and unit.

    With reach = WINSOR_REACH * (median - best), losses past median + reach keep their order but stay below
    median + 2 reach, so that one exploded run does not flatten all others.
    """
    middle, best = float(np.median(losses)), float(losses.min())
    reach = WINSOR_REACH * (middle - best)
    if reach > 0:
        over = np.maximum(losses - (middle + reach), 0.0)
        losses = np.minimum(losses, middle + reach) + reach * (over / (reach + over))
    centre, unit = float(losses.mean()), float(losses.std())
    unit = unit if unit > 1e-12 * max(1.0, abs(centre)) else 1.0
    return (losses - centre) / unit, centre, unit


def subset(features: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Indices, ascending, of at most `size` trials: a third the best, a third the latest, the rest farthest-first."""
    n = len(y)
    if n <= size:
        return np.arange(n)
    taken = np.zeros(n, dtype=bool)
    taken[np.argsort(y, kind="stable")[: size // 3]] = True
    taken[n - size // 3 :] = True
    away = np.full(n, np.inf)
    for k in np.flatnonzero(taken).tolist():
        away = np.minimum(away, ((features - features[k]) ** 2).sum(1))
    away[taken] = -1.0
    for _ in range(size - int(taken.sum())):
        k = int(away.argmax())
        taken[k] = True
        away = np.where(taken, -1.0, np.minimum(away, ((features - features[k]) ** 2).sum(1)))
    return np.flatnonzero(taken)
