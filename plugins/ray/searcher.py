"""A study of Tunewright as the search algorithm of Ray Tune, which then runs the trials.

    from ray import tune
    from tunewright.plugins.ray.searcher import TunewrightSearch

    config = tune.TuneConfig(search_alg=TunewrightSearch(), metric="loss", mode="min", num_samples=30)
    tune.Tuner(train, tune_config=config, param_space={"lr": tune.loguniform(1e-5, 1e-1)}).fit()

Every trial, curve and reason is in the study's file, as with `Agent.tune`; how far a trial is trained is for Tune's own
scheduler to say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from ray.tune.search import Searcher
    from ray.tune.search.sample import Categorical as TuneCategorical
    from ray.tune.search.sample import Domain
    from ray.tune.search.sample import Float as TuneFloat
    from ray.tune.search.sample import Integer as TuneInteger
except ImportError as missing:
    raise ImportError(f"{missing}: pip install 'tunewright[ray]' 'ray[tune]'") from missing

from tunewright.agent import Agent, AlreadyObserved, AwaitTrials, BudgetSpent, Categorical, Float, Int, SpaceExhausted
from tunewright.engines.errors import FixArgument

DIRECTIONS = {"min": "minimize", "max": "maximize"}
STEP = "training_iteration"


class TunewrightSearch(Searcher):
    """space: as for `Agent`; without it, Tune's param_space is taken, whose fixed values are passed on. metric, mode:
    as in Tune, there or here. agent: other arguments of `Agent` (store, study, engine, advisor, task, budget ...)."""

    def __init__(self, space: Any = None, metric: str | None = None, mode: str | None = None, **agent: Any):
        super().__init__(metric=metric, mode=mode)
        self._metric: str | None = metric
        self._mode: str | None = mode
        self._arguments: dict[str, Any] = {"space": space, **agent}
        self._fixed: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}  # of our trials, by Tune's names
        self._opened: Agent | None = None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """What Tune was given. Raises FixArgument for a space that has no counterpart here."""
        self._metric, self._mode = metric or self._metric, mode or self._mode
        if config and self._arguments["space"] is None:
            self._arguments["space"], self._fixed = space_of(config)
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next configuration; FINISHED at the study's budget, None while results must come first."""
        try:
            trial = self.agent.suggest()
        except (BudgetSpent, SpaceExhausted):
            return Searcher.FINISHED
        except AwaitTrials:
            return None
        self._numbers[trial_id] = trial.number
        return {**self._fixed, **trial.params}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if (number := self._numbers.get(trial_id)) is not None:
            self._report(number, result)

    def _report(self, number: int, result: Mapping[str, Any]) -> None:
        value = result.get(self.metric)
        if value is not None and not self.agent.trial(number).state.finished:
            self.agent.report(number, result.get(STEP, 1), value)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        if (number := self._numbers.pop(trial_id, None)) is None:
            return
        value = (result or {}).get(self.metric)
        try:
            if error or value is None:
                self.agent.fail(number, "Ray Tune: the trial failed" if error else f"it reported no {self.metric}")
                return
            self._report(number, result or {})
            if math.isfinite(value):
                self.agent.observe(number, value)
        except AlreadyObserved:
            return  # a value that is not finite had ended it; the later one is kept as a repeat

    def save(self, checkpoint_path: str) -> None:
        """Which trial is which; all else is in the study's file."""
        Path(checkpoint_path).write_text(json.dumps(self._numbers))

    def restore(self, checkpoint_path: str) -> None:
        self._numbers = json.loads(Path(checkpoint_path).read_text())

    @property
    def agent(self) -> Agent:
        """The study, opened when first asked for."""
        if self._opened is None:
            if not isinstance(self._metric, str) or self._mode not in DIRECTIONS:
                fix = 'TuneConfig(metric="loss", mode="min")'
                raise FixArgument("a study needs one", field="metric", value=self._metric, fix=fix)
            given = {"metric": self._metric, "direction": DIRECTIONS[self._mode], "scheduler": None}
            self._opened = Agent(**{**given, **self._arguments})
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its configuration: the open file stays here."""
        return {**self.__dict__, "_opened": None}


def space_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and fixed values out of a param_space. Raises FixArgument."""
    space: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    for name, one in config.items():
        if isinstance(one, Domain):
            space[name] = _parameter(name, one)
        elif isinstance(one, Mapping):
            fix = 'TunewrightSearch(space=...) with names such as "optimizer.lr", and conditions'
            raise FixArgument("nested spaces and grids have no counterpart", field=name, value=dict(one), fix=fix)
        else:
            fixed[name] = one
    return space, fixed


def _parameter(name: str, domain: Any) -> Any:
    if isinstance(domain, TuneCategorical):
        return Categorical(list(domain.categories))
    sampler = domain.get_sampler()
    step = getattr(sampler, "q", None)
    inner = type(getattr(sampler, "sampler", sampler)).__name__
    log = inner == "_LogUniform"
    if log or inner == "_Uniform":
        if isinstance(domain, TuneInteger):
            # Tune leaves the upper bound out, unless it is a multiple of a step.
            high = domain.upper if step else domain.upper - 1
            return Int(domain.lower, high, log=log, **({"step": step} if step else {}))
        if isinstance(domain, TuneFloat) and not (log and step):
            return Float(domain.lower, domain.upper, log=log, step=step)
    fix = "tune.uniform, loguniform, quniform, randint, lograndint or choice"
    raise FixArgument("a distribution that has no counterpart", field=name, value=str(domain), fix=fix)
