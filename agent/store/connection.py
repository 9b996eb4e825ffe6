"""Opening the file and running transactions. The only module that knows sqlite_utils."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from sqlite_utils import Database, utils

from tunewright.agent.errors import FixDatabasePath, RestoreDatabase, UnlockDatabase, UpgradeSQLite
from tunewright.agent.store import migrations
from tunewright.agent.store.journal import is_local, wal_is_sound

LOCK_SECONDS = 90.0  # longer than a minute's lock, shorter than a lease
ALONE_SECONDS = 5.0  # how long to wait for others to leave a file whose journal must change
BUSY_SECONDS = 0.008  # in which SQLite looks again after 1, 2 and 5 ms, while other threads of this process run
POLL_SECONDS = 0.002
QUICK_CHECK_BYTES = 16 * 2**20  # larger files are checked on demand (Store.integrity), not at each opening


# pysqlite3 where it is installed: its exceptions are not those of the standard library.
sqlite3: Any = utils.sqlite3

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class _Patient(sqlite3.Connection):  # type: ignore[misc]
    """Repeats a statement that another process is in the way of.

    SQLite's own wait soon looks only ten times a second, and a busy writer would starve all others.
    """

    patience: float | None = None  # seconds; None: LOCK_SECONDS

    def execute(self, *arguments: Any) -> Any:
        end = math.inf
        while True:
            try:
                return super().execute(*arguments)
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or (now := time.monotonic()) > end:
                    raise
                if end == math.inf:
                    end = now + (LOCK_SECONDS if self.patience is None else self.patience)
            time.sleep(POLL_SECONDS)


def sqlite_version() -> tuple[int, ...]:
    return tuple(int(part) for part in sqlite3.sqlite_version.split("."))


def open_raw(path: Path, *, write: bool = True) -> Any:
    """SQLite's own connection, for a file that may be damaged: nothing of it is checked or prepared."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={'rw' if write else 'ro'}", uri=True)
    connection.isolation_level = None
    # Half a character that damage left in a text must not end its reading.
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


class Connection:
    """One SQLite connection, shared by the threads of one process and opened anew in a forked child.

    path None keeps everything in memory. Raises FixDatabasePath, RestoreDatabase, UnlockDatabase or UpgradeSQLite.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False):
        # SQLite names the journal after the file that a link points to.
        self.path = None if path is None else path.expanduser().resolve()
        self.read_only = read_only
        self.journal_mode = ""
        self._lock = threading.RLock()
        self._forked = False
        self._file: tuple[int, int] | None = None
        self._database: Database | None = self._open()
        _connections.add(self)

    @contextmanager
    def read(self) -> Iterator[Any]:
        """SQLite's own connection: sqlite_utils looks twice at each statement for a transaction that it opened."""
        with self._lock:
            try:
                yield self._live().conn
            except sqlite3.Error as error:
                self._explain(error)

    @contextmanager
    def write(self) -> Iterator[Any]:
        """One transaction: all of the block or none of it. Do not nest."""
        if self.read_only:
            fix = "open it without read_only"
            raise FixDatabasePath("opened for reading only", field="store", value=str(self.path), fix=fix)
        with self._lock:
            try:
                database = self._live()
                self._check_same_file()
                try:
                    database.conn.execute("BEGIN IMMEDIATE")
                    yield database.conn
                    database.execute("COMMIT")
                except BaseException:
                    database.rollback()
                    raise
            except sqlite3.Error as error:
                self._explain(error)

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None

    @property
    def closed(self) -> bool:
        return self._database is None

    def _live(self) -> Database:
        if self._database is None:
            raise FixDatabasePath("the store is closed", field="store", value=str(self.path), fix="open it again")
        if self._forked:
            if self.path is None:
                fix = 'a file: store="tunewright.db"'
                raise FixDatabasePath("a store in memory stays in the process that made it", field="store", fix=fix)
            self._database, self._forked = self._open(), False
        return self._database

    def before_fork(self) -> None:
        """Waits for a transaction in another thread: a child must not inherit half of one."""
        self._lock.acquire()

    def after_fork(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Drops the inherited connection, whose locks are the parent's but count as held in the child's SQLite.

        Being idle it writes nothing when it closes: the parent's locks keep it from the log.
        """
        self._lock = threading.RLock()
        if self._database is not None and self.path is not None:
            self._database.close()
        self._forked = True

    # ------------------------------------------------------------------------------------------------ opening

    def _open(self) -> Database:
        if sqlite_version() < (3, 37):
            fix = "pip install pysqlite3"
            raise UpgradeSQLite("needs 3.37 or later", field="SQLite", value=sqlite3.sqlite_version, fix=fix)
        if self.path is not None:
            self._check_path(self.path)
        try:
            database = self._connect()
            try:
                self._prepare(database)
            except BaseException:
                database.close()
                raise
            return database
        except sqlite3.Error as error:
            self._explain(error)

    def _check_path(self, path: Path) -> None:
        where: dict[str, Any] = {"field": "store", "value": str(path)}
        if not path.parent.is_dir():
            raise FixDatabasePath("the folder does not exist", **where, fix=f"mkdir -p {path.parent}")
        if path.is_dir():
            raise FixDatabasePath("is a folder", **where, fix=f"a file in it: {path / 'tunewright.db'}")
        if self.read_only and not path.exists():
            raise FixDatabasePath("there is no such file", **where, fix="check the path")
        log = Path(f"{path}-wal")
        if _size(log) and not _size(path):
            # SQLite would take the log for a leftover and delete it.
            fix = f"put the database that belongs to {log.name} back beside it"
            raise RestoreDatabase("the file is gone but its write-ahead log is there", **where, fix=fix)
        if 0 < _size(path) < 512 and not _size(Path(f"{path}-journal")):
            # Smaller than any page: SQLite would take it for empty.
            raise FixDatabasePath("is not an SQLite database", **where, fix="another path")
        if not self.read_only and not os.access(path if path.exists() else path.parent, os.W_OK):
            raise FixDatabasePath("no permission to write", **where, fix="change its permissions, or open it read-only")

    def _connect(self) -> Database:
        address = ":memory:"
        if self.path is not None:
            address = f"{self.path.as_uri()}?mode={'ro' if self.read_only else 'rwc'}"
            if self.read_only and not os.access(self.path.parent, os.W_OK) and not _size(Path(f"{self.path}-wal")):
                address += "&immutable=1"  # even a reader of a log must create its index, which this folder forbids
        connection = sqlite3.connect(
            address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Patient
        )
        # A user's sqlite-utils plugins could change what a statement means here.
        return Database(connection, recursive_triggers=False, execute_plugins=False)

    def _prepare(self, database: Database) -> None:
        if self.path is None:
            database.execute("PRAGMA foreign_keys = ON")
            self.journal_mode = "memory"
            migrations.migrate(database)
            return
        sound, local = wal_is_sound(sqlite_version()), is_local(self.path)
        if not (sound and local):
            self._leave_log(database, sound)
        # FULL, and without a log also the folder is synced: else a power cut could bring an ended journal back.
        database.execute("PRAGMA synchronous = EXTRA")
        database.execute("PRAGMA foreign_keys = ON")
        migrations.check(database, self.path, self.read_only)
        if not self.read_only:
            # Chosen once, when the file is made: a process with an affected library may hold an older file open.
            if sound and local and migrations.is_empty(database):
                database.execute("PRAGMA journal_mode = WAL")
            if migrations.found_version(database) != migrations.VERSION:
                self._migrate(database)
        self.journal_mode = str(database.execute("PRAGMA journal_mode").fetchone()[0])
        if _size(self.path) <= QUICK_CHECK_BYTES:
            problems = [row[0] for row in database.execute("PRAGMA quick_check(1)")]
            if problems != ["ok"]:
                raise self._damaged(problems[0])
        status = os.stat(self.path)
        self._file = (status.st_dev, status.st_ino)

    def _migrate(self, database: Database) -> None:
        """To the current schema, in one transaction, after a copy of an older file was made beside it."""
        try:
            database.execute("BEGIN IMMEDIATE")
            found = migrations.found_version(database)  # another process may have been first
            if 0 < found < migrations.VERSION:
                self._back_up(found)
            migrations.migrate(database)
            database.execute("COMMIT")
        except BaseException:
            database.rollback()
            raise

    def _back_up(self, schema: int) -> None:
        """SQLite's online backup, through a second connection: others may read meanwhile, and nobody can write."""
        assert self.path is not None, "a store in memory is never old"
        target = self.path.with_name(f"{self.path.name}.schema-{schema}")
        partial = target.with_name(f"{target.name}.partial")
        partial.unlink(missing_ok=True)
        with (
            contextlib.closing(open_raw(self.path, write=False)) as old,
            contextlib.closing(sqlite3.connect(str(partial))) as copy,
        ):
            old.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # the copy of a file with a log asks for one too
        os.replace(partial, target)

    def _leave_log(self, database: Database, sound: bool) -> None:
        """Moves a file with a write-ahead log to a rollback journal, safely: only while nobody else has it open."""
        connection: Any = database.conn
        others_log = Path(f"{self.path}-wal").exists()
        try:
            # Exclusive from the first access on: the log's shared index is then never used.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.patience = ALONE_SECONDS if others_log else None
            migrations.is_empty(database)
            connection.patience = None
            if database.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                database.execute("PRAGMA journal_mode = DELETE")
            database.execute("PRAGMA locking_mode = NORMAL")
            migrations.is_empty(database)  # the read that lets the lock go
        except sqlite3.OperationalError as error:
            if not others_log or (not self.read_only and _code(error) not in _LOCKED):
                raise
            facts: dict[str, Any] = {"field": "store", "value": str(self.path), "version": sqlite3.sqlite_version}
            alone = "close it everywhere and open it once for writing"
            if sound:
                message = "a shared disk cannot carry the write-ahead log that this file uses"
                raise UnlockDatabase(message, **facts, fix=alone) from error
            message = "this SQLite has the WAL-reset bug and the file uses that log"
            raise UpgradeSQLite(message, **facts, fix=f"pip install pysqlite3, or {alone}") from error

    def _check_same_file(self) -> None:
        if self.path is None:
            return
        try:
            status = os.stat(self.path)
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._file:
            # What is written to an unlinked file is acknowledged and then lost.
            message, fix = "the file was moved, deleted or replaced", "put it back, or open the study again"
            raise FixDatabasePath(message, field="store", value=str(self.path), fix=fix)

    # ------------------------------------------------------------------------------------------------ errors

    def _explain(self, error: Exception) -> NoReturn:
        """Raises ours for SQLite's error."""
        code = _code(error)
        where: dict[str, Any] = {"field": "store", "value": str(self.path)}
        if code in _LOCKED:
            fix = "end the process that holds it (an open editor, a stopped job), then try again"
            message = f"another process has held the file for {LOCK_SECONDS:.0f} s"
            raise UnlockDatabase(message, **where, fix=fix) from error
        if code == sqlite3.SQLITE_CORRUPT or (code == sqlite3.SQLITE_NOTADB and self._is_ours()):
            raise self._damaged(str(error)) from error
        if code == sqlite3.SQLITE_NOTADB:
            raise FixDatabasePath("is not an SQLite database", **where, fix="another path") from error
        fixes = {
            sqlite3.SQLITE_READONLY: "change the permissions of the file and its folder",
            sqlite3.SQLITE_CANTOPEN: "change the permissions of the file and its folder",
            sqlite3.SQLITE_FULL: "free some space on the disk",
            sqlite3.SQLITE_IOERR: "check the disk",
        }
        if code in fixes:
            raise FixDatabasePath(str(error), **where, fix=fixes[code]) from error
        raise error

    def _damaged(self, detail: str) -> RestoreDatabase:
        fix = "`tunewright db salvage` copies what can still be read to a new file"
        return RestoreDatabase(f"the file is damaged ({detail})", field="store", value=str(self.path), fix=fix)

    def _is_ours(self) -> bool:
        """Whether a file that SQLite refuses still bears our application id (bytes 68 to 71 of its header).

        Never read a sound database so: closing any handle on a file drops all locks this process has on it.
        """
        if self.path is None:
            return False
        with self.path.open("rb") as file:
            return file.read(72)[68:] == migrations.APPLICATION_ID.to_bytes(4, "big")


def _code(error: Exception) -> int:
    """The primary code: the lower byte of SQLite's extended one."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_forking: list[Connection] = []
_one_fork = threading.Lock()  # a second thread that forks meanwhile must not take the first one's list for its own


def _before_fork() -> None:
    _one_fork.acquire()
    _forking[:] = _connections
    for connection in _forking:
        connection.before_fork()


def _after_fork() -> None:
    while _forking:
        _forking.pop().after_fork()
    _one_fork.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()
    _one_fork.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
