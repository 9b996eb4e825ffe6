"""Trials that were not trained to their end, in one set of words: paused, or stopped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tunewright.agent.records import TrialRecord
from tunewright.engines.types import State

if TYPE_CHECKING:
    from tunewright.agent.view import StudyView

ETA = 3  # of the schedulers by rungs, where a study names none
COMPARED = 2_000  # trials up to which a trial's place among all at its step is looked for: it takes every curve


def meanings(config: Mapping[str, Any], states: Iterable[str]) -> dict[str, str]:
    """What the states that people ask about mean in this study, those of `states` alone."""
    scheduler, known = _scheduler(config), {}
    known["paused"] = f"{scheduler} let it rest at that {unit(config)}; it goes on {_condition(config)}"
    known["stopped"] = f"{scheduler} ended it early, for good"
    return {state: known[state] for state in states if state in known}


def halted(view: StudyView, record: TrialRecord) -> str | None:
    """Why a trial is paused or stopped, by which numbers; None for any other."""
    curve = view.curve(record.number)
    if record.state not in (State.PAUSED, State.STOPPED) or not curve:
        return None
    config, (step, value) = view.record.config, curve[-1]
    metric = view.objectives[0].name
    said = f"{record.state} by {_scheduler(config)} at {unit(config)} {step:g} with {metric} {value:.4g}"
    if not math.isfinite(value):
        return f"{said}, which is no number to go on with"
    if place := _place(view, record, step):
        said += f", {place}"
    if record.state is State.STOPPED:
        return f"{said}: it was ended early, for good"
    return f"{said}: it rests, and goes on {_condition(config)}"


def unit(config: Mapping[str, Any]) -> str:
    """What steps are counted in: "epoch"."""
    return str((config.get("fidelity") or ["step"])[0])


def _scheduler(config: Mapping[str, Any]) -> str:
    return str((config.get("scheduler") or ["the scheduler"])[0])


def _condition(config: Mapping[str, Any]) -> str:
    """When a paused trial goes on."""
    name, options = (config.get("scheduler") or ["", {}])[:2]
    if name in ("asha", "halving", "hyperband"):
        return f"once it is among the best 1 in {options.get('eta', ETA)} there"
    if name == "freeze-thaw":
        return "once its forecast is the best of those that rest"
    return "when its next stretch is due" if name == "pbt" else f"when {_scheduler(config)} takes it up"


def _place(view: StudyView, record: TrialRecord, step: float) -> str:
    """How a trial stands among those that reported at the same step: "number 4 of 9 there"."""
    trials = view.trials()
    if len(trials) > COMPARED:
        return ""
    there = {t.number: dict(view.curve(t.number)).get(step) for t in trials}
    loss = view.objectives[0].loss
    reached = {number: loss(value) for number, value in there.items() if value is not None and math.isfinite(value)}
    rank = 1 + sum(value < reached[record.number] for value in reached.values())
    return f"number {rank} of {len(reached)} there"
