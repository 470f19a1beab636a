"""Envelopes are compressed again, for clients that accept it and where that is worth it."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.web import compression
from sidecar.web.compression import PLAIN_CODER, Coder, fastest_coder

if TYPE_CHECKING:
    from tests.conftest import Answer, Clients, Start, Upstream

SESSION = "Cookie: access_token=tok"


@pytest.fixture(params=["plain", "fastest"], autouse=True)
def coder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Coder:
    """Without the extra `isal`, and with it."""
    coder = PLAIN_CODER if request.param == "plain" else fastest_coder()
    monkeypatch.setattr(compression, "CODER", coder)
    return coder


def test_extra_is_used_where_it_is_installed() -> None:
    """So that what runs as `fastest` here is not the plain coder."""
    assert fastest_coder().module.__name__ == "isal.isal_zlib"
    assert fastest_coder() != PLAIN_CODER


GZIP = "Accept-Encoding: gzip, deflate, br"
ROWS = [{"number": number, "text": "a text that repeats itself"} for number in range(2000)]
LONG = json.dumps(ROWS).encode()
MEDIUM = json.dumps({"text": "x" * 1100}).encode()
SMALL = json.dumps({"text": "x" * 900}).encode()


def decoded(answer: Answer) -> Any:
    """The envelope, decoded as it says."""
    body = answer.body
    if answer.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return json.loads(body)


def varies(answer: Answer) -> list[str]:
    return [name.strip() for name in (answer.get("Vary") or "").split(",") if name.strip()]


@pytest.mark.parametrize(
    ("body", "coding"),
    [(LONG, None), (LONG, "gzip"), (LONG, "deflate"), (SMALL, "gzip"), (MEDIUM, None)],
)
@pytest.mark.parametrize("pieces", [False, True])
async def test_envelope_is_compressed_for_clients_that_accept_it(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    body: bytes,
    coding: str | None,
    pieces: bool,
) -> None:
    """What the upstream had compressed, and what is above 1 KiB."""
    sent = body
    if coding is not None:
        sent = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    fields = ['ETag: "v1"', *([f"Content-Encoding: {coding}"] if coding else [])]
    whole = upstream.reply(sent, *fields)
    upstream.default = [whole[:-5], 0.01, whole[-5:]] if pieces else whole
    one = await client(await sidecar())
    answer = await one.get("/a", SESSION, GZIP)
    assert answer.get("Content-Encoding") == "gzip"
    assert len(answer.body) < len(body) / 2
    assert decoded(answer)["data"] == json.loads(body)
    assert answer.get("ETag") == 'W/"v1"'
    assert set(varies(answer)) == {"Cookie", "Accept-Encoding"}
    answer = await one.get("/a", SESSION)
    assert answer.get("Content-Encoding") is None
    assert decoded(answer)["data"] == json.loads(body)
    assert set(varies(answer)) == {"Cookie", "Accept-Encoding"}


@pytest.mark.parametrize(
    "accepted", ["gzip;q=0", "br", "identity", "*;q=0", "gzip;q=0.1, identity"]
)
async def test_who_does_not_accept_gzip_gets_none(
    sidecar: Start, upstream: Upstream, client: Clients, accepted: str
) -> None:
    upstream.default = upstream.reply(LONG)
    answer = await (await client(await sidecar())).get("/a", f"Accept-Encoding: {accepted}")
    assert answer.get("Content-Encoding") is None
    assert answer.json["data"] == ROWS


async def test_small_answer_is_left_alone(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Up to 1 KiB it costs nothing at all, and varies by nothing more."""
    body = json.dumps({"text": "x" * 1012}).encode()
    assert len(body) == 1024
    upstream.default = upstream.reply(body)
    answer = await (await client(await sidecar())).get("/a", SESSION, GZIP)
    assert answer.get("Content-Encoding") is None
    assert varies(answer) == ["Cookie"]


async def test_error_is_compressed_as_well(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = upstream.reply(LONG, status="422 Wrong")
    answer = await (await client(await sidecar())).get("/a", GZIP)
    assert (answer.status, answer.get("Content-Encoding")) == (422, "gzip")
    assert decoded(answer)["errorData"] == ROWS


@pytest.mark.parametrize("size", ["1KiB", "1MiB"])
async def test_answer_of_any_size_comes_out_whole(
    sidecar: Start, upstream: Upstream, client: Clients, size: str
) -> None:
    """In memory and as a stream; what does not compress too."""
    noise = random.Random(7).randbytes(300_000).hex()
    upstream.default = upstream.reply(json.dumps({"data": [noise, ROWS]}).encode())
    one = await client(await sidecar(envelope={"buffer": size}))
    for _ in range(2):
        answer = await one.get("/a", GZIP)
        assert answer.get("Content-Encoding") == "gzip"
        assert decoded(answer)["data"] == [noise, ROWS]


async def test_stream_is_not_held_back_by_the_compressor(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """What has come can be decoded before the next piece exists."""
    first, last = b'{"data":["' + b"a" * 3000 + b'","begun"', b',"last"]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    upstream.default = [head, first, 0.5, last, "close"]
    one = await client(await sidecar(envelope={"buffer": "1KiB"}))
    one.send(f"GET /a HTTP/1.1\r\nHost: app.example.com\r\n{GZIP}\r\n\r\n")
    decoder, got = zlib.decompressobj(31), b""
    async with asyncio.timeout(0.4):
        await one.read_head()
        while b'"begun"' not in got:
            size = int((await one.reader.readuntil(b"\r\n"))[:-2], 16)
            got += decoder.decompress((await one.reader.readexactly(size + 2))[:-2])
    got += decoder.decompress(await one.rest_of_chunks())
    assert decoder.eof
    assert json.loads(got)["data"] == ["a" * 3000, "begun", "last"]


async def test_compressed_stream_that_breaks_off_never_looks_whole(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    upstream.default = [head + b'{"data":["' + b"a" * 5000, 0.01, "close"]
    one = await client(await sidecar(envelope={"buffer": "1KiB"}))
    one.send(f"GET /a HTTP/1.1\r\nHost: app.example.com\r\n{GZIP}\r\n\r\n")
    assert await one.answer_or_break() is None


@pytest.mark.parametrize("value", ["never", False])
@pytest.mark.parametrize("where", ["all", "route"])
async def test_compression_can_be_turned_off(
    sidecar: Start, upstream: Upstream, client: Clients, *, value: Any, where: str
) -> None:
    upstream.default = upstream.reply(gzip.compress(LONG), "Content-Encoding: gzip")
    if where == "all":
        at = await sidecar(envelope={"compress": value})
    else:
        route = {"kind": "api", "upstream": "main", "envelope": {"compress": value}}
        at = await sidecar(
            upstreams={"main": {"url": upstream.url}},
            routes=[{"path": "/a", "session": "optional", **route}],
        )
    answer = await (await client(at)).get("/a", GZIP)
    assert answer.get("Content-Encoding") is None
    assert answer.get("Vary") == "Cookie"
    assert answer.json["data"] == ROWS


async def test_what_must_not_be_transformed_is_not_compressed(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = upstream.reply(LONG, "Cache-Control: no-transform")
    answer = await (await client(await sidecar())).get("/a", GZIP)
    assert answer.get("Content-Encoding") is None


@pytest.mark.parametrize(
    ("site", "session", "coding"),
    [
        ("cross-site", True, None),
        ("cross-site", False, "gzip"),
        ("same-origin", True, "gzip"),
        ("same-site", True, "gzip"),
    ],
)
async def test_what_another_site_asks_for_with_a_session_is_not_compressed(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    site: str,
    session: bool,
    coding: str | None,
) -> None:
    """Its length would tell that site what is in it (BREACH)."""
    upstream.default = upstream.reply(LONG)
    one = await client(await sidecar())
    answer = await one.get("/a", GZIP, f"Sec-Fetch-Site: {site}", *([SESSION] if session else []))
    assert answer.get("Content-Encoding") == coding


async def test_pages_keep_their_own_coding(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = upstream.reply(LONG, type="text/html")
    at = await sidecar(
        upstreams={"main": {"url": upstream.url}},
        routes=[{"path": "/", "kind": "page", "upstream": "main"}],
    )
    answer = await (await client(at)).get("/a", GZIP)
    assert (answer.body, answer.get("Content-Encoding")) == (LONG, None)
