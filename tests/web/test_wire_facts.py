"""What is known of a request in its end, for logs, metrics and traces, as it happened."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Clients, Embedded, Start, Upstream


def site(upstream: Upstream) -> dict[str, Any]:
    dead = f"http://127.0.0.1:{free_port()}"
    return {
        "upstreams": {"main": {"url": upstream.url}, "dead": {"url": dead, "retry": "0s"}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "none"},
            {"path": "/dead", "kind": "api", "upstream": "dead", "session": "none"},
            {"path": "/need", "kind": "api", "upstream": "main", "session": "required"},
        ],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
    }


@pytest.fixture
async def at(sidecar: Start, upstream: Upstream) -> Embedded:
    return await sidecar(site(upstream))


async def lines(at: Embedded, count: int) -> list[dict[str, Any]]:
    """The first lines of requests, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            found = [json.loads(line) for line in at.log.getvalue().splitlines()]
            asked = [line for line in found if line["event"] == "request"]
            if len(asked) >= count:
                return asked
            await asyncio.sleep(0.01)


async def test_a_request_tells_who_asked_and_who_served(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """On an idle connection as on a new one; of the address, what the client cannot choose."""
    one = await client(at.port)
    for _ in range(2):
        assert (await one.get("/a?q=1", "User-Agent: test/1")).status == 200
    for line in await lines(at, 2):
        assert line["upstream"] == "main"
        assert f"http://{line['upstream_address']}" == upstream.url
        assert 0 < line["upstream_ms"] <= line["duration_ms"]
        assert (line["protocol"], line["scheme"]) == ("HTTP/1.1", "http")
        assert (line["user_agent"], line["bytes_in"]) == ("test/1", 0)
        assert line["host"] == "app.example.com"
        assert "retries" not in line


async def test_what_the_sidecar_answers_itself_names_no_upstream(
    at: Embedded, client: Clients
) -> None:
    await (await client(at.port)).get("/need")
    (line,) = await lines(at, 1)
    assert not line.keys() & {"upstream", "upstream_address", "upstream_ms", "upstream_status"}


async def test_an_upstream_that_cannot_be_reached_is_named(at: Embedded, client: Clients) -> None:
    """There was no time that it took."""
    assert (await (await client(at.port)).get("/dead")).status == 502
    (line,) = await lines(at, 1)
    assert line["upstream"] == "dead"
    assert line["upstream_address"] == str(at.sidecar.runtime.pools["dead"].address.servers[0])
    assert "upstream_ms" not in line


@pytest.mark.parametrize("size", [5, 300_000])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_the_bytes_of_a_body_are_counted_without_their_framing(
    at: Embedded, client: Clients, *, size: int, is_chunked: bool
) -> None:
    """In one piece or as a stream."""
    one = await client(at.port)
    body, framing = b"x" * size, f"Content-Length: {size}"
    if is_chunked:
        framing = "Transfer-Encoding: chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    one.send(f"POST /a HTTP/1.1\r\nHost: app.example.com\r\n{framing}\r\n\r\n".encode() + body)
    assert (await one.answer("POST")).status == 200
    (line,) = await lines(at, 1)
    assert line["bytes_in"] == size
    assert 0 < line["upstream_ms"] <= line["duration_ms"]


async def test_a_request_that_was_sent_again_says_so(
    at: Embedded, upstream: Upstream, client: Clients
) -> None:
    """The idle connection had died, so the time is that of the second one."""
    one = await client(at.port)
    assert (await one.get("/first")).status == 200
    upstream.answers(["reset"])
    assert (await one.get("/second")).status == 200
    first, second = await lines(at, 2)
    assert "retries" not in first
    assert second["retries"] == 1
    assert 0 < second["upstream_ms"] <= second["duration_ms"]
