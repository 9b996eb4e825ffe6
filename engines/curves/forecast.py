"""Where a curve will stand at a later step: a Bayesian average over simple laws of learning curves.

A law is a shape that is certain: a power of the step, its logarithm, or an exponential approach to a limit. The level
it stands at and the change it makes until the horizon are unknown and have normal priors, so the posterior and the
evidence of each law are closed forms (Bishop 2006, section 3.5) and the forecast is their mixture (Domhan, Springenberg
and Hutter 2015 sample one like it). The prior shrinks the change towards none, which the last value stands for.
"""

from __future__ import annotations

import math

import numpy as np

from tunewright.engines.curves.shapes import Forecast
from tunewright.engines.curves.signal import Signal, calm, noise

FEWEST = 3
MOST = 48  # points that are fitted: longer curves are averaged in blocks
POWERS = (-1.0, -0.7, -0.5, -0.3, -0.15, 0.0, 0.3)  # 0 stands for the logarithm
RATES = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)  # of exponentials, per what was observed
RECENT = 3.0  # weight of a point: (step / last step) ** RECENT
FLOOR = 0.08  # of the range that was moved through: what no law explains, per point
STRAY = 0.25  # of the range: what a curve may gain or lose in a doubling of steps, whatever it did in the last one
CHANGE = 0.6  # prior deviation of the change, in gains of the last doubling, by the root of the doublings ahead
DRIFT = 0.8  # deviation that the laws do not know of, in the same unit, per doubling
NEAREST = 1e-6  # smallest ratio of steps, or of values, that is told from none
TEN_PERCENT = 1.2816  # of a normal distribution lie beyond so many deviations, on each side


def forecast(signal: Signal, horizon: float) -> Forecast | None:
    """None for a curve that is broken, has fewer than FEWEST points or is at the horizon."""
    steps, losses = signal.steps, signal.losses
    if len(signal) < FEWEST or signal.broken is not None or horizon <= steps[-1]:
        return None
    start = 0.0 if steps[0] > 0 else float(steps[0] - np.median(np.diff(steps)))
    seen = float(steps[-1]) - start
    # Steps in units of the last one; reports from far before it all tell of the beginning.
    t, ahead = np.maximum((steps - start) / seen, NEAREST), (horizon - start) / seen
    level, unit = float(losses[-1]), float(np.ptp(losses))
    if ahead <= 1 + NEAREST or unit <= NEAREST * abs(level) or unit == 0:
        last = signal.sign * level
        return Forecast(horizon, last, last, last)
    mean, deviation = _predict(t, calm((losses - level) / unit), ahead)
    ends = [signal.sign * (level + unit * (mean + k * TEN_PERCENT * deviation)) for k in (-1, 0, 1)]
    return Forecast(horizon, ends[1], min(ends), max(ends))


def _predict(steps: np.ndarray, losses: np.ndarray, horizon: float) -> tuple[float, float]:
    """(mean, standard deviation) of the loss that will be reported at the horizon. The last step is 1, its loss 0, and
    the range of all losses 1."""
    t, y, counts = _blocks(steps, losses)
    shapes = _laws(t, horizon)  # (m, n)
    doublings, late = math.log2(horizon), losses[len(losses) // 2 :]
    # Swings look like noise, and larger than they are; what the late reports vary by is its bound.
    jitter = min(noise(losses), float(np.std(late)) if len(late) > 3 else math.inf) ** 2
    half = min(int(np.searchsorted(t, t[-1] / 2)), len(y) - 2)
    gain = math.hypot(float(y[half] - y[-1]), STRAY)
    prior = (CHANGE * gain) ** 2 * max(doublings, 0.1)  # variance of the change
    w = t**RECENT / (jitter / counts + FLOOR**2)
    r = y - y[-1]
    # For each law the precision [[a, b], [b, c]] and the information (u, v) of (level, change).
    a, b, c = w.sum(), (shapes * w).sum(axis=1), (shapes**2 * w).sum(axis=1) + 1 / prior
    u, v = float(w @ r), shapes @ (w * r)
    det = a * c - b**2
    at, change = (c * u - b * v) / det, (a * v - b * u) / det
    means, variances = y[-1] + at + change, (a + c - 2 * b) / det
    evidence = 0.5 * (u * at + v * change) - 0.5 * np.log(det * prior)
    p = np.exp(evidence - evidence.max())
    p /= p.sum()
    mean = float(p @ means)
    spread = float(p @ (variances + (means - mean) ** 2))
    return mean, math.sqrt(spread + (DRIFT * gain * doublings) ** 2 + jitter)


def _blocks(t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(steps, losses, counts): means of at most MOST blocks, evenly spread over the logarithm of the step."""
    if len(t) <= MOST:
        return t, y, np.ones(len(t))
    edges = np.unique(np.geomspace(1, len(t), MOST + 1).astype(int)[:-1]) - 1
    counts = np.diff(np.append(edges, len(t)))
    return np.add.reduceat(t, edges) / counts, np.add.reduceat(y, edges) / counts, counts


def _laws(t: np.ndarray, horizon: float) -> np.ndarray:
    """(m, n) every law at the observed steps, scaled to 0 at the last of them and 1 at the horizon."""
    ends = np.append(t, horizon)
    raw = [np.log(ends) if power == 0 else ends**power for power in POWERS]
    raw += [np.exp(-rate * ends) for rate in RATES]
    rows = np.array(raw)
    return (rows[:, :-1] - rows[:, -2:-1]) / (rows[:, -1:] - rows[:, -2:-1])
