"""Processes that listen on one socket each get their share of the connections."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from contextlib import ExitStack, suppress
from io import StringIO
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pytest
import structlog

from sidecar.tls_failure import HandshakeFailure
from sidecar.web import accepting
from sidecar.web.accepting import Acceptor, Arrival, Reception, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.conftest import Upstream


Accept: TypeAlias = "Callable[..., Acceptor]"


class Share:
    """One process's share, told whether it is ahead of the others."""

    def __init__(self, *, is_ahead: bool = False) -> None:
        self.ahead = is_ahead
        self.count = 0
        self.taken = 0
        self.is_joined = False

    def join(self) -> None:
        self.is_joined = True

    def leave(self) -> None:
        self.is_joined = False

    def opened(self) -> None:
        self.count += 1
        self.taken += 1

    def closed(self) -> None:
        self.count -= 1

    def is_ahead(self) -> bool:
        return self.ahead


class Greeter(asyncio.Protocol):
    """Sends a byte, and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        stream.write(b"!")
        stream.close()


class Desk:
    """Greets whoever comes."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self.arrivals: list[Arrival] = []
        self.refusals: list[tuple[Refusal | HandshakeFailure, str, str]] = []
        self.most = 100
        self.rooms = 0

    def reception(self, number: int) -> Reception:
        assert number == 0
        return self._reception

    def protocol(self, arrival: Arrival) -> Greeter:
        self.arrivals.append(arrival)
        return Greeter()

    def most_waiting(self) -> int:
        return self.most

    def made_room(self) -> None:
        self.rooms += 1

    def refused(
        self, number: int, refusal: Refusal | HandshakeFailure, address: str, detail: str
    ) -> None:
        assert number == 0
        self.refusals.append((refusal, address, detail))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


@pytest.fixture
def log() -> StringIO:
    return StringIO()


@pytest.fixture
async def accept(log: StringIO) -> AsyncIterator[Accept]:
    """`accept(socket, share)` begins to accept; all are closed at the end."""
    with ExitStack() as stack:

        def start(
            listener: socket.socket,
            share: Share,
            tls: ssl.SSLContext | None = None,
            desk: Desk | None = None,
        ) -> Acceptor:
            acceptor = Acceptor(
                asyncio.get_running_loop(),
                [[listener]],
                desk or Desk(Reception(tls, 10.0)),
                shares=share,
                log=structlog.wrap_logger(structlog.PrintLogger(log)),
            )
            acceptor.start()
            stack.callback(acceptor.close)
            return acceptor

        yield start


async def greeting(listener: socket.socket) -> bytes:
    """What a new client is told."""
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    async with asyncio.timeout(5):
        said = await reader.read()
    writer.close()
    return said


@pytest.mark.parametrize("turns", range(4))
async def test_connection_that_was_accepted_just_before_the_end_is_served(
    accept: Accept, listener: socket.socket, upstream: Upstream, turns: int
) -> None:
    """However far its beginning is, in turns of the loop that the sidecar runs on."""
    share = Share()
    acceptor = accept(listener, share)
    with socket.create_connection(listener.getsockname(), timeout=5) as client:
        while share.taken == 0:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        acceptor.close()
        assert await asyncio.to_thread(client.recv, 9) == b"!"
        assert await asyncio.to_thread(client.recv, 9) == b""


async def test_who_is_ahead_leaves_connections_to_the_others(
    accept: Accept, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "LEAVE_SECONDS", 0.5)
    ahead, behind = Share(is_ahead=True), Share()
    accept(listener.dup(), ahead)
    accept(listener.dup(), behind)
    for _ in range(5):
        assert await greeting(listener) == b"!"
    assert (ahead.taken, behind.taken) == (0, 5)


async def test_who_is_ahead_takes_what_nobody_takes(
    accept: Accept, listener: socket.socket
) -> None:
    """Where the others are stuck."""
    ahead = Share(is_ahead=True)
    accept(listener.dup(), ahead)
    said = await asyncio.gather(*(greeting(listener) for _ in range(20)))
    assert said == [b"!"] * 20
    assert ahead.taken == 20


async def test_connection_that_never_came_to_be_is_counted_out(
    accept: Accept, listener: socket.socket
) -> None:
    """Here a handshake without a certificate to offer; and it is closed."""
    share = Share()
    accept(listener.dup(), share, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    client = ssl.create_default_context()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(
            *listener.getsockname(), ssl=client, server_hostname="app.example.com"
        )
    async with asyncio.timeout(5):
        while share.count:
            await asyncio.sleep(0.01)
    assert share.taken == 1


async def test_handshake_is_given_up_at_the_end(accept: Accept, listener: socket.socket) -> None:
    """Not before: a client that has connected is about to ask."""
    share = Share()
    acceptor = accept(listener.dup(), share, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    async with asyncio.timeout(5):
        while not share.count:
            await asyncio.sleep(0.01)
        assert share.is_joined
        acceptor.close()
        assert not share.is_joined
        assert acceptor.is_beginning
        await acceptor.give_up()
        assert not acceptor.is_beginning
        assert await reader.read() == b""
    writer.close()
    assert share.count == 0


def for_balancers(seconds: float = 10.0) -> Desk:
    """Whose every peer is believed."""
    return Desk(Reception(None, seconds, lambda _: True))


async def test_header_that_is_still_to_come_is_given_up_at_the_end(
    accept: Accept, listener: socket.socket
) -> None:
    share = Share()
    acceptor = accept(listener.dup(), share, desk=for_balancers())
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"PROXY TCP4 203")
    async with asyncio.timeout(5):
        while not share.count:
            await asyncio.sleep(0.01)
        acceptor.close()
        assert acceptor.is_beginning
        await acceptor.give_up()
        assert not acceptor.is_beginning
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    assert share.count == 0


async def test_header_is_taken_and_nothing_behind_it(
    accept: Accept, listener: socket.socket
) -> None:
    """It names the client before the connection begins."""
    share, desk = Share(), for_balancers()
    accept(listener.dup(), share, desk=desk)
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b"!"
    writer.close()
    assert desk.arrivals == [Arrival("2001:db8::7", b"http", may_be_proxy=True)]
    assert desk.refusals == []


async def test_connections_that_are_refused_are_counted_out(
    accept: Accept, listener: socket.socket
) -> None:
    """For no header, for none in time, and for too many that wait."""
    share, desk = Share(), for_balancers(0.3)
    desk.most = 3
    accept(listener.dup(), share, desk=desk)
    wires = [await asyncio.open_connection(*listener.getsockname()) for _ in range(5)]
    wires[-1][1].write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(5):
        for reader, writer in wires:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        while share.count:
            await asyncio.sleep(0.01)
    assert share.taken == 5
    assert desk.rooms == 2
    told = sorted(refusal for refusal, _, _ in desk.refusals)
    assert told == [Refusal.MALFORMED, Refusal.TIMEOUT, Refusal.TIMEOUT]


async def test_connection_that_is_given_up_before_its_first_step_is_closed(
    accept: Accept, listener: socket.socket
) -> None:
    """Many come at once at the end, more than may wait."""
    share, desk = Share(), for_balancers()
    desk.most = 2
    acceptor = accept(listener.dup(), share, desk=desk)
    wires = [socket.create_connection(listener.getsockname(), timeout=5) for _ in range(6)]
    acceptor.close()
    assert share.count == 6
    await acceptor.give_up()
    assert share.count == 0
    assert desk.rooms == 4
    for wire in wires:
        assert await asyncio.to_thread(wire.recv, 1) == b""
        wire.close()


async def test_who_has_connected_by_the_end_is_accepted(
    accept: Accept, listener: socket.socket
) -> None:
    """The kernel has answered already, so a reset would be a fault in a client's eyes."""
    share = Share()
    acceptor = accept(listener.dup(), share)
    wires = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    acceptor.close()
    assert share.count == 20
    for wire in wires:
        wire.close()
    async with asyncio.timeout(5):
        while acceptor.is_beginning:
            await asyncio.sleep(0.01)


async def test_without_free_files_it_goes_on_later(
    accept: Accept, listener: socket.socket, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so once, with what helps, without turning in circles."""
    monkeypatch.setattr(accepting, "OUT_OF_FILES_SECONDS", 0.05)
    refusals = 2

    class Scarce(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().accept()

    accept(Scarce(fileno=os.dup(listener.fileno())), Share())
    assert await greeting(listener) == b"!"
    assert log.getvalue().count("connections cannot be accepted") == 1
    assert "Too many open files" in log.getvalue()
    assert "ulimit -n" in log.getvalue()
