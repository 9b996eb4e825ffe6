"""Chat models by name, through LangChain, and what becomes of their errors."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from tunewright.agent.advice import OUTPUT_TOKENS
from tunewright.agent.prices import Price, price_of, read_prices
from tunewright.agent.redact import redact
from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion
from tunewright.prompts.text import plain

NO_KEY = "no-key-needed"  # local servers want a header, not a key
SECONDS = 600.0  # without a byte from the server: some models think for long, and Ctrl-C is there
TRANSIENT = re.compile(r"Connect|Timeout|RemoteProtocol|Overloaded")  # in the names that providers' libraries give
MAX_SAID = 300
UNPROMPTED = "without --model it works with no model at all"


def chat_model(spec: str) -> BaseChatModel:
    """The model of "PROVIDER:MODEL". Raises FixArgument where it cannot be had."""
    provider, _, name = spec.partition(":")
    if not (provider and name):
        fix = "--model openai:MODEL"
        raise FixArgument("names no provider and model", field="--model", value=spec, fix=fix)
    options: dict[str, Any] = {}
    if provider == "openai":
        own = (os.environ.get("OPENAI_BASE_URL") or "").strip()
        if not own and not (os.environ.get("OPENAI_API_KEY") or "").strip():
            fix = "set it, or OPENAI_BASE_URL to a server of your own; " + UNPROMPTED
            raise FixArgument("is not set", field="OPENAI_API_KEY", fix=fix)
        # Attempts are repeated by the chat, which writes each down. Usage is what caps are counted with.
        options = {"max_retries": 0, "timeout": SECONDS, "stream_usage": True}
        if not own:
            options["max_tokens"] = OUTPUT_TOKENS[0]  # what a request is reserved with
        else:
            options |= {"base_url": own, "use_responses_api": False}
            if not os.environ.get("OPENAI_API_KEY"):
                options["api_key"] = NO_KEY
    try:
        return init_chat_model(name, model_provider=provider, **options)
    except ImportError as error:
        package = f"langchain-{provider.replace('_', '-')}"
        raise FixArgument(
            f"needs LangChain's package of this provider ({plain(error, MAX_SAID)})",
            field="--model",
            value=spec,
            fix=f"pip install {package}",
        ) from None
    except Exception as error:  # each provider's package has its own
        raise FixArgument(
            f"cannot be used: {said(error)}",
            field="--model",
            value=spec,
            fix=f"another one; {UNPROMPTED}",
        ) from None


def price_of_chat(spec: str) -> Price | None:
    """What a model costs: the user's price (TUNEWRIGHT_PRICES) or the listed one; None where it is unknown, as with
    every server of one's own."""
    provider, _, name = spec.partition(":")
    own = (os.environ.get("OPENAI_BASE_URL") or "").strip()
    asked = ("openai", name) if provider == "openai" else ("langchain", spec)
    return price_of(_Priced(*asked, spec if provider == "openai" and not own else None), read_prices(None))


@dataclass
class _Priced:
    """A chat model as the price list knows advisors."""

    name: str
    model: str | None
    priced_as: str | None

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        raise NotImplementedError("only its price is asked for")


def failure(spec: str, error: Exception) -> AdvisorFailed:
    """A provider's exception as one of ours, without keys; `retryable` where the same request may work later."""
    status = getattr(error, "status_code", None)
    code = f" ({status})" if isinstance(status, int) else ""
    if status == 401:
        return AdvisorFailed(f"{spec} refused the key{code}", retryable=False, fix="set the provider's key")
    transient = isinstance(error, ConnectionError | TimeoutError) or TRANSIENT.search(type(error).__name__) is not None
    retryable = status in (408, 409, 425, 429) or (isinstance(status, int) and status >= 500) or transient
    fix = "say `again` later" if retryable else "check --model and the provider's settings"
    fix += "; sentences with a / in front need no model"
    return AdvisorFailed(f"{spec} did not answer{code}: {said(error)}", retryable=retryable, fix=fix)


def said(error: Exception) -> str:
    return plain(redact(f"{type(error).__name__}: {error}"), MAX_SAID)


def completion(message: AIMessage) -> Completion:
    """What came back, as the books keep it. Usage that was not told is unknown."""
    usage: Any = message.usage_metadata or {}
    return Completion(
        text=content(message),
        tokens_in=usage.get("input_tokens"),
        tokens_cached=(usage.get("input_token_details") or {}).get("cache_read"),
        tokens_out=usage.get("output_tokens"),
    )


def content(message: BaseMessage) -> str:
    """A message's text as the books keep it, tool calls as JSON."""
    text = str(message.text)
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = [{"tool": call["name"], "arguments": call["args"]} for call in message.tool_calls]
        text = "\n".join(part for part in (text, json.dumps(calls, default=str)) if part)
    return text
