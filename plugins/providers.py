"""What the advisors that talk to a provider share: the forms of answer it may know, its errors and its usage.

Whatever a provider does comes out as a Completion or an AdvisorFailed; what it sent is never trusted to have a shape.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion, Message

MAX_SAID = 300  # characters of a provider's own error text that are repeated
RULES = 'advisor="rules" needs no key'
UNBILLED = Completion(
    "", tokens_in=0, tokens_cached=0, tokens_out=0, usd=0.0
)  # nobody bills a request that was refused
# In the rejection of a schema, of JSON, or of a tool that stands for the answer. Servers word it in many ways.
FORM_WORDS = (
    "response_format",
    "json_schema",
    "json_object",
    "text.format",
    "grammar",
    "schema",
    "tool",
    "function call",
)
GRAMMAR_WORDS = ("grammar",)  # some servers break (500) where they mean to refuse


class FormRefused(AdvisorFailed):
    """The provider does not know the form of answer that it was asked for."""


class Forms:
    """Ways to ask for an answer of a type, the strictest first. One that was refused is not tried again."""

    def __init__(self, *names: str):
        self._names, self._at = names, 0

    def ask(self, attempt: Callable[[str], Completion | AdvisorFailed]) -> Completion:
        """Raises what the last form came to.

        Attempts return their failures: raised here, outside any handler, one carries no exception of a library, which
        may hold the request and with it the key.
        """
        at = self._at
        while True:
            outcome = attempt(self._names[at])
            if isinstance(outcome, Completion):
                self._at = max(self._at, at)
                return outcome
            at += 1
            if not isinstance(outcome, FormRefused) or at == len(self._names):
                raise outcome
            self._at = max(self._at, at)


def in_words(request: AdviceRequest) -> tuple[Message, ...]:
    """The messages for who takes no schema: it is shown at the end of the last one, since some servers allow no second
    message in a row."""
    if not request.messages:
        return request.messages
    *before, last = request.messages
    words = f"Answer with one JSON object of this JSON schema:\n{json.dumps(request.answer_type.model_json_schema())}"
    return (*before, Message(last.role, f"{last.content}\n\n{words}"))


# ------------------------------------------------------------------------------------------------ errors


def refused(
    code: int,
    said: str,
    *,
    where: str,
    model: str | None,
    advisor: str,
    key: str,
    has_key: bool,
    address: str,
    headers: Mapping[str, str] | None = None,
    error_code: str | None = None,
) -> AdvisorFailed:
    """The failure behind a status code, with what to change. `key` and `address` name environment variables."""
    here = f"{where} answered {code}"
    paid: dict[str, Any] = {"completion": UNBILLED} if code < 500 else {}
    if code == 401:
        # The server's own words are left out: some repeat the key.
        words = "refused the key" if has_key else "wants a key"
        fix = f"set {key} to a key of this server; {RULES}"
        return AdvisorFailed(f"{here}: it {words}", retryable=False, fix=fix, **paid)
    if code == 403:
        fix = f"use a key ({key}) that may use {model}, or another model"
        return AdvisorFailed(f"{here}: the key may not use model {model}: {said}", retryable=False, fix=fix, **paid)
    about_form = code in (400, 404, 422) and any(word in said for word in FORM_WORDS)
    about_form = about_form or (code >= 500 and any(word in said for word in GRAMMAR_WORDS))
    if code == 404 and not about_form:
        fix = f'check the model in advisor="{advisor}:{model}" and {address}, which mostly ends in /v1'
        return AdvisorFailed(f"{here}: no model {model}, or no API: {said}", retryable=False, fix=fix, **paid)
    if 300 <= code < 400:
        fix = f"set {address} to where it moved"
        return AdvisorFailed(f"{here}: it moved", retryable=False, fix=fix, **paid)
    if code == 429 and error_code == "insufficient_quota":
        fix = f"check the account's billing; {RULES}"
        return AdvisorFailed(f"{here}: the account's quota is used up", retryable=False, fix=fix, **paid)
    pause = retry_after(headers or {})
    asked = "" if pause is None else f" (it asks to wait {pause:g} s)"
    # 408 and 425: try again; 409: locked; 429: rate limit; 5xx and 529: overloaded or broken at the other end.
    retryable = code in (408, 409, 425, 429) or code >= 500
    kind = FormRefused if about_form else AdvisorFailed
    return kind(f"{here}{asked}: {said}", retryable=retryable, retry_after=pause, **paid)


def retry_after(headers: Mapping[str, str]) -> float | None:
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


def said(body: Any) -> str:
    """A server's own error text, in whichever of the usual places it stands."""
    error = body.get("error", body) if isinstance(body, dict) else body
    words = error.get("message", error) if isinstance(error, dict) else error
    where = f" ({error['param']})" if isinstance(error, dict) and error.get("param") else ""
    return cut(f"{words}{where}") if words else "no reason given"


def cut(text: str) -> str:
    line = " ".join(text[: 4 * MAX_SAID].split())
    return line if len(line) <= MAX_SAID else line[: MAX_SAID - 1] + "…"


# ------------------------------------------------------------------------------------------------ answers


def trouble(refusal: Any, reason: Any, limit: int | None = None) -> str | None:
    """What keeps an answer that came from being used: a refusal's words, or the reason why the model stopped.
    `limit` is the output limit that this client set."""
    if refusal:
        return f"the model refused: {cut(str(refusal))}"
    if reason in ("content_filter", "refusal", "SAFETY"):
        return "the provider's content filter refused the answer"
    if reason in ("length", "max_output_tokens", "max_tokens", "MAX_TOKENS"):
        ours = f", {limit} tokens, which is what the cap on tokens or money left" if limit else ""
        return f"the answer was cut off at the model's output limit{ours}"
    return None


def part(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def count(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first count that is there. An absent one is unknown, not zero."""
    found = (usage.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None)
