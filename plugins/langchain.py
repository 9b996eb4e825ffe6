"""Every chat model that LangChain knows, as an advisor: langchain:PROVIDER:MODEL is init_chat_model("PROVIDER:MODEL").

The provider's package (langchain-anthropic, langchain-ollama ...) is the user's to install, its environment variables
are what they are. The answer's schema goes to the provider's own structured output, or as a tool that the model must
call, or into the prompt: whichever it takes first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.exceptions import ModelConnectionError, ModelError, ModelRefusalError, ModelTimeoutError
from langchain_core.messages import AIMessage
from pydantic import ValidationError

from tunewright.agent.redact import redact
from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion
from tunewright.plugins.providers import FormRefused, Forms, count, cut, in_words, part, refused, said, trouble

EXAMPLE = 'advisor="langchain:anthropic:claude-sonnet-5"'
SECONDS = 120.0  # after which a call that nobody waits for any more ends itself
# What a model is built with where its class knows the field: the caller retries and keeps the time.
SETTINGS: Mapping[str, Any] = {"max_retries": 0, "timeout": SECONDS, "request_timeout": SECONDS}
ADDRESSES = ("BASE_URL", "API_BASE", "API_URL", "ENDPOINT")  # ends of variables that lead to another server
REASONS = ("finish_reason", "stop_reason", "done_reason")


class LangChainAdvisor:
    """`model` is PROVIDER:MODEL.

    Raises FixArgument where no provider or model is named, its package is missing, or the model cannot be set up.
    """

    name = "langchain"

    def __init__(self, model: str | None):
        provider, _, name = (model or "").partition(":")
        if not provider or not name:
            raise FixArgument(
                "a provider and a model must be named", field="advisor", value=f"langchain:{model or ''}", fix=EXAMPLE
            )
        self.model = model
        self._provider = provider
        self._chat = _made(provider, name)
        # Tools for a model whose profile says that it has no structured output of its own.
        native = (getattr(self._chat, "profile", None) or {}).get("structured_output", True)
        self._forms = Forms(*(["json_schema"] if native else []), "function_calling", "text")
        bounded = "max_tokens" in _fields(type(self._chat))
        self._most = "max_tokens" if bounded else None
        elsewhere = any(os.environ.get(f"{provider.upper()}_{end}") for end in ADDRESSES)
        self.priced_as = model if bounded and not elsewhere else None

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        """One attempt. The model's own timeout is longer: the caller's clock decides."""
        return self._forms.ask(lambda form: self._try(request, form))

    def _try(self, request: AdviceRequest, form: str) -> Completion | AdvisorFailed:
        try:
            return self._read(request, self._answer(request, form))
        except AdvisorFailed as failure:
            return failure
        except ModelRefusalError as error:
            return AdvisorFailed(f"the model refused: {_words(error)}", retryable=False)
        except NotImplementedError as error:
            return FormRefused(f"{self._provider} knows no {form}: {_words(error)}", retryable=False)
        except Exception as error:
            return self._failed(error, form)

    def _answer(self, request: AdviceRequest, form: str) -> AIMessage:
        """The model's message as it came."""
        words = in_words(request) if form == "text" else request.messages
        messages = [{"role": m.role, "content": m.content} for m in words]
        chat: Any = self._chat
        if self._most and request.max_output_tokens is not None:
            chat = chat.model_copy(update={self._most: request.max_output_tokens})
        if form == "text":
            return chat.invoke(messages)
        schema = {**request.answer_type.model_json_schema(), "title": "answer", "description": "The answer."}
        return chat.with_structured_output(schema, method=form, include_raw=True).invoke(messages)["raw"]

    def _read(self, request: AdviceRequest, message: Any) -> Completion:
        if not isinstance(message, AIMessage):
            raise AdvisorFailed(f"{self._provider} gave {type(message).__name__}, not a message", retryable=False)
        usage: Mapping[str, Any] = message.usage_metadata or {}
        about = message.response_metadata
        named = about.get("model_name") or about.get("model")
        text = _text(message)
        completion = Completion(
            text=redact(text),
            model=named if isinstance(named, str) else self.model,
            tokens_in=count(usage, "input_tokens"),
            tokens_cached=count(part(usage, "input_token_details"), "cache_read"),
            tokens_out=count(usage, "output_tokens"),
            request_id=message.id,
            tokens_reasoning=count(part(usage, "output_token_details"), "reasoning"),
        )
        reason = next((about[name] for name in REASONS if about.get(name)), None)
        if failed := trouble(message.additional_kwargs.get("refusal"), reason, request.max_output_tokens):
            raise AdvisorFailed(failed, retryable=False, completion=completion)
        if not text.strip():
            raise AdvisorFailed("the model gave an empty answer", retryable=True, completion=completion)
        return completion

    def _failed(self, error: Exception, form: str) -> AdvisorFailed:
        """Whatever a provider's library raised: by its status where it has one, by its LangChain kind, by its text."""
        response = getattr(error, "response", None)
        code = getattr(error, "status_code", None) or getattr(response, "status_code", None)
        words = _words(error)
        if isinstance(code, int) and 200 <= code < 300:  # the library could not read what came
            if "length limit" in words:
                return AdvisorFailed(str(trouble(None, "length")), retryable=False)
            return AdvisorFailed(f"{self._provider} sent what cannot be read: {words}", retryable=True)
        if isinstance(code, int) and code >= 300:
            key, address = f"{self._provider.upper()}_API_KEY", f"{self._provider.upper()}_BASE_URL"
            return refused(
                code,
                redact(said(getattr(error, "body", None) or str(error))),
                where=self._provider,
                model=self.model,
                advisor=self.name,
                key=key,
                has_key=bool(os.environ.get(key)),
                address=address,
                headers=getattr(response, "headers", None),
                error_code=getattr(error, "code", None),
            )
        if isinstance(error, ModelTimeoutError):
            return AdvisorFailed(f"no answer from {self._provider}: {words}", retryable=True)
        if isinstance(error, ModelConnectionError | ConnectionError | TimeoutError):
            return AdvisorFailed(f"cannot reach {self._provider}: {words}", retryable=True)
        if isinstance(error, ValueError | TypeError) and form != "text":
            # An integration that does not know the method, or cannot turn the schema into its own form.
            return FormRefused(f"{self._provider} takes no {form}: {words}", retryable=False)
        retryable = isinstance(error, ModelError) and error.is_retryable
        return AdvisorFailed(f"{type(error).__name__}: {words}", retryable=retryable)


def _made(provider: str, name: str) -> Any:
    """The chat model, with SETTINGS where its class knows them: others pass unknown ones on to the server."""
    try:
        made = init_chat_model(name, model_provider=provider)
        known = _fields(type(made))
        return init_chat_model(name, model_provider=provider, **{k: v for k, v in SETTINGS.items() if k in known})
    except ImportError as error:
        raise FixArgument(cut(str(error)), field="advisor", value=f"langchain:{provider}:{name}") from None
    except Exception as error:  # each integration has its own way to say that a key is missing
        reason = _words(error)
    raise FixArgument(
        f"LangChain cannot set this model up: {reason}",
        field="advisor",
        value=f"langchain:{provider}:{name}",
        fix=f"set {provider.upper()}_API_KEY, or what this provider needs",
    )


def _fields(kind: Any) -> set[str]:
    """Names that a model's class takes, one for each field: two of one field would be a conflict."""
    return {field.alias or name for name, field in kind.model_fields.items()} | {
        name for name, field in kind.model_fields.items() if name == "max_tokens"
    }


def _text(message: AIMessage) -> str:
    """The answer's text, or the arguments of the tool call that it came in, whole or torn."""
    if message.tool_calls:
        return json.dumps(message.tool_calls[0]["args"])
    if message.invalid_tool_calls:
        return str(message.invalid_tool_calls[0].get("args") or "")
    return str(message.text)


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):  # its own text repeats the input, with the key in it
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
    return redact(cut(str(error)))
