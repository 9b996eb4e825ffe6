"""What people know beforehand, as soft beliefs about single parameters: they tilt the search and never forbid a value.

A prior lowers the logarithm of an acquisition where it expects nothing good, in proportion to its strength, and fades
with the trials that ended since it was told (Hvarfner et al., piBO: Augmenting Acquisition Functions with User Beliefs
for Bayesian Optimization, ICLR 2022: the acquisition times the prior to a power that falls with the trials). Beside
that every prior stands trial: where what it warns of does better than what it recommends, it loses its weight
(`Evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from tunewright.engines.history import standing
from tunewright.engines.parameters import Categorical, Parameter
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Objective, Observation

Belief: TypeAlias = Literal[
    "prefer_range", "avoid_above", "avoid_below", "prefer_values", "avoid_values", "rising", "falling"
]
Certainty: TypeAlias = Literal["weak", "medium", "strong"]

DEPTH: Mapping[Certainty, float] = {"weak": 1.0, "medium": 2.0, "strong": 4.0}
"""How far the log of the acquisition is lowered where a prior expects nothing good."""

SUPPORT: Mapping[Certainty, float] = {"weak": 2.0, "medium": 4.0, "strong": 8.0}
"""Comparisons won, beside one lost, that a prior counts with before there is any trial."""

FADES_FROM = 10
"""Trials since a prior was told to which it keeps its weight; after n of them it has FADES_FROM / n of it."""

NEGLIGIBLE = 0.05  # a weight below it is none
REJECTED, WHOLE = 0.35, 0.5  # acceptance at which a prior has lost all weight, and from which it keeps all
EDGE = 0.04  # of a parameter's scale: how soft the ends of a range are
NEAR = 0.05  # of a scale: what still counts as a value that was named
TRIES = 24


@dataclass(frozen=True, slots=True)
class Prior:
    """One belief. `low` and `high` are in the parameter's own units, None where open; `when` holds the value of
    another parameter under which alone it is meant; `words` are those of the person; `told_at` is the number of
    the first trial made after it was told."""

    parameter: str
    belief: Belief
    strength: Certainty
    words: str = ""
    low: float | None = None
    high: float | None = None
    values: tuple[Any, ...] = ()
    when: Mapping[str, Any] | None = None
    told_at: int = 0

    def fits(self, space: Space) -> bool:
        """Whether the space has what it speaks of. A space may have been edited since it was told."""
        named = space.parameters.get(self.parameter)
        if named is None or any(name not in space.parameters for name in self.when or {}):
            return False
        if any(space.parameters[name].problem(value) for name, value in (self.when or {}).items()):
            return False
        if isinstance(named, Categorical):
            return any(not named.problem(value) for value in self.values)
        return self.belief not in ("prefer_values", "avoid_values") or bool(self.values)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What trials say of a prior: `favoured` and `against` of them lie where it expects good and bad results; of all
    pairs of one of each the favoured trial won the share `won`, ties counting half. `acceptance` is the mean of a Beta
    that began with SUPPORT and counts as many comparisons as the smaller group has trials."""

    favoured: int
    against: int
    won: float | None
    acceptance: float

    @property
    def trust(self) -> float:
        """The part of its weight that the prior keeps, from 0 to 1."""
        return min(1.0, max(0.0, (self.acceptance - REJECTED) / (WHOLE - REJECTED)))

    @property
    def rejected(self) -> bool:
        return self.trust == 0.0


class _Term:
    """One prior over rows of a space: (m, d) unit positions, NaN where inactive, as `Space.encode` gives them."""

    def __init__(self, space: Space, prior: Prior):
        self._prior = prior
        self._parameter = space.parameters[prior.parameter]
        self.column = space.names.index(prior.parameter)
        self._when = [
            (space.names.index(name), _bin(space.parameters[name], v)) for name, v in (prior.when or {}).items()
        ]
        parameter = self._parameter
        # A discrete value is the middle of a bin: the end of a range is the end of that bin.
        half = 0.0 if math.isinf(parameter.count) else 0.5 / parameter.count
        self._low = None if prior.low is None else _unit(parameter, prior.low) - half
        self._high = None if prior.high is None else _unit(parameter, prior.high) + half
        self._named = [_unit(parameter, v) for v in prior.values if not parameter.problem(v)]
        self._near = NEAR if math.isinf(parameter.count) else 0.5 / parameter.count

    def says(self, rows: np.ndarray) -> np.ndarray:
        """(m,) whether the prior speaks of a row at all."""
        told = ~np.isnan(rows[:, self.column])
        for column, (low, high) in self._when:
            with np.errstate(invalid="ignore"):
                told &= (rows[:, column] >= low) & (rows[:, column] <= high)
        return told

    def shape(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m,) from -1 where it expects nothing good to 0, and its slope (m,) along the parameter; 0 where it is
        silent."""
        spoken = self.says(rows)
        value, slope = self._curve(np.where(spoken, rows[:, self.column], 0.5))
        return np.where(spoken, value, 0.0), np.where(spoken, slope, 0.0)

    def _curve(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        belief = self._prior.belief
        if belief == "rising":
            return u - 1.0, np.ones_like(u)
        if belief == "falling":
            return -u, -np.ones_like(u)
        if belief in ("prefer_values", "avoid_values"):
            gap = np.min([np.abs(u - at) for at in self._named], axis=0)
            near = gap <= self._near
            return np.where(near == (belief == "prefer_values"), 0.0, -1.0), np.zeros_like(u)
        low, high = self._low, self._high
        if belief == "avoid_above":
            low = None
        elif belief == "avoid_below":
            high = None
        inside, slope = np.ones_like(u), np.zeros_like(u)
        for end, sign in ((low, 1.0), (high, -1.0)):
            if end is None:
                continue
            # The middle of the soft edge lies half of it outside, so that the end itself counts as inside.
            step = 1.0 / (1.0 + np.exp(-np.clip(sign * (u - end) / EDGE * 4.0 + 2.0, -40.0, 40.0)))
            slope = slope * step + inside * sign * 4.0 / EDGE * step * (1.0 - step)
            inside = inside * step
        return inside - 1.0, slope


def _unit(parameter: Parameter, value: Any) -> float:
    """A value's position, at the nearer end of the range where it lies outside."""
    if isinstance(parameter, Categorical):
        return parameter.to_unit(value)
    return parameter.to_unit(min(max(value, parameter.low), parameter.high))


def _bin(parameter: Parameter, value: Any) -> tuple[float, float]:
    at = _unit(parameter, value)
    half = NEAR if math.isinf(parameter.count) else 0.5 / parameter.count
    return at - half, at + half


class Tilt:
    """What priors with their present weights (b,) add to the logarithm of an acquisition over rows."""

    def __init__(self, space: Space, weighted: Sequence[tuple[Prior, float]]):
        self._space = space
        self._terms = [(_Term(space, prior), weight * DEPTH[prior.strength]) for prior, weight in weighted]

    def log(self, rows: np.ndarray) -> np.ndarray:
        """(m,), at most 0."""
        return sum((depth * term.shape(rows)[0] for term, depth in self._terms), np.zeros(len(rows)))

    def points_to(self, rows: np.ndarray) -> np.ndarray:
        """(m,) whether a row lies where the priors together expect good results rather than bad ones."""
        return self.log(rows) > -0.5 * sum(depth for _, depth in self._terms)

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        """(m, d) of `log` in the unit positions."""
        out = np.zeros(rows.shape)
        for term, depth in self._terms:
            out[:, term.column] += depth * term.shape(rows)[1]
        return out

    def draw(self, rng: np.random.Generator) -> Params:
        """A uniform draw kept with the probability exp(log), else drawn again; the likeliest of TRIES."""
        drawn: list[Params] = self._space.sample(rng, TRIES)
        logs = self.log(self._space.encode(drawn))
        kept = np.flatnonzero(rng.random(TRIES) < np.exp(logs))
        return drawn[int(kept[0]) if len(kept) else int(logs.argmax())]


class Knowledge:
    """The priors of an engine beside what it was told. Without any it costs nothing and changes nothing."""

    def __init__(self, space: Space, objective: Objective):
        self._space, self._objective = space, objective
        self._priors: tuple[Prior, ...] = ()
        self._built: tuple[int, Tilt | None] = (-1, None)

    def believe(self, priors: Sequence[Prior]) -> None:
        """In place of what was believed before."""
        self._priors = tuple(prior for prior in priors if prior.fits(self._space))
        self._built = (-1, None)

    def tilt(self, observations: Sequence[Observation]) -> Tilt | None:
        """After these observations, None where no prior has any weight."""
        if not self._priors:
            return None
        if self._built[0] != len(observations):
            weighted = [(p, self._weight(p, observations)) for p in self._priors]
            heavy = [(p, w) for p, w in weighted if w >= NEGLIGIBLE]
            self._built = len(observations), Tilt(self._space, heavy) if heavy else None
        return self._built[1]

    def sample(self, rng: np.random.Generator, observations: Sequence[Observation]) -> Params:
        """A draw without a model, tilted as well."""
        tilt = self.tilt(observations)
        config: Params = self._space.sample(rng) if tilt is None else tilt.draw(rng)
        return config

    def samples(self, rng: np.random.Generator, observations: Sequence[Observation], n: int) -> list[Params]:
        tilt = self.tilt(observations)
        drawn: list[Params] = self._space.sample(rng, n) if tilt is None else [tilt.draw(rng) for _ in range(n)]
        return drawn

    def _weight(self, prior: Prior, observations: Sequence[Observation]) -> float:
        faded = fading(since(prior, observations))
        # To judge it takes time, which a prior without weight is not worth.
        return faded and faded * evidence(prior, self._space, observations, self._objective).trust


def since(prior: Prior, observations: Sequence[Observation]) -> int:
    """Of how many trials made after it was told there is an observation."""
    return len({o.number for o in observations if o.number >= prior.told_at})


def fading(trials: int) -> float:
    """The part of its weight that a prior has left after so many trials since it was told, 0 where negligible."""
    left = min(1.0, FADES_FROM / max(1, trials))
    return left if left >= NEGLIGIBLE else 0.0


def evidence(prior: Prior, space: Space, observations: Sequence[Observation], objective: Objective) -> Evidence:
    """What all trials so far, those before it was told included, say of a prior that fits the space.

    Trials of different fidelity are not compared, and a failure loses against everything but another failure.
    """
    a, b = SUPPORT[prior.strength], 1.0
    rows = space.encode([o.params for o in observations])
    term = _Term(space, prior)
    spoken = term.says(rows) if len(rows) else np.zeros(0, dtype=bool)
    if not spoken.any():
        return Evidence(0, 0, None, a / (a + b))
    value, _ = term.shape(rows[spoken])
    kept = [o for o, said in zip(observations, spoken, strict=True) if said]
    middle = float(np.median(value)) if prior.belief in ("rising", "falling") else -0.5
    good = value > middle
    won = pairs = 0.0
    groups: dict[int | None, list[int]] = {}
    for k, seen in enumerate(kept):
        groups.setdefault(seen.fidelity, []).append(k)
    ranks = [standing(seen, (objective,)) for seen in kept]
    for members in groups.values():
        place = {rank: i for i, rank in enumerate(sorted({_alike(ranks[k]) for k in members}))}
        at = np.array([place[_alike(ranks[k])] for k in members])
        inside = good[members]
        gaps = at[~inside][None, :] - at[inside][:, None]
        won += float((gaps > 0).sum() + 0.5 * (gaps == 0).sum())
        pairs += gaps.size
    favoured, against = int(good.sum()), int((~good).sum())
    if not pairs:
        return Evidence(favoured, against, None, a / (a + b))
    n, share = min(favoured, against), won / pairs
    return Evidence(favoured, against, share, (a + share * n) / (a + b + n))


def _alike(rank: tuple[tuple[float, float], tuple[float, ...]]) -> tuple[float, tuple[float, ...]]:
    """A standing without the fidelity, within trials of one."""
    (broken, _), losses = rank
    return broken, losses
