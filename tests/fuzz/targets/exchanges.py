"""What an upstream writes on a connection is one response, however it is cut; h11 is asked.

Its listener hears of one outcome. A body that was broken off never looks whole, and a connection is
kept only behind a response that ends where its head says, with nothing behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import h11

from sidecar.core.errors import ProxyError, UpstreamProtocolError
from sidecar.core.upstream_head import UpstreamHead
from sidecar.net.members import Member
from sidecar.net.upstream import UpstreamConnection
from sidecar.policy import UpstreamAddress, UpstreamServer
from tests.fuzz.target import Draw, Target

LIMIT: Final = 1024  # bytes of a head
_LOOP: Final = asyncio.new_event_loop()
_SERVER: Final = UpstreamServer("api.internal", 4000)
_ADDRESS: Final = UpstreamAddress(
    name="api",
    servers=(_SERVER,),
    tls=None,
    connect=1e6,
    retry=1e6,
    head=1e6,
    idle=1e6,
    pool_idle=1e6,
    pool_max=1,
    pool_max_age=1e6,
    header_limit=LIMIT,
    ejection=None,
)


class Outcome(NamedTuple):
    """What became of an exchange: a status and a body, whole or broken off; or none of them.

    `is_kept`: the connection was given back to the pool.
    """

    status: int | None
    body: bytes
    is_whole: bool
    is_kept: bool


def check(data: bytes) -> None:
    draw = Draw(data)
    method = draw.pick(("GET", "HEAD"))
    is_awaited, is_reset = draw.byte() % 2 == 1, draw.byte() % 4 == 3
    sizes = [draw.byte() % 32 + 1 for _ in range(4)]
    text = draw.rest()
    whole = _outcome(method, text, [len(text) or 1], is_awaited=is_awaited, is_reset=is_reset)
    for cuts in ([1], sizes):
        cut = _outcome(method, text, cuts, is_awaited=is_awaited, is_reset=is_reset)
        assert _said(whole) == _said(cut), ("the cuts make a difference", whole, cut)
    other = _by_h11(method, text)
    if whole.status is not None and whole.is_whole and other is not None and other.is_whole:
        assert whole[:2] == other[:2], (whole, other)
    if whole.is_kept and other is not None:
        assert other.is_whole, "a connection is kept within a response"
        assert other.is_kept, "a connection is kept with bytes behind a response"


def _said(outcome: Outcome) -> tuple[int | None, bytes] | None:
    """The response; None if it is not whole, whether its head was read or not."""
    return outcome[:2] if outcome.is_whole else None


def _cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class _Pool:
    """Where the connection belongs (`net.upstream.Home`)."""

    address = _ADDRESS
    has_others = False

    def __init__(self) -> None:
        self.is_kept = False

    def put(self, connection: UpstreamConnection) -> None:
        self.is_kept = True

    def forget(self, connection: UpstreamConnection) -> None:
        self.is_kept = False

    def lend(self, connection: UpstreamConnection) -> None:
        pass

    count = lost = lend

    def failed(self, connection: UpstreamConnection, why: str) -> None:
        pass

    def judge(self, connection: UpstreamConnection, status: int) -> None:
        pass


class _Listener:
    """Who waits for the response (`net.upstream.Listener`)."""

    def __init__(self, *, is_awaited: bool) -> None:
        self.is_awaited = is_awaited
        self.outcomes: list[tuple[UpstreamConnection | None, int | None, bytes]] = []

    def wants_whole(self, head: UpstreamHead, length: int) -> bool:
        return self.is_awaited

    def on_interim(self, message: Any) -> None:
        assert not self.outcomes

    def on_answer(self, answer: UpstreamConnection) -> None:
        self.outcomes.append((answer, answer.message.code, b""))

    def on_whole_answer(self, head: UpstreamHead, body: bytes) -> None:
        self.outcomes.append((None, head.status, body))

    def on_failure(self, error: ProxyError, *, untouched: bool) -> None:
        self.outcomes.append((None, None, b""))


def _outcome(
    method: str, text: bytes, sizes: list[int], *, is_awaited: bool, is_reset: bool
) -> Outcome:
    pool, transport = _Pool(), _Transport()
    listener = _Listener(is_awaited=is_awaited)
    connection = UpstreamConnection(_LOOP, pool, Member(_SERVER))
    connection.connection_made(transport)
    connection.send(b"", listener, expects_body=method == "GET")
    is_released = False
    for piece in _cut(text, sizes):
        if transport.is_aborted:
            break
        connection.data_received(piece)
        if not is_released and _is_here(listener):
            is_released = True
            found = _read(listener)
            connection.release()
    if not is_released:
        if not transport.is_aborted:
            connection.connection_lost(ConnectionResetError() if is_reset else None)
        assert len(listener.outcomes) == 1, listener.outcomes
        found = _read(listener)
    assert len(listener.outcomes) == 1, listener.outcomes
    is_kept = pool.is_kept and not transport.is_aborted
    connection.abort()
    _LOOP.call_soon(_LOOP.stop)
    _LOOP.run_forever()
    return Outcome(*found, is_kept)


def _is_here(listener: _Listener) -> bool:
    """Whether a response is here to its end."""
    if not listener.outcomes:
        return False
    answer = listener.outcomes[0][0]
    return answer is None or (answer.is_whole and answer.payload.exception() is None)


def _read(listener: _Listener) -> tuple[int | None, bytes, bool]:
    answer, status, body = listener.outcomes[0]
    if answer is None:
        return status, body, status is not None
    try:
        UpstreamHead(answer.message.code, answer.message.raw_headers, answer.message.reason)
    except UpstreamProtocolError:
        return None, b"", False  # as whoever listens has it
    if answer.upgraded_tail is not None:
        return status, b"", False
    error = answer.payload.exception()
    is_whole = error is None and answer.payload.is_eof()
    return status, answer.take_body() if is_whole else b"", is_whole


def _by_h11(method: str, text: bytes) -> Outcome | None:
    """The response by h11, before the connection ends; None if it refuses it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=65536)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    body, status = b"", None
    try:
        connection.receive_data(text)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and status is not None:
                is_clean = not connection.trailing_data[0].strip(b"\r\n")  # empty lines say nothing
                return Outcome(status, body, True, is_clean)
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return Outcome(status, body, False, False)
    except h11.RemoteProtocolError:
        return None


_START: Final = b"\0\1\0\7\3\2\1"
TARGET: Final = Target(
    check,
    words=[
        *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"200 OK\r\n", b"204 No Content\r\n", b"304 N\r\n"),
        *(b"100 Continue\r\n\r\n", b"103 Early Hints\r\n", b"101 S\r\nUpgrade: websocket\r\n"),
        *(b"Connection: close\r\n", b"Connection: Upgrade\r\n", b"Keep-Alive: timeout=5\r\n"),
        *(b"Content-Length: 2\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n"),
        *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"2\r\nab\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n"),
        *(b"1;a=b\r\n", b"00000002\r\n", b"fffffffffffffffff\r\n", b"+1", b"0x1", b" ", b"\t"),
        *(b"Trailer: A\r\n", b"Date: x\r\n", b"X: y\r\n", b"Set-Cookie: a=b\r\n", b"\0", b"\xff"),
    ],
    seeds=[
        _START + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
        _START + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n",
        _START + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        _START
        + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n",
        _START
        + b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        _START + b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"\1" + _START[1:] + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        _START + b"HTTP/1.1 204 No Content\r\n\r\n",
        _START + b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"\0\0\3" + _START[3:] + b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ncut off",
    ],
    longest=1536,
)
