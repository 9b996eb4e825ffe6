"""A study's past, kept in memory in step with the store, which other processes may write to as well."""

from __future__ import annotations

import gc
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from operator import itemgetter
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from tunewright.agent.arbiter import Measured
from tunewright.agent.failing import FailingRegion, failing
from tunewright.agent.records import TrialRecord
from tunewright.agent.scheduling import Told
from tunewright.agent.spending import PATIENCE, Spending, spending
from tunewright.agent.store.trials import Stamp
from tunewright.agent.trust import UNTRIED, Result, Trust, earned
from tunewright.agent.view import StudyView
from tunewright.engines.failures import failure_risk
from tunewright.engines.noise import noise_floor
from tunewright.engines.novelty import distances
from tunewright.engines.rerun import MOST, Rerun, rerun
from tunewright.engines.space import Space
from tunewright.engines.types import Point, Proposal, State

NOISE_EVERY = 10
_LIVE = (State.RUNNING, State.WAITING)

P = ParamSpec("P")
T = TypeVar("T")


def uncollected(read: Callable[P, T]) -> Callable[P, T]:
    """Without Python's search for cycles, which takes longer and longer while a large study is read: what is read holds
    none."""

    @wraps(read)
    def wrapped(*args: P.args, **options: P.kwargs) -> T:
        on = gc.isenabled()
        gc.disable()
        try:
            return read(*args, **options)
        finally:
            if on:
                gc.enable()

    return wrapped


class History:
    """What arbiter, engines and digest need of every trial. `sync` first, then read.

    Trials that an edit of the space has left outside it are counted and otherwise left out.
    """

    def __init__(self, view: StudyView):
        self._view, self._store, self._study_id, self.space = view, view.store, view.record.id, view.space
        self.finished: list[TrialRecord] = []  # in the order in which they ended
        self.live: list[TrialRecord] = []
        self.waits = False  # whether a trial waits to be handed out again
        self.rested: Callable[[], Mapping[int, Point]] = dict  # (step, value) where each paused trial came to rest
        self.created = 0  # trials ever made; the next one's number
        self.seeds = 0  # advised trials of the seed phase
        self.advised = 0  # advised trials past it
        self.probes: Counter[str] = Counter()  # of them while trust was low, by advisor
        self.given = 0  # enqueued trials that the study began with
        self.outcomes: list[Result] = []  # the first of each trial, in the order in which they came
        self.results: list[Result] = []  # those of engine and advisor
        self.event = 0  # the latest end of a trial that is known
        self._tried: dict[int, Mapping[str, Any]] = {}  # the configurations of the outcomes
        self._advised_by: dict[int, str] = {}
        self._advised: Counter[str] = Counter()  # how many each advisor has
        self._past_seeds: dict[str, list[int]] = defaultdict(list)  # which of them came after the seeds
        self._trust: dict[str, tuple[int, Trust]] = {}  # by advisor, after how many results
        # After how many results it was estimated, and as what: on the safe side, and as far as the trials show it.
        self._noise: dict[bool, tuple[int, float]] = {False: (0, 0.0), True: (0, 0.0)}
        self._live: dict[int, _Live] = {}
        self._unended: set[int] = set()  # trials that may still change: no other can come to run or wait
        self._pending: list[Proposal] = []  # of each in `live`
        self._records: dict[int, TrialRecord] = {}  # as they were when they were first read
        self._places = _Places(view.space)
        self._failed: dict[int, bool] = {}
        self._failing: tuple[int, list[FailingRegion]] = (0, [])  # after how many ended trials they were looked for

    def sync(self) -> list[TrialRecord]:
        """Reads what is new. Returns the trials that ended since the last call, in the order in which they ended."""
        stamps = self._store.live(self._study_id) if self._unended else []
        created, ended = self.created, []
        news: dict[int, _Live | None] = {}  # by number; None where it neither runs nor waits
        for record in self._store.news(self._study_id, created, self.event):
            fitted = self._view.fit(record)
            # Before `_count`, which reads and can be interrupted: what is in here is found again by the next look.
            if record.state.finished:
                self._unended.discard(record.number)
                ended.append((record.event or 0, fitted))
            else:
                self._unended.add(record.number)
            if record.number >= created:
                self._count(record, fitted)
            news[record.number] = self._live_one(record, fitted) if record.state in _LIVE else None
        self._look_at_live(stamps, news)
        ended.sort(key=itemgetter(0))
        self.event = ended[-1][0] if ended else self.event
        new = [fitted for _, fitted in ended if fitted is not None]
        self._failed.update((fitted.number, fitted.state is State.FAILED) for fitted in new)
        self.finished += new
        return new

    def _look_at_live(self, stamps: Sequence[Stamp], news: Mapping[int, _Live | None]) -> None:
        """The trials of a thousand workers are read once each, not at each suggestion."""
        known, self._live = self._live, {number: one for number, one in news.items() if one is not None}
        for stamp in stamps:
            if stamp.number in news:
                continue
            one = known.get(stamp.number)
            if one is None or one.stamp != stamp:
                record = self._store.trial(self._study_id, stamp.number)
                if record.state not in _LIVE:
                    continue
                one = self._live_one(record, self._view.fit(record))
            self._live[stamp.number] = one
        live = [one for _, one in sorted(self._live.items())]
        self.waits = any(one.stamp.state == State.WAITING for one in live)
        self.live = [one.record for one in live if one.record is not None]
        self._pending = [one.proposal for one in live if one.proposal is not None]

    def _live_one(self, record: TrialRecord, fitted: TrialRecord | None) -> _Live:
        stamp = Stamp(record.number, record.attempt, record.state, record.started, record.fidelity)
        proposal = None if fitted is None else Proposal(self.space.free(fitted.params), fitted.fidelity)
        return _Live(stamp, fitted, proposal)

    def _count(self, record: TrialRecord, fitted: TrialRecord | None) -> None:
        """One that was not known."""
        self.created = record.number + 1
        if record.source == "advisor":
            self._count_advice(record)
        elif record.source == "queue" and record.number == self.given:
            self.given += 1
        if fitted is not None:
            self._records[record.number] = fitted
            self._places.new.append(fitted)

    def _count_advice(self, record: TrialRecord) -> None:
        decision = self._store.decision(self._study_id, record.number) or {}
        advisor = decision.get("advisor") or record.proposer
        self._advised_by[record.number] = advisor
        self._advised[advisor] += 1
        if decision.get("phase") == "seed":
            self.seeds += 1
        else:
            self.advised += 1
            self._past_seeds[advisor].append(record.number)
            self.probes[advisor] += decision.get("phase") == "probe"

    def judge(self, told: Sequence[Told]) -> None:
        """Takes in results for `trust` and `spending`: the first of each trial."""
        if len(self._view.objectives) > 1:
            return  # no order among them to win or lose in
        for source, observation in told:
            number, values = observation.number, observation.values
            if number in self._tried:
                continue
            loss = math.inf if values is None else self._view.objectives[0].loss(values[0])
            self.outcomes.append(Result(number, self._advised_by.get(number), loss, observation.fidelity))
            self._tried[number] = observation.params
            if source == "advisor" or observation.own:
                self.results.append(self.outcomes[-1])

    def trust(self, advisor: str) -> Trust:
        """What that advisor's evaluated trials have earned."""
        known, trust = self._trust.get(advisor, (-1, UNTRIED))
        if known != len(self.results):
            tried = any(result.by == advisor for result in self.results)
            trust = earned(self.results, advisor, self.noise_floor()) if tried else UNTRIED
            self._trust[advisor] = (len(self.results), trust)
        return trust

    def unjudged(self, advisor: str) -> int:
        """That advisor's trials that `trust` has not judged yet; 0 where it judges none, with several objectives."""
        if len(self._view.objectives) > 1:
            return 0
        return self._advised[advisor] - self.trust(advisor).evaluated

    @property
    def advised_first(self) -> bool:
        """Whether advice took trial 0."""
        return 0 in self._advised_by

    def rerun(self, until: int, *, strict: bool) -> Rerun | None:
        """Whose configuration the next trial repeats, see `engines.rerun`."""
        if not until - MOST <= self.created < until:
            return None
        complete = [r for r in self.finished if r.state is State.COMPLETE and r.values is not None]
        runs = self._view.runs(complete, self.live)
        return rerun(runs, self.created, until, lambda: self._view.noise_of(complete), strict=strict)

    def params(self, number: int) -> Mapping[str, Any]:
        """The searched part of a trial's configuration."""
        return self.space.free(self._records[number].params)

    def spending(self, advisor: str, questions: Sequence[int] | None, budget: int) -> Spending:
        """What that advisor's answered questions, by the trial that they were put for, have brought; None for one whose
        questions are free: what its trials past the seeds have."""
        free = questions is None
        questions = self._past_seeds[advisor] if questions is None else questions
        running = (n for n, by in self._advised_by.items() if by == advisor and n not in self._tried)
        first = min(running, default=None)
        noise = self.noise_floor() if len(questions) >= PATIENCE else 0.0  # which takes a fit
        return spending(self.outcomes, questions, advisor, noise=noise, running=first, budget=budget, free=free)

    def noise_floor(self) -> float:
        """One standard deviation between equal runs, 0 while it is unknown: estimated anew with half as many results
        again, among those of the fidelity that most have. Who asks, and when, makes no difference. On the safe side: a
        gain that may be luck is none."""
        return self._noise_of(evident=False)

    @property
    def seen_noise(self) -> float | None:
        """The same for words about it: None where the trials show none."""
        return self._noise_of(evident=True) or None

    def _noise_of(self, *, evident: bool) -> float:
        known, noise = self._noise[evident]
        due = known
        while len(self.results) - due >= (step := max(NOISE_EVERY, due // 2)):
            due += step
        if due > known:
            results = self.results[:due]
            usual = Counter(r.fidelity for r in results).most_common(1)[0][0]
            usable = [r for r in results if r.fidelity == usual and math.isfinite(r.loss)]
            configs = [self._tried[r.number] for r in usable]
            noise = noise_floor(self.space, configs, np.array([r.loss for r in usable]), evident=evident) or 0.0
            self._noise[evident] = (due, noise)
        return noise

    def pending(self, strict: bool) -> list[Proposal]:
        """Configurations out for evaluation; a strict engine is never shown advised ones."""
        pairs = zip(self.live, self._pending, strict=True)
        return [proposal for record, proposal in pairs if not (strict and record.source == "advisor")]

    def told(self) -> list[TrialRecord]:
        """Every trial for the advisor: finished ones in order, paused ones with what they were worth, running ones."""
        paused = [
            replace(self._records[number], state=State.PAUSED, values=(value,), fidelity=int(step))
            for number, (step, value) in self.rested().items()
            if number in self._records
        ]
        return [*self.finished, *paused, *self.live]

    def repeats(self, config: Mapping[str, Any]) -> int | None:
        """The first trial that has this configuration, whatever became of it."""
        return self._places.number_of(config)

    def near(self, config: Mapping[str, Any]) -> tuple[float, float, str]:
        """(distance to the nearest trial in 0..1, risk of failure in 0..1, the failing region in words that it stands
        for). The risk is the larger one of what the failures nearby and what a region around it say."""
        numbers, units = self._places.all()
        if not numbers:
            return 1.0, 0.0, ""
        apart = distances(self.space, config, units)
        rows = [row for row, number in enumerate(numbers) if number in self._failed]
        failed = np.array([self._failed[numbers[row]] for row in rows], dtype=bool)
        risk, words, place = failure_risk(apart[rows], failed) if rows else 0.0, "", self.space.encode([config])
        for one in self.failing():
            if one.region.risk > risk and one.region.holds(self.space, place)[0]:
                risk, words = one.region.risk, str(one)
        return float(apart.min()), risk, words

    def measured(self, config: Mapping[str, Any], score: float | None) -> Measured:
        """An advised configuration in the numbers that the arbiter compares; `score` is the engine's."""
        distance, risk, failing = self.near(config)
        return Measured(self.repeats(config), distance, risk, score, failing)

    def failing(self) -> list[FailingRegion]:
        """Where trials fail, most failures first."""
        if self._failing[0] != len(self.finished):
            self._failing = (len(self.finished), failing(self.space, self.finished))
        return self._failing[1]


class _Live(NamedTuple):
    """A trial that runs or waits, in today's space: neither record nor proposal where it lies outside."""

    stamp: Stamp
    record: TrialRecord | None
    proposal: Proposal | None


class _Places:
    """Where the trials' configurations lie. Only advice asks, so they are worked out when it does."""

    def __init__(self, space: Space):
        self.new: list[TrialRecord] = []
        self._space = space
        self._by_key: dict[str, int] = {}
        self._numbers: list[int] = []
        self._units = np.empty((0, len(space.names)))

    def number_of(self, config: Mapping[str, Any]) -> int | None:
        """The first trial of this configuration."""
        self._take_in()
        return self._by_key.get(self._space.key(config))

    def all(self) -> tuple[Sequence[int], np.ndarray]:
        """(trial numbers, their points in the unit cube: (n, parameters))."""
        self._take_in()
        return self._numbers, self._units

    def _take_in(self) -> None:
        new, self.new = self.new, []
        if not new:
            return
        free = [self._space.free(record.params) for record in new]
        for record, params in zip(new, free, strict=True):
            self._by_key.setdefault(self._space.key(params), record.number)
        self._numbers += [record.number for record in new]
        self._units = np.concatenate([self._units, self._space.encode(free)])
