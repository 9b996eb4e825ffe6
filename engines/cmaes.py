"""CMA-ES: a normal distribution over the numbers and one over the choices of each category, moved to the better half.

Equation numbers are those of Hansen, "The CMA Evolution Strategy: A Tutorial", 2016 (arXiv:1604.00772). Beside it:

- discrete numbers keep a margin of probability outside their present value (CMA-ES with Margin, Hamano et al., GECCO
  2022, arXiv:2205.13482), so that they do not freeze while the reals still move;
- categories follow the natural gradient of their probabilities, with a margin (CatCMA, Hamano et al. 2024,
  arXiv:2405.09962);
- whoever proposed an observation, it takes part, with a step of bounded length (Hansen 2011, arXiv:1110.4181);
- a run that is stuck is restarted elsewhere with twice the population (IPOP, Auger & Hansen, CEC 2005).

Only configurations are told, not the points of the normal distribution that led to them. What a configuration leaves
open (where in its bin a discrete value lay, how far beyond a border, what an inactive parameter would have been) is
drawn from the distribution given the rest (data augmentation, Tanner & Wong 1987): such a coordinate then neither
narrows nor moves the distribution by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunewright.engines.errors import FixArgument
from tunewright.engines.history import TRIES, History, check_count, check_options, standing
from tunewright.engines.parzen import Axes
from tunewright.engines.space import Params, Space
from tunewright.engines.types import Capabilities, Fidelity, Objective, Observation, Proposal, stream
from tunewright.engines.types import Params as Config

SWEEPS = 2  # of Gibbs sampling for what a configuration leaves open
WIDENING = 1.2  # of the distribution, for each draw past FAMILIAR that was not new
FAMILIAR = 10
NARROWEST = 1e-9  # a run whose reals all have a smaller deviation draws what counts as equal (`Space.key`)
CONDITION = 1e14  # of the covariance, past which it is numerically singular (appendix B.3)
AT_BORDER = 1e-9
RATE = 0.3  # of the categories' probabilities; between .15 and 1 the results do not differ by more than their noise
UPDATE_SALT, RESTART_SALT = 1, 2


@dataclass(frozen=True, slots=True)
class Rates:
    """Weights and learning rates for `n` dimensions and `size` points a generation: table 1."""

    weights: np.ndarray  # (size,) descending, the positive ones sum to 1
    mueff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float

    @classmethod
    def of(cls, n: int, size: int) -> Rates:
        raw = math.log((size + 1) / 2) - np.log(np.arange(1, size + 1))  # (49)
        good, bad = raw[raw > 0], raw[raw <= 0]
        mueff = good.sum() ** 2 / np.square(good).sum()
        mueff_bad = bad.sum() ** 2 / max(np.square(bad).sum(), 1e-300)
        c_sigma = (mueff + 2) / (n + mueff + 5)  # (55)
        d_sigma = 1 + 2 * max(0.0, math.sqrt((mueff - 1) / (n + 1)) - 1) + c_sigma  # (55)
        c_c = (4 + mueff / n) / (n + 4 + 2 * mueff / n)  # (56)
        c_1 = 2 / ((n + 1.3) ** 2 + mueff)  # (57)
        c_mu = min(1 - c_1, 2 * (0.25 + mueff + 1 / mueff - 2) / ((n + 2) ** 2 + mueff))  # (58)
        least = min(1 + c_1 / c_mu, 1 + 2 * mueff_bad / (mueff + 2), (1 - c_1 - c_mu) / (n * c_mu))  # (50)-(52)
        negative = least / max(-bad.sum(), 1e-300)
        return cls(np.where(raw > 0, raw / good.sum(), raw * negative), mueff, c_sigma, d_sigma, c_c, c_1, c_mu)  # (53)


class Numbers:
    """N(m, sigma^2 A C A) over the columns of the unit encoding that hold numbers: coordinates x = m + sigma A y.

    A, a diagonal, is what the margin has widened. What lies outside [0, 1] is tried at the border, and what was told
    at the border may have been drawn anywhere beyond it: the optimum of a hyperparameter is often there, and a border
    that can be hit does not hold the others back.
    """

    def __init__(self, axes: Axes, columns: np.ndarray, mean: np.ndarray, sigma: float, size: int):
        n = len(columns)
        self.axes, self.columns, self.n, self.size = axes, columns, n, size
        self.discrete = np.isfinite(axes.counts[columns])
        self.rates = Rates.of(n, size)
        self.mean, self.sigma, self.widened = mean[columns].copy(), sigma, np.ones(n)
        self.p_sigma, self.p_c, self.generation = np.zeros(n), np.zeros(n), 0
        self.chi = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))  # E||N(0, I)||
        self._set(np.eye(n))

    def _set(self, covariance: np.ndarray) -> None:
        self.covariance = (covariance + covariance.T) / 2
        values, self._axes = np.linalg.eigh(self.covariance)
        self._lengths = np.sqrt(np.maximum(values, 1e-20))
        self._whiten = (self._axes / self._lengths) @ self._axes.T  # C^(-1/2)

    @property
    def deviations(self) -> np.ndarray:
        """(n,) standard deviations of the coordinates."""
        return self.sigma * self.widened * np.sqrt(np.diag(self.covariance))

    def draw(self, rng: np.random.Generator, wider: float = 1.0) -> np.ndarray:
        """(n,) units in [0, 1]."""
        y = self._axes @ (self._lengths * rng.standard_normal(self.n))  # (38), (39)
        x = self.mean + wider * self.sigma * self.widened * y  # (40)
        return np.clip(x, 0.0, 1.0)

    # ---------------------------------------------------------------- learning

    def update(self, units: np.ndarray, good: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> None:
        """One generation: (size, n) units, NaN where inactive, (size,) weights for the mean and for the covariance."""
        r, n = self.rates, self.n
        self.generation += 1
        y = self._open(units, rng)
        length = np.linalg.norm(y @ self._whiten, axis=1)
        # Hansen 2011, equation 3 and section 3.1: longer steps than the distribution would make are cut.
        y *= np.minimum(1, (math.sqrt(n) + 2 * n / (n + 2)) / np.maximum(length, 1e-300))[:, None]
        length = np.linalg.norm(y @ self._whiten, axis=1)
        scale = self.sigma * self.widened
        mean = np.clip(self.mean + scale * (good @ y), 0, 1)  # (41), (42), kept inside
        step = (mean - self.mean) / scale  # what a border took from it must not lengthen the paths
        self.mean = mean
        self.p_sigma = (1 - r.c_sigma) * self.p_sigma + math.sqrt(r.c_sigma * (2 - r.c_sigma) * r.mueff) * (
            self._whiten @ step
        )  # (43)
        path = float(np.linalg.norm(self.p_sigma))
        slow = path / math.sqrt(1 - (1 - r.c_sigma) ** (2 * self.generation)) < (1.4 + 2 / (n + 1)) * self.chi
        # (44); the change is bounded as Hansen 2011, section 3.1, asks with injected points
        self.sigma *= math.exp(min(1.0, r.c_sigma / r.d_sigma * (path / self.chi - 1)))
        self.sigma /= max(1.0, float(self.deviations.max()))  # all of the range is wide enough
        self.p_c = (1 - r.c_c) * self.p_c + slow * math.sqrt(r.c_c * (2 - r.c_c) * r.mueff) * step  # (45)
        scaled = np.where(weights >= 0, weights, weights * n / np.maximum(np.square(length), 1e-300))  # (46)
        lost = (1 - slow) * r.c_c * (2 - r.c_c)
        self._set(
            (1 + r.c_1 * lost - r.c_1 - r.c_mu * weights.sum()) * self.covariance
            + r.c_1 * np.outer(self.p_c, self.p_c)
            + r.c_mu * (y.T * scaled) @ y
        )  # (47)
        self._keep_margin()

    def _open(self, units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(size, n) y = (x - m) / (sigma A) of what was told; what that leaves open is drawn given the rest."""
        from scipy.special import ndtr, ndtri

        low, high = units.copy(), units.copy()
        for j in np.flatnonzero(self.discrete):
            low[:, j], high[:, j] = self.axes.edges(int(self.columns[j]), units[:, j])
        low[np.isnan(units) | (low < AT_BORDER)] = -np.inf
        high[np.isnan(units) | (high > 1 - AT_BORDER)] = np.inf
        low, high = ((edge - self.mean) / (self.sigma * self.widened) for edge in (low, high))
        y = np.clip(0.0, low, high)
        precision = self._whiten @ self._whiten
        open_columns = np.flatnonzero((low < high).any(axis=0))
        for j in np.tile(open_columns, SWEEPS if len(open_columns) > 1 else 1):
            rows = np.flatnonzero(low[:, j] < high[:, j])
            spread = 1 / math.sqrt(precision[j, j])
            center = y[rows, j] - y[rows] @ precision[:, j] / precision[j, j]
            a, b = (low[rows, j] - center) / spread, (high[rows, j] - center) / spread
            side = np.where(a > 0, -1.0, 1.0)  # where the normal distribution function is exact far out
            a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)
            from_, to = ndtr(a), ndtr(b)
            drawn = np.clip(ndtri(from_ + rng.random(len(rows)) * (to - from_)), a, b)
            y[rows, j] = center + spread * side * np.where(np.isfinite(drawn), drawn, np.clip(0.0, a, b))
        return y

    def _keep_margin(self) -> None:
        """At least a share of about alpha of the draws of a discrete number differs from its present value."""
        from scipy.special import ndtr, ndtri

        alpha = 1 / (self.n * self.size)  # Hamano et al., section 4.3
        for j in np.flatnonzero(self.discrete):
            column = int(self.columns[j])
            parameter = self.axes.parameters[column]
            unit = np.array([parameter.to_unit(parameter.from_unit(self.mean[j]))])  # type: ignore[arg-type]
            below, above = (float(edge[0]) for edge in self.axes.edges(column, unit))
            deviation = self.deviations[j]
            first, last = below < AT_BORDER, above > 1 - AT_BORDER
            if first or last:
                # At an end of the range (their equation 8): the mean stays near enough to the only threshold.
                reach = -ndtri(alpha) * deviation
                self.mean[j] = max(self.mean[j], above - reach) if first else min(self.mean[j], below + reach)
                continue
            p_low, p_up = ndtr((below - self.mean[j]) / deviation), ndtr((self.mean[j] - above) / deviation)
            if min(p_low, p_up) >= alpha / 2:
                continue
            middle = 1 - p_low - p_up
            q_low, q_up = max(p_low, alpha / 2), max(p_up, alpha / 2)
            # The middle pays for what was added (their equations 14 and 15); then m and A are solved for (18).
            excess = (1 - q_low - q_up - middle) / (q_low + q_up + middle - 3 * alpha / 2)
            z_low = -ndtri(q_low + excess * (q_low - alpha / 2))
            z_up = -ndtri(q_up + excess * (q_up - alpha / 2))
            new = (above - below) / (z_low + z_up)
            self.mean[j] = below + z_low * new
            self.widened[j] *= new / deviation

    # ---------------------------------------------------------------- reading

    def log_density(self, units: np.ndarray) -> float:
        """Of one (n,) point, NaN where inactive, relative to the uniform density over what is active."""
        active = ~np.isnan(units)
        if not active.any():
            return 0.0
        scale = (self.sigma * self.widened)[active]
        y = (units[active] - self.mean[active]) / scale
        within = self.covariance[np.ix_(active, active)]
        log_volume = np.linalg.slogdet(2 * math.pi * within)[1] / 2 + np.log(scale).sum()
        return float(-0.5 * y @ np.linalg.solve(within, y) - log_volume)

    @property
    def stuck(self) -> bool:
        reals = self.deviations[~self.discrete]
        condition = (self._lengths.max() / self._lengths.min()) ** 2
        return bool(condition > CONDITION or (reals.size and reals.max() < NARROWEST))


class Choices:
    """Independent probabilities of the choices of each categorical column, none of which falls below a margin."""

    def __init__(self, axes: Axes, columns: np.ndarray, rate: float):
        self.columns, self.rate = columns, rate
        self.shares = [np.full(int(k), 1 / k) for k in axes.counts[columns]]

    def draw(self, rng: np.random.Generator, wider: float = 1.0) -> np.ndarray:
        """(columns,) units; `wider` draws are more even."""
        out = np.empty(len(self.shares))
        for i, share in enumerate(self.shares):
            even = share ** (1 / wider)
            out[i] = (rng.choice(len(share), p=even / even.sum()) + 0.5) / len(share)
        return out

    def update(self, units: np.ndarray, weights: np.ndarray) -> None:
        """(size, columns) units, NaN where inactive: those say nothing; (size,) weights from zero."""
        for i, share in enumerate(self.shares):
            rows = np.flatnonzero(~np.isnan(units[:, i]))
            chosen = np.eye(len(share))[(units[rows, i] * len(share)).astype(int)]
            share += self.rate * weights[rows] @ (chosen - share)  # the natural gradient (CatCMA, equation 14)
            least = (1 - 0.73 ** (1 / len(self.shares))) / (len(share) - 1)  # the margin (CatCMA, section 4.2)
            share[:] = np.maximum(share, least)
            share += (1 - share.sum()) / (share - least).sum() * (share - least)

    def log_density(self, units: np.ndarray) -> float:
        active = np.flatnonzero(~np.isnan(units))
        shares = [(self.shares[i], int(units[i] * len(self.shares[i]))) for i in active]
        return sum(math.log(share[k] * len(share)) for share, k in shares)


class CMAES:
    """Generations are consecutive blocks of the told history, whoever proposed them. Only ranks within one count:
    failures last, then broken constraints, then lower fidelities; equal ones share their weights."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        *,
        fidelity: Fidelity | None = None,
        sigma: float = 0.25,
        population: int | None = None,
        **options: Any,
    ):
        check_options("cmaes", options)
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 < sigma <= 1:
            raise FixArgument("must lie in (0, 1], a share of the range", field="sigma", value=sigma, fix="sigma=0.25")
        self.space, self.seed, self._objectives, self._sigma = space, seed, objectives[:1], float(sigma)
        self._history = History(space)
        self._axes = Axes(space)
        movable = self._axes.counts > 1
        self._numeric = np.flatnonzero(movable & ~self._axes.categorical)
        self._categorical = np.flatnonzero(movable & self._axes.categorical)
        size = 4 + int(3 * math.log(max(int(movable.sum()), 1)))  # (48)
        if population is not None:
            check_count("population", population, least=4)
            size = population
        self._runs = self._generations = 0
        defaults = {n: p.default for n, p in space.parameters.items() if p.default is not None}
        middle = space.encode([defaults])[0]
        self._start(size, np.where(np.isnan(middle), 0.5, middle))

    def _start(self, size: int, mean: np.ndarray) -> None:
        self._size, self._block = size, list[Observation]()
        self._numbers = Numbers(self._axes, self._numeric, mean, self._sigma, size) if self._numeric.size else None
        self._choices = Choices(self._axes, self._categorical, RATE)
        self._best: Any = None  # standing of the run's best, and how many generations ago it was new
        self._since = 0

    def tell(self, observations: Sequence[Observation]) -> None:
        self._history.tell(observations)
        for observation in observations:
            self._block.append(observation)
            if len(self._block) == self._size:
                self._learn(self._block)

    def _learn(self, block: Sequence[Observation]) -> None:
        rng = stream(self.seed, self._generations, UPDATE_SALT)
        self._generations += 1
        ranks = [standing(o, self._objectives) for o in block]
        weights = Rates.of(max(len(self._numeric), 1), self._size).weights
        good, all_ = _shared(ranks, np.maximum(weights, 0)), _shared(ranks, weights)
        units = self.space.encode([o.params for o in block])
        if self._numbers is not None:
            self._numbers.update(units[:, self._numeric], good, all_, rng)
        self._choices.update(units[:, self._categorical], good)
        self._block = []
        self._since += 1
        if self._best is None or min(ranks) < self._best:
            self._best, self._since = min(ranks), 0
        dimensions = len(self._numeric) + len(self._categorical)
        # As long as the tutorial waits for a change (appendix B.3, TolFun), in ranks.
        patience = 10 + math.ceil(30 * dimensions / self._size)
        if self._since > patience or (self._numbers is not None and self._numbers.stuck):
            self._runs += 1
            self._start(2 * self._size, stream(self.seed, self._runs, RESTART_SALT).random(len(self.space.names)))

    # ---------------------------------------------------------------- proposals

    def ask(
        self, n: int = 1, pending: Sequence[Proposal] = (), *, index: int, fidelity: int | None = None
    ) -> list[Proposal]:
        taken, out = self._history.pending_keys(pending), []
        for k in range(index, index + n):
            rng = stream(self.seed, k)
            tried = itertools.count(1 - FAMILIAR)

            def draw(rng: np.random.Generator = rng, tried: Iterator[int] = tried) -> Params:
                return self._draw(rng, WIDENING ** max(0, next(tried)))

            opening = None if k else self._history.opening(taken)
            config = opening or self._history.fresh(draw, rng, taken)
            taken.add(self.space.key(config))
            out.append(Proposal(config, fidelity, tags={"phase": "model" if self._generations else "startup"}))
        return out

    def _draw(self, rng: np.random.Generator, wider: float = 1.0) -> Params:
        for _ in range(TRIES):
            units = np.full((1, len(self.space.names)), 0.5)
            if self._numbers is not None:
                units[0, self._numeric] = self._numbers.draw(rng, wider)
            units[0, self._categorical] = self._choices.draw(rng, wider)
            config = self.space.decode(units)[0]
            if self.space.feasible(config):
                return config
        return self.space.sample(rng)

    def score(self, configs: Sequence[Config], fidelity: int | None = None) -> np.ndarray:
        """(n,) log densities relative to the uniform one; zeros before the first generation."""
        if not self._generations:
            return np.zeros(len(configs))
        units = self.space.encode(configs)
        numbers = self._numbers
        return np.array(
            [
                (0.0 if numbers is None else numbers.log_density(row[self._numeric]))
                + self._choices.log_density(row[self._categorical])
                for row in units
            ]
        )

    def candidates(self, n: int, *, index: int) -> list[Params]:
        """n draws of the distribution that `ask(index=index)` draws from."""
        rng = stream(self.seed, index)
        return [self._draw(rng) for _ in range(n)]


def _shared(ranks: Sequence[Any], weights: np.ndarray) -> np.ndarray:
    """(size,) weights in the order of `ranks`; equal ranks get the mean of theirs."""
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    out = np.empty(len(ranks))
    for rank in set(ranks):
        places = [place for place, i in enumerate(order) if ranks[i] == rank]
        out[[order[place] for place in places]] = weights[places].mean()
    return out
