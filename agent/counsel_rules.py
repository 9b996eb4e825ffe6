"""What curves and statistics alone can say of a trial and of a study: the answers where no language model gives one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.agent.failing import CRASHES, kind
from tunewright.agent.records import TrialRecord
from tunewright.engines.curves import Reading, Shape
from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space
from tunewright.engines.types import State
from tunewright.prompts import Diagnosis, Learned, Remedy, Summary
from tunewright.prompts.opinions import MAX_FINDINGS, MAX_OPEN, MAX_REMEDIES, Finding
from tunewright.prompts.text import plain

Facts = Mapping[str, Any]

CLEAR = 2.0  # standard errors from which an effect is more than a hint
BEATEN = 0.75  # of the ranks; a trial behind them is called worse than others
APART = 0.15  # of a scale between a trial and the best one, below which a parameter is no cause
IDLE = 10  # trials without a better one, and two for each parameter, after which more of the same seems useless
_FAILURES: Mapping[str, Finding] = {
    "runs out of memory": "out of memory", "takes too long": "timed out", "diverges": "diverged", CRASHES: "crashed",
}  # fmt: skip
_SHAPES: Mapping[Shape, Finding] = {
    Shape.DIVERGED: "diverged",
    Shape.EXPLODING: "diverged",
    Shape.OSCILLATING: "oscillating",
    Shape.OVERFITTING: "overfitting",
    Shape.COLLAPSE: "stuck",
    Shape.UNBALANCED: "oscillating",
}


# ------------------------------------------------------------------------------------------------ one trial


def diagnose(record: TrialRecord, facts: Facts, rank: tuple[int, int] | None, found: Reading | None) -> Diagnosis:
    """From the error, the curve's shape and the trial's `rank` (place from 1, of how many), in this order."""
    if record.state is State.FAILED:
        error = plain(record.error or "no reason was given", 200)
        finding = _FAILURES[kind(record.error)]
        evidence = f"It failed: {error}"
    elif found is not None and found.shape in _SHAPES:
        finding, evidence = _SHAPES[found.shape], str(found)
    elif record.values is None:
        return Diagnosis("unclear", str(found) if found else "It has no result yet.", "")
    else:
        return _among_others(record, facts, rank, found)
    remedies = _remedies(record, facts)
    cause = remedies[0].because if remedies else ""
    return Diagnosis(finding, evidence, cause, remedies, _outside(finding, remedies))


def _among_others(record: TrialRecord, facts: Facts, rank: tuple[int, int] | None, found: Reading | None) -> Diagnosis:
    seen, best = str(found) if found is not None else "it reported no curve", facts["best"]
    if best is None or best["value"] is None or record.values is None or rank is None:
        return Diagnosis("unclear", f"There is nothing to compare it with; {seen}.", "")
    metric, (place, count) = facts["objectives"][0]["name"], rank
    ahead = f"the best, #{best['number']}, has {best['value']:.5g}"
    evidence = f"{metric} {record.values[0]:.5g} is rank {place} of {count}; {ahead}; {seen}."
    if place <= BEATEN * count:
        improving = found is not None and found.shape is Shape.IMPROVING and record.state is State.STOPPED
        return Diagnosis("slow" if improving else "healthy", evidence, "")
    remedies = _remedies(record, facts)
    return Diagnosis("worse than others", evidence, remedies[0].because if remedies else "", remedies)


def _remedies(record: TrialRecord, facts: Facts) -> tuple[Remedy, ...]:
    """Back towards the best trial, in the parameters that failures of this reason share or whose effect is clear."""
    space, best = Space.from_dict(facts["space"]), facts["best"]
    if best is None or best["number"] == record.number:
        return ()
    out: dict[str, Remedy] = {}
    for name, because in [*_shared(record, facts), *_effects(facts)]:
        if name in space.parameters and name not in out:
            remedy = _towards(space, name, record.params, best["params"], because)
            if remedy is not None:
                out[name] = remedy
    return tuple(out.values())[:MAX_REMEDIES]


def _shared(record: TrialRecord, facts: Facts) -> Iterator[tuple[str, str]]:
    for row in facts["trials"]:
        if row["state"] != "failed" or record.state is not State.FAILED:
            continue
        for c in row["common"]:
            inside = c["name"] in record.params and not isinstance(record.params[c["name"]], str)
            if inside and c["low"] <= record.params[c["name"]] <= c["high"]:
                span = f"{_short(c['low'])} to {_short(c['high'])}"
                good = f"where {c['good']} of {c['of']} good trials are"
                yield c["name"], f"{row['same_reason']} failures of one reason lie at {c['name']} {span}, {good}."


def _effects(facts: Facts) -> Iterator[tuple[str, str]]:
    for e in facts["effects"]:
        if e["trend"] is not None and abs(e["trend"]) >= CLEAR * e["error"]:
            way = "larger" if e["trend"] > 0 else "smaller"
            yield (
                e["name"],
                f"Over {e['n']} trials the {way} {e['name']} did worse (rank correlation {e['trend']:+.2f}).",
            )
        elif (gap := _gap(e)) is not None:
            good, bad = gap
            words = f"{e['name']} {good['label']} did better than {bad['label']}, over {good['n'] + bad['n']} trials."
            yield e["name"], words


def _gap(effect: Facts) -> tuple[Facts, Facts] | None:
    """The best and the worst group where their ranks differ clearly."""
    groups = sorted((g for g in effect["groups"] if g["n"] > 1), key=lambda g: g["rank"])
    if len(groups) < 2:
        return None
    low, high = groups[0], groups[-1]
    return (
        (low, high) if high["rank"] - low["rank"] >= CLEAR * (low["error"] ** 2 + high["error"] ** 2) ** 0.5 else None
    )


def _towards(
    space: Space, name: str, params: Mapping[str, Any], best: Mapping[str, Any], because: str
) -> Remedy | None:
    """The step from a trial's value to the best trial's, None where they are the same."""
    parameter, now, good = space.parameters[name], params.get(name), best.get(name)
    if now is None or good is None or now == good or parameter.problem(now) or parameter.problem(good):
        return None
    if isinstance(parameter, Categorical):
        return Remedy(name, "switch", good, because)
    if abs(parameter.to_unit(now) - parameter.to_unit(good)) < APART:
        return None
    return Remedy(name, "raise" if good > now else "lower", good, because)


def _outside(finding: Finding, remedies: Sequence[Remedy]) -> str:
    if finding == "crashed" and not remedies:
        return "The error message names what the program could not do."
    return ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------------ the study


def summarize(facts: Facts) -> Summary:
    """From the digest's statistics."""
    findings = [*_failures(facts), *_learned(facts)][:MAX_FINDINGS]
    open_questions = tuple(_open(facts))[:MAX_OPEN]
    return Summary(_headline(facts), tuple(findings), open_questions, _next(facts), _memory(facts))


def _headline(facts: Facts) -> str:
    best, metric, failed = facts["best"], facts["objectives"][0]["name"], facts["failed"]
    if best is None or best["value"] is None:
        return f"All {facts['n_trials']} trials failed."
    words = f"{metric} {best['value']:.5g} is the best of {facts['n_trials']} trials (#{best['number']})"
    if facts["default_value"] is not None:
        words += f"; the starting configuration had {facts['default_value']:.5g}"
    return words + (f"; {failed} failed." if failed else ".")


def _failures(facts: Facts) -> Iterator[Learned]:
    for row in facts["trials"]:
        if row["state"] == "failed" and row["same_reason"] > 1:
            shared = "".join(f", all at {c['name']} {_short(c['low'])} to {_short(c['high'])}" for c in row["common"])
            words = f"{row['same_reason']} trials failed with: {plain(row['error'], 120)}{shared}."
            yield Learned(words, (row["number"],), "clear" if row["common"] else "hint")


def _learned(facts: Facts) -> Iterator[Learned]:
    """Effects that are more than chance, with the best trials as their witnesses."""
    good = [row for row in facts["trials"] if row["state"] != "failed"]
    for name, words in _effects(facts):
        witnesses = [row["number"] for row in good if name in row["params"] or name in row["products"]][:3]
        if witnesses:
            clear = next(e for e in facts["effects"] if e["name"] == name)["n"] >= 10
            yield Learned(words, tuple(witnesses), "clear" if clear else "hint")


def _open(facts: Facts) -> Iterator[str]:
    if facts["best"]:
        for name, end in facts["best"]["at_bound"].items():
            yield f"The best trial stands at the {end} end of {name}: would it get better beyond?"
    for entry in facts["untested"]:
        if "values" in entry:
            yield f"{entry['name']} was never {', '.join(map(_short, entry['values']))}."
        else:
            yield f"No trial has {entry['name']} between {_short(entry['low'])} and {_short(entry['high'])}."


def _next(facts: Facts) -> str:
    if facts["best"] is None:
        return "Find out why every trial fails before running more."
    patience = IDLE + 2 * len(facts["space"]["parameters"])
    if (facts["since_best"] or 0) >= patience:
        return f"None of the last {facts['since_best']} trials was better: repeat the best to see its noise, or stop."
    left = facts["budget_left"]
    return (
        "Go on."
        if left is None
        else f"Go on: {left} trials of the budget are left."
        if left
        else "The budget is spent."
    )


def _memory(facts: Facts) -> str:
    task = f"Task: {plain(facts['task'], 200)}. " if facts["task"] else ""
    best = facts["best"]
    if best is None or best["value"] is None:
        return f"{task}No configuration trained."
    metric = facts["objectives"][0]["name"]
    params = ", ".join(f"{k}={_short(v)}" for k, v in best["params"].items())
    return plain(f"{task}{metric} {best['value']:.5g} after {facts['n_trials']} trials with {params}.", 900)
