"""The tools that only read: a study as plain data of bounded length.

Texts in it that came from trials, logs, notes or models are data and are cut to one printable line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from typing import Any, NotRequired

from typing_extensions import TypedDict

from tunewright.agent import tool_arguments as given_
from tunewright.agent.agent import Agent
from tunewright.agent.beliefs import statement
from tunewright.agent.cli import init, script, study_file
from tunewright.agent.cli.doctor_file import without_checkpoint
from tunewright.agent.doctor import examine_study, worst_first
from tunewright.agent.halts import halted, meanings
from tunewright.agent.records import TrialRecord
from tunewright.agent.redact import redact
from tunewright.agent.space_words import difference, parameter_words
from tunewright.agent.workbench import MAX_FILES, Workbench
from tunewright.agent.worth import worth
from tunewright.engines.space import Space
from tunewright.prompts.text import plain

MAX_TEXT = 300
MAX_OUTPUT = 2_000  # characters of a failed trial's last words
MAX_POINTS = 50  # of a curve
MAX_VERSIONS = 20

# ------------------------------------------------------------------------------------------------ results


class Trial(TypedDict):
    number: int
    state: str
    values: dict[str, float]
    params: dict[str, Any]
    by: str
    fidelity: int | None
    last_report: NotRequired[list[float]]
    error: NotRequired[str]


class TrialInFull(Trial):
    curve: list[list[float]]
    resumed_from: NotRequired[int]
    ended_because: str
    last_words: NotRequired[str]


class Training(TypedDict):
    trials: int
    ended: int
    going_on: bool
    trouble: NotRequired[str]
    notices: NotRequired[list[str]]


class BeliefFacts(TypedDict):
    number: int
    belief: str
    strength: str
    status: str
    words: str
    fate: str


class Study(TypedDict):
    study: str
    task: str | None
    notes: list[str]
    objectives: list[dict[str, str]]
    space: dict[str, str]
    engine: Any
    advisor: str | None
    scheduler: Any
    budget: dict[str, float]
    trials: dict[str, int]
    states_mean: NotRequired[dict[str, str]]
    best: Trial | None
    training: Training | None
    left_of_a_broken_off_run: NotRequired[int]


class Listing(TypedDict):
    """`left_out`: how many trials are not in this order, and why. MCP hosts find lists under `result`."""

    result: list[Trial]
    left_out: NotRequired[str]


class Comparison(TypedDict):
    trials: list[int]
    values: list[dict[str, float]]
    differ_in: dict[str, list[Any]]


class SpaceInFull(TypedDict):
    parameters: dict[str, str]
    constraints: list[str]
    edits: list[list[str]]
    trials_outside: list[int]


class Diagnosis(TypedDict):
    number: int
    state: str
    text: str
    shape: NotRequired[str]
    fault: NotRequired[bool]
    since: NotRequired[float | None]
    forecast: NotRequired[dict[str, Any]]
    error: NotRequired[str]


class Finding(TypedDict):
    code: str
    severity: str
    message: str
    fix: str


class Found(TypedDict):
    kind: str
    trial: int | None
    text: str


class File(TypedDict):
    file: str
    what: str


class Draft(TypedDict):
    """A study file's parts; `doubts` are guesses to look at, `left` the script's arguments that stay as they are."""

    file: str
    about: str
    metric: dict[str, str]
    parameters: dict[str, Any]
    help: dict[str, str]
    trained_for: dict[str, Any] | None
    early_stopping: str | None
    trials: int
    command: str
    left: list[str]
    doubts: list[str]


# ------------------------------------------------------------------------------------------------ trials


def row(agent: Agent, record: TrialRecord) -> Trial:
    """A trial at a glance; one without a result has the step and value of its last report."""
    values = {o.name: short(v) for o, v in zip(agent.objectives, record.values or (), strict=False)}
    params = {name: short(value) for name, value in record.params.items()}
    found = Trial(
        number=record.number, state=str(record.state), values=values, params=params, by=record.chosen_by,
        fidelity=record.fidelity,
    )  # fmt: skip
    if not values and (curve := agent.curve(record.number)):
        found["last_report"] = [curve[-1][0], short(curve[-1][1])]
    if record.error:
        found["error"] = plain(record.error, MAX_TEXT)
    return found


def trials(bench: Workbench, given: given_.Listing) -> Listing:
    agent = bench.agent
    if given.sort == "latest":
        records = agent._store.trials(agent.study_id, newest_first=True, limit=given.limit)
        return Listing(result=[row(agent, record) for record in records])
    loss, everything = agent.objectives[0].loss, agent._view.trials()
    ended = [r for r in everything if r.values]
    records = sorted(ended, key=lambda r: loss(r.values[0]) if r.values else 0.0)[: given.limit]
    found = Listing(result=[row(agent, record) for record in records])
    if without := Counter(str(r.state) for r in everything if not r.values):
        told = ", ".join(f"{n} {state}" for state, n in without.items())
        found["left_out"] = (
            f"{told}: no value at the end of training, so no place in this order; sort latest lists them"
        )
    return found


def trial(bench: Workbench, given: given_.Number) -> TrialInFull:
    found = bench.agent.trial(given.number)
    record = found._record
    curve = [[step, short(value)] for step, value in found.curve]
    full = TrialInFull(
        **row(bench.agent, record),  # type: ignore[typeddict-item]
        curve=_thinned(curve),
        ended_because=_ending(bench, record),
    )
    if record.resume_from is not None and record.resume_from != record.number:
        full["resumed_from"] = record.resume_from
    if found.error and found.stderr:
        full["last_words"] = plain(redact(found.stderr[-MAX_OUTPUT:]), MAX_OUTPUT)
    return full


def short(value: Any) -> Any:
    """A number in the six digits that anybody reads."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _thinned(curve: list[list[float]]) -> list[list[float]]:
    """At most MAX_POINTS of it, the first and the last among them."""
    if len(curve) <= MAX_POINTS:
        return curve
    return [curve[round(i * (len(curve) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]


def _ending(bench: Workbench, record: TrialRecord) -> str:
    return (
        halted(bench.agent._view, record)
        or {
            "complete": "it was trained to its end",
            "stopped": "it was ended early, for good",
            "paused": "it rests until its scheduler takes it up",
            "failed": f"it failed: {plain(record.error or 'no reason is known', MAX_TEXT)}",
            "running": "it trains now",
            "waiting": "its process ended before it did; it is trained again",
        }[str(record.state)]
    )


def why(bench: Workbench, given: given_.Number) -> str:
    return str(bench.agent.why(given.number))


def compare(bench: Workbench, given: given_.Several) -> Comparison:
    rows = [row(bench.agent, bench.agent.trial(n)._record) for n in given.numbers]
    names = dict.fromkeys(name for one in rows for name in one["params"])
    differing = {
        name: [one["params"].get(name) for one in rows]
        for name in names
        if len({repr(one["params"].get(name)) for one in rows}) > 1
    }
    return Comparison(trials=given.numbers, values=[one["values"] for one in rows], differ_in=differing)


# ------------------------------------------------------------------------------------------------ the study


def study(bench: Workbench, given: given_.Nothing) -> Study:
    agent, view = bench.agent, bench.agent._view
    counts = view.store.count(view.record.id)
    best = agent.best if len(agent.objectives) == 1 else None
    found = Study(
        study=agent.study, task=agent.config.get("task"), notes=list(agent.config.get("notes", [])),
        objectives=[{"name": o.name, "direction": o.direction} for o in agent.objectives],
        space=space_words(agent.space), engine=agent.config.get("engine"), advisor=agent.config.get("advisor"),
        scheduler=agent.config.get("scheduler"), budget=agent.budget.to_config(),
        trials={str(state): n for state, n in counts.items() if n},
        best=row(agent, best._record) if best else None, training=training(bench),
    )  # fmt: skip
    if meant := meanings(agent.config, found["trials"]):
        found["states_mean"] = meant
    if bench.rest and not bench.running:
        found["left_of_a_broken_off_run"] = bench.rest
    return found


def training(bench: Workbench) -> Training | None:
    """The run in the background, or the last one; None where none was started here."""
    run = bench.run
    if run is None:
        return None
    found = Training(trials=run.trials, ended=run.ended, going_on=not run.over.is_set())
    if run.trouble:
        found["trouble"] = plain(run.trouble, MAX_TEXT)
    if run.notices:
        found["notices"] = [plain(text, 2 * MAX_TEXT) for text in run.notices]
    return found


def space_words(space: Space) -> dict[str, str]:
    return {name: parameter_words(entry) for name, entry in space.to_dict()["parameters"].items()}


def space(bench: Workbench, given: given_.Nothing) -> SpaceInFull:
    view = bench.agent._view
    events = view.store.events(view.record.id)
    versions = [e.payload["space"] for e in events if e.kind in ("study_created", "space_changed")]
    spaces = [Space.from_dict(version) for version in versions[-MAX_VERSIONS - 1 :]]
    return SpaceInFull(
        parameters=space_words(view.space),
        constraints=[c.text for c in view.space.constraints],
        edits=[difference(old, new) for old, new in pairwise(spaces)],
        trials_outside=[r.number for r in view.trials() if view.fit(r) is None],
    )


def importance(bench: Workbench, given: given_.Nothing) -> dict[str, float]:
    return bench.agent.importance()


def diagnose(bench: Workbench, given: given_.Number) -> Diagnosis:
    record = bench.agent.trial(given.number)._record
    found = bench.agent._view.reading(given.number)
    told = Diagnosis(number=given.number, state=str(record.state), text="nothing was reported while it trained")
    if record.error:
        told["error"] = plain(record.error, MAX_TEXT)
    if found is not None:
        told |= {"shape": str(found.shape), "fault": found.fault, "since": found.since}
        told["text"] = plain(str(found), 2 * MAX_TEXT)
        if found.forecast:
            told["forecast"] = asdict(found.forecast)
    return told


def doctor(bench: Workbench, given: given_.Nothing) -> list[Finding]:
    found = examine_study(bench.agent._view, bench.agent.budget)
    if (file := bench.training_file()) is not None:
        found = worst_first([*found, *without_checkpoint(file, bench.agent.config.get("scheduler"))])
    return [Finding(code=f.code, severity=f.severity, message=f.message, fix=f.fix) for f in found]


def search(bench: Workbench, given: given_.Text) -> list[Found]:
    hits = bench.agent._store.search(given.text, study_id=bench.agent.study_id)
    return [Found(kind=hit.kind, trial=hit.number, text=plain(hit.snippet, MAX_TEXT)) for hit in hits]


def advice(bench: Workbench, given: given_.Nothing) -> list[dict[str, Any]]:
    return [one.to_dict() for one in worth(bench.agent._view)]


def beliefs(bench: Workbench, given: given_.Nothing) -> list[BeliefFacts]:
    return [
        BeliefFacts(
            number=found.held.number, belief=statement(found.held.prior), strength=found.held.prior.strength,
            status=found.status, words=plain(found.held.prior.words, MAX_TEXT), fate=plain(str(found), MAX_TEXT),
        )
        for found in bench.agent.beliefs
    ]  # fmt: skip


def wait(bench: Workbench, given: given_.Waiting) -> Training | str:
    bench.wait(given.seconds)
    return training(bench) or "nothing was started here"


# ------------------------------------------------------------------------------------------------ before a study


def files(bench: Workbench, given: given_.Nothing) -> list[File]:
    """Scripts and study files of the folder; no file's text."""
    kinds = {".py": "Python script", ".yaml": "YAML", ".yml": "YAML"}
    names = sorted(p.name for p in bench.folder.iterdir() if p.suffix in kinds and p.is_file())[:MAX_FILES]
    return [File(file=plain(name, MAX_TEXT), what=kinds[name[name.rindex(".") :]]) for name in names]


def draft(bench: Workbench, given: given_.Script) -> Draft:
    """What a script takes as arguments, read without running it, as the study that would be made of it."""
    import yaml

    found = script.read(bench.inside(given.file))
    text = init.from_script(found, bench.folder)
    data = yaml.safe_load(text)
    searched = data["parameters"]
    doubts = [] if found.metrics else ["no metric was found in the script: ask what it prints"]
    drafted = study_file.parse(text, bench.folder / given.file)
    doubts += [doubt.message for doubt in without_checkpoint(drafted, data.get("scheduler") and [data["scheduler"]])]
    return Draft(
        file=given.file,
        about=plain(found.about, 2 * MAX_TEXT),
        metric=data["metric"],
        parameters=searched,
        help={a.name: plain(a.help, MAX_TEXT) for a in found.arguments if a.help and a.name in searched},
        trained_for=data.get("fidelity"),
        early_stopping=data.get("scheduler"),
        trials=data["budget"]["trials"],
        command=" ".join(data["command"]),
        left=[
            f"{a.flag} (default {plain(a.default, 60)})"
            for a in found.arguments
            if a.name not in searched and a.flag not in data["command"]
        ],
        doubts=[*doubts, "every range is a guess from the argument's name and default"],
    )
