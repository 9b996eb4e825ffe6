"""The curves of a stored trial, read."""

from __future__ import annotations

from tunewright.agent.records import StudyRecord
from tunewright.agent.store import Store
from tunewright.engines.curves import Reading, read


def reading(store: Store, study: StudyRecord, number: int) -> Reading | None:
    """What the trial's curves say about the first objective, with a forecast where the study says how far training
    can go; None for a trial that reported nothing of it. Raises UnknownTrial."""
    objective = study.objectives[0]
    names = store.metric_names(study.id, number)
    if objective["name"] not in names:
        return None
    found = {name: store.curve(study.id, number, name) for name in names}
    curves = {name: list(zip(curve.steps, curve.values, strict=True)) for name, curve in found.items()}
    fidelity = study.config.get("fidelity")
    return read(curves, objective["name"], objective["direction"], None if fidelity is None else fidelity[2])


def words(found: Reading) -> str:
    """A reading in one line, with where the curve is going."""
    ahead = found.forecast
    if ahead is None:
        return str(found)
    return f"{found}; at step {ahead.horizon:g} it may reach {ahead.mean:.4g} ({ahead.low:.4g} to {ahead.high:.4g})"
