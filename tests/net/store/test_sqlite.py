"""The file in trouble: locked, broken, full, new to several processes at once."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.net.store import sqlite
from sidecar.net.store.base import KEPT_MESSAGES
from sidecar.net.store.sqlite import SqliteStore
from sidecar.net.store.wakeup import LocalWakeup
from tests.net.store.conftest import trouble, until, until_works

if TYPE_CHECKING:
    from sidecar.net.store import Store

LIMIT: Final = 0.6
SLOW: Final = 1.5  # seconds by which a busy machine may be late
ROOT: Final = Path(__file__).parents[3]

Connect = Callable[..., SqliteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sto%re?.db"


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def connect(path: Path, reports: list[str], opened: Callable[[Store], Store]) -> Connect:
    def connect(limit: float = LIMIT, at: Path = path, **more: Any) -> SqliteStore:
        store = SqliteStore(str(at), reports.append, limit=limit, **more)
        opened(store)
        return store

    return connect


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def write(path: Path, position: int, octets: bytes) -> None:
    """Over what is there."""
    with path.open("r+b") as file:
        file.seek(position)
        file.write(octets)


async def test_only_the_owner_may_read(path: Path, connect: Connect) -> None:
    """The file and what SQLite puts beside it."""
    store = connect()
    await store.put("k", b"v", 60)
    files = [path, *path.parent.glob(path.name + "-*")]
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_it_is_there_after_a_restart(connect: Connect) -> None:
    """Entries, and messages are numbered on."""
    first = connect()
    await first.put("k", b"v", 60)
    await first.publish(b"before")
    await first.close()
    second, heard = connect(), list[bytes]()
    await second.subscribe(heard.append)
    assert await second.get("k") == b"v"
    await second.publish(b"after")
    await until(lambda: heard == [b"after"])


async def test_a_message_is_read_at_once_where_it_wakes_the_readers(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it was written; one that comes while others are read as well."""
    monkeypatch.setattr(sqlite, "_POLL", 3600.0)
    wakeup = LocalWakeup()
    first, second, heard = connect(wakeup=wakeup), connect(wakeup=wakeup), list[bytes]()
    await second.subscribe(heard.append)
    await first.publish(b"1")
    await until(lambda: heard == [b"1"])
    await first.put_all({"k": b"v"}, 60, b"2")
    await until(lambda: heard == [b"1", b"2"])
    for number in range(3, 40):
        await first.publish(b"%d" % number)
        await asyncio.sleep(0.001 * (number % 3))
    await until(lambda: len(heard) == 39)
    assert heard == [b"%d" % number for number in range(1, 40)]


async def test_a_place_that_is_none(tmp_path: Path, connect: Connect) -> None:
    """A missing directory, a directory: unavailable, and available once it is there."""
    store = connect(at=tmp_path / "missing" / "store.db")
    assert "No such file" in (await trouble(store.ping())).detail
    (tmp_path / "missing").mkdir()
    await store.ping()
    await trouble(connect(at=tmp_path).ping())


async def test_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    """They race for the switch to the write-ahead log; none sees that."""
    code = (
        "import asyncio, sys\n"
        "from sidecar.net.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    sys.stdin.readline()\n"
        "    for number in range(25):\n"
        "        store = SqliteStore(f'{sys.argv[1]}/{number}.db', print, limit=20.0)\n"
        "        if await store.add('k', b'v', 60):\n"
        "            print(number)\n"
        "        await store.close()\n"
        "asyncio.run(main())\n"
    )
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, str(tmp_path)), cwd=ROOT, stdin=pipe, stdout=pipe
        )
        for _ in range(4)
    ]
    async with asyncio.timeout(60):
        outputs = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * 4
    won = [int(line) for output, _ in outputs for line in output.split()]
    assert sorted(won) == list(range(25))


async def test_locked(path: Path, connect: Connect, reports: list[str]) -> None:
    """Writing fails in time, reading works; and what was given up is never done."""
    store, heard = connect(), list[bytes]()
    await store.subscribe(heard.append)
    await store.put("k", b"v", 60)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.get("k") == b"v"
        await asyncio.gather(
            trouble(store.put("k", b"late", 60), LIMIT + SLOW),
            *(trouble(store.put(f"late{n}", b"late", 60), LIMIT + SLOW) for n in range(20)),
            trouble(store.publish(b"late"), LIMIT + SLOW),
            trouble(store.put_all({"late": b"late"}, 60, b"late"), LIMIT + SLOW),
            trouble(store.ping(), LIMIT + SLOW),
        )
        other.execute("ROLLBACK")
    await until_works(store.ping)
    await asyncio.sleep(2 * LIMIT)
    assert await store.get("k") == b"v"
    assert rows(path, "SELECT key FROM sidecar_entries WHERE key LIKE 'late%'") == []
    await store.publish(b"now")
    await until(lambda: heard == [b"now"])


async def test_broken(path: Path, connect: Connect, reports: list[str]) -> None:
    """Never believed, never taken for empty; a whole file in its place is used at once."""
    writer = connect()
    await writer.put("k", b"v", 60)
    await writer.close()
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    write(path, 0, b"this is no database, and longer than a header is, " * 100)
    store, heard = connect(), list[bytes]()
    await store.subscribe(heard.append)
    assert "not a database" in (await trouble(store.get("k"))).detail
    for operation in (store.put("k", b"w", 60), store.remove("k"), store.ping()):
        await trouble(operation)
    shutil.copy(copy, path)
    assert await store.get("k") == b"v"
    await store.publish(b"m")
    await until(lambda: heard == [b"m"])
    assert [report.split(":")[0] for report in reports] == [
        "messages cannot be read",
        "messages are read again",
    ]


async def test_broken_while_in_use(path: Path, connect: Connect) -> None:
    """Pages overwritten beneath an open connection: trouble or the truth, never something else."""
    store = connect()
    for number in range(50):
        await store.put(f"k{number}", b"v" * 5000, 60)
    await store.close()
    write(path, 4096, b"\xff" * 200_000)
    store = connect()
    for number in range(50):
        await trouble(store.get(f"k{number}"))


async def test_a_file_of_another_version(path: Path, connect: Connect) -> None:
    """Its tables may mean something else."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    assert "version 9" in (await trouble(connect().get("k"))).detail


async def test_an_entry_of_another_type(path: Path, connect: Connect) -> None:
    """Somebody has written into the file: neither absent nor a surprise for the caller."""
    store = connect()
    await store.put("k", b"v", 60)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sidecar_entries SET value = 'text'")
    await trouble(store.get("k"))
    await store.put("k", b"v", 60)
    assert await store.get("k") == b"v"


async def test_the_disk_is_full(connect: Connect) -> None:
    """Writing fails, reading works, and writing does again when there is room."""
    store = connect(2.0)

    async def fill() -> None:
        for number in range(100):
            await store.put(f"large{number}", bytes(16 * 1024), 60)

    await store.put("k", b"v", 60)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, before[1]))
    try:
        error = await trouble(fill())
        assert error.detail.startswith("sqlite: OperationalError")
        assert await store.get("k") == b"v"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await store.put("k", bytes(512 * 1024), 60)
    assert await store.get("k") == bytes(512 * 1024)


async def test_numbers_that_begin_anew(path: Path, connect: Connect) -> None:
    """As in a new file in the place of the old one: messages are heard nevertheless."""
    store, heard = connect(), list[bytes]()
    await store.subscribe(heard.append)
    for number in range(5):
        await store.publish(b"%d" % number)
    await until(lambda: len(heard) == 5)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM sidecar_messages")
        connection.execute("DELETE FROM sqlite_sequence")
    await asyncio.sleep(0.5)  # two looks
    await store.publish(b"new")
    await until(lambda: heard[5:] == [b"new"])


async def test_messages_that_are_gone(
    path: Path, connect: Connect, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More came than are kept while this process did not look: as one that was stopped."""
    monkeypatch.setattr("sidecar.net.store.base.LATE", 0.0)
    gaps: list[bool] = []

    class Trouble:
        def broken(self) -> None:
            raise AssertionError

        def resumed(self, *, has_gap: bool) -> None:
            gaps.append(has_gap)

    store, heard = connect(), list[bytes]()
    await store.subscribe(heard.append, Trouble())
    await store.publish(b"first")
    await until(lambda: heard == [b"first"])
    await asyncio.sleep(0.5)
    assert gaps == []
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO sidecar_messages (body, sent) VALUES (x'00', ?)", [(time.time(),)] * 3
        )
        connection.execute("DELETE FROM sidecar_messages WHERE number < 4")
    await until(lambda: gaps)
    assert gaps == [True]
    assert reports == ["messages are read again; some were lost"]


async def test_what_has_ended_leaves_the_file(path: Path, connect: Connect) -> None:
    """So it does not grow; swept out in portions, while others write."""
    now = 1000.0
    store = connect(5.0, clock=lambda: now)
    await store.ping()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO sidecar_entries VALUES (?, x'00', ?)",
            [(f"old{number}", 1005.0) for number in range(12_000)],
        )
        connection.executemany(
            "INSERT INTO sidecar_messages (body, sent) VALUES (x'00', ?)",
            [(1000.0,)] * (KEPT_MESSAGES + 500),
        )
    now = 1020.0
    for _ in range(3):
        await store.put("k", b"v", 60)
    assert rows(path, "SELECT key FROM sidecar_entries") == [("k",)]
    ((left,),) = rows(path, "SELECT count(*) FROM sidecar_messages")
    assert KEPT_MESSAGES - 1 <= left <= KEPT_MESSAGES
    now = 1000.0 + 3700
    await store.put("k", b"v", 60)
    assert rows(path, "SELECT count(*) FROM sidecar_messages") == [(0,)]


async def test_the_loop_is_not_held_up(path: Path, connect: Connect) -> None:
    """Waiting for a lock happens on a thread."""
    store = connect()
    await store.ping()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(trouble(store.ping()))
        longest = 0.0
        while not waiting.done():
            began = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - began)
        assert longest < LIMIT / 3
        other.execute("ROLLBACK")
    await waiting
