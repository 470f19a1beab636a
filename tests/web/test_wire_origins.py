"""Origins are compared as browsers do, whatever proxies in front make of Host and scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Received, Start, Upstream

SESSION = "Cookie: access_token=tok"
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def answer(request: Received) -> list[bytes | str]:
    if request.get("Upgrade"):
        return [SWITCH, "close"]
    return [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"]


@pytest.mark.parametrize(
    ("host", "scheme", "origin", "trusted"),
    [
        ("app.example.com", "https", "https://app.example.com", True),
        ("app.example.com:443", "https", "https://app.example.com", True),
        ("app.example.com", "https", "https://app.example.com:443", True),
        ("APP.Example.COM", "https", "https://app.example.com", True),
        ("app.example.com:80", "http", "http://app.example.com", True),
        ("app.example.com", "wss", "https://app.example.com", True),
        ("app.example.com:443", "WSS", "https://app.example.com", True),
        ("app.example.com", "ws", "http://app.example.com", True),
        ("app.example.com:443", "http", "http://app.example.com", False),
        ("app.example.com:80", "https", "https://app.example.com", False),
        ("app.example.com:8443", "https", "https://app.example.com", False),
        ("app.example.com", "ws", "https://app.example.com", False),
        ("app.example.com", "https", "https://evil.example.com", False),
    ],
)
async def test_own_origin_is_known_in_each_spelling(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    host: str,
    scheme: str,
    origin: str,
    trusted: bool,
) -> None:
    """For requests that change something and for handshakes (RFC 6454 5, RFC 9110 4.2.3)."""
    upstream.default = answer  # type: ignore[assignment]
    at = await sidecar(trusted_proxies=["127.0.0.1"])
    fields = [f"Host: {host}", f"X-Forwarded-Proto: {scheme}", f"Origin: {origin}", SESSION]
    posted = await (await client(at)).post("/a", *fields, body=b"{}")
    shaken = await (await client(at)).get("/a", *fields, *HANDSHAKE)
    assert (posted.status, shaken.status) == ((200, 101) if trusted else (403, 403))
    if trusted:
        told = upstream.requests[0].get("X-Forwarded-Proto")
        assert told == origin.partition(":")[0]
