"""A store's file as SQLite alone sees it."""

from __future__ import annotations

from typing import Any

from sqlite_utils.utils import sqlite3


def raw(path, statement) -> list[Any]:
    database = sqlite3.connect(str(path))
    found = database.execute(statement).fetchall()
    database.commit()
    database.close()
    return found
