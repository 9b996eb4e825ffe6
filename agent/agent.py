"""The loop: one suggestion from space and history to a stored trial, and back from its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tunewright.agent import settings, space_words
from tunewright.agent.advice import AdviceDesk
from tunewright.agent.arbiter import Advice
from tunewright.agent.beliefs import read_task, tell, withdraw
from tunewright.agent.errors import AlreadyObserved, AwaitTrials, BudgetSpent
from tunewright.agent.leases import Leases, TimeCap
from tunewright.agent.lineup import choices
from tunewright.agent.opening import make_up, open_study, study_files
from tunewright.agent.prices import price_of, read_prices
from tunewright.agent.reader import StudyReader
from tunewright.agent.redact import redact
from tunewright.agent.results import number_of, values_of
from tunewright.agent.scheduling import AUTO, SchedulerDesk, scheduler_of, split_pair
from tunewright.agent.settings import Budget
from tunewright.agent.store import Store
from tunewright.agent.suggester import Suggester
from tunewright.agent.trial import Trial
from tunewright.agent.view import StudyView
from tunewright.engines.errors import FixArgument, FixSpace, SpaceExhausted
from tunewright.engines.schedulers import PBT
from tunewright.engines.types import Fidelity, Objective, State, Verdict
from tunewright.plugins.hooks import Advisor, Source

if TYPE_CHECKING:
    from tunewright.agent.counsel import Opinion
    from tunewright.prompts import Priors


class Agent(StudyReader):
    """Tunes one study. Every trial, curve, proposal, decision, prompt and answer is kept in one SQLite file.

    space: a mapping of names to Float, Int, Categorical or Derived; a Space; or a .yaml or .json space file.
    metric, direction: what is optimised; or `objectives`, a list of Objective, for several at once.
    task: what is tuned, in words, for the advisor.
    data: facts about the data for the advisor, {"rows": 1797, "features": 64, "class_counts": [178, 182]}.
    advisor: None, "rules" (no key needed), "openai:MODEL", "langchain:PROVIDER:MODEL", another registered advisor, or
        an Advisor object.
    engine: a registered name, ("name", {options}), an Engine object, or a list of these in fallback order; "asha",
        "bohb", "freeze-thaw", "hyperband" and "pbt" name an engine and a scheduler together. "auto": what the study
        was made with; chosen by a stated policy for a new one.
    scheduler: how far each trial is trained: "asha", ("asha", {"eta": 3}) or a Scheduler; needs `fidelity`. None: to
        the end. "auto": what the study was made with; for a new one as far as it promises something where `fidelity`
        is given and the engine is "auto" too, else to the end.
    fidelity: what training is counted in and its bounds: Fidelity("epoch", 1, 81). Steps reported count from 1.
    budget: caps on the whole study.
    prices: USD for a million tokens of models that the shipped list lacks: {"openai:MODEL": {"input": 0.25, "cached":
        0.025, "output": 2.0}}, or a TOML file. TUNEWRIGHT_PRICES names one for every study. Else a cost is unknown.
    advisor_deadline: seconds for one question to the advisor; past it the engine's proposal goes out.
    store: the file; None keeps the study in memory.
    study: its name in the file. An existing study is resumed, and needs neither space nor metric again.
    seed: of every random stream; 0 for a new study.
    safety: "shared" (the engine learns from all trials, until advice loses its trust) or "strict" (of its own alone).
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
        data: Mapping[str, Any] | None = None,
        advisor: str | Advisor | None = "rules",
        engine: Any = "auto",
        scheduler: Any = "auto",
        fidelity: Fidelity | None = None,
        budget: Budget | None = None,
        prices: Any = None,
        advisor_deadline: float = 60.0,
        store: str | Path | None = "tunewright.db",
        study: str = "study",
        seed: int | None = None,
        safety: str = "shared",
    ):
        settings.check_plain(study, seed, advisor_deadline, fidelity)
        self.budget = budget if budget is not None else Budget()
        self._strict = settings.safety_of(safety) == "strict"
        given_space = None if space is None else settings.space_of(space, constraints)
        given_objectives = settings.objectives_of(metric, direction, objectives)
        self._advisor, advisor_source = settings.advisor_of(advisor)
        price = price_of(self._advisor, read_prices(prices)) if self._advisor is not None else None
        settings.check_money(self.budget, self._advisor, price)
        engine, scheduler = split_pair(engine, scheduler)
        chosen = None if scheduler == AUTO else scheduler_of(scheduler)
        if given_objectives is not None and given_space is not None:
            # What is wrong here must not leave an empty study behind.
            choices(engine, given_objectives)
            if chosen is not None:
                chosen.make(given_objectives, fidelity, seed or 0, given_space)

        self._store = Store.open(store, redact=redact)
        before = self._store.study(study)
        made = make_up(before, engine, chosen, scheduler == AUTO, given_space, given_objectives or (), fidelity)
        self._engine, chosen = made.order, made.scheduler
        config = {
            "task": task,
            "data": settings.data_facts(data),
            "advisor": settings.label(self._advisor) if self._advisor else None,
            "engine": made.named,
            "engines": [choice.to_config() for choice in self._engine],
            "scheduler": chosen.to_config() if chosen else None,
            "fidelity": [fidelity.name, fidelity.low, fidelity.high] if fidelity else None,
            "budget": self.budget.to_config(),
            "price": price.to_config() if price else None,
            "advisor_deadline": advisor_deadline,
            "safety": safety,
        }
        record = open_study(self._store, study, given_space, given_objectives, seed, config)
        self._strict = self._strict or "fell_to_strict" in record.config
        self._view = StudyView(self._store, record)
        self.study_id, self.study, self.objectives = record.id, record.name, self._view.objectives
        self.files = study_files(self._store.path, record)
        self._task = task if task is not None else record.config.get("task")
        self._desk = (
            AdviceDesk(
                self._advisor,
                advisor_source or Source(self._advisor.name),
                self._view,
                task=self._task,
                deadline=advisor_deadline,
                budget=self.budget,
                price=price,
            )
            if self._advisor is not None
            else None
        )
        read_task(self._view, task, before)
        self._scheduler_choice = chosen
        self._by_hand: set[int] = set()  # trials that `suggest` gave to the user's own loop
        self._ended_by_verdict: set[int] = set()
        self._suggester = self._new_suggester()
        self._leases, self._time = Leases(self._store, self.study_id), TimeCap(self._store, self.study_id, self.budget)
        self._store.requeue_dead(self.study_id)

    def _new_suggester(self) -> Suggester:
        """Engines, scheduler and history from the store alone; nothing else is kept between processes."""
        chosen = self._scheduler_choice
        self._scheduler = SchedulerDesk(self._view, chosen) if chosen is not None else None
        given = (self._view, self._engine, self._desk, self._task, self.budget, self._strict)
        return Suggester(*given, scheduler=self._scheduler, files=self.files)

    @property
    def _ends_itself(self) -> bool:
        return self._scheduler is not None and getattr(self._scheduler.scheduler, "ends_itself", False)

    # ------------------------------------------------------------------------------------------ suggest

    @overload
    def suggest(self) -> Trial: ...
    @overload
    def suggest(self, n: int) -> list[Trial]: ...
    def suggest(self, n: int | None = None) -> Trial | list[Trial]:
        """The next trial to run, or a list of n distinct ones, shorter where a budget or a finite space ends first.

        A trial whose process died comes back first, under its own number; with a scheduler so does a paused one that
        it lets go on, with a higher `fidelity`. Raises BudgetSpent at the study's caps, SpaceExhausted when a finite
        space was tried out, and AwaitTrials while the scheduler can start nothing before a running trial has a result.
        """
        if n is None:
            trial = self._next()
            self._by_hand.add(trial.number)
            return trial
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise FixArgument("must be a whole number above zero", field="n", value=n)
        out: list[Trial] = []
        try:
            while len(out) < n:
                out.append(self.suggest())
        except (AwaitTrials, BudgetSpent, SpaceExhausted):
            if not out:
                raise
        return out

    def _next(
        self, fresh: bool = True, *, leased: bool = False, devices: float = 0.0, until: int | None = None
    ) -> Trial:
        self._leases.look_when_due()
        return Trial(self, self._suggester.next(fresh, leased=leased, devices=devices, until=until))

    # ------------------------------------------------------------------------------------------ results

    def report(
        self, trial: Trial | int, step: float, value: float | None = None, metrics: Mapping[str, float] | None = None
    ) -> Verdict:
        """Records one step of a trial's curves; a step reported again replaces what it held, in any order.

        `value` is the first objective's. STOP: the trial has ended, with this value as its result, or failed where the
        value is not finite. PAUSE: it rests and may come back from `suggest()`, to go on from its checkpoint, so save
        one before you report. In both cases nothing more has to be called.
        """
        points: dict[str, float] = {}
        main = self.objectives[0].name
        if value is not None:
            points[main] = number_of(value, main)
        for name, number in (metrics or {}).items():
            points[str(name)] = number_of(number, str(name))
        if not points:
            raise FixArgument("nothing to record", field="value", fix="report(trial, step=3, value=0.41)")
        at = number_of(step, "step", finite=True)
        self._store.report(self.study_id, self._number(trial), at, points)
        if main not in points:
            return Verdict.CONTINUE
        verdict = Verdict.CONTINUE
        if not math.isfinite(points[main]) or self._time.over():
            verdict = Verdict.STOP
        elif self._scheduler is not None:
            verdict = self._scheduler.judge(self._number(trial), at, points[main])
        # Inside `tune` the objective may still have to clean up: its trial is settled when it has returned.
        if verdict is not Verdict.CONTINUE and not (isinstance(trial, Trial) and trial._stops):
            self._settle(trial, verdict, at, points[main])
        return verdict

    def _settle(self, trial: Trial | int, verdict: Verdict, step: float, value: float) -> None:
        """Carries a verdict out: the trial ends with this value, or rests."""
        number = self._number(trial)
        state = self._store.trial(self.study_id, number).state
        if state.finished or state is State.PAUSED:
            return
        if verdict is Verdict.PAUSE:
            self._pause(trial, value, step)
            return
        self._ended_by_verdict.add(number)
        if math.isfinite(value):
            self._finish(trial, State.STOPPED, (value,), None, step)
        else:
            error = f"{self.objectives[0].name} was {value} at step {step:g}"
            self._finish(trial, State.FAILED, None, error, step)

    def _pause(self, trial: Trial | int, value: float, step: float) -> None:
        record = self._store.pause(self.study_id, self._number(trial), value, step, attempt=self._attempt(trial))
        if isinstance(trial, Trial):
            trial._record = record

    def observe(self, trial: Trial | int, value: float | Mapping[str, float]) -> None:
        """The trial's result. NaN or infinity makes it a failed trial; with a scheduler that may let it go on later,
        it rests with this value instead of ending.

        The same result again changes nothing, also for a trial that was told to rest; another one raises
        AlreadyObserved, and of a trial that ended it is kept as a repeat.
        """
        values = values_of(self.objectives, value)
        bad = [f"{o.name} was {v}" for o, v in zip(self.objectives, values, strict=True) if not math.isfinite(v)]
        if bad:
            self._finish(trial, State.FAILED, None, "; ".join(bad))
            return
        step = None
        if self._scheduler is not None:
            number = self._number(trial)
            if rested := self._scheduler.rested().get(number):
                if rested[1] == values[0]:
                    return
                raise AlreadyObserved(
                    f"trial {number} rests at step {rested[0]:g} with {rested[1]:.6g}",
                    field="values",
                    value=values[0],
                    fix="ask suggest() which trial goes on; stop(trial, value) ends this one",
                    number=number,
                    first=(rested[1],),
                    second=values,
                )
            verdict, step = self._scheduler.judge_result(number, values[0])
            if verdict is Verdict.PAUSE:
                self._pause(trial, values[0], step)
                return
        self._finish(trial, State.COMPLETE, values, None, step)

    def fail(self, trial: Trial | int, reason: str) -> None:
        """The trial brought no result, and why. Engines and advisor learn from it."""
        self._finish(trial, State.FAILED, None, str(reason))

    def stop(self, trial: Trial | int, value: float | Mapping[str, float]) -> None:
        """The trial was ended early; its last value counts, at the step it reached."""
        self._finish(trial, State.STOPPED, values_of(self.objectives, value), None)

    def _finish(
        self,
        trial: Trial | int,
        state: State,
        values: tuple[float, ...] | None,
        error: str | None,
        step: float | None = None,
    ) -> None:
        number = self._number(trial)
        if step is None and self._scheduler is not None:
            step = self._scheduler.reached(number)
        try:
            record = self._store.finish(
                self.study_id, number, state, values, error, attempt=self._attempt(trial), step=step
            )
        except AlreadyObserved:
            if number not in self._ended_by_verdict:
                raise
            record = self._store.trial(self.study_id, number)  # the late result is kept as a repeat
        if isinstance(trial, Trial):
            trial._record = record

    def _attempt(self, trial: Trial | int) -> int:
        if isinstance(trial, Trial):
            return trial.attempt
        return self._store.trial(self.study_id, self._number(trial)).attempt

    # ------------------------------------------------------------------------------------------ loops

    def tune(
        self,
        objective: Callable[[Trial], Any],
        trials: int | None = None,
        *,
        workers: int = 1,
        runner: Any = "local",
        timeout: float | None = None,
        on_start: Sequence[Callable[[Agent, Trial], None]] = (),
        callbacks: Sequence[Callable[[Agent, Trial], None]] = (),
        on_notice: Callable[[str], None] | None = None,
    ) -> Trial | None:
        """Runs `objective(trial)`, which returns the metric's value or a mapping of all objectives, until a limit.

        trials: how many to run in this call (those taken up again included); None runs to the study's budget. With a
        scheduler it counts new configurations, and what it lets go on is trained besides.
        workers: how many at once. runner: a registered name, or ("local", {options}); see LocalRunner. timeout:
        seconds after which none is started. on_start, callbacks: called with the agent and each trial, before it runs
        and after. An exception in the objective fails its trial and the study goes on. on_notice: takes the lines for
        whoever watches ("Parking: ..."), instead of standard error; called in a signal handler.
        Where the metric is noisy, the last few trials of the budget run the best configurations again (docs/verify.md).
        Returns the best trial, None with several objectives (see `pareto`).
        """
        from tunewright.agent.loop import to_stderr, tune

        tune(
            self, objective, trials, workers=workers, runner=runner, timeout=timeout, told=(on_start, callbacks),
            on_notice=on_notice or to_stderr,
        )  # fmt: skip
        return self.best if len(self.objectives) == 1 else None

    def enqueue(self, params: Mapping[str, Any], note: str | None = None) -> None:
        """Puts a configuration first in line; parameters left out take their defaults. First in, first out."""
        self._store.enqueue(self.study_id, settings.completed(self.space, params), note)

    def release(self, trial: Trial | int) -> None:
        """Gives up a running trial whose process is gone: the next `suggest()` hands it out again."""
        self._store.release(self.study_id, self._number(trial))

    def ideas(self, n: int = 3) -> Advice:
        """What the advisor would try now, and why: `candidates`, or why there are none. No trial is made."""
        return self._suggester.ideas(n)

    def note(self, text: str) -> None:
        """Something the advisor should know from now on, in words: "lr above 0.05 diverges". Kept with the study."""
        if not isinstance(text, str) or not text.strip():
            raise FixArgument("an empty note", field="note", value=text, fix='agent.note("lr above 0.05 diverges")')
        self._reconfigure(notes=[*self.config.get("notes", []), text.strip()])

    def believe(self, words: str, *, model: bool = True) -> Opinion[Priors]:
        """What a person knows, in words, as soft beliefs that tilt the engines from the next trial on: "lr above 0.05
        diverges". Read by the advisor's language model where there is one and `model` is not False, else by patterns.

        They take no value out of the space, fade with the trials, and lose their weight where trials speak against them
        (see `beliefs`). The advisor is told the words. Returns what was read and what was left over.
        """
        return tell(self, words, model)

    def withdraw(self, belief: int) -> None:
        """Takes back the belief of this number, see `beliefs`. Raises FixArgument where there is none that holds."""
        withdraw(self._store, self.study_id, belief)

    def _reconfigure(self, **changes: Any) -> None:
        """A part of the study's configuration that is no argument of `Agent`."""
        self._view.record = self._store.update_config(self.study_id, {**self.config, **changes})

    def edit_space(self, space: Any, constraints: Sequence[str] = ()) -> list[str]:
        """Changes the search space from the next trial on; a new version is stored beside the old.

        Earlier trials still teach the engine where they fit the new space; parameters that are new to them count at
        their default. Returns the difference, one line per parameter.
        """
        edited = settings.space_of(space, constraints)
        lines = space_words.difference(self.space, edited)
        if lines and self._scheduler is not None and isinstance(self._scheduler.scheduler, PBT):
            message = "population based training goes on from configurations of this space"
            raise FixSpace(message, field="space", fix="start a new study; enqueue the best configurations of this one")
        if lines:
            self._store.expire_proposals(self.study_id, "the space was edited")
            self._view = StudyView(self._store, self._store.update_space(self.study_id, edited.to_dict()))
            if self._desk is not None:
                self._desk.view = self._view
            self._suggester = self._new_suggester()
        return lines
