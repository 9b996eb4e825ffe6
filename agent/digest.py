"""What an advisor is told of a study: bounded facts, however long it runs.

`build` makes plain data, which advisors without words read; `digest_text.render` makes the words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.agent import digest_stats
from tunewright.agent.records import Curve, ProposalRecord, TrialRecord
from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Params, State
from tunewright.prompts.text import plain

BEST, RECENT, DIVERSE, FAILED, LIVE = 10, 4, 6, 4, 8
CELLS = 2_000  # parameter values turned into numbers for one purpose: the time limit of a long study
MIN_SAMPLE, MAX_COMMON = 80, 20
LEADERS = 5  # the best trials, of which is said what they have in common
MAX_TASK, MAX_ERROR, MAX_NOTE, NOTES = 1_200, 160, 240, 4
MAX_DATA = 20  # facts about the data
_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))
RESOLVED = 1e-9  # relative: losses closer than this are one value


@dataclass(frozen=True, slots=True)
class EngineView:
    """The classical engine's next point and, where it has a model, what it expects there (first objective, the
    metric's own units). `startup` marks a draw made without a model. `favoured` is where the best of its own
    candidates lie: {"name", "low", "high"} or {"name", "values"}, of parameters where they keep to a part."""

    name: str
    params: Params | None = None
    startup: bool = False
    mean: float | None = None
    std: float | None = None
    favoured: Sequence[Mapping[str, Any]] = ()


def build(
    space: Space,
    objectives: Sequence[Objective],
    trials: Sequence[TrialRecord],
    *,
    task: str | None = None,
    data: Mapping[str, Any] | None = None,
    budget_left: int | None = None,
    wanted: int = 1,
    seeding: bool = False,
    engine: EngineView | None = None,
    default: Params | None = None,
    fidelity: Fidelity | None = None,
    noise: float | None = None,
    curves: Mapping[int, Sequence[Curve]] | None = None,
    diagnoses: Mapping[int, str] | None = None,
    failing: Sequence[str] = (),
    rejected: Sequence[ProposalRecord] = (),
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The digest as JSON data.

    `trials` holds the finished ones in the order in which they ended, and live ones anywhere (a paused one that has
    values counts with them, at its fidelity); `data` are facts that the user gave about the data; `budget_left` counts
    trials; `seeding`: whether candidates get trials without passing the engine's model; `noise` is a model's estimate
    of the standard deviation between equal runs, which repeats overrule; `curves` and `diagnoses` (words about a
    curve) go by trial number, for the trials worth showing; `failing` says where trials fail, in words; `rejected` is
    what of the last advice was not tried, to be said once.

    Keys an advisor may rely on: task, data, objectives, wanted, budget_left, n_trials (finished), failed (how many of
    them), default (parameters), default_value, best, and trials: the selected ones, best first, failed ones last,
    each with number, params (free), value (None when failed), values, state, error, source, fidelity, unit
    (the position in [0, 1] of each number on its own scale) and at_bound ("low" or "high").
    """
    ended, live = _split(trials)
    history = _History(space, objectives, ended)
    rows = history.rows()
    latest = list((diagnoses or {}).items())[-digest_stats.CURVES :]
    shown = next((t for t in ended[:LIVE] if t.source == "default" and t.values is not None), None)
    return {
        "task": plain(task, MAX_TASK) if task else None,
        "data": _data(data or {}),
        "objectives": [{"name": o.name, "direction": o.direction} for o in objectives],
        "fidelity": None if fidelity is None else {"name": fidelity.name, "low": fidelity.low, "high": fidelity.high},
        "space": space.to_dict(),
        "quantities": [{"name": q.name, "formula": q.formula} for q in history.quantities],
        "n_trials": len(history.finished),
        "failed": len(history.failed),
        "since_best": history.since_best(),
        "budget_left": budget_left,
        "wanted": wanted,
        "seeding": seeding,
        "advised": history.advised(),
        "default": None if default is None else dict(default),
        "default_value": None if shown is None or shown.values is None else shown.values[0],
        "best": next((row for row in rows if row["state"] != State.FAILED), None),
        "trials": rows,
        "failing": [plain(words, MAX_NOTE) for words in failing],
        "noise": history.noise(noise),
        "ties": history.ties(),
        "lead": history.lead(),
        "effects": history.effects(),
        "shared": history.shared(),
        "untested": history.untested(),
        "curves": digest_stats.curve_points(curves or {}, objectives, [row["number"] for row in rows]),
        "diagnoses": [{"number": n, "text": plain(text, MAX_NOTE)} for n, text in latest],
        "running": [{"number": t.number} | place(space, space.free(t.params)) for t in live[-LIVE:]],
        "engine": None if engine is None else _engine(space, engine) | {"products": history.products(engine.params)},
        "rejected": [
            {"params": dict(p.params), "reason": plain(p.reason or "no reason was kept", MAX_NOTE)}
            for p in rejected[-3:]
        ],
        "notes": [plain(note, MAX_NOTE) for note in notes[-NOTES:]],
    }


def _split(trials: Sequence[TrialRecord]) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """(those with a result, the others). By identity: hashing ten thousand enum members takes milliseconds."""
    complete, failed, stopped, paused = State.COMPLETE, State.FAILED, State.STOPPED, State.PAUSED
    ended = [
        t
        for t in trials
        if (s := t.state) is complete or s is failed or s is stopped or (s is paused and t.values is not None)
    ]
    if len(ended) == len(trials):
        return ended, []
    known = set(map(id, ended))
    return ended, [t for t in trials if id(t) not in known]


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The user's facts, and the error of always naming the largest class where they tell it."""
    facts = {plain(name, 40): value for name, value in list(data.items())[:MAX_DATA]}
    share, counts = facts.get("largest_class_share"), facts.get("class_counts")
    if isinstance(counts, Mapping):
        counts = list(counts.values())
    if share is None and isinstance(counts, list | tuple) and all(map(_is_number, counts)) and sum(counts) > 0:
        share = max(counts) / sum(counts)
    if isinstance(share, int | float) and 0 < share <= 1:
        facts["error_of_the_largest_class"] = round(1 - share, 4)
    return facts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _History:
    """Finished trials in numbers: everything by index into `measured` (finite values) or `finished`."""

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

    def rows(self) -> list[dict[str, Any]]:
        """The best, the most recent, the most different, then one failure per reason."""
        shown = {int(i): "best" for i in self.order[:BEST]}
        if len(self.objectives) > 1:
            shown |= {int(np.argmin(column)): "best" for column in self.losses.T if len(column)}
        for i in range(len(self.measured) - 1, max(-1, len(self.measured) - 1 - RECENT), -1):
            shown.setdefault(i, "recent")
        for i in self._diverse(list(shown)):
            shown[i] = "diverse"
        out = [self._row(self.measured[i], shown[i], i) for i in self.order[np.isin(self.order, list(shown))].tolist()]
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
        category = np.array([isinstance(p, Categorical) for p in self.space.parameters.values()])

        def seen(point: np.ndarray) -> None:
            gap = np.abs(units - point)
            np.minimum(nearest, np.where(category, gap > 0, gap).sum(axis=1), out=nearest)

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
        """How many trials were advised, how many of them failed, how many were the best so far when they ended, and
        whether the first with a value was one of them, which had none to beat."""
        tried = np.array([t.source == "advisor" for t in self.finished], dtype=bool)
        if not tried.any():
            return None
        comparable = np.where(self.partial, np.inf, self.loss)
        before = np.minimum.accumulate(np.concatenate(([np.inf], comparable)))[:-1]
        better = (comparable < before) & tried[self._at] & np.isfinite(before)
        failed = int((tried & (self._place < 0)).sum())
        first = bool(tried[self._at[:1]].any())
        return {"tried": int(tried.sum()), "failed": failed, "improved": int(better.sum()), "first": first}

    def effects(self) -> list[dict[str, Any]]:
        rank = digest_stats.relative_ranks(self.loss, self.levels)
        where = self._place[self.sample]
        y = np.full(len(where), math.nan)
        y[where >= 0] = rank[where[where >= 0]]
        configs = [self.finished[i].params for i in self.sample]
        found = digest_stats.effects(self.space, self.units, y)
        found += digest_stats.quantity_effects(configs, y, self.space.names)
        return sorted(found, key=lambda e: -e["strength"])

    def shared(self) -> list[dict[str, Any]]:
        """Of the best LEADERS of at least twice as many comparable trials."""
        leaders = [self.measured[i] for i in self.order[:LEADERS]]
        if int((~self.partial).sum()) < 2 * LEADERS:
            return []
        good = self._place[self.sample] >= 0
        return digest_stats.shared(self.space, self._encode(leaders), self.units[good])

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
        return int((np.abs(self.loss - best) <= RESOLVED * max(1.0, abs(best))).sum(where=~self.partial))


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


def _engine(space: Space, view: EngineView) -> dict[str, Any]:
    where = place(space, view.params) if view.params is not None else {"params": None}
    known = {"name": view.name, "mean": view.mean, "std": view.std, "startup": view.startup}
    return known | {"favoured": [dict(entry) for entry in view.favoured]} | where


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
