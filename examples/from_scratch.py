"""A Bayesian optimiser from nothing but numpy: what the `gp` engine does, in forty lines.

    python examples/from_scratch.py

A Gaussian process is fitted to what was tried, expected improvement says where to look next, and so on. The loss is a
valley at x = 2 with noise; the last line is how near the optimiser came.
"""

from __future__ import annotations

import math

import numpy as np

LOW, HIGH, TRIALS = -4.0, 6.0, 12
LENGTHSCALE, NOISE = 1.5, 0.02  # of x; the variance of the noise, in units of the losses' variance


def loss(x: float, rng: np.random.Generator) -> float:
    return (x - 2.0) ** 2 + 0.1 * rng.standard_normal()


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared exponential: (n, m) correlations of the points (n,) and (m,)."""
    return np.exp(-0.5 * np.square((a[:, None] - b) / LENGTHSCALE))


def posterior(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (m,) at the new points, given values y (n,) at x (n,) (Rasmussen and Williams 2006,
    equations 2.25 and 2.26)."""
    gain = np.linalg.solve(kernel(x, x) + NOISE * np.eye(len(x)), kernel(x, new))
    return gain.T @ y, np.sqrt(np.maximum(1.0 - np.einsum("ij,ij->j", kernel(x, new), gain), 1e-12))


def expected_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """E[max(best - f, 0)] (Jones, Schonlau and Welch 1998, equation 15)."""
    z = (best - mean) / std
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * (1.0 + math.erf(v / math.sqrt(2))) for v in z])
    return std * (z * below + density)


def minimise(seed: int) -> float:
    """The x of the lowest mean after TRIALS evaluations, two of which are at random."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(LOW, HIGH, 401)
    x = rng.uniform(LOW, HIGH, 2)
    y = np.array([loss(v, rng) for v in x])
    while len(x) < TRIALS:
        scaled = (y - y.mean()) / y.std()
        mean, std = posterior(x, scaled, grid)
        best = posterior(x, scaled, x)[0].min()
        chosen = float(grid[np.argmax(expected_improvement(mean, std, best))])
        x, y = np.append(x, chosen), np.append(y, loss(chosen, rng))
    return float(grid[np.argmin(posterior(x, (y - y.mean()) / y.std(), grid)[0])])


if __name__ == "__main__":
    found = [minimise(seed) for seed in range(10)]
    print("x found from ten seeds:", ", ".join(f"{x:.2f}" for x in found))
    print(f"farthest from 2: {max(abs(x - 2.0) for x in found):.2f}")
