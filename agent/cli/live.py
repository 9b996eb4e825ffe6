"""A run as it happens: a live table on a terminal, one line per finished trial anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from tunewright.agent.agent import Agent
from tunewright.agent.cli import render
from tunewright.agent.cli.render import Cell, Column
from tunewright.agent.loop import to_stderr
from tunewright.agent.trial import Trial
from tunewright.agent.why import values_text
from tunewright.engines.types import State
from tunewright.prompts.text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

LAST = 10  # finished trials that the table keeps
READ_EVERY = 1.0  # seconds between two readings of a running trial's curve: the store writes no faster


class Progress:
    """Follows `Agent.tune`.

    with Progress(agent, total) as progress:
        agent.tune(objective, **progress.hooks)
    """

    def __init__(self, agent: Agent, total: int | None, *, to_stderr: bool = False):
        self._agent, self._total = agent, total
        self._stream = sys.stderr if to_stderr else sys.stdout
        self._lock = threading.Lock()
        self._running: dict[int, tuple[Trial, float]] = {}
        self._done: list[list[Cell]] = []
        self.ended = 0  # runs of a trial
        self._counted: set[int] = set()  # trials, of which a scheduler lets one go on several times
        self._scheduled = agent.config.get("scheduler") is not None
        self._began = time.monotonic()
        self._curves: dict[int, tuple[float, list[float]]] = {}
        self._best = agent.best if len(agent.objectives) == 1 else None
        self._live: Any = None
        self._notice = ""
        self.hooks: dict[str, Any] = {
            "on_start": [self.started], "callbacks": [self.finished], "on_notice": self.notice
        }  # fmt: skip

    def __enter__(self) -> Progress:
        if render.terminal(self._stream):
            from rich.live import Live

            self._console = render.console(self._stream)
            self._live = Live(get_renderable=self._frame, console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, agent: Agent, trial: Trial) -> None:
        with self._lock:
            self._running[trial.number] = (trial, time.monotonic())

    def finished(self, agent: Agent, trial: Trial) -> None:
        curve = [value for _, value in trial.curve]
        with self._lock:
            _, began = self._running.pop(trial.number, (trial, time.monotonic()))
            self.ended += 1
            if not self._scheduled or (trial.resume_from is None and trial.attempt == 1):
                self._counted.add(trial.number)  # what had begun before, and clones, come besides
            if trial.state is State.WAITING:  # its worker died: another takes it
                self._counted.discard(trial.number)
            self._update_best(trial)
            took = time.monotonic() - began
            self._done = [*self._done[1 - LAST :], self._row(trial, self._outcome(trial, curve), curve, took)]
            if self._live is None:
                self._echo(self._plain_line(trial, curve, took))

    def _update_best(self, trial: Trial) -> None:
        if len(self._agent.objectives) > 1 or trial.state is not State.COMPLETE or trial.value is None:
            return
        loss = self._agent.objectives[0].loss
        if self._best is None or self._best.value is None or loss(trial.value) < loss(self._best.value):
            self._best = trial

    def notice(self, text: str) -> None:
        """A line written beside the live table would be drawn over, and leave the table in pieces."""
        self._notice = text
        if self._live is None:
            to_stderr(text)

    # ------------------------------------------------------------------------------------------ plain lines

    def _echo(self, line: str) -> None:
        """A reader that went away, or a full disk under the log, costs the lines and not the study."""
        try:
            click.echo(line, file=self._stream)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def _plain_line(self, trial: Trial, curve: list[float], took: float) -> str:
        count = len(self._counted)
        place = f"{count}/{self._total}" if self._total else str(count)
        parts = [
            f"[{place}]".ljust(9 if self._total else 6) + f"trial {trial.number}".ljust(10),
            self._result(trial, curve).ljust(31 if self._scheduled else 20),
            self._best_text(short=True).ljust(24),
            _chooser(trial).ljust(9),
            render.seconds(took).rjust(7),
            values_text(trial.params),
        ]
        if trial.error:
            parts.append(f"error: {trial.error}")
        return "  ".join(parts[:1] + [plain(p, render.CELL).ljust(len(p)) for p in parts[1:]]).rstrip()

    def _result(self, trial: Trial, curve: list[float]) -> str:
        if trial.values:
            return self._values(trial)
        if trial.state is State.PAUSED and curve:
            return f"{self._agent.objectives[0].name} {curve[-1]:.4g} paused at {trial.fidelity}"
        return "runs once more" if trial.state is State.WAITING else str(trial.state)

    def _values(self, trial: Trial) -> str:
        pairs = zip(self._agent.objectives, trial.values or (), strict=True)
        return ", ".join(f"{o.name} {v:.4g}" for o, v in pairs)

    def _best_text(self, short: bool = False) -> str:
        if self._best is None or self._best.value is None:
            return ""
        text = f"best {self._best.value:.4g} (trial {self._best.number})"
        return text if short else f"{text}  {values_text(self._best.params)}"

    # ------------------------------------------------------------------------------------------ the live table

    def _outcome(self, trial: Trial, curve: list[float]) -> Cell:
        if trial.state is State.PAUSED and curve:
            return (f"{curve[-1]:.4g} paused at {trial.fidelity}", render.STYLES["paused"])
        if not trial.values:
            return (str(trial.state), render.STYLES.get(str(trial.state), ""))
        return ", ".join(f"{v:.4g}" for v in trial.values)

    @staticmethod
    def _row(trial: Trial, outcome: Cell, curve: list[float], took: float, style: str = "") -> list[Cell]:
        text = trial.error or values_text(trial.params)
        return [(str(trial.number), style), _chooser(trial), outcome, (render.sparkline(curve), "cyan"),
                render.seconds(took), (text, "red" if trial.error else "")]  # fmt: skip

    def _frame(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        now = time.monotonic()
        with self._lock:
            running = [self._running[n] for n in sorted(self._running)]
            rows, count = list(self._done), len(self._counted)
        for trial, began in running:
            curve = self._curve_of(trial, now)
            outcome: Cell = (f"{curve[-1]:.4g}" if curve else "...", "cyan")
            rows.append(self._row(trial, outcome, curve, now - began, "cyan"))
        metric = ", ".join(o.name for o in self._agent.objectives)
        columns = [Column("trial", right=True), Column("by"), Column(metric, right=True),
                   Column("curve", optional=True), Column("time", right=True, optional=True),
                   Column("parameters", flexible="cut")]  # fmt: skip
        head = f"{self._agent.study}: {count}" + (f" of {render.count(self._total, 'trial')}" if self._total else "")
        head += f", {render.seconds(now - self._began)}"
        table = render.rich_table(columns, rows, self._console.width)
        parts: list[RenderableType] = [Text(plain(head, render.CELL), "bold"), table]
        if best := self._best_text():
            parts.append(Text(plain(best, render.CELL), "green", no_wrap=True, overflow="ellipsis"))
        if self._notice:
            parts.append(Text(self._notice, "yellow"))
        return Group(*parts)

    def _curve_of(self, trial: Trial, now: float) -> list[float]:
        read, curve = self._curves.get(trial.number, (0.0, []))
        if now - read >= READ_EVERY:
            curve = [value for _, value in trial.curve]
            self._curves[trial.number] = (now, curve)
        return curve


def _chooser(trial: Trial) -> str:
    return trial._record.chosen_by
