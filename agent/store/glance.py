"""What readers of a large study look at: a bounded part of its trials, and sums that SQLite makes of all of them."""

from __future__ import annotations

from typing import NamedTuple

from tunewright.agent.records import REPEAT, TrialRecord
from tunewright.agent.store.beliefs import Beliefs
from tunewright.agent.store.trials import COLUMNS, gather

BEST = 1_000
LATEST = 1_500
"""A study with no more complete trials is seen whole."""

_COMPLETE = """
FROM trials t JOIN "values" v ON v.trial = t.id AND v.objective = 0 WHERE t.study = ?1 AND t.state = 'complete'
"""
# A configuration comes with all its runs: else the lucky ones would stand for it.
_SEEN = f"""
WITH seen (params) AS (
    SELECT params FROM trials WHERE id IN (SELECT t.id {_COMPLETE} ORDER BY t.number DESC LIMIT ?2)
    UNION SELECT params FROM trials
    WHERE id IN (SELECT t.id {_COMPLETE} ORDER BY v.value {{order}}, t.number LIMIT ?3)
    UNION SELECT params FROM trials WHERE study = ?1 AND state = 'complete' AND proposer = ?4
)
SELECT {COLUMNS} FROM trials t LEFT JOIN "values" v ON v.trial = t.id
WHERE t.study = ?1 AND t.state = 'complete' AND t.params IN (SELECT params FROM seen) ORDER BY t.number, v.objective
"""
_PROGRESS = f"""
SELECT {{best}}(v.value) {_COMPLETE}
AND t.number < (SELECT number FROM trials WHERE study = ?1 AND state = 'complete' ORDER BY number LIMIT 1 OFFSET ?2)
"""
_CALLS = """
SELECT c.advisor, c.model, p.name, p.version, count(*), sum(c.status <> 'answered'),
       sum(coalesce(c.tokens_in, 0) + coalesce(c.tokens_out, 0)), sum(c.usd), sum(c.usd IS NULL),
       sum(coalesce(c.seconds, 0.0))
FROM llm_calls c JOIN prompts p ON p.id = c.prompt WHERE c.study = ?
GROUP BY c.advisor, c.model, p.name, p.version ORDER BY min(c.id)
"""
# A trial belongs to the call in whose answer its configuration stood.
_ADVISED = """
WITH taken AS MATERIALIZED (
    SELECT taken_by, max(call) call FROM proposals
    WHERE study = ?1 AND made_by = 'advisor' AND status = 'taken' GROUP BY taken_by
)
SELECT t.number, t.proposer, c.advisor, c.model, p.name, p.version FROM trials t
LEFT JOIN taken o ON o.taken_by = t.number
LEFT JOIN llm_calls c ON c.id = o.call LEFT JOIN prompts p ON p.id = c.prompt
WHERE t.study = ?1 AND t.source = 'advisor' ORDER BY t.number
"""
_RECORDS = f"""
SELECT number, value FROM (
    SELECT number, value, {{best}}(value) OVER (ORDER BY event ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) before
    FROM (SELECT t.number, v.value, t.event {_COMPLETE})
) WHERE before IS NULL OR value {{better}} before
"""


class Asker(NamedTuple):
    """Whose call it was."""

    advisor: str
    model: str | None
    prompt: str
    version: str


class Bill(NamedTuple):
    """All calls of one asker; `usd` is None where the price of any is unknown."""

    calls: int
    failed: int
    tokens: int
    usd: float | None
    seconds: float


class Glances(Beliefs):
    def proposed_by(self, study_id: int, proposer: str) -> list[int]:
        """The numbers of that proposer's trials."""
        sql = "SELECT number FROM trials WHERE study = ? AND proposer = ? ORDER BY number"
        with self._connection.read() as db:
            return [row[0] for row in db.execute(sql, [study_id, proposer])]

    def ranked(self, study_id: int, *, maximize: bool, limit: int) -> list[TrialRecord]:
        """By the first value, best first and the earliest of equals; then those without one."""
        sql = f"""
        SELECT t.number FROM trials t LEFT JOIN "values" v ON v.trial = t.id AND v.objective = 0 WHERE t.study = ?
        ORDER BY v.value IS NULL, v.value {"DESC" if maximize else "ASC"}, t.number LIMIT ?
        """
        with self._connection.read() as db:
            return [self._one(db, study_id, row[0]) for row in db.execute(sql, [study_id, limit]).fetchall()]

    def foremost(self, study_id: int, *, maximize: bool, latest: int = LATEST, best: int = BEST) -> list[TrialRecord]:
        """By number: the `latest` complete trials, the `best` ones by their first value, the repeated ones of a noisy
        run's end, and whatever else has a configuration of theirs."""
        with self._connection.read() as db:
            return gather(db.execute(_SEEN.format(order=_order(maximize)), [study_id, latest, best, REPEAT]))

    def best_before(self, study_id: int, complete: int, *, maximize: bool) -> float | None:
        """The best first value of the first `complete` complete trials, of a study that has more."""
        with self._connection.read() as db:
            sql = _PROGRESS.format(best="max" if maximize else "min")
            found: float | None = db.execute(sql, [study_id, complete]).fetchone()[0]
            return found

    def records(self, study_id: int, *, maximize: bool) -> list[tuple[int, float]]:
        """(number, first value) of each complete trial that was the best of its time, in the order in which they
        ended."""
        best, better = ("max", ">") if maximize else ("min", "<")
        with self._connection.read() as db:
            return db.execute(_RECORDS.format(best=best, better=better), [study_id]).fetchall()

    def bills(self, study_id: int) -> dict[Asker, Bill]:
        """What calls cost, in the order of each asker's first."""
        with self._connection.read() as db:
            rows = db.execute(_CALLS, [study_id]).fetchall()
        return {Asker(*row[:4]): _bill(*row[4:]) for row in rows}

    def advised(self, study_id: int) -> list[tuple[int, str, Asker | None]]:
        """(number, proposer, who was asked for it if anybody was) of each advised trial, by number."""
        with self._connection.read() as db:
            rows = db.execute(_ADVISED, [study_id]).fetchall()
        return [(number, proposer, Asker(*who) if who[0] is not None else None) for number, proposer, *who in rows]


def _order(maximize: bool) -> str:
    return "DESC" if maximize else "ASC"


def _bill(calls: int, failed: int, tokens: int, usd: float | None, unknown: int, seconds: float) -> Bill:
    return Bill(calls, failed, tokens, None if unknown else usd, seconds)
