"""One run of a command: its process group, its two streams, and the reports that come out of it."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import IO, Any

from tunewright.agent.errors import TrialFailed
from tunewright.agent.records import Resources
from tunewright.agent.redact import Redactor, redact, secret_variables
from tunewright.agent.report import CHANNEL
from tunewright.agent.runners.meter import Meter
from tunewright.agent.runners.output import HEAD, TAIL

GRACE = 10.0  # seconds between SIGTERM and SIGKILL, and for a script that was told its verdict to end by itself
POLL = 0.1
LATEST = 4_096  # bytes at a stream's end in which its last line is looked for
_WORD = re.compile(rb"\S{0,4096}")
CHUNK = 2**16
MAX_LINE = 2**16  # a longer line is no report


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics of one step, None where none was named. `answer` tells the script the verdict, where it listens."""

    step: float | None
    metrics: Mapping[str, float]
    answer: Callable[[str], None] | None = None


class Process:
    """A started command. `reports` yields until it has ended; `close` ends what is left of its group."""

    def __init__(
        self,
        words: Sequence[str],
        program: str,
        cwd: Path,
        extra: Mapping[str, str],
        folder: Path,
        gpus: Sequence[str] = (),
    ):
        self._closed = False
        self.over = False  # whether it was ended for having trained far enough
        self.texts: dict[str, str] = {}  # what its lines hold as text, where a metric should be a number
        self._queue: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._channel = _Channel(self._queue)
        self._guard: _Guard | None = None
        self._pumps: list[threading.Thread] = []
        secrets = secret_variables()
        environment = {name: value for name, value in os.environ.items() if name not in secrets}
        try:
            self._popen = subprocess.Popen(
                list(words), executable=program, cwd=cwd, env={**environment, **extra, CHANNEL: self._channel.address},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._channel.close()
            raise TrialFailed(f"the command cannot be started: {error}") from None
        assert self._popen.stdout is not None and self._popen.stderr is not None, "both are pipes"
        self._meter = Meter(self._popen.pid, gpus)
        self.stdout, self.stderr = Sink(folder / "stdout.txt"), Sink(folder / "stderr.txt")
        try:
            self._guard = _Guard(self._popen.pid)
            self._pumps.append(_pump(self._popen.stdout, self.stdout, self._line))
            self._pumps.append(_pump(self._popen.stderr, self.stderr, None))
        except (OSError, RuntimeError) as error:  # no process or thread is left to be had
            self.close()
            self._popen.stdout.close()
            self._popen.stderr.close()
            raise TrialFailed(f"the command cannot be watched: {error}") from None

    def reports(
        self, interrupted: Callable[[], bool], timeout: float | None, memory: int | None = None
    ) -> Iterator[Report]:
        """As they come, until the command has ended. Raises TrialFailed when it took more than `timeout` seconds or
        `memory` bytes, and KeyboardInterrupt when `interrupted`."""
        began = time.monotonic()
        while True:
            if interrupted():
                raise KeyboardInterrupt
            now = time.monotonic()
            if timeout is not None and now > began + timeout:
                raise TrialFailed(f"ran longer than {timeout:g} s")
            self._meter.look(memory)
            with contextlib.suppress(queue.Empty):
                yield self._queue.get(timeout=POLL)
                continue
            if self._popen.poll() is not None and not self._drain():
                return

    def rest(self) -> Iterator[Report]:
        """Once it has ended: what it had said by then and nobody has heard."""
        while True:
            try:
                yield self._queue.get_nowait()
            except queue.Empty:
                return

    def _drain(self) -> bool:
        """Whether more may come: the pipes of an ended command are read to their end, unless a child holds them."""
        for pump in self._pumps:
            pump.join(1.0)
        return not self._queue.empty()

    @property
    def resources(self) -> Resources | None:
        """What its processes took until they were last looked at."""
        return self._meter.taken()

    @property
    def lost(self) -> str | None:
        """Why a part of what it printed is in no file; None where all of it is."""
        return self.stdout.broken or self.stderr.broken

    @property
    def code(self) -> int | None:
        return self._popen.poll()

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)

    def close(self) -> None:
        """SIGTERM to the whole group, GRACE seconds, SIGKILL; a command that has ended leaves its children to this. A
        second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)
                self.wait(GRACE if number == signal.SIGTERM else 60.0)
        for pump in self._pumps:
            pump.join(5.0)
        if self._guard is not None:
            self._guard.dismiss()
        self._channel.close()

    def _line(self, line: bytes) -> None:
        """A line of standard output that is a JSON object with numbers."""
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, or nested without end
            return
        self.texts |= {name: value[:40] for name, value in found.items() if isinstance(value, str)}
        if report := report_of(found, None):
            self._queue.put(report)


def report_of(found: Any, answer: Callable[[str], None] | None) -> Report | None:
    """The numbers of an object; `step` is their step. None where there are none."""
    if not isinstance(found, dict):
        return None
    numbers = {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**308)
    }
    step = numbers.pop("step", None)
    return Report(step, numbers, answer) if numbers else None


# ------------------------------------------------------------------------------------------------ streams


class Sink:
    """A stream's first and last megabyte, keys taken out, in a file; what lies between is counted. A file that cannot
    be written, on a full disk say, ends there: it must not cost the trial."""

    def __init__(self, path: Path):
        self._path, self._head, self._missing = path, 0, 0
        self.broken: str | None = None  # why its file ended before its stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._redactor: Redactor | None = Redactor()  # of the head; the tail is redacted when it is known
        self._tail: deque[bytes] = deque()
        self._kept = 0
        self._latest = b""

    def write(self, data: bytes) -> None:
        self._latest = (self._latest + data)[-LATEST:]
        if self._redactor is not None:
            self._append(self._redactor.feed(self._decoder.decode(data)))
            self._head += len(data)
            if self._head >= HEAD:
                self._end_head()
            return
        self._tail.append(data)
        self._kept += len(data)
        while self._kept - len(self._tail[0]) >= TAIL:
            dropped = len(self._tail.popleft())
            self._kept -= dropped
            self._missing += dropped

    def _end_head(self) -> None:
        """What the redactor keeps back may go on in the tail."""
        assert self._redactor is not None, "there is one head"
        rest, self._redactor = self._redactor.rest.encode() + self._decoder.getstate()[0], None
        if rest:
            self._tail.append(rest)
            self._kept += len(rest)

    def close(self) -> None:
        if self._redactor is not None:
            self._append(self._redactor.feed(self._decoder.decode(b"", final=True)) + self._redactor.end())
            return
        tail = b"".join(self._tail)
        if self._missing:  # the tail may begin within a key
            cut = len(_WORD.match(tail).group())  # type: ignore[union-attr]
            tail, self._missing = tail[cut:], self._missing + cut
            self._append(f"\n... {self._missing} bytes were left out here ...\n")
        self._append(redact(tail.decode("utf-8", "replace")))

    @property
    def last(self) -> str:
        """The last line that holds something."""
        latest = self._latest
        if len(latest) == LATEST:
            latest = latest[len(_WORD.match(latest).group()) :] or latest  # type: ignore[union-attr]
        lines = [line for line in redact(latest.decode("utf-8", "replace")).splitlines() if line.strip()]
        return lines[-1].strip()[-300:] if lines else ""

    def _append(self, text: str) -> None:
        if self.broken is not None:
            return
        try:
            with self._path.open("ab") as file:
                file.write(text.encode())
        except OSError as error:
            self.broken = f"{self._path.name}: {error.strerror or error}"


def _pump(stream: IO[bytes], sink: Sink, line: Callable[[bytes], None] | None) -> threading.Thread:
    def work() -> None:
        rest = b""
        with stream, contextlib.closing(sink):
            while data := os.read(stream.fileno(), CHUNK):
                sink.write(data)
                if line is None:
                    continue
                rest += data
                whole, _, rest = rest.rpartition(b"\n")
                if b"{" in whole:
                    for one in whole.splitlines():
                        if one.lstrip()[:1] == b"{" and len(one) <= MAX_LINE:
                            line(one)
                rest = rest[-2 * MAX_LINE :]
            if line is not None and rest.lstrip()[:1] == b"{":
                line(rest)

    thread = threading.Thread(target=work, name="tunewright-output", daemon=True)
    thread.start()
    return thread


# ------------------------------------------------------------------------------------------------ its end


class _Guard:
    """A process that ends a command's group when this one is gone, however it went. It waits at a pipe that breaks."""

    def __init__(self, group: int):
        script = f'read -r dismissed || kill -s KILL -- "-{group}"'
        self._popen = subprocess.Popen(
            ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def dismiss(self) -> None:
        self._popen.communicate(b"yes\n")


# ------------------------------------------------------------------------------------------------ the script's calls


class _Channel:
    """Where `tunewright.agent.report` inside the script connects: a socket in a private folder, with a key."""

    def __init__(self, reports: queue.SimpleQueue[Report]):
        self._reports, self._closed = reports, threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="tunewright-")
        self._key = os.urandom(16)
        family = "AF_PIPE" if os.name == "nt" else "AF_UNIX"
        place = None if os.name == "nt" else os.path.join(self._folder.name, "s")
        self._listener = Listener(place, family, authkey=self._key)
        self.address = json.dumps({"address": self._listener.address, "key": self._key.hex()})
        self._thread = threading.Thread(target=self._accept, name="tunewright-reports", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection = self._listener.accept()
            except Exception:  # somebody without the key, or a script that ended in the middle of a greeting
                continue
            if self._closed.is_set():
                connection.close()
                return
            threading.Thread(target=self._hear, args=(connection,), name="tunewright-report", daemon=True).start()

    def _hear(self, connection: Connection) -> None:
        with contextlib.suppress(EOFError, OSError, ValueError, RecursionError), connection:
            while not self._closed.is_set():
                found = json.loads(connection.recv_bytes(MAX_LINE))
                answers: queue.SimpleQueue[str] = queue.SimpleQueue()
                if report := report_of(found, answers.put):
                    self._reports.put(report)
                    connection.send_bytes(self._answer(answers).encode())
                else:
                    connection.send_bytes(b"continue")

    def _answer(self, answers: queue.SimpleQueue[str]) -> str:
        """Nobody reads reports any more once the command was ended: its threads must not wait for ever."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=1.0)
        return "stop"

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(Exception):  # a thread that waits at accept does not hear that its socket is closed
            Client(self._listener.address, authkey=self._key).close()
        self._thread.join(5.0)
        with contextlib.suppress(OSError):
            self._listener.close()
        self._folder.cleanup()
