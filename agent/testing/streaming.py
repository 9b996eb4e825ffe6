"""What a chat model says, streamed as server-sent events by a ScriptedServer, tool calls included.

with ScriptedServer([says(calls=[("why", {"number": 4})]), says("It stood in the default's place.")]) as server:
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.agent.testing.server import Behaviour, Exchange


def says(
    text: str = "",
    calls: Sequence[tuple[str, Mapping[str, Any]]] = (),
    *,
    usage: tuple[int, int] | None = (100, 10),
    pause: float = 0.0,
) -> Behaviour:
    """An answer word by word, `pause` seconds apart, then tool calls as (name, arguments). `usage` is (in, out) tokens.

    A request that wants no stream gets the same in one piece.
    """

    def act(exchange: Exchange) -> None:
        if not (exchange.request.body or {}).get("stream"):
            exchange.send(_whole(exchange, text, calls, usage))
            return
        handler = exchange.handler
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.close_connection = True
        for event in _events(exchange, text, calls, usage):
            exchange.write(f"data: {event}\n\n".encode())
            if pause and exchange.closing.wait(pause):
                return

    return act


def _called(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    stamp = time.monotonic_ns()
    return [
        {
            "index": i, "id": f"call-{stamp}-{i}", "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for i, (name, arguments) in enumerate(calls)
    ]  # fmt: skip


def _usage(usage: tuple[int, int] | None) -> dict[str, Any]:
    if usage is None:
        return {}
    return {
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": usage[0] + usage[1]}
    }  # fmt: skip


def _whole(
    exchange: Exchange, text: str, calls: Sequence[tuple[str, Mapping[str, Any]]], usage: tuple[int, int] | None
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = _called(calls)
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    model = exchange.request.body["model"]
    return {
        "id": "answer-1", "object": "chat.completion", "created": 0, "model": model, "choices": [choice],
        **_usage(usage),
    }  # fmt: skip


def _events(
    exchange: Exchange, text: str, calls: Sequence[tuple[str, Mapping[str, Any]]], usage: tuple[int, int] | None
) -> Iterator[str]:
    model = exchange.request.body["model"]

    def event(delta: Mapping[str, Any] | None, end: str | None = None, **more: Any) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": end}]
        head = {"id": "answer-1", "object": "chat.completion.chunk", "created": 0, "model": model}
        return json.dumps({**head, "choices": choices, **more})

    yield event({"role": "assistant", "content": ""})
    for word in re.findall(r"\s*\S+\s*$|\s*\S+", text):
        yield event({"content": word})
    if calls:
        yield event({"tool_calls": _called(calls)})
    yield event({}, "tool_calls" if calls else "stop")
    if usage is not None:
        yield event(None, **_usage(usage))
    yield "[DONE]"
