"""Acquisition functions of a posterior mean and standard deviation, for minimisation; higher is better.

Expected improvement: Jones, Schonlau and Welch 1998, equation 15, and its logarithm: Ament et al., Unexpected
Improvements to Expected Improvement, NeurIPS 2023, equation 9. Probability of improvement: Kushner 1964.
Confidence bound: Srinivas et al. 2010, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
SMALLEST_STD = 1e-12
ASYMPTOTIC = -1e3

Values: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""An acquisition and its derivatives by the mean and by the standard deviation, each (n,)."""


def expected_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """E[max(best - f, 0)] of f ~ N(mean, std^2), (n,); 0 where std is 0."""
    from scipy.special import ndtr

    z = _standardized(mean, std, best)
    value = np.asarray(std) * (np.exp(-0.5 * z * z - HALF_LOG_2PI) + z * ndtr(z))
    return np.where(np.asarray(std) > 0, np.maximum(value, 0.0), 0.0)


def probability_of_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """P(f < best) of f ~ N(mean, std^2), (n,); 0 where std is 0."""
    from scipy.special import ndtr

    return np.where(np.asarray(std) > 0, ndtr(_standardized(mean, std, best)), 0.0)


def upper_confidence_bound(mean: np.ndarray, std: np.ndarray, kappa: float) -> np.ndarray:
    """kappa * std - mean, (n,): how good a point may well be when the mean is a loss; larger kappa explores farther."""
    return kappa * np.asarray(std, dtype=float) - np.asarray(mean, dtype=float)


def _standardized(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    std = np.asarray(std, dtype=float)
    return (best - np.asarray(mean, dtype=float)) / np.where(std > 0, std, 1.0)


def log_h(z: np.ndarray) -> np.ndarray:
    """log(phi(z) + z Phi(z)), (n,), without cancellation for very negative z (Ament et al., equation 9)."""
    from scipy.special import ndtr

    z = np.asarray(z, dtype=float)
    near, far = np.maximum(z, -1.0), np.minimum(z, -1.0)
    plain = np.log(np.exp(-0.5 * near * near - HALF_LOG_2PI) + near * ndtr(near))
    return np.where(z > -1.0, plain, -0.5 * far * far - HALF_LOG_2PI + _log_h_over_phi(far))


def _log_h_over_phi(z: np.ndarray) -> np.ndarray:
    """log((phi + z Phi) / phi) = log(1 - |z| sqrt(pi/2) erfcx(|z|/sqrt 2)) for z <= -1. It tends to -2 log |z|, and
    would be lost in rounding there."""
    middle = np.maximum(z, ASYMPTOTIC)
    return np.where(z > ASYMPTOTIC, np.log1p(middle * _cumulative_over_density(middle)), -2.0 * np.log(-z))


def _cumulative_over_density(z: np.ndarray) -> np.ndarray:
    """Phi(z) / phi(z) without underflow for negative z."""
    from scipy.special import erfcx

    return math.sqrt(0.5 * math.pi) * erfcx(-z / math.sqrt(2.0))


def log_expected_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> Values:
    from scipy.special import ndtr

    std = np.maximum(std, SMALLEST_STD)
    z = (best - mean) / std
    log_value = log_h(z)
    near, far = np.maximum(z, -1.0), np.minimum(z, -1.0)
    # h'(z) = Phi(z) and h(z) - z Phi(z) = phi(z); far below zero both over h only as ratios to phi.
    density = np.where(z > -1.0, np.exp(-0.5 * near * near - HALF_LOG_2PI - log_h(near)), np.exp(-_log_h_over_phi(far)))
    cumulative = np.where(z > -1.0, ndtr(near) / np.exp(log_h(near)), density * _cumulative_over_density(far))
    return log_value + np.log(std), -cumulative / std, density / std


def log_probability_of_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> Values:
    from scipy.special import log_ndtr

    std = np.maximum(std, SMALLEST_STD)
    z = (best - mean) / std
    value = log_ndtr(z)
    with np.errstate(over="ignore"):  # the ratio is infinite, and its inverse rightly 0, where success is certain
        by_mean = -1.0 / _cumulative_over_density(z) / std
    return value, by_mean, np.where(by_mean == 0.0, 0.0, by_mean * z)


def confidence_bound(mean: np.ndarray, std: np.ndarray, kappa: float) -> Values:
    return upper_confidence_bound(mean, std, kappa), np.full_like(mean, -1.0), np.full_like(std, kappa)


def make(name: str, best: float, kappa: float) -> Callable[[np.ndarray, np.ndarray], Values]:
    """The acquisition `name` ("ei", "pi" in logarithms, or "ucb") of mean and standard deviation."""
    if name == "ucb":
        return lambda mean, std: confidence_bound(mean, std, kappa)
    if name == "pi":
        return lambda mean, std: log_probability_of_improvement(mean, std, best)
    return lambda mean, std: log_expected_improvement(mean, std, best)
