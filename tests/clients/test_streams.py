"""Socket.IO and tus: what begins as requests and goes on, or comes in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Play
    from tests.conftest import Clients, Start


async def test_socket_io_upgrades_and_ends_with_its_session(
    play: Play, sidecar: Start, client: Clients
) -> None:
    """Polling first, then a WebSocket; at the logout it is closed, and not let in again."""
    script = await play("socket-io.mjs")
    at = await sidecar(
        upstreams=script.upstreams,
        routes=[
            {
                "path": "/socket.io/",
                "kind": "api",
                "upstream": "main",
                "on_unauthorized": "envelope",
            }
        ],
    )
    origin = f"http://127.0.0.1:{at.port}"
    given = {"url": origin, "cookie": "access_token=tok", "origin": origin}
    told = await script.do("connect", **given)
    assert told == {"transports": ["polling", "websocket"], "token": "tok"}

    own = [f"Host: 127.0.0.1:{at.port}", f"Origin: {origin}", "Sec-Fetch-Site: same-origin"]
    logout = await (await client(at)).post("/api/logout", "Cookie: access_token=tok", *own)
    assert logout.status == 200
    assert await script.do("ending") == {"reason": "transport close", "status": 401}


@pytest.mark.parametrize("override", [False, True])
async def test_tus_upload_is_resumed(play: Play, sidecar: Start, *, override: bool) -> None:
    """Its Location leads through the sidecar; each piece has the token, by either method."""
    script = await play("tus.mjs")
    at = await sidecar(
        upstreams=script.upstreams,
        routes=[{"path": "/api/", "kind": "api", "upstream": "main", "strip": "/api"}],
    )
    site = f"http://127.0.0.1:{at.port}"
    given = {"url": f"{site}/api/files", "cookie": "access_token=tok", "override": override}
    told = await script.do("resume", **given)
    assert told["whole"]
    assert told["where"].startswith(f"{site}/api/files/")
    piece = ["POST", "PATCH", "tok"] if override else ["PATCH", None, "tok"]
    begun, *rest = told["seen"]
    assert begun == ["POST", None, "tok"]
    assert rest.count(["HEAD", None, "tok"]) == 1
    assert rest.count(piece) == len(rest) - 1 == 5
