"""The driver's side of one actor: a trial at a time, what it reports, and what became of it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.agent.commands.process import Sink
from tunewright.agent.errors import TrialFailed, TrialStopped
from tunewright.agent.records import Hold
from tunewright.agent.redact import redact
from tunewright.agent.runners.process import WIND_UP, Orders
from tunewright.agent.store import current_owner
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument, TunewrightError
from tunewright.plugins.ray.actor import Task

POLL = 1.0  # seconds between two looks at orders and limits
BEGINNINGS = 2  # actors that may die in a row before their first trial


class ActorLost(Exception):
    """The actor died, or the machine that it ran on."""


class Refused(BaseException):
    """The run cannot go on. A trial that it meets is handed back as it was."""

    def __init__(self, error: TunewrightError):
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class Place:
    """Where a study's trials are kept: the folder in the checkpoint store, and the token on the driver's disk."""

    study: str
    token: Path


class RemoteWorker:
    """An actor, made when it is first needed, reused, and replaced after it died."""

    def __init__(self, make: Callable[[], Any], kill: Callable[[Any], None], orders: Orders, timeout: float | None):
        self._make, self._kill, self._orders, self._timeout = make, kill, orders, timeout
        self._actor: Any = None
        self.is_ready = self.began = False  # whether it waits for a trial, and ever did

    def ready(self, unneeded: Callable[[], bool]) -> bool:
        """Waits until the cluster has room for it and it can take a trial. False where it has not begun by the time
        that it is `unneeded`, or was to stop. Raises Refused when actors die before they are ready."""
        for left in reversed(range(BEGINNINGS)):
            if self.is_ready:
                return True
            if self._actor is None:
                self._actor = self._make()
            future = self._actor.ready.remote().future()
            try:
                while not (self._orders.stop if self.began else unneeded()):
                    with contextlib.suppress(NotYet):
                        future.result(POLL)
                        self.is_ready = self.began = True
                        return True
                return False
            except Exception as error:
                self.kill()
                if not left:
                    raise Refused(_cannot_start(error)) from error
        raise AssertionError("the last try returns or raises")

    def train(self, trial: Trial, place: Place) -> Any:
        """The objective's value. A trial whose actor dies is begun once more, as its next attempt.

        Raises TrialFailed with the reason, TrialStopped on a verdict, KeyboardInterrupt.
        """
        try:
            return self._train(trial, place)
        except ActorLost as lost:
            _begin_again(trial, str(lost))
            if not self.ready(self._aborted):
                raise KeyboardInterrupt from None
        try:
            return self._train(trial, place)
        except ActorLost as lost:
            raise TrialFailed(f"{lost}, for the second time") from None

    def close(self) -> None:
        """Lets an idle actor end."""
        if not self.is_ready:
            self.kill()
        self._actor = None

    def kill(self) -> None:
        if self._actor is not None:
            self._kill(self._actor)
        self._actor, self.is_ready = None, False

    # ------------------------------------------------------------------------------------------ inner

    def _aborted(self) -> bool:
        return self._orders.abort

    def _train(self, trial: Trial, place: Place) -> Any:
        import cloudpickle

        output = {stream: Output(trial.folder / f"{stream}.txt") for stream in ("stdout", "stderr")}
        self.is_ready = False
        try:
            kind, *rest = self._converse(trial, Task(trial._record, place.study, trial.folder, place.token), output)
            self.is_ready = True
        finally:
            for stream in output.values():
                stream.close()
            if not self.is_ready:  # it may be in the middle of its trial
                self.kill()
        if kind == "error":
            raise TrialFailed(rest[0])
        if isinstance(rest[0], TrialStopped):
            raise rest[0]
        return cloudpickle.loads(rest[0])

    def _converse(self, trial: Trial, task: Task | None, output: dict[str, Output]) -> tuple[Any, ...]:
        """Takes messages and answers them until there is an outcome: ("value", pickled), ("error", text) or
        ("stopped", verdict)."""
        answers: list[tuple[int, str, Any]] = []
        verdict: TrialStopped | None = None
        ends = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            future = self._actor.exchange.remote(task, answers).future()
            task, answers = None, []
            for serial, kind, *facts in self._messages(future, ends, verdict):
                if kind == "report":
                    try:
                        answers.append((serial, "ok", trial.report(*facts)))
                    except TrialStopped as stop:
                        answers.append((serial, "ok", stop.verdict))
                        verdict, ends = stop, time.monotonic() + WIND_UP
                    except TunewrightError as error:
                        answers.append((serial, "error", str(error)))
                elif kind == "curve":
                    answers.append((serial, "ok", list(trial.curve)))
                elif kind == "note":
                    trial.note(facts[0])
                elif kind == "output":
                    output[facts[0]].write(facts[1])
                elif kind == "over":
                    raise TrialFailed(facts[0])
                elif kind == "unshared":
                    raise Refused(_unshared())
                elif verdict is not None:
                    return "stopped", verdict
                elif kind == "stopped":
                    return "error", "the objective stopped itself without a verdict"
                else:
                    return kind, *facts

    def _messages(
        self, future: Future[Any], ends: float | None, verdict: TrialStopped | None
    ) -> Sequence[tuple[Any, ...]]:
        """What the actor has to say, within the limits. Raises ActorLost, the verdict where it does not end by itself,
        TrialFailed past the time limit, KeyboardInterrupt."""
        from ray.exceptions import RayError

        while True:
            try:
                return future.result(POLL)
            except NotYet:
                pass
            except RayError as error:
                if verdict is not None:
                    raise verdict from None
                raise ActorLost(cause(error)) from error
            if self._orders.abort:
                raise KeyboardInterrupt
            if ends is not None and time.monotonic() > ends:
                raise verdict or TrialFailed(f"ran longer than {self._timeout:g} s")


class Output:
    """A stream of a trial, in its folder: whole lines, so that no key slips through in two halves."""

    MOST = 2**16  # bytes of a line that is not ended yet

    def __init__(self, path: Path):
        self._sink, self._rest = Sink(path), b""

    def write(self, data: bytes) -> None:
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if len(self._rest) > self.MOST:
            whole, newline, self._rest = whole + newline + self._rest, b"", b""
        if whole or newline:
            self._sink.write(whole + newline)

    def close(self) -> None:
        if self._rest:
            self._sink.write(self._rest)
        self._sink.close()


def _begin_again(trial: Trial, reason: str) -> None:
    """The next attempt at a trial whose worker died, with its parameters. Raises TrialFailed where another process was
    quicker to take it: there it goes on, and this attempt's end is kept beside."""
    agent = trial._agent
    agent.release(trial)
    record = agent._store.next_waiting(agent.study_id, Hold(current_owner(), leased=True))
    if record is None or record.number != trial.number:
        if record is not None:
            agent.release(record.number)
        raise TrialFailed(reason)
    trial._record = record


_CAUSES = (
    (r"OUT_OF_MEMORY|running low on memory", "its worker was ended: its machine ran out of memory"),
    (r"node (it was running on )?(has )?(died|is dead|failed)|NODE_DIED", "the machine of its worker is gone"),
    (r"exit code (-?\d+)", "its worker ended with exit code {}"),
)


def cause(error: Exception) -> str:
    """Why an actor is gone, in a few words."""
    for pattern, words in _CAUSES:
        if match := re.search(pattern, str(error), re.IGNORECASE):
            return words.format(*match.groups()[:1])
    return "its worker died (killed, out of memory, or a fault in native code)"


def _cannot_start(error: Exception) -> FixArgument:
    last = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
    fix = "install tunewright[ray] in the environment of every node"
    return FixArgument(f"its workers cannot start: {redact(' '.join(last))}", field="runner", value="ray", fix=fix)


def _unshared() -> FixArgument:
    message = "the trials of a scheduled study go on from checkpoints, and the workers share no disk with the driver"
    fix = 'runner=("ray", {"checkpoint_store": "s3://BUCKET/FOLDER"})'
    return FixArgument(message, field="checkpoint_store", fix=fix)
