"""Every request of the agent to its model, written down before and after, and made again where that may help."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool

from tunewright.agent.chat.calls import CallBook
from tunewright.plugins.chat.models import completion, content, failure
from tunewright.prompts import Prompt

ATTEMPTS = 3
BACKOFF = 0.5  # seconds before the second attempt; doubles
BEFORE_A_STUDY = ("files", "draft", "create_study")  # the other tools are of a study, and described once there is one
ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


class Books(AgentMiddleware[Any, Any, Any]):
    """`shown` is set by whoever shows an answer's first piece: what a person has read is not asked for again."""

    def __init__(self, book: CallBook, prompt: Prompt, model: str, has_study: Callable[[], bool]):
        super().__init__()
        self._book, self._prompt, self._model, self._has_study = book, prompt, model, has_study
        self.shown = False

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        system = [request.system_message] if request.system_message is not None else []
        messages = contents([*system, *request.messages])
        if not self._has_study():
            request = request.override(tools=[t for t in request.tools if getattr(t, "name", "") in BEFORE_A_STUDY])
        schemas = sum(len(json.dumps(t.args_schema, default=str)) for t in request.tools if isinstance(t, BaseTool))
        for attempt in range(1, ATTEMPTS + 1):
            row = self._book.begin(self._prompt, messages, schemas, attempt)
            self.shown = False
            try:
                response = await handler(request)
            except asyncio.CancelledError:
                self._book.end(row, None, "broken off")
                raise
            except Exception as error:
                failed = failure(self._model, error)
                self._book.end(row, None, str(failed))
                if attempt == ATTEMPTS or not failed.retryable or self.shown:
                    raise failed from None
                await asyncio.sleep(BACKOFF * 2 ** (attempt - 1))
                continue
            answer = next((m for m in response.result if isinstance(m, AIMessage)), None)
            self._book.end(row, completion(answer) if answer is not None else None)
            return response
        raise AssertionError("every attempt returns or raises")


def contents(messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    """Messages as the books keep them: (role, text)."""
    return [(ROLES.get(message.type, message.type), content(message)) for message in messages]
