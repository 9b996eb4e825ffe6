"""The tools that change the search space, and what becomes of the trials, told before it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.agent import tool_arguments as given_
from tunewright.agent.cli import study_file
from tunewright.agent.export import sweep_entry
from tunewright.agent.freezing import frozen
from tunewright.agent.records import TrialRecord
from tunewright.agent.space_words import difference
from tunewright.agent.view import StudyView
from tunewright.agent.workbench import WRITE_SPACE, Workbench
from tunewright.engines.errors import FixArgument
from tunewright.engines.parameters import Derived
from tunewright.engines.space import Space


def editing(bench: Workbench, given: given_.Editing) -> str:
    return _diff(bench, _edited(bench, given))


def edit_space(bench: Workbench, given: given_.Editing) -> list[str]:
    return _edit(bench, _edited(bench, given))


def freezing(bench: Workbench, given: given_.Freezing) -> str:
    return _diff(bench, _frozen(bench, given))


def freeze(bench: Workbench, given: given_.Freezing) -> list[str]:
    return _edit(bench, _frozen(bench, given))


def _edited(bench: Workbench, given: given_.Editing) -> Space:
    declared = dict(bench.agent.space.declared)
    for name, entry in given.parameters.items():
        if entry is not None:
            declared[name] = study_file.parameter(name, merged(_as_entry(declared.get(name)), entry))
        elif declared.pop(name, None) is None:
            raise FixArgument("there is no such parameter", field="parameters", value=name)
    return _space(bench, declared)


def _as_entry(parameter: Any) -> dict[str, Any]:
    """A declared parameter as a study file has it; empty for none."""
    if parameter is None or isinstance(parameter, Derived):
        return {}
    more = {"default": parameter.default, "condition": parameter.when}
    return {**sweep_entry(parameter), **{key: value for key, value in more.items() if value is not None}}


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A study file's entry with what is given changed: whoever moves a bound keeps the scale, the kind, the condition
    and a default that still lies inside."""
    if "derived" in new or not old:
        return dict(new)
    kept = {key: old[key] for key in ("condition", "default") if key in old}
    if "min" in old and not {"value", "values"} & set(new):
        kept |= {key: old[key] for key in ("min", "max", "log", "q", "distribution") if key in old}
        if "log" in new:
            kept.pop("distribution", None)
        if isinstance(old["min"], float):
            bounds = {key: float(new[key]) for key in ("min", "max") if isinstance(new.get(key), int)}
            new = {**new, **bounds}
    made = {**kept, **new}
    if "default" in kept and "default" not in new and not _allows(made, kept["default"]):
        del made["default"]
    return made


def _allows(entry: Mapping[str, Any], value: Any) -> bool:
    if "values" in entry or "value" in entry:
        return value in entry.get("values", [entry.get("value")])
    return bool(entry["min"] <= value <= entry["max"])


def _frozen(bench: Workbench, given: given_.Freezing) -> Space:
    space = bench.agent.space
    if given.parameter not in space.parameters:
        fix = f"one of {', '.join(space.names)}"
        raise FixArgument("there is no such parameter", field="parameter", value=given.parameter, fix=fix)
    value = given.value
    if value is None:
        best = bench.agent.best
        value = best.get(given.parameter) if best else None
    if value is None:
        raise FixArgument("no trial has a value to keep", field="value", fix="name one")
    old = space.parameters[given.parameter]
    if problem := old.problem(old.coerce(value)):
        raise FixArgument(problem, field=given.parameter, value=value)
    return _space(bench, {**space.declared, given.parameter: frozen(bench.agent._view, given.parameter, value)})


def _space(bench: Workbench, declared: Mapping[str, Any]) -> Space:
    return Space(declared, [c.text for c in bench.agent.space.constraints])


def _diff(bench: Workbench, edited: Space) -> str:
    """The question before an edit: the difference, and what becomes of the trials."""
    agent = bench.agent
    lines = difference(agent.space, edited)
    if not lines:
        raise FixArgument("the space is like that already", field="parameters")
    now = StudyView(agent._store, agent._view.record)
    now.space, now._edited = edited, True
    records = agent._view.trials()
    stale = _stale_file(bench, edited)
    return "\n".join(["change the space", *(f"  {line}" for line in [*lines, *_that_count(now, records), *stale])])


def _stale_file(bench: Workbench, edited: Space) -> list[str]:
    """What to know of the study file, which is the person's and stays as it is."""
    file = bench.training_file()
    if file is None or not difference(file.arguments["space"], edited):
        return []
    return [f"{file.path.name} is not changed and keeps its space; the study's own counts. {WRITE_SPACE}"]


def _that_count(now: StudyView, records: Sequence[TrialRecord]) -> list[str]:
    """What becomes of the trials in the space that `now` reads them in."""
    fitted = [now.fit(record) for record in records]
    outside = sum(one is None for one in fitted)
    moved = sum(
        one is not None
        and any(one.params.get(name) != value for name, value in record.params.items() if name in one.params)
        for one, record in zip(fitted, records, strict=True)
    )
    told = (
        [f"{moved} of {len(records)} trials had another value of what is fixed, and count as if they had had it"]
        if moved
        else []
    )
    if outside:
        told.append(
            f"{outside} of {len(records)} trials fall outside: kept, but the engine learns nothing more from them"
        )
    elif records and not moved:
        told.append(f"all {len(records)} trials stay inside")
    return told


def _edit(bench: Workbench, edited: Space) -> list[str]:
    before = bench.agent.space
    lines = bench.agent.edit_space(edited)
    if not lines:
        return lines
    bench.undo.append(("space", lambda: bench.agent.edit_space(before)))
    return [*lines, *_stale_file(bench, edited)]
