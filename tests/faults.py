"""A study that can be killed at any of the moments that matter, and what must hold of its file afterwards."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from tunewright.agent import Agent, Budget, Float, State
from tunewright.agent.store import Store
from tunewright.agent.testing import FakeAdvisor

SPACE = {"x": Float(0, 1), "y": Float(0, 1)}
TRIALS, BUDGET = 3, Budget(trials=20)  # of so many, two may be advised from the start


def train(path: Path, told: Callable[[int, float], None], passes: Callable[[str], None]) -> None:
    """Runs the study, or what is left of it, in this process. `told` hears each result once the store has it; `passes`
    hears "commit:before", "commit:after", "call:..." and "rename:..." as they come."""
    commit, rename = Database.execute, os.rename

    def execute(self: Any, sql: str, *rest: Any) -> Any:
        if sql != "COMMIT":
            return commit(self, sql, *rest)
        passes("commit:before")
        found = commit(self, sql, *rest)
        passes("commit:after")
        return found

    def renamed(*names: Any, **options: Any) -> None:
        passes("rename:before")
        rename(*names, **options)
        passes("rename:after")

    def answer(request: Any) -> Any:
        passes("call:before")
        found = {"x": 0.25, "y": 0.5}
        passes("call:after")
        return found

    Database.execute, os.rename = execute, renamed  # type: ignore[method-assign]
    try:
        study(path, told, FakeAdvisor(answer))
    finally:
        Database.execute, os.rename = commit, rename  # type: ignore[method-assign]


def study(path: Path, told: Callable[[int, float], None], advisor: Any = None) -> None:
    with Agent(SPACE, metric="loss", store=path, engine="sobol", advisor=advisor, budget=BUDGET) as agent:
        while len(agent.trials) < TRIALS or any(not t.state.finished for t in agent.trials):
            trial = agent.suggest()
            for step in range((trial.checkpoint_step or 0) + 1, 3):
                with trial.checkpoint(step) as folder:
                    (folder / "weights").write_text(f"{trial.number} {step}")
                agent.report(trial, step, trial["x"] / step)
            assert (trial.checkpoint_dir / "weights").read_text() == f"{trial.number} 2"
            value = (trial["x"] - 0.3) ** 2 + trial["y"]
            agent.observe(trial, value)
            told(trial.number, value)


def tune(path: Path, told: Callable[[int, float], None]) -> None:
    """The same by a runner, which may share the study with others: trials have leases."""

    def objective(trial: Any) -> float:
        for step in range((trial.checkpoint_step or 0) + 1, 3):
            with trial.checkpoint(step) as folder:
                (folder / "weights").write_text(f"{trial.number} {step}")
            trial.report(step, trial["x"] / step)
        return (trial["x"] - 0.3) ** 2 + trial["y"]

    def ended(agent: Any, trial: Any) -> None:
        if trial.value is not None:
            told(trial.number, trial.value)

    with Agent(SPACE, metric="loss", store=path, engine="sobol", advisor=None, budget=Budget(trials=TRIALS)) as agent:
        agent.tune(objective, callbacks=[ended])


def configurations(path: Path) -> list[Any]:
    with Store.open(path) as store:
        return [(t.number, dict(t.params), t.source, t.values) for t in store.trials(1)]


def check(path: Path, told: dict[int, float]) -> None:
    """Integrity; and every result that was acknowledged is there once."""
    with Store.open(path) as store:
        assert store.integrity() == []
        stored = {t.number: t.values for t in store.trials(1, states=(State.COMPLETE,))} if store.studies() else {}
        ends = [e.number for e in store.events(1) if e.kind == "trial_finished"] if store.studies() else []
        assert len(set(ends)) == len(ends)
        for number, value in told.items():
            assert stored.get(number) == (value,), f"trial {number} was acknowledged"
            assert store.repeats(1, number) == []


def in_child(work: Callable[[Callable[[int, float], None]], None]) -> tuple[int, dict[int, float]]:
    """Runs it in a forked child, which may be killed: (how it ended as os.waitpid says it, what it told)."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reads)
            work(lambda number, value: os.write(writes, f"{number} {value!r}\n".encode()) and None)
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    os.close(writes)
    with os.fdopen(reads) as lines:
        told = {int(number): float(value) for number, value in (line.split() for line in lines)}
    return os.waitpid(child, 0)[1], told


def killer(at: int, seen: list[str] | None = None) -> Callable[[str], None]:
    """Kills the process at the moment of that number; `seen` collects their names."""
    count = -1

    def passes(name: str) -> None:
        nonlocal count
        count += 1
        if seen is not None:
            seen.append(name)
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return passes
