"""The one table of study tools: what a chat, an MCP host or a person's own agent may do with a study.

A tool reads, or it changes or spends something; whoever calls asks a person before the second kind runs. Tools act on
one study file and its folder alone: no shell, no file outside the folder. Results are plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from tunewright.agent import tool_arguments as given
from tunewright.agent import tool_changing as changing
from tunewright.agent import tool_reading as reading
from tunewright.agent import tool_space as space
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import FixArgument

Ask = Callable[[Workbench, Any], str]


@dataclass(frozen=True, slots=True)
class Tool:
    """`asks` is what a person is asked before a tool that changes or spends something; None for one that only reads."""

    name: str
    description: str
    arguments: type[BaseModel]
    function: Callable[[Workbench, Any], Any]
    asks: Ask | None = None

    @property
    def changes(self) -> bool:
        return self.asks is not None

    def call(self, bench: Workbench, arguments: Mapping[str, Any]) -> Any:
        """The result as plain data. Raises FixArgument for arguments that do not fit, and what the study raises."""
        return self.function(bench, self.parse(arguments))

    def parse(self, arguments: Mapping[str, Any]) -> Any:
        try:
            return self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or self.name
            value = None if isinstance(first.get("input"), Mapping) else first.get("input")
            raise FixArgument(str(first["msg"]), field=f"{self.name}: {where}", value=value) from None

    def question(self, bench: Workbench, parsed: Any) -> str:
        """What it would do, in words; several lines where there is something to show; nothing where this call changes
        and spends nothing. Raises what the call would."""
        return self.asks(bench, parsed) if self.asks is not None else ""


TOOLS: tuple[Tool, ...] = (
    Tool("study", "The study at a glance: goal, space, budget, counts, best trial, the run in the background.",
         given.Nothing, reading.study),
    Tool("space", "The search space in words, its edits so far, and the trials that lie outside it now.",
         given.Nothing, reading.space),
    Tool("trials", "A list of trials with values and parameters.", given.Listing, reading.trials),
    Tool("trial", "One trial: parameters, value, learning curve, why it ended, its error and last words.",
         given.Number, reading.trial),
    Tool("why", "Why a trial was tried and how its training went: engine, advice, every check, stops.",
         given.Number, reading.why),
    Tool("compare", "Values of trials side by side, and the parameters in which they differ.",
         given.Several, reading.compare),
    Tool("importance", "Each parameter's share of what explains the metric.", given.Nothing, reading.importance),
    Tool("doctor", "What is wrong with the study, each with its fix.", given.Nothing, reading.doctor),
    Tool("diagnose", "What one trial's curves say: shape, evidence, since when, where it will end.",
         given.Number, reading.diagnose),
    Tool("search", "Errors, rationales and answers that hold all the words.", given.Text, reading.search),
    Tool("advice", "What each advisor's advice cost and brought.", given.Nothing, reading.advice),
    Tool("beliefs", "What people said to believe of the parameters, and what the trials say to it.",
         given.Nothing, reading.beliefs),
    Tool("wait", "Wait for the trials that train in the background; returns early when they are done.",
         given.Waiting, reading.wait),
    Tool("files", "The names of the scripts and study files in the study's folder.", given.Nothing, reading.files),
    Tool("draft", "Read a training script's arguments, without running it, and draft a study file of them.",
         given.Script, reading.draft),
    Tool("create_study", "Make a study of a training script, with changes to its draft, or of a study file; runs none.",
         given.Making, changing.create_study, changing.making),
    Tool("opinion", "What went wrong with one trial and what to try; a model's answer costs tokens.",
         given.Number, changing.opinion,
         lambda b, g: changing.paid(b, f"ask the study's advisor about trial {g.number}")),
    Tool("summary", "What the study has shown so far; a model's answer costs tokens.",
         given.Nothing, changing.summary, lambda b, g: changing.paid(b, "ask the study's advisor for a summary")),
    Tool("ideas", "What the study's advisor would try now, and why; a model's answer costs tokens.",
         given.Nothing, changing.ideas, lambda b, g: changing.paid(b, "ask the study's advisor")),
    Tool("run", "Train trials in the background, or go on with a paused or broken-off run. Returns at once.",
         given.Training, changing.run, changing.running),
    Tool("verify", "Train the best trial again with other seeds, on held-out data where the study file names some, and"
         " say how much of its result was luck. Returns when the runs are over.",
         given.Verifying, changing.verify, changing.verifying),
    Tool("pause", "Start no further trial.", given.Nothing, changing.pause),
    Tool("enqueue", "Put one configuration first in line; it is trained with the next run.",
         given.Configuration, changing.enqueue, changing.queueing),
    Tool("suggest", "A trial for the person to train by hand; its result is told with `observe`.",
         given.Nothing, changing.suggest, lambda b, g: "begin a trial that you train by hand"),
    Tool("observe", "Tell the result of a trial that was trained by hand.", given.Outcome, changing.observe,
         lambda b, g: f"end trial {g.number} with {g.error if g.values is None else g.values}"),
    Tool("note", "Keep what the person knows, in their words, for the advisor. A sentence about one parameter (lr "
         "above 0.05 diverges; adam works better than sgd) also becomes a soft belief that tilts the search.",
         given.Text, changing.note, changing.noting),
    Tool("withdraw", "Take a belief back, by its number in `beliefs`.",
         given.Numbered, changing.withdraw, lambda b, g: f"take belief {g.number} back"),
    Tool("edit_space", "Change, add or take out parameters of the search space; trials stay as they are.",
         given.Editing, space.edit_space, space.editing),
    Tool("freeze", "Keep one parameter at one value from now on.",
         given.Freezing, space.freeze, space.freezing),
    Tool("set_budget", "Change the study's caps; trials counts all, those already made included.",
         given.Caps, changing.set_budget, changing.budgeting),
    Tool("export", "Write the best configuration, the trials or the space to a new file in the study's folder.",
         given.Exporting, changing.export_study, changing.exporting),
    Tool("undo", "Take the last change of space, budget, notes or exported files back.",
         given.Nothing, changing.undo, changing.undoing),
)  # fmt: skip

BY_NAME: Mapping[str, Tool] = {tool.name: tool for tool in TOOLS}
