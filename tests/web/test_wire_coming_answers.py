"""JSON that comes in pieces: kept until it is whole, and never more or less than what came."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Client
from tests.net.store.conftest import make_certificates

if TYPE_CHECKING:
    from tests.conftest import Clients, Script, Start, Step, Upstream

DATA = json.dumps([{"id": number, "name": f"number {number}"} for number in range(4000)]).encode()
DOCUMENT = b'{"message": "all", "data": %b}' % DATA
ENVELOPE = b'{"isError":false,"message":"all","data":%b,"status":200,"errorData":null}' % DATA
COOKIE = "Cookie: access_token=tok"


def routes(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """An API whose answers are wrapped, and one whose answers are looked into."""
    api = {"kind": "api", "upstream": "main", "session": "optional"}
    return {
        "upstreams": {"main": {"url": upstream.url, **more}},
        "routes": [{"path": "/", **api}, {"path": "/raw", **api, "envelope": False}],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
    }


def in_pieces(data: bytes, *cuts: int) -> list[Step]:
    """A script that sends `data` with a moment at each cut."""
    steps: list[Step] = []
    for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        steps += [data[begin:end], 0.02]
    return steps


REPLY_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
HEAD = REPLY_HEAD % len(DOCUMENT)
WHOLE = HEAD + DOCUMENT
CUTS = {
    "within the head": (len(HEAD) - 3,),
    "behind the head": (len(HEAD),),
    "behind the first byte": (len(HEAD) + 1,),
    "before the last byte": (len(WHOLE) - 1,),
    "several": (len(HEAD) + 10, len(HEAD) + 20_000, len(HEAD) + 100_000),
}


@pytest.mark.parametrize("path", ["/", "/raw"])
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
async def test_pieces_come_out_as_one(
    sidecar: Start, upstream: Upstream, client: Clients, cuts: tuple[int, ...], path: str
) -> None:
    """Wherever the answer is cut; and its connection is used again."""
    at = await sidecar(routes(upstream))
    one = await client(at)
    upstream.answers(in_pieces(WHOLE, *cuts), in_pieces(WHOLE, *cuts))
    for _ in range(2):
        got = await one.get(path, COOKIE)
        assert got.status == 200
        assert got.body == (ENVELOPE if path == "/" else DOCUMENT)
    assert upstream.connections == 1


ODD: dict[str, tuple[Script, int, str]] = {
    "closed": ([WHOLE[:-1], 0.05, "close"], 502, "upstream_protocol"),
    "closed behind the head": ([HEAD, 0.05, "close"], 502, "upstream_protocol"),
    "reset": ([WHOLE[:50_000], 0.05, "reset"], 502, "upstream_protocol"),
    "silent": ([WHOLE[:-1], "hang"], 504, "upstream_timeout"),
    "broken": ([WHOLE[:50_000], 0.05, b"\x00" + WHOLE[50_001:]], 502, "upstream_protocol"),
}


@pytest.mark.parametrize("kind", ODD)
async def test_answer_that_does_not_come_to_its_end_is_an_error(
    sidecar: Start, upstream: Upstream, client: Clients, kind: str
) -> None:
    """Never a part of it, and never a second request: the first may have had its effect."""
    script, status, code = ODD[kind]
    upstream.answers(upstream.reply(b"1"), script, upstream.reply(b"2"))
    at = await sidecar(routes(upstream, idle="300ms"))
    one = await client(at)
    assert (await one.get("/", COOKIE)).status == 200
    got = await one.get("/", COOKIE)
    assert (got.status, got.code) == (status, code)
    assert len(upstream.requests) == 2
    assert (await one.get("/", COOKIE)).json["data"] == 2


@pytest.mark.parametrize("path", ["/", "/raw"])
async def test_bytes_behind_the_answer_belong_to_nobody(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """The answer passes, and its connection serves no other request (T20)."""
    second = upstream.reply(b'"smuggled"')
    upstream.answers([WHOLE[:50_000], 0.05, WHOLE[50_000:] + second], upstream.reply(b"2"))
    at = await sidecar(routes(upstream))
    one = await client(at)
    got = await one.get(path, COOKIE)
    assert got.status == 200
    assert got.body == (ENVELOPE if path == "/" else DOCUMENT)
    again = await one.get(path, COOKIE)
    assert b"smuggled" not in again.body
    assert upstream.connections == 2


async def test_client_that_leaves_ends_the_upstream_call(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.answers([WHOLE[:50_000], "hang"])
    at = await sidecar(routes(upstream))
    one = await client(at)
    one.send(f"GET / HTTP/1.1\r\nHost: a.example\r\n{COOKIE}\r\n\r\n")
    async with asyncio.timeout(20):
        while not upstream.requests:
            await asyncio.sleep(0.01)
    one.reset()
    async with asyncio.timeout(20):
        await upstream.wires[0].ended.wait()
    assert not await at.under_way()


async def test_upstream_time_is_that_of_the_head(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """However long the body takes: `upstream_ms` says how long the upstream thought."""
    upstream.answers([HEAD + DOCUMENT[:10], 2.0, DOCUMENT[10:]])
    at = await sidecar(routes(upstream))
    assert (await (await client(at)).get("/", COOKIE)).status == 200
    (line,) = [json.loads(one) for one in at.log.getvalue().splitlines() if '"upstream_ms"' in one]
    assert line["duration_ms"] - line["upstream_ms"] > 1000


KINDS = {
    "member": (DOCUMENT, ENVELOPE),
    "whole body": (
        DATA,
        b'{"isError":false,"message":null,"data":%b,"status":200,"errorData":null}' % DATA,
    ),
    "envelope": (ENVELOPE, ENVELOPE),
    "long message": (
        b'{"message":"%b","data":%b}' % (b"m" * 100_000, DATA),
        b'{"isError":false,"message":"%b","data":%b,"status":200,"errorData":null}'
        % (b"m" * 100_000, DATA),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_long_envelope_passes_tls_as_it_is(
    sidecar: Start, upstream: Upstream, tmp_path: Path, kind: str
) -> None:
    """Its parts are sent one by one; the client may be slow to take them."""
    body, envelope = KINDS[kind]
    certificates = make_certificates(tmp_path)
    upstream.default = upstream.reply(body)
    tls = {"cert": str(certificates.cert), "key": str(certificates.key)}
    at = await sidecar(routes(upstream) | {"tls": tls})
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port, ssl=context, limit=4096)
    one = Client(reader, writer)
    try:
        for _ in range(3):
            assert (await one.get("/", COOKIE)).body == envelope
    finally:
        await one.gone()
