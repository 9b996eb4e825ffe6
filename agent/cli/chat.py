"""`tunewright chat`: a line from a person, an answer, and a question before anything changes."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from tunewright.agent.chat.session import GrammarTalker, Session, Talker
from tunewright.agent.cli import reading, render, study_file
from tunewright.agent.cli.main import EXIT_INTERRUPTED
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import TunewrightError
from tunewright.prompts.text import plain

ATTACH = "No language model is attached: I understand a small set of sentences. To attach one: tunewright chat --model"


def run(
    study: str | None, store: Path, file: Path | None, thread: int | None, yes: bool, talker: Talker | None
) -> None:
    objective: Any = None
    runner: Any = "local"
    if file is not None:
        asked = study_file.read(file)
        objective, runner = study_file.load_objective(asked), asked.runner
        study = study or asked.arguments["study"]
        store = asked.arguments.get("store", store)
    reading.opened(store).close()
    bench = Workbench(store, study, objective=objective, runner=runner)
    try:
        _converse(Session(bench, talker or GrammarTalker(bench), Asker(yes), thread=thread), bench)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    finally:
        if bench.running:
            render.line("The trial that trains ends first; then the study is parked.")
        bench.close()


class Asker:
    """Asks on a terminal; elsewhere only --yes lets anything change."""

    def __init__(self, yes: bool):
        self._yes = yes

    def __call__(self, question: str) -> bool:
        if self._yes:
            render.line(f"{question} yes")
            return True
        if not sys.stdin.isatty():
            render.line(f"{question} no (nobody can be asked here; --yes allows changes)")
            return False
        return click.confirm(question, default=False)


def _converse(session: Session, bench: Workbench) -> None:
    _greet(session, bench)
    while True:
        try:
            text = _line()
        except EOFError:
            return
        if text.strip().lower() in ("quit", "exit", "bye", "q"):
            return
        if not text.strip():
            continue
        try:
            for piece in session.say(text):
                click.echo(piece, nl=False)
            click.echo()
        except KeyboardInterrupt:
            click.echo("\n(broken off; the study goes on)")
        except TunewrightError as error:
            click.echo(plain(str(error), 1_000))


def _line() -> str:
    if not sys.stdin.isatty():
        text = sys.stdin.readline()
        if not text:
            raise EOFError
        render.line(f"> {text.rstrip()}")
        return text
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # history and editing of the line
    return input("> ")


def _greet(session: Session, bench: Workbench) -> None:
    before = len(session.history())
    render.line(f"Study {bench.agent.study} in {bench.path}" + (f"; thread {session.thread}" if before else ""), "bold")
    for piece in session.say("how is it going") if isinstance(session._talker, GrammarTalker) else ():
        click.echo(piece)
    if isinstance(session._talker, GrammarTalker):
        render.line(f"{ATTACH} PROVIDER:MODEL. Say help or quit.", "dim")
