"""Training curves with a known fault, drawn from what each fault means; for judging what is read from a curve.

It knows the names of the faults and their physics, and nothing of how they are recognised:

- too early: one to four reports, or a few more that are drowned in noise, of a training planned to be far longer
- still improving: the underlying curve still falls where it ends, by more than the noise
- plateau: nothing was gained over the last half or more: converged, stuck from the start, or stuck after a start
- overfitting: what is measured on held-out data turns and gets worse while training goes on to improve
- oscillating: swings that do not die out, as from too high a learning rate, large beside what was gained
- exploding: growth by a factor at each step, finite so far
- diverged: not a number, infinite, or thrown far off and never back
- mode collapse: samples lose their diversity, or the two losses of a GAN chase each other around in large swings
- unbalanced: one of two networks wins: its loss goes to nothing while the other's grows

Healthy curves are those of the first three; warm-ups, drops of the learning rate, noise (independent, correlated, or
shrinking) and spikes that recover occur in them. Units, offsets, signs and steps vary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Points = list[tuple[float, float]]

HEALTHY = ("too early", "still improving", "plateau")
FAULTS = ("overfitting", "oscillating", "exploding", "diverged", "mode collapse", "unbalanced")


@dataclass(frozen=True)
class Case:
    """One trial: `curves` by metric, the `metric` that is tuned and its direction, the planned number of steps."""

    fault: str
    curves: dict[str, Points]
    metric: str
    direction: str
    horizon: float | None


def draw(fault: str, seed: int) -> Case:
    rng = np.random.default_rng([seed, (*HEALTHY, *FAULTS).index(fault)])
    return _MAKERS[fault](rng)


# ------------------------------------------------------------------------------------------------ parts


def _length(rng: np.random.Generator, low: int = 10, high: int = 500) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def _noise(rng: np.random.Generator, n: int, size: float) -> np.ndarray:
    """Standard deviation `size`: independent, correlated, or shrinking to a third."""
    kind = rng.choice(["independent", "correlated", "shrinking"], p=[0.6, 0.2, 0.2])
    e = rng.normal(size=n)
    if kind == "correlated":
        keep = rng.uniform(0.2, 0.6)
        for k in range(1, n):
            e[k] = keep * e[k - 1] + math.sqrt(1 - keep**2) * e[k]
    elif kind == "shrinking":
        e *= np.geomspace(1, 1 / 3, n)
    return size * e


def _falling(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """A healthy unit curve over t in [0, 1]: from 1 towards 0, gaining at least 3% of its fall in the last fifth."""
    for _ in range(200):
        kind = rng.choice(["power", "exponential", "warm-up", "drops", "logarithm"])
        if kind == "power":
            y = (1 + rng.uniform(2, 30) * t) ** -rng.uniform(0.3, 1.2)
        elif kind == "exponential":
            y = np.exp(-rng.uniform(1, 4) * t)
        elif kind == "warm-up":
            start = rng.uniform(0.05, 0.3)
            y = np.exp(-rng.uniform(1, 4) * np.clip(t - start, 0, None)) + 0.02 * np.clip(start - t, 0, None)
        elif kind == "logarithm":
            y = 1 - 0.8 * np.log1p(rng.uniform(3, 30) * t) / math.log(31)
        else:
            y = np.exp(-rng.uniform(1, 3) * t)
            for at in sorted(rng.uniform(0.2, 0.8, size=rng.integers(1, 3))):
                y = np.where(t > at, y * rng.uniform(0.5, 0.8), y)
        y = (y - y[-1]) / (y[0] - y[-1]) if y[0] != y[-1] else y
        if float(np.interp(0.8, t, y)) >= 0.03:
            return y
    raise AssertionError("no curve that still falls")


def _settled(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """A unit curve that is done by the middle: the last half holds less than 1% of the fall."""
    start = rng.uniform(0.0, 0.1)
    rate = rng.uniform(5, 30) / (0.5 - start)
    y = np.exp(-rate * np.clip(t - start, 0, None))
    if rng.random() < 0.25:
        at = rng.uniform(0.15, 0.4)
        y = np.where(t > at, 0.0, 0.2 + 0.8 * y)  # a drop of the learning rate, then nothing more
    return y


def _spikes(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Up to two spikes of one to three reports, each back where it was well before the end."""
    n = len(y)
    if n < 20 or rng.random() < 0.6:
        return y
    y = y.copy()
    for at in rng.integers(n // 5, max(n // 5 + 1, int(0.75 * n)), size=rng.integers(1, 3)):
        for k in range(int(rng.integers(1, 4))):
            y[at + k] += rng.uniform(0.3, 1.5) / (k + 1)
    return y


class _Scene:
    """Units, direction and steps of one trial; turns unit curves (1 is bad, 0 is good) into reports."""

    def __init__(self, rng: np.random.Generator, n: int, high_is_good: bool | None = None):
        self.rng, self.n = rng, n
        self.maximize = bool(rng.random() < 0.4) if high_is_good is None else high_is_good
        stride = rng.choice([1, 1, 1, 10, 100, 500])
        self.steps = stride * np.arange(1, n + 1, dtype=float)
        if rng.random() < 0.15:
            self.steps -= stride
        if rng.random() < 0.1:
            self.steps = np.cumsum(stride * rng.integers(1, 4, size=n)).astype(float)
        if self.maximize:
            percent = rng.choice([1.0, 100.0])
            bad, good = sorted(rng.uniform(0.05, 0.98, size=2))
            if good - bad < 0.05:
                good = bad + 0.05
            self.bad, self.good = percent * bad, percent * good
        else:
            unit = 10 ** rng.uniform(-4, 4)
            offset = rng.choice([0.0, 0.05, 0.5, 5.0, -3.0])
            self.bad, self.good = unit * (1 + offset), unit * offset
        self.horizon = None if rng.random() < 0.3 else float(self.steps[-1] * rng.uniform(1, 5))

    def points(self, unit: np.ndarray) -> Points:
        values = self.good + (self.bad - self.good) * unit
        return list(zip(self.steps[: len(values)].tolist(), values.tolist(), strict=True))

    def pair(self) -> tuple[str, str]:
        """Names of what is measured on training and on held-out data."""
        losses = [
            ("train_loss", "val_loss"),
            ("loss", "val_loss"),
            ("train/loss", "eval/loss"),
            ("train_nll", "test_nll"),
        ]
        scores = [
            ("train_acc", "val_acc"),
            ("accuracy", "val_accuracy"),
            ("train/f1", "val/f1"),
            ("train_auc", "valid_auc"),
        ]
        names = scores if self.maximize else losses
        return names[self.rng.integers(len(names))]

    def case(self, fault: str, curves: dict[str, np.ndarray], metric: str) -> Case:
        direction = "maximize" if self.maximize else "minimize"
        made = {name: self.points(unit) for name, unit in curves.items()}
        return Case(fault, made, metric, direction, self.horizon)


def _with_training(scene: _Scene, fault: str, held_out: np.ndarray, training: np.ndarray) -> Case:
    """Half of the trials report what is measured on training data too."""
    train, val = scene.pair()
    curves = {val: held_out}
    if scene.rng.random() < 0.5:
        curves = {train: training, val: held_out}
    return scene.case(fault, curves, val)


# ------------------------------------------------------------------------------------------------ healthy ones


def _too_early(rng: np.random.Generator) -> Case:
    n = int(rng.integers(1, 5))
    drowned = rng.random() < 0.3
    if drowned:
        n = int(rng.integers(5, 8))
    scene = _Scene(rng, n)
    scene.horizon = float((scene.steps[-1] or 1.0) * rng.uniform(10, 50))
    t = np.arange(n) / 30
    y = 0.5 + 0.5 * np.exp(-rng.uniform(0.2, 1) * t) if drowned else np.exp(-rng.uniform(0.5, 5) * t)
    return _with_training(scene, "too early", y + _noise(rng, n, 0.15 if drowned else 0.02), y + _noise(rng, n, 0.02))


def _still_improving(rng: np.random.Generator) -> Case:
    if rng.random() < 0.15:
        return _healthy_gan(rng, settled=False)
    n = _length(rng)
    scene, t = _Scene(rng, n), np.linspace(0, 1, n)
    y = _falling(rng, t)
    # The noise leaves the last third's gain visible: at most half of it, less when few reports average it out.
    gain = float(np.interp(2 / 3, t, y))
    size = rng.uniform(0, 0.5) * gain * min(1.0, math.sqrt(n / 30))
    noisy = _spikes(rng, y + _noise(rng, n, min(size, 0.08)))
    return _with_training(scene, "still improving", noisy, 0.9 * y + _noise(rng, n, min(size, 0.04)) - 0.05)


def _plateau(rng: np.random.Generator) -> Case:
    if rng.random() < 0.15:
        return _healthy_gan(rng, settled=True)
    n = _length(rng, 12)
    scene, t = _Scene(rng, n), np.linspace(0, 1, n)
    kind = rng.choice(["settled", "never began", "training goes on"], p=[0.6, 0.2, 0.2])
    size = rng.uniform(0, 0.08)
    y = np.full(n, 1.0) if kind == "never began" else _settled(rng, t)
    noisy = y + _noise(rng, n, size)
    if kind == "never began" and rng.random() < 0.3:
        noisy = np.full(n, 1.0)  # a constant: everything is predicted as one class
    if kind == "training goes on":  # the gap widens, held-out data get no worse: too much capacity, but no fault yet
        train, val = scene.pair()
        return scene.case("plateau", {train: _falling(rng, t) - 0.3 * t + _noise(rng, n, 0.02), val: noisy}, val)
    return _with_training(scene, "plateau", _spikes(rng, noisy), y + _noise(rng, n, size / 2))


_GANS = [
    ("g_loss", "d_loss"),
    ("gen_loss", "disc_loss"),
    ("loss_G", "loss_D"),
    ("generator_loss", "discriminator_loss"),
]


def _gan(
    rng: np.random.Generator, fault: str, score: np.ndarray, g: np.ndarray, d: np.ndarray, **more: np.ndarray
) -> Case:
    """The tuned metric is a distance of the samples to data (lower is better); the losses stand beside it in nats."""
    n = len(score)
    scene = _Scene(rng, n, high_is_good=False)
    names = _GANS[rng.integers(len(_GANS))]
    metric = str(rng.choice(["fid", "val_fid", "mmd", "kid"]))

    def raw(values: np.ndarray) -> Points:
        return list(zip(scene.steps.tolist(), values.tolist(), strict=True))

    curves = {names[0]: raw(g), names[1]: raw(d), metric: scene.points(score), **{k: raw(v) for k, v in more.items()}}
    return Case(fault, curves, metric, "minimize", scene.horizon)


def _healthy_gan(rng: np.random.Generator, settled: bool) -> Case:
    """Both losses hover about an equilibrium; the discriminator's is near 2 log 2 or half of it, by its definition."""
    n = _length(rng, 20)
    t = np.linspace(0, 1, n)
    score = _settled(rng, t) if settled else _falling(rng, t)
    d = rng.choice([0.69, 1.39]) * rng.uniform(0.6, 1) + _noise(rng, n, 0.08) + 0.3 * np.exp(-8 * t)
    g = rng.uniform(0.7, 2) + _noise(rng, n, 0.12) + rng.uniform(-0.3, 0.5) * t
    more = {}
    if rng.random() < 0.4:
        more[str(rng.choice(["diversity", "coverage", "recall"]))] = np.clip(
            rng.uniform(0.5, 0.9) - 0.3 * np.exp(-6 * t) + _noise(rng, n, 0.03), 0.0, 1.0
        )
    fault = "plateau" if settled else "still improving"
    return _gan(rng, fault, score + _noise(rng, n, 0.02), g, np.clip(d, 0.05, None), **more)


# ------------------------------------------------------------------------------------------------ faults


def _overfitting(rng: np.random.Generator) -> Case:
    n = _length(rng)
    scene, t = _Scene(rng, n), np.linspace(0, 1, n)
    turn = rng.uniform(0.2, 0.65)
    fall = np.exp(-rng.uniform(4, 8) * np.clip(t, 0, turn) / turn)
    rise = rng.uniform(0.15, 1.0) * (np.clip(t - turn, 0, None) / (1 - turn)) ** rng.uniform(0.8, 1.5)
    lost = float(rise[-1])
    held_out = fall + rise + _noise(rng, n, rng.uniform(0, 0.2) * lost)
    training = np.exp(-rng.uniform(3, 6) * t) - 0.1 * t + _noise(rng, n, 0.02)
    train, val = scene.pair()
    curves = {val: held_out} if rng.random() < 0.2 else {train: training, val: held_out}
    return scene.case("overfitting", curves, val)


def _oscillating(rng: np.random.Generator) -> Case:
    n = _length(rng, 14)
    scene, t = _Scene(rng, n), np.linspace(0, 1, n)
    trend = _falling(rng, t) if rng.random() < 0.5 else _settled(rng, t)
    period = math.exp(rng.uniform(math.log(2), math.log(max(2.01, min(40.0, n / 7)))))
    phase = np.cumsum(2 * math.pi / period * rng.uniform(0.8, 1.2, size=n)) + rng.uniform(0, 6)
    if period < 3:
        swing = np.where(np.arange(n) % 2, 1.0, -1.0) * rng.uniform(0.5, 1.0, size=n)
    else:
        swing = np.sin(phase) if rng.random() < 0.6 else np.sign(np.sin(phase)) * rng.uniform(0.6, 1.0, size=n)
    size = rng.uniform(0.2, 0.6)
    begins = rng.uniform(0, 0.4)
    grown = size * np.clip((t - begins) / 0.1, 0, 1)
    y = trend + grown * swing + _noise(rng, n, rng.uniform(0, 0.2) * size)
    return _with_training(scene, "oscillating", y, trend + 0.8 * grown * swing + _noise(rng, n, 0.02))


def _exploding(rng: np.random.Generator) -> Case:
    n = _length(rng, 10, 300)
    scene, t = _Scene(rng, n, high_is_good=False), np.linspace(0, 1, n)
    base = _falling(rng, t) if rng.random() < 0.7 else np.full(n, 1.0)
    growing = int(min(n - 1, rng.integers(6, max(8, n // 2))))
    factor = math.exp(math.log(rng.uniform(10, 1e5)) / growing)
    grown = 0.02 * factor ** np.arange(1, growing + 1) * 10
    y = base + _noise(rng, n, rng.uniform(0, 0.03))
    y[-growing:] += grown * np.exp(_noise(rng, growing, 0.15))
    return _with_training(scene, "exploding", y, y + _noise(rng, n, 0.01))


def _diverged(rng: np.random.Generator) -> Case:
    n = _length(rng, 10, 300)
    scene, t = _Scene(rng, n), np.linspace(0, 1, n)
    at = int(rng.integers(min(3, n - 2), max(4, int(0.8 * n))))
    y = _falling(rng, t) + _noise(rng, n, rng.uniform(0, 0.04))
    kind = rng.choice(["nan", "infinite", "thrown off", "back to chance"], p=[0.3, 0.15, 0.3, 0.25])
    if scene.maximize and kind == "thrown off":
        kind = "back to chance"
    if kind == "nan":
        y[at:] = math.nan
    elif kind == "infinite":
        y = y[: at + 1]
        y[at] = math.inf
    elif kind == "thrown off":
        y[at:] = rng.uniform(3, 1000) * (1 + _noise(rng, n - at, 0.1))
    else:
        y[at:] = 1.0 + abs(_noise(rng, n - at, 0.02)) + rng.uniform(0, 0.2)
        y[:at] = np.exp(-rng.uniform(2, 5) * np.linspace(0, 1, at)) * 0.9 + _noise(rng, at, 0.02)
    return _with_training(scene, "diverged", y, y)


def _mode_collapse(rng: np.random.Generator) -> Case:
    n = _length(rng, 24)
    t = np.linspace(0, 1, n)
    at = rng.uniform(0.25, 0.7)
    after = np.clip((t - at) / rng.uniform(0.03, 0.15), 0, 1)
    score = np.exp(-4 * np.clip(t, 0, at)) + rng.uniform(0.05, 0.8) * after + _noise(rng, n, 0.02)
    if rng.random() < 0.5:  # seen in the samples
        level = rng.uniform(0.4, 0.9)
        scale, name = [(1.0, "diversity"), (1.0, "coverage"), (10.0, "n_modes"), (1.0, "recall")][rng.integers(4)]
        left = rng.uniform(0.02, 0.3)
        diverse = scale * np.clip(level * (1 - (1 - left) * after) + _noise(rng, n, 0.03 * level), 0, None)
        g = rng.uniform(0.7, 1.5) - 0.3 * after + _noise(rng, n, 0.1)
        d = 0.69 + 0.2 * after * rng.uniform(-1, 1) + _noise(rng, n, 0.06)
        return _gan(rng, "mode collapse", score, g, np.clip(d, 0.02, None), **{name: diverse})
    # Seen in the losses: the generator hops from mode to mode, the discriminator follows each time.
    period = rng.uniform(4, max(5.0, min(40.0, n / 6)))
    phase = np.cumsum(2 * math.pi / period * rng.uniform(0.85, 1.15, size=n))
    size = rng.uniform(0.6, 2) * after
    g = rng.uniform(1.5, 3) + size * np.sin(phase) + _noise(rng, n, 0.1)
    d = (
        rng.uniform(0.5, 0.9)
        - 0.35 * np.minimum(size, 1.2) * np.sin(phase - rng.uniform(0, 0.8))
        + _noise(rng, n, 0.04)
    )
    return _gan(rng, "mode collapse", score, g, np.clip(d, 0.01, None))


def _unbalanced(rng: np.random.Generator) -> Case:
    n = _length(rng, 16)
    t = np.linspace(0, 1, n)
    at = rng.uniform(0.05, 0.5)
    after = np.clip((t - at) / (1 - at), 0, None)
    score = np.exp(-3 * np.clip(t, 0, at)) + 0.3 * after + _noise(rng, n, 0.03)
    loses = rng.uniform(0.7, 1.5) + rng.uniform(3, 15) * after ** rng.uniform(0.5, 1) + _noise(rng, n, 0.15)
    wins = 0.69 * np.exp(-rng.uniform(5, 12) * after) * np.exp(_noise(rng, n, 0.15))
    if rng.random() < 0.8:
        return _gan(rng, "unbalanced", score, loses, wins)
    return _gan(rng, "unbalanced", score, wins, loses)


_MAKERS: dict[str, Callable[[np.random.Generator], Case]] = {
    "too early": _too_early,
    "still improving": _still_improving,
    "plateau": _plateau,
    "overfitting": _overfitting,
    "oscillating": _oscillating,
    "exploding": _exploding,
    "diverged": _diverged,
    "mode collapse": _mode_collapse,
    "unbalanced": _unbalanced,
}
