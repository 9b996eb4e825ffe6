"""Signs of life while somebody waits for a run: one line, written over, on a terminal; a few plain ones elsewhere."""

from __future__ import annotations

import sys
import time

import click

from tunewright.agent.cli import render
from tunewright.agent.workbench import Run, Workbench
from tunewright.engines.types import State
from tunewright.prompts.text import plain

EVERY = 10.0  # seconds between two lines where nothing can be written over
WHEELS = "|/-\\"


class Waiting:
    """What `Workbench.on_wait` is told."""

    def __init__(self, bench: Workbench):
        self._bench = bench
        self._began: float | None = None
        self._wrote = 0.0
        self._looks = 0

    def __call__(self, run: Run, over: bool) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = self._wrote = now
        terminal = render.terminal(sys.stdout)
        if over:
            shown, self._began = self._looks > 0, None
            self._looks = 0
            if terminal and shown:
                click.echo("\r\x1b[K", nl=False)
        elif terminal:
            self._looks += 1
            text = f"{WHEELS[self._looks % len(WHEELS)]} {self._words(run, now - self._began)}"
            click.echo(f"\r\x1b[K{plain(text, render.console(sys.stdout).width - 1)}", nl=False)
            sys.stdout.flush()
        elif now - self._wrote >= EVERY:
            self._wrote = now
            render.line(f"  {self._words(run, now - self._began)}")

    def _words(self, run: Run, waited: float) -> str:
        agent = self._bench.agent
        told = [f"waiting {render.seconds(waited)}: {run.ended} of {render.count(run.trials, 'trial')} ended"]
        if len(agent.objectives) == 1 and (best := agent.best) is not None:
            told.append(f"best so far: trial {best.number}, {best.value:.4g}")
        running = agent._store.trials(agent.study_id, states=(State.RUNNING,))
        for trial in running[:3]:
            curve = agent.curve(trial.number)
            at = f" at step {curve[-1][0]:g} with {curve[-1][1]:.4g}" if curve else ""
            told.append(f"trial {trial.number}{at}")
        return "; ".join(told)
