"""The engines of a study in their fallback order: what they are told, and what happens when one breaks.

State is history: an engine is built fresh and told every finished trial in the order in which they ended. When it
raises, proposes what its space does not allow, or is not ours and gives no answer, it is set aside with the reason and
the next in the order takes its place on the same history; `random` stands at the end of every order.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tunewright.agent.favoured import favoured
from tunewright.engines.errors import FixArgument, FixPlugin, SpaceExhausted
from tunewright.engines.priors import Prior
from tunewright.engines.space import Space
from tunewright.engines.types import (
    Believer,
    Engine,
    Fidelity,
    Objective,
    Observation,
    Params,
    Predictor,
    Proposal,
    Scorer,
)
from tunewright.plugins import registry
from tunewright.plugins.hooks import Source

REFERENCE_CANDIDATES = 256
AUTO = "auto"
JUDGE = "tpe"  # scores advice where the engine cannot
MAX_GP_PARAMETERS = 40
NOTHING_DRAWN: tuple[Sequence[Params], np.ndarray] = ((), np.empty(0))
PATIENCE = 300.0  # seconds for one answer of an engine that is not ours

T = TypeVar("T")
Expected = tuple[float, float] | None  # (mean, std) of the first objective, where a model predicts it


@dataclass(frozen=True, slots=True)
class Choice:
    """One engine of the order: a registered name with options, or an object the user made."""

    source: Source
    made: Engine | None = None

    def to_config(self) -> Any:
        """As a study's configuration keeps it: `engine=` takes it back, but for an object, of which it is the name."""
        name, options = self.source.name, dict(self.source.options)
        return [name, options] if options else name


@dataclass(frozen=True, slots=True)
class Asked:
    proposal: Proposal
    source: Source
    faults: tuple[str, ...] = ()  # what earlier engines of the order did wrong for this proposal
    favoured: tuple[Mapping[str, Any], ...] = ()  # where its best candidates lie, see `Lineup.favoured`
    # What the engine's model expects of configurations, see `Lineup.expect`; a held point has none to ask.
    expect: Callable[[Sequence[Params]], list[Expected]] = lambda configs: [None] * len(configs)

    @property
    def startup(self) -> bool:
        """Whether the proposal was drawn without a model."""
        return self.proposal.tags.get("phase") == "startup"


def choices(
    engine: Any, objectives: Sequence[Objective], space: Space | None = None, scheduler: str | None = None
) -> tuple[Choice, ...]:
    """The fallback order for an `engine=` argument beside the scheduler of that name. Raises FixArgument or FixPlugin
    for what it does not know."""
    named = list(engine) if isinstance(engine, list | tuple) and not _is_pair(engine) else [engine]
    if not named:
        raise FixArgument("an empty fallback order", field="engine", value=engine, fix='engine="auto"')
    plain = [one for name in named for one in (_automatic(objectives, space, scheduler) if name == AUTO else (name,))]
    order = [_choice(one, objectives) for one in plain]
    if order[-1].source.name != "random":
        order.append(_choice("random", objectives))
    return tuple(order)


def _automatic(objectives: Sequence[Objective], space: Space | None, scheduler: str | None) -> tuple[str, ...]:
    """What "auto" stands for, in the fallback order.

    Several objectives: NSGA-II, which looks for all of the front. One: a GP needs the fewest trials
    (docs/benchmarks.md) and leads a portfolio in which TPE takes turns when it is stuck. Its fit wants more trials the
    more parameters there are, so past MAX_GP_PARAMETERS there is TPE alone. Freeze-thaw brings a GP of its own.
    """
    if len(objectives) > 1:
        return ("nsga2",)
    if space is not None and len(space.names) > MAX_GP_PARAMETERS:
        return ("tpe",)
    return ("freeze-thaw", "gp", "tpe") if scheduler == "freeze-thaw" else ("portfolio", "tpe")


def _is_pair(engine: Any) -> bool:
    return len(engine) == 2 and isinstance(engine[0], str) and isinstance(engine[1], Mapping)


def _choice(one: Any, objectives: Sequence[Objective]) -> Choice:
    options: Mapping[str, Any] = {}
    if isinstance(one, list | tuple) and _is_pair(one):
        one, options = one
    if isinstance(one, str):
        kind = registry.load("engines", one)
        source = registry.source("engines", one)
        choice = Choice(Source(source.name, source.distribution, source.version, dict(options)))
    elif isinstance(one, Engine):
        kind = type(one)
        choice = Choice(Source(kind.__name__, kind.__module__.split(".")[0], None), one)
    else:
        raise FixArgument(
            "not an engine",
            field="engine",
            value=one,
            fix='a name such as "tpe", ("tpe", {options}), or an Engine object',
        )
    if len(objectives) > 1 and not kind.capabilities.multi_objective:
        raise FixArgument(
            f"this engine knows one objective, the study has {len(objectives)}",
            field="engine",
            value=choice.source.name,
            fix='engine="auto" picks one that knows several',
        )
    return choice


class Lineup:
    """The engine in charge, on top of its fallback order. No fault of a plugin leaves this class as an exception
    before the whole order has failed."""

    def __init__(
        self,
        order: Sequence[Choice],
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        fidelity: Fidelity | None = None,
    ):
        self._order, self.space, self.objectives, self.seed = list(order), space, objectives, seed
        self._fidelity = fidelity
        self._history: list[Observation] = []
        self._priors: tuple[Prior, ...] = ()
        self._faults: list[str] = []  # since the last proposal
        self._judge: Engine | None = None
        self._drawn: tuple[Sequence[Params], np.ndarray] = NOTHING_DRAWN
        self._start(0)

    def _start(self, position: int) -> None:
        """Puts the first engine from `position` on in charge that takes the history."""
        for place, choice in enumerate(self._order[position:], start=position):
            self._position = place
            try:
                self._engine = choice.made or self._make(choice.source.name, **choice.source.options)
            except TypeError as error:
                name, kind = choice.source.name, registry.load("engines", choice.source.name)
                raise registry.options_refused(kind, f"engine {name!r}", choice.source.options, error) from None
            self._judge = None
            if self._told(self._history) and (not self._priors or self._believes(self._engine)):
                return
        raise FixPlugin("every engine of the fallback order failed", field="engine", value=self._faults)

    def _told(self, observations: Sequence[Observation]) -> bool:
        """Whether the engine took them."""
        try:
            if observations:
                self._bounded(lambda: self._engine.tell(observations))
        except Exception as error:  # a plugin's fault must cost a fallback, never the study
            self._fault(error)
            return False
        return True

    def believe(self, priors: Sequence[Prior]) -> None:
        """What people know beforehand, for the engines that can use it."""
        if tuple(priors) == self._priors:
            return
        self._priors = tuple(priors)
        if not self._believes(self._engine):
            self._start(self._position + 1)
        if self._judge is not None:
            self._believes(self._judge)

    def _believes(self, engine: Engine) -> bool:
        """Whether it took the priors, if it knows what they are."""
        if not isinstance(engine, Believer):
            return True
        try:
            self._bounded(lambda: engine.believe(self._priors))
        except Exception as error:
            self._fault(error)
            return False
        return True

    @property
    def deaf(self) -> str | None:
        """The name of the engine in charge where it knows no priors."""
        return None if isinstance(self._engine, Believer) else self.source.name

    def _bounded(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. An engine of somebody else's may hang: its thread, which nothing can end, is
        left behind then. Raises TimeoutError."""
        if self.source.distribution == "tunewright":
            return work()
        answer: list[Callable[[], T]] = []

        def run() -> None:
            try:
                found = work()
            except BaseException as error:
                answer.append(lambda error=error: _raise(error))  # type: ignore[misc]
            else:
                answer.append(lambda: found)

        thread = threading.Thread(target=run, name="tunewright-engine", daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if not answer:
            raise TimeoutError(f"gave no answer within {PATIENCE:g} s")
        return answer[0]()

    def _fault(self, what: Exception | str) -> None:
        text = what if isinstance(what, str) else f"{type(what).__name__}: {what}"
        self._faults.append(f"{self.source.name} {text}")

    def _make(self, name: str, **options: Any) -> Engine:
        kind = registry.load("engines", name)
        engine: Engine = kind(self.space, self.objectives, self.seed, fidelity=self._fidelity, **options)
        return engine

    @property
    def source(self) -> Source:
        return self._order[self._position].source

    def tell(self, observations: Sequence[Observation]) -> None:
        """New observations in the order in which the trials ended."""
        self._history += observations
        if not self._told(observations):
            self._start(self._position + 1)
        if self._judge is not None and observations:
            self._judge.tell(observations)

    def ask(self, index: int, pending: Sequence[Proposal], fidelity: int | None = None) -> Asked:
        """Proposal `index` of whichever engine works, for a trial that is trained to `fidelity` at first.

        Raises SpaceExhausted when a finite space is used up, FixPlugin when the whole order has failed.
        """
        while True:
            try:
                proposal = self._bounded(lambda: self._engine.ask(1, pending, index=index, fidelity=fidelity)[0])
                if not (problems := self.space.problems(proposal.params)):
                    faults, self._faults = tuple(self._faults), []
                    return Asked(proposal, self.source, faults, expect=self.expect)
                self._fault(f"proposed what the space does not allow: {'; '.join(map(str, problems))}")
            except SpaceExhausted:
                raise
            except Exception as error:
                self._fault(error)
            self._start(self._position + 1)

    def expect(self, configs: Sequence[Params]) -> list[Expected]:
        """Of each configuration by the engine's model, for those who read it."""
        engine = self._engine
        out: list[Expected] = [None] * len(configs)
        valid = [i for i, config in enumerate(configs) if not self.space.problems(config)]
        if not valid or not isinstance(engine, Predictor):
            return out
        try:
            found = self._bounded(lambda: engine.predict([configs[i] for i in valid]))
            pairs = [(float(mean), float(std)) for mean, std in zip(found.mean[:, 0], found.std[:, 0], strict=True)]
        except Exception as error:  # only the words of a prompt need it
            self._fault(f"cannot predict: {error}")
            return out
        for i, pair in zip(valid, pairs, strict=True):
            out[i] = pair if math.isfinite(pair[0]) and math.isfinite(pair[1]) else None
        return out

    def _scorer(self) -> Scorer | None:
        """The engine where it can score, else a TPE told the same trials."""
        if self._judge is None and isinstance(self._engine, Scorer):
            return self._engine
        if len(self.objectives) > 1:
            return None
        if self._judge is None:
            self._judge = self._new_judge()
        return self._judge if isinstance(self._judge, Scorer) else None

    def _new_judge(self) -> Engine:
        judge = self._make(JUDGE)
        judge.tell(self._history)
        if self._priors:
            self._believes(judge)
        return judge

    def reference(self, index: int) -> tuple[float, ...]:
        """(256,) scores of the generator's own candidates; empty while there is no model that tells them apart."""
        try:
            return self._reference(index)
        except Exception as error:
            self._fault(f"cannot score: {error}")
            self._judge = self._new_judge()
            return self._reference(index)

    def _reference(self, index: int) -> tuple[float, ...]:
        self._drawn = NOTHING_DRAWN
        scorer = self._scorer()
        if scorer is None:
            return ()
        drawn, found = self._bounded(lambda: _scored(scorer, index))
        scores = np.asarray(found, dtype=float)
        if np.ptp(scores) == 0:
            return ()
        self._drawn = drawn, scores
        return tuple(scores.tolist())

    def favoured(self) -> tuple[Mapping[str, Any], ...]:
        """Where the best of the last `reference` lie, as `tunewright.agent.favoured` tells it; nothing without one."""
        return tuple(favoured(self.space, *self._drawn))

    def score(self, configs: Sequence[Mapping[str, Any]]) -> list[float]:
        """One score per configuration, NaN where the scorer has none to give: such advice passes no gate."""
        scorer = self._scorer()
        assert scorer is not None, "scores are asked for only where there is a reference"
        try:
            found = self._bounded(lambda: scorer.score(configs))
            return [float(s) for _, s in zip(configs, found, strict=True)]
        except Exception as error:
            self._fault(f"cannot score: {error}")
            return [float("nan")] * len(configs)


def _raise(error: BaseException) -> Any:
    raise error


def _scored(scorer: Scorer, index: int) -> tuple[Sequence[Params], Any]:
    drawn = scorer.candidates(REFERENCE_CANDIDATES, index=index)
    return drawn, scorer.score(drawn)
