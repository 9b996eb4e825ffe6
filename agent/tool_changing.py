"""The tools that change or spend something, and the question that a person is asked before each.

What can be taken back puts the way back on the bench's `undo`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tunewright.agent import tool_arguments as given_
from tunewright.agent.beliefs import statement
from tunewright.agent.cli import export, init, script, study_file
from tunewright.agent.cli.doctor_file import without_checkpoint
from tunewright.agent.prices import FREE, price_of
from tunewright.agent.settings import Budget, completed
from tunewright.agent.space_words import parameter_words
from tunewright.agent.store import Store
from tunewright.agent.tool_reading import MAX_TEXT
from tunewright.agent.tool_space import merged
from tunewright.agent.verify import SEEDS
from tunewright.agent.view import StudyView
from tunewright.agent.why import values_text
from tunewright.agent.workbench import Workbench, trainer_words
from tunewright.engines.errors import FixArgument
from tunewright.engines.priors import Prior
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
    drafted = study_file.parse(_draft_text(bench, given), file.path).arguments["space"]
    was = drafted.to_dict()["parameters"]
    now = arguments["space"].to_dict()["parameters"]
    for name, entry in now.items():
        words, before = parameter_words(entry), parameter_words(was[name])
        lines.append(f"  {name}: {words}" + (f"  (drafted: {before})" if words != before else ""))
    left = [name for name in was if name not in now]
    lines += [f"  left out of the draft: {', '.join(left)}"] if left else []
    if arguments.get("task"):
        lines.append(f"  about: {plain(arguments['task'], MAX_TEXT)}")
    if arguments.get("scheduler") is not None:
        trained, name = arguments["fidelity"], arguments["scheduler"]
        name = name if isinstance(name, str) else name[0]
        lines.append(f"  weak trials are paused early ({name}, {trained.name} {trained.low} to {trained.high})")
        lines += [f"  mind: {found.message}" for found in without_checkpoint(file, [name])]
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

    text, source = _draft_text(bench, given), bench.inside(given.file)
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


def _draft_text(bench: Workbench, given: given_.Making) -> str:
    """The study file before any change: the script's draft, or the file that is there."""
    source = bench.inside(given.file)
    if not _is_study_file(bench, given):
        return init.from_script(script.read(source), bench.folder)
    study_file.read(source)  # what is wrong is told in its own terms
    return source.read_text(encoding="utf-8")


def _merge(data: dict[str, Any], parameters: given_.Parameters) -> None:
    """Puts changed parameters in place of the draft's; one that is taken out takes its words of the command along."""
    found, words = dict(data["parameters"]), data.get("command")
    for name, entry in parameters.items():
        if name not in found:
            raise FixArgument("the draft has no such parameter", field="parameters", value=name, fix=", ".join(found))
        if entry is not None:
            found[name] = merged(found[name], entry)
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


def verifying(bench: Workbench, given: given_.Verifying) -> str:
    trained = bench.how_trained()
    chosen = bench.agent.best if given.trial is None else bench.agent.trial(given.trial)
    which = "the best trial" if chosen is None else f"trial {chosen.number} ({values_text(chosen.params)})"
    file = bench.training_file()
    seeds = given.seeds or (file.held_out.seeds if file else None) or SEEDS
    data = f", on {file.held_out.data}" if file and file.held_out.data else ""
    return f"train {which} again, {seeds} times with other seeds{data}\n  each {trained}"


def verify(bench: Workbench, given: given_.Verifying) -> str:
    return "\n".join(bench.verify(given.trial, given.seeds).sentences())


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
    best, form = "the best configuration", given.format
    known = {"best": best, "wandb-best": f"{best}, as a run's config", "wandb": "the space, as a W&B sweep"}
    return f"write {known.get(form, f'the trials as {form.upper()}')} to the new file {_export_path(bench, given).name}"


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
