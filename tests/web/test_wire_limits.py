"""Sizes, times and numbers that one client may not exceed (T54, T58 and T60)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Start, Upstream, Wire

HOST = "Host: app.example.com\r\n"
LONG = "x" * 40 * 1024


# -- heads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1 << 20, 1400])
async def test_cookie_header_of_40_kib_works(
    sidecar: Start, upstream: Upstream, client: Clients, size: int
) -> None:
    """Browsers of piled-up sites send them; the session in it counts, the rest arrives whole."""
    one = await client(await sidecar())
    data = f"GET /a HTTP/1.1\r\n{HOST}Cookie: a={LONG}; access_token=tok\r\n\r\n"
    for _ in range(2):
        await one.trickle(data.encode(), size)
        assert (await one.answer()).status == 200
    assert upstream.last.get("Cookie") == f"a={LONG}"
    assert upstream.last.get("Authorization") == "Bearer tok"


async def test_target_of_40_kib_works(sidecar: Start, upstream: Upstream, client: Clients) -> None:
    answer = await (await client(await sidecar())).get(f"/a?{LONG}")
    assert answer.status == 200
    assert upstream.last.target == f"/a?{LONG}"


@pytest.mark.parametrize("size", [1 << 20, 1400])
@pytest.mark.parametrize(
    "head",
    [
        f"GET /a HTTP/1.1\r\n{HOST}Cookie: a={LONG}{LONG}\r\n\r\n",
        f"GET /a HTTP/1.1\r\n{HOST}A: {LONG}\r\nB: {LONG}\r\n\r\n",
        f"GET /{LONG}{LONG} HTTP/1.1\r\n{HOST}\r\n",
        f"GET /a?{LONG}{LONG} HTTP/1.1\r\n{HOST}\r\n",
        f"GET /a HTTP/1.1\r\n{HOST}{LONG}{LONG}: a\r\n\r\n",
        f"GET /a HTTP/1.1\r\n{HOST}" + "A: b\r\n" * 14_000 + "\r\n",
        f"GET /a HTTP/1.1\r\n{HOST}A: {LONG * 8}",
    ],
    ids=["cookie", "fields", "path", "query", "name", "number", "endless"],
)
async def test_head_above_the_limit_is_too_large(
    sidecar: Start, upstream: Upstream, client: Clients, head: str, size: int
) -> None:
    """431 with a way out, whatever its parts; nothing of it is echoed or forwarded."""
    one = await client(await sidecar())
    async with one.sending(head.encode(), size):
        answer = await one.answer()
    assert (answer.status, answer.code) == (431, "headers_too_large")
    assert answer.get("Connection") == "close"
    assert b"xxxx" not in answer.body
    assert await one.ends() == b""
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("lines", "is_page"),
    [
        (["Sec-Fetch-Dest: document"], True),
        (["Accept: text/html"], True),
        (["Sec-Fetch-Dest: empty"], False),
    ],
)
async def test_document_with_too_many_cookies_gets_a_page_with_a_way_out(
    sidecar: Start, upstream: Upstream, client: Clients, lines: list[str], is_page: bool
) -> None:
    """T28: its button is a POST from the same origin, so no other site can press it."""
    one = await client(await sidecar())
    bombs = "; ".join(f"b{number}={LONG[:4000]}" for number in range(40))
    answer = await one.get("/a", *lines, f"Cookie: access_token=tok; {bombs}")
    assert answer.status == 431
    assert answer.all("Set-Cookie") == []
    assert (answer.get("Content-Type") or "").startswith("text/html") is is_page
    assert (b'<form method="post" action="/api/logout?clear=cookies">' in answer.body) is is_page
    assert b"xxxx" not in answer.body


@pytest.mark.parametrize("whole", [True, False])
async def test_frontends_own_431_gets_the_same_page(
    sidecar: Start, upstream: Upstream, client: Clients, whole: bool
) -> None:
    """Node.js takes 16 KiB, and its 431 has no body at all; other clients get it as it is."""
    page = {"path": "/", "kind": "page", "upstream": "main"}
    at = await sidecar(upstreams={"main": {"url": upstream.url}}, routes=[page])
    line = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    framing = b"Content-Length: 0\r\n\r\n" if whole else b"Connection: close\r\n\r\n"
    upstream.default = line + framing if whole else [line + framing, "close"]
    one = await client(at)
    answer = await one.get("/a", "Sec-Fetch-Dest: document", f"Cookie: a={LONG[:20000]}")
    assert (answer.status, answer.get("Content-Type")) == (431, "text/html; charset=utf-8")
    assert b"clear=cookies" in answer.body
    answer = await one.get("/a", "Sec-Fetch-Dest: empty")
    assert (answer.status, answer.body) == (431, b"")


async def test_way_out_works_below_the_limit_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    one = await client(await sidecar())
    cookie = f"Cookie: access_token=tok; a={LONG[:20000]}"
    answer = await one.post("/api/logout?clear=cookies", cookie, "Sec-Fetch-Site: same-origin")
    assert answer.status == 303
    assert any(line.startswith("a=; ") for line in answer.all("Set-Cookie"))
    assert any(line.startswith("access_token=; ") for line in answer.all("Set-Cookie"))


async def test_way_out_works_with_a_head_above_the_limit(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The session ends, and every cookie goes, on the parent domains as well."""
    at = await sidecar(public_url="https://app.example.com")
    assert (await (await client(at)).get("/a", "Cookie: access_token=tok")).status == 200
    bombs = "; ".join(f"b{number}={LONG[:4000]}" for number in range(40))
    cookie = f"Cookie: access_token=tok; {bombs}"
    one = await client(at)
    answer = await one.post("/api/logout", cookie, "Sec-Fetch-Site: same-origin")
    assert (answer.status, answer.get("Location")) == (303, "/login")
    assert answer.get("Clear-Site-Data") == '"cookies"'
    gone = {line.partition("=")[0] for line in answer.all("Set-Cookie") if "Max-Age=0" in line}
    assert {"access_token", "b10", "b39"} <= gone
    assert any("b17=; Path=/; Domain=example.com; " in line for line in answer.all("Set-Cookie"))
    await (await client(at)).get("/a", "Cookie: access_token=tok")
    assert upstream.last.get("Authorization") is None


@pytest.mark.parametrize(
    "lines", [["Sec-Fetch-Site: cross-site"], ["Origin: https://evil.example"]]
)
async def test_way_out_is_not_for_other_sites(
    sidecar: Start, upstream: Upstream, client: Clients, lines: list[str]
) -> None:
    one = await client(await sidecar())
    cookie = f"Cookie: access_token=tok; a={LONG}{LONG}"
    answer = await one.post("/api/logout", cookie, *lines)
    assert (answer.status, answer.code) == (403, "csrf_rejected")
    assert answer.all("Set-Cookie") == []


async def test_limit_of_heads_can_be_set(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(limits={"header": "8KiB"})
    assert (await (await client(at)).get("/a", f"A: {LONG[:7000]}")).status == 200
    assert (await (await client(at)).get("/a", f"A: {LONG[:8200]}")).status == 431


async def test_logout_still_works_with_16_kib_of_cookies(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """T28 of docs/security.md."""
    one = await client(await sidecar())
    answer = await one.get("/api/logout", f"Cookie: a={LONG[:16384]}; access_token=tok")
    assert answer.status == 200
    assert any(cookie.startswith("access_token=;") for cookie in answer.all("Set-Cookie"))


@pytest.mark.parametrize("name", ["Set-Cookie", "X-Long", "Content-Security-Policy"])
async def test_answer_head_of_40_kib_works(
    sidecar: Start, upstream: Upstream, client: Clients, name: str
) -> None:
    value = f"a={LONG}"
    upstream.default = upstream.reply(b"{}", f"{name}: {value}")
    one = await client(await sidecar())
    for _ in range(2):
        assert (await one.get("/a")).get(name) == value


async def test_answer_head_above_the_limit_is_a_bad_gateway(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """One field or many: a hostile upstream cannot make the sidecar hold megabytes."""
    many = [f"X-{number}: {LONG}" for number in range(300)]
    upstream.answers(upstream.reply(b"{}", f"X-Long: {LONG}{LONG}"), upstream.reply(b"{}", *many))
    one = await client(await sidecar())
    for _ in range(2):
        answer = await one.get("/a")
        assert (answer.status, answer.code) == (502, "upstream_protocol")
    assert (await one.get("/b")).status == 200


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5])
async def test_head_that_dribbles_in_is_cut(
    sidecar: Start, upstream: Upstream, client: Clients, size: int
) -> None:
    """The limit is for the whole head: more bytes buy no time (T54)."""
    one = await client(await sidecar(limits={"client_head": "200ms"}))
    began = time.monotonic()
    async with one.sending(f"GET /a HTTP/1.1\r\n{HOST}".encode() + b"A: b\r\n" * 99, size, 0.005):
        answer = await one.answer()
        assert await one.ends() == b""
    assert answer.status == 408
    assert answer.get("Connection") == "close"
    assert 0.15 < time.monotonic() - began < 1.5
    assert upstream.requests == []


async def test_connection_that_says_nothing_is_closed(sidecar: Start, client: Clients) -> None:
    one = await client(await sidecar(limits={"client_head": "200ms"}))
    async with asyncio.timeout(1.5):
        assert await one.rest() == b""


async def test_second_head_that_dribbles_in_is_cut_too(sidecar: Start, client: Clients) -> None:
    one = await client(await sidecar(limits={"client_head": "200ms", "client_idle": "10s"}))
    assert (await one.get("/a")).status == 200
    one.send("GET /b HTTP/1.1\r\nA: b")
    async with asyncio.timeout(1.5):
        assert (await one.answer()).status == 408
        assert await one.ends() == b""


async def test_idle_connection_is_closed_without_a_word(sidecar: Start, client: Clients) -> None:
    """FIN and nothing else: an unasked 408 would answer the request that crosses it."""
    one = await client(await sidecar(limits={"client_idle": "200ms"}))
    assert (await one.get("/a")).status == 200
    began = time.monotonic()
    assert await one.rest() == b""
    assert 0.1 < time.monotonic() - began < 1.5


async def test_connection_in_use_is_not_idle(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Neither a slow answer nor a connection that is used again and again is cut."""
    upstream.answers([1.2, upstream.reply(b"{}")])
    one = await client(await sidecar(limits={"client_idle": "1s", "client_head": "1s"}))
    assert (await one.get("/slow")).status == 200
    for _ in range(3):
        await asyncio.sleep(0.4)
        assert (await one.get("/a")).status == 200


@pytest.mark.parametrize(
    ("framing", "part"),
    [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n")],
)
async def test_body_that_stalls_is_given_up(
    sidecar: Start, upstream: Upstream, client: Clients, framing: str, part: str
) -> None:
    """408; and the upstream's half of the request is broken off."""
    one = await client(await sidecar(limits={"client_idle": "200ms"}))
    one.send(f"POST /a HTTP/1.1\r\n{HOST}{framing}\r\n\r\n{part}")
    async with asyncio.timeout(1.5):
        answer = await one.answer()
        assert await one.ends() == b""
    assert answer.status == 408
    assert upstream.requests == []
    async with asyncio.timeout(1.5):
        assert all([await wire.ended.wait() for wire in upstream.wires])


async def test_body_that_keeps_coming_slowly_is_no_stall(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    one = await client(await sidecar(limits={"client_idle": "200ms"}))
    one.send(f"POST /a HTTP/1.1\r\n{HOST}Content-Length: 8\r\n\r\n")
    for _ in range(8):
        await asyncio.sleep(0.05)
        one.send(b"x")
    assert (await one.answer()).status == 200
    assert upstream.last.body == b"xxxxxxxx"


async def test_client_that_takes_no_answer_is_cut(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Once the buffers are full it has `client_idle`; the upstream is let go with it.

    The log says why: it is not the client that has left.
    """
    upstream.default = upstream.reply(b"x" * (8 << 20), type="text/plain")
    at = await sidecar(limits={"client_idle": "300ms"})
    one = await client(at, window=4096)
    one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
    one.writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert await at.under_way() == {}
    assert '"reason": "the response is not taken"' in at.log.getvalue()


async def test_nothing_follows_the_last_response_that_a_client_takes_slowly(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """It would be a part of a body that ends with its connection (HTTP/1.0)."""
    at = await sidecar(limits={"client_idle": "300ms"}, envelope={"buffer": "32MiB"})
    body = b'"%b"' % (b"x" * 8_000_000)
    upstream.default = upstream.reply(body)
    one = await client(at, window=4096)
    one.send("GET /a HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(0.05)
    one.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.4)
    one.writer.transport.resume_reading()  # type: ignore[attr-defined]
    answer = await one.answer()
    assert answer.status == 200
    assert await one.rest() == b""
    assert '"status": 408' not in at.log.getvalue()


# -- bodies ----------------------------------------------------------------------------------------


async def test_announced_body_above_the_limit_is_refused_at_once(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """413 before a byte of it has come; a body of exactly the limit passes."""
    at = await sidecar(limits={"body": "1000"})
    one = await client(at)
    assert (await one.post("/a", body=b"x" * 1000)).status == 200
    one.send(f"POST /b HTTP/1.1\r\n{HOST}Content-Length: 1001\r\n\r\n")
    answer = await one.answer()
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert answer.get("Connection") == "close"
    assert [request.target for request in upstream.requests] == ["/a"]


@pytest.mark.parametrize("size", [1 << 20, 100])
@pytest.mark.parametrize("length", [1000, 200_000])
async def test_chunked_body_above_the_limit_is_refused(
    sidecar: Start, upstream: Upstream, client: Clients, length: int, size: int
) -> None:
    """Wherever the limit is reached; the upstream never gets the whole of it."""
    at = await sidecar(limits={"body": str(length)})
    one = await client(at)
    head = f"POST /a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode()
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (length, b"x" * length)
    async with one.sending(head + whole, size):
        assert (await one.answer()).status == 200
    above = b"%x\r\n%b\r\n1\r\ny\r\n0\r\n\r\n" % (length, b"x" * length)
    async with one.sending(head + above, size):
        answer = await one.answer()
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert answer.get("Connection") == "close"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", ["413 Content Too Large", "401 Unauthorized", "200 OK"])
@pytest.mark.parametrize("ending", ["hang", "close"])
async def test_early_final_answer_arrives_while_the_upload_goes_on(
    sidecar: Start, upstream: Upstream, client: Clients, status: str, ending: str
) -> None:
    """Before the body's end; then the connection closes, since its rest has no use (T58)."""

    async def serve(wire: Wire) -> None:
        await wire.read_head()
        await wire.reader.readexactly(1 << 20)
        wire.send(upstream.reply(b"{}", status=status))
        await wire.is_left() if ending == "hang" else wire.close()

    upstream.serve = serve
    at = await sidecar()
    one = await client(at)
    one.send(f"POST /a HTTP/1.1\r\n{HOST}Content-Length: {64 << 20}\r\n\r\n")
    async with one.sending(b"x" * (64 << 20), 1 << 16):
        answer = await one.answer()
    assert answer.line.endswith(status)
    assert answer.get("Connection") == "close"
    assert upstream.connections == 1


async def test_upstream_that_answered_early_is_not_used_again(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The rest of the body would be its next request."""

    async def early(wire: Wire) -> None:
        await wire.read_head()
        wire.send(upstream.reply(b"{}"))
        await wire.is_left()

    upstream.serve = early
    at = await sidecar()
    one = await client(at)
    one.send(f"POST /a HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\n" + "x" * 70_000)
    assert (await one.answer()).status == 200
    other = await client(at)
    assert (await other.get("/b")).status == 200
    assert upstream.connections == 2


# -- numbers ---------------------------------------------------------------------------------------


async def test_requests_above_the_budget_are_refused_and_the_others_served(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """503 with Retry-After; each kind has a budget of its own (behaviour: routes)."""
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        while True:
            request = await upstream.receive(wire)
            if request.target != "/page/now":
                await release.wait()
            wire.send(upstream.reply(b"{}"))

    upstream.serve = serve
    at = await sidecar(
        upstreams={"main": {"url": upstream.url}},
        routes=[
            {"path": "/", "kind": "api", "upstream": "main", "session": "none"},
            {"path": "/page", "kind": "page", "upstream": "main"},
        ],
        limits={"in_flight": {"api": 2, "page": 1, "stream": 1}},
    )
    busy = [await client(at) for _ in range(2)]
    for one in busy:
        one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
    await at.wait_for(lambda found: found['sidecar_requests_in_flight{kind="api"}'] == 2)
    third = await client(at)
    refused = await third.get("/a")
    assert (refused.status, refused.code) == (503, "overloaded")
    assert refused.get("Retry-After") is not None
    assert (await third.get("/page/now")).status == 200  # its budget is another
    release.set()
    for one in busy:
        assert (await one.answer()).status == 200
    assert (await third.get("/a")).status == 200


async def test_one_client_connection_is_served_one_request_at_a_time(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """However many it pipelines (T60): they use no budget and no upstream before."""
    upstream.default = [0.02, upstream.reply(b"{}")]
    at = await sidecar(limits={"in_flight": {"api": 1}})
    one = await client(at)
    one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n" * 20)
    assert [(await one.answer()).status for _ in range(20)] == [200] * 20
    assert upstream.connections == 1
