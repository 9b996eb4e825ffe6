"""Trials rebuilt from the event log alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tunewright.agent.records import TrialRecord
from tunewright.engines.types import State

if TYPE_CHECKING:
    from tunewright.agent.store.store import Event

_NAMES = {field.name for field in fields(TrialRecord)}


def rebuild(events: Iterable[Event]) -> dict[int, TrialRecord]:
    """Every trial of a study, by number, from all events of that study in order."""
    trials: dict[int, dict[str, Any]] = {}
    for event in events:
        if event.number is None:
            continue
        facts = {name: value for name, value in event.payload.items() if name in _NAMES}
        if event.kind == "trial_created":
            started = event.payload["created"]
            trials[event.number] = {"number": event.number, "state": State.RUNNING, "started": started, **facts}
        elif event.kind == "trial_recovered":
            trials[event.number] = {"number": event.number, **facts}
            if State(facts["state"]).finished:
                trials[event.number]["event"] = event.id
        elif event.number not in trials:
            continue  # its beginning was lost
        elif event.kind in ("trial_changed", "trial_paused", "trial_requeued", "trial_resumed"):
            trials[event.number] |= _trained(trials[event.number], event) | facts
        elif event.kind == "trial_finished":
            del facts["attempt"]  # which attempt the result came from, not how many there were
            trials[event.number] |= _trained(trials[event.number], event) | facts | {"event": event.id}
    return {number: _record(found) for number, found in trials.items()}


def _trained(trial: dict[str, Any], event: Event) -> dict[str, Any]:
    """Events of schema 1 do not tell for how long a run trained."""
    if event.kind not in ("trial_paused", "trial_finished") or trial["state"] != State.RUNNING:
        return {}
    run = event.payload.get("finished", event.created) - trial["started"]
    return {"trained": trial.get("trained", 0.0) + max(run, 0.0)}


def _record(facts: dict[str, Any]) -> TrialRecord:
    values = facts.get("values")
    return TrialRecord(**{**facts, "state": State(facts["state"]), "values": None if values is None else tuple(values)})
