"""Acquisition functions of a posterior mean and standard deviation, for minimisation; higher is better.

log expected improvement: Ament et al., Unexpected Improvements to Expected Improvement, NeurIPS 2023, equation 9 and
appendix A.1. Expected and probability of improvement: Jones, Schonlau and Welch 1998, equation 15. Confidence bound:
Srinivas et al. 2010.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

NOISE = [0.0]
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
ACQUISITIONS = ("ei", "aei", "pi", "ucb", "thompson")

Gradient = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The value and its derivatives by mean and by standard deviation, each (n,)."""


def expected_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """E[max(best - f, 0)], (n,); 0 where std is 0."""
    from scipy.special import ndtr

    std = np.asarray(std, dtype=float)
    z = _standardized(mean, std, best)
    value = std * (np.exp(-0.5 * z * z - HALF_LOG_2PI) + z * ndtr(z))
    return np.where(std > 0, np.maximum(value, 0.0), 0.0)


def probability_of_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """P(f < best), (n,); 0 where std is 0."""
    from scipy.special import ndtr

    return np.where(np.asarray(std) > 0, ndtr(_standardized(mean, std, best)), 0.0)


def upper_confidence_bound(mean: np.ndarray, std: np.ndarray, kappa: float) -> np.ndarray:
    """kappa * std - mean, (n,): the upper bound on how good a point may be when the mean is a loss."""
    return kappa * np.asarray(std, dtype=float) - np.asarray(mean, dtype=float)


def _standardized(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    std = np.asarray(std, dtype=float)
    return (best - np.asarray(mean, dtype=float)) / np.where(std > 0, std, 1.0)


def log_improvement(z: np.ndarray) -> np.ndarray:
    """log(phi(z) + z Phi(z)) without cancellation for very negative z (Ament et al., equation 9)."""
    from scipy.special import erfcx, ndtr

    z = np.asarray(z, dtype=float)
    out = np.empty_like(z)
    plain = z > -1.0
    near = z[plain]
    out[plain] = np.log(np.exp(-0.5 * near * near - HALF_LOG_2PI) + near * ndtr(near))
    far = z[~plain]
    # phi(z) + z Phi(z) = phi(z) (1 - |z| sqrt(pi/2) erfcx(|z|/sqrt 2)); past 1e4 the bracket is 1/z^2 to rounding.
    bracket = 1.0 - np.abs(far) * math.sqrt(0.5 * math.pi) * erfcx(np.abs(far) / math.sqrt(2.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_bracket = np.where(far > -1e3, np.log(np.maximum(bracket, 1e-300)), -2.0 * np.log(np.abs(far)))
    out[~plain] = -0.5 * far * far - HALF_LOG_2PI + log_bracket
    return out


def log_expected_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> Gradient:
    from scipy.special import log_ndtr

    std = np.maximum(std, 1e-12)
    z = (best - mean) / std
    log_h = log_improvement(z)
    return (
        log_h + np.log(std),
        -np.exp(log_ndtr(z) - log_h) / std,
        np.exp(-0.5 * z * z - HALF_LOG_2PI - log_h) / std,
    )


def log_probability_of_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> Gradient:
    from scipy.special import log_ndtr

    std = np.maximum(std, 1e-12)
    z = (best - mean) / std
    value = log_ndtr(z)
    ratio = np.exp(-0.5 * z * z - HALF_LOG_2PI - value) / std
    return value, -ratio, -ratio * z


def confidence_bound(mean: np.ndarray, std: np.ndarray, kappa: float) -> Gradient:
    return upper_confidence_bound(mean, std, kappa), np.full_like(mean, -1.0), np.full_like(std, kappa)


def choose(name: str, best: float, kappa: float) -> Callable[[np.ndarray, np.ndarray], Gradient]:
    """The acquisition `name` as a function of mean and standard deviation; ei and pi in logarithms."""
    if name == "ucb":
        return lambda mean, std: confidence_bound(mean, std, kappa)
    if name == "aei":
        def f(mean, std, noise=NOISE[0]):
            v, dm, ds = log_expected_improvement(mean, std, best)
            sn=noise**.5
            tot=np.sqrt(std*std+noise)
            fac=1-sn/tot
            return v+np.log(np.maximum(fac,1e-12)), dm, ds + (sn*std/tot**3)/np.maximum(fac,1e-12)
        return f
    if name == "pi":
        return lambda mean, std: log_probability_of_improvement(mean, std, best)
    return lambda mean, std: log_expected_improvement(mean, std, best)
