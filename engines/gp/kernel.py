"""Stationary kernels with one lengthscale per parameter, over the features of `encoding`.

With r2 = sum_k d_k / l_k^2, where d_k is the squared distance of two configurations in parameter k:
rbf       exp(-r2 / 2)
matern32  (1 + a) exp(-a),          a = sqrt(3 r2)
matern52  (1 + a + a^2/3) exp(-a),  a = sqrt(5 r2)
(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 4.9 and 4.17.)
"""

from __future__ import annotations

import numpy as np

KERNELS = ("matern52", "matern32", "rbf")


def correlation(kernel: str, r2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The correlation at squared scaled distances r2 (any shape), and its derivative by r2 (finite at zero)."""
    if kernel == "rbf":
        value = np.exp(-0.5 * r2)
        return value, -0.5 * value
    a = np.sqrt((3.0 if kernel == "matern32" else 5.0) * r2)
    decay = np.exp(-a)
    if kernel == "matern32":
        return (1.0 + a) * decay, -1.5 * decay
    return (1.0 + a + a * a / 3.0) * decay, (-5.0 / 6.0) * (1.0 + a) * decay


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n, m) squared Euclidean distances of rows (n, p) and (m, p), never below zero."""
    cross = (left * left).sum(1)[:, None] + (right * right).sum(1)[None, :] - 2.0 * (left @ right.T)
    return np.maximum(cross, 0.0, out=cross)


def pair_distances(
    features: np.ndarray, groups: np.ndarray, count: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """(count, n(n-1)/2) squared distances of every pair of rows in each parameter, and the pairs' (rows, columns).

    features: (n, p); groups: (p,) the parameter, 0 .. count - 1, that each feature belongs to.
    """
    pairs = np.tril_indices(len(features), -1)
    out = np.zeros((count, len(pairs[0])))
    for column, group in zip(features.T, groups.tolist(), strict=True):
        out[group] += np.square(column[pairs[0]] - column[pairs[1]])
    return out, pairs
