"""What an advisor is told of a study: bounded facts, however long it runs.

`build` makes plain data, which advisors without words read; `digest_text.render` makes the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.agent import digest_stats
from tunewright.agent.digest_history import Finished, place
from tunewright.agent.records import Curve, ProposalRecord, TrialRecord
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Params, State
from tunewright.prompts.text import plain

LIVE = 8  # running trials
MAX_TASK, MAX_NOTE, NOTES = 1_200, 240, 4
MAX_DATA = 20  # facts about the data


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
    expected: Sequence[tuple[float, float] | None] = (),
    since: int | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The digest as JSON data.

    `trials` holds the finished ones in the order in which they ended, and live ones anywhere (a paused one that has
    values counts with them, at its fidelity); `data` are facts that the user gave about the data; `budget_left` counts
    trials; `seeding`: whether candidates get trials without passing the engine's model; `noise` is a model's estimate
    of the standard deviation between equal runs, which repeats overrule; `curves` and `diagnoses` (words about a
    curve) go by trial number, for the trials worth showing; `failing` says where trials fail, in words; `rejected` is
    what of the last advice was not tried, to be said once, and `expected` what the engine's model expects of each
    (mean and standard deviation, first objective); `since` the number of the trial that was asked about last.

    Keys an advisor may rely on: task, data, objectives, wanted, budget_left, n_trials (finished), failed (how many of
    them), default (parameters), default_value, best, and trials: the selected ones, best first, failed ones last,
    each with number, params (free), value (None when failed), values, state, error, source, fidelity, unit
    (the position in [0, 1] of each number on its own scale) and at_bound ("low" or "high").
    """
    ended, live = _split(trials)
    history = Finished(space, objectives, ended)
    noisy = history.noise(noise)
    rows, leaders = history.rows(since), history.leaders(noisy["std"] if noisy else 0.0)
    latest = list((diagnoses or {}).items())[-digest_stats.CURVES :]
    shown = next((t for t in ended[:LIVE] if t.source == "default" and t.values is not None), None)
    best = next((row for row in rows if row["state"] != State.FAILED), None)
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
        "best": best,
        "trials": rows,
        "failing": [plain(words, MAX_NOTE) for words in failing],
        "noise": noisy,
        "ties": history.ties(),
        "lead": history.lead(),
        "effects": history.effects(),
        "effects_near": history.effects_near(),
        "leaders": leaders,
        "shared": history.shared(leaders["count"]),
        "untested": history.untested(),
        "curves": digest_stats.curve_points(curves or {}, objectives, [row["number"] for row in rows]),
        "diagnoses": [{"number": n, "text": plain(text, MAX_NOTE)} for n, text in latest],
        "running": [{"number": t.number} | place(space, space.free(t.params)) for t in live[-LIVE:]],
        "engine": None if engine is None else _engine(space, engine) | {"products": history.products(engine.params)},
        "rejected": [
            _untried(p, e, objectives[0], best)
            for p, e in list(zip(rejected, expected or [None] * len(rejected), strict=True))[-3:]
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


def _untried(
    lost: ProposalRecord, expected: tuple[float, float] | None, objective: Objective, best: Mapping[str, Any] | None
) -> dict[str, Any]:
    """`worse`: what the model expects of it is, by more than a standard deviation, worse than the best."""
    worse = False
    if expected is not None and best is not None:
        worse = objective.loss(expected[0]) - expected[1] > objective.loss(best["value"])
    return {
        "params": dict(lost.params),
        "reason": plain(lost.reason or "no reason was kept", MAX_NOTE),
        "expected": expected,
        "worse": worse,
        "again": lost.status != "rejected" and not worse,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _engine(space: Space, view: EngineView) -> dict[str, Any]:
    where = place(space, view.params) if view.params is not None else {"params": None}
    known = {"name": view.name, "mean": view.mean, "std": view.std, "startup": view.startup}
    return known | {"favoured": [dict(entry) for entry in view.favoured]} | where
