"""Two networks that train against each other: who wins, and whether the generator still makes everything."""

from __future__ import annotations

import re

import numpy as np

from tunewright.engines.curves.shapes import Shape
from tunewright.engines.curves.signal import Signal, noise, smooth, swing
from tunewright.engines.curves.single import Finding

_GENERATOR = re.compile(r"^((g|gen|generator|netg)_(loss|err\w*)|(loss|err\w*)_(g|gen|generator|netg))$")
_OPPONENT = re.compile(
    r"^((d|dis|disc|discriminator|netd|critic)_(loss|err\w*)|(loss|err\w*)_(d|dis|disc|discriminator|netd|critic))$"
)
_DIVERSITY = re.compile(r"diversity|coverage|recall|(^|_)n?_?modes|unique|vendi")
FEWEST = 12
LOST = 0.5  # of its diversity
WON, BEATEN = 0.25, 2.0  # times the loss at the balance
REGULAR = 0.4
CHASE = 0.15  # of the generator's loss that its swings take


def roles(names: list[str]) -> tuple[str, str] | None:
    """(generator's loss, opponent's loss) by name, None where the two are not there."""
    plain = {re.sub(r"[^a-z0-9]+", "_", name.lower()): name for name in names}
    found = [next((plain[p] for p in plain if pattern.match(p)), None) for pattern in (_GENERATOR, _OPPONENT)]
    return (found[0], found[1]) if found[0] and found[1] else None


def unbalanced(one: Signal, other: Signal) -> Finding | None:
    """One loss has gone to a small part of what it was at the balance, the other to a multiple."""
    for winner, loser in ((other, one), (one, other)):
        if min(len(winner), len(loser)) < FEWEST or min(winner.losses.min(), loser.losses.min()) < 0:
            continue
        won, lost = _level(winner), _level(loser)
        if won[1] < WON * won[0] and lost[1] > BEATEN * lost[0] and lost[1] - lost[0] > 4 * noise(loser.losses):
            small = smooth(winner.losses, 3) < (won[0] + won[1]) / 2
            since = float(winner.steps[int(np.argmax(small))])
            words = f"{winner.name} fell from {won[0]:.3g} to {won[1]:.2g} while {loser.name} rose from {lost[0]:.3g} "
            return Shape.UNBALANCED, f"{words}to {lost[1]:.3g}: the one network gives the other nothing to learn", since
    return None


def _level(signal: Signal) -> tuple[float, float]:
    """(at the balance, now): the medians of the first and the last tenth, at least three reports each."""
    k = max(3, len(signal) // 10)
    return float(np.median(signal.losses[:k])), float(np.median(signal.losses[-k:]))


def collapsed(generator: Signal, opponent: Signal, others: list[Signal]) -> Finding | None:
    """Diversity lost where it is reported; else both losses in large, regular swings: the generator moves from mode to
    mode and its opponent follows (Metz et al. 2017)."""
    for signal in others:
        if not _DIVERSITY.search(signal.name.lower()) or len(signal) < FEWEST:
            continue
        diverse = signal.losses * signal.sign
        flat = smooth(diverse, max(3, len(signal) // 20))
        peak, now = float(flat.max()), float(np.median(diverse[-max(3, len(signal) // 10) :]))
        if now < LOST * peak and peak - now > 5 * noise(diverse):
            fell = np.arange(len(flat)) > int(np.argmax(flat))
            since = float(signal.steps[int(np.argmax(fell & (flat < (peak + now) / 2)))])
            words = f"{signal.name} fell from {peak:.3g} to {now:.2g} by step {since:g}"
            return Shape.COLLAPSE, f"{words}: the samples repeat each other", since
    waves = []
    for signal in (generator, opponent):
        if len(signal) < 2 * FEWEST:
            return None
        y = signal.losses[len(signal) // 2 :]
        waves.append((*swing(y - y.mean()), float(np.std(y)), float(np.median(np.abs(y)))))
    (period, g_regular, g_size, g_level), (_, d_regular, _, _) = waves
    if min(g_regular, d_regular) > REGULAR and g_size > CHASE * g_level:
        words = f"{generator.name} swings by ±{g_size:.2g} about every {period:.0f} reports and {opponent.name} with it"
        return Shape.COLLAPSE, f"{words}: the generator moves from mode to mode", None
    return None
