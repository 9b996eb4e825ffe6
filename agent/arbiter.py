"""Who gets the next trial: the engine's proposal or an advised candidate.

`decide` is a pure function. It sees advice that was already parsed, the engine's proposal, the numbers measured for
each candidate, and what happened so far; every number it compared stands in its Decision, which the store keeps.
An advised candidate must pass, in order: schema and bounds, novelty, the learned failure region, and past the seeds
the acquisition gate. Advice is limited by the number of seeds, by a falling share, and by the trust that its evaluated
trials have earned: without trust its share is zero, but for a rare probe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from tunewright.agent.records import ProposalStatus
from tunewright.agent.spending import MAX_DOUBLINGS
from tunewright.agent.trust import UNTRIED, Trust
from tunewright.engines.types import Proposal

Phase = Literal["seed", "gate", "probe"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits on advice. Fractions are of the budget or of [0, 1]."""

    budget: int = 50  # trials; assumed where the user set none
    seed_fraction: float = 0.1  # advised seeds: at most this part of the budget ...
    max_seeds: int = 5  # ... and at most this many ...
    seed_window: float = 0.2  # ... among the first trials: this part of the budget ...
    max_unjudged: int = 2  # ... and none while so many wait for a judgement, or one that began the study
    share_first: float = 0.25  # advised trials among those after the seeds: at the start ...
    share_last: float = 0.1  # ... and at the end of the budget
    gate_first: float = 0.5  # quantile of the engine's own candidates that advice must reach: at the start ...
    gate_last: float = 0.9  # ... and at the end
    min_distance: float = 0.01  # to the nearest configuration tried or running
    max_failure_risk: float = 0.5
    probe_every: int = 20  # trials from one question to the next while trust is low; twice as many after each probe ...
    probes_end: float = 0.9  # ... and none from this part of the budget on, when it could teach nothing in time
    rung_share: float | None = None  # several fidelities: advised trials among all that began on the lowest rung

    @property
    def seeds(self) -> int:
        return min(self.max_seeds, int(self.seed_fraction * self.budget))

    def seeding(self, number: int) -> bool:
        return number < max(1.0, self.seed_window * self.budget)

    def share(self, number: int) -> float:
        return self._between(self.share_first, self.share_last, number)

    def gate(self, number: int) -> float:
        return self._between(self.gate_first, self.gate_last, number)

    def _between(self, first: float, last: float, number: int) -> float:
        return first + (last - first) * min(1.0, number / max(1, self.budget))


@dataclass(frozen=True, slots=True)
class Record:
    """What happened before this trial, as far as the arbiter's limits need it."""

    number: int  # of the trial being decided
    seeds: int = 0  # advised trials of the seed phase
    advised: int = 0  # advised trials past it
    last_asked: int | None = None  # the trial for which the advisor was last asked past the seeds
    trust: Trust = UNTRIED
    unjudged: int = 0  # trials of this advisor that were not held against one of the engine's yet
    given: int = 0  # enqueued trials that the study began with
    probes: int = 0  # its trials that were taken while trust was low


@dataclass(frozen=True, slots=True)
class Candidate:
    """One advised configuration as parsed. `problems` are its violations of schema, bounds, types and conditions."""

    params: Mapping[str, Any]
    rationale: str = ""
    problems: tuple[str, ...] = ()
    proposal_id: int | None = None  # its stored row


@dataclass(frozen=True, slots=True)
class Advice:
    """What the advisor said for this trial, or why it said nothing (`silence`)."""

    candidates: tuple[Candidate, ...] = ()
    silence: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers for one valid candidate. `repeats` is the trial that tried the same configuration already."""

    repeats: int | None
    distance: float  # to the nearest configuration tried or running, 0..1
    failure_risk: float  # learned probability of failure, 0..1
    score: float | None  # by the engine's own acquisition; None while no model can judge
    failing: str = ""  # the region in words whose failures the risk stands for


@dataclass(frozen=True, slots=True)
class Scores:
    """`candidates[i]` belongs to advice.candidates[i], None for an invalid one; `reference`: (256,) scores of the
    engine's own candidates, empty while no model can judge."""

    candidates: tuple[Measured | None, ...] = ()
    reference: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: the number found, the limit it was held to, and the outcome."""

    name: Literal["schema", "repeat", "distance", "failure region", "gate"]
    passed: bool
    value: float | None = None
    limit: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one candidate."""

    params: Mapping[str, Any]
    rationale: str
    checks: tuple[Check, ...]
    status: ProposalStatus
    reason: str
    proposal_id: int | None = None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whose configuration the trial takes, why, and every number that was compared."""

    source: Literal["default", "queue", "engine", "advisor"]
    reason: str
    phase: Phase | None = None
    chosen: int | None = None  # index into verdicts
    verdicts: tuple[Verdict, ...] = ()
    silence: str | None = None  # why there was no advice
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        # By hand: asdict copies deeply, which the rest of a suggestion has no need of.
        return {
            "source": self.source, "reason": self.reason, "phase": self.phase, "chosen": self.chosen,
            "verdicts": [asdict(verdict) for verdict in self.verdicts], "silence": self.silence,
            "numbers": dict(self.numbers),
        }  # fmt: skip


def turn(proposal: Proposal, record: Record, policy: Policy) -> tuple[Phase | None, str]:
    """Which kind of advice this trial has room for, or None and the reason why for none."""
    # Points that the user gave stand where random draws would have: for as many turns more the model may wait.
    begun = record.number - record.given
    startup = proposal.tags.get("phase") == "startup" or begun < record.given
    advised = record.seeds + record.advised
    if policy.rung_share is not None and advised + 1 > policy.rung_share * (record.number + 1):
        return None, f"advice fills at most {policy.rung_share:.0%} of the lowest rung"
    if record.trust.low:
        since = record.number if record.last_asked is None else record.number - record.last_asked
        wait = policy.probe_every * 2 ** min(record.probes, MAX_DOUBLINGS)
        if since < wait:
            return None, f"trust in the advisor is low ({record.trust}); it may try one trial in {wait}"
        if policy.probes_end * policy.budget <= record.number < policy.budget:
            return None, f"trust in the advisor is low ({record.trust}); too late for it to try a trial in this budget"
        return "probe", f"a probe, since trust is low ({record.trust})"
    if startup and record.seeds < policy.seeds and policy.seeding(begun):
        begins = record.number == advised  # nothing stands beside them yet, no default and no point of the user's
        if record.unjudged >= (1 if begins else policy.max_unjudged):
            waiting = "1 advised trial waits" if record.unjudged == 1 else f"{record.unjudged} advised trials wait"
            return None, f"{waiting} to be held against the engine's own"
        return "seed", f"seed {record.seeds + 1} of {policy.seeds}"
    share = policy.share(record.number) * record.trust.factor
    turns = record.number - record.seeds + 1
    if record.advised + 1 > share * turns:
        return None, f"advice had {record.advised} of {turns} turns; its share is capped at {share:.2f}"
    if record.last_asked is not None and (record.number - record.last_asked) * share < 1:
        return None, f"the advisor was asked at trial {record.last_asked}; at most one call in {1 / share:.0f} trials"
    return "gate", "room under the share cap"


def decide(advice: Advice, proposals: Sequence[Proposal], scores: Scores, record: Record, policy: Policy) -> Decision:
    """The next trial's owner. `proposals[0]` is the engine's; advice replaces it only when every check passes."""
    phase, why = turn(proposals[0], record, policy)
    numbers = {
        "seeds_used": record.seeds,
        "seeds_allowed": policy.seeds,
        "advised": record.advised,
        "share_cap": policy.share(record.number) * record.trust.factor,
        "trust": record.trust.mean,
        "evaluated": record.trust.evaluated,
    }
    for name in ("given", "unjudged", "probes"):
        if value := getattr(record, name):
            numbers[name] = value
    if phase is None:
        silence = advice.silence or why
        return Decision("engine", _engines_turn(proposals[0], silence), silence=silence, numbers=numbers)
    if not advice.candidates:
        silence = advice.silence or "the advisor had no candidate"
        return Decision("engine", _engines_turn(proposals[0], silence), phase, silence=silence, numbers=numbers)
    threshold: float | None = None
    if phase != "seed":
        quantile = policy.gate(record.number)
        numbers["gate_quantile"] = quantile
        if scores.reference:
            threshold = float(np.quantile(np.asarray(scores.reference), quantile))
            numbers["gate_threshold"] = threshold
    checked = [
        _check(candidate, measured, phase, threshold, policy)
        for candidate, measured in zip(advice.candidates, scores.candidates, strict=True)
    ]
    passing = [i for i, checks in enumerate(checked) if all(c.passed for c in checks)]
    chosen = None
    if passing:
        # Seeds go out in the advisor's order; past them the engine's own acquisition ranks.
        chosen = passing[0] if phase == "seed" else max(passing, key=lambda i: (_score(scores.candidates[i]), -i))
    verdicts = tuple(
        _verdict(candidate, checks, i == chosen, phase)
        for i, (candidate, checks) in enumerate(zip(advice.candidates, checked, strict=True))
    )
    if chosen is None:
        reason = _engines_turn(proposals[0], "no advised candidate passed: " + "; ".join(v.reason for v in verdicts))
        return Decision("engine", reason, phase, None, verdicts, advice.silence, numbers)
    if phase == "seed":
        drawn = proposals[0].tags.get("phase") == "startup"
        place = "in place of a draw made without a model" if drawn else f"after the {record.given} points given"
        how = f"advised seed {record.seeds + 1} of {policy.seeds}, {place}"
    else:
        how = f"advised, and at or above the {numbers['gate_quantile']:.2f}-quantile of the engine's own candidates"
        how += f"; {why}" if phase == "probe" else ""
    return Decision("advisor", how, phase, chosen, verdicts, advice.silence, numbers)


def _engines_turn(proposal: Proposal, why_no_advice: str) -> str:
    """Why the engine itself proposes this point, and why it was left its turn."""
    what = "is where its model expects most"
    if proposal.tags.get("by_chance"):
        what = "is a random draw beside those of its model"
    elif proposal.tags.get("phase") == "startup":
        what = "covers the space before there is a model"
    return f"the engine's point {what}; {why_no_advice}"


def _score(measured: Measured | None) -> float:
    return measured.score if measured is not None and measured.score is not None else -np.inf


def _check(
    candidate: Candidate, measured: Measured | None, phase: Phase, threshold: float | None, policy: Policy
) -> tuple[Check, ...]:
    """The checks in order, up to and including the first that fails."""
    checks: list[Check] = []
    for check in _checks(candidate, measured, phase, threshold, policy):
        checks.append(check)
        if not check.passed:
            break
    return tuple(checks)


def _checks(
    candidate: Candidate, measured: Measured | None, phase: Phase, threshold: float | None, policy: Policy
) -> Iterator[Check]:
    if candidate.problems or measured is None:
        yield Check("schema", False, note="; ".join(candidate.problems) or "it could not be measured")
        return
    yield Check("schema", True)
    repeats = measured.repeats
    yield Check("repeat", repeats is None, note="" if repeats is None else f"trial {repeats} has tried it")
    yield Check("distance", measured.distance >= policy.min_distance, measured.distance, policy.min_distance)
    risk = measured.failure_risk
    safe = risk <= policy.max_failure_risk
    yield Check("failure region", safe, risk, policy.max_failure_risk, "" if safe else measured.failing)
    if phase == "seed":
        return
    if threshold is None or measured.score is None:
        yield Check("gate", False, measured.score, threshold, "no model can judge it yet")
    else:
        yield Check("gate", measured.score >= threshold, measured.score, threshold)


def _verdict(candidate: Candidate, checks: tuple[Check, ...], chosen: bool, phase: Phase) -> Verdict:
    failed = next((c for c in checks if not c.passed), None)
    status: ProposalStatus
    if chosen:
        status, reason = "taken", "passed every check"
    elif failed is not None:
        status, reason = "rejected", _words(failed)
    elif phase == "seed":
        status, reason = "open", "passed; waits for the next seed"
    else:
        status, reason = "displaced", "passed, but another advised candidate scored higher"
    return Verdict(candidate.params, candidate.rationale, checks, status, reason, candidate.proposal_id)


def _words(check: Check) -> str:
    if check.note:
        return f"{check.name}: {check.note}"
    relation = "above" if check.name == "failure region" else "below"
    return f"{check.name}: {check.value:.3g} is {relation} {check.limit:.3g}"
