"""Trials while they run: handed out, paused, taken back from processes that died or fell silent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tunewright.agent.records import Hold, Owner, Resources, TrialRecord, VerifyingRun
from tunewright.agent.store.codec import loads
from tunewright.agent.store.owner import current_owner, is_dead
from tunewright.agent.store.trials import Held, Trials, checked, hold_columns, moved, owner_columns
from tunewright.engines.types import State

DEATHS = 2  # of runners' processes on one trial, which is then taken for their cause
VERIFIED = "trial_verified"  # the kind of a verifying run's event
GONE = "its process is gone"


class Runs(Trials):
    def pause(self, study_id: int, number: int, value: float, step: float, *, attempt: int) -> TrialRecord:
        """A running trial rests after `step`, where its first objective was `value`; its process may end.

        Raises StudyMoved when it does not run, or this attempt at it was given up.
        """
        result = checked(State.STOPPED, [value])
        with self._connection.write() as db:
            held = self._held(db, study_id, number)
            trial = held.trial
            if trial.state is not State.RUNNING or attempt != trial.attempt:
                raise moved(f"trial {number} does not run as attempt {attempt}", number=number)
            points = self._buffer.write(db)
            changes = {"state": State.PAUSED.value, **self._let_go(study_id, held)}
            self._change(db, study_id, number, "trial_paused", changes, {"result": result, "step": step})
            after = self._one(db, study_id, number)
        self._buffer.forget(points)
        return after

    def resume(
        self, study_id: int, number: int, fidelity: int, *, hold: Hold, action: Mapping[str, Any]
    ) -> TrialRecord:
        """A paused trial runs on, from its own checkpoint, to `fidelity`. `action` as in create_trial.

        Raises StudyMoved when it is not paused any more, BudgetSpent at a cap of `hold`.
        """
        with self._connection.write() as db:
            trial = self._one(db, study_id, number)
            if trial.state is not State.PAUSED:
                raise moved(f"trial {number} is not paused", number=number)
            changes = {"fidelity": fidelity, "resume_from": number}
            return self._hand_out(db, study_id, trial, hold, "trial_resumed", changes, {"action": dict(action)})

    def release(self, study_id: int, number: int) -> TrialRecord:
        """Back to waiting, as its next attempt: for a trial whose process will not come back. Raises StudyMoved when it
        has ended or is paused: then no process holds it."""
        with self._connection.write() as db:
            held = self._held(db, study_id, number)
            trial = held.trial
            if trial.state.finished or trial.state is State.PAUSED:
                raise moved(f"trial {number} does not run: it is {trial.state.value}", number=number)
            changes = {"state": State.WAITING.value, "attempt": trial.attempt + 1}
            changes |= self._let_go(study_id, held, died=True)
            self._change(db, study_id, number, "trial_requeued", changes)
            return self._one(db, study_id, number)

    def next_waiting(
        self, study_id: int, hold: Hold, saved: Callable[[int], bool] = lambda number: False
    ) -> TrialRecord | None:
        """The lowest waiting trial, now running; None when none waits. `saved` tells whether a trial has a checkpoint
        to go on from. Raises BudgetSpent at a cap of `hold`."""
        sql = "SELECT min(number) FROM trials WHERE study = ? AND state = 'waiting'"
        with self._connection.write() as db:
            number = db.execute(sql, [study_id]).fetchone()[0]
            if number is None:
                return None
            trial = self._one(db, study_id, int(number))
            goes_on = trial.resume_from is None and saved(trial.number)
            changes = {"resume_from": trial.number} if goes_on else {}
            return self._hand_out(db, study_id, trial, hold, "trial_changed", changes)

    def _hand_out(
        self,
        db: Any,
        study_id: int,
        trial: TrialRecord,
        hold: Hold,
        kind: str,
        changes: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
    ) -> TrialRecord:
        self._check_time(db, study_id, hold)
        now = self._clock()
        changes = {"state": State.RUNNING.value, "started": now, **changes, **hold_columns(hold, now)}
        self._change(db, study_id, trial.number, kind, changes, facts)
        self._began(study_id, trial.number, trial.attempt)
        return self._one(db, study_id, trial.number)

    def _let_go(self, study_id: int, held: Held, died: bool = False) -> dict[str, Any]:
        return {**owner_columns(None), "beat": None, **self._trained(study_id, held, died)}

    # ------------------------------------------------------------------------------------------------ leases

    def beat(self, study_id: int, numbers: Collection[int]) -> None:
        """A sign of life for trials that runners of this process hold. One that was taken back stays so."""
        me, marks = current_owner(), ", ".join("?" * len(numbers))
        where = f"study = ? AND state = 'running' AND beat IS NOT NULL AND number IN ({marks})"
        with self._connection.write() as db:
            db.execute(
                f"UPDATE trials SET beat = ? WHERE {where} AND owner_host = ? AND owner_pid = ? AND owner_started = ?",
                [self._clock(), study_id, *numbers, me.host, me.pid, me.started],
            )

    def leases(self, study_id: int) -> dict[int, tuple[int, float]]:
        """(attempt, latest sign of life) of each running trial that a runner holds, by number."""
        sql = "SELECT number, attempt, beat FROM trials WHERE study = ? AND state = 'running' AND beat IS NOT NULL"
        with self._connection.read() as db:
            return {number: (attempt, beat) for number, attempt, beat in db.execute(sql, [study_id])}

    def take_back(self, study_id: int, number: int, lease: tuple[int, float], reason: str) -> TrialRecord:
        """A trial whose runner gave no further sign of life than `lease`. Changes nothing where it did since."""
        with self._connection.write() as db:
            sql = (
                "SELECT 1 FROM trials WHERE study = ? AND number = ? AND state = 'running' AND attempt = ? AND beat = ?"
            )
            if db.execute(sql, [study_id, number, *lease]).fetchone():
                self._take_back(db, study_id, self._held(db, study_id, number), reason)
            return self._one(db, study_id, number)

    def died(self, study_id: int, number: int, attempt: int, reason: str) -> TrialRecord:
        """The worker process on this attempt ended without an answer. The trial waits for another, once; the second
        death fails it. Changes nothing where the attempt was taken back already."""
        reason = self._clean.text(reason)
        with self._connection.write() as db:
            held = self._held(db, study_id, number)
            if held.trial.state is State.RUNNING and held.trial.attempt == attempt:
                self._take_back(db, study_id, held, reason)
            return self._one(db, study_id, number)

    def requeue_dead(self, study_id: int) -> list[int]:
        """Numbers of the running trials whose process on this host is gone. They wait for their next attempt; one that
        runners died on twice has failed.

        Calls that dead processes left open are marked abandoned.
        """
        self._abandon_dead_calls()
        sql = "SELECT number, beat, owner_host, owner_boot, owner_pid, owner_started FROM trials"
        sql += " WHERE study = ? AND state = 'running' AND owner_host IS NOT NULL ORDER BY number"
        with self._connection.read() as db:
            if not _dead(db.execute(sql, [study_id])):
                return []
        with self._connection.write() as db:
            dead = _dead(db.execute(sql, [study_id]))
            for number, leased in dead:
                held = self._held(db, study_id, number)
                if leased:
                    self._take_back(db, study_id, held, GONE)
                    continue
                changes = {"state": State.WAITING.value, "attempt": held.trial.attempt + 1}
                changes |= self._let_go(study_id, held, died=True)
                self._change(db, study_id, number, "trial_requeued", changes, {"reason": GONE})
            return [number for number, _ in dead]

    def _take_back(self, db: Any, study_id: int, held: Held, reason: str) -> None:
        trial, deaths = held.trial, held.trial.deaths + 1
        if deaths < DEATHS:
            changes = {"state": State.WAITING.value, "attempt": trial.attempt + 1, "deaths": deaths}
            changes |= self._let_go(study_id, held, died=True)
            self._change(db, study_id, trial.number, "trial_requeued", changes, {"reason": reason})
            return
        error = f"{reason}; an earlier attempt died too"
        facts = {"state": State.FAILED.value, "values": None, "error": error, "attempt": trial.attempt, "step": None}
        self._store_result(db, study_id, held, {**facts, "deaths": deaths}, died=True)

    def _change(
        self,
        db: Any,
        study_id: int,
        number: int,
        kind: str,
        changes: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """New values of columns, and an event that holds them beside `facts`."""
        assignments = ", ".join(f"{column} = :{column}" for column in changes)
        sql = f"UPDATE trials SET {assignments} WHERE study = :study AND number = :number"
        db.execute(sql, {**changes, "study": study_id, "number": number})
        self._event(db, study_id, number, kind, {**changes, **(facts or {})})

    # ------------------------------------------------------------------------------------------------ beside it

    def add_note(self, study_id: int, number: int, text: str) -> None:
        """Something that went wrong beside a trial's training and cost it nothing, in words; `why` shows it."""
        with self._connection.write() as db:
            self._trial_id(db, study_id, number)
            self._event(db, study_id, number, "trial_noted", {"text": self._clean.text(text)})

    def add_verifying_run(self, run: VerifyingRun, study_id: int) -> None:
        """In the events alone: no reader of trials, and so no search, ever sees it."""
        facts = {**asdict(run), "error": None if run.error is None else self._clean.text(run.error)}
        facts["data"] = None if run.data is None else self._clean.text(run.data)
        with self._connection.write() as db:
            self._trial_id(db, study_id, run.number)
            self._event(db, study_id, run.number, VERIFIED, facts)

    def verifying_runs(self, study_id: int) -> list[VerifyingRun]:
        """In the order in which they ended."""
        sql = "SELECT payload FROM events WHERE study = ? AND kind = ? ORDER BY id"
        with self._connection.read() as db:
            stored = [loads(text) for (text,) in db.execute(sql, [study_id, VERIFIED])]
        return [VerifyingRun(**{**one, "values": one["values"] and tuple(one["values"])}) for one in stored]

    def add_resources(self, study_id: int, number: int, attempt: int, taken: Resources) -> None:
        """What the processes of one run took."""
        with self._connection.write() as db:
            row = {
                "trial": self._trial_id(db, study_id, number), "attempt": attempt, "seconds": taken.seconds,
                "cpu": taken.cpu, "memory": taken.memory, "gpu": taken.gpu, "gpu_memory": taken.gpu_memory,
                "created": self._clock(),
            }  # fmt: skip
            self._insert(db, "resources", row)

    def resources(self, study_id: int, numbers: Sequence[int]) -> dict[int, Resources]:
        """Of all runs of each trial together, by number; those of which no run was watched are left out."""
        sql = f"""
        SELECT t.number, sum(r.seconds), sum(r.cpu), max(r.memory),
               sum(r.gpu * r.seconds) / sum(CASE WHEN r.gpu IS NULL THEN 0 ELSE r.seconds END), max(r.gpu_memory)
        FROM trials t JOIN resources r ON r.trial = t.id
        WHERE t.study = ? AND t.number IN ({", ".join("?" * len(numbers))}) GROUP BY t.number
        """
        with self._connection.read() as db:
            return {number: Resources(*facts) for number, *facts in db.execute(sql, [study_id, *numbers])}


def _dead(rows: Any) -> list[tuple[int, bool]]:
    """(number, whether a runner held it) of the trials whose owner is dead."""
    return [(int(number), beat is not None) for number, beat, *owner in rows if is_dead(Owner(*owner))]
