"""JSON that is relayed as it comes, and what its rules see before the head leaves."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Client, Clients, Start, Step, Upstream

SESSION = "Cookie: access_token=tok"
OVER = b'{"errors":[{"message":"no"},{"extensions":{"code":"UNAUTHENTICATED"}}],"data":null}'
FINE = b'{"data":{"me":1},"text":"' + b"x" * 500 + b'"}'
CHUNKED = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bTransfer-Encoding: chunked\r\n\r\n"


def site(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """An API whose answers are not wrapped, with a rule on their bodies."""
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [{"path": "/a", "kind": "api", "upstream": "main", "envelope": False}],
        "unauthorized": {
            "match": [{"path": "errors.*.extensions.code", "equals": "UNAUTHENTICATED"}]
        },
        **more,
    }


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def coded(body: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(body)
    return zlib.compress(body) if coding == "deflate" else body


async def ask(one: Client) -> None:
    one.send(f"GET /a HTTP/1.1\r\nHost: app.example.com\r\n{SESSION}\r\n\r\n")


@pytest.mark.parametrize("kind", ["application/json", "application/graphql-response+json"])
async def test_json_that_streams_is_relayed_as_it_comes(
    sidecar: Start, upstream: Upstream, client: Clients, kind: str
) -> None:
    """tRPC types its lines application/json: the first one leaves before the last one exists."""
    head = CHUNKED.replace(b"application/json", kind.encode()) % (b"200 OK", b"")
    upstream.default = [
        head + chunk(b'{"0":1}\n'), 0.3, chunk(b'[1,"slow"]\n'), 0.3, b"0\r\n\r\n",
    ]  # fmt: skip
    one = await client(await sidecar(site(upstream)))
    await ask(one)
    async with asyncio.timeout(0.25):
        await one.read_head()
        assert await one.reader.readuntil(b"}\n\r\n") == chunk(b'{"0":1}\n')
    assert await one.rest_of_chunks() == b'[1,"slow"]\n'


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/plain", "application/stream+json"])
@pytest.mark.parametrize("envelope", [True, False])
async def test_head_of_a_stream_does_not_wait_for_its_body(
    sidecar: Start, upstream: Upstream, client: Clients, kind: str, envelope: bool
) -> None:
    head = CHUNKED.replace(b"application/json", kind.encode()) % (b"200 OK", b"")
    upstream.default = [head, 0.4, chunk(b"line\n") + b"0\r\n\r\n"]
    route = {"path": "/a", "kind": "api", "upstream": "main", "envelope": envelope}
    one = await client(await sidecar(site(upstream, routes=[route])))
    await ask(one)
    async with asyncio.timeout(0.3):
        line, _, _ = await one.read_head()
    assert line == b"HTTP/1.1 200 OK"
    assert await one.rest_of_chunks() == b"line\n"


@pytest.mark.parametrize("kind", ["Content-Type: text/plain\r\n", ""])
async def test_empty_success_is_still_an_envelope(
    sidecar: Start, upstream: Upstream, client: Clients, kind: str
) -> None:
    """One that names no type may say late that it is empty: it is no stream."""
    head = f"HTTP/1.1 200 OK\r\n{kind}Transfer-Encoding: chunked\r\n\r\n".encode()
    upstream.default = [head, 0.01 if kind else 0.2, b"0\r\n\r\n"]
    answer = await (await client(await sidecar())).get("/a")
    assert answer.json["data"] is None


@pytest.mark.parametrize("coding", ["", "gzip", "deflate", "utf-8"])
@pytest.mark.parametrize("way", ["whole", "length", "chunked", "begun"])
@pytest.mark.parametrize("is_over", [True, False])
async def test_rules_see_what_is_here_decoded(
    sidecar: Start, upstream: Upstream, client: Clients, *, coding: str, way: str, is_over: bool
) -> None:
    """However it arrives: in one piece, slowly with a length, in chunks, or not to its end yet."""
    body = coded(OVER if is_over else FINE, coding)
    line = f"Content-Encoding: {coding}\r\n".encode() if coding else b""
    whole = upstream.reply(body, *([line.decode().strip()] if coding else []))
    scripts: dict[str, list[Step]] = {
        "whole": [whole],
        "length": [whole[:-20], 0.2, whole[-20:]],
        "chunked": [
            CHUNKED % (b"200 OK", line) + chunk(body[:30]), 0.005, chunk(body[30:]), b"0\r\n\r\n",
        ],
        "begun": [CHUNKED % (b"200 OK", line) + chunk(body), 0.2, b"0\r\n\r\n"],
    }  # fmt: skip
    upstream.default = scripts[way]
    at = await sidecar(site(upstream))
    answer = await (await client(at)).get("/a", SESSION, "Accept-Encoding: gzip, deflate")
    if is_over:
        assert answer.status == 303
    else:
        assert (answer.status, answer.body) == (200, body)
        assert answer.get("Content-Encoding") == (coding or None)


@pytest.mark.parametrize(
    ("status", "beginning", "counts"),
    [
        (b"200 OK", b'{"errors":[{"extensions":{"code":"UNAUTHENTICATED"}},{"a', True),
        (b"200 OK", b'{"errors":[{"extensions":{"code":"UNAUTHENTICATED', False),
        (b"200 OK", b'{"message":"UnAuthentication","da', False),
        (b"400 No", b'{"message":"UnAuthentication","da', True),
        (b"200 OK", b'{"message":"UnAuthentication"}', True),
        (b"200 OK", b"[1,", False),
        (b"200 OK", b"", False),
    ],
)
async def test_rules_see_the_beginning_of_what_goes_on(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    status: bytes,
    beginning: bytes,
    counts: bool,
) -> None:
    """What is complete in it counts; what may still change does not."""
    upstream.default = [
        CHUNKED % (status, b"") + (chunk(beginning) if beginning else b""), 0.2, chunk(b" "),
        b"0\r\n\r\n",
    ]  # fmt: skip
    answer = await (await client(await sidecar(site(upstream)))).get("/a", SESSION)
    assert answer.status == (303 if counts else int(status[:3]))
    if not counts:
        assert answer.body == beginning + b" "


async def test_body_above_the_buffer_is_relayed(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    body = b'{"rows":[' + b"12345," * 50_000 + b"0]}"
    upstream.default = upstream.reply(body)
    at = await sidecar(site(upstream, envelope={"buffer": "64KiB"}))
    answer = await (await client(at)).get("/a", SESSION)
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize("is_over", [True, False])
async def test_beginning_of_an_envelope_that_streams_is_looked_into(
    sidecar: Start, upstream: Upstream, client: Clients, *, is_over: bool
) -> None:
    """What is found before the head leaves counts there too."""
    rows = b'"rows":[' + b"12345," * 20_000 + b"0]}"
    upstream.default = upstream.reply((OVER if is_over else FINE)[:-1] + b"," + rows)
    route = {"path": "/a", "kind": "api", "upstream": "main"}
    at = await sidecar(site(upstream, routes=[route], envelope={"buffer": "16KiB"}))
    answer = await (await client(at)).get("/a", SESSION)
    assert answer.status == (303 if is_over else 200)


async def test_bomb_is_decoded_up_to_the_buffer_only(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    body = gzip.compress(b'{"a":"' + b"0" * 30_000_000 + b'"}')
    upstream.default = upstream.reply(body, "Content-Encoding: gzip")
    answer = await (await client(await sidecar(site(upstream)))).get("/a", SESSION)
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize("cut", [0, 10])
async def test_what_cannot_be_decoded_passes_as_it_came(
    sidecar: Start, upstream: Upstream, client: Clients, cut: int
) -> None:
    body = gzip.compress(FINE)[:-10] if cut else b"no gzip"
    upstream.default = upstream.reply(body, "Content-Encoding: gzip")
    answer = await (await client(await sidecar(site(upstream)))).get("/a", SESSION)
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize(
    ("route", "sent"),
    [
        ({"kind": "api", "envelope": False}, "gzip"),
        ({"kind": "api", "envelope": False, "on_unauthorized": "pass"}, "br, gzip"),
        ({"kind": "page"}, "br, gzip"),
    ],
)
async def test_upstream_is_asked_for_what_can_be_looked_into(
    sidecar: Start, upstream: Upstream, client: Clients, route: dict[str, Any], sent: str
) -> None:
    """A coding that cannot be undone would hide that a session is over."""
    at = await sidecar(site(upstream, routes=[{"path": "/a", "upstream": "main", **route}]))
    await (await client(at)).get("/a", SESSION, "Accept-Encoding: br, gzip")
    assert upstream.last.get("Accept-Encoding") == sent


@pytest.mark.parametrize("coding", ["", "identity", "utf-8", "UTF-8", "none", "binary"])
async def test_what_is_no_coding_keeps_no_json_from_its_envelope(
    sidecar: Start, upstream: Upstream, client: Clients, coding: str
) -> None:
    upstream.default = upstream.reply(b'{"data":7}', f"Content-Encoding: {coding}")
    answer = await (await client(await sidecar())).get("/a", SESSION)
    assert answer.json["data"] == 7
    assert answer.get("Content-Encoding") is None
