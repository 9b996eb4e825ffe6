"""A study lived through again from its file: every decision is derived anew and compared, with no call made.

Another study is kept in a temporary file. What happened outside (results, pauses, the queue, a dead worker) is taken
from the events; what the product decided is decided again by the same code on what it knew then, the advisor's answers
coming from the recorded calls.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.agent.advice import Question
from tunewright.agent.agent import Agent
from tunewright.agent.beliefs import TASK
from tunewright.agent.consult import INTERRUPTED
from tunewright.agent.errors import BudgetSpent
from tunewright.agent.recordings import ReplayAdvisor
from tunewright.agent.records import Hold, StudyRecord, TrialRecord
from tunewright.agent.settings import Budget
from tunewright.agent.store import Event, Store, current_owner
from tunewright.agent.store.beliefs import BELIEVED, WITHDRAWN
from tunewright.agent.store.consults import BEGAN, ENDED
from tunewright.engines.errors import SpaceExhausted, TunewrightError
from tunewright.engines.space import Space
from tunewright.engines.types import Fidelity, Objective, State

FACTS = ("params", "source", "proposer", "seed", "fidelity", "resume_from")
OWN = ("as_of", "heard", "held", "put", "beliefs")  # ids of a file's own rows in a decision


@dataclass(frozen=True, slots=True)
class Difference:
    """What was stored and what came out this time."""

    number: int
    what: str
    stored: Any
    derived: Any

    def __str__(self) -> str:
        return f"trial {self.number}, {self.what}: stored {self.stored!r}, derived {self.derived!r}"


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it. `changed` are ids of calls that would be asked in other words today."""

    decisions: int
    calls: int
    changed: tuple[int, ...]
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What a decision stood on: the last result, the last event about a question, the question put for it,
    the last event about a belief, the end of the run that it was made for."""

    as_of: int | None = None
    heard: int | None = None
    put: int | None = None
    beliefs: int | None = None
    until: int | None = None


def replay(store: Store, study: StudyRecord) -> Replay:
    """Raises FixArgument for a study that was made with objects (an engine, a scheduler) which no file can hold."""
    with tempfile.TemporaryDirectory(prefix="tunewright-replay-") as folder:
        return _Replay(store, study, Path(folder) / "replay.db").run()


class _Replay:
    def __init__(self, store: Store, study: StudyRecord, path: Path):
        self._store, self._study, self._path = store, study, path
        self._events = store.events(study.id)
        created = self._events[0].payload
        self._space = Space.from_dict(created["space"])
        self._config: dict[str, Any] = created["config"]
        ends = [e.payload for e in self._events if e.kind == ENDED]
        self._ended = {facts["began"] for facts in ends if facts["error"] != INTERRUPTED}
        self._questions: dict[int, Question] = {}  # put while other workers went on, by the id that they had
        self._advisor = self._new_advisor()
        self._agent = self._open()

    def _new_advisor(self) -> ReplayAdvisor:
        name, _, model = str(self._config.get("advisor") or "none").partition(":")
        return ReplayAdvisor.of(self._store, self._study.id, name, model or None)

    def _open(self) -> Agent:
        """The study under its present configuration. Its clock is no part of it: a cap on seconds is left out."""
        config = self._config
        label, price = config.get("advisor"), config.get("price")
        budget = {name: cap for name, cap in config.get("budget", {}).items() if name != "seconds"}
        agent = Agent(
            self._space,
            objectives=[Objective(**o) for o in self._study.objectives],  # type: ignore[arg-type]
            task=config.get("task"),
            data=config.get("data"),
            advisor=self._advisor if config.get("advisor") else None,
            engine=config.get("engines", config["engine"]),
            scheduler=config.get("scheduler"),
            fidelity=Fidelity(*config["fidelity"]) if config.get("fidelity") else None,
            budget=Budget(**budget),
            prices={label: price} if label and price else {},
            advisor_deadline=config.get("advisor_deadline", 60.0),
            safety=config.get("safety", "shared"),
            store=self._path,
            study=self._study.name,
            seed=self._study.seed,
        )
        if config.get("notes"):
            agent._reconfigure(notes=config["notes"])
        if agent._desk is not None:
            agent._desk.sleep = lambda seconds: None
        return agent

    def run(self) -> Replay:
        decisions, difference = 0, None
        waiting: list[Event] = []  # what happened outside, and is not told yet
        try:
            for event in self._events[1:]:
                if event.kind not in ("trial_created", "trial_resumed"):
                    waiting.append(event)
                    continue
                known = self._known(event)
                waiting = self._tell(waiting, known)
                decisions += 1
                if (difference := self._decide(event, known)) is not None:
                    break
        finally:
            self._agent.close()
        return Replay(decisions, self._advisor.calls, tuple(self._advisor.changed), difference)

    def _tell(self, waiting: list[Event], known: _Known) -> list[Event]:
        """Lets happen what was known to the next decision. Returns the rest."""
        later: list[Event] = []
        early = False  # whether a result came before that was not known yet: what is behind it was not either
        for event in waiting:
            if event.kind in (BEGAN, ENDED):
                if event.id <= (known.heard or 0):
                    self._asked(event)
                elif known.put not in (event.id, event.payload.get("began")):  # its own is put by itself
                    later.append(event)
            elif event.kind in (BELIEVED, WITHDRAWN) and event.id > (known.beliefs or 0):
                later.append(event)
            elif early or (_is_result(event) and known.as_of is not None and event.id > known.as_of):
                early = True
                later.append(event)
            else:
                self._happened(event)
        return later

    def _known(self, event: Event) -> _Known:
        """What this was decided on."""
        if event.kind == "trial_resumed":
            return _Known(event.payload["action"].get("as_of"))
        body = self._store.decision(self._study.id, event.number or 0) or {}
        names = ("as_of", "heard", "put", "beliefs", "until")
        return _Known(*(body.get(name) for name in names))

    # ------------------------------------------------------------------------------------------ from outside

    def _asked(self, event: Event) -> None:
        """A question that was open, or an answer that came, while others made trials."""
        desk, facts = self._agent._desk, event.payload
        if event.kind == BEGAN and event.id in self._ended:
            self._questions[event.id] = self._agent._suggester.question(facts["wanted"])
        elif event.kind == ENDED and facts["began"] in self._questions and desk is not None:
            desk.answer(self._questions[facts["began"]])

    def _happened(self, event: Event) -> None:
        number, facts, agent = event.number, event.payload, self._agent
        store, study_id = agent._store, agent.study_id
        if event.kind == "enqueued":
            store.enqueue(study_id, facts["params"], facts.get("note"))
        elif event.kind == "space_changed":
            self._space = Space.from_dict(facts["space"])
            agent.edit_space(self._space)
        elif event.kind == BELIEVED:
            told = [{k: v for k, v in prior.items() if k not in ("by", "told_at")} for prior in facts["priors"]]
            store.believe(study_id, told, by=facts["priors"][0]["by"], once=facts["priors"][0]["by"] == TASK)
        elif event.kind == WITHDRAWN:
            store.withdraw_belief(study_id, facts["belief"])
        elif event.kind == "config_changed":
            self._reconfigure(facts["config"])
        elif number is None:
            return
        elif event.kind == "trial_finished":
            self._copy_curves(number, facts.get("step"))
            store.finish(
                study_id, number, State(facts["state"]), facts["values"], facts["error"],
                attempt=facts["attempt"], step=facts.get("step"),
            )  # fmt: skip
        elif event.kind == "trial_paused":
            self._copy_curves(number, facts["step"])
            attempt = store.trial(study_id, number).attempt
            store.pause(study_id, number, facts["result"][0], facts["step"], attempt=attempt)
        elif event.kind == "trial_requeued":
            store.release(study_id, number)
        elif event.kind == "trial_changed":
            store.next_waiting(study_id, Hold(current_owner()))

    def _reconfigure(self, config: dict[str, Any]) -> None:
        before = {name: value for name, value in self._config.items() if name != "fell_to_strict"}
        self._config = config
        if before != {name: value for name, value in config.items() if name != "fell_to_strict"}:
            self._agent.close()
            self._agent = self._open()

    def _copy_curves(self, number: int, step: float | None) -> None:
        for metric in self._store.metric_names(self._study.id, number):
            curve = self._store.curve(self._study.id, number, metric)
            for at, value in zip(curve.steps, curve.values, strict=True):
                if step is None or at <= step:
                    self._agent._store.report(self._agent.study_id, number, at, {metric: value})

    # ------------------------------------------------------------------------------------------ decided again

    def _decide(self, event: Event, known: _Known) -> Difference | None:
        assert event.number is not None, "a trial has a number"
        fresh = event.payload.get("action", {}).get("fresh", True)
        try:
            put = self._questions.get(known.put or 0)
            derived = self._agent._suggester.next(fresh, put=put, until=known.until)
        except (BudgetSpent, SpaceExhausted, TunewrightError) as error:
            return Difference(event.number, "trial", "a trial", str(error))
        if event.kind == "trial_resumed":
            stored = (event.number, event.payload["fidelity"])
            found = (derived.number, derived.fidelity)
            return None if found == stored else Difference(event.number, "resumed to", stored, found)
        return self._compare(event, derived)

    def _compare(self, event: Event, derived: TrialRecord) -> Difference | None:
        number = event.number or 0
        if derived.number != number:
            return Difference(number, "number", number, derived.number)
        for name in FACTS:
            if not _same(event.payload[name], now := getattr(derived, name)):
                return Difference(number, name, event.payload[name], now)
        stored = self._store.decision(self._study.id, number) or {}
        again = self._agent._store.decision(self._agent.study_id, number) or {}
        for name in (n for n in stored if n not in OWN):
            before, now = _without_ids(stored[name]), _without_ids(again.get(name))
            if not _same(before, now):
                return Difference(number, name, before, now)
        return None


def _is_result(event: Event) -> bool:
    return event.kind in ("trial_finished", "trial_paused")


def _without_ids(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_ids(part) for name, part in value.items() if name != "proposal_id"}
    return [_without_ids(part) for part in value] if isinstance(value, list | tuple) else value


def _same(a: Any, b: Any) -> bool:
    """Equal, floats to nine digits: another machine's libraries may round the last ones differently."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float | int):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)
