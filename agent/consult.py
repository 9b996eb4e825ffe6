"""One question to an advisor, survived: deadline, retries, one re-ask, a ledger row per attempt, and a breaker.

A consultation never raises for what an advisor does. It ends with an answer that can be used or with the reason
why there is none, within the deadline, whatever the advisor, its library or its server are up to.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from tunewright.agent.errors import CapReached
from tunewright.agent.redact import redact
from tunewright.plugins.hooks import AdviceRequest, Advisor, AdvisorFailed, Completion, Message
from tunewright.prompts import Answer, BadAnswer, Candidate

MAX_ANSWER = 1_000_000  # characters; a longer answer is a fault, not advice
MAX_ERROR = 2_000  # characters of an error that are kept
MAX_QUOTED = 4_000  # characters of a bad answer that are shown to the model again
MAX_PROBLEMS = 10  # reasons that are listed in a re-ask
FINAL = " (not retryable)"  # ends the stored error of a failure that the same request would meet again
INTERRUPTED = "interrupted"

T = TypeVar("T")  # what an answer is read into


class Ledger(Protocol):
    """Where attempts are written down. Called from the consulting thread only, outside any transaction."""

    def begin(self, attempt: int, messages: Sequence[Message]) -> int:
        """The row of an attempt that is about to be made; attempts count from 1. Raises CapReached: it is not made."""
        ...

    def end(
        self,
        call_id: int,
        *,
        status: Literal["answered", "failed", "abandoned"],
        error: str | None,
        completion: Completion | None,
        seconds: float,
    ) -> None:
        """Closes the row. `completion` holds the answer's text, without keys, and its usage where they are known."""
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """When a failed attempt is made again. The defaults keep a dead endpoint below a second per consultation."""

    attempts: int = 3  # in one consultation, the re-ask included
    backoff: float = 0.25  # seconds before the second attempt; doubles, without jitter so that runs repeat
    patience: float = 3.0  # no unbidden retry later than this: the engine's proposal is ready
    longest_wait: float = 10.0  # seconds; a server that asks for more is not waited for


@dataclass(frozen=True, slots=True)
class Consultation(Generic[T]):
    """What came of it. `error` is None exactly when `answer` can be used.

    `rejected` holds the candidates of an answer that was asked for again, each with the id of its call; an unusable
    last answer stays in `answer`. `retryable` tells an advisor that may recover from one that needs a person.
    """

    answer: T | None
    answer_call: int | None
    error: str | None
    retryable: bool
    call_ids: tuple[int, ...]
    rejected: tuple[tuple[int, Candidate], ...]
    seconds: float


def consult(
    advisor: Advisor,
    request: AdviceRequest,
    *,
    parse: Callable[[str], T],
    ledger: Ledger,
    deadline: float,
    policy: Policy | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Consultation[T]:
    """Asks until there is a usable answer, `deadline` seconds have passed or asking again makes no sense.

    An answer that `parse` rejects (BadAnswer), or of which every candidate has problems, is asked for once more with
    the reasons; a failed attempt is made again as `policy` says.
    """
    return _Call(advisor, parse, ledger, deadline, policy or Policy(), clock, sleep).run(request)


@dataclass(frozen=True, slots=True)
class _Reply(Generic[T]):
    """A text that came back, read. `problems` is why it cannot be used."""

    call_id: int
    text: str
    answer: T | None
    problems: tuple[str, ...]


class _TooLate(AdvisorFailed):
    """The deadline passed during the attempt."""


class _Call(Generic[T]):
    """The state of one consultation."""

    def __init__(
        self,
        advisor: Advisor,
        parse: Callable[[str], T],
        ledger: Ledger,
        deadline: float,
        policy: Policy,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ):
        self._advisor, self._parse, self._ledger = advisor, parse, ledger
        self._deadline, self._policy, self._clock = deadline, policy, clock
        self._began = clock()
        self._ends = self._began + deadline
        self._failures = 0
        self._call_ids: list[int] = []
        self._retrying = Retrying(
            sleep=sleep,
            wait=self._wait,
            stop=self._stop,
            retry=retry_if_exception(_may_retry),
            reraise=True,
        )

    def run(self, request: AdviceRequest) -> Consultation[T]:
        reply: _Reply[T] | None = None
        rejected: tuple[tuple[int, Candidate], ...] = ()
        try:
            reply = self._retrying(self._attempt, request)
            if reply.problems and self._failures < self._policy.attempts and self._clock() < self._ends:
                first, reply = reply, None
                rejected = tuple((first.call_id, candidate) for candidate in _candidates(first.answer))
                reply = self._retrying(self._attempt, _again(request, first))
        except AdvisorFailed as failure:
            error: str | None = _clean(str(failure))
            retryable = failure.retryable
        except CapReached as cap:
            error, retryable = str(cap), False
        else:
            error, retryable = _unusable(reply.problems), True
        return Consultation(
            answer=reply.answer if reply else None,
            answer_call=reply.call_id if reply and reply.answer else None,
            error=error,
            retryable=retryable,
            call_ids=tuple(self._call_ids),
            rejected=rejected,
            seconds=self._clock() - self._began,
        )

    # ---------------------------------------------------------------- one attempt

    def _attempt(self, request: AdviceRequest) -> _Reply[T]:
        call_id = self._ledger.begin(len(self._call_ids) + 1, request.messages)
        self._call_ids.append(call_id)
        began = self._clock()

        def end(status: Literal["answered", "failed", "abandoned"], error: str | None, completion: Any) -> None:
            known = _storable(completion) if isinstance(completion, Completion) else None
            self._ledger.end(call_id, status=status, error=error, completion=known, seconds=self._clock() - began)

        try:
            completion = self._complete(request)
            reply = self._read(call_id, completion)
        except AdvisorFailed as failure:
            self._failures += 1
            # A refused or truncated answer cost its tokens all the same.
            end(
                "abandoned" if isinstance(failure, _TooLate) else "failed",
                _clean(str(failure)) + ("" if failure.retryable else FINAL),
                failure.data.get("completion"),
            )
            raise
        except BaseException:
            end("abandoned", INTERRUPTED, None)
            raise
        error = _unusable(reply.problems)
        self._failures += error is not None
        end("failed" if error else "answered", error, completion)
        return reply

    def _complete(self, request: AdviceRequest) -> Completion:
        """Runs the advisor in a thread of its own: no library's timeout bounds a server that sends a byte a second.

        After the deadline the thread is left alone; what it brings later goes into a queue that nobody reads.
        """
        remaining = min(max(self._ends - self._clock(), 0.0), threading.TIMEOUT_MAX)
        box: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work() -> None:
            try:
                box.put(self._advisor.complete(request, timeout=remaining))
            except BaseException as error:  # a plugin's SystemExit must not end as a silent thread
                box.put(error)

        threading.Thread(target=work, daemon=True, name=f"advisor-{self._advisor.name}").start()
        try:
            came = box.get(timeout=remaining)
        except queue.Empty:
            came = None
            on_time = False
        else:
            on_time = self._clock() < self._ends
        if not on_time:
            raise _TooLate(f"no answer within {self._deadline:g} s", retryable=True)
        if isinstance(came, AdvisorFailed):
            raise came
        if isinstance(came, BaseException):
            raise AdvisorFailed(f"{type(came).__name__}: {came}", retryable=False)
        if not isinstance(came, Completion) or not isinstance(came.text, str):
            raise AdvisorFailed(f"the advisor returned {type(came).__name__}, not a Completion", retryable=False)
        if len(came.text) > MAX_ANSWER:
            raise AdvisorFailed(f"the answer is longer than {MAX_ANSWER} characters", retryable=False, completion=came)
        return came

    def _read(self, call_id: int, completion: Completion) -> _Reply[T]:
        text = _encodable(completion.text)
        try:
            answer = self._parse(text)
        except BadAnswer as bad:
            return _Reply(call_id, text, None, bad.problems or (bad.message,))
        except Exception as fault:  # no text may stop a study; what went wrong is in the row
            raise AdvisorFailed(
                f"reading the answer failed: {type(fault).__name__}: {fault}", retryable=False, completion=completion
            ) from fault
        candidates = _candidates(answer)
        if candidates and all(candidate.problems for candidate in candidates):
            numbered = enumerate(candidates, 1)
            return _Reply(call_id, text, answer, tuple(f"candidate {i}: {p}" for i, c in numbered for p in c.problems))
        return _Reply(call_id, text, answer, ())

    # ---------------------------------------------------------------- when to try again

    def _wait(self, state: RetryCallState) -> float:
        backoff = wait_exponential(multiplier=self._policy.backoff)(state)
        return max(backoff, _named_wait(state) or 0.0)

    def _stop(self, state: RetryCallState) -> bool:
        if self._failures >= self._policy.attempts:
            return True
        named, resumes = _named_wait(state), self._clock() + state.upcoming_sleep
        if named is None and resumes - self._began > self._policy.patience:
            return True
        return (named or 0.0) > self._policy.longest_wait or resumes >= self._ends


def _candidates(answer: object) -> tuple[Candidate, ...]:
    """Those of an answer to `propose`; other questions have none."""
    return answer.candidates if isinstance(answer, Answer) else ()


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, AdvisorFailed) and error.retryable


def _named_wait(state: RetryCallState) -> float | None:
    """Seconds the provider asked to wait."""
    error = state.outcome.exception() if state.outcome else None
    named = error.retry_after if isinstance(error, AdvisorFailed) else None
    return float(named) if isinstance(named, int | float) and math.isfinite(named) and named >= 0 else None


# ------------------------------------------------------------------------------------------------ texts


def _again(request: AdviceRequest, reply: _Reply[Any]) -> AdviceRequest:
    """The request with the bad answer and what is wrong with it."""
    listed = [f"- {problem}" for problem in reply.problems[:MAX_PROBLEMS]]
    if len(reply.problems) > MAX_PROBLEMS:
        listed.append(f"- and {len(reply.problems) - MAX_PROBLEMS} more")
    ask = "Answer again, with one JSON object of the same form and nothing else."
    words = "\n".join(["Your answer cannot be used:", *listed, ask])
    said = Message("assistant", redact(reply.text[:MAX_QUOTED]) or "(nothing)")
    return replace(request, messages=(*request.messages, said, Message("user", redact(words))))


def _unusable(problems: Sequence[str]) -> str | None:
    return _clean("the answer cannot be used: " + "; ".join(problems)) if problems else None


def _clean(text: str) -> str:
    """Fit to be stored and shown."""
    return redact(_encodable(text))[:MAX_ERROR]


def _encodable(text: str) -> str:
    """JSON may hold lone surrogates, which no UTF-8 file can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _storable(completion: Completion) -> Completion:
    """Without keys, and with None for every count that cannot be one."""

    def count(value: Any) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None

    def word(value: Any) -> str | None:
        return _clean(value)[:200] if isinstance(value, str) else None

    usd = completion.usd
    priced = isinstance(usd, int | float) and not isinstance(usd, bool) and math.isfinite(usd) and usd >= 0
    return Completion(
        text=redact(_encodable(completion.text[:MAX_ANSWER])) if isinstance(completion.text, str) else "",
        model=word(completion.model),
        tokens_in=count(completion.tokens_in),
        tokens_cached=count(completion.tokens_cached),
        tokens_out=count(completion.tokens_out),
        usd=float(usd) if priced and usd is not None else None,
        request_id=word(completion.request_id),
        tokens_reasoning=count(completion.tokens_reasoning),
    )


# ------------------------------------------------------------------------------------------------ breaker


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the consultation for trial `number` ended; `error` is None when it brought a usable answer."""

    number: int
    error: str | None
    retryable: bool = True


class Breaker:
    """Leaves an advisor alone that keeps failing, for a number of trials rather than seconds: runs repeat.

    Opens after `after` failed consultations in a row, at once after one that is not retryable. Then `skip` trials go by
    without it and the next one is a probe; each failed probe doubles the pause, up to `most`. A success forgets all.
    """

    def __init__(self, *, after: int = 2, skip: int = 4, most: int = 32):
        self._after, self._skip, self._most = after, skip, most
        self._pause = skip
        self._failures = 0
        self._probe = 0  # the first trial that may ask again
        self._cause = ""

    def allow(self, number: int) -> str | None:
        """None when trial `number` may consult, else why not."""
        if number >= self._probe:
            return None
        times = "a failure" if self._failures == 1 else f"{self._failures} failures in a row"
        return f"the advisor is left alone until trial {self._probe} after {times}, the last: {self._cause}"

    def record(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._failures, self._pause, self._probe = 0, self._skip, 0
            return
        self._failures += 1
        self._cause = outcome.error
        if self._failures >= self._after or not outcome.retryable:
            self._probe = outcome.number + 1 + self._pause
            self._pause = min(2 * self._pause, self._most)
