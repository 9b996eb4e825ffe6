"""The commands that read: ls, show, why, plugins. They never make a file."""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tunewright.agent.cli import render
from tunewright.agent.cli.main import DEFAULT_STORE
from tunewright.agent.cli.render import Column
from tunewright.agent.doctor import at_border
from tunewright.agent.errors import FixDatabasePath, UnknownStudy
from tunewright.agent.halts import meanings
from tunewright.agent.lineup import AUTO
from tunewright.agent.records import Resources, StudyRecord, TrialRecord, size_text
from tunewright.agent.standing import Look, Plateau, plateau, standing
from tunewright.agent.store import Store
from tunewright.agent.view import StudyView
from tunewright.agent.why import Why, values_text
from tunewright.agent.worth import rest, worth
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import Objective, State
from tunewright.plugins import registry
from tunewright.prompts.text import plain

MAX_WORDS = 2_000  # characters of one text in `why`


def opened(path: Path) -> Store:
    """The store of an existing file, for reading; one of an older schema is brought up to date first. Raises
    FixArgument where there is none."""
    if not path.exists():
        others = sorted(p.name for p in path.parent.glob("tunewright*.db")) if path.parent.is_dir() else []
        fix = f"--store {others[0]}" if others else "`tunewright demo` makes one; or name yours: --store FILE"
        raise FixArgument("there is no such file", field="--store", value=str(path), fix=fix)
    try:
        return Store.open(path, read_only=True)
    except FixDatabasePath as error:
        if error.data.get("schema", math.inf) > error.data.get("known", 0):
            raise
        Store.open(path).close()
        return Store.open(path, read_only=True)


def chosen(store: Store, name: str | None) -> StudyRecord:
    """The study of this name, or the one last worked on."""
    if name is None:
        if (latest := store.latest_study()) is None:
            raise FixArgument("holds no study yet", field="--store", value=str(store.path), fix="tunewright demo")
        return latest
    if found := store.study(name):
        return found
    names = [study.name for study in store.studies()]
    near = get_close_matches(name, names, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names[:20]) or 'none'}"
    raise UnknownStudy("there is no study of this name", field="study", value=name, fix=fix)


def command(words: str, store: Path) -> str:
    """A command to type next, naming the file where it is not the usual one."""
    return words if str(store) == DEFAULT_STORE else f"{words} --store {shlex.quote(str(store))}"


def trial_data(trial: TrialRecord, objectives: Sequence[Objective]) -> dict[str, Any]:
    """A trial as the commands' JSON shows it."""
    values = {o.name: v for o, v in zip(objectives, trial.values, strict=True)} if trial.values else None
    return {
        "number": trial.number,
        "state": str(trial.state),
        "values": values,
        "params": dict(trial.params),
        "source": trial.source,
        "proposer": trial.proposer,
        "attempt": trial.attempt,
        "seed": trial.seed,
        "error": trial.error,
        "fidelity": trial.fidelity,
        "seconds": took(trial),
    }


def took(trial: TrialRecord) -> float | None:
    """Seconds that all its runs trained."""
    return trial.trained if trial.state.finished or trial.state is State.PAUSED else None


# ------------------------------------------------------------------------------------------------ ls


def list_studies(store: Path, as_json: bool) -> None:
    with opened(store) as file:
        summaries = file.summaries()
    if as_json:
        studies = [
            {
                "name": s.study.name,
                "task": s.study.config.get("task"),
                "objectives": s.study.objectives,
                "counts": {str(state): n for state, n in s.counts.items()},
                "best": s.best,
                "best_number": s.best_number,
                "created": s.study.created,
                "last_activity": s.last_activity,
            }
            for s in summaries
        ]
        return render.document({"store": str(store), "studies": studies})
    if not summaries:
        return render.line(f"{store} holds no study yet.")
    columns = [Column("study"), Column("trials", right=True), Column("failed", right=True), Column("metric"),
               Column("best", right=True), Column("of trial", right=True),
               Column("last worked on", optional=True)]  # fmt: skip
    rows: list[list[render.Cell]] = []
    for s in summaries:
        several = len(s.study.objectives) > 1
        failed = s.counts.get("failed", 0)  # type: ignore[call-overload]
        rows.append([
            s.study.name, str(sum(s.counts.values())), (str(failed), "red" if failed else ""),
            ", ".join(o["name"] for o in s.study.objectives),
            "several" if several else render.number(s.best),
            "-" if several or s.best_number is None else str(s.best_number),
            render.ago(time.time() - s.last_activity),
        ])  # fmt: skip
    render.table(columns, rows)


# ------------------------------------------------------------------------------------------------ show


def show(store: Path, study: str | None, limit: int, sort: str, as_json: bool) -> None:
    with opened(store) as file:
        view = StudyView(file, chosen(file, study))
        counts = {str(state): n for state, n in file.count(view.record.id).items() if n}
        trials = _sorted(view, limit, sort)
        taken = file.resources(view.record.id, [t.number for t in trials])
        curves = {t.number: view.curve(t.number) for t in trials}
        failing = view.failing() if counts.get(State.FAILED) else []
        look, resting = Look.at(view), rest(view)
        evidence, flat, spent = standing(view, look), _plateau(view, look), worth(view, look.complete)
        leaders, verified = look.leaders, look.verified
    record = view.record
    if as_json:
        used = {number: dataclasses.asdict(one) for number, one in taken.items()}
        listed = [
            {**trial_data(t, view.objectives), "resources": used.get(t.number), "curve": curves[t.number]}
            for t in trials
        ]
        return render.document({
            "study": record.name, "objectives": record.objectives, "space": record.space, "seed": record.seed,
            "config": record.config, "environment": record.environment, "counts": counts,
            "best": [trial_data(t, view.objectives) for t in leaders], "trials": listed,
            "verified": [one.to_dict() for one in verified], "failing": [one.to_dict() for one in failing],
            "evidence": evidence.to_dict() if evidence else None, "advice": [one.to_dict() for one in spent],
            "advice_rests": resting, "plateau": f"{flat}; {flat.advice}" if flat else None,
        })  # fmt: skip
    facts = [("evidence", evidence.told)] if evidence else []
    facts += [("plateau", f"{flat}; {flat.advice}")] if flat else []
    facts += [("advice", plain(one, MAX_WORDS)) for one in spent] + ([("advice", resting)] if resting else [])
    facts += [("fails", plain(one, MAX_WORDS)) for one in failing]
    facts += [("verified", f"trial {one.number}: {one}") for one in verified[-5:]]
    render.facts(_head(view, counts, leaders) + facts)
    if trials:
        render.line()
        render.table(*_trial_table(view, trials, curves, taken, {t.number for t in leaders}))
        hidden = sum(counts.values()) - len(trials)
        if hidden:
            render.line(f"{render.count(hidden, 'more trial')}: --limit {sum(counts.values())}", "dim")
        for state, meant in meanings(record.config, {str(t.state): None for t in trials}).items():
            render.line(f"{state}: {meant}", "dim")
    if leaders:
        render.line()
        words = f"tunewright why {leaders[0].number} --study {shlex.quote(record.name)}"
        render.commands([command(words, store)])


def summary(view: StudyView) -> list[str]:
    """What to think of a run's end: whether there is a winner, whether more of the same pays, what advice cost."""
    look, resting = Look.at(view), rest(view)
    evidence, flat = standing(view, look), _plateau(view, look)
    told = [evidence.told] if evidence else []
    told += [f"A plateau: {flat}; {flat.advice}."] if flat else []
    told += [f"Advice from {one}." for one in worth(view, look.complete) if one.usd != 0]
    return [plain(words, MAX_WORDS) for words in told + ([resting] if resting else [])]


def _plateau(view: StudyView, look: Look) -> Plateau | None:
    if not look.complete or len(view.objectives) > 1:
        return None
    return plateau(view, look.complete, at_border(view, look.complete), look.leaders[0])


def _sorted(view: StudyView, limit: int, sort: str) -> list[TrialRecord]:
    if sort == "number":
        return view.store.trials(view.record.id, newest_first=True, limit=limit)
    if len(view.objectives) > 1:
        raise FixArgument("has no order with several objectives", field="--sort", value=sort, fix="--sort number")
    return view.store.ranked(view.record.id, maximize=view.objectives[0].direction == "maximize", limit=limit)


def _head(view: StudyView, counts: Mapping[str, int], leaders: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    record, config = view.record, view.record.config
    pairs = [("study", record.name)]
    if config.get("task"):
        pairs.append(("task", str(config["task"])))
    pairs += [
        ("goal", ", ".join(f"{o.direction} {o.name}" for o in view.objectives)),
        ("engine", engine_words(config)),
        *([("scheduler", f"{config['scheduler'][0]}, {span(view)}")] if config.get("scheduler") else []),
        ("advisor", str(config.get("advisor") or "none")),
        ("trials", _counted(counts, config.get("budget", {}).get("trials"))),
    ]
    for trial in leaders[:5]:
        values = ", ".join(f"{o.name} {v:.4g}" for o, v in zip(view.objectives, trial.values or (), strict=True))
        pairs.append(("best", f"trial {trial.number}: {values}; {values_text(trial.params)}"))
    return pairs


def engine_words(config: Mapping[str, Any]) -> str:
    """The engine by name; what "auto" stands for in this study before it."""
    named, made = config.get("engine"), config.get("engines") or []
    if named == AUTO and made:
        return f"{made[0] if isinstance(made[0], str) else made[0][0]} (auto)"
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named)


def _counted(counts: Mapping[str, int], budget: int | None) -> str:
    told = ", ".join(f"{n} {state}" for state, n in counts.items()) or "none yet"
    return told if budget is None else f"{told}; budget {budget:,}"


def span(view: StudyView) -> str:
    """How far trials are trained, in words; empty where the study does not say."""
    f = view.fidelity
    return f"{f.name} {f.low} to {f.high}" if f else ""


def _trial_table(
    view: StudyView,
    trials: Sequence[TrialRecord],
    curves: Mapping[int, Any],
    taken: Mapping[int, Resources],
    leaders: set[int],
) -> tuple[list[Column], list[list[render.Cell]]]:
    has_curves = any(curves.values())
    columns = [Column("trial", right=True), *(Column(o.name, right=True) for o in view.objectives)]
    unit = view.fidelity.name if view.fidelity and has_curves else None
    columns += [Column(unit, right=True)] if unit else []
    columns += [Column("curve", optional=True)] if has_curves else []
    columns += [Column("by"), Column("time", right=True, optional=True)]
    columns += [Column("memory", right=True, optional=True)] if taken else []
    columns += [Column("parameters", flexible="wrap")]
    rows: list[list[render.Cell]] = []
    for t in trials:
        best = "bold" if t.number in leaders else ""
        state: render.Cell = (str(t.state), render.STYLES.get(str(t.state), ""))
        values: list[render.Cell] = [(render.number(v), best) for v in t.values or ()]
        if t.state is State.PAUSED and curves[t.number]:
            values = [(f"{render.number(curves[t.number][-1][1])} (paused)", render.STYLES["paused"])]
        values = values or [state, *[""] * (len(view.objectives) - 1)]
        reached = [f"{curves[t.number][-1][0]:g}" if curves[t.number] else ""] if unit else []
        curve = [render.sparkline([v for _, v in curves[t.number]])] if has_curves else []
        text = values_text(t.params) + (f"  error: {t.error}" if t.error else "")
        held = taken[t.number].memory if t.number in taken else None
        memory = ["" if held is None else size_text(held)] if taken else []
        rows.append([(str(t.number), best), *values, *reached, *curve, t.chosen_by,
                     render.seconds(took(t)), *memory, text])  # fmt: skip
    return columns, rows


# ------------------------------------------------------------------------------------------------ why


def why(store: Path, study: str | None, number: int, as_json: bool) -> None:
    with opened(store) as file:
        view = StudyView(file, chosen(file, study))
        found = view.why(number)
        curve = view.curve(number)
    if as_json:
        return render.document({"study": view.record.name, **found.to_dict(), "curve": curve})
    for i, line in enumerate(text_of(found)):
        render.line(line, "bold" if i == 0 else "")
    if curve:
        render.line(f"Values: {render.sparkline([v for _, v in curve], 40)} {curve[0][1]:.4g} to {curve[-1][1]:.4g}")


def text_of(found: Why) -> list[str]:
    """Its lines. A line break inside an error or a rationale must not look like a line of ours."""
    trial = dataclasses.replace(found.trial, error=found.trial.error and plain(found.trial.error, MAX_WORDS))
    calls = [dataclasses.replace(c, error=c.error and plain(c.error, MAX_WORDS)) for c in found.calls]
    decision = _one_line(found.decision)
    reason = plain(found.reason, MAX_WORDS)
    return str(dataclasses.replace(found, trial=trial, calls=calls, decision=decision, reason=reason)).splitlines()


def _one_line(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _one_line(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_one_line(value) for value in data]
    return plain(data, MAX_WORDS) if isinstance(data, str) else data


# ------------------------------------------------------------------------------------------------ plugins


def plugins(as_json: bool) -> None:
    found = [listing for kind in registry.KINDS for listing in registry.listing(kind)]
    if as_json:
        return render.document({"plugins": [dataclasses.asdict(listing) for listing in found]})
    columns = [Column("kind"), Column("name"), Column("from"), Column("state", flexible="wrap")]
    rows: list[list[render.Cell]] = []
    for p in found:
        state: render.Cell = (f"broken: {p.error}", render.STYLES["broken"]) if p.error else "ok"
        rows.append([p.kind.removesuffix("s"), p.name, f"{p.distribution} {p.version}", state])
    render.table(columns, rows)
