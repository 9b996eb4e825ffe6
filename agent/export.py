"""A study's trials in formats that other tools read.

Rows are written page by page, so that the memory taken does not grow with the study. Numbers that are not finite become
empty cells in CSV and null in JSON.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from tunewright.agent.records import Resources, TrialRecord
from tunewright.agent.view import StudyView
from tunewright.engines.errors import FixArgument
from tunewright.engines.parameters import Categorical, Derived, Float, Int
from tunewright.engines.types import State

PAGE = 500
RESOURCES = ("cpu_seconds", "memory_bytes", "gpu_use", "gpu_memory_bytes")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def rows(view: StudyView) -> Iterator[dict[str, Any]]:
    """One flat mapping per trial: number, state, values by metric, params.NAME, and how it came about."""
    after = -1
    while page := view.store.trials(view.record.id, after=after, limit=PAGE):
        taken = view.store.resources(view.record.id, [trial.number for trial in page])
        yield from (_row(view, trial, taken.get(trial.number)) for trial in page)
        after = page[-1].number


def columns(view: StudyView) -> list[str]:
    """The keys of `rows`, in order; parameters that an edit took out of the space are in those of their trials."""
    named = dict.fromkeys(view.space.declared)
    for trial in view.store.trials(view.record.id):
        named |= dict.fromkeys(trial.params)
    head = ["number", "state", *(o.name for o in view.objectives)]
    return [*head, *(f"params.{name}" for name in named), "fidelity", "source", "proposer", "attempt", "seed", "error",
            "created", "started", "finished", "seconds", *RESOURCES]  # fmt: skip


def _row(view: StudyView, trial: TrialRecord, taken: Resources | None) -> dict[str, Any]:
    values = dict(zip((o.name for o in view.objectives), trial.values or (), strict=False))
    if trial.state is State.PAUSED and (curve := view.curve(trial.number)):
        values[view.objectives[0].name] = curve[-1][1]  # where it came to rest, at the fidelity of its row
    return {
        "number": trial.number, "state": str(trial.state), **values,
        **{f"params.{name}": value for name, value in trial.params.items()},
        "fidelity": trial.fidelity, "source": trial.source, "proposer": trial.proposer, "attempt": trial.attempt,
        "seed": trial.seed, "error": trial.error, "created": _time(trial.created), "started": _time(trial.started),
        "finished": _time(trial.finished),
        "seconds": trial.trained if trial.state.finished or trial.state is State.PAUSED else None,
        "cpu_seconds": taken and taken.cpu, "memory_bytes": taken and taken.memory, "gpu_use": taken and taken.gpu,
        "gpu_memory_bytes": taken and taken.gpu_memory,
    }  # fmt: skip


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def points(view: StudyView) -> Iterator[dict[str, Any]]:
    """One mapping per reported point: trial, metric, step, value."""
    for trial in view.store.trials(view.record.id):
        for metric in view.store.metric_names(view.record.id, trial.number):
            curve = view.store.curve(view.record.id, trial.number, metric)
            for step, value in zip(curve.steps, curve.values, strict=True):
                yield {"trial": trial.number, "metric": metric, "step": step, "value": value}


# ------------------------------------------------------------------------------------------------ formats


def write_csv(out: TextIO, names: Sequence[str], found: Iterator[Mapping[str, Any]]) -> None:
    """RFC 4180. Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in found:
        writer.writerow([_cell(row.get(name)) for name in names])


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_json(out: TextIO, view: StudyView, curves: bool) -> None:
    """One document, written as it is read."""
    head = {"study": view.record.name, "objectives": list(view.record.objectives), "space": view.record.space,
            "seed": view.record.seed, "config": view.record.config, "environment": view.record.environment}  # fmt: skip
    out.write(json.dumps(head)[:-1] + ', "trials": [')
    _write_list(out, rows(view))
    out.write("]")
    if curves:
        out.write(', "curves": [')
        _write_list(out, points(view))
        out.write("]")
    out.write("}\n")


def _write_list(out: TextIO, found: Iterator[Mapping[str, Any]]) -> None:
    for i, row in enumerate(found):
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        out.write((",\n" if i else "\n") + json.dumps(plain, allow_nan=False))


def write_parquet(path: str, names: Sequence[str], found: Iterator[Mapping[str, Any]]) -> None:
    """Raises FixArgument where pyarrow is not installed. A column of mixed types becomes text."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise FixArgument("Parquet needs pyarrow", field="--format", fix="pip install pyarrow") from error
    table: dict[str, list[Any]] = {name: [] for name in names}
    for row in found:
        for name in names:
            table[name].append(row.get(name))
    for name, values in table.items():
        kinds = {type(v) for v in values if v is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            table[name] = [None if v is None else str(v) for v in values]
    parquet.write_table(pyarrow.table(table), path)


def sweep(view: StudyView) -> tuple[dict[str, Any], list[str]]:
    """The space as a W&B sweep, and what that format cannot say, a line each."""
    found: dict[str, Any] = {}
    lost: list[str] = [f"constraint left out: {c.text}" for c in view.space.constraints]
    for name, parameter in view.space.declared.items():
        if isinstance(parameter, Derived):
            lost.append(f"derived value left out: {name} = {parameter.expression}")
            continue
        if parameter.when is not None:
            lost.append(f"{name} is searched only when {parameter.when}")
        found[name] = sweep_entry(parameter)
    objective = view.objectives[0]
    metric = {"name": objective.name, "goal": objective.direction}
    return {"name": view.record.name, "method": "bayes", "metric": metric, "parameters": found}, lost


def sweep_entry(parameter: Float | Int | Categorical) -> dict[str, Any]:
    """A parameter as a sweep's file has it, without its default and condition."""
    if isinstance(parameter, Categorical):
        return {"values": list(parameter.choices)}
    bounds = {"min": parameter.low, "max": parameter.high}
    if isinstance(parameter, Int):
        return {"distribution": "q_log_uniform_values" if parameter.log else "int_uniform", **bounds}
    if parameter.step is not None:
        return {"distribution": "q_uniform", "q": parameter.step, **bounds}
    return {"distribution": "log_uniform_values" if parameter.log else "uniform", **bounds}


def best(view: StudyView) -> list[dict[str, Any]]:
    """The best configuration, or with several objectives those that no other beats."""
    found = view.pareto() if len(view.objectives) > 1 else [b for b in [view.best()] if b is not None]
    names = [o.name for o in view.objectives]
    return [
        {"trial": t.number, "values": dict(zip(names, t.values or (), strict=True)), "params": dict(t.params)}
        for t in found
    ]
