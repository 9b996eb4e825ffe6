"""What a trial starts from where nobody proposes it, the default configuration or a repeat, and its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.agent.arbiter import Decision
from tunewright.agent.draft import Draft
from tunewright.agent.history import History
from tunewright.agent.records import REPEAT
from tunewright.agent.settings import label
from tunewright.agent.view import StudyView
from tunewright.engines.space import Space
from tunewright.engines.types import Params
from tunewright.plugins.hooks import Advisor, KnowsDefaults, Source

USER = Source("user")


@dataclass(frozen=True, slots=True)
class Start:
    """`advised` names the parameters whose value the advisor knew."""

    params: Params
    reason: str
    advised: Sequence[str]


def default_start(space: Space, advisor: Advisor | None, task: str | None) -> Start | None:
    """The user's defaults, completed by what the advisor knows of library defaults; None where there are none."""
    known: Mapping[str, Any] = {}
    if isinstance(advisor, KnowsDefaults):
        try:
            known = dict(advisor.defaults(space, task))
        except Exception:  # a plugin's fault must not keep a study from starting; the engine goes first
            known = {}
    params = space.default(known)
    if params is None:
        return None
    users = [n for n in params if space.parameters[n].default is not None]
    advised = [n for n in params if n in known and n not in users]
    told = [f"{', '.join(users)} by the user"] if users else []
    if advised and advisor is not None:
        told.append(f"{', '.join(advised)} by {label(advisor)}")
    if len(users) + len(advised) < len(params):
        told.append("the rest in the middle of its range")
    return Start(params, f"the default configuration: {'; '.join(told)}", advised)


def default_draft(space: Space, advisor: Advisor | None, task: str | None) -> Draft | None:
    """Trial 0."""
    start = default_start(space, advisor, task)
    if start is None:
        return None
    return Draft(Decision("default", start.reason), start.params, USER.name, defaults=start.advised)


def repeat_draft(view: StudyView, history: History, until: int, *, strict: bool) -> Draft | None:
    """One of the best configurations once more, near the end of a run on a noisy metric; see `engines.rerun`. A space
    that the run can walk to its end is better walked."""
    if len(view.objectives) > 1 or (found := history.rerun(until, strict=strict)) is None:
        return None
    if view.space.size() <= until:  # asked late, since a space with conditions is counted through
        return None
    numbers = {"noise": found.noise, "lead": found.lead, "spread": found.spread, "until": until}
    decision = Decision("queue", str(found), numbers=numbers)
    return Draft(decision, history.params(found.of), REPEAT)


def trial_seed(seed: int, number: int) -> int:
    """The seed handed to trial `number`: independent streams of one study seed, below 2**31."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
