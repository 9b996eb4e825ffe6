"""A training command as the objective of a study."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.agent.commands import process
from tunewright.agent.commands.process import Process, Report
from tunewright.agent.commands.words import Command, executable, shown
from tunewright.agent.errors import TrialFailed, TrialStopped
from tunewright.agent.runners.limits import memory_of, obituary
from tunewright.agent.trial import Trial

NAMED = 8  # metrics that a complaint lists


class CommandObjective:
    """Runs `command` in `cwd` for each trial; its result is the last value reported of each of `metrics`.

    The script finds its trial in the environment too: TUNEWRIGHT_TRIAL, _PARAMS (JSON), _PURPOSE ("search" or
    "verify"), _SEED, _CHECKPOINT_DIR, _FIDELITY and _RESUME_FROM. `timeout`: seconds of one run; `memory`: what its
    processes may hold, in bytes or "2GB". Raises FixArgument for a command that cannot be executed.
    """

    def __init__(
        self,
        command: Command,
        metrics: Sequence[str],
        cwd: Path,
        timeout: float | None = None,
        memory: int | str | None = None,
    ):
        self._command, self._metrics, self._cwd = command, tuple(metrics), cwd
        self._timeout, self._memory = timeout, memory_of(memory)
        self._program = command.program_of(cwd)

    def shown(self, params: Mapping[str, Any]) -> str:
        """The command line of a configuration, the trial's own facts left as they are written."""
        facts = {name: f"{{{name}}}" for name in ("checkpoint_dir", "fidelity", "seed", "trial")}
        return shown(self._command.words(params, facts))

    def __call__(self, trial: Trial) -> float | dict[str, float]:
        facts: dict[str, Any] = {"checkpoint_dir": trial.checkpoint_dir, "seed": trial.seed, "trial": trial.number}
        facts |= {} if trial.fidelity is None else {"fidelity": trial.fidelity}
        words = self._command.words(trial.params, facts)
        program = self._program or executable(words[0], self._cwd)
        running = Process(words, program, self._cwd, _environment(trial, facts), trial.folder, trial.gpus)
        try:
            seen = self._follow(running, trial)
        finally:
            running.close()
            trial.resources = running.resources
            if running.lost:
                trial.note(f"a part of what it printed was lost ({running.lost})")
        return self._result(running, seen, trial)

    def _follow(self, running: Process, trial: Trial) -> dict[str, float]:
        """Hands reports on until the command ends. A verdict ends it: by itself where the script was told."""
        curve = trial.curve
        step = curve[-1][0] if curve else 0.0
        seen: dict[str, float] = {}
        for report in running.reports(trial.interrupted, self._timeout, self._memory):
            step = step + 1 if report.step is None else report.step
            if trial.fidelity is not None and step > trial.fidelity and seen.keys() >= set(self._metrics):
                # It knows nothing of a fidelity and would train on; a script that does ends by itself.
                if report.answer is not None:
                    report.answer("stop")
                    running.wait(process.GRACE)
                running.over = True
                break
            seen |= report.metrics
            try:
                self._tell(trial, step, report)
            except TrialStopped as stop:
                if report.answer is not None:
                    report.answer(stop.verdict)
                    running.wait(process.GRACE)
                else:
                    self._keep_rest(running, trial, step)
                raise
            if report.answer is not None:
                report.answer("continue")
        return seen

    def _tell(self, trial: Trial, step: float, report: Report) -> None:
        rest = dict(report.metrics)
        trial.report(step, rest.pop(self._metrics[0], None), rest)

    def _keep_rest(self, running: Process, trial: Trial, step: float) -> None:
        """A script that only prints trains on until it is ended. What it printed meanwhile is in its checkpoint, from
        which it may go on, and will not be printed again."""
        running.close()
        for report in running.rest():
            step = step + 1 if report.step is None else report.step
            with contextlib.suppress(TrialStopped):
                self._tell(trial, step, report)

    def _result(self, running: Process, seen: Mapping[str, float], trial: Trial) -> float | dict[str, float]:
        if not running.over and (code := running.code) != 0:
            raise TrialFailed(obituary("the command", code, running.stderr.last))
        if not seen and len(self._metrics) == 1 and (curve := trial.curve):
            return curve[-1][1]  # an earlier run had trained it to the end, and its checkpoint knew
        missing = [name for name in self._metrics if name not in seen]
        if text := next((f"{n} as text, {running.texts[n]!r}" for n in missing if n in running.texts), None):
            raise TrialFailed(f"the script printed {text}; a number has no quotes")
        if missing and seen:
            listed = ", ".join(sorted(seen)[:NAMED]) + (", ..." if len(seen) > NAMED else "")
            raise TrialFailed(f"the script printed no {', '.join(missing)}; it printed: {listed}")
        if missing:
            example = json.dumps({"step": 1, self._metrics[0]: 0.5})
            raise TrialFailed(
                f"the script printed no {', '.join(missing)}, nor any metric; a line like {example} is one"
            )
        return seen[self._metrics[0]] if len(self._metrics) == 1 else {name: seen[name] for name in self._metrics}


def _environment(trial: Trial, facts: Mapping[str, Any]) -> dict[str, str]:
    told = {**facts, "purpose": trial.purpose, "params": json.dumps(trial.params), "resume_from": trial.resume_from}
    found = {f"TUNEWRIGHT_{name.upper()}": str(value) for name, value in told.items() if value is not None}
    return found | ({"CUDA_VISIBLE_DEVICES": ",".join(trial.gpus)} if trial.gpus else {})
