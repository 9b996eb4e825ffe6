"""OpenAI, and every server that speaks its chat-completions protocol (OPENAI_BASE_URL), as an advisor.

OpenAI itself is asked through the Responses API, other servers through /chat/completions, both with the answer's JSON
schema. A server that does not know schemas is asked again for plain JSON, then for plain text with the schema in words.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import openai

from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion, Message

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_HOSTS = ("api.openai.com",)  # and their subdomains: eu.api.openai.com
MAX_BODY = 1_000_000  # bytes of an answer, unpacked
# Reasoning included. Asked of OpenAI alone: other servers hold it against their context length.
MAX_OUTPUT_TOKENS = 16_384
CONNECT_SECONDS = 3.0  # a machine that does not pick up in this time is as good as down
MAX_SAID = 300  # characters of a server's own error text that are repeated
FORMATS = ("json_schema", "json_object", "text")
FORMAT_WORDS = ("response_format", "json_schema", "json_object", "text.format")  # in a rejection of one of these
SHORTEST_KEY = 8
NO_KEY = "no-key-needed"  # local servers want a header, not a key
RULES = 'advisor="rules" needs no key'


class OpenAIAdvisor:
    """`model` on OpenAI, or on the server that OPENAI_BASE_URL names.

    Raises FixArgument without a model, with an unusable base url, or without a key that is needed.
    """

    name = "openai"

    def __init__(self, model: str | None):
        if not model:
            raise FixArgument("a model must be named", field="advisor", value="openai", fix='advisor="openai:MODEL"')
        self.model: str | None = model
        url = (os.environ.get("OPENAI_BASE_URL") or "").strip() or OPENAI_URL
        scheme, host, self._url = _address(url)
        if scheme not in ("http", "https") or not host:
            raise FixArgument(
                "not a web address", field="OPENAI_BASE_URL", value=self._url, fix="http://127.0.0.1:8000/v1"
            )
        self._is_openai = host in OPENAI_HOSTS or host.endswith(tuple(f".{known}" for known in OPENAI_HOSTS))
        self._key = (os.environ.get("OPENAI_API_KEY") or "").strip()
        if self._is_openai and not self._key:
            raise FixArgument(
                "is not set", field="OPENAI_API_KEY", fix=f"set it, or OPENAI_BASE_URL to your own server; {RULES}"
            )
        if not (self._key.isascii() and self._key.isprintable()):
            raise FixArgument("holds characters that no key has", field="OPENAI_API_KEY", fix="copy the key again")
        self._format = 0  # which of FORMATS this server takes
        self._client = openai.OpenAI(
            api_key=self._key or NO_KEY,
            base_url=url,
            max_retries=0,  # the caller retries, and writes every attempt down
            http_client=_BoundedClient(follow_redirects=False),
        )

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        """One attempt. A failed answer that cost tokens stands in the error's `data["completion"]`."""
        ends = time.monotonic() + timeout
        while True:
            rung = self._format
            outcome = self._try(request, FORMATS[rung], max(ends - time.monotonic(), 0.001))
            if isinstance(outcome, Completion):
                return outcome
            if not isinstance(outcome, _FormatRefused) or rung + 1 == len(FORMATS):
                # Raised here, outside any handler: the library's exception holds the request, and that the key.
                raise outcome
            self._format = max(self._format, rung + 1)

    def _try(self, request: AdviceRequest, form: str, timeout: float) -> Completion | AdvisorFailed:
        limits = openai.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        messages = [{"role": m.role, "content": m.content} for m in _messages(request, form)]
        schema = _strict(request.answer_type.model_json_schema()) if form == "json_schema" else {}
        named = {"name": "answer", "strict": True, "schema": schema} if schema else {}
        arguments: dict[str, Any] = {"model": self.model, "timeout": limits}
        try:
            if self._is_openai:
                arguments |= {"input": messages, "store": False, "max_output_tokens": MAX_OUTPUT_TOKENS}
                arguments |= {"text": {"format": {"type": form, **named}}}
                raw = self._client.responses.with_raw_response.create(**arguments)
                return self._read(raw.http_response, _read_response)
            arguments |= {"messages": messages}
            if form != "text":
                arguments["response_format"] = {"type": form, **({"json_schema": named} if named else {})}
            raw = self._client.chat.completions.with_raw_response.create(**arguments)
            return self._read(raw.http_response, _read_chat)
        except AdvisorFailed as failure:
            return self._scrubbed(failure)
        except openai.APIStatusError as error:
            return self._scrubbed(self._refused(error))
        except openai.APITimeoutError:
            return AdvisorFailed(f"no answer from {self._url} within {timeout:.3g} s", retryable=True)
        except openai.APIConnectionError as error:
            cause = error.__cause__
            if isinstance(cause, AdvisorFailed):  # openai 2 wraps what its HTTP client raises
                return self._scrubbed(cause)
            return self._scrubbed(
                AdvisorFailed(
                    f"cannot reach {self._url}: {type(cause).__name__}: {_cut(str(cause))}",
                    retryable=True,
                    fix=f"check OPENAI_BASE_URL and the network; {RULES}",
                )
            )
        except Exception as error:
            # Whatever else the library raises goes on as its text alone, which is known to be free of the key.
            return self._scrubbed(AdvisorFailed(f"{type(error).__name__}: {_cut(str(error))}", retryable=False))

    # ---------------------------------------------------------------- what came back

    def _read(self, response: Any, reader: Any) -> Completion:
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise AdvisorFailed(f"{self._url} sent what is no JSON object: {_cut(response.text)}", retryable=True)
        if body.get("error"):
            raise AdvisorFailed(f"{self._url} answered with an error: {_said(body)}", retryable=True)
        text, trouble, usage = reader(body)
        completion = Completion(
            text=self._scrub(text),
            model=body["model"] if isinstance(body.get("model"), str) else self.model,
            tokens_in=_count(usage, "prompt_tokens", "input_tokens"),
            tokens_cached=_count(
                _mapping(usage, "prompt_tokens_details") or _mapping(usage, "input_tokens_details"), "cached_tokens"
            ),
            tokens_out=_count(usage, "completion_tokens", "output_tokens"),
            request_id=response.headers.get("x-request-id"),
        )
        if trouble:
            raise AdvisorFailed(trouble, retryable=False, completion=completion)
        if not text.strip():
            raise AdvisorFailed("the model gave an empty answer", retryable=True, completion=completion)
        return completion

    def _refused(self, error: openai.APIStatusError) -> AdvisorFailed:
        """The failure behind a status code, with what to change."""
        code, said = error.status_code, _said(error.body)
        here = f"{self._url} answered {code}"
        if code == 401:
            # The server's own words are left out: some repeat the key.
            key = "refused the key" if self._key else "wants a key"
            fix = f"set OPENAI_API_KEY to a key of this server; {RULES}"
            return AdvisorFailed(f"{here}: it {key}", retryable=False, fix=fix)
        if code == 403:
            fix = f"use a key (OPENAI_API_KEY) that may use {self.model}, or another model"
            return AdvisorFailed(f"{here}: the key may not use model {self.model}: {said}", retryable=False, fix=fix)
        format_refused = code in (400, 404, 422) and any(word in said for word in FORMAT_WORDS)
        if code == 404 and not format_refused:
            fix = f'check the model in advisor="openai:{self.model}" and OPENAI_BASE_URL, which mostly ends in /v1'
            return AdvisorFailed(f"{here}: no model {self.model}, or no API: {said}", retryable=False, fix=fix)
        if 300 <= code < 400:
            return AdvisorFailed(f"{here}: it moved", retryable=False, fix="set OPENAI_BASE_URL to where it moved")
        if code == 429 and error.code == "insufficient_quota":
            fix = f"check the account's billing; {RULES}"
            return AdvisorFailed(f"{here}: the account's quota is used up", retryable=False, fix=fix)
        pause = _retry_after(error.response.headers)
        asked = "" if pause is None else f" (it asks to wait {pause:g} s)"
        # 408 and 425: try again; 409: locked; 429: rate limit; 5xx and 529: overloaded or broken at the other end.
        retryable = code in (408, 409, 425, 429) or code >= 500
        kind = _FormatRefused if format_refused else AdvisorFailed
        return kind(f"{here}{asked}: {said}", retryable=retryable, retry_after=pause)

    def _scrub(self, text: str) -> str:
        # Servers that need no key are often given a word like "none", which answers may hold as well.
        return text.replace(self._key, "[key]") if len(self._key) >= SHORTEST_KEY else text

    def _scrubbed(self, failure: AdvisorFailed) -> AdvisorFailed:
        """The same failure without the key and without the exceptions it came from."""
        return type(failure)(
            self._scrub(failure.message),
            retryable=failure.retryable,
            retry_after=failure.retry_after,
            fix=failure.fix,
            **failure.data,
        )


class _FormatRefused(AdvisorFailed):
    """The server does not know the form of answer it was asked for."""


class _BoundedClient(openai.DefaultHttpxClient):
    """Reads at most MAX_BODY bytes of an answer, and for no longer than its read timeout in all.

    The library reads whole bodies, and its timeout starts anew at every chunk.
    """

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        seconds = request.extensions.get("timeout", {}).get("read")
        ends = time.monotonic() + (math.inf if seconds is None else seconds)
        response = super().send(request, stream=True, **options)
        body = bytearray()
        try:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise AdvisorFailed(f"the answer is larger than {MAX_BODY} bytes", retryable=False)
                if time.monotonic() >= ends:
                    raise AdvisorFailed(f"the answer was not complete within {seconds:.3g} s", retryable=True)
        finally:
            response.close()
        # The body is unpacked by now, and its length another.
        packing = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in packing]
        return type(response)(response.status_code, headers=headers, content=bytes(body), request=request)


# ------------------------------------------------------------------------------------------------ requests


def _address(url: str) -> tuple[str, str, str]:
    """(scheme, host, the url as messages may show it: without a user, password or query). Empty where there is none."""
    shown = url.rpartition("@")[2]
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # raises when it is no number
    except ValueError:
        return "", "", shown
    if not host:
        return parts.scheme, "", shown
    return parts.scheme, host, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _messages(request: AdviceRequest, form: str) -> tuple[Message, ...]:
    """A server that takes no schema is shown it, at the end of the last message: some allow no second one in a row."""
    if form == "json_schema" or not request.messages:
        return request.messages
    *before, last = request.messages
    words = f"Answer with one JSON object of this JSON schema:\n{json.dumps(request.answer_type.model_json_schema())}"
    return (*before, Message(last.role, f"{last.content}\n\n{words}"))


DROPPED = {"default", "title", "minLength", "maxLength", "uniqueItems", "discriminator"}


def _strict(node: Any) -> Any:
    """The schema in the part of JSON Schema that strict structured outputs allow: every property required, nothing
    extra, null for what was optional (https://platform.openai.com/docs/guides/structured-outputs). What is dropped
    is checked when the answer is read.
    """
    if isinstance(node, list):
        return [_strict(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):  # their keys are names, not keywords
            out[key] = {name: _strict(entry) for name, entry in value.items()}
        elif key in ("enum", "const"):
            out[key] = value
        elif key not in DROPPED:
            out["anyOf" if key == "oneOf" else key] = _strict(value)
    if "$ref" in out and len(out) > 1:  # a reference may have no neighbours
        out["anyOf"] = [{"$ref": out.pop("$ref")}]
    if "properties" in out:
        required = node.get("required", ())
        out["properties"] = {n: v if n in required else _or_null(v) for n, v in out["properties"].items()}
        out |= {"required": list(out["properties"]), "additionalProperties": False}
    return out


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    whole = schema if "anyOf" in schema else {"anyOf": [schema]}
    branches = whole["anyOf"]
    return whole if {"type": "null"} in branches else {**whole, "anyOf": [*branches, {"type": "null"}]}


# ------------------------------------------------------------------------------------------------ answers


def _read_chat(body: Mapping[str, Any]) -> tuple[str, str | None, Mapping[str, Any]]:
    """(text, what is wrong with it, usage) of a chat completion."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = _mapping(choice, "message")
    content = message.get("content")
    text = content if isinstance(content, str) else _joined(content, "text")
    return text, _trouble(message.get("refusal"), choice.get("finish_reason")), _mapping(body, "usage")


def _read_response(body: Mapping[str, Any]) -> tuple[str, str | None, Mapping[str, Any]]:
    """(text, what is wrong with it, usage) of a response."""
    output = body.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    text = "".join(_joined(item.get("content"), "text") for item in items if item.get("type") == "message")
    refusal = "".join(_joined(item.get("content"), "refusal") for item in items)
    return text, _trouble(refusal, _mapping(body, "incomplete_details").get("reason")), _mapping(body, "usage")


def _trouble(refusal: Any, reason: Any) -> str | None:
    if refusal:
        return f"the model refused: {_cut(str(refusal))}"
    if reason == "content_filter":
        return "the provider's content filter refused the answer"
    if reason in ("length", "max_output_tokens"):
        return "the answer was cut off at the model's output limit"
    return None


def _joined(parts: Any, key: str) -> str:
    found = [part.get(key) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return "".join(text for text in found if isinstance(text, str))


def _mapping(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first count that is there. An absent one is unknown, not zero."""
    found = (usage.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None)


def _said(body: Any) -> str:
    """A server's own error text, in whichever of the usual places it stands."""
    error = body.get("error", body) if isinstance(body, dict) else body
    said = error.get("message", error) if isinstance(error, dict) else error
    where = f" ({error['param']})" if isinstance(error, dict) and error.get("param") else ""
    return _cut(f"{said}{where}") if said else "no reason given"


def _cut(text: str) -> str:
    line = " ".join(text[: 4 * MAX_SAID].split())
    return line if len(line) <= MAX_SAID else line[: MAX_SAID - 1] + "…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait. RFC 9110, 10.2.3: a number of seconds or a date; `retry-after-ms` is OpenAI's own."""
    text, scale = headers.get("retry-after-ms"), 0.001
    if text is None:
        text, scale = headers.get("retry-after"), 1.0
    if text is None:
        return None
    try:
        seconds = float(text) * scale
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
