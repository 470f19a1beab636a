"""What clients send that is no request yet has one bound, and those that hold most are cut."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import LineTooLong

from sidecar.web.request_parser import LINE_BYTES, RequestParser
from sidecar.web.turn import Turns
from sidecar.web.unread import Unread

if TYPE_CHECKING:
    from sidecar.web.connection import ClientConnection
    from tests.conftest import Clients, Start, Upstream

CUT = "sidecar_unread_cut_total"
HELD = "sidecar_unread_bytes"
HEAD = "GET /api/x HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> int:
    """A bound that tests reach."""
    monkeypatch.setattr("sidecar.web.unread.BYTES", 200_000)
    monkeypatch.setattr("sidecar.web.unread.FREED", 20_000)
    return 200_000


def test_those_that_hold_most_are_cut_until_a_part_is_free(bound: int) -> None:
    unread = Unread[str]()
    assert not unread.note("large", 90_000)
    assert not unread.note("small", 15_000)
    assert not unread.note("larger", 95_000)
    assert unread.bytes == bound
    assert unread.note("small", 15_001) == ["larger"]
    assert unread.bytes == 105_001


def test_what_has_been_read_counts_no_more() -> None:
    unread = Unread[str]()
    unread.note("a", 500)
    unread.note("b", 70)
    unread.note("a", 0)
    assert unread.bytes == 70
    unread.note("never", 0)
    assert unread.bytes == 70


def parser() -> RequestParser:
    protocol = BaseProtocol(asyncio.get_running_loop())
    made = RequestParser(protocol, asyncio.get_running_loop(), 65536)
    protocol._parser = made  # type: ignore[assignment]
    return made


async def test_tiny_lines_count_as_the_objects_that_they_become() -> None:
    requests = parser()
    assert requests.read_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 200) is None
    assert requests.unread >= 202 * LINE_BYTES
    assert requests.read_head(b"\r\n") is not None
    assert requests.unread == 0


async def test_whole_head_holds_nothing_and_what_is_behind_it_counts() -> None:
    requests = parser()
    assert requests.read_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 999) is not None
    assert requests.unread == 999
    requests.forget_unread()
    assert requests.unread == 0


async def test_trailers_have_a_bound_as_heads_have() -> None:
    """However large the body before them was."""
    requests = parser()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    read = requests.read_head(head + b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
    assert read is not None
    read[1].read_nowait(-1)
    requests.feed_body(b"0\r\n")
    line = b"x" * 30_000 + b": " + b"y" * 30_000 + b"\r\n"
    for number in range(1, 4):
        requests.feed_body(line)
        assert requests.unread >= number * len(line)
    with pytest.raises(LineTooLong):
        requests.feed_body(line)


async def test_chunks_of_a_body_are_read_at_once() -> None:
    requests = parser()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    read = requests.read_head(head)
    assert read is not None
    for _ in range(50):
        requests.feed_body(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        assert requests.unread < 20
        read[1].read_nowait(-1)
    requests.feed_body(b"0\r\n\r\n")
    assert requests.unread == 0


async def test_heads_that_are_not_whole_are_cut_above_the_bound(
    sidecar: Start, upstream: Upstream, client: Clients, bound: int
) -> None:
    """The largest of them; a user whose head comes slowly is served."""
    at = await sidecar()
    slow = await client(at)
    slow.send(HEAD)
    await at.wait_for(lambda metrics: metrics[HELD] > 0)
    strangers = [await client(at) for _ in range(5)]
    for one in strangers:
        one.send(HEAD + "X-Large: " + "x" * 45_000)
    metrics = await at.wait_for(lambda metrics: metrics[CUT] > 0)
    assert metrics[HELD] <= bound
    assert metrics["sidecar_unread_bytes_limit"] > 0
    slow.send("Cookie: access_token=tok\r\n\r\n")
    assert (await slow.answer()).status == 200
    for one in strangers:
        one.close()
    await at.wait_for(lambda metrics: metrics[HELD] == 0)
    assert at.log.getvalue().count("too many bytes unread") == 1


async def test_connection_that_is_cut_holds_nothing_from_then_on(
    sidecar: Start, upstream: Upstream, client: Clients, bound: int
) -> None:
    """Not until the loop tells of its end: in one turn, a thousand others may send as much."""
    at = await sidecar()
    one = await client(at)
    one.send(HEAD + "X-Large: " + "x" * 45_000)
    await at.wait_for(lambda metrics: metrics[HELD] > 45_000)
    server = at.sidecar._server
    connection = next(each for each in server._connections if each._unread)
    server.holds(connection, bound + 1)
    assert connection._requests.unread == 0
    assert server._unread.bytes == 0
    assert await one.broken() == b""


async def test_requests_that_wait_behind_a_slow_one_are_cut_above_the_bound(
    sidecar: Start, upstream: Upstream, client: Clients, bound: int
) -> None:
    """They are pipelined while an upstream hangs; then all that they held is free.

    The log says of the request under way that it was cut, not that its client left.
    """
    upstream.default = ["hang"]
    at = await sidecar()
    strangers = [await client(at) for _ in range(5)]
    for one in strangers:
        one.send(HEAD + "\r\n" + (HEAD + "\r\n") * 1800)
    metrics = await at.wait_for(lambda metrics: metrics[CUT] > 0)
    assert metrics[HELD] <= bound
    for one in strangers:
        one.close()
    await at.wait_for(lambda metrics: metrics[HELD] == 0)
    assert await at.under_way() == {}
    assert '"reason": "too many bytes unread"' in at.log.getvalue()


async def test_refused_head_is_not_kept_while_its_client_still_sends(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A connection that lingers behind its last response holds nothing."""
    at = await sidecar()
    one = await client(at)
    one.send(HEAD + "X-Large: " + "x" * 400_000)
    assert (await one.answer()).status == 431
    one.send("x" * 1000)
    metrics = await at.metrics()
    assert metrics["sidecar_client_connections"] == 1
    assert metrics[HELD] == 0


async def test_section_of_very_many_fields_is_not_remembered(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Its objects take more than its bytes; it is served all the same."""
    at = await sidecar()
    for number, is_kept in ((50, True), (80, False)):
        one = await client(at)
        for _ in range(3):
            assert (await one.get("/a", *[f"X-{at}: {at}" for at in range(number)])).status == 200
        known = [each._known for each in at.sidecar._server._connections if each._known.fields]
        assert any(len(each.fields.raw) >= number for each in known if each.fields) is is_kept
        one.close()


async def test_connection_that_is_cut_is_served_no_more(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would have the response of the request that came together with too much."""
    monkeypatch.setattr("sidecar.web.unread.BYTES", 10_000)
    monkeypatch.setattr("sidecar.web.unread.FREED", 1_000)
    at = await sidecar()
    warm = await client(at)
    assert (await warm.get("/api/warm")).status == 200
    one = await client(at)
    order = "POST /api/order HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    one.send(order + (HEAD + "\r\n") * 1500)  # within one segment
    await at.wait_for(lambda metrics: metrics[CUT] == 1 and metrics[HELD] == 0)
    await one.ends()
    assert (await warm.get("/api/warm")).status == 200
    assert {request.target for request in upstream.requests} == {"/api/warm"}


async def test_connection_whose_next_request_is_put_off_is_not_idle(
    sidecar: Start, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes no room for others: its client waits for a response."""
    ends: list[float] = []
    put_off = Turns.put_off

    def noted(turns: Turns, connection: ClientConnection) -> None:
        put_off(turns, connection)
        ends.append(connection.closes_at)

    monkeypatch.setattr(Turns, "put_off", noted)
    one = await client(await sidecar())
    one.send((HEAD + "\r\n") * 2)
    for _ in range(2):
        assert (await one.answer()).status == 200
    assert ends
    assert set(ends) == {inf}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_client_that_leaves_is_noticed_while_it_is_not_read_from(
    sidecar: Start, upstream: Upstream, client: Clients, *, how: str, at_once: bool
) -> None:
    """T57: what waits behind its request hides its end from the loop."""
    at = await sidecar()
    upstream.default = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "hang"]
    one = await client(at)
    event_stream, *behind = [f"{HEAD}X: {'a' * 60_000}\r\n\r\n" for _ in range(3)]
    one.send(event_stream + "".join(behind) if at_once else event_stream)
    await one.read_head()
    if not at_once:
        one.send("".join(behind))
    await asyncio.sleep(0.05)
    getattr(one, how)()
    async with asyncio.timeout(4):
        await upstream.wires[0].ended.wait()
    assert await at.under_way() == {}


async def test_client_that_is_not_read_from_and_stays_is_served(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar()
    upstream.default = [1.2, upstream.reply(b"1")]
    one = await client(at)
    for _ in range(3):
        one.send(f"{HEAD}X: {'a' * 60_000}\r\n\r\n")
    for _ in range(3):
        assert (await one.answer()).status == 200
