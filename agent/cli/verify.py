"""`tunewright verify`: the winner run again on held-out data, and in words what its result was worth."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.agent.cli import reading, render, study_file
from tunewright.agent.cli.main import DEFAULT_STORE, EXIT_FAILED, EXIT_INTERRUPTED
from tunewright.agent.cli.study_file import StudyFile
from tunewright.agent.cli.study_verify import HeldOut
from tunewright.agent.commands import Command, CommandObjective
from tunewright.agent.opening import study_files
from tunewright.agent.records import VerifyingRun
from tunewright.agent.redact import redact
from tunewright.agent.store import Store
from tunewright.agent.verify import SEEDS, verify
from tunewright.agent.view import StudyView
from tunewright.engines.errors import FixArgument

USUAL_FILE = "study.yaml"


def run(
    target: str | None,
    store: Path | None,
    file: Path | None,
    trial: int | None,
    held: HeldOut,
    workers: int | None,
    as_json: bool,
) -> None:
    """`held`: what the command line says of the held-out data, before what the file says."""
    if target is not None and Path(target).suffix in (".yaml", ".yml"):
        file, target = file or Path(target), None
    asked = _file(file, target, needed=held.command is None)
    path = store or Path(asked.arguments.get("store", DEFAULT_STORE) if asked else DEFAULT_STORE)
    name = target or (asked.arguments["study"] if asked else None)
    with reading.opened(path) as opened:
        name = reading.chosen(opened, name).name
    out = sys.stderr if as_json else sys.stdout
    ended: list[VerifyingRun] = []

    def tell(done: VerifyingRun) -> None:
        ended.append(done)
        values = zip(view.objectives, done.values or (), strict=False)
        result = ", ".join(f"{o.name} {v:.6g}" for o, v in values) or f"failed: {done.error}"
        render.line(f"run {len(ended)} of {seeds}, seed {done.seed}: {result}", stream=out)

    with Store.open(path, redact=redact) as opened:
        view = StudyView(opened, reading.chosen(opened, name))
        training, runner = _training(asked, held, view)
        stated = asked.held_out if asked else HeldOut()
        seeds = held.seeds or stated.seeds or SEEDS
        quiet: Any = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        try:
            with quiet:
                found = verify(
                    view, training, study_files(opened.path, view.record), seeds=seeds, trial=trial,
                    data=held.data or stated.data, workers=workers or (asked.workers if asked else 1), runner=runner,
                    on_run=tell,
                )  # fmt: skip
        except KeyboardInterrupt:
            kept = f"The {render.count(len(ended), 'run')} that ended are kept" if ended else "No run had ended"
            render.line(f"Interrupted. {kept}; the search is as it was.", stream=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
    if as_json:
        render.document({"study": name, "store": str(path), **found.to_dict()})
    else:
        render.line()
        for text in found.sentences():
            render.line(text)
    if found.mean is None:
        sys.exit(EXIT_FAILED)


def _file(file: Path | None, study: str | None, needed: bool) -> StudyFile | None:
    """The study file that is named, else the one that lies here and is of this study."""
    if file is not None:
        return study_file.read(file)
    if not needed:
        return None
    here = Path(USUAL_FILE)
    if here.is_file() and ((found := study_file.read(here)).arguments["study"] == study or study is None):
        return found
    fix = '--file study.yaml, or --command "python test.py --lr {lr}"'
    raise FixArgument("nothing says how to train a trial", field="verify", value=study, fix=fix)


def _training(asked: StudyFile | None, held: HeldOut, view: StudyView) -> tuple[Callable[[Any], Any], Any]:
    """(the objective, its runner): the command line's, the file's for verifying, the file's for the search."""
    if asked is None:
        metrics = [o.name for o in view.objectives]
        command = Command(held.command, None, view.space.declared)
        return CommandObjective(command, metrics, Path.cwd()), ("local", {"processes": False})
    if held.command is not None:
        asked = replace(asked, command=Command(held.command, None, asked.arguments["space"].declared), objective=None)
    else:
        asked = asked.verifying
    return study_file.load_objective(asked), asked.run_by("local").runner
