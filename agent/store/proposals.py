"""What was proposed, decided and queued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.agent.records import ProposalRecord, ProposalStatus
from tunewright.agent.store.base import Base
from tunewright.agent.store.codec import dumps, loads
from tunewright.engines.errors import FixArgument
from tunewright.plugins.hooks import Source

_COLUMNS = "made_by, source, params, status, number, taken_by, id, ask_index, call, rationale, reason, tags"
WAITING = ("held", "open")
WAITS = "status IN ('held', 'open')"

# In these words SQLite takes an index for each of the three.
_STANDING = """
SELECT (SELECT coalesce(max(ask_index) + 1, 0) FROM proposals WHERE study = ?1 AND ask_index IS NOT NULL),
       EXISTS (SELECT 1 FROM queue WHERE study = ?1 AND taken_by IS NULL),
       (SELECT coalesce(max(id), 0) FROM events WHERE study = ?1 AND number IS NULL)
"""


class Standing(NamedTuple):
    """`ask_index`: how many proposals the study's engines have made, so the index of their next one. `queued`: whether
    a configuration waits in the queue. `said`: the latest event that is of no trial."""

    ask_index: int
    queued: bool
    said: int


class Proposals(Base):
    def enqueue(self, study_id: int, params: Mapping[str, Any], note: str | None = None) -> int:
        """Adds a configuration to try, first in, first out; returns the item's id."""
        note, now = self._clean.maybe(note), self._clock()
        with self._connection.write() as db:
            row = {"study": study_id, "params": dumps(params, "params"), "note": note, "created": now}
            item = self._insert(db, "queue", row)
            payload = {"id": item, "params": dict(params), "note": note, "created": now}
            self._event(db, study_id, None, "enqueued", payload)
            return item

    def next_queued(self, study_id: int) -> tuple[int, dict[str, Any]] | None:
        """The oldest item no trial has taken, as (id, params); create_trial(queue_id=...) takes it."""
        with self._connection.read() as db:
            sql = "SELECT id, params FROM queue WHERE study = ? AND taken_by IS NULL ORDER BY id LIMIT 1"
            row = db.execute(sql, [study_id]).fetchone()
            return None if row is None else (int(row[0]), loads(row[1]))

    def decision(self, study_id: int, number: int) -> dict[str, Any] | None:
        """What was stored with the trial. Raises UnknownTrial."""
        with self._connection.read() as db:
            trial = self._trial_id(db, study_id, number)
            row = db.execute("SELECT body FROM decisions WHERE trial = ?", [trial]).fetchone()
            return None if row is None else loads(row[0])

    def proposals(
        self, study_id: int, number: int | None = None, status: ProposalStatus | None = None
    ) -> list[ProposalRecord]:
        """In the order in which they were stored. `number`: those made for that trial's turn, and the one it became."""
        where = "study = ?"
        arguments: list[Any] = [study_id]
        if number is not None:
            where, arguments = where + " AND (number = ? OR taken_by = ?)", [*arguments, number, number]
        if status in WAITING:
            where += f" AND {WAITS}"  # in these words, or SQLite does not take the index of those few
        if status is not None:
            where, arguments = where + " AND status = ?", [*arguments, status]
        with self._connection.read() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM proposals WHERE {where} ORDER BY id", arguments).fetchall()
        return [_record(row) for row in rows]

    def standing(self, study_id: int) -> Standing:
        """What a turn begins with, in one look."""
        with self._connection.read() as db:
            return Standing(*db.execute(_STANDING, [study_id]).fetchone())

    def update_proposals(self, updates: Mapping[int, tuple[ProposalStatus, str | None]]) -> None:
        """Gives stored proposals, by id, a new (status, reason)."""
        with self._connection.write() as db:
            self._change_proposals(db, updates)

    def expire_proposals(self, study_id: int, reason: str) -> None:
        """Of those that wait for a trial, held ones and open ones."""
        with self._connection.write() as db:
            waiting = db.execute(
                f"SELECT id FROM proposals WHERE study = ? AND {WAITS} ORDER BY id", [study_id]
            ).fetchall()
            self._change_proposals(db, {proposal_id: ("expired", reason) for (proposal_id,) in waiting})

    def _insert_proposals(
        self,
        db: Any,
        study_id: int,
        number: int | None,
        proposals: Sequence[ProposalRecord],
        texts: Sequence[str],
        taken: int | None = None,
    ) -> list[int]:
        """Made for the turn of trial `number`, which the one at the index `taken` became. `texts`: the clean JSON of
        their `facts_of`."""
        ids = []
        for index, proposal in enumerate(proposals):
            source, tags = texts[2 * index : 2 * index + 2]
            turn = number if proposal.number is None else proposal.number
            rationale, reason = self._clean.maybe(proposal.rationale), self._clean.maybe(proposal.reason)
            row = {
                "study": study_id, "number": turn, "taken_by": number if index == taken else None,
                "made_by": proposal.by, "source": source,
                "params": dumps(proposal.params, "params"), "status": "taken" if index == taken else proposal.status,
                "ask_index": proposal.ask_index, "call": proposal.call_id, "rationale": rationale, "reason": reason,
                "tags": tags, "created": self._clock(),
            }  # fmt: skip
            ids.append(self._insert(db, "proposals", row))
            self._index(db, rationale, "rationale", study_id, turn, ids[-1])
            self._index(db, reason, "reason", study_id, turn, ids[-1])
        return ids

    def _change_proposals(self, db: Any, updates: Mapping[int, tuple[ProposalStatus, str | None]]) -> None:
        for proposal_id, (status, reason) in updates.items():
            reason = self._clean.maybe(reason)
            row = db.execute("SELECT study, number FROM proposals WHERE id = ?", [proposal_id]).fetchone()
            if row is None:
                raise _unknown(proposal_id)
            db.execute("UPDATE proposals SET status = ?, reason = ? WHERE id = ?", [status, reason, proposal_id])
            study_id, number = row
            self._index(db, reason, "reason", study_id, number, proposal_id)
            payload = {"id": proposal_id, "status": status, "reason": reason}
            self._event(db, study_id, number, "proposal_changed", payload)

    def _take_proposal(self, db: Any, study_id: int, proposal_id: int, number: int) -> None:
        sql = "UPDATE proposals SET status = 'taken', taken_by = ? WHERE id = ? AND study = ?"
        if db.execute(sql, [number, proposal_id, study_id]).rowcount == 0:
            raise _unknown(proposal_id)


def facts_of(proposals: Sequence[ProposalRecord]) -> Iterator[Any]:
    """What of each has to be cleaned: whence it comes, and its tags."""
    for proposal in proposals:
        source = proposal.source
        yield [source.name, source.distribution, source.version, source.options]
        yield proposal.tags


def _record(row: Sequence[Any]) -> ProposalRecord:
    by, source, params, status, number, taken_by, own_id, ask_index, call, rationale, reason, tags = row
    name, distribution, version, options = loads(source)
    return ProposalRecord(
        by=by,
        source=Source(name, distribution, version, options),
        params=loads(params),
        status=status,
        number=number,
        taken_by=taken_by,
        id=own_id,
        ask_index=ask_index,
        call_id=call,
        rationale=rationale,
        reason=reason,
        tags=loads(tags),
    )


def _unknown(proposal_id: int) -> FixArgument:
    return FixArgument("there is no such proposal", field="proposal", value=proposal_id, fix="Store.proposals(...)")
