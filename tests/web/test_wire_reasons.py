"""Everybody is told why: each failure names its cause in the log, once, and no secret with it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.servers import write_certificate
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Clients, Embedded, Script, Start, Upstream

TOKEN: Final = "s3cret-token"
COOKIE: Final = f"Cookie: access_token={TOKEN}"
PART: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 90\r\n\r\n1"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def site(url: str, kind: str = "api", **more: Any) -> dict[str, Any]:
    """One route to one upstream."""
    route = {"path": "/", "kind": kind, "upstream": "api", "session": "optional"}
    return {"upstreams": {"api": {"url": url, **more}}, "routes": [route]}


def lines(at: Embedded, event: str) -> list[dict[str, Any]]:
    """The lines of the log about an event."""
    told = [json.loads(line) for line in at.log.getvalue().splitlines()]
    return [line for line in told if line["event"] == event]


def the_failure(at: Embedded) -> dict[str, Any]:
    """The one line that tells of a failure; nothing in the log is a secret."""
    (line,) = lines(at, "request failed")
    assert line["level"] == "error"
    assert TOKEN not in at.log.getvalue()
    return line


# -- an upstream that cannot be reached ------------------------------------------------------------


@pytest.mark.parametrize("log", [{}, {"level": "warning"}, {"access": False}], ids=str)
async def test_refused_connection(
    sidecar: Start, upstream: Upstream, client: Clients, log: dict[str, Any]
) -> None:
    """Also where the access log is off, or its level is not logged."""
    await upstream.stop()
    at = await sidecar(site(upstream.url, retry="0s"), log=log)
    assert (await (await client(at)).get("/orders?code=1", COOKIE)).status == 502
    told = the_failure(at)
    assert told["detail"] == "connection refused"
    assert (told["reason"], told["status"]) == ("upstream_unreachable", 502)
    assert (told["upstream"], told["address"]) == ("api", upstream.url)
    assert (told["method"], told["path"], told["route"]) == ("GET", "/orders", "/")


async def test_no_such_name(sidecar: Start, client: Clients) -> None:
    at = await sidecar(site("http://no-such-host.invalid", retry="0s"))
    assert (await (await client(at)).get("/", COOKIE)).status == 502
    told = the_failure(at)
    assert told["detail"].startswith("the name cannot be resolved (")
    assert told["address"] == "http://no-such-host.invalid:80"


async def test_connection_that_is_never_accepted(sidecar: Start, client: Clients) -> None:
    """A full backlog: the name of the limit's value is in the line."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        taken = [socket.socket() for _ in range(3)]
        for one in taken:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        try:
            at = await sidecar(site(f"http://127.0.0.1:{port}", connect="200ms"))
            assert (await (await client(at)).get("/", COOKIE)).status == 504
            assert the_failure(at)["detail"] == "no connection within 0.2 s"
        finally:
            for one in taken:
                one.close()


async def test_certificate_that_is_not_trusted(
    sidecar: Start, client: Clients, tmp_path: Path
) -> None:
    """OpenSSL's own words say what is wrong with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_certificate(tmp_path))
    port = free_port()
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", port, ssl=context
    )
    async with server:
        at = await sidecar(site(f"https://127.0.0.1:{port}"))
        assert (await (await client(at)).get("/", COOKIE)).status == 502
    told = the_failure(at)
    assert told["detail"] == "the certificate is not trusted: self-signed certificate"
    assert told["address"] == f"https://127.0.0.1:{port}"


async def test_tls_to_a_server_without_it(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    async def speak_plainly(wire: Any) -> None:
        await wire.reader.read(10)
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    upstream.serve = speak_plainly
    at = await sidecar(site(f"https://127.0.0.1:{upstream.port}"))
    assert (await (await client(at)).get("/", COOKIE)).status == 502
    assert the_failure(at)["detail"] == "TLS failed: wrong version number"


# -- an answer that cannot be understood -----------------------------------------------------------

ANSWERS: Final[dict[str, tuple[Script, int, str]]] = {
    "closed": (["close"], 502, "the connection was closed before an answer"),
    "reset": (
        ["reset"],
        502,
        r"the connection was lost \(connection reset by peer\) before an answer",
    ),
    "status line": (b"HTTP/1.1 abc OK\r\n\r\n", 502, "the answer's status line is malformed"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 502, "the answer('s status line)? is "),
    "both framings": (
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        502,
        "the answer is not HTTP: .*(Content-Length|Transfer-Encoding)",
    ),
    "two lengths": (
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        502,
        "Content-Length",
    ),
    "coding": (OK + b"Transfer-Encoding: gzip\r\n\r\n", 502, "framing is ambiguous"),
    "control character": (
        OK + b"X-Odd: a\x01b\r\nContent-Length: 2\r\n\r\n{}",
        502,
        "header field of the answer|Invalid",
    ),
    "large head": (
        OK + b"X-Large: " + b"x" * 70_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        502,
        "the answer's header fields are ",
    ),
    "many interim answers": (
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40 + OK + b"Content-Length: 2\r\n\r\n{}",
        502,
        "too many interim answers",
    ),
    "no JSON": (OK + b"Content-Length: 2\r\n\r\n{x", 502, "JSON type, but not valid JSON: "),
    "silence": (["hang"], 504, r"no answer within 0\.3 s"),
}


@pytest.mark.parametrize("trouble", ANSWERS)
async def test_answer_that_cannot_be_used(
    sidecar: Start, upstream: Upstream, client: Clients, trouble: str
) -> None:
    """What was expected, and what came."""
    script, status, detail = ANSWERS[trouble]
    at = await sidecar(site(upstream.url, head="300ms"))
    upstream.answers(script, script)
    assert (await (await client(at)).post("/", COOKIE, body=b"1")).status == status
    told = the_failure(at)
    assert re.search(detail, told["detail"])
    assert (told["upstream"], told["address"]) == ("api", upstream.url)
    await upstream.stop()


@pytest.mark.parametrize(
    ("steps", "detail"),
    [
        (
            [OK + b"Content-Length: 90\r\n\r\n" + b"1", 0.1, "close"],
            "Content-Length is not its length",
        ),
        ([OK + b"Content-Length: 90\r\n\r\n" + b"1", 0.1, "reset"], "lost within the body"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n", 0.1, b"zz\r\n"], "not HTTP|framing"),
        ([PART, "hang"], r"nothing more of the answer within"),
    ],
    ids=["short", "reset", "chunks", "silence"],
)
async def test_answer_that_breaks_off(
    sidecar: Start, upstream: Upstream, client: Clients, steps: Sequence[Any], detail: str
) -> None:
    """The client sees a broken connection, and the log says why."""
    at = await sidecar(site(upstream.url, "page", idle="300ms"))
    upstream.answers(steps)
    one = await client(at)
    one.send(b"GET / HTTP/1.1\r\nHost: app.example.com\r\n" + COOKIE.encode() + b"\r\n\r\n")
    await one.broken()
    told = the_failure(at)
    assert told["decision"] == "broken"
    assert re.search(detail, told["detail"])
    await upstream.stop()


# -- requests that are refused ---------------------------------------------------------------------


async def test_untrusted_origin_is_named_beside_those_that_are_trusted(
    sidecar: Start, client: Clients
) -> None:
    """A refusal is no error: its cause stands in the request's own line."""
    at = await sidecar(public_url="http://app.example.com")
    one = await client(at)
    answer = await one.post("/", COOKIE, "Origin: https://app.example.com", body=b"1")
    assert answer.status == 403
    (told,) = lines(at, "request")
    assert told["detail"] == (
        "Origin is https://app.example.com; trusted are http://app.example.com"
    )
    assert not lines(at, "request failed")


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (["Origin: https://evil\x1b[31m.example"], "Origin is https://evil?[31m.example; trusted"),
        (["Origin: " + "x" * 5000], "Origin is " + "x" * 80 + "; trusted"),
        (["Sec-Fetch-Site: cross-site"], "Sec-Fetch-Site is cross-site, and there is no Origin"),
    ],
    ids=["escape sequence", "long", "none"],
)
async def test_what_a_client_writes_into_the_log_is_short_and_printable(
    sidecar: Start, client: Clients, fields: Sequence[str], detail: str
) -> None:
    at = await sidecar()
    answer = await (await client(at)).post("/", COOKIE, *fields, body=b"1")
    assert answer.status in (400, 403)
    if answer.status == 403:
        (told,) = lines(at, "request")
        assert told["detail"].startswith(detail)
        assert len(told["detail"]) <= 300


async def test_body_above_the_limit(sidecar: Start, client: Clients) -> None:
    at = await sidecar(limits={"body": "10B"})
    answer = await (await client(at)).post("/", COOKIE, body=b"x" * 11)
    assert answer.status == 413
    (told,) = lines(at, "request")
    assert told["detail"] == "Content-Length is above 10"


# -- who asked -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "field", "client_address"),
    [
        (["127.0.0.1"], "X-Forwarded-For: 203.0.113.9", "203.0.113.9"),
        (["127.0.0.1"], "X-Forwarded-For: 1.2.3.4, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
        (["127.0.0.1"], 'Forwarded: for="[2001:db8::9]:80";proto=https', "2001:db8::9"),
        (["10.0.0.0/8"], "X-Forwarded-For: 203.0.113.9", "127.0.0.1"),
        ([], "Forwarded: for=203.0.113.9", "127.0.0.1"),
    ],
)
async def test_access_log_names_the_client_and_the_peer(
    sidecar: Start, client: Clients, trusted: list[str], field: str, client_address: str
) -> None:
    """The client by trusted proxies only, also for a request that is refused."""
    at = await sidecar(trusted_proxies=trusted)
    one = await client(at)
    assert (await one.get("/", field)).status == 200
    assert (await one.get("/", field, "Expect: nonsense")).status == 417
    told = lines(at, "request")
    assert [(line["client"], line["peer"]) for line in told] == [(client_address, "127.0.0.1")] * 2


async def test_upstream_that_takes_nobodys_token_is_told(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Whatever library has the sessions; once, with the route; and not after a success."""
    at = await sidecar()
    one = await client(at)
    upstream.default = upstream.reply(b"{}", status="401 Unauthorized")
    for user in range(5):
        await one.get("/", f"Cookie: access_token={TOKEN}{user}")
    (told,) = lines(at, "every token is rejected")
    assert (told["level"], told["route"], told["upstream"]) == ("warning", "/", "api")
    assert TOKEN not in at.log.getvalue()
