"""A real HTTP server on 127.0.0.1 that answers like an OpenAI-compatible endpoint, or fails in the ways that they do.

    with ScriptedServer([status(503), answer({"stance": "abstain", "candidates": []})]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)

Each request takes the next behaviour of the script; the last one repeats. A behaviour is a callable of the
`Exchange`; a plain string or mapping stands for `answer(...)`.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeAlias


@dataclass(slots=True)
class Request:
    """A request as it arrived. `sent` counts the bytes of the answer's body that were handed to the network."""

    path: str
    headers: Mapping[str, str]  # lower-case names
    body: Any  # decoded JSON, None where it was none
    sent: int = 0


@dataclass(slots=True)
class Exchange:
    """One request and the means to answer it."""

    request: Request
    handler: BaseHTTPRequestHandler = field(repr=False)
    closing: threading.Event = field(repr=False)  # set when the server shuts down

    @property
    def is_responses(self) -> bool:
        return self.request.path.endswith("/responses")

    def head(self, code: int, length: int, headers: Mapping[str, str] | None = None) -> None:
        self.handler.send_response(code)
        sent = {"content-type": "application/json", "x-request-id": "req-scripted", "content-length": str(length)}
        for name, value in (sent | dict(headers or {})).items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, data: bytes) -> None:
        self.request.sent += len(data)  # before the write: a client that has read the data may look at the count
        self.handler.wfile.write(data)

    def send(self, body: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(code, len(data), headers)
        self.write(data)


Behaviour: TypeAlias = Callable[[Exchange], None]
Script: TypeAlias = Sequence[Any] | Callable[[Request], Any]


def _envelope(
    exchange: Exchange, text: str | None, usage: Mapping[str, Any] | None, refused: str | None = None, cut: bool = False
) -> dict[str, Any]:
    """What /chat/completions or /responses wraps around an answer. `usage` stands as it is; None leaves it out."""
    model = exchange.request.body.get("model") if isinstance(exchange.request.body, dict) else None
    body: dict[str, Any] = {"id": "answer-1", "model": model}
    if usage is not None:
        body["usage"] = dict(usage)
    if not exchange.is_responses:
        message = {"role": "assistant", "content": text, "refusal": refused}
        choice = {"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}
        return body | {"object": "chat.completion", "created": 0, "choices": [choice]}
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    if refused:
        part = {"type": "refusal", "refusal": refused}
    item = {"type": "message", "id": "message-1", "role": "assistant", "status": "completed", "content": [part]}
    body |= {"object": "response", "created_at": 0, "status": "completed", "output": [item]}
    if cut:
        body |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return body


# ------------------------------------------------------------------------------------------------ behaviours


def answer(
    text: str | Mapping[str, Any], usage: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """A good answer that holds `text` (a mapping is sent as JSON)."""
    content = text if isinstance(text, str) else json.dumps(text)
    return lambda exchange: exchange.send(_envelope(exchange, content, usage), headers=headers)


def prose(text: str = "I would lower the learning rate.") -> Behaviour:
    """A well-formed answer that is no JSON."""
    return answer(text)


def refusal(text: str = "I cannot help with that.") -> Behaviour:
    return lambda exchange: exchange.send(_envelope(exchange, None, None, refused=text))


def truncated(text: str = '{"stance": "pro', usage: Mapping[str, Any] | None = None) -> Behaviour:
    """An answer that ran into its output limit."""
    return lambda exchange: exchange.send(_envelope(exchange, text, usage, cut=True))


def status(
    code: int,
    headers: Mapping[str, str] | None = None,
    message: str = "scripted failure",
    error_code: str | None = None,
) -> Behaviour:
    """An error as OpenAI words it: {"error": {"message":, "code":}}."""
    body = {"error": {"message": message, "type": "scripted", "code": error_code}}
    return lambda exchange: exchange.send(body, code, headers)


def torn() -> Behaviour:
    """Status 200 and a JSON body that breaks off."""
    return lambda exchange: exchange.send(json.dumps(_envelope(exchange, "{}", None)).encode()[:-9])


def slow(seconds: float, then: Any = "{}") -> Behaviour:
    """Silence, then `then`."""

    def act(exchange: Exchange) -> None:
        if not exchange.closing.wait(seconds):
            _behaviour(then)(exchange)

    return act


def drip(every: float = 0.02, length: int = 100_000) -> Behaviour:
    """A body that comes one byte at a time, so that no single read ever times out."""

    def act(exchange: Exchange) -> None:
        exchange.head(200, length)
        for _ in range(length):
            exchange.write(b" ")
            if exchange.closing.wait(every):
                return

    return act


def reset() -> Behaviour:
    """The connection is reset before any answer."""

    def act(exchange: Exchange) -> None:
        # A zero linger time makes close() send RST instead of FIN; the socket closes with its last file object.
        handler = exchange.handler
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.rfile.close()
        handler.connection.close()

    return act


def huge(size: int = 64_000_000, code: int = 200) -> Behaviour:
    """A valid answer of `size` bytes."""

    def act(exchange: Exchange) -> None:
        start, end = json.dumps(_envelope(exchange, "SPLIT", None)).encode().split(b"SPLIT")
        filler = b"x" * 65_536
        left = size - len(start) - len(end)
        exchange.head(code, size)
        exchange.write(start)
        while left > 0:
            exchange.write(filler[:left])
            left -= len(filler)
        exchange.write(end)

    return act


def _behaviour(entry: Any) -> Behaviour:
    return entry if callable(entry) else answer(entry)


# ------------------------------------------------------------------------------------------------ server


class ScriptedServer:
    """A context manager; `base_url` ends in /v1, `requests` holds what arrived.

    `script` is a sequence of behaviours, or a function of the request that returns one.
    """

    def __init__(self, script: Script):
        self._script = script
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        request = Request(handler.path, {name.lower(): value for name, value in handler.headers.items()}, body)
        with self._lock:
            turn = len(self.requests)
            self.requests.append(request)
        entry = self._script(request) if callable(self._script) else self._script[min(turn, len(self._script) - 1)]
        _behaviour(entry)(Exchange(request, handler, self._closing))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is what most of these tests are about; it must not print a traceback."""


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            server._serve(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read `requests` instead."""

    return Handler


def dead_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
