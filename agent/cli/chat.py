"""`tunewright chat`: a line from a person, an answer, and a question before anything changes."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from tunewright.agent.chat.session import GrammarTalker, Session, Talker
from tunewright.agent.cli import reading, render
from tunewright.agent.cli.main import EXIT_INTERRUPTED
from tunewright.agent.cli.waiting import Waiting
from tunewright.agent.tool_arguments import Nothing
from tunewright.agent.tool_reading import study as glance
from tunewright.agent.tools import BY_NAME
from tunewright.agent.why import values_text
from tunewright.agent.workbench import Run, Workbench
from tunewright.engines.errors import FixArgument, TunewrightError
from tunewright.plugins import registry
from tunewright.prompts.text import plain

ATTACH = (
    "No language model is attached: I understand a small set of sentences. To attach one: tunewright chat --model "
    "openai:MODEL (with OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own). Say help or quit."
)
WITH_MODEL = "You talk to {model}. /help lists sentences that need no model; put a / in front. quit leaves."
LONGEST_WORD = 25
QUIT = ("quit", "exit", "bye", "q")


def run(
    study: str | None, store: Path, file: Path | None, thread: int | None, fresh: bool, yes: bool, model: str | None
) -> None:
    if study is not None and file is None:
        reading.opened(store).close()  # a study that is named must be there
    bench = Workbench(store, study, file=file)
    try:
        _Chat(bench, _chosen_thread(bench, thread, fresh), yes, model).converse()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    finally:
        if bench.running:
            render.line("The trial that trains ends first; then the study is parked. Ctrl-C stops it at once.")
        with contextlib.suppress(KeyboardInterrupt):
            bench.close()


def _chosen_thread(bench: Workbench, thread: int | None, fresh: bool) -> int | None:
    """The conversation to go on with: the one that is named, else the latest about this study."""
    if not bench.path.exists():
        if thread is not None:
            raise FixArgument("there is no such conversation", field="--thread", value=thread, fix="leave it out")
        return None
    known = bench.store.threads(bench.agent.study_id if bench.has_study else None)
    if thread is not None and thread not in known:
        fix = f"one of {', '.join(map(str, known))}" if known else "leave it out"
        raise FixArgument("there is no such conversation about this study", field="--thread", value=thread, fix=fix)
    return thread or (known[-1] if known and not fresh else None)


class Asker:
    """Asks on a terminal; elsewhere only --yes lets anything change."""

    def __init__(self, yes: bool):
        self._yes = yes

    def __call__(self, question: str) -> bool:
        *before, last = question.splitlines()
        for line in before:
            render.line(line, "yellow")
        if before:
            render.line(last, "yellow")
            last = "Do that?"
        if self._yes:
            render.line(f"{last} yes", "yellow")
            return True
        if not sys.stdin.isatty():
            render.line(f"{last} no (nobody can be asked here; --yes allows changes)", "yellow")
            return False
        return click.confirm(last, default=False)


class _Paper:
    """Writes an answer as it comes, broken between words on a terminal."""

    def __init__(self) -> None:
        self._column, self._word = 0, ""
        self._wrapped = False  # whether the line that is written began by itself, so that blanks do not lead it

    def write(self, piece: str) -> None:
        if not sys.stdout.isatty():
            click.echo(piece, nl=False)
            self._column = 0 if piece.endswith("\n") else 1
            return
        for part in re.split(r"(\s)", piece):
            if not part.isspace():
                self._word += part
                continue
            self._put()
            if part == "\n" or self._column >= _width():
                click.echo()
                self._column, self._wrapped = 0, part != "\n"
            elif self._column or not self._wrapped:
                click.echo(" ", nl=False)
                self._column += 1
        if self._column + len(self._word) < _width() - LONGEST_WORD:
            self._put()  # it cannot reach the edge, so nobody has to wait for its end
        sys.stdout.flush()

    def _put(self) -> None:
        wide = len(self._word)
        if self._column and self._column + wide > _width():
            click.echo()
            self._column, self._wrapped = 0, True
        click.echo(self._word, nl=False)
        self._column, self._word = self._column + wide, ""

    def line_break(self) -> None:
        """What follows begins a line."""
        self._put()
        if self._column:
            click.echo()
        self._column, self._wrapped = 0, False


def _width() -> int:
    return max(shutil.get_terminal_size().columns - 1, 20)


class _Chat:
    """The conversation on a terminal or a pipe."""

    def __init__(self, bench: Workbench, thread: int | None, yes: bool, model: str | None):
        self._bench, self._model = bench, model
        self._grammar = GrammarTalker(bench)
        self._session = Session(bench, self._grammar, Asker(yes), thread=thread, on_tool=self._told_tool)
        self._at_prompt = self._answering = self._left = False
        self._late: list[str] = []  # notices that came while an answer was written
        self._voice = threading.Lock()
        self._screen = _Paper()

    def converse(self) -> None:
        self._bench.on_end, self._bench.on_wait = self._run_ended, Waiting(self._bench)
        self._greet()
        with ThreadPoolExecutor(1) as pool:  # LangChain takes a second to load; people read and type meanwhile
            attached = pool.submit(self._attach)
            if not sys.stdin.isatty():
                attached.result()
            attached.add_done_callback(self._attached)
            self._talk(attached)
            self._left = True

    def _talk(self, attached: Future[Talker]) -> None:
        while True:
            try:
                text = self._line().strip()
            except EOFError:
                return
            if text.lower() in QUIT:
                return
            if not text.startswith("/"):  # the grammar needs no model
                self._session.talker = attached.result()
            if text.lower() == "again":
                text = self._session.unanswered() or ""
                if not text:
                    render.line("Every question was answered.")
            if text:
                self._answering = True
                try:
                    self._answer(text)
                finally:
                    self._answered()

    def _attach(self) -> Talker:
        if self._model is None:
            return self._grammar
        made: Talker = registry.load("talkers", "langchain")(self._model, self._bench)
        return made

    def _attached(self, attached: Future[Talker]) -> None:
        """A model that cannot be had is told while the person still types; the next line ends the chat with it."""
        if not self._left and (error := attached.exception()):
            self._notice(plain(error, 500))

    def _answer(self, text: str) -> None:
        slash = text.startswith("/") and len(text) > 1
        answer = self._session.say(text[1:] if slash else text, self._grammar if slash else None)
        try:
            with contextlib.closing(answer):  # type: ignore[type-var]
                for piece in answer:
                    self._screen.write(piece)
            self._screen.line_break()
        except KeyboardInterrupt:
            going = "; the study goes on" if self._bench.running else ""
            self._screen.line_break()
            click.echo(f"(broken off{going})")
        except TunewrightError as error:
            self._screen.line_break()
            render.line(str(error))

    def _line(self) -> str:
        if not sys.stdin.isatty():
            text = sys.stdin.readline()
            if not text:
                raise EOFError
            render.line(f"> {text.rstrip()}")
            return text
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # history and editing of the line
        self._at_prompt = True
        try:
            return input("> ")
        finally:
            self._at_prompt = False

    # ------------------------------------------------------------------------------------------ notices

    def _told_tool(self, name: str, arguments: Mapping[str, Any]) -> None:
        """What a model looks at is shown; what it changes was asked."""
        if self._session.talker is not self._grammar and not BY_NAME[name].changes:
            self._screen.line_break()
            given = f" {values_text(arguments)}" if arguments else ""
            render.line(f"  [{name}{given}]", "dim")

    def _run_ended(self, run: Run) -> None:
        """Called in the training thread."""
        best = self._bench.agent.best if len(self._bench.agent.objectives) == 1 else None
        told = f"{run.ended} of {render.count(run.trials, 'trial')} ended"
        told += f"; best so far: trial {best.number}, {best.value:.6g}" if best is not None else ""
        told += f"; trouble: {run.trouble}" if run.trouble else ""
        self._notice(f"[the run is over: {plain(told, 500)}]")

    def _notice(self, text: str) -> None:
        """From another thread; what is being typed stays, and an answer is not cut in two."""
        with self._voice:
            if self._answering:
                self._late.append(text)
                return
        if self._at_prompt:
            import readline

            click.echo(f"\r\x1b[K{text}\n> {readline.get_line_buffer()}", nl=False)
            sys.stdout.flush()
        else:
            # A line that is written over while somebody waits is no line to go on with.
            click.echo(("\r\x1b[K" if render.terminal(sys.stderr) else "") + text, err=True)

    def _answered(self) -> None:
        with self._voice:
            self._answering, late, self._late = False, self._late, []
        for text in late:
            self._notice(text)

    def _greet(self) -> None:
        bench, session = self._bench, self._session
        if not bench.has_study:
            render.line(f"No study is in {bench.path} yet.", "bold")
            ask = "Say `files` to see the scripts here, `tune train.py` to make a study of one."
            render.line(ask if self._model is None else "Say what you would like to tune: a training script here?")
        else:
            render.line(f"Study {bench.agent.study} in {bench.path}", "bold")
            from tunewright.agent.chat.words import tell

            for line in tell("study", glance(bench, Nothing())):
                render.line(line)
        if bench.notice:
            render.line(f"Notice: {bench.notice}.", "yellow")
        if (said := len(session.history())) and session.thread is not None:
            render.line(f"Going on with conversation {session.thread} ({said} entries); --new begins another.", "dim")
        if unanswered := session.unanswered():
            render.line(f"Not answered yet: {plain(unanswered, 200)}. `again` asks it again.", "yellow")
        render.line(ATTACH if self._model is None else WITH_MODEL.format(model=self._model), "dim")
