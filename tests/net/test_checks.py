"""Active checks: a server that says that it is not well is left out, before a request finds out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Clients, Embedded, Received, Script, Start

FAST = {"path": "/health?full", "interval": "30ms", "timeout": "10s"}
pytestmark = pytest.mark.usefixtures("upstream")


@pytest.fixture
async def other(upstream: Upstream) -> AsyncIterator[Upstream]:
    """A second server, on the same port of another address."""
    server = Upstream(upstream.port, host="127.0.0.2")
    await server.start()
    yield server
    await server.stop()


def config(url: str, *urls: str, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"urls": [url, *urls], "check": FAST, **more}},
        "routes": [{"path": "/", "kind": "api", "upstream": "main", "session": "optional"}],
    }


class Health:
    """What a server says of itself, beside its ordinary responses."""

    def __init__(self, server: Upstream, script: Script) -> None:
        self.script = script
        server.default = self.answer

    def answer(self, request: Received) -> Script:
        return self.script if "/health" in request.target else Upstream.reply(b"{}")


def served(server: Upstream) -> int:
    """How many requests of clients it has had."""
    return sum("/health" not in request.target for request in server.requests)


def result(at: Embedded, number: int = 0) -> str | None:
    return at.sidecar.runtime.pools["main"].servers()[number].check


WELL, ILL = Upstream.reply(), Upstream.reply(status="503 Service Unavailable")


async def test_server_that_says_it_is_not_well_takes_no_requests(
    sidecar: Start, upstream: Upstream, other: Upstream, client: Clients
) -> None:
    """Until it says that it is. A check is a GET below the base path, on its own connection."""
    health = Health(other, ILL)
    at = await sidecar(config(f"{upstream.url}/base", f"{other.url}/base", host="up.test"))
    await at.wait_for(lambda _: result(at, 1) == "status 503")
    one = await client(at)
    for _ in range(6):
        assert (await one.get("/x")).status == 200
    assert (served(upstream), served(other)) == (6, 0)
    asked = other.requests[0]
    assert (asked.line, asked.get("Host")) == ("GET /base/health?full HTTP/1.1", "up.test")
    health.script = WELL
    await at.wait_for(lambda _: result(at, 1) == "ok")
    for _ in range(6):
        assert (await one.get("/x")).status == 200
    assert (served(upstream), served(other)) == (9, 3)
    log = at.log.getvalue()
    assert "check: status 503" in log
    assert log.count('"server unhealthy"') == log.count('"server healthy"') == 1


async def test_readiness_goes_by_the_check_and_requests_are_served_all_the_same(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """One that is alone is never left out."""
    health = Health(upstream, ILL)
    at = await sidecar(config(upstream.url, ready=True))
    await at.wait_for(lambda _: result(at) == "status 503")
    assert (await at.ask_admin("/readyz")).status == 503
    assert (await (await client(at)).get("/x")).status == 200
    health.script = WELL
    await at.wait_for(lambda _: result(at) == "ok")
    assert (await at.ask_admin("/readyz")).status == 200


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        (b"* OK IMAP\r\n", "the answer is not HTTP/1"),
        (b"x" * 10_000, "the answer is not HTTP/1"),
        ("close", "closed without an answer"),
        ("hang", "no answer within 0.2 s"),
        (Upstream.reply(status="404 Not Found"), "status 404"),
        (Upstream.reply(status="302 Found"), "status 302"),
        (Upstream.reply(status="204 No Content"), "ok"),
    ],
    ids=str,
)
async def test_what_a_check_makes_of_an_answer(
    sidecar: Start, upstream: Upstream, script: Any, trouble: str
) -> None:
    """Only the status line counts, and only `status` is well."""
    Health(upstream, script if isinstance(script, bytes) else [script])
    check = FAST | {"status": "200-299", "timeout": "200ms"}
    at = await sidecar(config(upstream.url, check=check))
    await at.wait_for(lambda _: result(at) == trouble)


async def test_socket_is_checked_and_one_that_is_missing_is_told(
    sidecar: Start, tmp_path: Path
) -> None:
    server = Upstream(socket_path=tmp_path / "app.sock")
    at = await sidecar(config(f"unix:{tmp_path}/app.sock"))
    await at.wait_for(lambda _: result(at) == "no such file or directory")
    await server.start()
    await at.wait_for(lambda _: result(at) == "ok")
    assert server.requests[0].get("Host") == "localhost"
    await server.stop()


async def test_nobody_is_checked_if_that_is_not_configured(
    sidecar: Start, upstream: Upstream
) -> None:
    at = await sidecar(config(upstream.url, check=None))
    await at.metrics()
    assert (upstream.connections, result(at)) == (0, None)
