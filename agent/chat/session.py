"""One conversation about one study: a talker's replies, tools with the questions that they need, and the record kept.

A talker is whatever understands people: the grammar, or a model. It is given the text and a way to call tools; what it
says and every tool that ran are kept as a thread in the study's file, so that a conversation can be taken up again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tunewright.agent.chat.grammar import understand
from tunewright.agent.tools import BY_NAME, Tool
from tunewright.agent.why import values_text
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import TunewrightError
from tunewright.prompts.text import plain

MAX_LINE = 300

CallTool = Callable[[str, Mapping[str, Any]], Any]
"""Runs a tool by name, after a person's yes where it needs one; its result, or a message why not, as plain data."""


class Talker(Protocol):
    name: str

    def reply(self, history: Sequence[tuple[str, str]], text: str, call: CallTool) -> Iterator[str]:
        """Pieces of the answer to `text`, as they come. `history` holds (role, content) of what was said before."""
        ...


class Declined(TunewrightError):
    """The person said no."""


class Session:
    """`confirm(question)` asks the person; it is not called for tools that only read."""

    def __init__(self, bench: Workbench, talker: Talker, confirm: Callable[[str], bool], *, thread: int | None = None):
        self.bench, self._talker, self._confirm = bench, talker, confirm
        store = bench.agent._store
        self.thread = thread or store.create_thread(bench.agent.study_id, f"chat about {bench.agent.study}")

    def history(self) -> list[tuple[str, str]]:
        return self.bench.agent._store.thread(self.thread)

    def say(self, text: str) -> Iterator[str]:
        """The answer, piece by piece. What was said so far is kept also when the answer is broken off."""
        before = self.history()
        self._keep("user", text)
        said: list[str] = []
        try:
            for piece in self._talker.reply(before, text, self.call):
                said.append(piece)
                yield piece
        finally:
            self._keep("assistant", "".join(said))

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Raises Declined, FixArgument for an unknown tool or arguments that do not fit, and what the tool raises."""
        tool = BY_NAME.get(name)
        if tool is None:
            raise TunewrightError(f"there is no tool {plain(name, 60)!r}", field="tool", fix=", ".join(BY_NAME))
        given = tool.parse(arguments)
        if tool.changes and not self._confirm(_question(tool, given)):
            raise Declined(f"{tool.name}: the person said no")
        result = tool.function(self.bench, given)
        self._keep("tool", json.dumps({"tool": name, "arguments": given.model_dump(mode="json")}))
        return result

    def _keep(self, role: str, text: str) -> None:
        if text:
            self.bench.agent._store.append_message(self.thread, role, text)


def _question(tool: Tool, given: Any) -> str:
    words = plain(tool.asks(given), MAX_LINE)
    return f"{words[:1].upper()}{words[1:]}?"


class GrammarTalker:
    """Answers without any model."""

    name = "grammar"

    def __init__(self, bench: Workbench):
        self._bench = bench

    def reply(self, history: Sequence[tuple[str, str]], text: str, call: CallTool) -> Iterator[str]:
        meant = understand(text, self._bench.agent.space)
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


# ------------------------------------------------------------------------------------------------ results in words


def tell(tool: str, result: Any) -> list[str]:
    """A tool's result as lines for a person."""
    if isinstance(result, str):
        return [plain(line, MAX_LINE) for line in result.splitlines()]
    lines = _WORDS[tool](result) if tool in _WORDS else [str(line) for line in result]
    return [plain(line, MAX_LINE) if not line.startswith(" ") else "  " + plain(line, MAX_LINE) for line in lines]


def _study(found: Mapping[str, Any]) -> list[str]:
    goal = ", ".join(f"{o['direction']} {o['name']}" for o in found["objectives"])
    counts = ", ".join(f"{n} {state}" for state, n in found["trials"].items()) or "none yet"
    lines = [f"{found['study']}: {goal}; trials: {counts}" + ("; training now" if found["training"] else "")]
    if found["best"]:
        lines.append(f"Best so far: {_trial_line(found['best'])}")
    lines += [f"Note: {note}" for note in found["notes"]]
    return lines + ([f"Trouble: {found['trouble']}"] if found.get("trouble") else [])


def _trial_line(row: Mapping[str, Any]) -> str:
    values = ", ".join(f"{name} {value:.6g}" for name, value in row["values"].items()) or row["state"]
    error = f"  error: {row['error']}" if row.get("error") else ""
    return f"trial {row['number']}: {values}  {values_text(row['params'])}  ({row['by']}){error}"


def _trial(found: Mapping[str, Any]) -> list[str]:
    curve = found["curve"]
    lines = [_trial_line(found)]
    if curve:
        lines.append(f"Curve: {curve[0][1]:.4g} at {curve[0][0]:g} to {curve[-1][1]:.4g} at {curve[-1][0]:g}")
    return lines + ([f"Its last words: {found['stderr']}"] if found.get("stderr") else [])


def _compare(found: Mapping[str, Any]) -> list[str]:
    heads = [
        f"trial {n}: " + (", ".join(f"{k} {v:.6g}" for k, v in values.items()) or "no result")
        for n, values in zip(found["trials"], found["values"], strict=True)
    ]
    return heads + [f"  {name}: {' | '.join(map(str, values))}" for name, values in found["differ_in"].items()]


def _doctor(found: Sequence[Mapping[str, Any]]) -> list[str]:
    if not found:
        return ["Nothing is wrong that the doctor knows of."]
    return [line for f in found for line in (f"{f['severity']}: {f['message']}", f"  fix: {f['fix']}")]


def _ideas(found: Mapping[str, Any]) -> list[str]:
    if not found["ideas"]:
        return [f"No idea: {found.get('silence', 'the advisor had none')}"]
    return [
        line
        for idea in found["ideas"]
        for line in (
            values_text(idea["params"]),
            f"  because: {idea['because']}",
            *(f"  but: {p}" for p in idea["problems"]),
        )
    ]


def _advice(found: Sequence[Mapping[str, Any]]) -> list[str]:
    from tunewright.agent.worth import Worth

    return [str(Worth(**row)) for row in found] or ["No advice was asked for."]


_WORDS: Mapping[str, Callable[[Any], list[str]]] = {
    "study": _study,
    "trials": lambda rows: [_trial_line(row) for row in rows] or ["No trial has a result yet."],
    "trial": _trial,
    "compare": _compare,
    "importance": lambda shares: [f"{name}: {share:.0%}" for name, share in shares.items()],
    "doctor": _doctor,
    "curve": lambda found: [
        f"trial {found['number']}, {found['state']}: {found['text']}"
        + (f"; {found['error']}" if "error" in found else "")
    ],
    "search": lambda hits: (
        [f"trial {hit['trial']}, {hit['kind']}: {hit['text']}" for hit in hits] or ["Nothing found."]
    ),
    "ideas": _ideas,
    "advice": _advice,
}
