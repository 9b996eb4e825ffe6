"""Why a trial was tried: its decision and every proposal beside it, read back from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunewright.agent.beliefs import Beliefs, statement
from tunewright.agent.decided import decided
from tunewright.agent.readings import reading
from tunewright.agent.records import CallRecord, ProposalRecord, Resources, StudyRecord, TrialRecord
from tunewright.agent.store import Event, Store
from tunewright.engines.curves import Reading
from tunewright.engines.priors import Prior
from tunewright.prompts.text import plain

MAX_LINE = 4_000
MARKS = {True: "ok", False: "NO"}


@dataclass(frozen=True, slots=True)
class Why:
    """The record behind one trial. `str()` is the text for people; `to_dict()` the same as plain data."""

    trial: TrialRecord
    metric: str
    reason: str
    decision: Mapping[str, Any]
    engine: ProposalRecord | None
    calls: Sequence[CallRecord]
    training: Sequence[str] = ()  # what happened to it while it was trained, in order
    curve: Reading | None = None  # what its reports say, where it made any
    resources: Resources | None = None  # what its processes took, where a runner watched them
    notes: Sequence[str] = ()
    beliefs: Sequence[Prior] = ()  # that tilted the engines when it was made
    standing: str | None = None  # of the best trial: whether that is a winner
    worth: Sequence[str] = ()  # what the advisors asked for it have cost and brought so far
    ending: str | None = None  # of a trial that is paused or was stopped: by what, and whether it goes on
    failing: str | None = None  # of a failed trial: the region of failures that it lies in

    def to_dict(self) -> dict[str, Any]:
        return {
            "trial": asdict(self.trial),
            "reason": self.reason,
            "decided": self.decided,
            "ending": self.ending,
            "decision": dict(self.decision),
            "engine": asdict(self.engine) if self.engine else None,
            "calls": [asdict(call) for call in self.calls],
            "training": list(self.training),
            "curve": asdict(self.curve) if self.curve else None,
            "resources": asdict(self.resources) if self.resources else None,
            "notes": list(self.notes),
            "beliefs": [{**asdict(prior), "said": statement(prior)} for prior in self.beliefs],
            "failing": self.failing,
            "standing": self.standing,
            "worth": list(self.worth),
        }

    def __str__(self) -> str:
        lines = [
            *self._head(),
            *self._engine(),
            *self._beliefs(),
            *self._advice(),
            *self._calls(),
            *self._faults(),
            *self._numbers(),
            *(f"Worth so far: {words}" for words in self.worth),
        ]
        # Errors, rationales and answers came from outside: a line break in one must not forge a line of ours.
        return "\n".join(line[: len(line) - len(line.lstrip(" "))] + plain(line, MAX_LINE) for line in lines)

    def _head(self) -> list[str]:
        t = self.trial
        outcome = f"{self.metric} {t.values[0]:.6g}" if t.values else t.error or ""
        attempt = f", attempt {t.attempt}" if t.attempt > 1 else ""
        return [
            f"Trial {t.number}: {t.state}{attempt}" + (f", {outcome}" if outcome else ""),
            f"  {values_text(t.params)}",
            self.chosen,
            *([f"The best so far. {self.standing}"] if self.standing else []),
            *([f"It lies where trials fail: {self.failing}"] if self.failing else []),
            *([f"Its end: {self.ending}"] if self.ending else []),
            *([f"Training: {'; '.join(self.training)}"] if self.training else []),
            *([f"Curve: {self.curve}"] if self.curve else []),
            *([f"Took: {self.resources}"] if self.resources else []),
            *(f"Note: {note}" for note in self.notes),
        ]

    @property
    def chosen(self) -> str:
        """Who chose it, of a portfolio which of its engines, and why."""
        trial = self.trial
        member = self.engine.tags.get("member") if self.engine and trial.source == "engine" else None
        who = f"{trial.proposer}, {member}" if member else trial.proposer
        by = trial.source if trial.proposer in (trial.source, "user") else f"{trial.source} ({who})"
        return f"Chosen by {by}: {self.decided}"

    @property
    def decided(self) -> str:
        """Why, in plain words."""
        return decided(self.decision, self.reason)

    def _beliefs(self) -> list[str]:
        told = [f"{statement(prior)} ({prior.strength})" for prior in self.beliefs]
        return [f"The engine leaned by what people said: {'; '.join(told)}"] if told else []

    def _engine(self) -> list[str]:
        if self.engine is None:
            return []
        e = self.engine
        origin = f", {e.source.distribution} {e.source.version}" if e.source.distribution else ""
        tags = f" [{', '.join(f'{k} {v}' for k, v in e.tags.items())}]" if e.tags else ""
        fate = f"{e.status}: {e.reason}" if e.reason else e.status
        if e.taken_by is not None and e.taken_by != self.trial.number:
            fate = f"held: it became trial {e.taken_by}"
        return [f"Engine {e.source.name}{origin}, proposal {e.ask_index}{tags}: {fate}", f"  {values_text(e.params)}"]

    def _advice(self) -> list[str]:
        verdicts = self.decision.get("verdicts") or []
        if not verdicts:
            silence = self.decision.get("silence")
            return [f"No advice: {silence}"] if silence and silence not in self.reason else []
        lines = ["Advice:"]
        for i, verdict in enumerate(verdicts, start=1):
            lines.append(f"  {i}. {verdict['status']}: {verdict['reason']}")
            lines.append(f"     {values_text(verdict['params'])}")
            if verdict["rationale"]:
                lines.append(f"     said: {verdict['rationale']}")
            lines.append("     checks: " + "; ".join(_check_text(c) for c in verdict["checks"]))
        return lines

    def _calls(self) -> list[str]:
        lines = []
        for call in self.calls:
            who = f"{call.advisor}:{call.model}" if call.model else call.advisor
            cached = f" ({call.tokens_cached} cached)" if call.tokens_cached else ""
            cost = [] if call.tokens_in is None else [f"{call.tokens_in}{cached} + {call.tokens_out or 0} tokens"]
            cost += [] if call.seconds is None else [f"{call.seconds:.2f} s"]
            cost += ["cost unknown"] if call.usd is None else [f"{call.usd:.4f} USD"]
            lines.append(
                f"Call {call.id} to {who}: {call.status}"
                + (f" ({call.error})" if call.error else "")
                + f"; {', '.join(cost)}; "
                f"prompt {call.prompt_name} {call.prompt_version} {call.prompt_hash[:12]}"
            )
        return lines

    def _faults(self) -> list[str]:
        return [f"Fallback: {fault}" for fault in self.decision.get("faults") or []]

    def _numbers(self) -> list[str]:
        """The arbiter's own words and numbers, where plainer ones stand above."""
        numbers = self.decision.get("numbers") or {}
        told = [self.reason] if self.reason != self.decided else []
        told += [f"{name.replace('_', ' ')} {_short(value)}" for name, value in numbers.items()]
        return [f"Details of the decision: {'; '.join(told)}"] if told else []


def _check_text(check: Mapping[str, Any]) -> str:
    text = f"{check['name']} {MARKS[check['passed']]}"
    if check["value"] is not None:
        text += f" {_short(check['value'])}"
        if check["limit"] is not None:
            text += f" (limit {_short(check['limit'])})"
    return text + (f", {check['note']}" if check["note"] else "")


def _short(value: Any) -> str:
    """A number, or the word the store keeps for one that is not finite."""
    return f"{float(value):.3g}"


def _holding(store: Store, study: StudyRecord, heard: int | None) -> tuple[Prior, ...]:
    """The beliefs that held after event `heard`."""
    if heard is None:
        return ()
    told = Beliefs(store, study.id)
    told.sync(heard)
    return told.holding


def values_text(params: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())


def explain(store: Store, study: StudyRecord, number: int) -> Why:
    """Reads one trial's record. Raises UnknownTrial."""
    trial = store.trial(study.id, number)
    decision = store.decision(study.id, number) or {}
    proposals = store.proposals(study.id, number)
    held = decision.get("held")
    if held is not None:  # a private engine's proposal, made for an earlier turn
        proposals = [*proposals, *(p for p in store.proposals(study.id) if p.id == held)]
    engine = next((p for p in proposals if p.by == "engine"), None)
    # A seed's candidate stood in the answer to an earlier trial's call.
    used = {v.get("proposal_id") for v in decision.get("verdicts") or []}
    call_ids = {p.call_id for p in store.proposals(study.id) if p.id in used} if used else set()
    calls = [c for c in store.calls(study.id) if c.number == number or c.id in call_ids]
    reason, events = str(decision.get("reason", "")), store.events(study.id, number=number)
    notes = [event.payload["text"] for event in events if event.kind == "trial_noted"]
    taken, training = store.resources(study.id, [number]).get(number), _training(events, study)
    curve = reading(store, study, number)
    believed = _holding(store, study, decision.get("beliefs"))
    metric = study.objectives[0]["name"]
    return Why(trial, metric, reason, decision, engine, calls, training, curve, taken, notes, believed)


def _training(events: Sequence[Event], study: StudyRecord) -> list[str]:
    """What a scheduler did with a trial, and which of its attempts were given up."""
    unit = (study.config.get("fidelity") or ["step"])[0]
    words = []
    for event in events:
        facts = event.payload
        if event.kind == "trial_created" and "action" in facts:
            words.append(f"began, to train to {unit} {facts['fidelity']}")
        elif event.kind == "trial_resumed":
            words.append(f"went on to {unit} {facts['fidelity']}")
        elif event.kind == "trial_paused":
            words.append(f"paused at {unit} {facts['step']:g} with {facts['result'][0]:.6g}")
        elif event.kind == "trial_requeued":
            words.append(f"attempt {facts['attempt'] - 1} was given up: {facts.get('reason', 'it was handed back')}")
        elif event.kind == "trial_finished" and facts.get("step") is not None:
            words.append(f"{facts['state']} at {unit} {facts['step']:g}")
    return words
