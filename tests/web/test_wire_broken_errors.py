"""Errors whose bodies do not come to their end keep their status (behaviour: envelope)."""

from __future__ import annotations

import asyncio
import gzip
import json
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.core.errors import UpstreamCause

if TYPE_CHECKING:
    from tests.conftest import Answer, Clients, Embedded, Start, Step, Upstream

JSON: Final = "application/json"
HTML: Final = "text/html"
TEXT: Final = "text/plain"


def site(upstream: Upstream, kind: str = "api", **more: Any) -> dict[str, Any]:
    """One route to an upstream whose bodies may pause for 300 ms."""
    route = {"path": "/", "kind": kind, "upstream": "main", "session": "optional", **more}
    return {"upstreams": {"main": {"url": upstream.url, "idle": "300ms"}}, "routes": [route]}


def head(status: str, kind: str, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def failed(status: int, message: str) -> dict[str, Any]:
    """An envelope of an error of which nothing else is known."""
    members = (True, message, None, status, None)
    return dict(zip(("isError", "message", "data", "status", "errorData"), members, strict=True))


def told(at: Embedded) -> list[dict[str, Any]]:
    """What the log says of errors that broke off."""
    lines = [json.loads(line) for line in at.log.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "error broke off"]


ENDS: Final[dict[str, list[Step]]] = {
    "short": [head("", "", "Content-Length: 100")[-23:] + b'{"messa', "close"],
    "short, later": [head("", "", "Content-Length: 100")[-23:] + b'{"messa', 0.02, "close"],
    "reset": [b"Content-Length: 100\r\n\r\n{", 0.02, "reset"],
    "chunks": [b'Transfer-Encoding: chunked\r\n\r\n7\r\n{"messa\r\n', 0.02, "close"],
    "no chunk": [b"Transfer-Encoding: chunked\r\n\r\n", 0.02, b"zz\r\n"],
    "silence": [b"Content-Length: 100\r\n\r\n{", "hang"],
    "coded": [
        b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n" + gzip.compress(b"{}")[:15],
        0.02,
        "close",
    ],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", [JSON, "application/problem+json", TEXT, HTML])
@pytest.mark.parametrize("status", ["404 Not Here", "500 Oops"])
async def test_error_that_breaks_off_keeps_its_status(
    sidecar: Start, upstream: Upstream, client: Clients, *, end: str, kind: str, status: str
) -> None:
    """It is wrapped as what is not JSON. Its upstream's connection is used no more."""
    at = await sidecar(site(upstream))
    first, *others = ENDS[end]
    assert isinstance(first, bytes)
    beginning = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n".encode()
    upstream.answers([beginning + first, *others])
    one = await client(at)
    answer = await one.get("/a")
    number, _, phrase = status.partition(" ")
    assert (answer.status, answer.json) == (int(number), failed(int(number), phrase))
    assert answer.get("Content-Encoding") is None
    assert (await one.get("/b")).status == 200
    assert upstream.connections == 2
    await upstream.stop()


@pytest.mark.parametrize("kind", [JSON, TEXT])
@pytest.mark.parametrize(
    ("end", "cause"),
    [("short", UpstreamCause.CUT), ("reset", UpstreamCause.CUT), ("silence", "idle_timeout")],
)
async def test_metrics_and_log_tell_the_upstreams_trouble(
    sidecar: Start, upstream: Upstream, client: Clients, *, kind: str, end: str, cause: str
) -> None:
    """Once, with its cause; no error of the sidecar's own is counted."""
    at = await sidecar(site(upstream))
    first, *others = ENDS[end]
    assert isinstance(first, bytes)
    upstream.answers([head("500 Oops", kind)[:-2] + first, *others])
    assert (await (await client(at)).get("/a")).status == 500
    metrics = at.sidecar.runtime.metrics
    assert metrics.upstreams["main"].errors[UpstreamCause(cause)] == 1
    assert not metrics.responses.total()
    (line,) = told(at)
    assert (line["level"], line["status"], line["upstream"]) == ("warning", 500, "main")
    assert line["detail"]
    await upstream.stop()


async def timed(at: Embedded, client: Clients) -> tuple[Answer, float]:
    one = await client(at)
    began = monotonic()
    return await one.get("/a"), monotonic() - began


@pytest.mark.parametrize("kind", [HTML, "image/png", TEXT])
@pytest.mark.parametrize("length", [b"Content-Length: 9000\r\n\r\n", b"\r\n"])
async def test_no_client_waits_for_what_is_not_carried(
    sidecar: Start, upstream: Upstream, client: Clients, *, kind: str, length: bytes
) -> None:
    """A page, or a text that is too long already: the connection that it comes on is closed."""
    config = site(upstream)
    config["upstreams"]["main"]["idle"] = "5s"
    at = await sidecar(config)
    upstream.answers([head("500 Oops", kind)[:-2] + length + b"x" * 5000, "hang"])
    answer, seconds = await timed(at, client)
    assert answer.json == failed(500, "Oops")
    assert seconds < 2
    await asyncio.wait_for(upstream.wires[0].ended.wait(), 5)
    await upstream.stop()


async def test_page_that_comes_soon_leaves_its_connection(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(site(upstream))
    whole = upstream.reply(b"x" * 9000, status="502 Bad Gateway", type=HTML)
    upstream.default = [whole[:500], 0.01, whole[500:]]
    one = await client(at)
    for _ in range(3):
        assert (await one.get("/a")).json == failed(502, "Bad Gateway")
    assert upstream.connections == 1
    assert not told(at)


async def test_text_that_comes_slowly_is_carried(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(site(upstream))
    whole = upstream.reply(b"it broke", status="500 Oops", type=TEXT)
    upstream.default = [whole[:-4], 0.15, whole[-4:]]
    answer = await (await client(at)).get("/a")
    assert answer.json == failed(500, "Oops") | {"errorData": "it broke"}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("shape", ["envelope", "problem", "graphql"])
async def test_shape_of_own_errors_is_none_of_the_upstreams(
    sidecar: Start, upstream: Upstream, client: Clients, *, shape: str, method: str
) -> None:
    """What breaks off is wrapped as any other error of the upstream."""
    at = await sidecar(site(upstream, errors=shape))
    upstream.answers([head("404 X", JSON, "Content-Length: 100") + b"{", "close"])
    one = await client(at)
    answer = await one.ask(method, "/a", body=b"1" if method == "POST" else b"")
    assert (answer.status, answer.json) == (404, failed(404, "X"))


async def test_head_has_no_body_to_wait_for(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(site(upstream))
    upstream.default = head("404 X", JSON, "Content-Length: 100")
    one = await client(at)
    for _ in range(2):
        answer = await one.ask("HEAD", "/a")
        assert (answer.status, answer.body) == (404, b"")
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("end", "status"), [("short", 502), ("reset", 502), ("chunks", 502), ("silence", 504)]
)
async def test_success_that_breaks_off_is_none(
    sidecar: Start, upstream: Upstream, client: Clients, *, end: str, status: int
) -> None:
    """Never a well-formed lie (T48 and T49)."""
    at = await sidecar(site(upstream))
    first, *others = ENDS[end]
    assert isinstance(first, bytes)
    upstream.answers([head("200 OK", JSON)[:-2] + first, *others])
    assert (await (await client(at)).get("/a")).status == status
    assert not told(at)
    await upstream.stop()


LARGE: Final = b'{"data":"' + b"x" * 5000


@pytest.mark.parametrize("end", ["close", "reset", "hang"])
@pytest.mark.parametrize("size", [5000, 200_000])
async def test_large_error_keeps_its_status_until_its_head_has_left(
    sidecar: Start, upstream: Upstream, client: Clients, *, end: Any, size: int
) -> None:
    """Afterwards the connection breaks."""
    at = await sidecar(site(upstream, envelope={"buffer": "1KiB"}))
    body = b'{"data":"' + b"x" * size
    upstream.answers([head("422 X", JSON, "Content-Length: 999999") + body, 0.05, end])
    one = await client(at)
    one.send("GET /a HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
    answer = await one.answer_or_break()
    if size == 5000:
        assert answer is not None
        assert answer.json == failed(422, "X")
    else:
        assert answer is None
    await upstream.stop()


async def test_long_error_that_is_no_json_costs_nobody_else_the_connection(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """It is given back once, to the request that waits for it."""
    config = site(upstream, envelope={"buffer": "1KiB"})
    config["upstreams"]["main"]["pool"] = {"max": 1}
    at = await sidecar(config)
    whole = upstream.reply(LARGE, status="422 X")
    upstream.answers([whole[:-9], 0.05, whole[-9:]])
    one, other = await client(at), await client(at)
    first, second = await asyncio.gather(one.get("/a"), other.post("/b", body=b"1"))
    assert (first.status, second.status) == (422, 200)
    assert upstream.connections == 1


MALFORMED: Final = {
    "size": b'5\r\n{"a":\r\nzz\r\n1}\r\n0\r\n\r\n',
    "first size": b"-1\r\n{}\r\n0\r\n\r\n",
    "longer than its size": b"1\r\n{}\r\n0\r\n\r\n",
    "trailer": b"2\r\n{}\r\n0\r\nX\r\n\r\n",
    "many chunks": b"1\r\n \r\n" * 4200 + b"zz\r\n",
}
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"


def cuts(data: bytes, body: bytes) -> list[int]:
    """Where a response may be cut: at each byte near its head's end and in its body, if short."""
    begins = len(data) - len(body)
    ends = min(len(data), begins + 40)
    return [len(data), *range(1, begins - 5, 29), *range(begins - 5, ends)]


@pytest.mark.parametrize("malformed", MALFORMED)
@pytest.mark.parametrize("kind", [JSON, TEXT])
@pytest.mark.parametrize("status", ["404 Not Here", "200 OK"])
async def test_malformed_chunk_is_judged_alike_wherever_a_segment_ends(
    sidecar: Start, upstream: Upstream, client: Clients, *, malformed: str, kind: str, status: str
) -> None:
    """An error keeps its status. A success is 502, or breaks if its head has left."""
    at = await sidecar(site(upstream))
    body = MALFORMED[malformed]
    data = head(status, kind)[:-2] + CHUNKED + body
    for cut in cuts(data, body):
        upstream.answers([data[:cut], 0.002, data[cut:], 0.02, "close"])
        one = await client(at)
        one.send("GET /a HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        answer = await one.answer_or_break()
        if status.startswith("404"):
            assert answer is not None, cut
            assert (answer.status, answer.json) == (404, failed(404, "Not Here")), cut
        elif answer is None:
            assert kind != JSON
            assert cut < len(data)
        else:
            assert (answer.status, answer.code) == (502, "upstream_protocol"), cut
    await upstream.stop()


@pytest.mark.parametrize("status", ["404 Not Here", "200 OK"])
async def test_malformed_chunk_of_a_response_that_passes_is_told_while_that_is_possible(
    sidecar: Start, upstream: Upstream, client: Clients, *, status: str
) -> None:
    """502 if it is known before the head has left; afterwards the connection breaks."""
    at = await sidecar(site(upstream, envelope=False))
    data = head(status, HTML)[:-2] + CHUNKED
    upstream.answers([data + b"2\r\nab\r\nzz\r\n"], [data + b"2\r\nab\r\n", 0.05, b"zz\r\n"])
    whole, broken = await client(at), await client(at)
    assert (await whole.get("/a")).status == 502
    broken.send("GET /a HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
    assert await broken.answer_or_break() is None
    await upstream.stop()
