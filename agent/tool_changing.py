"""The tools that change or spend something, and the question that a person is asked before each.

What can be taken back puts the way back on the bench's `undo`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tunewright.agent import tool_arguments as given_
from tunewright.agent.beliefs import statement
from tunewright.agent.cli import export, init, script, study_file
from tunewright.agent.export import sweep_entry
from tunewright.agent.prices import FREE, price_of
from tunewright.agent.settings import Budget, completed
from tunewright.agent.space_words import difference, parameter_words
from tunewright.agent.store import Store
from tunewright.agent.tool_reading import MAX_TEXT
from tunewright.agent.view import StudyView
from tunewright.agent.why import values_text
from tunewright.agent.workbench import Workbench, trainer_words
from tunewright.engines.errors import FixArgument
from tunewright.engines.parameters import Categorical, Derived
from tunewright.engines.priors import Prior
from tunewright.engines.space import Space
from tunewright.prompts.text import plain

# ------------------------------------------------------------------------------------------------ a new study


def making(bench: Workbench, given: given_.Making) -> str:
    """The question: what will be searched, and the command that each trial runs."""
    file = study_file.parse(planned(bench, given), bench.folder / _file_name(given))
    arguments = file.arguments
    objectives = arguments.get("objectives") or ()
    several = " and ".join(f"{o.direction} {o.name}" for o in objectives)
    goal = several or f"{arguments['direction']} {arguments['metric']}"
    lines = [f"make the study {arguments['study']}: {goal}, {_budget_words(arguments['budget'])}"]
    space = arguments["space"].to_dict()["parameters"]
    lines += [f"  {name}: {parameter_words(entry)}" for name, entry in space.items()]
    if arguments.get("scheduler") is not None:
        trained, name = arguments["fidelity"], arguments["scheduler"]
        name = name if isinstance(name, str) else name[0]
        lines.append(f"  weak trials are stopped early ({name}, {trained.name} {trained.low} to {trained.high})")
    lines.append(f"  each trial runs {trainer_words(file, arguments['space'])}")
    if not (bench.folder / _file_name(given)).exists():
        lines.append(f"  {_file_name(given)} is written, which says so")
    return "\n".join(lines)


def create_study(bench: Workbench, given: given_.Making) -> str:
    text, path = planned(bench, given), bench.folder / _file_name(given)
    file = study_file.parse(text, path)
    own = path.suffix != ".py" and _is_study_file(bench, given) and text == path.read_text(encoding="utf-8")
    if not own and path.exists():
        raise FixArgument("exists already", field="name", value=path.name, fix="another name")
    bench.make(file.arguments, file)
    if not own:
        path.write_text(text, encoding="utf-8")
    return f"{file.arguments['study']} is made; {path.name} says how its trials are trained. Nothing has run yet"


def planned(bench: Workbench, given: given_.Making) -> str:
    """The text of the study file that is asked for: the script's draft, or an existing file, with the changes."""
    import yaml

    source = bench.inside(given.file)
    if _is_study_file(bench, given):
        study_file.read(source)  # what is wrong is told in its own terms
        text = source.read_text(encoding="utf-8")
    else:
        text = init.from_script(script.read(source), bench.folder)
    data = yaml.safe_load(text)
    changed = dict(data)
    if given.name or not _is_study_file(bench, given):
        changed["study"] = given.name or source.stem
    if given.metric or given.direction:
        if "metric" not in data:
            raise FixArgument("the file has several objectives", field="metric", value=given.metric, fix="leave it out")
        goal = {"name": given.metric} if given.metric else {}
        changed["metric"] = {**data["metric"], **goal, **({"goal": given.direction} if given.direction else {})}
    if given.trials:
        changed["budget"] = {**(data.get("budget") or {}), "trials": given.trials}
    if given.task:
        changed["task"] = given.task
    _merge(changed, given.parameters)
    if not given.early_stopping and changed.pop("scheduler", None) is not None:
        most = changed.pop("fidelity")["max"]
        changed["command"] = [str(most) if word == "{fidelity}" else word for word in changed["command"]]
    return text if changed == data else yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)


def _merge(data: dict[str, Any], parameters: given_.Parameters) -> None:
    """Puts changed parameters in place of the draft's; one that is taken out takes its words of the command along."""
    found, words = dict(data["parameters"]), data.get("command")
    for name, entry in parameters.items():
        if name not in found:
            raise FixArgument("the draft has no such parameter", field="parameters", value=name, fix=", ".join(found))
        if entry is not None:
            found[name] = _merged(found[name], entry)
            continue
        del found[name]
        if not isinstance(words, list):
            raise FixArgument("the file's command is one string", field="parameters", value=name, fix="edit the file")
        slot = next((i for i, word in enumerate(words) if word == f"{{{name}}}"), None)
        if slot is not None:
            words = words[: slot - 1] + words[slot + 1 :]
    data["parameters"] = found
    if words is not None:
        data["command"] = words


def _is_study_file(bench: Workbench, given: given_.Making) -> bool:
    return bench.inside(given.file).suffix in (".yaml", ".yml")


def _file_name(given: given_.Making) -> str:
    source = Path(given.file)
    if given.name:
        return f"{given.name}.yaml"
    return source.name if source.suffix in (".yaml", ".yml") else f"{source.stem}.yaml"


def _budget_words(budget: Budget) -> str:
    return ", ".join(f"{value:g} {name}" for name, value in budget.to_config().items()) or "no budget"


# ------------------------------------------------------------------------------------------------ trials


def running(bench: Workbench, given: given_.Training) -> str:
    wanted = bench.wanted(given.trials)
    return f"train {wanted} trial{'s' if wanted != 1 else ''}\n  each {bench.how_trained()}"


class Started(TypedDict):
    """A run in the background."""

    trials_in_the_background: int
    first_number: int


def run(bench: Workbench, given: given_.Training) -> Started:
    wanted = bench.start(given.trials)
    assert bench.run is not None, "it was just started"
    return Started(trials_in_the_background=wanted, first_number=bench.run.first)


def pause(bench: Workbench, given: given_.Nothing) -> str:
    return "no further trial starts; the one that trains ends by itself" if bench.pause() else "nothing trains"


def enqueue(bench: Workbench, given: given_.Configuration) -> str:
    bench.agent.enqueue(given.params, note="chat")
    return "it is first in line"


def queueing(bench: Workbench, given: given_.Configuration) -> str:
    return f"try {values_text(completed(bench.agent.space, given.params))} next"


def suggest(bench: Workbench, given: given_.Nothing) -> dict[str, Any]:
    if bench.running:
        raise FixArgument("trials are being trained", field="suggest", fix="pause first")
    trial = bench.agent.suggest()
    return {"number": trial.number, "params": dict(trial.params), "reason": plain(trial.reason, MAX_TEXT)}


def observe(bench: Workbench, given: given_.Outcome) -> str:
    agent = bench.agent
    if given.values is None:
        agent.fail(given.number, given.error or "")
        return f"trial {given.number} failed"
    agent.observe(given.number, given.values)
    return f"trial {given.number} is {agent.trial(given.number).state}"


def paid(bench: Workbench, what: str) -> str:
    """What to ask before the study's advisor is; nothing where its answers are free."""
    advisor = bench.agent._advisor
    return "" if advisor is None or price_of(advisor, {}) == FREE else f"{what}, which may cost tokens"


def ideas(bench: Workbench, given: given_.Nothing) -> dict[str, Any]:
    found = bench.agent.ideas()
    told = [
        {"params": dict(c.params), "because": plain(c.rationale, MAX_TEXT), "problems": list(c.problems)}
        for c in found.candidates
    ]
    return {"ideas": told, **({"silence": plain(found.silence, MAX_TEXT)} if found.silence else {})}


def opinion(bench: Workbench, given: given_.Number) -> str:
    return str(bench.agent.counsel().diagnose(given.number))


def summary(bench: Workbench, given: given_.Nothing) -> str:
    return str(bench.agent.counsel().summarize())


# ------------------------------------------------------------------------------------------------ the space


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
            declared[name] = study_file.parameter(name, _merged(_as_entry(declared.get(name)), entry))
        elif declared.pop(name, None) is None:
            raise FixArgument("there is no such parameter", field="parameters", value=name)
    return _space(bench, declared)


def _as_entry(parameter: Any) -> dict[str, Any]:
    """A declared parameter as a study file has it; empty for none."""
    if parameter is None or isinstance(parameter, Derived):
        return {}
    more = {"default": parameter.default, "condition": parameter.when}
    return {**sweep_entry(parameter), **{key: value for key, value in more.items() if value is not None}}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
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
    return _space(bench, {**space.declared, given.parameter: Categorical([old.coerce(value)], when=old.when)})


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
    outside = [r.number for r in records if now.fit(r) is None]
    told = f"all {len(records)} trials stay inside" if not outside else (
        f"{len(outside)} of {len(records)} trials fall outside and teach the engine nothing more"
    )  # fmt: skip
    return "\n".join(["change the space", *(f"  {line}" for line in lines), *([f"  {told}"] if records else [])])


def _edit(bench: Workbench, edited: Space) -> list[str]:
    before = bench.agent.space
    lines = bench.agent.edit_space(edited)
    if lines:
        bench.undo.append(("space", lambda: bench.agent.edit_space(before)))
    return lines


# ------------------------------------------------------------------------------------------------ the rest


def note(bench: Workbench, given: given_.Text) -> str:
    agent = bench.agent
    before, told = list(agent.config.get("notes", [])), {found.held.number for found in agent.beliefs}
    found = agent.believe(given.text, model=False)
    new = [held.held.number for held in agent.beliefs if held.held.number not in told]

    def back() -> None:
        agent._reconfigure(notes=before)
        for number in new:
            agent.withdraw(number)

    bench.undo.append(("note", back))
    if not found.answer.priors:
        return "noted; the advisor reads it with its next question"
    return f"noted, and the search leans that way from the next trial on: {_leaning(found.answer.priors)}"


def noting(bench: Workbench, given: given_.Text) -> str:
    priors = bench.agent.counsel(model=False).priors(given.text).answer.priors
    return f"note: {given.text}" + (f"\n  read as: {_leaning(priors)}" if priors else "")


def _leaning(priors: Sequence[Prior]) -> str:
    return "; ".join(f"{statement(prior)} ({prior.strength})" for prior in priors)


def withdraw(bench: Workbench, given: given_.Numbered) -> str:
    bench.agent.withdraw(given.number)
    return f"belief {given.number} tilts the search no more"


def set_budget(bench: Workbench, given: given_.Caps) -> str:
    before = bench.agent.budget.to_config()
    caps = {name: getattr(given, name) for name in given.model_fields_set}
    bench.set_budget(**caps)
    back = {name: before.get(name) for name in caps}
    bench.undo.append(("budget", lambda: bench.set_budget(**back)))
    return f"the study's budget is {_budget_words(bench.agent.budget)}"


def budgeting(bench: Workbench, given: given_.Caps) -> str:
    caps = {name: getattr(given, name) for name in sorted(given.model_fields_set)}
    words = ", ".join(f"{name} {'without a cap' if cap is None else f'{cap:g}'}" for name, cap in caps.items())
    return f"change the budget from {_budget_words(bench.agent.budget)} to {words}"


def exporting(bench: Workbench, given: given_.Exporting) -> str:
    return f"write the study as {given.format} to {_export_path(bench, given).name}"


def export_study(bench: Workbench, given: given_.Exporting) -> dict[str, str]:
    path = _export_path(bench, given)
    text = io.StringIO()
    with Store.open(bench.path, read_only=True) as file, contextlib.redirect_stdout(text):
        record = file.study(bench.agent.study)
        assert record is not None, "it lies on the bench"
        export.write(StudyView(file, record), given.format, None, False)
    with path.open("x", encoding="utf-8", newline="") as out:
        out.write(text.getvalue())
    bench.undo.append((f"file {path.name}", path.unlink))
    return {"file": path.name, "begins": text.getvalue()[: 2 * MAX_TEXT]}


def _export_path(bench: Workbench, given: given_.Exporting) -> Path:
    """A new file of the study's folder."""
    ending = {"csv": "csv", "json": "json"}.get(given.format, "yaml")
    stem = "".join(c if c.isalnum() or c in "._-" else "_" for c in bench.agent.study)
    path = bench.inside(given.file or f"{stem}-{given.format}.{ending}")
    if path.exists():
        raise FixArgument("exists already", field="file", value=path.name, fix="another name")
    return path


def undo(bench: Workbench, given: given_.Nothing) -> str:
    if not bench.undo:
        raise FixArgument("nothing was changed here that can be taken back", field="undo")
    what, back = bench.undo[-1]
    back()
    bench.undo.pop()
    return f"the {what} is as it was before"


def undoing(bench: Workbench, given: given_.Nothing) -> str:
    return f"take the last change back: the {bench.undo[-1][0]}" if bench.undo else "take the last change back"
