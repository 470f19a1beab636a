"""Requests of the sidecar's own: time limits are those of the server, not of this process."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import pytest
import uvloop

from sidecar.net import http_client
from sidecar.net.http_client import HttpClient
from sidecar.net.outbound_answer import OutboundAnswer, Unreachable
from tests.loops import busy

Value = TypeVar("Value")

LIMIT = 0.2
TURN = 0.3  # seconds that a turn of a busy loop lasts, longer than any limit
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

NewLoop = Callable[[], asyncio.AbstractEventLoop]
on_both = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@contextmanager
def server(*, answers: bool = True, accepts: bool = True) -> Iterator[str]:
    """A server in threads of its own, which is quick whatever the loop of the test does."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=8 if accepts else 0)
    held: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(65536)
            if answers:
                connection.sendall(ANSWER)
                connection.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                held.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    port = listening.getsockname()[1]
    if accepts:
        threading.Thread(target=accept, daemon=True).start()
    else:
        while not _is_full(port):  # its queue
            held.append(socket.socket())
            held[-1].setblocking(False)
            held[-1].connect_ex(("127.0.0.1", port))
    try:
        yield f"http://127.0.0.1:{port}/token"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for one in held:
            one.close()


def _is_full(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def run(new_loop: NewLoop, work: Callable[[HttpClient], Awaitable[Value]], *, turn: float) -> Value:
    """Runs it on a loop each of whose turns lasts that long."""

    async def main() -> Value:
        asking = HttpClient(None, lambda _: None)
        try:
            async with busy(turn):
                return await work(asking)
        finally:
            await asking.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


@on_both
def test_quick_answer_is_in_time_though_each_turn_is_longer_than_the_limit(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has connected and answered at once: it was this process that did not look."""
    monkeypatch.setattr(http_client, "CONNECT", LIMIT)

    async def ask(asking: HttpClient) -> OutboundAnswer:
        return await asking.ask("POST", url, LIMIT, {}, b"grant_type=refresh_token")

    with server() as url:
        answer = run(new_loop, ask, turn=TURN)
    assert (answer.status, answer.body) == (200, b"{}")


@on_both
@pytest.mark.parametrize("turn", [0.0, 0.05])
def test_silent_server_is_found_on_an_idle_loop_and_on_a_busy_one(
    new_loop: NewLoop, turn: float
) -> None:
    """The request may have arrived."""

    async def ask(asking: HttpClient) -> None:
        await asking.ask("POST", url, LIMIT, {}, b"x")

    with server(answers=False) as url, pytest.raises(Unreachable, match=r"out after 0\.2 s") as got:
        run(new_loop, ask, turn=turn)
    assert (got.value.sent, got.value.is_ours) == (True, False)


def test_server_that_takes_no_connection_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, whichever limit is the shorter one."""
    monkeypatch.setattr(http_client, "CONNECT", LIMIT)

    async def ask(asking: HttpClient) -> list[bool]:
        return [await _is_sent(asking, url, limit) for limit in (LIMIT / 2, LIMIT, 10 * LIMIT)]

    with server(accepts=False) as url:
        assert run(uvloop.new_event_loop, ask, turn=0.0) == [False, False, False]


async def _is_sent(asking: HttpClient, url: str, limit: float) -> bool:
    with pytest.raises(Unreachable, match="no connection, timed out after") as got:
        await asking.ask("GET", url, limit, None, None)
    assert not got.value.is_ours
    return got.value.sent


async def test_wait_for_a_place_is_no_time_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request in the queue here was never sent, and its failure says nothing of the server."""
    monkeypatch.setattr(http_client, "CONNECTIONS", 1)
    asking = HttpClient(None, lambda _: None)
    with server(answers=False) as hanging, server() as url:
        first = asyncio.create_task(asking.ask("GET", hanging, 60, None, None))
        while not asking._places.locked():
            await asyncio.sleep(0)
        with pytest.raises(Unreachable, match="all 1 connections stayed busy") as got:
            await asking.ask("GET", url, 0.05, None, None)
        assert (got.value.sent, got.value.is_ours) == (False, True)
        waiting = asyncio.create_task(asking.ask("GET", url, 60, None, None))
        await asyncio.sleep(0)
        first.cancel()
        assert (await waiting).status == 200
    await asking.close()


async def test_want_of_descriptors_is_no_fault_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor of memory: it has not been asked."""

    async def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", none_left)
    asking = HttpClient(None, lambda _: None)
    with pytest.raises(Unreachable) as got:
        await asking.ask("GET", "http://127.0.0.1:9/", 5, None, None)
    assert (got.value.sent, got.value.is_ours) == (False, True)
    await asking.close()
