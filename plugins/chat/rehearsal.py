"""A first answer given to nobody, so that the person's own first question meets code that has run before.

The first request of a process is slow for reasons that no model has a part in: modules that are imported late, types
that are read once, the first connection. They cost a third of a second. So the agent talks once with a model that this
process plays itself, over a socket of this machine, while the person still reads or types.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.messages import HumanMessage
from langsmith import tracing_context

LONGEST = 20.0  # seconds, after which the first question goes out unrehearsed
_CHUNK = {"id": "r", "object": "chat.completion.chunk", "created": 0, "model": "rehearsal"}
_SAID = ({"delta": {"role": "assistant", "content": "Ready."}}, {"delta": {}, "finish_reason": "stop"})
_EVENTS = [
    *({**_CHUNK, "choices": [{"index": 0, **said}]} for said in _SAID),
    {**_CHUNK, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}},
]
_BODY = "".join(f"data: {json.dumps(event)}\n\n" for event in _EVENTS) + "data: [DONE]\n\n"
_ANSWER = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(_BODY)}\r\n\r\n{_BODY}".encode()

_once = threading.Lock()
_rehearsed = False


async def rehearse(agent_of: Callable[[Any], Any]) -> None:
    """Once in a process. `agent_of(model)` makes the agent."""
    global _rehearsed
    with _once:
        if _rehearsed:
            return
        _rehearsed = True
    # Whatever goes wrong here is no trouble of the person's: the first answer is slower, or says it better.
    with contextlib.suppress(Exception):
        await asyncio.wait_for(_rehearse(agent_of), LONGEST)


async def _rehearse(agent_of: Callable[[Any], Any]) -> None:
    import openai

    # A proxy of the environment is no place for this, nor is a service that traces conversations.
    async with openai.DefaultAsyncHttpxClient(trust_env=False) as client:
        server = await asyncio.start_server(_play, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            model = init_chat_model(
                "rehearsal", model_provider="openai", base_url=f"http://127.0.0.1:{port}/v1", api_key="none",
                http_async_client=client, max_retries=0, stream_usage=True, use_responses_api=False,
            )  # fmt: skip
            with tracing_context(enabled=False):
                stream = agent_of(model).astream({"messages": [HumanMessage("Are you ready?")]}, stream_mode="messages")
                async for _ in stream:
                    pass


async def _play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.write(_ANSWER)
        await writer.drain()
    writer.close()
