"""Gaussian-process regression with a zero prior mean: hyperparameters at their most probable values, and the posterior.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, algorithm 2.1 and equations 5.8 and 5.9. The
priors are fixed and do not depend on the number of parameters: with few trials they decide what is tried next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunewright.engines.gp.kernel import correlation, pair_distances, squared_distances

JITTER = 1e-10
LENGTHSCALE_PRIOR = (float(np.log(0.65)), 1.0)
SHARED = 0.5  # of its variance is common to all: a few trials tell how rough a function is before they tell where
SCALE_PRIOR = (0.0, 1.0)
NOISE_PRIOR = (float(np.log(1e-3)), 2.0)
LENGTHSCALE_BOUNDS = (float(np.log(0.03)), float(np.log(30.0)))
SCALE_BOUNDS = (float(np.log(0.05)), float(np.log(50.0)))
NOISE_BOUNDS = (float(np.log(1e-6)), float(np.log(1.0)))
NOISE_STARTS = (NOISE_PRIOR[0], float(np.log(0.2)))
MAX_ITERATIONS = 40


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """lengthscales: (d,), one per parameter; scale and noise are variances."""

    lengthscales: np.ndarray
    scale: float
    noise: float


class Posterior:
    """The process given values y (n,) at features (n, p) of groups (p,)."""

    def __init__(
        self,
        features: np.ndarray,
        groups: np.ndarray,
        y: np.ndarray,
        parameters: Hyperparameters,
        kernel: str = "matern52",
    ):
        from scipy.linalg.lapack import dpotrf, dpotri

        self.features, self.groups, self.y, self.parameters, self.kernel = features, groups, y, parameters, kernel
        self._inverse_scale = 1.0 / parameters.lengthscales[groups]
        self._scaled = features * self._inverse_scale
        covariance = parameters.scale * correlation(kernel, squared_distances(self._scaled, self._scaled))[0]
        covariance[np.diag_indices_from(covariance)] = parameters.scale + parameters.noise + JITTER
        self._lower, info = dpotrf(covariance, lower=1, clean=1)
        if info:
            raise np.linalg.LinAlgError("the covariance is not positive definite")
        inverse, _ = dpotri(self._lower, lower=1)
        self._inverse = inverse + np.tril(inverse, -1).T
        self._weights = self._solve(y)

    @property
    def log_likelihood(self) -> float:
        """Of y, up to a constant (equation 5.8)."""
        return -0.5 * float(self.y @ self._weights) - float(np.log(np.diagonal(self._lower)).sum())

    def _solve(self, right: np.ndarray) -> np.ndarray:
        from scipy.linalg.lapack import dpotrs

        return dpotrs(self._lower, right, lower=1)[0]

    def _cross(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = correlation(self.kernel, squared_distances(features * self._inverse_scale, self._scaled))
        return self.parameters.scale * value, self.parameters.scale * slope

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) of the noise-free function at features (m, p)."""
        from scipy.linalg.blas import dtrsm

        cross, _ = self._cross(features)
        half = dtrsm(1.0, self._lower, cross.T, lower=1)
        variance = self.parameters.scale - np.einsum("ij,ij->j", half, half)
        return cross @ self._weights, np.sqrt(np.maximum(variance, 0.0))

    def predict_gradient(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean (m,), standard deviation (m,) and their gradients (m, p) by the features."""
        cross, slope = self._cross(features)
        solved = cross @ self._inverse
        deviation = np.sqrt(np.maximum(self.parameters.scale - np.einsum("ij,ij->i", solved, cross), 1e-18))
        scaled = features * self._inverse_scale

        def gradient(weights: np.ndarray) -> np.ndarray:
            # d r2_i / d x = 2 (x - x_i) / l^2, summed over trials i with the given weights (m, n).
            return 2.0 * (weights.sum(1)[:, None] * scaled - weights @ self._scaled) * self._inverse_scale

        mean_gradient = gradient(slope * self._weights)
        deviation_gradient = -gradient(slope * solved) / deviation[:, None]
        return cross @ self._weights, deviation, mean_gradient, deviation_gradient

    def sample(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One joint draw (m,) of the noise-free function at features (m, p)."""
        from scipy.linalg.blas import dtrsm

        cross, _ = self._cross(features)
        half = dtrsm(1.0, self._lower, cross.T, lower=1)
        scaled = features * self._inverse_scale
        prior = self.parameters.scale * correlation(self.kernel, squared_distances(scaled, scaled))[0]
        values, vectors = np.linalg.eigh(prior - half.T @ half)
        return cross @ self._weights + vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(len(features)))

    def believe(self, features: np.ndarray) -> Posterior:
        """The posterior as if the function had been seen at features (m, p) to equal its mean there (Ginsbourger,
        Le Riche and Carraro 2010, "kriging believer"): the mean stays, the uncertainty shrinks."""
        if not len(features):
            return self
        y = np.concatenate([self.y, self.predict(features)[0]])
        return Posterior(np.vstack([self.features, features]), self.groups, y, self.parameters, self.kernel)


def prior(d: int, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d + 2,) and precision (d + 2, d + 2) of the normal prior over the logarithms of d lengthscales, the scale
    and the noise. The lengthscales are around a common one, itself uncertain, which has a part `shared` of their
    variance: with nothing in common, a few trials explain each surprise by some one parameter's roughness."""
    mean, deviation = zip(*[LENGTHSCALE_PRIOR] * d, SCALE_PRIOR, NOISE_PRIOR, strict=True)
    covariance = np.diag(np.square(deviation))
    covariance[:d, :d] *= 1.0 - shared
    covariance[:d, :d] += shared * LENGTHSCALE_PRIOR[1] ** 2
    return np.array(mean), np.linalg.inv(covariance)


def fit(
    features: np.ndarray,
    groups: np.ndarray,
    y: np.ndarray,
    kernel: str = "matern52",
    noise: float | None = None,
    shared: float = SHARED,
) -> Hyperparameters:
    """The most probable hyperparameters for values y (n,) of about zero mean and unit variance; with `noise` (a
    variance) those beside it. shared: see `prior`.

    Rough data has two explanations, short lengthscales and noise, hence two starts. They are fixed, so the answer
    depends on the data alone and not on earlier fits.
    """
    from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
    from scipy.optimize import fmin_l_bfgs_b

    n, d = len(y), int(groups.max()) + 1
    distances, (rows, columns) = pair_distances(features, groups, d)
    middle, precision = prior(d, shared)
    diagonal = np.arange(n)
    covariance = np.empty((n, n), order="F")

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weights = np.exp(-2.0 * theta[:d])
        scale, random = float(np.exp(theta[d])), float(np.exp(theta[d + 1]))
        value, slope = correlation(kernel, weights @ distances)
        covariance[rows, columns] = scale * value
        covariance[diagonal, diagonal] = scale + random + JITTER
        lower, info = dpotrf(covariance, lower=1)
        if info:
            return 1e25, np.zeros(d + 2)
        alpha = dpotrs(lower, y, lower=1)[0]
        inverse, _ = dpotri(lower, lower=1)
        offset = theta - middle
        pull = precision @ offset
        total = 0.5 * float(y @ alpha) + float(np.log(lower[diagonal, diagonal]).sum()) + 0.5 * float(offset @ pull)
        # Equation 5.9: half the trace of (K^-1 - alpha alpha^T) dK/dtheta; each pair stands for two entries of K.
        pair = inverse[rows, columns] - alpha[rows] * alpha[columns]
        own = float(inverse[diagonal, diagonal].sum() - alpha @ alpha)
        gradient = pull
        gradient[:d] += (distances @ (pair * slope)) * (-2.0 * scale * weights)
        gradient[d] += scale * (float(pair @ value) + 0.5 * own)
        gradient[d + 1] += 0.5 * random * own
        return total, gradient

    held = None if noise is None else float(np.log(noise))
    bounds = [LENGTHSCALE_BOUNDS] * d + [SCALE_BOUNDS, NOISE_BOUNDS if held is None else (held, held)]
    theta, lowest = middle, np.inf
    for begin in NOISE_STARTS if held is None else (held,):
        start = middle.copy()
        start[d + 1] = begin
        end, value, _ = fmin_l_bfgs_b(loss, start, bounds=bounds, maxiter=MAX_ITERATIONS, factr=1e9)
        if value < lowest:
            theta, lowest = end, value
    return Hyperparameters(np.exp(theta[:d]), float(np.exp(theta[d])), float(np.exp(theta[d + 1])))


def log_density(
    features: np.ndarray, groups: np.ndarray, y: np.ndarray, parameters: Hyperparameters, kernel: str = "matern52"
) -> float:
    """Of y (n,), lengthscales and scale together, given the noise, up to a constant: what `fit` with nothing shared
    makes largest, but for the prior of the noise."""
    at = np.log([*parameters.lengthscales, parameters.scale])
    mean, precision = prior(len(parameters.lengthscales), shared=0.0)
    offset = at - mean[:-1]
    fitted = Posterior(features, groups, y, parameters, kernel)
    return fitted.log_likelihood - float(offset @ precision[:-1, :-1] @ offset) / 2
