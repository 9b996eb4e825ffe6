"""Studies: their definition and a summary of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.agent.errors import StudyExists, UnknownStudy
from tunewright.agent.records import StudyRecord
from tunewright.agent.store.base import Base
from tunewright.agent.store.codec import dumps, loads
from tunewright.engines.types import State


@dataclass(frozen=True, slots=True)
class Summary:
    """One study at a glance. `best` is the best value of its first objective among complete trials."""

    study: StudyRecord
    counts: Mapping[State, int]
    best: float | None
    best_number: int | None
    last_activity: float


_COLUMNS = "id, name, space, objectives, seed, config, environment, created"

_BEST = """
SELECT v.value, t.number FROM trials t JOIN "values" v ON v.trial = t.id AND v.objective = 0
WHERE t.study = ? AND t.state = 'complete' ORDER BY v.value {order}, t.number LIMIT 1
"""


class Studies(Base):
    def create_study(
        self,
        name: str,
        *,
        space: Mapping[str, Any],
        objectives: Sequence[Mapping[str, str]],
        seed: int,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> StudyRecord:
        """Raises StudyExists when the name is taken."""
        definition = {
            "space": dict(space),
            "objectives": [dict(objective) for objective in objectives],
            "seed": seed,
            "config": self._clean.tree(config),
            "environment": self._clean.tree(environment),
        }
        with self._connection.write() as db:
            if db.execute("SELECT 1 FROM studies WHERE name = ?", [name]).fetchone():
                raise StudyExists("a study of this name exists", field="study", value=name, fix="resume it or rename")
            texts = {key: value if key == "seed" else dumps(value, key) for key, value in definition.items()}
            row = {"name": name, **texts, "created": self._clock()}
            study_id = self._insert(db, "studies", row)
            self._event(db, study_id, None, "study_created", {"name": name, **definition})
            return self._study(db, study_id)

    def study(self, name: str) -> StudyRecord | None:
        with self._connection.read() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM studies WHERE name = ?", [name]).fetchone()
            return None if row is None else _record(row)

    def studies(self) -> list[StudyRecord]:
        """All of them, oldest first."""
        with self._connection.read() as db:
            return [_record(row) for row in db.execute(f"SELECT {_COLUMNS} FROM studies ORDER BY id")]

    def latest_study(self) -> StudyRecord | None:
        """The one last worked on."""
        with self._connection.read() as db:
            row = db.execute("SELECT study FROM events ORDER BY id DESC LIMIT 1").fetchone()
            return None if row is None else self._study(db, row[0])

    def summaries(self) -> list[Summary]:
        """One per study, oldest first."""
        found = []
        with self._connection.read() as db:
            for study in self.studies():
                counts = self._counts(db, study.id)
                value, number = self._best(db, study.id, study.objectives[0]["direction"] == "maximize")
                latest = "SELECT created FROM events WHERE study = ? ORDER BY id DESC LIMIT 1"
                last = db.execute(latest, [study.id]).fetchone()[0]
                found.append(Summary(study, counts, value, number, last))
        return found

    def update_config(self, study_id: int, config: Mapping[str, Any]) -> StudyRecord:
        return self._redefine(study_id, "config", self._clean.tree(config))

    def update_space(self, study_id: int, space: Mapping[str, Any]) -> StudyRecord:
        """Trials keep their parameters; the event log tells which space each was drawn from."""
        return self._redefine(study_id, "space", dict(space))

    def space_was_edited(self, study_id: int) -> bool:
        sql = "SELECT 1 FROM events WHERE study = ? AND number IS NULL AND kind = 'space_changed' LIMIT 1"
        with self._connection.read() as db:
            return db.execute(sql, [study_id]).fetchone() is not None

    def _redefine(self, study_id: int, column: str, value: Mapping[str, Any]) -> StudyRecord:
        with self._connection.write() as db:
            self._study(db, study_id)
            db.execute(f"UPDATE studies SET {column} = ? WHERE id = ?", [dumps(value, column), study_id])
            self._event(db, study_id, None, f"{column}_changed", {column: value})
            return self._study(db, study_id)

    def _study(self, db: Any, study_id: int) -> StudyRecord:
        row = db.execute(f"SELECT {_COLUMNS} FROM studies WHERE id = ?", [study_id]).fetchone()
        if row is None:
            raise UnknownStudy("there is no such study", field="study", value=study_id, fix="tunewright ls")
        return _record(row)

    def _best(self, db: Any, study_id: int, maximize: bool) -> tuple[float | None, int | None]:
        """(value, number) of the best complete trial; (None, None) without one."""
        row = db.execute(_BEST.format(order="DESC" if maximize else "ASC"), [study_id]).fetchone()
        return (None, None) if row is None else (row[0], row[1])

    def _counts(self, db: Any, study_id: int) -> dict[State, int]:
        """Every state is a key."""
        rows = db.execute("SELECT state, count(*) FROM trials WHERE study = ? GROUP BY state", [study_id])
        found = {State(state): int(count) for state, count in rows}
        return {state: found.get(state, 0) for state in State}


def _record(row: Sequence[Any]) -> StudyRecord:
    study_id, name, space, objectives, seed, config, environment, created = row
    directions = tuple(loads(objectives))
    return StudyRecord(study_id, name, loads(space), directions, seed, loads(config), loads(environment), created)
