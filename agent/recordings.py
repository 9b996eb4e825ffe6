"""An advisor that answers from a study file what another one answered there, call by call."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunewright.agent.consult import FINAL, INTERRUPTED
from tunewright.agent.records import CallRecord
from tunewright.agent.redact import redact
from tunewright.agent.store import Store
from tunewright.engines.errors import FixArgument
from tunewright.engines.space import Space
from tunewright.plugins.hooks import AdviceRequest, AdvisorFailed, Completion

NEVER = 1e9  # seconds: a provider that names such a wait is not asked again
log = logging.getLogger("tunewright")


class ReplayAdvisor:
    """`advisor="replay:FILE"`, or "replay:FILE#STUDY" for one of several.

    The n-th call of a prompt gets its n-th answer, a failed one its failure, in no time and at no cost. `changed` lists
    the calls whose request is not the recorded one; each is logged as a warning.
    """

    free_of_charge = True

    def __init__(self, model: str | None):
        path, _, study = (model or "").partition("#")
        if not Path(path).is_file():
            fix = 'advisor="replay:tunewright.db"'
            raise FixArgument("no such file", field="advisor", value=f"replay:{path}", fix=fix)
        self.name, self.model = "replay", model
        with Store.open(path, read_only=True) as store:
            studies = [s for s in store.studies() if study in ("", s.name)]
            if len(studies) != 1:
                names = ", ".join(s.name for s in store.studies())
                fix = f"replay:{path}#STUDY, with one of: {names}"
                raise FixArgument("names no single study", field="advisor", value=f"replay:{model}", fix=fix)
            self._read(store, studies[0].id)

    @classmethod
    def of(cls, store: Store, study_id: int, name: str, model: str | None) -> ReplayAdvisor:
        """The calls of one study, under the name of the advisor that was asked there."""
        made = cls.__new__(cls)
        made.name, made.model = name, model
        made.free_of_charge = False  # its caps are kept again as they were
        made._read(store, study_id)
        return made

    def _read(self, store: Store, study_id: int) -> None:
        # What a crash cut short was asked again.
        cut = ("open", "abandoned")
        kept = [c for c in store.calls(study_id) if not (c.status in cut and c.error in (None, INTERRUPTED))]
        # Questions of one prompt follow each other; those that a person asked between do not count.
        self._calls: dict[str, Iterator[tuple[CallRecord, CallRecord | None]]] = {
            name: pairwise([*(c for c in kept if c.prompt_name == name), None])  # type: ignore[list-item]
            for name in {c.prompt_name for c in kept}
        }
        self._asked = {c.id: store.call_messages(c.id) for c in kept}
        first = store.trials(study_id, limit=1)
        known = (store.decision(study_id, 0) or {}).get("defaults", []) if first else []
        self._defaults = {name: first[0].params[name] for name in known}
        self.calls = 0
        self.changed: list[int] = []

    def defaults(self, space: Space, task: str | None) -> Mapping[str, Any]:
        """Those that the recorded advisor knew."""
        return {name: value for name, value in self._defaults.items() if name in space.parameters}

    def complete(self, request: AdviceRequest, *, timeout: float) -> Completion:
        call, following = next(self._calls.get(request.purpose, iter(())), (None, None))
        if call is None:
            raise AdvisorFailed("the recording has no further call", retryable=False)
        self.calls += 1
        if _plain(request) != [tuple(message) for message in self._asked[call.id]]:
            self.changed.append(call.id)
            log.warning("call %d is not asked as it was recorded; its answer is given all the same", call.id)
        usage = Completion(
            call.answer or "", call.model, call.tokens_in, call.tokens_cached, call.tokens_out, call.usd
        )  # fmt: skip
        error = call.error or "failed"
        if call.status == "answered" or (call.answer is not None and not error.endswith(FINAL)):
            return usage
        again = following is not None and following.number == call.number
        raise AdvisorFailed(
            error.removesuffix(FINAL),
            retryable=not error.endswith(FINAL),
            retry_after=None if again else NEVER,
            completion=usage,
        )


def _plain(request: AdviceRequest) -> Sequence[tuple[str, str]]:
    return [(message.role, redact(message.content)) for message in request.messages]
