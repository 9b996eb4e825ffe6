"""What people said to believe of a study's parameters. It lives in the event log alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.agent.store.codec import dumps, loads
from tunewright.agent.store.runs import Runs

BELIEVED, WITHDRAWN = "believed", "belief_withdrawn"


class Beliefs(Runs):
    def believe(self, study_id: int, priors: Sequence[Mapping[str, Any]], *, by: str, once: bool = False) -> None:
        """Keeps priors told by `by` from the next trial on; `once`: not where the same were told before."""
        told = [{**self._clean.tree(prior), "by": by} for prior in priors]
        with self._connection.write() as db:
            if once and any(_same(told, loads(text)["priors"]) for text in self._payloads(db, study_id)):
                return
            (reached,) = db.execute(
                "SELECT coalesce(max(number) + 1, 0) FROM trials WHERE study = ?", [study_id]
            ).fetchone()
            self._event(db, study_id, None, BELIEVED, {"priors": [{**prior, "told_at": reached} for prior in told]})

    def withdraw_belief(self, study_id: int, number: int) -> None:
        """Belief `number`, counted from 1 in the order in which they were told, holds no more."""
        with self._connection.write() as db:
            self._event(db, study_id, None, WITHDRAWN, {"belief": number})

    def beliefs_since(self, study_id: int, after: int) -> list[tuple[int, str, dict[str, Any]]]:
        """(event, kind, payload) of what was told and withdrawn since event `after`."""
        # Of no trial: the index has these few events apart from those of all trials.
        sql = f"""
        SELECT id, kind, payload FROM events
        WHERE study = ? AND number IS NULL AND id > ? AND kind IN ('{BELIEVED}', '{WITHDRAWN}') ORDER BY id
        """
        with self._connection.read() as db:
            rows = db.execute(sql, [study_id, after]).fetchall()
        return [(event, kind, loads(payload)) for event, kind, payload in rows]

    def _payloads(self, db: Any, study_id: int) -> list[str]:
        sql = "SELECT payload FROM events WHERE study = ? AND number IS NULL AND kind = ?"
        return [text for (text,) in db.execute(sql, [study_id, BELIEVED])]


def _same(told: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> bool:
    kept = [{name: value for name, value in prior.items() if name != "told_at"} for prior in before]
    return dumps({"priors": list(told)}, "event") == dumps({"priors": kept}, "event")
