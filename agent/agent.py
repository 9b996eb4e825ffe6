"""The loop: one suggestion from space and history to a stored trial, and back from its result."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from tunewright.agent import settings
from tunewright.agent.advice import AdviceDesk
from tunewright.agent.errors import BudgetSpent
from tunewright.agent.lineup import choices
from tunewright.agent.opening import difference, open_study, plain
from tunewright.agent.redact import redact
from tunewright.agent.results import number_of, values_of
from tunewright.agent.settings import Budget
from tunewright.agent.store import Store
from tunewright.agent.suggester import Suggester
from tunewright.agent.trial import Trial
from tunewright.agent.view import StudyView
from tunewright.agent.why import Why
from tunewright.engines.errors import FixArgument, SpaceExhausted
from tunewright.engines.space import Space
from tunewright.engines.types import Objective, Point, State, Verdict
from tunewright.plugins.hooks import Advisor, Source


class Agent:
    """Tunes one study. Every trial, curve, proposal, decision, prompt and answer is kept in one SQLite file.

    space: a mapping of names to Float, Int, Categorical or Derived; a Space; or a .yaml or .json space file.
    metric, direction: what is optimised; or `objectives`, a list of Objective, for several at once.
    task: what is being tuned, in words, for the advisor.
    advisor: None, "rules" (no key needed), "openai:MODEL", another registered advisor, or an Advisor object.
    engine: a registered name, ("name", {options}), an Engine object, or a list of these in fallback order.
    budget: caps on the whole study.
    advisor_deadline: seconds of wall clock for one question to the advisor; past it the engine's proposal goes out.
    store: the file; None keeps the study in memory.
    study: its name in the file. An existing study is resumed, and needs neither space nor metric again.
    seed: of every random stream; 0 for a new study.
    safety: "shared" (the engine learns from all trials) or "strict" (a private engine that never sees advised ones).
    """

    def __init__(
        self,
        space: Any = None,
        *,
        metric: str | None = None,
        direction: str | None = None,
        objectives: Sequence[Objective] | None = None,
        constraints: Sequence[str] = (),
        task: str | None = None,
        advisor: str | Advisor | None = "rules",
        engine: Any = "auto",
        scheduler: Any = None,
        fidelity: Any = None,
        budget: Budget | None = None,
        advisor_deadline: float = 60.0,
        store: str | Path | None = "tunewright.db",
        study: str = "study",
        seed: int | None = None,
        safety: str = "shared",
    ):
        for name, given in (("scheduler", scheduler), ("fidelity", fidelity)):
            if given is not None:
                raise FixArgument(
                    "is not available in this version; trials run to their end",
                    field=name,
                    value=given,
                    fix="leave it out",
                )
        if not isinstance(study, str) or not study.strip():
            raise FixArgument("a study needs a name", field="study", value=study)
        if (
            isinstance(advisor_deadline, bool)
            or not isinstance(advisor_deadline, int | float)
            or not advisor_deadline > 0
        ):
            raise FixArgument("must be seconds above zero", field="advisor_deadline", value=advisor_deadline)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise FixArgument("must be a whole number from 0", field="seed", value=seed)
        self.budget = budget if budget is not None else Budget()
        self._strict = settings.safety_of(safety) == "strict"
        given_space = None if space is None else settings.space_of(space)
        if given_space is not None and constraints:
            given_space = Space(given_space.declared, [c.text for c in given_space.constraints] + list(constraints))
        given_objectives = settings.objectives_of(metric, direction, objectives)
        self._advisor, advisor_source = settings.advisor_of(advisor)
        settings.check_money(self.budget, self._advisor)
        if given_objectives is not None:
            choices(engine, given_objectives)  # a wrong engine must not leave an empty study behind

        self._store = Store.open(store, redact=redact)
        config = {
            "task": task,
            "advisor": settings.label(self._advisor) if self._advisor else None,
            "engine": plain(engine),
            "budget": {
                k: v for k in ("trials", "seconds", "tokens", "usd") if (v := getattr(self.budget, k)) is not None
            },
            "advisor_deadline": advisor_deadline,
            "safety": safety,
        }
        record = open_study(self._store, study, given_space, given_objectives, seed, config)
        self._view = StudyView(self._store, record)
        self.study_id, self.study, self.objectives = record.id, record.name, self._view.objectives
        self.session = uuid.uuid4().hex[:12]
        self._engine = choices(engine, self.objectives, self.space)
        self._task = task if task is not None else record.config.get("task")
        self._desk = (
            AdviceDesk(
                self._advisor,
                advisor_source or Source(self._advisor.name),
                self._view,
                task=self._task,
                deadline=advisor_deadline,
                budget=self.budget,
            )
            if self._advisor is not None
            else None
        )
        self._suggester = self._new_suggester()
        self._store.requeue_dead(self.study_id)

    def _new_suggester(self) -> Suggester:
        """Engines and history from the store alone; nothing else is kept between processes."""
        return Suggester(self._view, self._engine, self._desk, self._task, self.budget, self._strict)

    @property
    def space(self) -> Space:
        return self._view.space

    @property
    def config(self) -> Mapping[str, Any]:
        """What the study was last opened with, as the file keeps it."""
        return self._view.record.config

    # ------------------------------------------------------------------------------------------ suggest

    @overload
    def suggest(self) -> Trial: ...
    @overload
    def suggest(self, n: int) -> list[Trial]: ...
    def suggest(self, n: int | None = None) -> Trial | list[Trial]:
        """The next trial to run, or a list of n distinct ones, shorter where a budget or a finite space ends first.

        A trial whose process died comes back first, under its own number. Raises BudgetSpent at the study's caps and
        SpaceExhausted when a finite space was tried out.
        """
        if n is None:
            return Trial(self, self._suggester.next())
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise FixArgument("must be a whole number above zero", field="n", value=n)
        out: list[Trial] = []
        try:
            while len(out) < n:
                out.append(Trial(self, self._suggester.next()))
        except (BudgetSpent, SpaceExhausted):
            if not out:
                raise
        return out

    # ------------------------------------------------------------------------------------------ results

    def report(
        self, trial: Trial | int, step: float, value: float | None = None, metrics: Mapping[str, float] | None = None
    ) -> Verdict:
        """Records one step of a trial's curves; a step reported again replaces what it held.

        `value` is the first objective's. Returns STOP when it is not finite: such a run cannot become a best.
        """
        points: dict[str, float] = {}
        if value is not None:
            points[self.objectives[0].name] = number_of(value, self.objectives[0].name)
        for name, number in (metrics or {}).items():
            points[str(name)] = number_of(number, str(name))
        if not points:
            raise FixArgument("nothing to record", field="value", fix="report(trial, step=3, value=0.41)")
        self._store.report(self.study_id, self._number(trial), number_of(step, "step", finite=True), points)
        main = points.get(self.objectives[0].name, 0.0)
        return Verdict.CONTINUE if math.isfinite(main) else Verdict.STOP

    def observe(self, trial: Trial | int, value: float | Mapping[str, float]) -> None:
        """The trial's result. NaN or infinity makes it a failed trial.

        The same result again changes nothing; another one raises AlreadyObserved and is kept as a repeat.
        """
        values = values_of(self.objectives, value)
        bad = [f"{o.name} was {v}" for o, v in zip(self.objectives, values, strict=True) if not math.isfinite(v)]
        if bad:
            self._finish(trial, State.FAILED, None, "; ".join(bad))
        else:
            self._finish(trial, State.COMPLETE, values, None)

    def fail(self, trial: Trial | int, reason: str) -> None:
        """The trial brought no result, and why. Engines and advisor learn from it."""
        self._finish(trial, State.FAILED, None, str(reason))

    def stop(self, trial: Trial | int, value: float | Mapping[str, float]) -> None:
        """The trial was ended early by a verdict; its last value counts."""
        self._finish(trial, State.STOPPED, values_of(self.objectives, value), None)

    def _finish(self, trial: Trial | int, state: State, values: tuple[float, ...] | None, error: str | None) -> None:
        number = self._number(trial)
        attempt = trial.attempt if isinstance(trial, Trial) else self._store.trial(self.study_id, number).attempt
        record = self._store.finish(self.study_id, number, state, values, error, attempt=attempt)
        if isinstance(trial, Trial):
            trial._record = record

    def _number(self, trial: Trial | int) -> int:
        if isinstance(trial, Trial):
            return trial.number
        if isinstance(trial, bool) or not isinstance(trial, int):
            raise FixArgument("not a trial", field="trial", value=trial, fix="a Trial from suggest(), or its number")
        return trial

    # ------------------------------------------------------------------------------------------ loops

    def tune(
        self,
        objective: Callable[[Trial], Any],
        trials: int | None = None,
        *,
        workers: int = 1,
        runner: str = "local",
        timeout: float | None = None,
        callbacks: Sequence[Callable[[Agent, Trial], None]] = (),
    ) -> Trial | None:
        """Runs `objective(trial)`, which returns the metric's value or a mapping of all objectives, until a limit.

        trials: how many to run in this call (those taken up again included); None runs to the study's budget.
        workers: how many at once. timeout: seconds after which none is started. An exception in the objective fails
        its trial and the study goes on. Returns the best trial, None with several objectives (see `pareto`).
        """
        from tunewright.agent.loop import tune

        tune(self, objective, trials, workers=workers, runner=runner, timeout=timeout, callbacks=callbacks)
        return self.best if len(self.objectives) == 1 else None

    def enqueue(self, params: Mapping[str, Any], note: str | None = None) -> None:
        """Puts a configuration first in line; parameters left out take their defaults. First in, first out."""
        filled = dict(params)
        if base := self.space.default({n: v for n, v in params.items() if n in self.space.parameters}):
            kept = {n: v for n, v in base.items() if n not in params}
            filled = {**kept, **params} if not self.space.problems({**kept, **params}) else filled
        self._store.enqueue(self.study_id, self.space.check(filled, field="enqueue"), note)

    def release(self, trial: Trial | int) -> None:
        """Gives up a running trial whose process is gone: the next `suggest()` hands it out again."""
        self._store.release(self.study_id, self._number(trial))

    def edit_space(self, space: Any, constraints: Sequence[str] = ()) -> list[str]:
        """Changes the search space from the next trial on; a new version is stored beside the old.

        Earlier trials still teach the engine where they fit the new space; parameters that are new to them count at
        their default. Returns the difference, one line per parameter.
        """
        edited = settings.space_of(space)
        if constraints:
            edited = Space(edited.declared, [c.text for c in edited.constraints] + list(constraints))
        lines = difference(self.space, edited)
        if lines:
            waiting = [p for s in ("held", "open") for p in self._store.proposals(self.study_id, status=s)]
            self._store.update_proposals(
                {p.id: ("expired", "the space was edited") for p in waiting if p.id is not None}
            )
            self._view = StudyView(self._store, self._store.update_space(self.study_id, edited.to_dict()))
            if self._desk is not None:
                self._desk.view = self._view
            self._suggester = self._new_suggester()
        return lines

    # ------------------------------------------------------------------------------------------ reading

    @property
    def trials(self) -> list[Trial]:
        """Every trial, in order of number."""
        return [Trial(self, r) for r in self._view.trials()]

    @property
    def best(self) -> Trial | None:
        """The best complete trial of a study with one objective, None before there is one; see `pareto` for several."""
        record = self._view.best()
        return Trial(self, record) if record else None

    @property
    def pareto(self) -> list[Trial]:
        """Complete trials that no other beats in every objective, in order of number."""
        return [Trial(self, r) for r in self._view.pareto()]

    def trial(self, number: int) -> Trial:
        """The trial of this number. Raises UnknownTrial."""
        return Trial(self, self._store.trial(self.study_id, number))

    def curve(self, trial: Trial | int, metric: str | None = None) -> Sequence[Point]:
        """(step, value) of a trial, steps ascending; of the first objective where no metric is named."""
        return self._view.curve(self._number(trial), metric)

    def why(self, trial: Trial | int) -> Why:
        """Why a trial was tried: print it, or read its fields."""
        return self._view.why(self._number(trial))

    def importance(self) -> dict[str, float]:
        """Each parameter's share of what a forest of trees explains of the metric, largest first; they sum to 1."""
        return self._view.importance()

    @property
    def store_path(self) -> Path | None:
        return self._store.path

    def close(self) -> None:
        """Flushes and closes the file; the study can be opened again at any time."""
        self._store.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
