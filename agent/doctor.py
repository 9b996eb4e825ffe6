"""What is wrong with a study, before and after it ran, each finding with its fix.

`examine_plan` sees a space, a goal and a budget; `examine_study` also the trials. Each check has its threshold by name;
what luck alone could make is held to a chance of one in a hundred.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tunewright.agent.failing import failing
from tunewright.agent.freezing import DEAD_SHARE, DEAD_TRIALS, frozen
from tunewright.agent.records import TrialRecord
from tunewright.agent.settings import HIGHER_IS_BETTER, Budget
from tunewright.agent.standing import plateau
from tunewright.agent.view import StudyView
from tunewright.engines.errors import TunewrightError
from tunewright.engines.parameters import Categorical, Float, Int, Parameter
from tunewright.engines.space import Space
from tunewright.engines.types import Objective, State

Severity = Literal["error", "warning", "note"]

LOG_RATIO = 1_000  # of bounds, from which most of a linear range lies within its last decade
LOG_NAMES = re.compile(r"(^|[._])(lr|learning_rate\w*|eta0?|alpha|weight_decay|l1|l2|lambda\w*|gamma|c|tol)$", re.I)
LOWER_IS_BETTER = frozenset({"cost", "error", "latency", "loss", "mae", "mse", "perplexity", "rmse", "time", "wer"})
TRAINING = frozenset({"train", "training"})
PER_PARAMETER = 5  # trials per searched parameter below which a budget is small
BORDER = 0.02  # of a parameter's scale counts as its border
TOP = 5  # the best trials that are looked at for border hits ...
AT_BORDER = 4  # ... and how many of them make one
NOISY = 0.25  # noise as a part of the spread between the median and the best trial
DUPLICATES = 0.1  # of the trials
FAILURES = 3  # trials that all failed
CONSTANT = 5  # configurations with one value, or curves, from which a metric is in doubt
CURVES, POINTS = 20, 4  # how many of the latest curves are looked at, and the points that make one
MOSTLY = 0.9  # of the curves
GRID_POINTS = 5  # that the grid engine takes of a continuous parameter

# Why `--apply` leaves a finding to a person.
BY_HAND: Mapping[str, str] = {
    "space-too-big": "a study keeps the engine that it was made with",
    "linear-scale": "the default would fall outside, or the range is not that of a positive number",
    "seed-tuned": "the training reads the parameter and would miss it",
    "budget-small": "how much to spend is yours to say",
    "direction": "every trial so far was judged in the other direction",
    "training-metric": "only the training can measure on other data",
    "default-invalid": "only you know which of the values is meant",
    "nothing-trains": "the training has to be mended, not the search",
    "default-fails": "no other configuration has trained yet, or there are several objectives",
    "constant-metric": "the training has to be mended, not the search",
    "uphill": "every trial so far was judged in this direction",
    "range-fails": "nothing would be left of the parameter, or its default lies there",
    "border": "values beyond may make no sense, which only you know",
    "duplicates": "a study keeps the engine that it was made with",
    "plateau": "what else the money could buy is yours to say",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `space` holds parameters as they should be, `enqueue` configurations to run: what
    `apply` carries out."""

    code: str
    severity: Severity
    message: str
    fix: str
    space: Mapping[str, Parameter] = field(default_factory=dict)
    enqueue: tuple[Mapping[str, Any], ...] = ()

    @property
    def can_apply(self) -> bool:
        return bool(self.space or self.enqueue)

    @property
    def by_hand(self) -> str | None:
        """Why `apply` does nothing about it."""
        return None if self.can_apply else BY_HAND.get(self.code)

    def to_dict(self) -> dict[str, Any]:
        changes = {name: asdict(parameter) for name, parameter in self.space.items()}
        return {
            "code": self.code, "severity": self.severity, "message": self.message, "fix": self.fix,
            "space": changes, "enqueue": [dict(params) for params in self.enqueue], "by_hand": self.by_hand,
        }  # fmt: skip


def examine_plan(space: Space, objectives: Sequence[Objective], budget: Budget, engine: Any = "auto") -> list[Finding]:
    """Everything that can be known before a trial is spent, worst first."""
    found = [
        *_size(space, budget, engine), *_scales(space), *_seeds(space), *_small_budget(space, budget),
        *_directions(objectives), *_default_invalid(space),
    ]  # fmt: skip
    return worst_first(found)


def examine_study(view: StudyView, budget: Budget) -> list[Finding]:
    """The plan, and what its trials show, worst first."""
    trials = [fitted for record in view.trials() if (fitted := view.fit(record)) is not None]
    ended = [t for t in trials if t.state.finished]
    found = examine_plan(view.space, view.objectives, budget, view.record.config.get("engine", "auto"))
    found += [*_default(view, trials), *_failures(view.space, ended), *_nothing_trains(ended)]
    found += _duplicates(view.space, trials)
    if len(view.objectives) == 1:
        found += [*_constant(view, ended), *_uphill(view, ended)]
        found += [*_borders(view, ended), *_noise(view, ended), *_dead(view, ended), *_plateau(view, ended)]
    return worst_first(found)


def worst_first(found: Sequence[Finding]) -> list[Finding]:
    """Errors, warnings, notes."""
    return sorted(found, key=lambda f: ("error", "warning", "note").index(f.severity))


# ------------------------------------------------------------------------------------------------ the plan


def _size(space: Space, budget: Budget, engine: Any) -> Iterator[Finding]:
    """A grid that the budget cannot walk."""
    name, options = (engine, {}) if isinstance(engine, str) else (None, {})
    if isinstance(engine, list | tuple) and len(engine) == 2 and isinstance(engine[1], Mapping):
        name, options = engine
    if name != "grid" or budget.trials is None:
        return
    points = options.get("points", GRID_POINTS)
    size = math.prod(
        int(min(p.count, points)) if isinstance(p, Float | Int) else p.count for p in space.parameters.values()
    )
    if size > budget.trials:
        message = f"the grid has {size:,} combinations, the budget {budget.trials:,} trials"
        fix = 'engine="auto", which needs no grid; or fewer values per parameter'
        yield Finding("space-too-big", "error", message, fix)


def _scales(space: Space) -> Iterator[Finding]:
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Categorical) or parameter.log or parameter.step not in (None, 1):
            continue
        if parameter.low <= 0:
            if LOG_NAMES.search(name) and isinstance(parameter, Float) and parameter.low == 0 < parameter.high:
                low = parameter.high / 1e4
                reaches = parameter.default is None or parameter.default >= low
                message = f"{name} is searched from 0 on a linear scale; values like it differ by factors"
                fix = f"{name}: Float({low:g}, {parameter.high:g}, log=True); min: {low:g}, log: true in a study file"
                changed = {name: replace(parameter, low=low, log=True)} if reaches else {}
                yield Finding("linear-scale", "note", message, fix, changed)
            continue
        ratio = parameter.high / parameter.low
        if ratio >= LOG_RATIO or (ratio >= 100 and LOG_NAMES.search(name)):
            last = 1 - (parameter.high / 10 - parameter.low) / (parameter.high - parameter.low)
            message = (
                f"{name} spans a factor of {ratio:,.0f} on a linear scale: {last:.0%} of it lies in the last decade"
            )
            fix = f"{name}: {type(parameter).__name__}({parameter.low:g}, {parameter.high:g}, log=True)"
            fix += "; log: true in a study file"
            yield Finding("linear-scale", "warning", message, fix, {name: replace(parameter, log=True)})


def _seeds(space: Space) -> Iterator[Finding]:
    from tunewright.agent.opening import SEED

    for name in space.names:
        if SEED.search(name):
            message = f"{name} is a random seed: its best value is luck that does not carry over"
            yield Finding("seed-tuned", "error", message, "take it out of the space; give trial.seed to the training")


def _small_budget(space: Space, budget: Budget) -> Iterator[Finding]:
    free = sum(1 for p in space.parameters.values() if p.count > 1)
    needed = PER_PARAMETER * free
    if budget.trials is not None and budget.trials < needed:
        message = f"{budget.trials} trials for {free} parameters: about {needed} are needed before a model sees effects"
        fix = f"Budget(trials={needed}), or search the {max(1, budget.trials // PER_PARAMETER)} that matter most"
        yield Finding("budget-small", "warning", message, fix)


def _directions(objectives: Sequence[Objective]) -> Iterator[Finding]:
    for objective in objectives:
        words = set(re.split(r"[^a-z0-9]+", objective.name.lower()))
        lower, higher = words & LOWER_IS_BETTER, words & HIGHER_IS_BETTER
        wrong = (lower and not higher and objective.direction == "maximize") or (
            higher and not lower and objective.direction == "minimize"
        )
        if wrong:
            other = "minimize" if objective.direction == "maximize" else "maximize"
            message = f"{objective.name} is to {objective.direction}, which is seldom what is meant by its name"
            yield Finding("direction", "error", message, f'direction="{other}" in a new study, or rename the metric')
        if words & TRAINING:
            message = f"{objective.name} is measured on the data that is trained on: the search would learn to overfit"
            yield Finding("training-metric", "warning", message, "report and optimise the metric of validation data")


def _default_invalid(space: Space) -> Iterator[Finding]:
    if space.default() is None and any(p.default is not None for p in space.parameters.values()):
        message = f"the default configuration breaks a constraint: {'; '.join(c.text for c in space.constraints)}"
        fix = "change a default or the constraint; the first trial would be any other configuration"
        yield Finding("default-invalid", "warning", message, fix)


# ------------------------------------------------------------------------------------------------ its trials


def _default(view: StudyView, trials: Sequence[TrialRecord]) -> Iterator[Finding]:
    first = next((t for t in trials if t.source == "default"), None)
    if first is None or first.state is not State.FAILED:
        return
    message = f"the default configuration (trial {first.number}) failed: {first.error}"
    changes: dict[str, Parameter] = {}
    fix = "make the default train first: a search cannot mend a training"
    if len(view.objectives) == 1 and (best := _best(view, trials)):
        good = best[0]
        changes = {
            name: replace(parameter, default=good.params[name])
            for name, parameter in view.space.parameters.items()
            if parameter.default is not None and name in good.params
        }
        fix += f"; or take the values of trial {good.number}, which trained, as defaults"
    yield Finding("default-fails", "error", message, fix, changes)


def _nothing_trains(ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    if len(ended) >= FAILURES and all(t.state is State.FAILED for t in ended):
        error, times = Counter(t.error for t in ended).most_common(1)[0]
        message = f"none of {len(ended)} trials trained; {times} failed with: {error}"
        fix = "run the training by hand with one configuration: `tunewright why` has its values"
        yield Finding("nothing-trains", "error", message, fix)


def _constant(view: StudyView, ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    """A metric that no configuration changes."""
    best = _best(view, ended)
    different = {view.space.key(view.space.free(t.params)) for t in best}
    values = {t.values[0] for t in best if t.values}
    if len(different) >= CONSTANT and len(values) == 1:
        message = f"{view.objectives[0].name} was {values.pop():g} in all {len(best)} trials, whatever their values"
        fix = "see that the training uses the parameters it is given, and reports what it measured"
        yield Finding("constant-metric", "error", message, fix)


def _uphill(view: StudyView, ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    """Training makes a metric better; where it does the contrary nearly always, the direction is in doubt."""
    objective = view.objectives[0]
    curves = [view.curve(t.number) for t in ended[-CURVES:]]
    ends = [(objective.loss(c[0][1]), objective.loss(c[-1][1])) for c in curves if len(c) >= POINTS]
    worse = sum(last > first for first, last in ends)
    if len(ends) >= CONSTANT and worse >= MOSTLY * len(ends):
        other = "minimize" if objective.direction == "maximize" else "maximize"
        message = f"{objective.name} got worse from its first to its last step in {worse} of {len(ends)} trials"
        fix = f'direction="{other}" in a new study, if more training should help'
        yield Finding("uphill", "warning", message, fix)


def _failures(space: Space, ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    """Ranges that never trained."""
    for one in failing(space, ended):
        region, changes = one.region, {}
        if len(region.bounds) == 1 and region.failed == region.tried:
            bound = region.bounds[0]
            parameter = space.parameters[bound.parameter]
            changed = _without(parameter, bound.relation, ended, bound)
            changes = {bound.parameter: changed} if changed else {}
        fix = "narrow the range, or find out why: `tunewright why` shows each error"
        yield Finding("range-fails", "warning", str(one), fix, changes)


def _without(parameter: Parameter, relation: str, ended: Sequence[TrialRecord], bound: Any) -> Parameter | None:
    """The parameter less a range in which everything failed, up to the last value that trained."""
    if isinstance(parameter, Categorical):
        left = [choice for choice in parameter.choices if choice != bound.value]
        return replace(parameter, choices=tuple(left)) if left and parameter.default != bound.value else None
    good = [t.params[bound.parameter] for t in ended if t.state is not State.FAILED and bound.parameter in t.params]
    if not good or parameter.step not in (None, 1):
        return None
    limits = {"high": max(good)} if relation[0] == ">" else {"low": min(good)}
    try:
        return replace(parameter, **limits)
    except TunewrightError:  # the default lies outside what trained
        return None


def _borders(view: StudyView, ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    best = _best(view, ended)[:TOP]
    if len(best) < TOP:
        return
    units = view.space.encode([view.space.free(t.params) for t in best])
    for (name, parameter), column in zip(view.space.parameters.items(), units.T, strict=True):
        if isinstance(parameter, Categorical) or parameter.count <= TOP:
            continue
        for side, hits in (("low", column <= BORDER), ("high", column >= 1 - BORDER)):
            if np.count_nonzero(hits) >= AT_BORDER:
                changed = _wider(parameter, side)
                at = getattr(parameter, side)
                message = f"{np.count_nonzero(hits)} of the {TOP} best trials have {name} at its {side} bound, {at:g}"
                fix = f"widen it: {changed}" if changed else "widen it, if values beyond make sense"
                yield Finding("border", "warning", message, fix, {name: changed} if changed else {})


def at_border(view: StudyView, ended: Sequence[TrialRecord]) -> list[str]:
    """Parameters whose best values lie at an end of their range."""
    return list(dict.fromkeys(name for finding in _borders(view, ended) for name in finding.space))


def _wider(parameter: Float | Int, side: str) -> Float | Int | None:
    """Half as wide again on that side, on the parameter's own scale. Not across zero: few parameters allow it."""
    if parameter.log:
        factor = (parameter.high / parameter.low) ** 0.5
        value = parameter.high * factor if side == "high" else parameter.low / factor
    else:
        reach = (parameter.high - parameter.low) / 2
        value = parameter.high + reach if side == "high" else parameter.low - reach
        if side == "low" and parameter.low >= 0 > value:
            return None
    if isinstance(parameter, Int):
        value = max(round(value), 1) if parameter.log else round(value)
        if value == getattr(parameter, side):
            return None
    return replace(parameter, **{side: value})


def _noise(view: StudyView, ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    best = _best(view, ended)
    if len(best) < 10:
        return
    noise = view.noise_floor()
    losses = np.array([view.objectives[0].loss(t.values[0]) for t in best if t.values])
    spread = float(np.median(losses) - losses.min())
    if noise is None or spread <= 0 or noise < NOISY * spread:
        return
    runner_up = losses[1] - losses[0]
    message = (
        f"the metric's noise is about {noise:.3g}, {noise / spread:.0%} of the gap between the median and the best"
        f" trial; the best is ahead of the next by {runner_up:.3g}"
    )
    params = view.space.free(best[0].params)
    fix = "`tunewright verify` repeats the best apart from the search; queued twice, it shows the engine its noise"
    yield Finding("noisy", "warning", message, fix, enqueue=(params, params))


def _dead(view: StudyView, ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    best = _best(view, ended)
    if len(best) < DEAD_TRIALS:
        return
    shares = view.importance()
    if not any(shares.values()):
        return
    incumbent = best[0].params
    for name, share in shares.items():
        parameter = view.space.parameters[name]
        if share < DEAD_SHARE and parameter.when is None and parameter.count > 1 and name in incumbent:
            value = incumbent[name]
            message = f"{name} explains {share:.1%} of the metric over {len(ended)} trials"
            fix = f"freeze it at the best trial's value, {value!r}; its trials go on counting"
            yield Finding("dead", "note", message, fix, {name: frozen(view, name, value)})


def _duplicates(space: Space, trials: Sequence[TrialRecord]) -> Iterator[Finding]:
    counts = Counter(space.key(space.free(t.params)) for t in trials if t.source != "queue")
    repeated = sum(n - 1 for n in counts.values())
    if repeated and repeated >= DUPLICATES * len(trials):
        message = f"{repeated} of {len(trials)} trials repeat a configuration"
        yield Finding("duplicates", "note", message, 'engine="grid" visits a finite space once; or widen the space')


def _plateau(view: StudyView, ended: Sequence[TrialRecord]) -> Iterator[Finding]:
    if found := plateau(view, ended, at_border(view, ended)):
        yield Finding("plateau", "note", str(found), found.advice)


def _best(view: StudyView, ended: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Complete trials, best first."""
    complete = [t for t in ended if t.state is State.COMPLETE and t.values is not None]
    return sorted(complete, key=lambda t: (view.objectives[0].loss(t.values[0]) if t.values else 0.0, t.number))
