"""How many workers one driver feeds: its cost per trial and per report, with simulated and with real Ray actors.

    python benchmarks/scale.py costs --trials 300
    python benchmarks/scale.py driver --workers 10 100 1000     the driver's own code, actors simulated in one thread
    python benchmarks/scale.py ray --workers 1 2 4              actors of a Ray cluster on this machine
    python benchmarks/scale.py plan --trial-ms 3 --file-ms 5   what follows for larger clusters

`costs` times what a driver does for a trial and for a report, in one thread. `plan` puts such costs into a simulation
of one and of several drivers on one file.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import cloudpickle

from tunewright.agent import Agent, Float, Int

SPACE = {**{f"x{i}": Float(0, 1) for i in range(4)}, "lr": Float(1e-5, 1, log=True), "width": Int(1, 512, log=True)}


def study(folder: str, engine: str) -> Agent:
    return Agent(SPACE, metric="loss", store=Path(folder) / "s.db", engine=engine, advisor=None)


# ------------------------------------------------------------------------------------------------ simulated actors


class Clock:
    """One thread that completes futures when they are due."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Future[Any], Any]] = []
        self._serial, self._changed = itertools.count(), threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def at(self, when: float, future: Future[Any], value: Any) -> None:
        with self._changed:
            heapq.heappush(self._due, (when, next(self._serial), future, value))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _, _, future, value = heapq.heappop(self._due)
            future.set_result(value)


class Method:
    """`actor.name.remote(...).future()`, without Ray."""

    def __init__(self, call: Any):
        self._call = call

    def remote(self, *args: Any) -> Method:
        self._future = self._call(*args)
        return self

    def future(self) -> Future[Any]:
        return self._future


class SimulatedActor:
    """Trains for `seconds` and reports every `every` of them, gathered for `batch` seconds as a real actor does."""

    def __init__(self, clock: Clock, seconds: float, every: float, batch: float, idle: list[float]):
        self._clock, self._seconds, self._every, self._batch, self._idle = clock, seconds, every, batch, idle
        self._ended = 0.0

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self, f"_{name}"))

    def _ready(self) -> Future[int]:
        done: Future[int] = Future()
        done.set_result(0)
        return done

    def _exchange(self, task: Any, answers: Any) -> Future[Any]:
        now = time.monotonic()
        if task is not None:
            if self._ended:
                self._idle.append(now - self._ended)
            self._began, self._told = now, 0
        due = max(now, min(self._began + (self._told + 1) * self._every + self._batch, self._began + self._seconds))
        reached = min(int((due - self._began) / self._every), int(self._seconds / self._every))
        steps = range(self._told + 1, reached + 1)
        messages: list[tuple[Any, ...]] = [(step, "report", float(step), random.random(), {}) for step in steps]
        self._told = reached
        if due >= self._began + self._seconds:
            messages.append((0, "value", cloudpickle.dumps(random.random())))
            self._ended = due
        future: Future[Any] = Future()
        self._clock.at(due, future, messages)
        return future


def drive(workers: int, seconds: float, every: float, length: float, engine: str) -> None:
    from tunewright.agent.loop import StudyWork
    from tunewright.agent.runners.process import Orders
    from tunewright.plugins.ray.handle import RemoteWorker
    from tunewright.plugins.ray.runner import RayRunner, gathered_for

    batch = gathered_for(workers)
    clock, idle, trials = Clock(), [], max(1, round(workers * length / seconds))
    with tempfile.TemporaryDirectory() as folder, study(folder, engine) as agent:
        work = StudyWork(agent, lambda trial: 0.0, trials, None, ((), ()), print)
        crew = [
            RemoteWorker(lambda: SimulatedActor(clock, seconds, every, batch, idle), lambda actor: None, Orders(), None)
            for _ in range(workers)
        ]
        began, used = time.monotonic(), time.process_time()
        RayRunner(workers)._put_to_work(work, crew)
        wall, cpu = time.monotonic() - began, time.process_time() - used
        points = sum(len(agent.curve(trial)) for trial in agent.trials)
    mean = sum(idle) / len(idle) if idle else 0.0
    print(
        f"{workers:5} workers, {seconds:g} s a trial, a report each {every:g} s: {trials} trials and {points} reports "
        f"in {wall:.1f} s ({trials / wall:.1f} and {points / wall:.0f} a second), {cpu:.1f} s of its processor, "
        f"workers trained {trials * seconds / (workers * wall):.0%} of the time, next trial after {mean:.2f} s",
        flush=True,
    )


# ------------------------------------------------------------------------------------------------ real actors


def real(workers: int, trials: int, reports: int, engine: str) -> None:
    def objective(trial: Any) -> float:
        for step in range(1, reports + 1):
            trial.report(step, trial["x0"] / step)
        return float(trial["x0"])

    with tempfile.TemporaryDirectory() as folder, study(folder, engine) as agent:
        runner = ("ray", {"resources": {"cpu": 0.01}})
        agent.tune(objective, workers, workers=workers, runner=runner)  # whatever is loaded for the first time
        times: list[float] = []
        began, used = time.monotonic(), time.process_time()
        agent.tune(
            objective, trials, workers=workers, runner=runner, callbacks=[lambda *_: times.append(time.monotonic())]
        )
        cpu = time.process_time() - used
        span = times[-1] - times[0]
        print(
            f"{workers:5} actors, {reports} reports each: {trials} trials, first after {times[0] - began:.1f} s, the "
            f"others at {(trials - 1) / span:.1f} a second ({(trials - 1) * reports / span:.0f} reports), "
            f"{cpu:.1f} s of its processor",
            flush=True,
        )


# ------------------------------------------------------------------------------------------------ past one driver


def costs(trials: int, reports: int, engine: str) -> None:
    """One thread: a trial's beginning and end, and its reports, by the processor's time and by the clock."""
    with tempfile.TemporaryDirectory() as folder, study(folder, engine) as agent:
        spent = {"trial": [0.0, 0.0], "report": [0.0, 0.0]}

        def timed(what: str, call: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            found = call()
            spent[what][0] += time.perf_counter() - wall
            spent[what][1] += time.process_time() - cpu
            return found

        agent.suggest()
        for _ in range(trials):
            trial = timed("trial", agent.suggest)
            timed("report", lambda trial=trial: [agent.report(trial, k, 1.0 / k) for k in range(1, reports + 1)])
            timed("trial", lambda trial=trial: agent.observe(trial, 1.0))
    for what, (wall, cpu) in spent.items():
        n = trials * (reports if what == "report" else 1)
        print(f"a {what}: {cpu / n * 1e3:.3f} ms of the processor, {wall / n * 1e3:.3f} ms by the clock")


def share(workers: int, drivers: int, seconds: float, every: float, trial: float, report: float, file: float) -> float:
    """The share of the workers' time that is training. Each driver is a queue that takes `trial` seconds for a trial's
    end and the next one's beginning, and `report` for a report, which holds no worker up; the file is one more, for all
    drivers, that takes `file` for a trial."""
    draw, horizon, trained = random.Random(0), 10 * seconds, 0.0
    left = [1 - report / every * (workers // drivers) for _ in range(drivers)]  # of a driver, beside all its reports
    if min(left) <= 0:
        return 0.0
    free, file_free, began = [0.0] * drivers, 0.0, [0.0] * workers
    ends = [(draw.uniform(0, seconds), k) for k in range(workers)]
    heapq.heapify(ends)
    while ends:
        now, k = heapq.heappop(ends)
        trained += max(0.0, min(now, horizon) - began[k])
        if now < horizon:
            driver = k % drivers
            free[driver] = max(now, free[driver]) + trial / left[driver]
            file_free = began[k] = max(free[driver], file_free) + file
            heapq.heappush(ends, (began[k] + draw.expovariate(1 / seconds), k))
    return trained / (workers * horizon)


def plan(seconds: float, every: float, trial: float, report: float, file: float) -> None:
    print(
        f"trials of {seconds:g} s on average, a report each {every:g} s; {trial * 1e3:g} ms a trial and "
        f"{report * 1e3:g} ms a report in a driver, {file * 1e3:g} ms a trial in the file"
    )
    print("| workers | " + " | ".join(f"{d} driver{'s' * (d > 1)}" for d in (1, 2, 4, 8)) + " |\n|--:|--:|--:|--:|--:|")
    for workers in (100, 300, 1000, 3000, 10_000):
        cells = [f"{share(workers, drivers, seconds, every, trial, report, file):.0%}" for drivers in (1, 2, 4, 8)]
        print(f"| {workers:,} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["costs", "driver", "ray", "plan"])
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=10.0, help="of a trial")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two reports")
    parser.add_argument("--length", type=float, default=30.0, help="seconds of a run")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--reports", type=int, default=10, help="of a trial, in real actors")
    parser.add_argument("--engine", default="random")
    parser.add_argument("--trial-ms", type=float, default=5.0)
    parser.add_argument("--report-ms", type=float, default=0.1)
    parser.add_argument("--file-ms", type=float, default=5.0)
    args = parser.parse_args()
    if args.what == "plan":
        plan(args.seconds, args.every, args.trial_ms / 1e3, args.report_ms / 1e3, args.file_ms / 1e3)
    elif args.what == "costs":
        costs(args.trials, args.reports, args.engine)
    elif args.what == "driver":
        for workers in args.workers:
            drive(workers, args.seconds, args.every, args.length, args.engine)
    else:
        import ray

        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        for workers in args.workers:
            real(workers, args.trials, args.reports, args.engine)


if __name__ == "__main__":
    main()
