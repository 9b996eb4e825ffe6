"""Questions about a study that a person asks: what went wrong with a trial, what was learned, what words mean.

The study's language model answers where it has one, through the same caps, deadline and ledger as advice; else, and
where that fails, curves and statistics do. No answer changes the study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tunewright.agent import counsel_rules, digest
from tunewright.agent.counsel_words import ROOM_FOR_TRIAL, lines_of, render_trial
from tunewright.agent.digest_text import MAX_TOKENS, render
from tunewright.agent.digest_words import quoted
from tunewright.agent.failing import failing
from tunewright.agent.readings import words
from tunewright.agent.records import Curve, TrialRecord
from tunewright.agent.said import read
from tunewright.agent.settings import label
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import State
from tunewright.plugins.hooks import AdviceRequest, AnswersOnly, Message
from tunewright.prompts import (
    Diagnosis,
    Priors,
    Summary,
    SummaryType,
    diagnosis_type,
    load,
    parse_diagnosis,
    parse_priors,
    parse_summary,
    priors_type,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tunewright.agent.agent import Agent

RULES = "rules"
MAX_SAID = 4_000  # characters of a person's words

T = TypeVar("T", Diagnosis, Summary, Priors)


@dataclass(frozen=True, slots=True)
class Opinion(Generic[T]):
    """An answer, who gave it ("rules" for curves and statistics), and why a model that was asked did not."""

    answer: T
    by: str
    trouble: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"by": self.by, "trouble": self.trouble, **asdict(self.answer)}

    def __str__(self) -> str:
        return "\n".join(lines_of(self.answer, self.by, self.trouble))


class Counsel:
    """One study's. Made for a question at a time: nothing is kept. Without `model` no advisor is asked."""

    def __init__(self, agent: Agent, model: bool = True):
        self._agent, self._view = agent, agent._view
        self._desk = agent._desk if model else None

    def diagnose(self, number: int) -> Opinion[Diagnosis]:
        """What went wrong with a trial, if anything. Raises UnknownTrial."""
        view = self._view
        record = view.store.trial(view.record.id, number)
        curves = self._curves(number)
        found = view.reading(number)
        facts = self._facts({number: curves} if curves else {}, {number: words(found)} if found else {})
        study, history = render(facts, MAX_TOKENS - ROOM_FOR_TRIAL)
        output = self._agent.trial(number).stderr if record.state is State.FAILED else ""
        rank = self._rank(record)
        block = render_trial(record, facts, rank, curves, found, output)
        return self._opinion(
            "diagnose",
            {"study": study, "trial": f"{block}\n\n{history}"},
            diagnosis_type(view.space),
            lambda text: parse_diagnosis(text, view.space, record.params),
            facts,
            number,
            lambda: counsel_rules.diagnose(record, facts, rank, found),
        )

    def summarize(self) -> Opinion[Summary]:
        """What the study has shown so far. Raises FixArgument before it has shown anything."""
        facts = self._facts({}, {})
        if not facts["n_trials"]:
            raise FixArgument("no trial has a result yet", field="summarize", fix="run some trials first")
        study, history = render(facts)
        numbers = {record.number for record in self._view.trials()}
        return self._opinion(
            "summarize",
            {"study": study, "history": history},
            SummaryType,
            lambda text: parse_summary(text, numbers),
            facts,
            None,
            lambda: counsel_rules.summarize(facts),
        )

    def priors(self, said: str) -> Opinion[Priors]:
        """A person's words as soft beliefs. Without a model they are read by patterns, which understand less."""
        if not isinstance(said, str) or not said.strip() or len(said) > MAX_SAID:
            fix = f"words, at most {MAX_SAID} characters"
            raise FixArgument("nothing that could be read", field="priors", value=str(said)[:80], fix=fix)
        facts = digest.build(self._view.space, self._view.objectives, [], **self._told(), wanted=0)
        study, _ = render(facts)
        return self._opinion(
            "priors",
            {"study": study, "words": quoted(said)},
            priors_type(self._view.space),
            lambda text: parse_priors(text, self._view.space, said),
            facts,
            None,
            lambda: read(said, self._view.space),
        )

    # ---------------------------------------------------------------- inner

    def _opinion(
        self,
        name: str,
        fields: Mapping[str, str],
        answer_type: type[BaseModel],
        parse: Callable[[str], T],
        facts: Mapping[str, Any],
        number: int | None,
        fallback: Callable[[], T],
    ) -> Opinion[T]:
        """The model's answer, else the fallback's."""
        desk = self._desk
        if desk is None or (isinstance(desk.advisor, AnswersOnly) and name not in desk.advisor.purposes):
            return Opinion(fallback(), RULES)
        prompt = load(name)
        system, user = prompt.render(**fields)
        messages = (Message("system", system), Message("user", user))
        request = AdviceRequest(name, messages, answer_type, self._view.space, facts)
        done = desk.consult(number, prompt, request, parse)
        if done.answer is None or done.error is not None:
            return Opinion(fallback(), RULES, done.error or "it gave no answer")
        return Opinion(done.answer, label(desk.advisor))

    def _facts(self, curves: Mapping[int, list[Curve]], diagnoses: Mapping[int, str]) -> dict[str, Any]:
        trials, noise, made = self._agent._suggester.told()
        return digest.build(
            self._view.space,
            self._view.objectives,
            trials,
            **self._told(),
            budget_left=max(0, self._agent.budget.assumed_trials - made),
            wanted=0,
            default=self._view.space.default(),
            noise=noise,
            curves=curves,
            diagnoses=diagnoses,
            failing=[str(one) for one in failing(self._view.space, trials)],
        )

    def _rank(self, record: TrialRecord) -> tuple[int, int] | None:
        """(place from 1, how many) among the trials with a result after as much training."""
        objective = self._view.objectives[0]
        trials, _, _ = self._agent._suggester.told()
        alike = [t.values[0] for t in trials if t.values is not None and t.fidelity == record.fidelity]
        if record.values is None or len(alike) < 2:
            return None
        own = objective.loss(record.values[0])
        return 1 + sum(objective.loss(value) < own for value in alike), len(alike)

    def _told(self) -> dict[str, Any]:
        """What the user said of the study."""
        config = self._view.record.config
        named = {name: config.get(name) for name in ("task", "data")}
        return {**named, "notes": config.get("notes", ()), "fidelity": self._view.fidelity}

    def _curves(self, number: int) -> list[Curve]:
        store, study_id = self._view.store, self._view.record.id
        return [store.curve(study_id, number, name) for name in store.metric_names(study_id, number)]
