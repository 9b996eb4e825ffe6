"""How far each trial is trained: the study's scheduler, kept in step with the store's events.

A scheduler's state is a function of the ordered events of its trials (`tunewright.engines.schedulers.protocol`), and
the store keeps each of them with the action that was carried out. So the road after a restart, for a second process
and within one is the same: read the events that are new, tell the scheduler.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from tunewright.agent.store import Event, current_owner
from tunewright.agent.view import StudyView
from tunewright.engines.errors import FixArgument
from tunewright.engines.schedulers import Action, Begun, Clone, New, Resume, Scheduler, TrialView
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, Observation, Params, Point, State, Verdict
from tunewright.plugins import registry

PAIRS: Mapping[str, tuple[str, str]] = {
    "asha": ("random", "asha"),
    "bohb": ("bohb", "hyperband"),
    "freeze-thaw": ("freeze-thaw", "freeze-thaw"),
    "hyperband": ("random", "hyperband"),
    "pbt": ("random", "pbt"),
}
"""What an `engine=` of this name stands for: the engine and the scheduler of the paper that it is named after."""

AUTO = "auto"
SHORTEST = 27  # of the longest training, the share after which trials are first compared

_ACTIONS: Mapping[str, type[Begun]] = {"new": New, "resume": Resume, "clone": Clone}


_BESIDE = ("kind", "fresh", "as_of")


class Told(NamedTuple):
    """What engines hear of one trial, and who proposed it."""

    source: str
    observation: Observation


@dataclass(frozen=True, slots=True)
class SchedulerChoice:
    """A registered name with options, or an object that the user made."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    made: Scheduler | None = None

    def make(self, objectives: Sequence[Objective], fidelity: Fidelity | None, seed: int, space: Space) -> Scheduler:
        """Raises FixArgument for options that it does not take, FixPlugin for a name that is not there."""
        if len(objectives) > 1:
            raise FixArgument("schedulers compare one metric", field="scheduler", value=self.name, fix="scheduler=None")
        if fidelity is None:
            fix = 'fidelity=Fidelity("epoch", 1, 81)'
            raise FixArgument("a scheduler must know how far a trial can be trained", field="fidelity", fix=fix)
        if self.made is not None:
            return self.made
        kind = registry.load("schedulers", self.name)
        try:
            made: Scheduler = kind(objectives, fidelity, seed, space=space, **self.options)
        except TypeError as error:
            raise registry.options_refused(kind, f"scheduler {self.name!r}", self.options, error) from None
        return made

    def to_config(self) -> list[Any]:
        return [self.name, dict(self.options)]


def scheduler_of(scheduler: Any) -> SchedulerChoice | None:
    """The choice behind a `scheduler=` argument. Raises FixArgument."""
    if scheduler is None:
        return None
    name, options = scheduler, {}
    if isinstance(scheduler, list | tuple) and len(scheduler) == 2 and isinstance(scheduler[1], Mapping):
        name, options = scheduler
    if isinstance(name, str):
        return SchedulerChoice(name, dict(options))
    if isinstance(scheduler, Scheduler) and not isinstance(scheduler, type):
        return SchedulerChoice(type(scheduler).__name__, made=scheduler)
    fix = 'a name such as "asha", ("asha", {"eta": 3}), or a Scheduler object'
    raise FixArgument("not a scheduler", field="scheduler", value=scheduler, fix=fix)


def usual_scheduler(
    engine: Any, fidelity: Fidelity | None, objectives: Sequence[Objective]
) -> tuple[str, Mapping[str, int]] | None:
    """What scheduler="auto" stands for in a new study. Who names neither engine nor scheduler, but says how far
    training can go, gets what needed the fewest steps (docs/benchmarks.md): ASHA, whose rungs are close to each other
    and begin where a value says more than luck, beside the usual engine. A named engine trains to the end."""
    if engine != AUTO or fidelity is None or fidelity.low == fidelity.high or len(objectives) > 1:
        return None
    return "asha", {"eta": 2, "grace": max(fidelity.low, -(-fidelity.high // SHORTEST))}


def split_pair(engine: Any, scheduler: Any) -> tuple[Any, Any]:
    """`engine="bohb"` and its like taken apart into (engine, scheduler); options given with the name are the engine's
    where it knows them, else the scheduler's. Anything else comes back as it is, an engine of that name beside another
    scheduler too."""
    name, options = engine, {}
    if isinstance(engine, list | tuple) and len(engine) == 2 and isinstance(engine[1], Mapping):
        name, options = engine
    if not isinstance(name, str) or name not in PAIRS:
        return engine, scheduler
    alone, paired = PAIRS[name]
    if scheduler not in (None, AUTO):
        if alone == name:
            return engine, scheduler  # the engine of the pair, with another scheduler
        fix = f'engine="{alone}", or no scheduler='
        raise FixArgument(f"{name!r} brings a scheduler of its own", field="scheduler", value=scheduler, fix=fix)
    known = registry.options_of(registry.load("engines", alone)) if options else ()
    own = {option: value for option, value in options.items() if option in known}
    rest = {option: value for option, value in options.items() if option not in known}
    return (alone, own) if own else alone, (paired, rest)


def action_to_dict(action: Begun, fresh: bool, as_of: int) -> dict[str, Any]:
    """An action as the store keeps it with the event that carried it out: with whether a new trial might have begun
    instead, and the latest event that was known."""
    return {"kind": type(action).__name__.lower(), "fresh": fresh, "as_of": as_of, **asdict(action)}


def _action(data: Mapping[str, Any]) -> Begun:
    return _ACTIONS[data["kind"]](**{name: value for name, value in data.items() if name not in _BESIDE})


@dataclass(slots=True)
class _Run:
    """A trial as its events tell it. `target` is the step it may train to."""

    params: Params
    target: int | None
    source: str
    own: bool
    here: bool  # whether this process runs it
    scheduled: bool = True
    rested: Point | None = None  # (step, value) of its latest pause
    paused: bool = False


class SchedulerDesk:
    """One study's scheduler. Thread-safe: reports come from any worker."""

    def __init__(self, view: StudyView, choice: SchedulerChoice):
        self.choice = choice
        self.scheduler = choice.make(view.objectives, view.fidelity, view.record.seed, view.space)
        self.clones = 0  # trials that went on from another's checkpoint
        self._view, self._store, self._study_id = view, view.store, view.record.id
        self._metric = view.objectives[0].name
        self._lock = threading.RLock()
        self.event = 0  # the latest that is known
        self._runs: dict[int, _Run] = {}
        self._running: dict[int, _Run] = {}
        self._curves: dict[int, list[Point]] = {}  # of running trials that were judged here
        self._told: list[Told] = []

    # ------------------------------------------------------------------------------------------ what a worker does

    def next(self, fresh: bool) -> Action:
        """The scheduler's next action on all that the store knows now. `fresh`: whether a new trial may begin."""
        with self._lock:
            self.sync()
            for number, run in self._running.items():
                if not run.here and (curve := self._stored_curve(number)):
                    self.scheduler.judge(self._trial_view(number, run), curve)
            return self.scheduler.next(list(self._running), fresh=fresh)

    def take(self) -> list[Told]:
        """What engines have not heard yet, in the order in which it happened."""
        with self._lock:
            self.sync()
            told, self._told = self._told, []
            return told

    def rested(self) -> dict[int, Point]:
        """(step, value) at which each trial that is paused now came to rest."""
        with self._lock:
            self.sync()
            return {n: run.rested for n, run in self._runs.items() if run.paused and run.rested is not None}

    # ------------------------------------------------------------------------------------------ what a trial reports

    def judge(self, number: int, step: float, value: float) -> Verdict:
        """The verdict on a report that the store has taken in. A step that falls back is judged on the curve up to it;
        a trial that came to rest, or ended, is told so again."""
        with self._lock:
            run = self._running.get(number) or self._look_again(number)
            if run is None:
                state = self._store.trial(self._study_id, number).state
                return Verdict.STOP if state.finished else Verdict.PAUSE if state is State.PAUSED else Verdict.CONTINUE
            curve = self._with_point(number, (step, value))
            upto = bisect_right(curve, step, key=_step)
            return self.scheduler.judge(self._trial_view(number, run), curve[:upto])

    def judge_result(self, number: int, value: float) -> tuple[Verdict, float]:
        """The verdict on a trial that brought a result without having been told to rest, and the step it stands for:
        PAUSE where the scheduler may let it go on later."""
        with self._lock:
            run = self._running.get(number) or self._look_again(number)
            if run is None or run.target is None:
                return Verdict.CONTINUE, self.reached(number)
            curve = self._curve(number)
            if not curve or curve[-1][0] < run.target:
                curve = self._with_point(number, (float(run.target), value))
                self._store.report(self._study_id, number, run.target, {self._metric: value})
            return self.scheduler.judge(self._trial_view(number, run), curve), curve[-1][0]

    def reached(self, number: int) -> float:
        """The last step of a trial's curve, 0 before there is one."""
        with self._lock:
            curve = self._curve(number)
            return curve[-1][0] if curve else 0.0

    def _look_again(self, number: int) -> _Run | None:
        self.sync()
        return self._running.get(number)

    def _curve(self, number: int) -> list[Point]:
        if number not in self._curves:
            self._curves[number] = self._stored_curve(number)
        return self._curves[number]

    def _stored_curve(self, number: int) -> list[Point]:
        return list(self._view.curve(number))

    def _with_point(self, number: int, point: Point) -> list[Point]:
        curve = self._curve(number)
        at = bisect_left(curve, point[0], key=_step)
        curve[at : at + (at < len(curve) and curve[at][0] == point[0])] = [point]
        return curve

    @staticmethod
    def _trial_view(number: int, run: _Run) -> TrialView:
        assert run.target is not None, "a scheduler's trial has a target"
        return TrialView(number, run.target, run.params)

    # ------------------------------------------------------------------------------------------ events

    def sync(self) -> None:
        """Reads what happened since the last call, here or in another process."""
        with self._lock:
            for event in self._store.events(self._study_id, self.event):
                self.event = event.id
                if event.number is not None:
                    self._happened(event.number, event)

    def _happened(self, number: int, event: Event) -> None:
        facts = event.payload
        if event.kind == "trial_created":
            self._created(number, event)
        elif event.kind == "trial_resumed":
            run = self._runs[number]
            run.target, run.paused = facts["fidelity"], False
            run.here = _is_here(facts)
            self._begin(number, run, _action(facts["action"]))
        elif event.kind in ("trial_changed", "trial_requeued"):
            run = self._runs[number]
            run.here = _is_here(facts)
            self._curves.pop(number, None)
        elif event.kind == "trial_paused":
            run = self._runs[number]
            run.rested, run.paused = (facts["step"], facts["result"][0]), True
            self._ended(number, run, event, State.PAUSED, tuple(facts["result"]))
        elif event.kind == "trial_finished":
            run = self._runs[number]
            values = None if facts["values"] is None else tuple(facts["values"])
            self._ended(number, run, event, State(facts["state"]), values)
            run.paused = False

    def _created(self, number: int, event: Event) -> None:
        facts = event.payload
        action = _action(facts["action"]) if "action" in facts else None
        params = self._view.space.free(facts["params"])
        own = facts["source"] == "engine" and not isinstance(action, Clone)
        here = _is_here(facts["owner"])
        run = _Run(params, facts["fidelity"], facts["source"], own, here, action is not None)
        self._runs[number] = run
        if action is not None:
            self.clones += isinstance(action, Clone)
            self._begin(number, run, action)

    def _begin(self, number: int, run: _Run, action: Begun) -> None:
        self.scheduler.started(number, action)
        self._running[number] = run

    def _ended(self, number: int, run: _Run, event: Event, state: State, values: tuple[float, ...] | None) -> None:
        """A trial rests or ends: the scheduler judges its curve as it is now, and is told; engines hear of it."""
        step = event.payload.get("step")
        if step is None:
            step = run.target if state is State.COMPLETE else self.reached(number)
        reached = None if step is None else int(step)
        if number in self._running:
            curve = self._curve(number)
            if upto := bisect_right(curve, float(reached or 0), key=_step):
                self.scheduler.judge(self._trial_view(number, run), curve[:upto])
        observation = Observation(number, run.params, values, state, reached, own=run.own)
        if run.scheduled:
            self.scheduler.tell(observation)
        self._running.pop(number, None)
        self._curves.pop(number, None)
        if not self._view.space.problems(run.params):
            self._told.append(Told(run.source, observation))


def _step(point: Point) -> float:
    return point[0]


def _is_here(owner: Mapping[str, Any]) -> bool:
    me = current_owner()
    return (owner.get("owner_pid"), owner.get("owner_started")) == (me.pid, me.started)
