"""Training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunewright.agent.records import Curve
from tunewright.agent.store.base import Base
from tunewright.engines.errors import FixArgument

_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Metrics(Base):
    """One value per (trial, metric, step): the last one reported wins, also over an earlier attempt's."""

    def report(self, study_id: int, number: int, step: float, metrics: Mapping[str, float]) -> None:
        """Takes points at once and writes them within about a second, or when 256 wait.

        A value may be NaN or infinite, a step may not. Raises UnknownTrial.
        """
        step = float(step)
        if not math.isfinite(step):
            raise FixArgument("a step is a finite number", field="step", value=step, fix="0, 1, 2, ...")
        for metric in metrics:
            if not _storable(metric):
                raise FixArgument("a metric's name cannot be written as UTF-8", field="metrics", value=metric)
        trial = self._trial_rows.get((study_id, number))
        if trial is None or self._connection.closed:
            with self._connection.read() as db:
                trial = self._trial_rows[study_id, number] = self._trial_id(db, study_id, number)
        self._buffer.add(trial, step, metrics)

    def flush(self) -> None:
        """Writes the reports that wait."""
        self._buffer.flush()

    def curve(self, study_id: int, number: int, metric: str) -> Curve:
        """Empty for a metric that was never reported. Raises UnknownTrial."""
        self.flush()
        with self._connection.read() as db:
            trial = self._trial_id(db, study_id, number)
            sql = "SELECT step, value, kind FROM metrics WHERE trial = ? AND metric = ? ORDER BY step"
            rows = db.execute(sql, [trial, metric]).fetchall()
        values = tuple(_SPECIAL[kind] if kind else value for _, value, kind in rows)
        return Curve(metric, tuple(row[0] for row in rows), values)

    def values_at(self, study_id: int, metric: str, step: float) -> list[float]:
        """The finite values that a study's trials reported at one step."""
        self.flush()
        with self._connection.read() as db:
            sql = "SELECT value FROM metrics WHERE trial = t.id AND metric = ?2 AND step = ?3 AND kind IS NULL"
            rows = db.execute(f"SELECT ({sql}) found FROM trials t WHERE study = ?1", [study_id, metric, step])
            return [value for (value,) in rows if value is not None]

    def metric_names(self, study_id: int, number: int) -> list[str]:
        """In alphabetical order."""
        self.flush()
        with self._connection.read() as db:
            trial = self._trial_id(db, study_id, number)
            rows = db.execute("SELECT DISTINCT metric FROM metrics WHERE trial = ? ORDER BY metric", [trial])
            return [row[0] for row in rows]


def _storable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
