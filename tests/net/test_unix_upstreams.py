"""Upstreams on Unix sockets are served as those on TCP are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.conftest import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conftest import Client, Clients, Start


@pytest.fixture
async def on_socket(tmp_path: Path) -> AsyncIterator[Upstream]:
    """A server that listens on a Unix socket."""
    server = Upstream(socket_path=tmp_path / "app.sock")
    await server.start()
    yield server
    await server.stop()


def site(upstream: dict[str, Any], **route: str) -> dict[str, Any]:
    basis = {"path": "/", "kind": "api", "upstream": "main", "session": "optional"}
    return {"upstreams": {"main": upstream}, "routes": [basis | route]}


Serve: TypeAlias = "Callable[..., Awaitable[Client]]"


@pytest.fixture
def serving(sidecar: Start, client: Clients) -> Serve:
    """A client of a sidecar with that upstream."""

    async def start(upstream: dict[str, Any], **route: str) -> Client:
        return await client(await sidecar(site(upstream, **route)))

    return start


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    ("keys", "location", "host"),
    [
        ({"kind": "api"}, "http://localhost/base/y", "localhost"),
        ({"kind": "api", "host": "up.test"}, "http://up.test/base/y", "up.test"),
        ({"kind": "page"}, "/base/y", "app.example.com"),
    ],
)
async def test_socket_with_a_base_path_serves(
    serving: Serve, on_socket: Upstream, keys: Any, location: str, host: str
) -> None:
    """An API is sent the Host localhost, and what it says of that is mapped back."""
    one = await serving({"url": f"{on_socket.url}:/base"}, **keys)
    on_socket.answers(on_socket.reply(b"", f"Location: {location}", status="302 Found"))
    assert (await one.get("/x")).get("Location") == "/y"
    assert (await one.post("/x?q", body=b"1234")).status == 200
    assert (on_socket.last.target, on_socket.last.get("Host")) == ("/base/x?q", host)
    assert on_socket.connections == 1


@pytest.mark.usefixtures("upstream")
async def test_socket_that_is_missing_is_passed_over_or_told(
    sidecar: Start, on_socket: Upstream, client: Clients
) -> None:
    """The log has the cause and the socket's path."""
    missing = f"{on_socket.url}.missing"
    at = await sidecar(site({"urls": [missing, on_socket.url], "ready": True}))
    assert (await at.ask_admin("/readyz")).status == 200
    one = await client(at)
    assert [(await one.get("/x")).status for _ in range(4)] == [200] * 4
    at = await sidecar(site({"url": missing, "ready": True, "retry": "0s"}))
    assert (await at.ask_admin("/readyz")).status == 503
    answer = await (await client(at)).get("/x")
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert f'"address": "{missing}"' in at.log.getvalue()
    assert "no such file or directory" in at.log.getvalue()
