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


def meanings(config: Mapping[str, Any], states: Iterable[str]) -> dict[str, str]:
    """What the states that people ask about mean in this study, those of `states` alone."""
    scheduler, known = _scheduler(config), {}
    known["paused"] = f"{scheduler} let it rest at that {unit(config)}; it goes on {_condition(config)}"
    known["stopped"] = f"{scheduler} ended it early, for good"
    return {state: known[state] for state in states if state in known}


def halted(view: StudyView, record: TrialRecord) -> str | None:
    """Why a trial is paused or stopped, by which numbers; None for any other."""
    if record.state not in (State.PAUSED, State.STOPPED) or not (curve := view.curve(record.number)):
        return None
    config, (step, value) = view.record.config, curve[-1]
    metric = view.objectives[0].name
    said = f"{record.state} by {_scheduler(config)} at {unit(config)} {step:g} with {metric} {value:.4g}"
    if not math.isfinite(value):
        return f"{said}, which is no number to go on with"
    said += f", {_place(view, value, step)}"
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


def _place(view: StudyView, value: float, step: float) -> str:
    """How a value stands among those that were reported at the same step: "number 4 of 9 there"."""
    objective = view.objectives[0]
    reached = [objective.loss(other) for other in view.store.values_at(view.record.id, objective.name, step)]
    rank = 1 + sum(other < objective.loss(value) for other in reached)
    return f"number {rank} of {len(reached)} there"
