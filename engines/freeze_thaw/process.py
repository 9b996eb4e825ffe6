"""A Gaussian process over (configuration, step): what a trial's value will be when it has been trained to some step.

    k((x, t), (x', t')) = [a + b m(t, t')] k_x(x, x') + c m(t, t') + e [same trial] m(t, t')

with k_x and m Matern 5/2 and t the step's position on a log scale. The parts are what a configuration is worth (a), how
that changes with training (b), the training curve that all trials share (c), and what only the trial itself tells (e).
Swersky, Snoek and Adams, "Freeze-Thaw Bayesian Optimization", arXiv:1406.3896, section 3, likewise model curves and
configurations together and share each trial's own deviation along its curve; their curves decay exponentially, which
rules out those that turn. Hyperparameters are at their most probable values (Rasmussen and Williams 2006, equation
5.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.engines.gp.kernel import correlation, pair_distances, squared_distances

KERNEL = "matern52"
JITTER = 1e-8
LENGTHSCALE_PRIOR = (float(np.log(0.65)), 1.0)
TIME_PRIOR = (0.0, 1.0)
VARIANCE_PRIORS = ((float(np.log(0.5)), 1.0),) * 3 + ((float(np.log(0.05)), 1.5),)
NOISE_PRIOR = (float(np.log(1e-3)), 2.0)
LENGTHSCALE_BOUNDS = (float(np.log(0.03)), float(np.log(30.0)))
TIME_BOUNDS = (float(np.log(0.1)), float(np.log(30.0)))
VARIANCE_BOUNDS = (float(np.log(1e-4)), float(np.log(50.0)))
NOISE_BOUNDS = (float(np.log(1e-6)), 0.0)
NOISE_STARTS = (NOISE_PRIOR[0], float(np.log(0.2)))
MAX_ITERATIONS = 30


@dataclass(frozen=True, slots=True)
class Points:
    """Where the process is looked at: features (n, p), log positions of steps (n,) in [0, 1] and trial numbers (n,),
    a negative one for a configuration as such, without the luck of any trial (the part e is left out)."""

    features: np.ndarray
    times: np.ndarray
    trials: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Points:
        return Points(self.features[which], self.times[which], self.trials[which])

    def __len__(self) -> int:
        return len(self.times)

    def and_(self, other: Points) -> Points:
        pairs = zip((self.features, self.times, self.trials), (other.features, other.times, other.trials), strict=True)
        return Points(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """lengthscales: (d,), one per parameter; time: that of m; variances: (a, b, c, e); noise a variance."""

    lengthscales: np.ndarray
    time: float
    variances: tuple[float, float, float, float]
    noise: float


class Posterior:
    """The process given values y (n,) at `points`."""

    def __init__(self, points: Points, groups: np.ndarray, y: np.ndarray, parameters: Hyperparameters):
        from scipy.linalg.lapack import dpotrf, dpotrs

        self.points, self.groups, self.y, self.parameters = points, groups, y, parameters
        self._inverse_scale = 1.0 / parameters.lengthscales[groups]
        covariance = self._covariance(points, points)
        covariance[np.diag_indices_from(covariance)] += parameters.noise + JITTER
        self._lower, info = dpotrf(covariance, lower=1, clean=1)
        if info:
            raise np.linalg.LinAlgError("the covariance is not positive definite")
        self._weights = dpotrs(self._lower, y, lower=1)[0]

    def _covariance(self, left: Points, right: Points) -> np.ndarray:
        a, b, c, e = self.parameters.variances
        scaled = (left.features * self._inverse_scale, right.features * self._inverse_scale)
        alike = correlation(KERNEL, squared_distances(*scaled))[0]
        near = correlation(KERNEL, ((left.times[:, None] - right.times) / self.parameters.time) ** 2)[0]
        same = (left.trials[:, None] == right.trials) & (right.trials >= 0)
        return alike * (a + b * near) + near * (c + e * same)

    def predict(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) of the noise-free values."""
        from scipy.linalg.blas import dtrsm

        cross = self._covariance(points, self.points)
        half = dtrsm(1.0, self._lower, cross.T, lower=1)
        *shared, own = self.parameters.variances
        variance = sum(shared) + own * (points.trials >= 0) - np.einsum("ij,ij->j", half, half)
        return cross @ self._weights, np.sqrt(np.maximum(variance, 1e-12))

    def believe(self, points: Points) -> Posterior:
        """As if each of `points` had been seen to equal its mean: the uncertainty there shrinks, the mean stays
        (Ginsbourger, Le Riche and Carraro 2010, "kriging believer")."""
        if not len(points):
            return self
        y = np.concatenate([self.y, self.predict(points)[0]])
        return Posterior(self.points.and_(points), self.groups, y, self.parameters)


def fit(points: Points, groups: np.ndarray, y: np.ndarray) -> Hyperparameters:
    """The most probable hyperparameters for values y (n,) of about zero mean and unit variance.

    The starts are fixed, so that the answer depends on the data alone and not on earlier fits.
    """
    from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
    from scipy.optimize import fmin_l_bfgs_b

    n, d = len(y), int(groups.max()) + 1
    distances, (rows, columns) = pair_distances(points.features, groups, d)
    gaps = (points.times[rows] - points.times[columns]) ** 2
    same = (points.trials[rows] == points.trials[columns]).astype(float)
    priors: Sequence[tuple[float, float]] = [*[LENGTHSCALE_PRIOR] * d, TIME_PRIOR, *VARIANCE_PRIORS, NOISE_PRIOR]
    middle, spread = np.array(priors).T
    bounds = [*[LENGTHSCALE_BOUNDS] * d, TIME_BOUNDS, *[VARIANCE_BOUNDS] * 4, NOISE_BOUNDS]
    diagonal = np.arange(n)
    covariance = np.empty((n, n), order="F")

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weights, per_time = np.exp(-2.0 * theta[:d]), float(np.exp(-2.0 * theta[d]))
        a, b, c, e = variances = np.exp(theta[d + 1 : d + 5])
        noise = float(np.exp(theta[d + 5]))
        alike, alike_slope = correlation(KERNEL, weights @ distances)
        near, near_slope = correlation(KERNEL, per_time * gaps)
        parts = (a * alike, b * alike * near, c * near, e * same * near)
        covariance[rows, columns] = sum(parts)
        covariance[diagonal, diagonal] = variances.sum() + noise + JITTER
        lower, info = dpotrf(covariance, lower=1)
        if info:
            return 1e25, np.zeros(len(theta))
        alpha = dpotrs(lower, y, lower=1)[0]
        inverse, _ = dpotri(lower, lower=1)
        offset = (theta - middle) / spread
        total = 0.5 * float(y @ alpha) + float(np.log(lower[diagonal, diagonal]).sum()) + 0.5 * float(offset @ offset)
        # Equation 5.9: half the trace of (K^-1 - alpha alpha^T) dK/dtheta; each pair stands for two entries of K.
        pair = inverse[rows, columns] - alpha[rows] * alpha[columns]
        own = float(inverse[diagonal, diagonal].sum() - alpha @ alpha)
        gradient = offset / spread
        gradient[:d] += (distances @ (pair * alike_slope * (a + b * near))) * (-2.0 * weights)
        gradient[d] += float(pair @ (near_slope * gaps * (b * alike + c + e * same))) * (-2.0 * per_time)
        gradient[d + 1 : d + 5] += [float(pair @ part) for part in parts] + 0.5 * own * variances
        gradient[d + 5] += 0.5 * noise * own
        return total, gradient

    theta, lowest = middle, np.inf
    for noise in NOISE_STARTS:
        start = middle.copy()
        start[d + 5] = noise
        end, value, _ = fmin_l_bfgs_b(loss, start, bounds=bounds, maxiter=MAX_ITERATIONS, factr=1e9)
        if value < lowest:
            theta, lowest = end, value
    a, b, c, e = np.exp(theta[d + 1 : d + 5]).tolist()
    return Hyperparameters(np.exp(theta[:d]), float(np.exp(theta[d])), (a, b, c, e), float(np.exp(theta[d + 5])))
