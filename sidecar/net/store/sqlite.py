"""The store in a file: shared by the processes of one machine, and there after a restart."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Final, TypeVar
from urllib.parse import quote

from sidecar.core.errors import StoreUnavailable
from sidecar.net.store.base import (
    BATCH,
    KEPT_MESSAGES,
    LIMIT,
    PING,
    PING_SECONDS,
    Cancel,
    Feed,
    MessageListener,
    Receive,
    Report,
    guarded,
    lifetime,
)
from sidecar.net.store.measured import StoreFill
from sidecar.net.store.wakeup import LocalWakeup, Wakeup

Result = TypeVar("Result")

_POLL: Final = 0.2  # seconds between two looks for messages, where nobody wakes it
_PACE: Final = 0.01  # seconds between two looks at least, however often it is woken
_SWEEP: Final = 10.0  # seconds between two sweeps
_SWEPT: Final = 5000  # entries that a sweep drops at most, so that it is short
_MESSAGE_SECONDS: Final = 3600.0
_VERSION: Final = 1  # of the tables below

_TABLES: Final = (
    "CREATE TABLE sidecar_entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL)",
    "CREATE INDEX sidecar_entries_ends ON sidecar_entries (ends)",
    # AUTOINCREMENT, so that a number never comes again once its message has been swept out.
    "CREATE TABLE sidecar_messages"
    " (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL, sent REAL NOT NULL)",
    f"PRAGMA user_version = {_VERSION}",
)
# Each is one statement, so a transaction of its own: that is what makes it atomic.
_GET: Final = "SELECT value FROM sidecar_entries WHERE key = ? AND ends > ?"
_PUT: Final = (
    "INSERT INTO sidecar_entries (key, value, ends) VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, ends = excluded.ends"
)
_ADD: Final = _PUT + " WHERE sidecar_entries.ends <= ?"
_REPLACE: Final = (
    "UPDATE sidecar_entries SET value = ?, ends = ? WHERE key = ? AND value = ? AND ends > ?"
)
_REMOVE: Final = "DELETE FROM sidecar_entries WHERE key = ? AND ends > ?"
_REMOVE_VALUE: Final = _REMOVE + " AND value = ?"
_PUBLISH: Final = "INSERT INTO sidecar_messages (body, sent) VALUES (?, ?)"
_LATEST: Final = (
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sidecar_messages'), 0)"
)
_OLDEST: Final = "SELECT min(number) FROM sidecar_messages"
_READ: Final = "SELECT number, body FROM sidecar_messages WHERE number > ? ORDER BY number LIMIT ?"
_SWEEP_ENTRIES: Final = (
    "DELETE FROM sidecar_entries WHERE rowid IN"
    " (SELECT rowid FROM sidecar_entries WHERE ends <= ? LIMIT ?)"
)
_SWEEP_MESSAGES: Final = (
    "DELETE FROM sidecar_messages WHERE sent <= ?"
    " OR number <= (SELECT max(number) FROM sidecar_messages) - ?"
)


class SqliteStore:
    """One file, one connection to it, one thread that uses it.

    The thread takes one operation after the other, and an operation whose caller has given up
    before its turn is never done: a late write would undo what others did meanwhile. (That is why
    there is a thread of our own instead of a library that queues calls.)

    Opens the file at the first use, so nothing is open when a process forks.
    """

    def __init__(
        self,
        path: str,
        report: Report,
        *,
        limit: float = LIMIT,
        clock: Callable[[], float] = time.time,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._path = path
        self._limit = limit
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "sidecar-store")
        self._connection: sqlite3.Connection | None = None  # the thread's own
        self._swept = 0.0
        self._size = 0
        self._is_behind = False  # there are more messages than were read
        self._wakeup: Final[Wakeup] = wakeup or LocalWakeup()
        self._woken: Final = asyncio.Event()
        self._unhear: Final = self._wakeup.add(self._woken.set)
        self._feed = Feed(
            beginning=0,
            latest=self._latest,
            read=self._read,
            resume=lambda position: position,
            is_gone=self._is_gone,
            report=report,
        )

    # -- operations -------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        row = await self._run(lambda on: on.execute(_GET, (key, self._clock())).fetchone())
        if row is None:
            return None
        if not isinstance(row[0], bytes):
            raise StoreUnavailable("sqlite: an entry holds something else than bytes")
        return row[0]

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        await self._write(lambda now: (_PUT, (key, value, now + lifetime(seconds))))

    async def put_all(
        self, entries: Mapping[str, bytes], seconds: float, message: bytes | None = None
    ) -> None:
        def write(on: sqlite3.Connection) -> None:
            now = self._clock()
            self._sweep(on, now)
            ends = now + lifetime(seconds)
            on.execute("BEGIN IMMEDIATE")
            on.executemany(_PUT, [(key, value, ends) for key, value in entries.items()])
            if message is not None:
                on.execute(_PUBLISH, (message, now))
            on.execute("COMMIT")

        await self._run(write)
        if message is not None:
            self._wakeup.send()

    async def add(self, key: str, value: bytes, seconds: float) -> bool:
        return await self._write(lambda now: (_ADD, (key, value, now + lifetime(seconds), now)))

    async def replace(self, key: str, old: bytes, new: bytes, seconds: float) -> bool:
        return await self._write(
            lambda now: (_REPLACE, (new, now + lifetime(seconds), key, old, now))
        )

    async def remove(self, key: str, value: bytes | None = None) -> bool:
        if value is None:
            return await self._write(lambda now: (_REMOVE, (key, now)))
        return await self._write(lambda now: (_REMOVE_VALUE, (key, now, value)))

    async def publish(self, message: bytes) -> None:
        await self._write(lambda now: (_PUBLISH, (message, now)))
        self._wakeup.send()

    async def subscribe(self, receive: Receive, listener: MessageListener | None = None) -> Cancel:
        return await self._feed.subscribe(receive, listener)

    async def ping(self) -> None:
        await self.put(PING, b"", PING_SECONDS)

    def fill(self) -> StoreFill:
        """The bytes of its files, as they were at the last sweep."""
        return StoreFill(self._size)

    async def close(self) -> None:
        self._unhear()
        await self._feed.close()
        with suppress(StoreUnavailable):
            async with guarded(self._limit, _explain):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    # -- messages ---------------------------------------------------------------------------------

    async def _latest(self) -> int:
        return int((await self._run(lambda on: on.execute(_LATEST).fetchone()))[0])

    async def _read(self, position: int) -> tuple[int, list[bytes]]:
        if not self._is_behind:
            await asyncio.sleep(_PACE)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await self._woken.wait()
        self._woken.clear()  # before it looks: what comes meanwhile wakes it again

        def look(on: sqlite3.Connection) -> tuple[int, list[tuple[int, bytes]]]:
            rows = on.execute(_READ, (position, BATCH)).fetchall()
            latest = position if rows else on.execute(_LATEST).fetchone()[0]
            return latest, rows

        latest, rows = await self._run(look)
        self._is_behind = len(rows) == BATCH
        if rows:
            return rows[-1][0], [body for _, body in rows]
        # Numbers only grow; if they did not, the file has been replaced by a new one.
        return (position if latest >= position else 0), []

    async def _is_gone(self, position: int) -> bool:
        def look(on: sqlite3.Connection) -> bool:
            (oldest,), (latest,) = on.execute(_OLDEST).fetchone(), on.execute(_LATEST).fetchone()
            return bool(latest > position and (oldest is None or oldest > position + 1))

        return await self._run(look)

    # -- on the thread ----------------------------------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        # A bit less than the caller waits, so that what waits for a lock ends before that.
        end = time.monotonic() + 0.9 * self._limit
        async with guarded(self._limit, _explain):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._work, work, end)

    async def _write(self, statement: Callable[[float], tuple[str, tuple[object, ...]]]) -> bool:
        """Runs what `statement` gives for the current time; whether it changed anything."""

        def write(on: sqlite3.Connection) -> bool:
            now = self._clock()
            self._sweep(on, now)
            return on.execute(*statement(now)).rowcount > 0

        return await self._run(write)

    def _work(self, work: Callable[[sqlite3.Connection], Result], end: float) -> Result:
        try:
            connection = self._connection or self._connect(end)
            connection.execute(f"PRAGMA busy_timeout = {int(1000 * _rest(end))}")
            return work(connection)
        except Exception:
            # The file may be broken, or be another one by now: the next operation opens it anew.
            self._disconnect()
            raise

    def _connect(self, end: float) -> sqlite3.Connection:
        with suppress(FileExistsError):
            # Made without opening it: closing a second descriptor would take away the locks that
            # this process holds on the file (fcntl(2)).
            os.mknod(self._path, 0o600)
        connection = sqlite3.connect(
            f"file:{quote(self._path)}?mode=rw",
            uri=True,
            timeout=_rest(end),
            isolation_level=None,
        )
        try:
            self._prepare(connection, end)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection, end: float) -> None:
        _use_wal(connection, end)
        connection.execute("PRAGMA synchronous = NORMAL")
        if _version(connection) == _VERSION:
            return
        with closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            version = _version(connection)  # another process may have been faster
            if version not in (0, _VERSION):
                raise StoreUnavailable(f"sqlite: tables of version {version}; use another file")
            for statement in _TABLES if version == 0 else ():
                cursor.execute(statement)
            cursor.execute("COMMIT")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # a broken file may not even close well
                connection.close()

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        """Drops what has ended, every now and then."""
        if 0 <= now - self._swept < _SWEEP:
            return
        self._size = _size(self._path)
        dropped = connection.execute(_SWEEP_ENTRIES, (now, _SWEPT)).rowcount
        connection.execute(_SWEEP_MESSAGES, (now - _MESSAGE_SECONDS, KEPT_MESSAGES))
        if dropped < _SWEPT:  # else there is more, for the next write
            self._swept = now


def _use_wal(connection: sqlite3.Connection, end: float) -> None:
    """Switches a new file over.

    Several processes may do that at once, and SQLite does not wait for its lock here.
    """
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # and its subtypes
            if not is_busy or time.monotonic() > end:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise StoreUnavailable("sqlite: no write-ahead log here; use a file on a local disk")
        return


def _rest(end: float) -> float:
    """The seconds left until `end`."""
    return max(0.0, end - time.monotonic())


def _size(path: str) -> int:
    """The bytes of the file and of its log."""
    found = 0
    for one in (path, f"{path}-wal"):
        with suppress(OSError):
            found += os.stat(one).st_size
    return found


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _explain(error: Exception) -> str:
    return f"sqlite: {type(error).__name__}: {error}"
