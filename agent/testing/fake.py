"""An advisor whose answers are written down beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion


class FakeAdvisor:
    """Gives the next of `answers` to each request, or whatever `answers(request)` returns.

    An answer is one of
    - a mapping of parameters, or a sequence of them: candidates in the shape that the `propose` prompt asks for;
    - a mapping with the keys `stance` and `candidates`: sent as JSON as it stands;
    - a string: sent as it stands, valid or not;
    - a `Completion`, to say what the tokens were;
    - an exception: raised;
    - a callable of the request that returns any of these.

    Raises AdvisorFailed (not retryable) when an iterable has run out. `requests` holds every request it was given.
    """

    def __init__(
        self,
        answers: Iterable[Any] | Callable[[AdviceRequest], Any],
        name: str = "fake",
        model: str | None = None,
    ):
        self.name, self.model = name, model
        self.requests: list[AdviceRequest] = []
        self._function = answers if callable(answers) else None
        self._answers: Iterator[Any] = iter(()) if callable(answers) else iter(answers)

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        self.requests.append(request)
        if self._function is not None:
            return self._completion(self._function, request)
        try:
            given = next(self._answers)
        except StopIteration:
            raise AdvisorFailed("the fake advisor has no answer left", retryable=False) from None
        return self._completion(given, request)

    def _completion(self, given: Any, request: AdviceRequest) -> Completion:
        while callable(given) and not isinstance(given, type):
            given = given(request)
        if isinstance(given, BaseException) or (isinstance(given, type) and issubclass(given, BaseException)):
            raise given
        if isinstance(given, Completion):
            return given
        return Completion(text=given if isinstance(given, str) else json.dumps(_propose(given)), model=self.model)


def _propose(given: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The answer of the `propose` prompt that holds these configurations."""
    if isinstance(given, Mapping) and {"stance", "candidates"} <= given.keys():
        return given
    configurations = [given] if isinstance(given, Mapping) else given
    return {
        "stance": "propose",
        "summary": "scripted",
        "candidates": [{"rationale": "scripted", "params": dict(params)} for params in configurations],
    }
