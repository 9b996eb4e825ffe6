"""Calls of advisors: what was asked, what came back, what it cost, and the caps on that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from tunewright.agent.errors import CapReached
from tunewright.agent.records import CallRecord, Owner
from tunewright.agent.store.base import Base
from tunewright.agent.store.codec import dumps, loads
from tunewright.agent.store.owner import current_owner, is_dead
from tunewright.engines.errors import FixArgument

MAX_ANSWER = 1_000_000
"""Bytes kept of one answer."""

_COLUMNS = (
    "c.id, c.number, c.attempt, c.advisor, c.model, p.name, p.version, p.hash, c.status, c.error, c.answer, "
    "c.tokens_in, c.tokens_cached, c.tokens_out, c.usd, c.seconds, c.created"
)

# What a call counts against a cap: what it cost where that is known, else what was reserved for it.
_USED = {
    "tokens": "coalesce(tokens_in + tokens_out, reserve_tokens, 0)",
    "usd": "coalesce(usd, reserve_usd, 0)",
}


class Spent(NamedTuple):
    """Known costs, and how many ended calls have none."""

    tokens: int
    usd: float
    unknown: int


class Prompt(NamedTuple):
    name: str
    version: str
    hash: str
    text: str


class Calls(Base):
    def begin_call(
        self,
        study_id: int,
        *,
        number: int | None,
        attempt: int,
        advisor: str,
        model: str | None,
        prompt: tuple[str, str, str, str],
        messages: Sequence[tuple[str, str]],
        thread: int | None = None,
        reserve_tokens: int | None = None,
        reserve_usd: float | None = None,
        cap_tokens: int | None = None,
        cap_usd: float | None = None,
    ) -> int:
        """The request's row, before the call is made; returns its id.

        `prompt` is (name, version, hash, text), `messages` are (role, content). The reservations are the call's worst
        case; a call of unknown cost counts as its reservation for ever. Raises CapReached when a cap could be exceeded.
        """
        prompt = Prompt(*prompt)
        with self._connection.write() as db:
            self._check_cap(db, study_id, "tokens", reserve_tokens, cap_tokens)
            self._check_cap(db, study_id, "usd", reserve_usd, cap_usd)
            hashes = [self._store_message(db, role, content) for role, content in messages]
            owner = current_owner()
            row = {
                "study": study_id, "number": number, "attempt": attempt, "advisor": advisor, "model": model,
                "prompt": self._store_prompt(db, prompt), "request": dumps(hashes, "messages"), "thread": thread,
                "reserve_tokens": reserve_tokens, "reserve_usd": reserve_usd, "status": "open",
                "owner_host": owner.host, "owner_boot": owner.boot, "owner_pid": owner.pid,
                "owner_started": owner.started, "created": self._clock(),
            }  # fmt: skip
            call = self._insert(db, "llm_calls", row)
            self._event(db, study_id, number, "call_began", {"id": call, "advisor": advisor, "model": model})
            return call

    def end_call(
        self,
        call_id: int,
        *,
        status: Literal["answered", "failed"],
        error: str | None = None,
        answer: str | None = None,
        model: str | None = None,
        tokens_in: int | None = None,
        tokens_cached: int | None = None,
        tokens_out: int | None = None,
        usd: float | None = None,
        seconds: float | None = None,
        tokens_reasoning: int | None = None,
    ) -> CallRecord:
        """The call's outcome. None means unknown: a refused call that cost nothing says 0. `tokens_reasoning`, a part
        of `tokens_out`, is kept with the event.

        An ended call stays as it is, but one taken for abandoned accepts its late answer.
        """
        error, answer = self._clean.maybe(error), self._clean.maybe(answer)
        if answer is not None:
            answer = answer.encode()[:MAX_ANSWER].decode(errors="ignore")
        with self._connection.write() as db:
            before = db.execute("SELECT study, number, status, model FROM llm_calls WHERE id = ?", [call_id]).fetchone()
            if before is None:
                raise FixArgument("there is no such call", field="call", value=call_id, fix="Store.calls(...)")
            study_id, number, found, asked = before
            if found in ("open", "abandoned"):
                row = {
                    "status": status, "error": error, "answer": answer, "model": model or asked,
                    "tokens_in": tokens_in, "tokens_cached": tokens_cached, "tokens_out": tokens_out, "usd": usd,
                    "seconds": seconds, "finished": self._clock(),
                }  # fmt: skip
                assignments = ", ".join(f"{name} = :{name}" for name in row)
                db.execute(f"UPDATE llm_calls SET {assignments} WHERE id = :id", {**row, "id": call_id})
                self._index(db, answer, "answer", study_id, number, call_id)
                self._index(db, error, "call_error", study_id, number, call_id)
                thought = {} if tokens_reasoning is None else {"tokens_reasoning": tokens_reasoning}
                self._event(db, study_id, number, "call_ended", {"id": call_id, "status": status, **thought})
            return _read(db, "c.id = ?", [call_id])[0]

    def calls(self, study_id: int, number: int | None = None) -> list[CallRecord]:
        """In the order in which they were made."""
        with self._connection.read() as db:
            if number is None:
                return _read(db, "c.study = ?", [study_id])
            return _read(db, "c.study = ? AND c.number = ?", [study_id, number])

    def call_messages(self, call_id: int) -> list[tuple[str, str]]:
        """What the advisor was sent, as (role, content)."""
        with self._connection.read() as db:
            row = db.execute("SELECT request FROM llm_calls WHERE id = ?", [call_id]).fetchone()
            if row is None:
                raise FixArgument("there is no such call", field="call", value=call_id, fix="Store.calls(...)")
            sql = "SELECT role, content FROM messages WHERE hash = ?"
            return [tuple(db.execute(sql, [key]).fetchone()) for key in loads(row[0])]

    def committed(self, study_id: int, cap: Literal["tokens", "usd"]) -> float:
        """What counts against a cap: known costs, and the reservations of calls whose cost is not known (yet)."""
        with self._connection.read() as db:
            return self._committed(db, study_id, cap)

    def spent(self, study_id: int) -> Spent:
        """Of ended calls: known tokens (in and out), known dollars, and how many calls have no known dollar cost."""
        sql = """
        SELECT coalesce(sum(coalesce(tokens_in, 0) + coalesce(tokens_out, 0)), 0), coalesce(sum(usd), 0.0),
               coalesce(sum(usd IS NULL), 0)
        FROM llm_calls WHERE study = ? AND status <> 'open'
        """
        with self._connection.read() as db:
            tokens, usd, unknown = db.execute(sql, [study_id]).fetchone()
        return Spent(int(tokens), float(usd), int(unknown))

    # ------------------------------------------------------------------------------------------------ threads

    def create_thread(self, study_id: int | None, title: str) -> int:
        """A conversation, about one study or none."""
        with self._connection.write() as db:
            row = {"study": study_id, "title": self._clean.text(title), "created": self._clock()}
            return self._insert(db, "threads", row)

    def assign_thread(self, thread_id: int, study_id: int) -> None:
        """A conversation that was about no study yet is about this one."""
        with self._connection.write() as db:
            db.execute("UPDATE threads SET study = ? WHERE id = ? AND study IS NULL", [study_id, thread_id])

    def threads(self, study_id: int | None) -> list[int]:
        """The conversations about a study, or about none, in which something was said; the latest one last."""
        sql = """
        SELECT t.id FROM threads t JOIN thread_messages m ON m.thread = t.id WHERE t.study IS ?
        GROUP BY t.id ORDER BY max(m.created), t.id
        """
        with self._connection.read() as db:
            return [int(row[0]) for row in db.execute(sql, [study_id])]

    def append_message(self, thread_id: int, role: str, content: str) -> None:
        with self._connection.write() as db:
            key = self._store_message(db, role, content)
            sql = """
            INSERT INTO thread_messages (thread, position, message, created)
            SELECT ?1, coalesce(max(position) + 1, 0), ?2, ?3 FROM thread_messages WHERE thread = ?1
            """
            db.execute(sql, [thread_id, key, self._clock()])

    def thread(self, thread_id: int) -> list[tuple[str, str]]:
        """Its messages, as (role, content), oldest first."""
        sql = """
        SELECT m.role, m.content FROM thread_messages t JOIN messages m ON m.hash = t.message
        WHERE t.thread = ? ORDER BY t.position
        """
        with self._connection.read() as db:
            return [(role, content) for role, content in db.execute(sql, [thread_id])]

    # ------------------------------------------------------------------------------------------------ inner

    def _check_cap(self, db: Any, study_id: int, cap: str, reserve: float | None, limit: float | None) -> None:
        if limit is None:
            return
        if reserve is None:
            fix = f"reserve_{cap}: the call's worst case"
            raise FixArgument("a cap needs a reservation", field=f"reserve_{cap}", fix=fix)
        used = self._committed(db, study_id, cap)
        if used + reserve > limit:
            message = f"{used:g} of {limit:g} {cap} are used or reserved and this call may take {reserve:g}"
            facts = {"cap": cap, "limit": limit, "used": used, "reserve": reserve}
            raise CapReached(message, field="budget", fix=f"raise Budget({cap}=...)", **facts)

    def _committed(self, db: Any, study_id: int, cap: str) -> float:
        sql = f"SELECT coalesce(sum({_USED[cap]}), 0) FROM llm_calls WHERE study = ?"
        return db.execute(sql, [study_id]).fetchone()[0]

    def _store_message(self, db: Any, role: str, content: str) -> str:
        content = self._clean.text(content)
        key = hashlib.sha256(f"{role}\0{content}".encode()).hexdigest()
        db.execute("INSERT OR IGNORE INTO messages (hash, role, content) VALUES (?, ?, ?)", [key, role, content])
        return key

    def _store_prompt(self, db: Any, prompt: Prompt) -> int:
        key = [prompt.name, prompt.version, prompt.hash]
        db.execute("INSERT OR IGNORE INTO prompts (name, version, hash, text) VALUES (?, ?, ?, ?)", [*key, prompt.text])
        row = db.execute("SELECT id FROM prompts WHERE name = ? AND version = ? AND hash = ?", key).fetchone()
        return int(row[0])

    def _abandon_dead_calls(self) -> None:
        """Closes the calls that processes of this host left open when they died."""
        sql = "SELECT id, study, number, owner_host, owner_boot, owner_pid, owner_started FROM llm_calls"
        with self._connection.read() as db:
            rows = db.execute(sql + " WHERE status = 'open'").fetchall()
        dead = [(call, study_id, number) for call, study_id, number, *owner in rows if is_dead(Owner(*owner))]
        if not dead:
            return
        with self._connection.write() as db:
            for call, study_id, number in dead:
                sql = "UPDATE llm_calls SET status = 'abandoned', finished = ? WHERE id = ? AND status = 'open'"
                if db.execute(sql, [self._clock(), call]).rowcount:
                    self._event(db, study_id, number, "call_ended", {"id": call, "status": "abandoned"})


def _read(db: Any, where: str, arguments: list[Any]) -> list[CallRecord]:
    sql = f"SELECT {_COLUMNS} FROM llm_calls c JOIN prompts p ON p.id = c.prompt WHERE {where} ORDER BY c.id"
    return [CallRecord(*row) for row in db.execute(sql, arguments)]
