"""What is wrong with a study file, beside the plan in it: its command or function, scheduler, engine and limits.

Nothing of the user's is run or imported.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tunewright.agent.cli import script, study_file
from tunewright.agent.cli.study_file import StudyFile
from tunewright.agent.commands import Command
from tunewright.agent.doctor import Finding, examine_plan, worst_first
from tunewright.agent.lineup import choices
from tunewright.agent.scheduling import AUTO, scheduler_of, split_pair, usual_scheduler
from tunewright.engines.errors import FixArgument, TunewrightError
from tunewright.engines.types import Objective
from tunewright.plugins import registry


def examine_file(path: Path) -> list[Finding]:
    """Worst first. Raises FixArgument where there is no such file."""
    if not path.is_file():
        raise FixArgument("no such file", field="study file", value=str(path), fix="tunewright init train.py")
    try:
        file = study_file.read(path)
    except TunewrightError as error:
        return [_of_error("file", error)]
    space, budget = file.arguments["space"], file.arguments["budget"]
    found = examine_plan(space, _objectives(file), budget, file.arguments["engine"])
    return worst_first([*found, *_training(file), *_engine(file), *_limits(file)])


def _objectives(file: StudyFile) -> list[Objective]:
    given = file.arguments
    return list(given.get("objectives") or [Objective(given["metric"], given["direction"])])


def _of_error(code: str, error: TunewrightError) -> Finding:
    got = "" if error.value is None else f" (got {error.value!r})"
    return Finding(code, "error", f"{error.field}: {error.message}{got}", error.fix or "change it in the file")


def _refused(code: str, check: Callable[[], Any]) -> Iterator[Finding]:
    """What a check of the product itself refuses, which would end `tunewright tune`."""
    try:
        check()
    except TunewrightError as error:
        yield _of_error(code, error)


# ------------------------------------------------------------------------------------------------ the training


def _training(file: StudyFile) -> Iterator[Finding]:
    folder = file.path.resolve().parent
    for command, where in ((file.command, "command"), (file.held_out.command, "verify.command")):
        if command is not None:
            yield from _command(command, where, file, folder)
    for spec, where in ((file.objective, "objective"), (file.held_out.objective, "verify.objective")):
        if spec is not None or (where == "objective" and file.command is None):
            yield from _function(spec, where, folder)


def _command(command: Command, where: str, file: StudyFile, folder: Path) -> Iterator[Finding]:
    missing = list(_refused("command", lambda: command.program_of(folder)))
    yield from missing
    if unnamed := command.unnamed(file.arguments["space"]):
        message = f"{where} does not name {', '.join(unnamed)}: the script finds them in TUNEWRIGHT_PARAMS alone"
        fix = " ".join(f"--{name} {{{name}}}" for name in unnamed)
        yield Finding("unnamed", "warning", message, f"add {fix}, or read TUNEWRIGHT_PARAMS in the script")
    source = command.script_of(folder)
    if source is None or missing:
        return
    try:
        arguments = script.read(source).arguments
    except FixArgument as error:
        yield _of_error("command", error)
        return
    unknown = [flag for flag in command.flags() if flag not in {a.flag for a in arguments}] if arguments else []
    if unknown:
        message = f"{where} gives {', '.join(unknown)}, which {source.name} does not take"
        fix = f"it takes {', '.join(a.flag for a in arguments)}"
        yield Finding("unknown-flag", "warning", message, fix)


def _function(spec: Any, where: str, folder: Path) -> Iterator[Finding]:
    """Whether `path.py:function` is there, by its source alone; a module's name would have to be imported."""
    example = "objective: train.py:objective, or command: python train.py --lr {lr}"
    if not isinstance(spec, str) or ":" not in spec:
        wrong = "nothing says how to train a trial" if spec is None else f"{spec!r} names no function"
        yield Finding("objective", "error", f"{where}: {wrong}", example)
        return
    place, _, name = spec.rpartition(":")
    if not place.endswith(".py"):
        return
    if not (folder / place).is_file():
        yield Finding("objective", "error", f"{where}: there is no {place} beside the file", example)
        return
    try:
        tree = ast.parse((folder / place).read_text(encoding="utf-8", errors="replace"))
    except SyntaxError as error:
        message = f"{where}: {place} is not Python: {error.msg} in line {error.lineno}"
        yield Finding("objective", "error", message, "mend the line")
        return
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom | ast.Import)]
    names = {alias.asname or alias.name for n in imports for alias in n.names}
    names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}  # assigned, it may be a function too
    if name not in functions and name not in names:
        fix = f"it has {', '.join(functions)}" if functions else f"def {name}(trial): return loss"
        yield Finding("objective", "error", f"{where}: {place} has no function {name}", fix)


# ------------------------------------------------------------------------------------------------ the search


def _engine(file: StudyFile) -> Iterator[Finding]:
    given, objectives = file.arguments, _objectives(file)
    engine, scheduler = split_pair(given["engine"], given.get("scheduler", AUTO))
    fidelity = given.get("fidelity")
    if scheduler == AUTO:
        scheduler = usual_scheduler(engine, fidelity, objectives)
    wrong = list(_refused("engine", lambda: choices(engine, objectives, given["space"])))
    chosen = None if scheduler is None else scheduler_of(scheduler)
    if chosen is not None and fidelity is None:
        message = f"scheduler: {chosen.name} must know how far a trial can be trained"
        wrong.append(Finding("scheduler", "error", message, "fidelity: {name: epoch, min: 1, max: 27}"))
    elif chosen is not None:
        wrong += _refused("scheduler", lambda: chosen.make(objectives, fidelity, 0, given["space"]))
    yield from wrong
    if chosen is None and fidelity is not None and not wrong:
        message = f"fidelity {fidelity.name} is given, but no scheduler: every trial is trained to {fidelity.high}"
        yield Finding("no-scheduler", "note", message, "scheduler: asha, which ends bad trials early; or drop fidelity")
    if chosen is not None and not wrong:
        yield from without_checkpoint(file, chosen.to_config())


def without_checkpoint(file: StudyFile, scheduler: Sequence[Any] | None) -> Iterator[Finding]:
    """`scheduler`: its name and options. A function has its trial, so nothing is known of it here."""
    if not scheduler or file.command is None or file.command.told("checkpoint_dir"):
        return
    message = (
        f"{scheduler[0]} pauses trials and lets the good ones go on, but the command is not given {{checkpoint_dir}}: a"
        " script that saves nothing trains from its first step again"
    )
    fix = "give the script {checkpoint_dir} and {fidelity}, or let it read TUNEWRIGHT_CHECKPOINT_DIR and _FIDELITY"
    fix += "; save there at each step, and load from there where a file is"
    yield Finding("no-checkpoint", "note", message, fix)


def _limits(file: StudyFile) -> Iterator[Finding]:
    budget, grid = file.arguments["budget"], file.arguments["engine"] == "grid"
    if budget.trials is None and budget.seconds is None and budget.gpu_hours is None and not grid:
        yield Finding("no-limit", "warning", "nothing limits this run", "budget: {trials: 50}, or tune --trials 50")
    name, _ = file.asked
    if name not in registry.names("runners"):
        known = ", ".join(registry.names("runners"))
        yield Finding("runner", "error", f"runner: there is none called {name!r}", f"one of {known}")
