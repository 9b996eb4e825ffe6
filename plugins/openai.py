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
from typing import Any
from urllib.parse import urlsplit

import openai

from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion
from tunewright.plugins.providers import (
    RULES,
    UNBILLED,
    Forms,
    count,
    cut,
    in_words,
    part,
    refused,
    said,
    trouble,
)

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_HOSTS = ("api.openai.com",)  # and their subdomains: eu.api.openai.com
MAX_BODY = 1_000_000  # bytes of an answer, unpacked
# Reasoning included. Asked of OpenAI alone: other servers hold it against their context length.
MAX_OUTPUT_TOKENS = 16_384
CONNECT_SECONDS = 3.0  # a machine that does not pick up in this time is as good as down
LIMITS = ("max_tokens", "max_completion_tokens")  # reasoning models refuse the first, older servers the second
SHORTEST_KEY = 8
NO_KEY = "no-key-needed"  # local servers want a header, not a key


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
        self._forms = Forms("json_schema", "json_object", "text")
        self._limit = 0  # which of LIMITS this server takes
        self._client = openai.OpenAI(
            api_key=self._key or NO_KEY,
            base_url=url,
            max_retries=0,  # the caller retries, and writes every attempt down
            http_client=_BoundedClient(follow_redirects=False),
        )

    @property
    def priced_as(self) -> str | None:
        """Another server's model may have an OpenAI name: what it costs there is not known, least of all that it is
        free."""
        return f"openai:{self.model}" if self._is_openai and self._url.startswith(OPENAI_URL) else None

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        """One attempt. A failed answer that cost tokens stands in the error's `data["completion"]`."""
        ends = time.monotonic() + timeout
        return self._forms.ask(lambda form: self._try(request, form, max(ends - time.monotonic(), 0.001)))

    def _try(self, request: AdviceRequest, form: str, timeout: float) -> Completion | AdvisorFailed:
        try:
            return self._read(request, self._send(request, form, timeout))
        except AdvisorFailed as failure:
            return self._scrubbed(failure)
        except openai.APIStatusError as error:
            if error.status_code == 400 and self._other_limit(error):
                return self._try(request, form, timeout)
            return self._scrubbed(self._refused(error))
        except openai.APITimeoutError:
            return AdvisorFailed(f"no answer from {self._url} within {timeout:.3g} s", retryable=True)
        except openai.APIConnectionError as error:
            cause = error.__cause__
            if isinstance(cause, AdvisorFailed):  # openai 2 wraps what its HTTP client raises
                return self._scrubbed(cause)
            never_there: dict[str, Any] = {"completion": UNBILLED} if "Connect" in type(cause).__name__ else {}
            return self._scrubbed(
                AdvisorFailed(
                    f"cannot reach {self._url}: {type(cause).__name__}: {cut(str(cause))}",
                    retryable=True,
                    fix=f"check OPENAI_BASE_URL and the network; {RULES}",
                    **never_there,
                )
            )
        except Exception as error:
            # Whatever else the library raises goes on as its text alone, which is known to be free of the key.
            return self._scrubbed(AdvisorFailed(f"{type(error).__name__}: {cut(str(error))}", retryable=False))

    def _send(self, request: AdviceRequest, form: str, timeout: float) -> Any:
        """The HTTP response. Neither temperature nor reasoning effort is set: many models refuse the one, and the
        other has a default that its provider chose."""
        words = request.messages if form == "json_schema" else in_words(request)
        messages = [{"role": m.role, "content": m.content} for m in words]
        schema = _strict(request.answer_type.model_json_schema()) if form == "json_schema" else {}
        named = {"name": "answer", "strict": True, "schema": schema} if schema else {}
        limits = openai.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        arguments: dict[str, Any] = {"model": self.model, "timeout": limits}
        if self._is_openai:
            most = min(request.max_output_tokens or MAX_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS)
            arguments |= {"input": messages, "store": False, "max_output_tokens": most}
            arguments |= {"text": {"format": {"type": form, **named}}}
            return self._client.responses.with_raw_response.create(**arguments).http_response
        arguments |= {"messages": messages}
        if request.max_output_tokens is not None:
            arguments[LIMITS[self._limit]] = request.max_output_tokens
        if form != "text":
            arguments["response_format"] = {"type": form, **({"json_schema": named} if named else {})}
        return self._client.chat.completions.with_raw_response.create(**arguments).http_response

    def _other_limit(self, error: openai.APIStatusError) -> bool:
        """Whether the server wants the output limit under its other name, which is then remembered."""
        if self._limit + 1 < len(LIMITS) and LIMITS[self._limit] in said(error.body):
            self._limit += 1
            return True
        return False

    # ---------------------------------------------------------------- what came back

    def _read(self, request: AdviceRequest, response: Any) -> Completion:
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise AdvisorFailed(f"{self._url} sent what is no JSON object: {cut(response.text)}", retryable=True)
        if body.get("error"):
            raise AdvisorFailed(f"{self._url} answered with an error: {said(body)}", retryable=True)
        text, refusal, reason = (_read_response if self._is_openai else _read_chat)(body)
        usage = part(body, "usage")
        details_in = part(usage, "prompt_tokens_details") or part(usage, "input_tokens_details")
        details_out = part(usage, "completion_tokens_details") or part(usage, "output_tokens_details")
        completion = Completion(
            text=self._scrub(text),
            model=body["model"] if isinstance(body.get("model"), str) else self.model,
            tokens_in=count(usage, "prompt_tokens", "input_tokens"),
            tokens_cached=count(details_in, "cached_tokens"),
            tokens_out=count(usage, "completion_tokens", "output_tokens"),
            request_id=response.headers.get("x-request-id"),
            tokens_reasoning=count(details_out, "reasoning_tokens"),
        )
        if failed := trouble(refusal, reason, request.max_output_tokens):
            fix = None if self._is_openai else "a longer context on the server may help (Ollama: num_ctx)"
            fix = fix if reason == "length" else None
            raise AdvisorFailed(failed, retryable=False, completion=completion, fix=fix)
        if not text.strip():
            raise AdvisorFailed("the model gave an empty answer", retryable=True, completion=completion)
        return completion

    def _refused(self, error: openai.APIStatusError) -> AdvisorFailed:
        return refused(
            error.status_code,
            said(error.body),
            where=self._url,
            model=self.model,
            advisor=self.name,
            key="OPENAI_API_KEY",
            has_key=bool(self._key),
            address="OPENAI_BASE_URL",
            headers=error.response.headers,
            error_code=error.code,
        )

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


def _read_chat(body: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """(text, refusal, why it ended) of a chat completion."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = part(choice, "message")
    content = message.get("content")
    text = content if isinstance(content, str) else _joined(content, "text")
    return text, message.get("refusal"), choice.get("finish_reason")


def _read_response(body: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """(text, refusal, why it ended early) of a response."""
    output = body.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    text = "".join(_joined(item.get("content"), "text") for item in items if item.get("type") == "message")
    refusal = "".join(_joined(item.get("content"), "refusal") for item in items)
    return text, refusal, part(body, "incomplete_details").get("reason")


def _joined(parts: Any, key: str) -> str:
    found = [one.get(key) for one in parts if isinstance(one, dict)] if isinstance(parts, list) else []
    return "".join(text for text in found if isinstance(text, str))
