"""A study's finished trials in numbers: which of them an advisor is shown, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tunewright.agent import digest_stats
from tunewright.agent.records import TrialRecord
from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space
from tunewright.engines.types import Objective, Params, State
from tunewright.prompts.text import plain

BEST, RECENT, SINCE, OWN, DIVERSE, FAILED = 10, 4, 8, 6, 6, 4
CELLS = 2_000  # parameter values turned into numbers for one purpose: the time limit of a long study
MIN_SAMPLE, MAX_COMMON = 80, 20
LEADERS = 5  # the best trials, of which is said what they have in common, where none stand apart
ANSWERS = 3  # of the latest trials since the last question that come before other good ones
SAME = 0.03  # of each parameter's scale: configurations no further apart nearly repeat each other
NEAR = 8  # trials in the better half, at least, before it is looked at by itself
MAX_ERROR = 160
_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))


class Finished:
    """Everything by index into `measured` (finite values) or `finished`."""

    def __init__(self, space: Space, objectives: Sequence[Objective], finished: Sequence[TrialRecord]):
        self.space, self.objectives, self.finished = space, objectives, finished
        self.quantities = digest_stats.quantities(space.names)
        failed, wide = State.FAILED, len(objectives)
        valued = [i for i, t in enumerate(finished) if t.values is not None and t.state is not failed]
        table = np.array([v for i in valued for v in finished[i].values or ()], dtype=float).reshape(-1, wide)
        finite = np.isfinite(table).all(axis=1)
        self._at = np.array(valued, dtype=int)[finite]  # measured -> finished
        self._place = np.full(len(finished), -1)  # finished -> measured, -1 for a failure
        self._place[self._at] = np.arange(len(self._at))
        self.measured = [finished[i] for i in self._at.tolist()]
        self._advised = [i for i, t in enumerate(finished) if t.source == "advisor"]
        self.failed = [finished[i] for i in np.flatnonzero(self._place < 0).tolist()]
        self.losses = table[finite] * [1.0 if o.direction == "minimize" else -1.0 for o in objectives]
        many = wide > 1 and len(self.losses) > 0
        # Several objectives: a trial's mean rank orders them for a reader; it is no scalarisation to optimise.
        self.loss = (
            np.mean([digest_stats.ranks(column) for column in self.losses.T], axis=0) if many else self.losses[:, 0]
        )
        self.levels = np.array([math.inf if t.fidelity is None else t.fidelity for t in self.measured], dtype=float)
        complete = State.COMPLETE
        whole = np.array([t.state is complete for t in self.measured], dtype=bool)
        top = self.levels[whole].max(initial=0.0)
        # A value after less training does not compare; the best of the fully trained comes first.
        self.partial = ~whole | (self.levels < top)
        self.order = np.lexsort((self.loss, self.partial))
        self._size = max(MIN_SAMPLE, CELLS // len(space.names))
        self.sample = digest_stats.spread(len(finished), self._size)
        self.units = self._encode([finished[i] for i in self.sample])

    def _encode(self, records: Sequence[TrialRecord]) -> np.ndarray:
        try:
            return self.space.encode([t.params for t in records])
        except (ValueError, TypeError, ArithmeticError):
            # Trials from before an edit of the space have values that it no longer knows.
            units = np.full((len(records), len(self.space.names)), np.nan)
            for row, t in zip(units, records, strict=True):
                if not self.space.problems(free := self.space.free(t.params)):
                    row[:] = self.space.encode([free])[0]
            return units

    # ---------------------------------------------------------------- selection

    def rows(self, since: int | None) -> list[dict[str, Any]]:
        """The best, those that came after trial `since` and the most recent, the latest advised, the most different,
        then one failure per reason."""
        shown = {int(i): "best" for i in self.order[:BEST]}
        if len(self.objectives) > 1:
            shown |= {int(np.argmin(column)): "best" for column in self.losses.T if len(column)}
        latest = list(range(len(self.measured) - 1, max(-1, len(self.measured) - 1 - SINCE), -1))
        fresh = [i for i in latest if since is not None and self.measured[i].number >= since]
        answers = [i for i in fresh if self.measured[i].source == "advisor" or i in latest[:ANSWERS]]
        for i in fresh or latest[:RECENT]:
            shown.setdefault(i, "recent")
        for i in self._place[self._advised[-OWN:]].tolist():
            if i >= 0:
                shown.setdefault(i, "advised")
        for i in self._diverse(list(shown)):
            shown[i] = "diverse"
        out = [
            self._row(self.measured[i], shown[i], i) | {"answers": i in answers}
            for i in self.order[np.isin(self.order, list(shown))].tolist()
        ]
        for group in self._reasons():
            out.append(self._row(group[-1], "failed") | {"same_reason": len(group), "common": self._common(group)})
        return out

    def _diverse(self, chosen: Sequence[int]) -> list[int]:
        """Farthest-first: each next trial is the one whose nearest shown trial is farthest (Gonzalez 1985)."""
        pool = digest_stats.spread(len(self.measured), self._size // 4)
        if not len(pool):
            return []
        units = np.nan_to_num(self._encode([self.measured[i] for i in pool]), nan=-0.5)
        nearest = np.full(len(pool), np.inf)

        def seen(point: np.ndarray) -> None:
            np.minimum(nearest, self._gaps(units, point).sum(axis=1), out=nearest)

        for point in np.nan_to_num(self._encode([self.measured[i] for i in chosen]), nan=-0.5):
            seen(point)
        out: list[int] = []
        for _ in range(min(DIVERSE, len(pool))):
            far = int(np.argmax(nearest))
            if nearest[far] <= 0:
                break
            out.append(int(pool[far]))
            seen(units[far])
        return out

    def _gaps(self, units: np.ndarray, point: np.ndarray) -> np.ndarray:
        """How far positions lie from a point in each parameter; two categories a whole range apart."""
        category = [isinstance(p, Categorical) for p in self.space.parameters.values()]
        gap = np.abs(units - point)
        return np.where(category, gap > 0, gap)

    def _reasons(self) -> list[list[TrialRecord]]:
        """The failures of each of the commonest reasons, oldest first. Numbers in a reason do not tell it apart."""
        groups: dict[str, list[TrialRecord]] = {}
        reasons: dict[Any, str] = {}
        for t in self.failed:
            told: Any = t.state if t.error is None else _ends(t.error).translate(_NO_DIGITS)
            if told not in reasons:
                reasons[told] = _reason(t).translate(_NO_DIGITS)
            groups.setdefault(reasons[told], []).append(t)
        return sorted(groups.values(), key=lambda g: (-len(g), -g[-1].number))[:FAILED]

    def _common(self, group: Sequence[TrialRecord]) -> list[dict[str, Any]]:
        """Where failures of one reason lie together and good trials do not."""
        good = self._place[self.sample] >= 0
        units = self._encode([group[i] for i in digest_stats.spread(len(group), MAX_COMMON)])
        return digest_stats.common(self.space, units, self.units[good])

    def _row(self, t: TrialRecord, shown_as: str, index: int | None = None) -> dict[str, Any]:
        free = self.space.free(t.params)
        row = {
            "number": t.number,
            "value": None if index is None or t.values is None else t.values[0],
            "values": None if index is None or t.values is None else list(t.values),
            "state": State.FAILED.value if index is None else t.state.value,
            "error": _reason(t) if index is None else None,
            "source": t.source,
            "fidelity": t.fidelity,
            "partial": index is not None and bool(self.partial[index]),
            "shown_as": shown_as,
        }
        if index is not None and len(self.objectives) > 1:
            worse = np.any(self.losses < self.losses[index], axis=1) & np.all(self.losses <= self.losses[index], axis=1)
            row["pareto"] = not bool(worse.any())
        return row | place(self.space, free) | {"products": self.products(free)}

    def products(self, params: Params | None) -> dict[str, float]:
        """What several parameters make up together, as far as they are there."""
        made = {q.name: q.compute(params or {}) for q in self.quantities}
        return {name: value for name, value in made.items() if value is not None}

    # ---------------------------------------------------------------- statistics

    def since_best(self) -> int | None:
        """How many trials have finished since the best one."""
        return len(self.finished) - 1 - int(self._at[self.order[0]]) if len(self.order) else None

    def advised(self) -> dict[str, Any] | None:
        """How many trials were advised, and of the latest OWN their values (None: failed) and whether each was the best
        so far when it ended, where there was one to beat."""
        tried = self._advised
        if not tried:
            return None
        comparable = np.where(self.partial, np.inf, self.loss)
        before = np.minimum.accumulate(np.concatenate(([np.inf], comparable)))[:-1]
        better = (comparable < before) & np.isfinite(before)
        latest = []
        for i in tried[-OWN:]:
            t, at = self.finished[i], self._place[i]
            values, partial = (None, False) if at < 0 else (list(t.values or ()), bool(self.partial[at]))
            improved = bool(at >= 0 and better[at]) and len(self.objectives) == 1
            latest.append({"number": t.number, "values": values, "partial": partial, "improved": improved})
        return {"tried": len(tried), "latest": latest}

    def effects(self) -> list[dict[str, Any]]:
        return self._effects_of(self.loss)

    def effects_near(self) -> list[dict[str, Any]]:
        """Among the better half of the comparable trials: what the bad ones hide. Empty while that half is small."""
        half = int((~self.partial).sum()) // 2
        if half < NEAR:
            return []
        near = np.full(len(self.loss), math.nan)
        near[self.order[:half]] = self.loss[self.order[:half]]
        return self._effects_of(near)

    def _effects_of(self, loss: np.ndarray) -> list[dict[str, Any]]:
        """Of the trials whose loss is a number."""
        rank = digest_stats.relative_ranks(loss, self.levels)
        where = self._place[self.sample]
        y = np.full(len(where), math.nan)
        y[where >= 0] = rank[where[where >= 0]]
        configs = [self.finished[i].params for i in self.sample]
        found = digest_stats.effects(self.space, self.units, y)
        found += digest_stats.quantity_effects(configs, y, self.space.names)
        return sorted(found, key=lambda e: -e["strength"])

    def leaders(self, noise: float) -> dict[str, Any]:
        """Of how many of the best is said what they have in common: those that stand apart from the rest, with the
        `next` value behind them, else LEADERS; `count` 0 where there are less than twice as many comparable trials."""
        n = int((~self.partial).sum())
        best = self._distinct[: n // 2 + 1]
        apart = digest_stats.apart(self.loss[best], n, noise) if len(self.objectives) == 1 else None
        if apart is not None:
            behind = self.measured[best[apart]].values
            return {"count": apart, "next": None if behind is None else behind[0]}
        return {"count": LEADERS if n >= 2 * LEADERS <= 2 * len(best) else 0, "next": None}

    @cached_property
    def _distinct(self) -> list[int]:
        """The best of the comparable trials without those that nearly repeat a better one."""
        ahead = [int(i) for i in self.order[: 4 * digest_stats.MAX_APART] if not self.partial[i]]
        units = np.nan_to_num(self._encode([self.measured[i] for i in ahead]), nan=-0.5)
        kept: list[int] = []  # of `ahead`
        for k, point in enumerate(units):
            if (self._gaps(units[kept], point).max(axis=1) > SAME).all():
                kept.append(k)
        return [ahead[k] for k in kept]

    def shared(self, leaders: int) -> list[dict[str, Any]]:
        """What so many of the best have in common and the others mostly lack."""
        if not leaders:
            return []
        best = self._distinct[:leaders]
        at = self._place[self.sample]
        ahead = self.order[self.loss[self.order] <= self.loss[best[-1]]]  # with those that nearly repeat one of them
        others = self.units[(at >= 0) & ~np.isin(at, ahead)]
        return digest_stats.shared(self.space, self._encode([self.measured[i] for i in best]), others)

    def untested(self) -> list[dict[str, Any]]:
        if len(self.finished) < 4:
            return []
        return digest_stats.untested(self.space, self.units, lambda: [t.params for t in self.finished])

    def noise(self, modelled: float | None) -> dict[str, Any] | None:
        """From the repeats among the best and the latest trials, else a model's estimate (then `repeats` is 0)."""
        if len(self.objectives) > 1:
            return None
        size = max(MIN_SAMPLE, CELLS // len(self.space.names)) // 2
        picked = sorted({*self.order[:size].tolist(), *range(max(0, len(self.measured) - size), len(self.measured))})
        repeated = digest_stats.noise(
            [self.measured[i].params for i in picked], self.loss[picked].tolist(), self.levels[picked].tolist()
        )
        if repeated is None and modelled is not None and math.isfinite(modelled):
            return {"std": modelled, "repeats": 0, "configurations": 0}
        return repeated

    def lead(self) -> float | None:
        """By how much the best of the comparable trials is ahead of the next."""
        if len(self.objectives) > 1 or len(self.order) < 2 or self.partial[self.order[1]]:
            return None
        return float(self.loss[self.order[1]] - self.loss[self.order[0]])

    def ties(self) -> int:
        """How many of the comparable trials share the best value."""
        if len(self.objectives) > 1 or not len(self.order):
            return 0
        best = self.loss[self.order[0]]
        return int((np.abs(self.loss - best) <= digest_stats.RESOLVED * max(1.0, abs(best))).sum(where=~self.partial))


def place(space: Space, params: Params) -> dict[str, Any]:
    """params with where each number lies on its own scale, and which numbers stand at an end of their range."""
    unit, at_bound = {}, {}
    for name, value in params.items():
        parameter = space.parameters.get(name)
        if parameter is None or isinstance(parameter, Categorical) or parameter.problem(value):
            continue
        unit[name] = round(parameter.to_unit(value), 3)
        if parameter.count > 2 and value in (parameter.low, parameter.high):
            at_bound[name] = "low" if value == parameter.low else "high"
    return {"params": dict(params), "unit": unit, "at_bound": at_bound}


def _reason(t: TrialRecord) -> str:
    """One line: a traceback says what happened in its last one, anything else in its first."""
    if t.error is None:
        return "no reason was given" if t.state is State.FAILED else "no finite value"
    text = t.error.strip()
    lines = (text[-4 * MAX_ERROR :] if text.startswith("Traceback") else text[: 4 * MAX_ERROR]).splitlines() or [""]
    return plain(lines[-1] if text.startswith("Traceback") else lines[0], MAX_ERROR) or "no reason was given"


def _ends(error: str) -> str:
    """What `_reason` reads of a long error."""
    size = 4 * MAX_ERROR
    return error if len(error) <= 2 * size else error[:size] + error[-size:]
