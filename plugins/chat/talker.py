"""A chat model that talks about a study: LangChain's agent over the study tools.

The model is asked in a thread with an event loop of its own, so that closing an answer aborts the request at once.
Tools run in the thread that reads the answer, one after the other: it is the one that can ask the person.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    ModelCallLimitMiddleware,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import ToolException

from tunewright.agent.chat.calls import CallBook
from tunewright.agent.chat.session import CallTool, result_text
from tunewright.agent.chat.window import Entry, Window
from tunewright.agent.redact import redact
from tunewright.agent.tool_arguments import Nothing
from tunewright.agent.tool_reading import study
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import TunewrightError
from tunewright.plugins.chat.books import Books, contents
from tunewright.plugins.chat.models import chat_model, completion, failure, price_of_chat
from tunewright.plugins.chat.rehearsal import rehearse
from tunewright.plugins.chat.tools import closed, error_text, fenced, remote_tools
from tunewright.prompts import load

CHARACTERS_PER_TOKEN = 3
ASSUMED_TOKENS = 32_000  # a model's window where LangChain does not know it
MOST_TOKENS = 48_000  # of a window: more history costs more than it helps
MAX_CALLS = 25  # of the model, for one answer
MAX_STATE = 4_000  # characters of the study at a glance
SUMMARY_SECONDS = 60.0


class ModelTalker:
    """`model` is "PROVIDER:MODEL" or a LangChain chat model. Raises FixArgument where it cannot be had."""

    def __init__(self, model: str | BaseChatModel, bench: Workbench):
        self._bench = bench
        self._model = chat_model(model) if isinstance(model, str) else model
        self.name = model if isinstance(model, str) else type(model).__name__
        window = (self._model.profile or {}).get("max_input_tokens") or ASSUMED_TOKENS
        tokens = min(int(window) // 2, MOST_TOKENS)
        self.room = tokens * CHARACTERS_PER_TOKEN // 2
        self._prompt = load("chat")
        self._book = CallBook(bench, self.name, price_of_chat(self.name))
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._books = Books(self._book, self._prompt, self.name, lambda: bench.has_study)
        limits: list[AgentMiddleware[Any, Any, Any]] = [
            ModelCallLimitMiddleware(run_limit=MAX_CALLS),
            ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=tokens, keep=3)]),
        ]
        tools = remote_tools(self._remote)
        system, _ = self._prompt.render(state="", said="")

        def agent_of(model: BaseChatModel, *middleware: AgentMiddleware[Any, Any, Any]) -> Any:
            return create_agent(model, tools, system_prompt=system, middleware=[*limits, *middleware])

        self._agent = agent_of(self._model, self._books)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="tunewright-model", daemon=True).start()
        self._ready = asyncio.run_coroutine_threadsafe(rehearse(agent_of), self._loop)

    # ------------------------------------------------------------------------------------------ an answer

    def ready(self) -> None:
        """Returns once the first answer was rehearsed; a question before that waits for it."""
        self._ready.result()

    def reply(self, before: Window, text: str, call: CallTool) -> Iterator[str]:
        """Raises AdvisorFailed when the model does not answer, and CapReached."""
        self.ready()
        inbox = self._inbox = queue.SimpleQueue()
        messages = [*_messages(before.entries), HumanMessage(self._asked(before, text))]
        future = asyncio.run_coroutine_threadsafe(self._answer(messages, inbox), self._loop)
        try:
            while True:
                came = inbox.get()
                if isinstance(came, str):
                    yield came
                elif isinstance(came, _Wanted):
                    came.settle(*_carried_out(call, came))
                elif came is None:
                    return
                else:
                    raise came
        finally:
            future.cancel()

    async def _answer(self, messages: list[BaseMessage], inbox: queue.SimpleQueue[Any]) -> None:
        """Puts pieces of text into `inbox`, tools that are wanted, and at the end None or what went wrong."""
        try:
            stream = self._agent.astream(
                {"messages": messages}, stream_mode="messages", config={"recursion_limit": 5 * MAX_CALLS}
            )
            async for message, _ in stream:
                if isinstance(message, AIMessageChunk | AIMessage) and (piece := str(message.text)):
                    self._books.shown = True
                    inbox.put(piece)
            inbox.put(None)
        except asyncio.CancelledError:
            raise
        except TunewrightError as error:
            inbox.put(error)
        except Exception as error:
            inbox.put(failure(self.name, error))

    async def _remote(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A tool, carried out by the thread that reads the answer."""
        wanted = _Wanted(name, arguments)
        self._inbox.put(wanted)
        return await wanted.result

    def _asked(self, before: Window, text: str) -> str:
        """The person's words under the state of things, which is data."""
        if self._bench.has_study:
            state = result_text(study(self._bench, Nothing()))
            state = f"The study now: {state[:MAX_STATE]}"
        else:
            state = "There is no study yet."
        if before.summary:
            state += f"\nEarlier in this conversation: {before.summary}"
        _, user = self._prompt.render(state=f"<data>\n{closed(state)}\n</data>", said=text)
        return user

    # ------------------------------------------------------------------------------------------ a summary

    def summarize(self, before: str, entries: Sequence[Entry]) -> str | None:
        prompt = load("recap")
        told = "\n".join(f"{role}: {content[:2_000]}" for role, content in entries)
        room = MOST_TOKENS * CHARACTERS_PER_TOKEN
        system, user = prompt.render(before=closed(before) or "none", conversation=closed(told[-room:]))
        messages = [SystemMessage(system), HumanMessage(user)]
        try:
            attempt = self._book.begin(prompt, contents(messages), 0)
        except TunewrightError:
            return None
        future = asyncio.run_coroutine_threadsafe(self._model.ainvoke(messages), self._loop)
        try:
            answer = future.result(SUMMARY_SECONDS)
        except Exception as error:
            future.cancel()
            self._book.end(attempt, None, str(failure(self.name, error)))
            return None
        self._book.end(attempt, completion(answer))
        return redact(str(answer.text)).strip() or None


class _Wanted:
    """A tool that the model asked for. Made inside the event loop."""

    def __init__(self, name: str, arguments: Mapping[str, Any]):
        self.name, self.arguments = name, arguments
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[str] = self._loop.create_future()

    def settle(self, text: str, error: bool) -> None:
        def now() -> None:
            if self.result.done():
                return
            if error:
                self.result.set_exception(ToolException(text))
            else:
                self.result.set_result(text)

        self._loop.call_soon_threadsafe(now)


def _carried_out(call: CallTool, wanted: _Wanted) -> tuple[str, bool]:
    """The tool's result as the model reads it, and whether it is an error."""
    try:
        return fenced(call(wanted.name, wanted.arguments)), False
    except TunewrightError as error:
        return error_text(error), True


def _messages(entries: Sequence[Entry]) -> list[BaseMessage]:
    """What was said, as a model reads it."""
    found: list[BaseMessage] = []
    for i, (role, content) in enumerate(entries):
        if role == "user":
            found.append(HumanMessage(content))
        elif role == "assistant":
            found.append(AIMessage(content))
        elif role == "tool":
            kept = json.loads(content)
            called = {"name": kept["tool"], "args": kept["arguments"], "id": f"call-{i}", "type": "tool_call"}
            text = closed(kept["error"]) if "error" in kept else fenced(kept["result"])
            found += [AIMessage("", tool_calls=[called]), ToolMessage(text, tool_call_id=f"call-{i}")]
    return found
