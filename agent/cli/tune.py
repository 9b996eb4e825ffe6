"""`tunewright tune study.yaml`: what will happen in a few lines, then the run, then the best."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.agent.agent import Agent
from tunewright.agent.cli import reading, render, study_file
from tunewright.agent.cli.live import Progress
from tunewright.agent.cli.main import DEFAULT_STORE, EXIT_FAILED, EXIT_INTERRUPTED
from tunewright.agent.commands import CommandObjective
from tunewright.agent.lineup import AUTO, choices
from tunewright.agent.scheduling import split_pair
from tunewright.agent.settings import Budget, objectives_of
from tunewright.agent.space_words import difference
from tunewright.agent.store import Store
from tunewright.agent.view import StudyView
from tunewright.agent.why import values_text
from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Space
from tunewright.engines.types import State
from tunewright.plugins.hooks import Source

GRID_POINTS = 5  # that the grid engine takes of a continuous parameter
MOST_COUNTED = 100_000


def run(
    file: Path,
    changes: Mapping[str, Any],
    trials: int | None,
    workers: int | None,
    as_json: bool,
    runner: str | None = None,
) -> None:
    asked = study_file.read(file)
    if runner is not None:
        asked = asked.run_by(runner)
    running = asked.runner
    objective = study_file.load_objective(asked)
    arguments: dict[str, Any] = {"store": Path(DEFAULT_STORE), "advisor": "rules", **asked.arguments, **changes}
    if arguments["advisor"] == "none":
        arguments["advisor"] = None
    store, budget = Path(arguments["store"]), arguments["budget"]
    edited = _edited_since(store, arguments["study"], arguments["space"])
    size = _grid_size(arguments["space"], _engine(arguments))
    if trials is None and size is None and budget.trials is None and budget.seconds is None:
        raise FixArgument("nothing limits this run", field=file.name, fix="--trials 50, or budget: {trials: 50}")
    out = sys.stderr if as_json else sys.stdout
    with Agent(**{**arguments, "space": None} if edited else arguments) as agent:
        if edited:
            render.line(
                f"The study's space was edited since {file.name} was written; the edited one is searched."
                " `tunewright export --format wandb` writes it as a file.",
                "",
                out,
            )
        # A clone goes on with a trial that counts already.
        states = [trial.state for trial in agent.trials if trial.resume_from in (None, trial.number)]
        scheduled = agent.config.get("scheduler") is not None
        waiting = 0 if scheduled else states.count(State.WAITING)
        total = _planned(budget, trials, len(states) - waiting, size)
        render.facts(_preflight(agent, arguments, total, len(states)) + _training(agent, objective), out)
        reached = math.inf if total is None else len(states) - waiting + total
        if size is not None and size > reached:
            text = f"warning: the grid has {render.count(size, 'combination')}, the budget allows {reached:,.0f}"
            render.line(f"{text}; raise it, or use another engine", "yellow", out)
        if asked.command is not None and (unnamed := asked.command.unnamed(agent.space)):
            told = "they reach it by the environment alone, in TUNEWRIGHT_PARAMS"
            render.line(f"warning: the command does not name {', '.join(unnamed)}; {told}", "yellow", out)
        ended = 0
        if total != 0 or scheduled:  # a scheduler may let trials go on that rest
            render.line(stream=out)
            # What the objective prints must not get into the document.
            quiet: Any = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
            try:
                with quiet, Progress(agent, total, to_stderr=as_json) as progress:
                    agent.tune(
                        objective,
                        total or None,
                        workers=workers or asked.workers,
                        runner=running,
                        **progress.hooks,
                    )
                    ended = progress.ended
            except KeyboardInterrupt:
                render.line("Interrupted. Nothing is lost: the same command goes on from here.", stream=sys.stderr)
                sys.exit(EXIT_INTERRUPTED)
        if not ended:
            render.line(f"Nothing is left to run: raise the budget in {file.name} to go on.", "yellow", out)
    if not _report(store, agent.study, as_json):
        sys.exit(EXIT_FAILED)


def _edited_since(store: Path, study: str, space: Space) -> bool:
    """Whether the file's space is an earlier version of the study's own."""
    if not store.exists():
        return False
    with Store.open(store, read_only=True) as found:
        record = found.study(study)
        if record is None or not difference(Space.from_dict(record.space), space):
            return False
        versions = (e.payload["space"] for e in found.events(record.id) if e.kind in ("study_created", "space_changed"))
        return any(not difference(Space.from_dict(version), space) for version in versions)


def _engine(arguments: Mapping[str, Any]) -> Source:
    """The engine that is asked for, as far as can be told before the study, which may have a scheduler, is open."""
    objectives = objectives_of(*(arguments.get(name) for name in ("metric", "direction", "objectives")))
    engine, _ = split_pair(arguments["engine"], arguments.get("scheduler"))
    return choices(engine, objectives or (), arguments["space"])[0].source


def _grid_size(space: Space, engine: Source) -> int | None:
    """How many configurations the grid engine will walk, None for other engines; counting ends at MOST_COUNTED."""
    if engine.name != "grid":
        return None
    size = space.size()
    if math.isfinite(size):
        return int(size)
    return sum(1 for _ in islice(space.enumerate(engine.options.get("points", GRID_POINTS)), MOST_COUNTED))


def _planned(budget: Budget, trials: int | None, begun: int, size: int | None) -> int | None:
    """Trials of this run, None where only time limits it. Those that wait to be taken up again are included, except
    with a scheduler, where whatever goes on comes besides; so `begun` leaves them out or not."""
    caps = [max(cap - begun, 0) for cap in (budget.trials, size) if cap is not None]
    return min([*caps, trials] if trials is not None else caps, default=None)


def _preflight(agent: Agent, arguments: Mapping[str, Any], total: int | None, done: int) -> list[tuple[str, str]]:
    size = agent.space.size()
    combinations = f", {render.count(size, 'combination')}" if math.isfinite(size) else ", continuous"
    budget: Budget = arguments["budget"]
    limits = [] if budget.trials is None else [render.count(budget.trials, "trial")]
    limits += [f"{total:,} in this run"] if total is not None and total != budget.trials else []
    limits += [] if budget.seconds is None else [f"{budget.seconds:g} s of training"]
    limits += [] if budget.tokens is None else [f"{budget.tokens:,} tokens"]
    limits += [] if budget.usd is None else [f"{budget.usd:g} USD"]
    resumed = f", goes on after {render.count(done, 'trial')}" if done else ""
    return [
        ("study", f"{agent.study} in {arguments['store']}{resumed}"),
        ("goal", ", ".join(f"{o.direction} {o.name}" for o in agent.objectives)),
        ("space", render.count(len(agent.space.names), "parameter") + combinations),
        ("engine", agent._engine[0].source.name + (" (auto)" if arguments["engine"] == AUTO else "")),
        ("advisor", arguments["advisor"] or "none"),
        ("budget", ", ".join(limits)),
    ]


def _training(agent: Agent, objective: Any) -> list[tuple[str, str]]:
    """How far trials are trained, and the command line of the default configuration."""
    scheduler = agent.config.get("scheduler")
    facts = [("scheduler", f"{scheduler[0]}, {reading.span(agent._view)}")] if scheduler else []
    if isinstance(objective, CommandObjective):
        params = agent.space.default() or agent.space.sample(np.random.default_rng(0))
        facts.append(("command", objective.shown(agent.space.complete(params))))
    return facts


def _report(path: Path, study: str, as_json: bool) -> bool:
    """Tells the best. Returns whether there is one."""
    with Store.open(path, read_only=True) as file:
        view = StudyView(file, reading.chosen(file, study))
        leaders = view.leaders()
        counts = {str(state): n for state, n in file.count(view.record.id).items() if n}
        trouble = _advisors_trouble(view)
        told = reading.summary(view)
    if as_json:
        best = [reading.trial_data(trial, view.objectives) for trial in leaders]
        render.document({"study": study, "store": str(path), "counts": counts, "best": best, "told": told})
        return bool(leaders)
    render.line()
    if trouble is not None:
        render.line(f"warning: {trouble}", "yellow")
    if not leaders:
        render.line("No trial was completed.", "red")
        render.line(f"See why they failed: {reading.command(f'tunewright show {shlex.quote(study)}', path)}")
        return False
    for trial in leaders:
        values = ", ".join(f"{o.name} {v:.6g}" for o, v in zip(view.objectives, trial.values or (), strict=True))
        render.line(f"Best: trial {trial.number}, {values}", "bold")
        render.line(f"  {values_text(trial.params)}")
    for sentence in told:
        render.line(f"  {sentence}")
    render.line()
    number, name = leaders[0].number, shlex.quote(study)
    words = (f"tunewright why {number} --study {name}", f"tunewright show {name} --sort value")
    render.commands([reading.command(text, path) for text in words])
    return True


def _advisors_trouble(view: StudyView) -> str | None:
    """What became of the advisor, where its last call failed: the engine went on alone."""
    calls = [call for call in view.store.calls(view.record.id) if call.status != "open"]
    if not calls or calls[-1].status == "answered":
        return None
    last = calls[-1]
    name = f"{last.advisor}:{last.model}" if last.model else last.advisor
    failed = sum(call.status != "answered" for call in calls)
    return f"the engine went on without {name}: {failed} of {len(calls)} calls failed, the last with: {last.error}"
