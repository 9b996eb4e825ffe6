"""A chat's calls of its model in the study's books: reserved before, written down after, held to the study's caps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.agent.advice import OUTPUT_TOKENS
from tunewright.agent.prices import Price
from tunewright.agent.redact import redact
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import Completion
from tunewright.prompts import Prompt

NAME = "chat"


@dataclass(slots=True)
class Attempt:
    """One request to the model. `id` is its row; a call before the first study has none yet."""

    prompt: Prompt
    messages: Sequence[tuple[str, str]]
    began: float
    id: int | None = None
    outcome: dict[str, Any] | None = None


class CallBook:
    """Calls that were made before the first study existed are written down as soon as it does."""

    def __init__(self, bench: Workbench, model: str, price: Price | None = None):
        self._bench, self._model, self._price = bench, model, price
        self._waiting: list[Attempt] = []

    def begin(self, prompt: Prompt, messages: Sequence[tuple[str, str]], schemas: int, number: int = 1) -> Attempt:
        """`schemas` is how many characters of tool descriptions go along. Raises CapReached: the call is not made."""
        made = Attempt(prompt, messages, time.monotonic())
        if self._bench.has_study:
            self._write_waiting()
            self._write(made, schemas, number)
        else:
            self._waiting.append(made)
        return made

    def end(self, attempt: Attempt, completion: Completion | None, error: str | None = None) -> None:
        found = completion or Completion("")
        attempt.outcome = {
            "status": "failed" if error else "answered", "error": redact(error)[:2_000] if error else None,
            "answer": redact(found.text) or None, "model": self._model, "tokens_in": found.tokens_in,
            "tokens_cached": found.tokens_cached, "tokens_out": found.tokens_out,
            "usd": self._price.cost(found) if found.usd is None and self._price is not None else found.usd,
            "seconds": time.monotonic() - attempt.began,
        }  # fmt: skip
        if attempt.id is not None:
            self._bench.store.end_call(attempt.id, **attempt.outcome)
        elif self._bench.has_study:
            self._write_waiting()

    def _write(self, attempt: Attempt, schemas: int, number: int) -> None:
        agent, budget = self._bench.agent, self._bench.agent.budget
        if budget.usd is not None and self._price is None:
            raise FixArgument(
                f"the price of {self._model} is unknown, so a money cap cannot be kept in a chat with it",
                field="budget.usd", value=budget.usd, fix="cap tokens instead: /budget 100000 tokens",
            )  # fmt: skip
        # No token is shorter than a byte.
        size = sum(len(content.encode()) for _, content in attempt.messages) + schemas
        most, prompt = OUTPUT_TOKENS[0], attempt.prompt
        worst = self._price.worst(size, most) if budget.usd is not None and self._price is not None else None
        attempt.id = agent._store.begin_call(
            agent.study_id, number=None, attempt=number, advisor=NAME, model=self._model,
            prompt=(prompt.name, prompt.version, prompt.hash, f"{prompt.system}\n{prompt.user}"),
            messages=attempt.messages,
            reserve_tokens=size + most if budget.tokens is not None else None, cap_tokens=budget.tokens,
            reserve_usd=worst, cap_usd=budget.usd,
        )  # fmt: skip

    def _write_waiting(self) -> None:
        """The study's caps begin with it: calls that made it are counted, but none is refused afterwards."""
        agent = self._bench.agent
        for attempt in [a for a in self._waiting if a.outcome is not None]:
            self._waiting.remove(attempt)
            prompt = attempt.prompt
            attempt.id = agent._store.begin_call(
                agent.study_id, number=None, attempt=1, advisor=NAME, model=self._model,
                prompt=(prompt.name, prompt.version, prompt.hash, f"{prompt.system}\n{prompt.user}"),
                messages=attempt.messages,
            )  # fmt: skip
            agent._store.end_call(attempt.id, **(attempt.outcome or {}))
