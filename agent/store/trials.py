"""Trials: from creation to their one result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tunewright.agent.errors import AlreadyObserved, BudgetSpent, StudyMoved
from tunewright.agent.records import Hold, Owner, ProposalRecord, ProposalStatus, TrialRecord, TrialSource
from tunewright.agent.store.buffer import Points
from tunewright.agent.store.calls import Calls
from tunewright.agent.store.codec import dumps, loads
from tunewright.agent.store.consults import Consults
from tunewright.agent.store.metrics import Metrics
from tunewright.agent.store.proposals import facts_of
from tunewright.agent.store.studies import Studies
from tunewright.engines.errors import FixArgument
from tunewright.engines.types import State

# In the order of TrialRecord, but for `values`, which have a table of their own.
_FIELDS = (
    "number", "attempt", "state", "params", "source", "proposer", "seed",
    "error", "fidelity", "resume_from", "created", "started", "finished", "event",
    "deaths", "trained", "device_seconds",
)  # fmt: skip
_VALUE = len(_FIELDS)
_STATES = {state.value: state for state in State}
COLUMNS = f"{', '.join(f't.{field}' for field in _FIELDS)}, v.value"
_JOINED = 'trials t LEFT JOIN "values" v ON v.trial = t.id'
_HELD = f"""
SELECT {COLUMNS}, t.id, t.beat, t.devices FROM {_JOINED} WHERE t.study = ? AND t.number = ? ORDER BY v.objective
"""
# In these words, and with a plus before what the rows are put in order by, SQLite takes an index for each of the two.
_NEWS = f"""
SELECT {COLUMNS} FROM {_JOINED}
WHERE (t.study = ?1 AND t.number >= ?2) OR (t.study = ?1 AND t.event > ?3)
ORDER BY +t.number, v.objective
"""

NOBODY = Hold()


class Held(NamedTuple):
    """A trial, and what else its row tells of whoever has it."""

    trial: TrialRecord
    id: int
    beat: float | None
    devices: float


class Stamp(NamedTuple):
    """Of a trial that runs or waits. While it is the same, so is the trial's record."""

    number: int
    attempt: int
    state: str
    started: float | None
    fidelity: int | None


class Trials(Studies, Consults, Metrics, Calls):
    # ------------------------------------------------------------------------------------------------ creating

    def create_trial(
        self,
        study_id: int,
        *,
        expected_number: int,
        params: Mapping[str, Any],
        source: TrialSource,
        proposer: str,
        seed: int,
        fidelity: int | None = None,
        resume_from: int | None = None,
        hold: Hold = NOBODY,
        action: Mapping[str, Any] | None = None,
        decision: Mapping[str, Any] | None = None,
        proposals: Sequence[ProposalRecord] = (),
        updates: Mapping[int, tuple[ProposalStatus, str | None]] | None = None,
        taken_proposal: int | None = None,
        taken_id: int | None = None,
        queue_id: int | None = None,
    ) -> TrialRecord:
        """A running trial with all that led to it, in one transaction.

        `action` is what the scheduler asked for, kept with the event. `updates` changes earlier proposals by id;
        `taken_proposal` (an index into `proposals`) or `taken_id` (a stored one) became this trial; `queue_id` is the
        item it takes from the queue. Raises StudyMoved, and stores nothing, when another process created trial
        `expected_number` or took the item, and BudgetSpent at a cap of `hold`.
        """
        now = self._clock()
        body, *texts = self._clean.json([decision, *facts_of(proposals)], "decision")
        with self._connection.write() as db:
            sql = "SELECT (SELECT coalesce(max(number) + 1, 0) FROM trials WHERE study = ?1) FROM studies WHERE id = ?1"
            if (found := db.execute(sql, [study_id]).fetchone()) is None:
                self._study(db, study_id)  # raises
            number = int(found[0])
            if number != expected_number:
                raise moved("another process created a trial", expected=expected_number, next=number)
            self._check_time(db, study_id, hold)
            facts = {
                "attempt": 1, "params": dict(params), "source": source, "proposer": proposer,
                "seed": seed, "fidelity": fidelity, "resume_from": resume_from,
            }  # fmt: skip
            text = dumps(facts["params"], "params")
            row = {
                **facts, "params": text, "study": study_id, "number": number,
                "state": State.RUNNING.value, "created": now, "started": now,
            }  # fmt: skip
            trial_id = self._insert(db, "trials", {**row, **hold_columns(hold, now)})
            self._began(study_id, number, 1)
            if queue_id is not None:
                sql = "UPDATE queue SET taken_by = ? WHERE id = ? AND study = ? AND taken_by IS NULL"
                if db.execute(sql, [number, queue_id, study_id]).rowcount == 0:
                    raise moved("another process took the queued configuration", queue_id=queue_id)
            if decision is not None:
                db.execute("INSERT INTO decisions (trial, body, created) VALUES (?, ?, ?)", [trial_id, body, now])
            ids = self._insert_proposals(db, study_id, number, proposals, texts, taken_proposal)
            self._change_proposals(db, updates or {})
            if taken_id is not None:
                self._take_proposal(db, study_id, taken_id, number)
            taken = taken_id if taken_proposal is None else ids[taken_proposal]
            facts |= {"created": now, "owner": owner_columns(hold.owner), "queue_id": queue_id, "proposal": taken}
            facts |= {} if action is None else {"action": dict(action)}
            self._event(db, study_id, number, "trial_created", facts)
        return TrialRecord(
            number, 1, State.RUNNING, loads(text), source, proposer, seed,
            fidelity=fidelity, resume_from=resume_from, created=now, started=now,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ ending

    def finish(
        self,
        study_id: int,
        number: int,
        state: State,
        values: Sequence[float] | None,
        error: str | None = None,
        *,
        attempt: int,
        step: float | None = None,
    ) -> TrialRecord:
        """The first result of a trial stands, whichever attempt it comes from. `step`: how far it was trained.

        The same values again change nothing; other values are kept as a repeat and raise AlreadyObserved. The failure
        of an attempt that was given up while a later one runs is kept as a repeat too and ends nothing.
        """
        state, error = State(state), self._clean.maybe(error)
        result = checked(state, values)
        points: Points = []
        with self._connection.write() as db:
            held = self._held(db, study_id, number)
            trial = after = held.trial
            if not 1 <= attempt <= trial.attempt:
                fix = f"1 to {trial.attempt}"
                raise FixArgument("the trial has had no such attempt", field="attempt", value=attempt, fix=fix)
            again = trial.state.finished and trial.values == result
            stale = not trial.state.finished and state is State.FAILED and attempt < trial.attempt
            if stale or (trial.state.finished and not again):
                self._store_repeat(db, study_id, held.id, number, attempt, state, result, error)
            elif not again:
                points = self._buffer.write(db)
                facts = {"state": state.value, "values": result, "error": error, "attempt": attempt, "step": step}
                after = self._store_result(db, study_id, held, facts)
        self._buffer.forget(points)
        if trial.state.finished and not again:
            message = f"trial {number} has a result already; the new one is kept as a repeat"
            facts = {"number": number, "first": trial.values, "second": result}
            raise AlreadyObserved(message, field="values", value=result, fix="agent.why(trial) shows both", **facts)
        return after

    def _store_result(
        self, db: Any, study_id: int, held: Held, facts: Mapping[str, Any], died: bool = False
    ) -> TrialRecord:
        now, error, values, trial = self._clock(), facts["error"], facts["values"], held.trial
        facts = {**facts, **self._trained(study_id, held, died), "finished": now}
        event = self._event(db, study_id, trial.number, "trial_finished", facts)
        changes = {
            "error": error, "finished": now, "event": event, "trained": facts["trained"],
            "device_seconds": facts["device_seconds"], "deaths": facts.get("deaths", trial.deaths),
        }  # fmt: skip
        sql = """
        UPDATE trials SET error = ?, finished = ?, event = ?, trained = ?, device_seconds = ?, deaths = ?,
        state = ?, beat = NULL WHERE id = ?
        """
        db.execute(sql, [*changes.values(), facts["state"], held.id])
        for objective, value in enumerate(values or ()):
            db.execute('INSERT INTO "values" (trial, objective, value) VALUES (?, ?, ?)', [held.id, objective, value])
        self._index(db, error, "error", study_id, trial.number, trial.number)
        return replace(trial, state=State(facts["state"]), values=values, **changes)

    def _store_repeat(
        self,
        db: Any,
        study_id: int,
        trial_id: int,
        number: int,
        attempt: int,
        state: State,
        values: tuple[float, ...] | None,
        error: str | None,
    ) -> None:
        now = self._clock()
        sql = 'INSERT INTO repeats (trial, attempt, state, "values", error, created) VALUES (?, ?, ?, ?, ?, ?)'
        stored = None if values is None else dumps(values, "values")
        db.execute(sql, [trial_id, attempt, state.value, stored, error, now])
        payload = {"state": state.value, "values": values, "error": error, "attempt": attempt}
        self._event(db, study_id, number, "trial_repeated", payload)

    # ------------------------------------------------------------------------------------------------ time

    def _began(self, study_id: int, number: int, attempt: int) -> None:
        """This process was handed a trial: its run is timed by a clock that nobody can set."""
        self._since[study_id, number] = (attempt, self._monotonic())

    def _trained(self, study_id: int, held: Held, died: bool = False) -> dict[str, float]:
        """What a running trial's times come to when its run ends now; where its process died, at its last sign of
        life."""
        trial, seconds = held.trial, 0.0
        if trial.state is State.RUNNING:
            attempt, since = self._since.pop((study_id, trial.number), (0, 0.0))
            if attempt == trial.attempt:
                seconds = self._monotonic() - since
            else:  # another process began it: by the clocks on the wall
                end = held.beat if died else self._clock()
                seconds = max((end or 0.0) - (trial.started or 0.0), 0.0)
        return {
            "trained": trial.trained + seconds, "device_seconds": trial.device_seconds + seconds * held.devices
        }  # fmt: skip

    def used(self, study_id: int) -> tuple[float, float]:
        """(seconds of training, seconds times devices) of a study, those of runners' present runs included."""
        with self._connection.read() as db:
            return self._used(db, study_id)

    def _used(self, db: Any, study_id: int) -> tuple[float, float]:
        sql = "SELECT coalesce(sum(trained), 0.0), coalesce(sum(device_seconds), 0.0) FROM trials WHERE study = ?"
        seconds, device_seconds = db.execute(sql, [study_id]).fetchone()
        sql = "SELECT number, attempt, beat - started, devices FROM trials WHERE study = ? AND state = 'running'"
        now = self._monotonic()
        for number, attempt, run, devices in db.execute(sql + " AND beat IS NOT NULL", [study_id]):
            known, since = self._since.get((study_id, number), (0, 0.0))
            run = now - since if known == attempt else max(run, 0.0)
            seconds, device_seconds = seconds + run, device_seconds + run * devices
        return seconds, device_seconds

    def _check_time(self, db: Any, study_id: int, hold: Hold) -> None:
        """Raises BudgetSpent where the study's time is used up."""
        if hold.seconds is None and hold.gpu_hours is None:
            return
        seconds, device_seconds = self._used(db, study_id)
        if hold.seconds is not None and seconds >= hold.seconds:
            message, fix = f"trials trained {seconds:.0f} s of the budget's {hold.seconds:g}", "Budget(seconds=...)"
            raise BudgetSpent(message, cap="seconds", limit=hold.seconds, fix=f"raise {fix} to go on")
        hours = device_seconds / 3600
        if hold.gpu_hours is not None and hours >= hold.gpu_hours:
            message, fix = f"trials held devices for {hours:.3g} h of {hold.gpu_hours:g}", "Budget(gpu_hours=...)"
            raise BudgetSpent(message, cap="gpu_hours", limit=hold.gpu_hours, fix=f"raise {fix} to go on")

    # ------------------------------------------------------------------------------------------------ repeats

    def repeats(self, study_id: int, number: int) -> list[tuple[float, ...] | None]:
        """The values of results that came after the first, None for a failure, in the order they came."""
        with self._connection.read() as db:
            trial_id = self._trial_id(db, study_id, number)
            rows = db.execute('SELECT "values" FROM repeats WHERE trial = ? ORDER BY id', [trial_id])
            return [None if row[0] is None else tuple(loads(row[0])) for row in rows]

    # ------------------------------------------------------------------------------------------------ reading

    def trial(self, study_id: int, number: int) -> TrialRecord:
        """Raises UnknownTrial."""
        with self._connection.read() as db:
            return self._one(db, study_id, number)

    def trials(
        self,
        study_id: int,
        *,
        states: Iterable[State] | None = None,
        after: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[TrialRecord]:
        """By number, ascending, or descending with `newest_first`; `after` is the last number of the page before."""
        where: list[str] = ["study = ?"]
        arguments: list[Any] = [study_id]
        if states is not None:
            named = [State(state).value for state in states]
            where.append(f"state IN ({', '.join('?' * len(named))})")
            arguments += named
        if after is not None:
            where.append("number < ?" if newest_first else "number > ?")
            arguments.append(after)
        order = "number DESC" if newest_first else "number"
        if states is not None and limit is None:
            order = f"+{order}"  # by the index on states, few of which are looked for, not by that on numbers
        with self._connection.read() as db:
            return _read(db, " AND ".join(where), arguments, order, limit)

    def running(self, study_id: int) -> list[TrialRecord]:
        return self.trials(study_id, states=[State.RUNNING])

    def count(self, study_id: int) -> dict[State, int]:
        """Trials in each state; every state is a key."""
        with self._connection.read() as db:
            return self._counts(db, study_id)

    def best(self, study_id: int, *, maximize: bool) -> TrialRecord | None:
        """The complete trial with the best first value, the earliest of equals; None before there is one."""
        with self._connection.read() as db:
            number = self._best(db, study_id, maximize)[1]
            return None if number is None else self._one(db, study_id, number)

    def news(self, study_id: int, created: int, event: int) -> list[TrialRecord]:
        """By number: the trials from number `created` on, and those that ended after `event`. For who knows the others
        and looks at the `live` ones first: what begins or ends in between is here."""
        with self._connection.read() as db:
            return gather(db.execute(_NEWS, [study_id, created, event]))

    def live(self, study_id: int) -> list[Stamp]:
        """Of the trials that run or wait, by number. See `news`."""
        sql = """
        SELECT number, attempt, state, started, fidelity FROM trials WHERE study = ? AND state IN ('running', 'waiting')
        ORDER BY +number
        """
        with self._connection.read() as db:
            return [Stamp(*row) for row in db.execute(sql, [study_id])]

    def _one(self, db: Any, study_id: int, number: int) -> TrialRecord:
        return self._held(db, study_id, number).trial

    def _held(self, db: Any, study_id: int, number: int) -> Held:
        rows = db.execute(_HELD, [study_id, number]).fetchall()
        if not rows:
            self._trial_id(db, study_id, number)  # raises
        return Held(gather(rows)[0], *rows[0][-3:])


def _read(db: Any, where: str, arguments: list[Any], order: str, limit: int | None) -> list[TrialRecord]:
    """`limit` counts trials."""
    page = f"SELECT id, {', '.join(_FIELDS)} FROM trials WHERE {where} ORDER BY {order} LIMIT ?"
    sql = f'SELECT {COLUMNS} FROM ({page}) t LEFT JOIN "values" v ON v.trial = t.id'
    sql += f" ORDER BY t.{order.removeprefix('+')}, v.objective"
    return gather(db.execute(sql, [*arguments, -1 if limit is None else limit]))


def gather(rows: Iterable[Sequence[Any]]) -> list[TrialRecord]:
    """Of one row of COLUMNS per trial and objective, trials together."""
    found: list[TrialRecord] = []
    last = -1
    for row in rows:
        number, value = row[0], row[_VALUE]
        if number == last:
            found[-1] = replace(found[-1], values=(*(found[-1].values or ()), value))
        else:
            found.append(_record(row, None if value is None else (value,)))
        last = number
    return found


def _record(row: Sequence[Any], values: tuple[float, ...] | None) -> TrialRecord:
    """Of the columns _FIELDS. By place, since a study may have a hundred thousand."""
    number, attempt, state, params, *facts = row[:_VALUE]
    source, proposer, seed, *rest = facts
    return TrialRecord(number, attempt, _STATES[state], loads(params), source, proposer, seed, values, *rest)


def checked(state: State, values: Sequence[float] | None) -> tuple[float, ...] | None:
    if not state.finished:
        raise FixArgument("not a final state", field="state", value=state.value, fix="complete, stopped or failed")
    if values is None:
        if state is State.COMPLETE:
            raise FixArgument("a complete trial has values", field="values", value=values, fix="one per objective")
        return None
    result = tuple(float(value) + 0.0 for value in values)  # SQLite keeps no sign of a zero
    if state is State.FAILED or not result or not all(math.isfinite(value) for value in result):
        fix = "finish it as failed, without values"
        raise FixArgument("a result is finite and a failure has none", field="values", value=result, fix=fix)
    return result


def owner_columns(owner: Owner | None) -> dict[str, Any]:
    host, boot, pid, started = (owner.host, owner.boot, owner.pid, owner.started) if owner else (None,) * 4
    return {"owner_host": host, "owner_boot": boot, "owner_pid": pid, "owner_started": started}


def hold_columns(hold: Hold, now: float) -> dict[str, Any]:
    return {**owner_columns(hold.owner), "beat": now if hold.leased else None, "devices": hold.devices}


def moved(message: str, **facts: Any) -> StudyMoved:
    return StudyMoved(message, field="study", fix="read the study again and repeat", **facts)
