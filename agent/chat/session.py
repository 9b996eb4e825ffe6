"""One conversation about one study: a talker's replies, tools with the questions that they need, and the record kept.

A talker is whatever understands people: the grammar, or a model. It is given the text and a way to call tools; what it
says and every tool that ran are kept as a thread in the study's file, so that a conversation can be taken up again.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tunewright.agent.chat.grammar import understand
from tunewright.agent.chat.screen import Screen
from tunewright.agent.chat.window import Entry, Window, last_summary, mechanical, older, size, summary_entry, window
from tunewright.agent.chat.words import MAX_LINE, tell
from tunewright.agent.redact import redact
from tunewright.agent.tools import BY_NAME, Tool
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import TunewrightError
from tunewright.engines.types import State
from tunewright.prompts.text import plain

MAX_RESULT = 8_000  # characters of a tool's result that are kept and that a model reads
BROKEN_OFF = "\n(broken off)"
PART = 400  # characters of an answer after which what came so far is kept, in case the process is killed
FULL = 0.6  # of a talker's room: then the old part is summarised

CallTool = Callable[[str, Mapping[str, Any]], Any]
"""Runs a tool by name, after a person's yes where it needs one; its result, or a message why not, as plain data."""


class Talker(Protocol):
    """`room` is how many characters of what was said before it can read."""

    name: str
    room: int

    def reply(self, before: Window, text: str, call: CallTool) -> Iterator[str]:
        """Pieces of the answer to `text`, as they come. Closing the iterator breaks the answer off."""
        ...

    def summarize(self, before: str, entries: Sequence[Entry]) -> str | None:
        """What stands for these entries and an earlier summary from now on; None where it cannot tell."""
        ...


class Declined(TunewrightError):
    """The person said no."""


class Session:
    """`confirm(question)` asks the person; it is not called for tools that only read. `on_tool(name, arguments)` hears
    of every tool that is about to run."""

    def __init__(
        self,
        bench: Workbench,
        talker: Talker,
        confirm: Callable[[str], bool],
        *,
        thread: int | None = None,
        on_tool: Callable[[str, Mapping[str, Any]], None] = lambda name, arguments: None,
    ):
        self.bench, self.talker, self._confirm, self._on_tool = bench, talker, confirm, on_tool
        self.thread = thread
        self._entries = [] if thread is None else _whole(bench.store.thread(thread))
        self._said: list[str] = []
        self._parted = 0  # pieces of it that are kept already
        self._lock = threading.Lock()
        self._summing: threading.Thread | None = None
        if bench.has_study:
            bench.rest = bench.rest or self._left_of_the_last_run()

    def history(self) -> list[Entry]:
        with self._lock:
            return list(self._entries)

    def unanswered(self) -> str | None:
        """The last question, where its answer never came to its end."""
        for role, content in reversed(self.history()):
            if role == "assistant" and not content.endswith(BROKEN_OFF):
                return None
            if role == "user":
                return content
        return None

    def say(self, text: str, talker: Talker | None = None) -> Iterator[str]:
        """The answer, piece by piece. What was said so far is kept also when the answer is broken off."""
        talker = talker or self.talker
        before = self._window(talker.room - len(text))
        self._keep("user", text)
        screen, done = Screen(), False
        reply = talker.reply(before, text, self.call)
        try:
            for piece in reply:
                if shown := screen.feed(piece):
                    self._said.append(shown)
                    self._keep_part()
                    yield shown
            if shown := screen.rest():
                self._said.append(shown)
                yield shown
            done = True
        finally:
            if isinstance(reply, Iterator) and hasattr(reply, "close"):
                reply.close()
            if not done:
                self._said.append(screen.rest() + BROKEN_OFF)
            self._keep_said()
        self._summarize_later(talker)

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Raises Declined, FixArgument for an unknown tool or arguments that do not fit, and what the tool raises."""
        tool = BY_NAME.get(name)
        if tool is None:
            raise TunewrightError(f"there is no tool {plain(name, 60)!r}", field="tool", fix=", ".join(BY_NAME))
        self._keep_said()
        given = tool.parse(arguments)
        kept = {"tool": name, "arguments": given.model_dump(mode="json", exclude_unset=True)}
        try:
            if (question := _question(tool, self.bench, given)) and not self._confirm(question):
                raise Declined(f"{tool.name}: the person said no; nothing was changed")
            self._on_tool(name, kept["arguments"])
            result = tool.function(self.bench, given)
        except TunewrightError as error:
            self._keep("tool", json.dumps({**kept, "error": plain(redact(str(error)), 1_000)}))
            raise
        if self.thread is not None and self.bench.has_study:
            self.bench.store.assign_thread(self.thread, self.bench.agent.study_id)
        self._keep("tool", json.dumps({**kept, "result": result_text(result)}))
        return result

    # ------------------------------------------------------------------------------------------ the record

    def _keep(self, role: str, text: str) -> None:
        if not text:
            return
        with self._lock:
            store = self.bench.store
            if self.thread is None:
                study = self.bench.agent.study_id if self.bench.has_study else None
                self.thread = store.create_thread(study, plain(text, 80))
            store.append_message(self.thread, role, text)
            self._entries.append((role, redact(text)))

    def _keep_part(self) -> None:
        """What was said since the last part, once it is long enough; the whole answer takes the parts' place."""
        part = "".join(self._said[self._parted :])
        if len(part) >= PART and self.thread is not None:
            self.bench.store.append_message(self.thread, "part", part)
            self._parted = len(self._said)

    def _keep_said(self) -> None:
        said, self._said, self._parted = "".join(self._said), [], 0
        self._keep("assistant", said)

    def _window(self, room: int) -> Window:
        """What a talker reads of the thread so far; a part that does not fit is summarised now."""
        found = window(self.history())
        if size(found) > room:
            covered = older(found, room)
            self._keep_summary(mechanical(found.summary, found.entries[:covered]), covered)
            found = window(self.history())
        return found

    def _keep_summary(self, text: str, covered: int) -> None:
        _, before = last_summary(self.history())
        self._keep(*summary_entry(text, before + covered))

    def _summarize_later(self, talker: Talker) -> None:
        """A long thread gets its summary while the person reads the answer."""
        found = window(self.history())
        if size(found) <= FULL * talker.room or (self._summing is not None and self._summing.is_alive()):
            return
        covered = older(found, talker.room)

        def work() -> None:
            with contextlib.suppress(TunewrightError):  # the person left meanwhile, and the file is closed
                text = talker.summarize(found.summary, found.entries[:covered])
                if text and window(self.history()).summary == found.summary:
                    self._keep_summary(text, covered)

        self._summing = threading.Thread(target=work, name="tunewright-summary", daemon=True)
        self._summing.start()

    def _left_of_the_last_run(self) -> int | None:
        """Trials that a run of this thread had still to do when its process ended."""
        for role, content in reversed(self._entries):
            if role == "tool" and (kept := json.loads(content))["tool"] == "run" and "result" in kept:
                started = json.loads(kept["result"])
                agent = self.bench.agent
                after = agent._store.trials(agent.study_id, after=started["first_number"] - 1)
                return (
                    max(
                        started["trials_in_the_background"]
                        - sum(r.state not in (State.RUNNING, State.WAITING) for r in after),
                        0,
                    )
                    or None
                )
        return None


def _whole(entries: Sequence[Entry]) -> list[Entry]:
    """A thread as it is kept, without the parts of answers that came to their end; those of one that a kill cut off are
    an answer that was broken off."""
    whole: list[Entry] = []
    parts: list[str] = []
    for role, content in [*entries, ("end", "")]:
        if role == "part":
            parts.append(content)
            continue
        if parts and role in ("user", "end"):
            whole.append(("assistant", "".join(parts) + BROKEN_OFF))
        if role != "summary":
            parts = []
        whole.append((role, content))
    return whole[:-1]


def result_text(result: Any) -> str:
    """A tool's result as it is kept and as a model reads it: JSON, or text, without keys and cut to MAX_RESULT."""
    if not isinstance(result, str):
        result = json.dumps(result, ensure_ascii=False, default=str, separators=(",", ":"))
    text = redact(result)
    return text if len(text) <= MAX_RESULT else f"{text[:MAX_RESULT]}… (cut; ask for less)"


def _question(tool: Tool, bench: Workbench, given: Any) -> str:
    """What the person is asked, safe to show; several lines where there is something to look at first, nothing where
    nothing has to be asked."""
    head, *more = redact(tool.question(bench, given)).splitlines() or [""]
    lines = [plain(head, MAX_LINE), *(f"  {plain(line, MAX_LINE)}" for line in more)]
    lines[0] = f"{lines[0][:1].upper()}{lines[0][1:]}" + (":" if more else "?")
    return "\n".join(lines) if head else ""


class GrammarTalker:
    """Answers without any model."""

    name = "grammar"
    room = 1_000_000_000  # it reads nothing of what was said before

    def __init__(self, bench: Workbench):
        self._bench = bench

    def reply(self, before: Window, text: str, call: CallTool) -> Iterator[str]:
        meant = understand(text, self._bench.agent.space if self._bench.has_study else None)
        if meant.tool is None:
            yield meant.reply
            return
        try:
            result = call(meant.tool, meant.arguments)
        except Declined:
            yield "Left as it is."
        except TunewrightError as error:
            yield plain(str(error), 2 * MAX_LINE)
        else:
            yield "\n".join(tell(meant.tool, result))

    def summarize(self, before: str, entries: Sequence[Entry]) -> str | None:
        return None
