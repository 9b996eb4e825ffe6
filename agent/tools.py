"""The one table of study tools: what a chat, an MCP host or a person's own agent may do with a study.

A tool reads, or it changes or spends something; whoever calls asks a person before the second kind runs. Tools act on
one study file and its folder alone: no shell, no other file. Results are plain data; texts in them that came from
trials, logs or models are data too and are cut to one printable line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.agent.agent import Agent
from tunewright.agent.doctor import examine_study
from tunewright.agent.records import TrialRecord
from tunewright.agent.workbench import Workbench
from tunewright.agent.worth import worth
from tunewright.engines.errors import FixArgument
from tunewright.engines.parameters import Categorical
from tunewright.engines.space import Space
from tunewright.prompts.text import plain

MAX_TRIALS = 50
MAX_TEXT = 300


# ------------------------------------------------------------------------------------------------ arguments


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Number(Nothing):
    number: int = Field(ge=0, description="The trial's number.")


class Listing(Nothing):
    sort: str = Field("best", pattern="^(best|latest)$", description='"best" or "latest" first.')
    limit: int = Field(10, ge=1, le=MAX_TRIALS, description="How many trials.")


class Several(Nothing):
    numbers: list[int] = Field(min_length=2, max_length=6, description="The numbers of the trials to compare.")


class Text(Nothing):
    text: str = Field(min_length=1, max_length=1_000, description="Words.")


class Count(Nothing):
    trials: int = Field(ge=1, le=10_000, description="How many trials.")


class Configuration(Nothing):
    params: dict[str, Any] = Field(description="Values by parameter; those left out take their defaults.")


class Freezing(Nothing):
    parameter: str = Field(description="The parameter's name.")
    value: Any = Field(None, description="The value to keep; the best trial's where it is left out.")


class Parameters(Nothing):
    parameters: dict[str, dict[str, Any] | None] = Field(
        description="Changed or new parameters as in a study file, e.g. {min: 1e-5, max: 0.01, log: true} or "
        "{values: [a, b]}; null takes one out."
    )


# ------------------------------------------------------------------------------------------------ the table


@dataclass(frozen=True, slots=True)
class Tool:
    """`changes` tells whether a person is asked first; `asks` is the question, in terms of the arguments."""

    name: str
    description: str
    arguments: type[BaseModel]
    function: Callable[[Workbench, Any], Any]
    changes: bool = False
    asks: Callable[[Any], str] = field(default=lambda given: "")

    def call(self, bench: Workbench, arguments: Mapping[str, Any]) -> Any:
        """The result as plain data. Raises FixArgument for arguments that do not fit, and what the study raises."""
        return self.function(bench, self.parse(arguments))

    def parse(self, arguments: Mapping[str, Any]) -> BaseModel:
        try:
            return self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or self.name
            raise FixArgument(str(first["msg"]), field=f"{self.name}: {where}", value=first.get("input")) from None


def _row(agent: Agent, record: TrialRecord) -> dict[str, Any]:
    values = dict(zip((o.name for o in agent.objectives), record.values or (), strict=False))
    text = {"error": plain(record.error, MAX_TEXT)} if record.error else {}
    return {
        "number": record.number, "state": str(record.state), "values": values, "params": dict(record.params),
        "by": record.proposer, "fidelity": record.fidelity, **text,
    }  # fmt: skip


def study(bench: Workbench, given: Nothing) -> dict[str, Any]:
    agent, view = bench.agent, bench.agent._view
    counts = view.store.count(view.record.id)
    best = agent.best if len(agent.objectives) == 1 else None
    return {
        "study": agent.study, "task": agent.config.get("task"), "notes": agent.config.get("notes", []),
        "objectives": [{"name": o.name, "direction": o.direction} for o in agent.objectives],
        "space": agent.space.to_dict(), "engine": agent.config.get("engine"), "advisor": agent.config.get("advisor"),
        "scheduler": agent.config.get("scheduler"), "budget": agent.budget.to_config(),
        "trials": {str(state): n for state, n in counts.items() if n},
        "best": _row(agent, best._record) if best else None,
        "training": bench.running, **({"trouble": bench.trouble} if bench.trouble else {}),
    }  # fmt: skip


def trials(bench: Workbench, given: Listing) -> list[dict[str, Any]]:
    agent = bench.agent
    if given.sort == "latest":
        records = agent._store.trials(agent.study_id, newest_first=True, limit=given.limit)
    else:
        loss = agent.objectives[0].loss
        ended = [r for r in agent._view.trials() if r.values]
        records = sorted(ended, key=lambda r: loss(r.values[0]) if r.values else 0.0)[: given.limit]
    return [_row(agent, record) for record in records]


def trial(bench: Workbench, given: Number) -> dict[str, Any]:
    found = bench.agent.trial(given.number)
    curve = [[step, value] for step, value in found.curve][-MAX_TRIALS:]
    output = {"stderr": plain(found.stderr[-2_000:], 2_000)} if found.error and found.stderr else {}
    return {**_row(bench.agent, found._record), "curve": curve, **output}


def why(bench: Workbench, given: Number) -> str:
    return str(bench.agent.why(given.number))


def compare(bench: Workbench, given: Several) -> dict[str, Any]:
    rows = [_row(bench.agent, bench.agent.trial(n)._record) for n in given.numbers]
    names = dict.fromkeys(name for row in rows for name in row["params"])
    differing = {
        name: [row["params"].get(name) for row in rows]
        for name in names
        if len({repr(row["params"].get(name)) for row in rows}) > 1
    }
    return {"trials": given.numbers, "values": [row["values"] for row in rows], "differ_in": differing}


def importance(bench: Workbench, given: Nothing) -> dict[str, float]:
    return bench.agent.importance()


def curve(bench: Workbench, given: Number) -> dict[str, Any]:
    record = bench.agent.trial(given.number)._record
    row = {"number": given.number, "state": str(record.state)}
    if record.error:
        row["error"] = plain(record.error, MAX_TEXT)
    found = bench.agent._view.reading(given.number)
    if found is None:
        return {**row, "text": "nothing was reported while it trained"}
    facts = {"shape": str(found.shape), "fault": found.fault, "since": found.since}
    ahead = {"forecast": asdict(found.forecast)} if found.forecast else {}
    return {**row, **facts, **ahead, "text": plain(str(found), 2 * MAX_TEXT)}


def doctor(bench: Workbench, given: Nothing) -> list[dict[str, Any]]:
    return [finding.to_dict() for finding in examine_study(bench.agent._view, bench.agent.budget)]


def diagnose(bench: Workbench, given: Number) -> dict[str, Any]:
    return bench.agent.counsel().diagnose(given.number).to_dict()


def summary(bench: Workbench, given: Nothing) -> dict[str, Any]:
    return bench.agent.counsel().summarize().to_dict()


def search(bench: Workbench, given: Text) -> list[dict[str, Any]]:
    hits = bench.agent._store.search(given.text, study_id=bench.agent.study_id)
    return [{"kind": hit.kind, "trial": hit.number, "text": plain(hit.snippet, MAX_TEXT)} for hit in hits]


def advice(bench: Workbench, given: Nothing) -> list[dict[str, Any]]:
    return [one.to_dict() for one in worth(bench.agent._view)]


def ideas(bench: Workbench, given: Nothing) -> dict[str, Any]:
    found = bench.agent.ideas()
    told = [
        {"params": dict(c.params), "because": plain(c.rationale, MAX_TEXT), "problems": list(c.problems)}
        for c in found.candidates
    ]
    return {"ideas": told, **({"silence": plain(found.silence, MAX_TEXT)} if found.silence else {})}


def run(bench: Workbench, given: Count) -> str:
    bench.start(given.trials)
    return f"training {given.trials} trials in the background"


def pause(bench: Workbench, given: Nothing) -> str:
    bench.pause(wait=0)
    return "no further trial starts; the one that trains ends by itself" if bench.running else "nothing trains"


def enqueue(bench: Workbench, given: Configuration) -> str:
    bench.agent.enqueue(given.params, note="chat")
    return "it is first in line"


def note(bench: Workbench, given: Text) -> str:
    before = list(bench.agent.config.get("notes", []))
    bench.agent.note(given.text)
    bench.undo.append(("note", lambda: bench.agent._reconfigure(notes=before)))
    return "the advisor will read it with its next question"


def edit_space(bench: Workbench, given: Parameters) -> list[str]:
    from tunewright.agent.cli.study_file import parameter

    declared = dict(bench.agent.space.declared)
    for name, entry in given.parameters.items():
        if entry is None:
            if declared.pop(name, None) is None:
                raise FixArgument("there is no such parameter", field="parameters", value=name)
        else:
            declared[name] = parameter(name, entry)
    return _edit(bench, declared)


def freeze(bench: Workbench, given: Freezing) -> list[str]:
    space = bench.agent.space
    if given.parameter not in space.parameters:
        fix = f"one of {', '.join(space.names)}"
        raise FixArgument("there is no such parameter", field="parameter", value=given.parameter, fix=fix)
    value = given.value
    if value is None:
        best = bench.agent.best
        value = best.get(given.parameter) if best else None
    if value is None:
        raise FixArgument("no trial has a value to keep", field="value", fix="name one")
    old = space.parameters[given.parameter]
    if problem := old.problem(old.coerce(value)):
        raise FixArgument(problem, field=given.parameter, value=value)
    return _edit(bench, {**space.declared, given.parameter: Categorical([old.coerce(value)], when=old.when)})


def _edit(bench: Workbench, declared: Mapping[str, Any]) -> list[str]:
    before = bench.agent.space
    constraints = [c.text for c in before.constraints]
    lines = bench.agent.edit_space(Space(declared, constraints))
    bench.undo.append(("space", lambda: bench.agent.edit_space(before)))
    return lines


def set_budget(bench: Workbench, given: Count) -> str:
    before = bench.agent.budget.trials
    bench.set_budget(given.trials)
    if before is not None:
        bench.undo.append(("budget", lambda: bench.set_budget(before)))
    return f"the study may make {given.trials} trials in all"


def undo(bench: Workbench, given: Nothing) -> str:
    if not bench.undo:
        raise FixArgument("nothing was changed here that can be taken back", field="undo")
    what, back = bench.undo.pop()
    back()
    return f"the {what} is as it was before"


TOOLS: tuple[Tool, ...] = (
    Tool("study", "The study at a glance: goal, space, budget, counts, best trial.", Nothing, study),
    Tool("trials", "A list of trials with values and parameters.", Listing, trials),
    Tool("trial", "One trial: parameters, value, curve, error, the end of its output.", Number, trial),
    Tool("why", "Why a trial was tried: engine, advice, every check.", Number, why),
    Tool("compare", "Values of trials side by side, and the parameters in which they differ.", Several, compare),
    Tool("importance", "Each parameter's share of what explains the metric.", Nothing, importance),
    Tool("doctor", "What is wrong with the study, each with its fix.", Nothing, doctor),
    Tool("curve", "What one trial's curves say: shape, evidence, since when, where it will end.", Number, curve),
    Tool("search", "Errors, rationales and answers that hold all the words.", Text, search),
    Tool("advice", "What each advisor's advice cost and brought.", Nothing, advice),
    Tool("diagnose", "What went wrong with one trial and what to try; a model's answer costs tokens.", Number,
         diagnose, True, lambda g: f"ask the study's advisor about trial {g.number}, which may cost tokens"),
    Tool("summary", "What the study has shown so far; a model's answer costs tokens.", Nothing, summary, True,
         lambda g: "ask the study's advisor for a summary, which may cost tokens"),
    Tool("ideas", "What the study's advisor would try now, and why; a model's answer costs tokens.", Nothing, ideas,
         True, lambda g: "ask the study's advisor, which may cost tokens"),
    Tool("run", "Train more trials in the background.", Count, run, True, lambda g: f"train {g.trials} trials"),
    Tool("pause", "Start no further trial.", Nothing, pause),
    Tool("enqueue", "Put a configuration first in line.", Configuration, enqueue, True,
         lambda g: f"try {g.params} next"),
    Tool("note", "Tell the advisor something, in words.", Text, note, True, lambda g: f"note: {g.text}"),
    Tool("edit_space", "Change parameters of the search space; trials stay as they are.", Parameters, edit_space, True,
         lambda g: f"change the space: {g.parameters}"),
    Tool("freeze", "Keep one parameter at one value from now on.", Freezing, freeze, True,
         lambda g: f"freeze {g.parameter} at {'the best value' if g.value is None else g.value}"),
    Tool("set_budget", "How many trials the study may make in all.", Count, set_budget, True,
         lambda g: f"allow {g.trials} trials in all"),
    Tool("undo", "Take the last change of space, budget or notes back.", Nothing, undo, True,
         lambda g: "take the last change back"),
)  # fmt: skip

BY_NAME: Mapping[str, Tool] = {tool.name: tool for tool in TOOLS}
