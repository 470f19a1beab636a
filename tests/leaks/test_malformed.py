"""Bytes that are refused may hold secrets: their causes are told without them (T46)."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from tests.conftest import PATIENCE
from tests.leaks.canaries import Sought, canary
from tests.leaks.site import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Client, Clients, Start, Upstream

HEAD: Final = b"GET /x?q=CANARY HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
REQUESTS: Final = {
    "NUL in a cookie": HEAD + b"Cookie: a=CANARY\x00\r\n\r\n",
    "field name": HEAD + b"Coo kie: a=CANARY\r\n\r\n",
    "no colon": HEAD + b"CANARY\r\n\r\n",
    "folded line": HEAD + b"Cookie: a=b;\r\n c=CANARY\r\n\r\n",
    "bare CR": HEAD + b"Cookie: a=CANARY\rb\r\n\r\n",
    "version": b"GET /x?q=CANARY HTTP/9.9\r\nHost: a\r\n\r\n",
    "no version": b"GET /x?q=CANARY\r\n\r\n",
    "control in the query": b"GET /x?q=CANARY\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /x?q=CANARY#f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "user in the target": b"GET http://u:CANARY@a/x HTTP/1.0\r\nHost: a\r\n\r\n",
    "two hosts": HEAD + b"Host: b\r\nCookie: a=CANARY\r\n\r\n",
    "length": HEAD + b"Content-Length: CANARY\r\n\r\n",
    "coding": HEAD + b"Transfer-Encoding: CANARY\r\n\r\n",
    "expectation": HEAD + b"Expect: CANARY\r\n\r\n",
    "two authorizations": HEAD + b"Authorization: CANARY\r\nAuthorization: b\r\n\r\n",
    "too long": HEAD + b"Cookie: a=CANARY" + b"x" * 70_000 + b"\r\n\r\n",
    "too many": HEAD + b"Cookie: " + b"CANARY=CANARY; " * 1001 + b"\r\n\r\n",
    "chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nCANARY\r\n",
    "chunk extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;CANARY\x00\r\na\r\n",
    "trailer": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nCANARY\r\n\r\n",
    "handshake": HEAD.replace(b"close", b"upgrade") + b"Upgrade: websocket\r\n"
    b"Sec-WebSocket-Key: CANARY\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "origin": b"POST" + HEAD[3:] + b"Cookie: access_token=CANARY\r\nOrigin: https://e\r\n"
    b"Content-Length: 0\r\n\r\n",
}
OK: Final = b"HTTP/1.1 200 OK\r\n"
JSON: Final = OK + b"Content-Type: application/json\r\n"
RESPONSES: Final = {
    "nothing of HTTP": b"CANARY\r\n\r\n",
    "reason": b"HTTP/1.1 200 CANARY\x00\r\n\r\n",
    "status": b"HTTP/1.1 CANARY OK\r\n\r\n",
    "version": b"HTTP/9.CANARY 200 OK\r\n\r\n",
    "NUL in a cookie": OK + b"Set-Cookie: a=CANARY\x00\r\n\r\n",
    "field name": OK + b"Set Cookie: a=CANARY\r\n\r\n",
    "no colon": OK + b"CANARY\r\n\r\n",
    "length": OK + b"Content-Length: CANARY\r\n\r\n",
    "two lengths": OK + b"X: CANARY\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "coding": OK + b"Transfer-Encoding: CANARY\r\n\r\n",
    "two places": OK + b"Location: /CANARY\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
    "too long": OK + b"Set-Cookie: a=CANARY" + b"x" * 300_000 + b"\r\n\r\n",
    "chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nCANARY\r\n",
    "upgrade": b"HTTP/1.1 101 CANARY\r\nUpgrade: CANARY\r\n\r\n",
    "no gzip": JSON + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\nCANARYCANARYCANARY12",
    "other coding": JSON + b"Content-Encoding: CANARY\r\nContent-Length: 2\r\n\r\n{}",
    "charset": OK
    + b"Content-Type: application/json; charset=CANARY\r\nContent-Length: 1\r\n\r\n\xff",
    "JSON": JSON + b'Content-Length: 11\r\n\r\n{"CANARY":x',
    "number": JSON + b"Content-Length: 12\r\n\r\n[1,CANARY,2]",
    "string": JSON + b'Content-Length: 10\r\n\r\n"\x01CANARY" ',
    "UTF-8": JSON + b'Content-Length: 9\r\n\r\n"CANARY\xff"',
    "broken off": JSON + b'Content-Length: 99\r\n\r\n{"a":"CANARY',
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_refused_request_is_told_without_its_secrets(
    sidecar: Start, upstream: Upstream, client: Clients, name: str
) -> None:
    secret = canary("client")
    at = await sidecar(site(upstream))
    one = await client(at)
    answered = await all_of(one, REQUESTS[name].replace(b"CANARY", secret.encode()))
    assert not Sought(name, secret).context(answered)
    told = [json.loads(line) for line in at.log.getvalue().splitlines()]
    assert any(line["event"] == "request" for line in told)
    assert not Sought(name, secret).context(at.log.getvalue().encode())


async def test_refused_request_to_the_admin_listener_is_its_clients_business(
    tmp_path: Path,
) -> None:
    """It is neither a defect, nor is a byte of it in the log."""
    secret = canary("client")
    async with running(tmp_path, {"upstream": "http://127.0.0.1:1"}) as one:
        for data in (*REQUESTS.values(), b"\x16\x03\x01CANARY\r\n\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", one.admin)
            writer.write(data.replace(b"CANARY", secret.encode()))
            with suppress(ConnectionError):
                writer.write_eof()
                await writer.drain()
            writer.close()
        await one.ask_admin("/healthz")  # once it has come to this, it has read them
        assert one.process is not None
        one.process.terminate()
        await one.process.wait()
        said = one.log.read_bytes()
    told = [json.loads(line) for line in said.splitlines()]
    assert {line["event"] for line in told}.isdisjoint(("defect", "library"))
    assert not Sought("client", secret).context(said)


@pytest.mark.parametrize("kind", ["api", "page"])
@pytest.mark.parametrize("name", RESPONSES)
async def test_refused_response_is_told_without_its_secrets(
    sidecar: Start, upstream: Upstream, client: Clients, name: str, kind: str
) -> None:
    """What passes all the same is the client's own."""
    secret = canary("upstream")
    script = RESPONSES[name].replace(b"CANARY", secret.encode())
    at = await sidecar(site(upstream, kind=kind))
    upstream.answers([script, "close"], [script, "close"])
    one = await client(at)
    answered = await all_of(one, HEAD + b"\r\n")
    if answered.startswith((b"HTTP/1.1 502", b"HTTP/1.1 504")):
        assert not Sought(name, secret).context(answered)
    told = [json.loads(line) for line in at.log.getvalue().splitlines()]
    assert any(line["event"] == "request" for line in told)
    assert not Sought(name, secret).context(at.log.getvalue().encode())


async def all_of(one: Client, data: bytes) -> bytes:
    """What comes until the connection ends, however it does."""
    one.send(data)
    answered = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            while more := await one.reader.read(1 << 16):
                answered += more
    return answered


def site(upstream: Upstream, kind: str = "api") -> dict[str, object]:
    return {
        "upstreams": {"main": {"url": upstream.url, "retry": "0s"}},
        "routes": [{"path": "/", "kind": kind, "upstream": "main", "session": "optional"}],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
        "log": {"level": "debug"},
    }
