"""Questions to the advisor as a whole: at most one at a time in a study, whoever asks. Their attempts are `calls`.

They live in the event log alone: one event when a question is put, one when it is answered or given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tunewright.agent.records import ConsultRecord, Owner, ProposalRecord
from tunewright.agent.store.codec import loads
from tunewright.agent.store.owner import current_owner, is_dead
from tunewright.agent.store.proposals import Proposals, facts_of

BEGAN, ENDED = "consult_began", "consult_ended"


class Consults(Proposals):
    def begin_consult(self, study_id: int, number: int, *, as_of: int, wanted: int, patience: float) -> int | None:
        """Takes the study's advisor for a question about trial `number`; returns its id, None while another one is
        open: its process lives, and it began less than `patience` seconds ago. `as_of`: the last result known."""
        with self._connection.write() as db:
            latest = self._consults(db, study_id, 0, "DESC LIMIT 1")
            if latest and latest[0][1] == BEGAN and self._is_open(latest[0], patience):
                return None
            payload = {"as_of": as_of, "wanted": wanted, "owner": asdict(current_owner())}
            return self._event(db, study_id, number, BEGAN, payload)

    def end_consult(
        self,
        study_id: int,
        consult: int,
        *,
        error: str | None,
        retryable: bool,
        rows: Sequence[ProposalRecord] = (),
        advisor: str | None = None,
    ) -> list[int]:
        """What came of it, with every candidate of its answers, whose ids are returned. `error` None: `advisor`, as
        trust knows it, gave an answer."""
        with self._connection.write() as db:
            number = db.execute("SELECT number FROM events WHERE id = ?", [consult]).fetchone()[0]
            ids = self._insert_proposals(db, study_id, number, rows, self._clean.json([*facts_of(rows)], "proposals"))
            reached = db.execute("SELECT coalesce(max(number) + 1, 0) FROM trials WHERE study = ?", [study_id])
            payload = {
                "began": consult, "error": self._clean.maybe(error), "retryable": retryable,
                "then": reached.fetchone()[0], "advisor": advisor,
            }  # fmt: skip
            self._event(db, study_id, number, ENDED, payload)
            return ids

    def consults(self, study_id: int, after: int, patience: float) -> tuple[list[ConsultRecord], int]:
        """(what was put or ended since event `after`, in order; the study's last event). A question that a dead process
        left open is told as one that never was."""
        with self._connection.read() as db:
            rows = self._consults(db, study_id, after, "")
            last = db.execute("SELECT max(id) FROM events WHERE study = ?", [study_id]).fetchone()[0]
        found = []
        for row in rows:
            event, kind, number, payload, _ = row
            if kind == ENDED:
                began, error, retryable, then = (payload[name] for name in ("began", "error", "retryable", "then"))
                found.append(ConsultRecord(began, number, event, error, retryable, then, payload.get("advisor")))
            elif row is not rows[-1] or self._is_open(row, patience):
                found.append(ConsultRecord(event, number))
        return found, max(after, last or 0)

    def _consults(
        self, db: Any, study_id: int, after: int, order: str
    ) -> list[tuple[int, str, int, dict[str, Any], float]]:
        sql = f"""
        SELECT id, kind, number, payload, created FROM events
        WHERE study = ? AND id > ? AND kind IN ('{BEGAN}', '{ENDED}') ORDER BY id {order}
        """
        found = db.execute(sql, [study_id, after]).fetchall()
        return [(event, kind, number, loads(payload), created) for event, kind, number, payload, created in found]

    def _is_open(self, began: tuple[int, str, int, dict[str, Any], float], patience: float) -> bool:
        payload, created = began[3], began[4]
        return self._clock() - created < patience and not is_dead(Owner(**payload["owner"]))
