"""The worker's side: a Ray actor that gets the objective once and then trains one trial after the other.

The driver calls `exchange` again and again. Each call brings answers and takes away the messages that have come
together: (serial, "report", step, value, metrics), (serial, "curve"), (0, "output", stream, bytes), and the last of a
trial, (0, "value", pickled), (0, "error", text), (0, "stopped",), (0, "unshared",) or (0, "over", text). An answer is
(serial, "ok" or "error", result).

A report waits for its answer where a verdict may depend on it: in a study with a scheduler, or for a value that is not
finite. All others are gathered, so that a thousand workers can feed one driver; what comes back to them, an error or a
budget's end, is raised at the next report.
"""

from __future__ import annotations

import math
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.agent.checkpoints import Checkpoints
from tunewright.agent.errors import TrialFailed
from tunewright.agent.records import TrialRecord
from tunewright.agent.results import number_of
from tunewright.agent.runners.meter import Meter
from tunewright.agent.runners.output import HEAD, BoundedFile
from tunewright.agent.runners.worker import Link, captured, load_objective, outcome
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import Point, Verdict
from tunewright.plugins.ray.checkpoint_store import CheckpointStore, signature

HOLD = 30.0  # seconds that a call of the driver waits where there is nothing to tell
MOST = 10_000  # messages that may wait for the driver before a report waits too
BY_HAND = 30.0  # seconds between two looks at a checkpoint folder that a script writes to by itself

FOLDER = "tunewright-trial-"  # of a trial on a worker's disk, and then the actor's process id

Message = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all trials of a run have in common."""

    withheld: tuple[str, ...]  # names of environment variables
    paths: tuple[str, ...]  # where the driver finds modules
    memory: int | None  # bytes that an actor and its children may hold
    store: tuple[str, Mapping[str, Any]] | None  # url and options of the checkpoint store
    batch: float  # seconds in which messages that nobody waits for are gathered


@dataclass(frozen=True, slots=True)
class Task:
    record: TrialRecord
    study: str  # its folder in the checkpoint store
    folder: Path  # the trial's own on the driver
    token: Path  # a file that those see who share the driver's disk


class Post:
    """Messages on their way to the driver, and its answers. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._out: list[Message] = []
        self._urgent = False
        self._serial = 0
        self._answers: dict[int, tuple[str, Any]] = {}
        self._awaited: set[int] = set()
        self._late: tuple[str, Any] | None = None  # the answer to a report which had not waited for it

    def send(self, *message: Any) -> Any:
        """Without waiting, unless too many messages wait already. What the driver answered to an earlier one, None
        where it had nothing to say. Raises FixArgument."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._out) < MOST)
            late, self._late = self._late, None
            self._serial += 1
            self._out.append((self._serial, *message))
        return None if late is None else _answer(*late)

    def ask(self, *message: Any) -> Any:
        """The driver's answer. Raises FixArgument."""
        with self._changed:
            self._serial += 1
            serial = self._serial
            self._awaited.add(serial)
            self._out.append((serial, *message))
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: serial in self._answers)
            kind, answer = self._answers.pop(serial)
        return _answer(kind, answer)

    def tell(self, *message: Any) -> None:
        """The trial's last."""
        with self._changed:
            self._out.append((0, *message))
            self._urgent = True
            self._changed.notify_all()

    def deliver(self, answers: Sequence[tuple[int, str, Any]]) -> None:
        with self._changed:
            for serial, kind, answer in answers:
                if serial in self._awaited:
                    self._awaited.discard(serial)
                    self._answers[serial] = (kind, answer)
                elif kind == "error" or answer != Verdict.CONTINUE:
                    self._late = (kind, answer)
            self._changed.notify_all()

    def take(self, seconds: float) -> list[Message]:
        """Everything there is, at once where somebody waits for it, else after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._urgent, seconds)
            out, self._out, self._urgent = self._out, [], False
            self._changed.notify_all()
            return out


def _answer(kind: str, answer: Any) -> Any:
    if kind == "error":
        raise FixArgument(answer)
    return answer


class RayLink(Link):
    """Stands for the agent in an actor."""

    def __init__(self, post: Post):
        self._post = post
        self.keeper: Keeper | None = None

    def report(
        self, trial: Trial, step: float, value: float | None = None, metrics: Mapping[str, float] | None = None
    ) -> Verdict:
        plain = {str(name): number_of(one, str(name)) for name, one in (metrics or {}).items()}
        main = None if value is None else number_of(value, "value")
        at = number_of(step, "step", finite=True)
        if main is None and not plain:
            raise FixArgument("nothing to record", field="value", fix="trial.report(3, 0.41)")
        gathered = main is None or (trial.fidelity is None and math.isfinite(main))
        answer = (self._post.send if gathered else self._post.ask)("report", at, main, plain)
        verdict = Verdict(answer or Verdict.CONTINUE)
        if self.keeper is not None:
            self.keeper.look(now=verdict is not Verdict.CONTINUE)
        return verdict

    def add_note(self, study_id: int, number: int, text: str) -> None:
        self._post.send("note", str(text))

    def curve(self, trial: Trial) -> Sequence[Point]:
        return [(step, value) for step, value in self._post.ask("curve")]


class Keeper:
    """Keeps a trial's checkpoints in the study's store."""

    def __init__(self, store: CheckpointStore, number: int, folder: Path):
        self._store, self._number = store, number
        self._checkpoints = Checkpoints(folder)
        store.restore(number, self._checkpoints)
        self._kept = signature(self._checkpoints.current())
        self._looked = time.monotonic()

    def look(self, now: bool) -> None:
        """Keeps what a script wrote into its checkpoint folder by itself; every BY_HAND seconds, unless `now`."""
        if not now and time.monotonic() < self._looked + BY_HAND:
            return
        self._looked = time.monotonic()
        found = signature(self._checkpoints.current())
        if found and found != self._kept:
            self.keep()

    def keep(self) -> None:
        found = signature(self._checkpoints.current())
        if self._store.keep(self._number, self._checkpoints):
            self._kept = found


class RayTrial(Trial):
    """A trial in an actor: what it checkpoints is kept where the next worker finds it."""

    keeper: Keeper | None = None
    shared = True

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        if self.keeper is None and not self.shared:
            fix = 'runner=("ray", {"checkpoint_store": "s3://BUCKET/FOLDER"})'
            raise FixArgument("this worker shares no disk with the driver", field="checkpoint_store", fix=fix)
        with super().checkpoint(step) as folder:
            yield folder
        if self.keeper is not None:
            self.keeper.keep()


class TrialActor:
    """Reused from trial to trial. The objective runs in a thread that lives as long as the actor."""

    def __init__(self, objective: bytes, setting: Setting):
        for name in setting.withheld:
            os.environ.pop(name, None)
        sys.path.extend(path for path in setting.paths if path not in sys.path and os.path.exists(path))
        _clean()
        self._setting = setting
        self._objective = load_objective(objective)
        self._post = Post()
        self._tails: list[Tail] = []
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="tunewright-objective", daemon=True).start()

    def ready(self) -> int:
        """Its process id, once it can take a trial."""
        return os.getpid()

    def exchange(self, task: Task | None, answers: Sequence[tuple[int, str, Any]]) -> list[Message]:
        """Begins `task` where one is given; takes answers, and returns messages as soon as there are any."""
        if task is not None:
            self._tasks.put(task)
        self._post.deliver(answers)
        ends = time.monotonic() + HOLD
        while True:
            messages = self._post.take(self._setting.batch)
            over = any(message[0] == 0 for message in messages)
            output: list[Message] = [(0, "output", *chunk) for tail in self._tails for chunk in tail.read(over)]
            messages = output + messages
            if self._setting.memory is not None and not over:
                try:
                    Meter(os.getpid()).look(self._setting.memory)
                except TrialFailed as error:
                    messages.append((0, "over", str(error)))
            if messages or time.monotonic() > ends:
                return messages

    def _serve(self) -> None:
        while True:
            self._post.tell(*self._train(self._tasks.get()))

    def _train(self, task: Task) -> Message:
        """What became of the trial, as the message to send."""
        import ray

        shared, store = task.token.is_file(), self._setting.store
        if not shared and store is None and task.record.fidelity is not None:
            return ("unshared",)
        local = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        # A folder that the driver sees serves as it is; what is printed takes the way through the driver all the same,
        # which takes its keys out.
        direct = shared and store is None
        self._tails = [Tail("stdout", local / "stdout.txt"), Tail("stderr", local / "stderr.txt")]
        link = RayLink(self._post)
        trial = RayTrial(link, task.record, stops=True, folder=task.folder if direct else local)  # type: ignore[arg-type]
        trial.gpus, trial.shared = tuple(str(one) for one in ray.get_gpu_ids()), direct
        try:
            if store is not None:
                trial.keeper = link.keeper = Keeper(CheckpointStore(*store, task.study), task.record.number, local)
            with captured(local):
                last = outcome(self._objective, trial)
            if link.keeper is not None:
                link.keeper.look(now=True)
        except Exception as error:  # of the checkpoint store: its file system has errors of its own
            last = ("error", f"the checkpoint store failed: {type(error).__name__}: {error}")
        finally:
            for tail in self._tails:
                tail.end()
            shutil.rmtree(local, ignore_errors=True)
        return last


def _clean() -> None:
    """Removes what actors on this machine that were killed left behind."""
    import psutil

    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        pid = folder.name.removeprefix(FOLDER).split("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


class Tail:
    """What was written to a file since the last look: its first megabyte as it comes, the last one at the end."""

    def __init__(self, stream: str, path: Path):
        self._stream, self._path, self._sent = stream, path, 0
        self._file = BoundedFile(path)
        self._lock = threading.Lock()
        self._rest: list[bytes] = []
        self._over = False

    def read(self, over: bool) -> Iterator[tuple[str, bytes]]:
        """Chunks as (stream, bytes); those after the first megabyte only once the trial is `over`."""
        with self._lock:
            chunks = self._rest if over else self._new(HEAD)
            if over:
                self._rest = []
        return ((self._stream, chunk) for chunk in chunks)

    def end(self) -> None:
        """The rest is read before the file goes."""
        with self._lock:
            self._rest, self._over = self._new(None), True

    def _new(self, most: int | None) -> list[bytes]:
        if self._over or not self._path.exists():
            return []
        if self._file.too_long:
            self._file.trim()  # what is written at this moment may be lost: it is the middle of a flood
        with self._path.open("rb") as file:
            file.seek(self._sent)
            data = file.read(-1 if most is None else max(0, most - self._sent))
        self._sent += len(data)
        return [data] if data else []
