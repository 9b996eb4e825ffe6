"""The rules advisor: recognise the model family, propose its known good settings, then steps from the best trial.

It reads the digest's facts, never the words; the same facts always bring the same answer. What it knows stands in
`knowledge/*.toml`, each line with its source, and every rationale names the line it used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.engines.space import Params, Space
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion
from tunewright.plugins.rules.book import Move, Recipe, Trouble
from tunewright.plugins.rules.fitting import MISSING, exact, fit, middle, read, same_place, settle, step
from tunewright.plugins.rules.leaning import Leaning
from tunewright.plugins.rules.matching import Detection, detect, optimizer_kind
from tunewright.plugins.rules.past import Diagnosis, Past, Tried, read_past

SETTINGS_FIRST = 10  # while fewer trials are known, published settings come before steps from the best
FAILURES_FIRST = 0.3  # share of failed trials from which their cure comes first
STEP_SIZES = (1.0, 0.5, 0.25)  # a step that the range has no room for comes after whole ones, shortened
PATIENCE = 0.1  # how much of a trend one place in a family's order of moves is worth
MOST_WORDS = 480
LEADING = 3  # so many of the best trials have their curves answered
MOST_EVIDENCE = 200


@dataclass(frozen=True, slots=True)
class Suggestion:
    params: Params
    rationale: str


class RulesAdvisor:
    """An advisor without a model, a key or a cost. `model` is taken for the protocol's sake and changes nothing."""

    name = "rules"
    free_of_charge = True
    purposes = frozenset({"propose"})

    def __init__(self, model: str | None = None):
        self.model = model

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        """Needs milliseconds whatever the timeout. Raises AdvisorFailed for any question but `propose`."""
        if request.purpose != "propose":
            raise AdvisorFailed(
                "the rules advisor answers no such question",
                retryable=False,
                field="purpose",
                value=request.purpose,
                fix='use a language model, advisor="openai:MODEL"',
            )
        return Completion(json.dumps(answer(request.space, request.facts), allow_nan=False), usd=0.0)

    def defaults(self, space: Space, task: str | None) -> Mapping[str, Any]:
        """The recognised library's defaults, fitted to the space's ranges; none for an unknown family."""
        found = detect(space, task)
        return _library_defaults(space, found) if found.certain else {}


def answer(space: Space, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to `propose` as plain data: summary, stance, candidates with rationale and params."""
    task = facts.get("task")
    found = detect(space, task if isinstance(task, str) else None)
    known = f"{len(found.known)} of {len(space.names)} parameters"
    if not found.known or (not found.certain and 2 * len(found.known) < len(space.names)):
        return _said("abstain", f"Unknown model family: {known} have a name and range that published knowledge covers.")
    title = found.family.title
    who = f"Recognised {title}" if found.certain else f"No certain model family; closest is {title}"
    summary = f"{who} (score {found.score:g}, from {found.evidence}); {known} known."
    past = read_past(facts, space)
    chosen: list[Suggestion] = []
    # Seeds are asked for one by one: what came of the last decides the next, and no question costs anything.
    wanted = 1 if facts.get("seeding") else max(1, int(facts.get("wanted") or 1))
    for suggestion in _suggestions(space, found, past, _base(space, found, past, facts)):
        if not past.has(suggestion.params, [s.params for s in chosen]):
            chosen.append(suggestion)
            if len(chosen) == wanted:
                break
    if not chosen:
        return _said("accept_engine", f"{summary} Every known setting and step that fits here was tried.")
    return _said("propose", summary, chosen)


def _said(stance: str, summary: str, chosen: list[Suggestion] | None = None) -> dict[str, Any]:
    candidates = [{"rationale": s.rationale[:MOST_WORDS], "params": s.params} for s in chosen or ()]
    return {"summary": summary, "stance": stance, "candidates": candidates}


def _suggestions(space: Space, found: Detection, past: Past, base: Mapping[str, Any]) -> Iterator[Suggestion]:
    """Everything worth trying, the most promising first."""
    early = past.n_trials < SETTINGS_FIRST
    troubled = bool(past.failed) and (past.best is None or past.n_failed >= FAILURES_FIRST * past.n_trials)
    parts = [_promising, _steps, _settings] if early and not past.just_won else [_steps, _settings]
    parts.insert(0, _answers)
    parts.append(_climbs)
    if troubled:
        parts.insert(0, _cures)
    for part in parts:
        for suggestion in part(space, found, past, base):
            if not _repeats_a_failure(found, past, suggestion.params):
                yield suggestion


# ------------------------------------------------------------------------------------------------ what to fall back on


def _library_defaults(space: Space, found: Detection) -> dict[str, Any]:
    """What the library does when nobody says otherwise, as near as the space comes to it."""
    wanted = {}
    for known in found.known.values():
        defaults = known.entry.defaults
        wanted[known.entry.key] = defaults.get(found.library or "", next(iter(defaults.values()), ()))
    fitted = {name: fit(known, wanted[known.entry.key]) for name, known in found.known.items()}
    out = {name: value for name, value in fitted.items() if value is not MISSING}
    base = {name: out.get(name, middle(p)) if p.default is None else p.default for name, p in space.parameters.items()}
    settled = settle(space, found, wanted, base)  # what lies outside may move what it is coupled to
    return out | {name: value for name, value in settled.params.items() if name in out} if settled else out


def _base(space: Space, found: Detection, past: Past, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every parameter that no setting names: the user's default, the library's, the best trial's, the
    most usual one, the middle."""
    library = _library_defaults(space, found)
    best = past.best.params if past.best else {}
    given = facts.get("default") or {}
    out: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        known = found.known.get(name)
        usual = fit(known, known.entry.usual) if known is not None and known.entry.usual else MISSING
        if parameter.default is not None:
            out[name] = parameter.default
        elif name in library:
            out[name] = library[name]
        elif name in best:
            out[name] = best[name]
        elif usual is not MISSING:
            out[name] = usual
        elif name in given and parameter.problem(parameter.coerce(given[name])) is None:
            out[name] = parameter.coerce(given[name])
        else:
            out[name] = middle(parameter)
    return out


# ------------------------------------------------------------------------------------------------ settings


def _settings(space: Space, found: Detection, past: Past, base: Mapping[str, Any]) -> Iterator[Suggestion]:
    """The family's recipes, in the order of its file."""
    for recipe in found.family.recipes:
        if _serves(recipe, found) and (fitted := settle(space, found, recipe.values, base)) is not None:
            notes = "".join(f"; {note}" for note in fitted.notes)
            yield Suggestion(fitted.params, f"{_upper(recipe.name)}: {recipe.reason} ({recipe.source}){notes}.")


def _promising(space: Space, found: Detection, past: Past, base: Mapping[str, Any]) -> Iterator[Suggestion]:
    """The settings without those whose nearest measured trial is among the worse half, and those that the space has
    pressed onto a measured one: they would teach nothing."""
    for suggestion in _settings(space, found, past, base):
        if not past.doubts(suggestion.params) and not past.near(suggestion.params):
            yield suggestion


def _serves(recipe: Recipe, found: Detection) -> bool:
    """Whether the setting is itself in this space: what it needs is searched, and its defining words can be had."""
    keys = {known.entry.key for known in found.known.values()}
    if not keys >= set(recipe.needs) or keys & set(recipe.unless) or not keys & set(recipe.values):
        return False
    optimizer = recipe.values.get("optimizer")
    if optimizer and found.optimizer and optimizer_kind(optimizer[0]) != found.optimizer:
        return False
    return all(
        any(exact(known, value) is not MISSING for value in recipe.values[known.entry.key])
        for known in found.known.values()
        if known.entry.defining and known.entry.key in recipe.values
    )


# ------------------------------------------------------------------------------------------------ steps


def _steps(space: Space, found: Detection, past: Past, base: Mapping[str, Any]) -> Iterator[Suggestion]:
    """Moves from the best trial: where the results lean the same way first, then the family's own order."""
    if past.best is None:
        return
    leaning = Leaning(space, found, past)
    for size in STEP_SIZES:
        ranked = []
        for place, move in enumerate(m for m in found.family.moves if not m.on):
            config = step(space, found, move, past.best.params, base, size)
            if config is not None and not _was_worse(space, past, config):
                lean = leaning.of(config)
                ranked.append((PATIENCE * place - lean, place, move, config, lean))
        for _, _, move, config, lean in sorted(ranked, key=lambda r: r[:2]):
            agrees = " The results so far lean the same way." if lean > PATIENCE else ""
            yield Suggestion(config, _moved_words(past.best, config, move) + agrees)


def _cures(space: Space, found: Detection, past: Past, base: Mapping[str, Any]) -> Iterator[Suggestion]:
    """Answers to the latest trouble: from the best trial, or from the failed one where nothing has worked yet."""
    latest = past.failed[-1]
    trouble: Trouble = latest.trouble or "diverged"
    start = past.best or latest
    for move in found.family.moves:
        if trouble in move.on:
            steps = (step(space, found, move, start.params, base, size) for size in STEP_SIZES)
            config = next((config for config in steps if config is not None), None)
            if config is not None:
                yield Suggestion(config, f"Trial {latest.number} failed. " + _moved_words(start, config, move))


def _answers(space: Space, found: Detection, past: Past, base: Mapping[str, Any]) -> Iterator[Suggestion]:
    """Answers to what the curves of leading trials show: "oscillating" leads to a lower rate and a schedule."""
    leading = {trial.number for trial in past.finished[:LEADING]}
    for diagnosis in past.diagnoses:
        if diagnosis.trial.number in leading and diagnosis.trouble != "plateau":
            yield from _answer(space, found, past, base, diagnosis)


def _climbs(space: Space, found: Detection, past: Past, base: Mapping[str, Any]) -> Iterator[Suggestion]:
    """Ways off a plateau of the best trial: training that has converged looks alike, so everything else comes first."""
    for diagnosis in past.diagnoses[:1]:
        if diagnosis.trouble == "plateau" and past.best is diagnosis.trial:
            yield from _answer(space, found, past, base, diagnosis)


def _answer(
    space: Space, found: Detection, past: Past, base: Mapping[str, Any], diagnosis: Diagnosis
) -> Iterator[Suggestion]:
    for size in STEP_SIZES:
        for move in found.family.moves:
            if diagnosis.trouble in move.on:
                config = step(space, found, move, diagnosis.trial.params, base, size)
                if config is not None and not (past.best is diagnosis.trial and _was_worse(space, past, config)):
                    seen = f"Trial {diagnosis.trial.number} was {diagnosis.text}. "
                    yield Suggestion(config, seen[:MOST_EVIDENCE] + _moved_words(diagnosis.trial, config, move))


def _moved_words(start: Tried, config: Params, move: Move) -> str:
    changes = [
        f"{name} {_short(start.params.get(name))} -> {_short(value)}"
        for name, value in config.items()
        if name not in start.params or start.params[name] != value
    ]
    return f"From trial {start.number}, {move.name}: {', '.join(changes)}. {_upper(move.reason)} ({move.source})."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _changed(best: Params, config: Params) -> list[str]:
    return [name for name, value in config.items() if name in best and value != best[name]]


def _was_worse(space: Space, past: Past, config: Params) -> bool:
    """Whether a measured trial already went this way from the best one, at least half as far, and lost."""
    assert past.best is not None
    best = past.best.params
    changed = _changed(best, config)
    for tried in past.finished[1:]:
        if not same_place(space, best, tried.params, 0.1, but=changed) or not set(changed) <= set(tried.params):
            continue
        if all(_went(space, name, best, config, tried.params) for name in changed):
            return True
    return False


def _went(space: Space, name: str, best: Params, config: Params, tried: Params) -> bool:
    parameter = space.parameters[name]
    if not isinstance(config[name], int | float) or not isinstance(tried[name], int | float):
        return bool(tried[name] == config[name])
    start = parameter.to_unit(best[name])
    want, seen = parameter.to_unit(config[name]) - start, parameter.to_unit(tried[name]) - start
    return want * seen > 0 and abs(seen) >= abs(want) / 2


def _repeats_a_failure(found: Detection, past: Past, params: Params) -> bool:
    """Whether every lever of an earlier trouble stands at least as high as where it failed, with the same optimizer."""
    for failure in past.failed:
        if failure.trouble is None:
            continue
        levers = [k for key in found.family.levers[failure.trouble] for k in found.of(key)]
        both = [k for k in levers if k.name in params and k.name in failure.params]
        pairs = [(read(k, params[k.name]), read(k, failure.params[k.name])) for k in both]
        known = [(now, then) for now, then in pairs if now is not None and then is not None]
        same = all(params.get(k.name) == failure.params.get(k.name) for k in found.of("optimizer"))
        if known and same and all(now >= then for now, then in known):
            return True
    return False
