"""An upstream that takes no connections: a short outage costs time, a long one fails at once."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any, cast

import pytest

from sidecar.core.errors import UpstreamTimeout, UpstreamUnreachable
from sidecar.core.record import replace
from sidecar.net import outage
from sidecar.net.outage import Outage
from sidecar.net.upstream import UpstreamConnection
from tests.net.test_members import ADDRESS

if TYPE_CHECKING:
    from sidecar.net.members import Member
    from tests.conftest import Clients, Embedded, Start, Upstream, Wire

LONG = "60s"


def config(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url, "retry": LONG, **more}},
        "routes": [{"path": "/", "kind": "api", "upstream": "main", "session": "optional"}],
    }


async def in_flight(at: Embedded, count: int) -> None:
    """Waits until so many requests are under way."""
    await at.wait_for(lambda found: found['sidecar_requests_in_flight{kind="api"}'] == count)


class Line:
    """An upstream that is up or not, and how often it was tried."""

    def __init__(self, error: OSError | None) -> None:
        self.error = error
        self.attempts = self.at_once = self.most_at_once = 0
        self.made: list[Made] = []

    async def dial(self, last: Member | None) -> UpstreamConnection:
        self.attempts += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        self.made.append(Made())
        return cast("UpstreamConnection", self.made[-1])


class Made:
    """A connection, as far as it matters here."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def outage_of(line: Line, told: list[str | None] | None = None, retry: float = 60.0) -> Outage:
    loop, hears = asyncio.get_running_loop(), [] if told is None else told
    return Outage(loop, replace(ADDRESS, retry=retry), line.dial, hears.append)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# -- a short one -----------------------------------------------------------------------------------


async def test_restart_within_retry_costs_no_error(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Nothing of the requests has been sent before, so any method may wait; each arrives once."""
    at = await sidecar(config(upstream))
    clients = [await client(at) for _ in range(6)]
    assert (await clients[0].get("/before")).status == 200
    await upstream.stop()
    seen = len(upstream.requests)
    asked = [
        asyncio.create_task(one.ask("POST" if number % 2 else "GET", f"/{number}", body=b"x" * 9))
        for number, one in enumerate(clients)
    ]
    await in_flight(at, 6)
    assert (await at.metrics())['sidecar_upstream_unreachable{upstream="main"}'] == 1
    await upstream.start()
    assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
    assert (await at.metrics())['sidecar_upstream_unreachable{upstream="main"}'] == 0
    assert sorted(one.target for one in upstream.requests[seen:]) == [f"/{n}" for n in range(6)]


async def test_requests_that_wait_share_the_attempts_and_the_first_gets_the_connection() -> None:
    line = Line(ConnectionRefusedError(111, "refused"))
    one = outage_of(line)
    first = asyncio.create_task(one.connect(None))
    await until(lambda: one.since is not None)
    line.most_at_once = 0
    waiting = [first, *(asyncio.create_task(one.connect(None)) for _ in range(50))]
    before = line.attempts
    await until(lambda: line.attempts >= before + 3)
    assert line.most_at_once == 1
    assert not any(task.done() for task in waiting)
    line.error = None
    made = await asyncio.gather(*waiting)
    assert (one.error, one.since) == (None, None)
    assert len(set(map(id, made))) == len(made) == len(line.made)
    assert not any(connection.is_aborted for connection in line.made)


async def test_client_that_leaves_waits_no_longer(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    await upstream.stop()
    at = await sidecar(config(upstream))
    one = await client(at)
    one.send("GET /x HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
    await in_flight(at, 1)
    one.reset()
    await in_flight(at, 0)


async def test_who_leaves_when_it_is_over_leaves_no_connection_behind() -> None:
    """The others are served whoever has left."""
    line = Line(ConnectionRefusedError(111, "refused"))
    one = outage_of(line)
    tasks = [asyncio.create_task(one.connect(None)) for _ in range(3)]
    await until(lambda: one.since is not None and line.attempts > 4)
    line.error = None
    await until(lambda: one.since is None)
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    kept = [connection for connection in done if isinstance(connection, Made)]
    assert len(kept) >= 2
    assert sum(not connection.is_aborted for connection in line.made) == len(kept)


async def test_want_of_descriptors_here_is_told_at_once() -> None:
    """It says nothing about the upstream."""
    line = Line(OSError(errno.EMFILE, "too many open files"))
    one = outage_of(line)
    for _ in range(2):
        with pytest.raises(UpstreamUnreachable):
            await one.connect(None)
    assert (line.attempts, one.since) == (2, None)


async def test_tls_that_fails_is_told_at_once(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Another attempt would not help."""

    async def plain(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await wire.is_left()

    upstream.serve = plain
    at = await sidecar(config(upstream, url=upstream.url.replace("http:", "https:")))
    answer = await (await client(at)).get("/x")
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert "TLS failed: wrong version number" in at.log.getvalue()


async def test_places_of_the_pool_bound_how_many_wait(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The rest is told at once, and leaves the budget to requests to others."""
    await upstream.stop()
    at = await sidecar(config(upstream, pool={"max": 2}, connect="60s"))
    clients = [await client(at) for _ in range(3)]
    waiting = []
    for number, one in enumerate(clients[:2]):
        waiting.append(asyncio.create_task(one.get("/x")))
        await in_flight(at, number + 1)
    answer = await clients[2].get("/x")
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    await upstream.start()
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]


# -- a long one ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(111, "refused"), UpstreamUnreachable),
        (TimeoutError(), UpstreamTimeout),
    ],
)
async def test_requests_fail_at_once_if_it_lasts_and_its_end_is_noticed(
    monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[Exception]
) -> None:
    """No request tries for itself any more, and it is told once that it began and that it ended."""
    monkeypatch.setattr(outage, "DOWN_AFTER", 0.3)
    line, told = Line(error), list[str | None]()
    one = outage_of(line, told, retry=0.3)
    with pytest.raises(kind):
        await one.connect(None)
    await until(lambda: told)
    assert len(told) == 1
    line.most_at_once = 0
    for _ in range(200):
        with pytest.raises(kind):
            await one.connect(None)
    assert line.most_at_once <= 1
    assert line.attempts < 50
    line.error = None
    await until(lambda: one.since is None)
    assert told[1:] == [None]
    assert await one.connect(None) is not None
    await one.close()


async def test_without_retry_each_request_tries_at_first() -> None:
    """Then one attempt for all finds out, as ever."""
    line = Line(ConnectionRefusedError(111, "refused"))
    one = outage_of(line, retry=0.0)
    for number in range(1, 4):
        with pytest.raises(UpstreamUnreachable):
            await one.connect(None)
        assert line.attempts >= number
    line.error = None
    assert await one.connect(None) is not None
    assert one.since is None
    await one.close()


async def test_attempts_end_if_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle process is not woken; whoever comes next tries for himself."""
    monkeypatch.setattr(outage, "FORGET", 0.0)
    line = Line(ConnectionRefusedError(111, "refused"))
    one = outage_of(line, retry=0.2)
    before = asyncio.all_tasks()
    with pytest.raises(UpstreamUnreachable):
        await one.connect(None)
    await until(lambda: asyncio.all_tasks() == before)
    assert one.since is None
    line.error = None
    assert await one.connect(None) is not None


async def test_log_says_once_that_an_upstream_is_down_and_that_it_is_back(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    await upstream.stop()
    at = await sidecar(config(upstream, retry="100ms"))
    one = await client(at)
    async with asyncio.timeout(10):
        while '"upstream unreachable"' not in at.log.getvalue():
            assert (await one.get("/x")).status == 502
        await upstream.start()
        while (await one.get("/x")).status != 200:
            await asyncio.sleep(0.01)
    log = at.log.getvalue()
    assert log.count('"upstream unreachable"') == log.count('"upstream reachable"') == 1
