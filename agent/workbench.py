"""A study open on the bench: read while it trains in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewright.agent.agent import Agent
from tunewright.agent.errors import UnknownStudy
from tunewright.agent.settings import Budget
from tunewright.agent.store import Store
from tunewright.agent.trial import Trial
from tunewright.engines.errors import FixArgument, TunewrightError


class Workbench:
    """One study, open for tools; `run` trains in the background while others read.

    `objective` is what `run` needs; without it trials can be looked at but not run. Advisor and engine are those that
    the study was last worked on with, unless others are given.
    """

    def __init__(
        self,
        store: str | Path,
        study: str | None = None,
        *,
        objective: Callable[[Trial], Any] | None = None,
        advisor: Any = None,
        engine: Any = None,
        runner: Any = "local",
    ):
        self.path = Path(store)
        self._objective, self._runner = objective, runner
        with Store.open(self.path, read_only=True) as file:
            summaries = sorted(file.summaries(), key=lambda s: s.last_activity)
            names = [s.study.name for s in summaries]
            if not names or (study is not None and study not in names):
                fix = f"one of {', '.join(names)}" if names else "make one: tunewright tune study.yaml"
                raise UnknownStudy("there is no such study", field="study", value=study, fix=fix)
            record = file.study(study or names[-1])
        assert record is not None, "its name was just listed"
        stored = Budget(**record.config.get("budget", {}))
        self._given: dict[str, Any] = {
            "store": self.path,
            "study": record.name,
            "advisor": advisor or record.config.get("advisor"),
            "engine": engine or "auto",  # what it was made with
            "budget": stored,
        }
        self.agent = Agent(**self._given)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.trouble: str | None = None
        self.undo: list[tuple[str, Callable[[], Any]]] = []  # what was changed last, and how to take it back

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, trials: int) -> None:
        """Trains `trials` more in the background. Raises FixArgument when it cannot."""
        if self._objective is None:
            fix = "tunewright chat --file study.yaml"
            raise FixArgument("nothing here knows how to train a trial", field="run", fix=fix)
        if self.running:
            raise FixArgument("trials are being trained already", field="run", fix="pause first")
        self._stop.clear()
        self.trouble = None
        self._thread = threading.Thread(target=self._train, args=(trials,), name="tunewright-chat-run", daemon=True)
        self._thread.start()

    def _train(self, trials: int) -> None:
        try:
            for _ in range(trials):
                if self._stop.is_set():
                    return
                self.agent.tune(self._objective, 1, runner=self._runner)  # type: ignore[arg-type]
        except TunewrightError as error:
            self.trouble = str(error)

    def pause(self, wait: float | None = None) -> None:
        """No further trial starts; the one that trains ends by itself. `wait`: at most so many seconds for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(wait)

    def set_budget(self, trials: int) -> None:
        """The study under another cap on its trials. Raises FixArgument while trials train."""
        if self.running:
            raise FixArgument("trials are being trained", field="budget", fix="pause first")
        self.agent.close()
        self._given["budget"] = Budget(**{**self.agent.budget.to_config(), "trials": trials})
        self.agent = Agent(**self._given)

    def close(self) -> None:
        self.pause()
        self.agent.close()
