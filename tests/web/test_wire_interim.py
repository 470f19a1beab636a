"""Interim answers reach the clients that know them: early hints (RFC 8297), and all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Start, Upstream

LINK = "</app.css>; rel=preload; as=style"
HINTS = f"HTTP/1.1 103 Early Hints\r\nLink: {LINK}\r\n\r\n".encode()


def site(upstream: Upstream) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [
            {"path": "/api", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
    }


@pytest.mark.parametrize("path", ["/page", "/api/a"])
@pytest.mark.parametrize("gap", [None, 0.02])
async def test_hints_pass_before_the_answer(
    sidecar: Start, upstream: Upstream, client: Clients, path: str, gap: float | None
) -> None:
    """Each of them, in whatever pieces they come; the connection serves the next request."""
    answer = upstream.reply(b'{"data":1}')
    upstream.default = HINTS + HINTS + answer if gap is None else [HINTS, gap, HINTS, gap, answer]
    one = await client(await sidecar(site(upstream)))
    for _ in range(2):
        got = await one.get(path)
        assert (got.status, got.interim) == (200, (103, 103))
        assert got.hints == (("Link", LINK), ("Link", LINK))
    assert upstream.connections == 1


async def test_hints_arrive_while_the_answer_is_made(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = [HINTS, 0.4, upstream.reply(b"{}")]
    one = await client(await sidecar(site(upstream)))
    one.send("GET /page HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
    assert not await one.is_silent(0.2)


@pytest.mark.parametrize(
    ("head", "hints"),
    [
        (b"Link: </a>\r\nX-Other: 1\r\n", (("Link", "</a>"), ("X-Other", "1"))),
        (b"Link: </a>\r\nSet-Cookie: access_token=evil\r\n", (("Link", "</a>"),)),
        (b"Link: </a>\r\nTransfer-Encoding: chunked\r\n", None),
        (b"Link: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n", (("Link", "</a>"),)),
        (b"Link: </a>\r\nLocation: /x\r\nKeep-Alive: timeout=5\r\n", (("Link", "</a>"),)),
        (b"Link: a\x01b\r\n", ()),
        (b"Set-Cookie: a=b\r\n", ()),
        (b"", ()),
    ],
)
async def test_hints_hold_nothing_that_counts_in_an_answer(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    head: bytes,
    hints: tuple[tuple[str, str], ...] | None,
) -> None:
    """No cookie, no framing, nothing of the connection; malformed ones are left out."""
    upstream.default = b"HTTP/1.1 103 Early Hints\r\n" + head + b"\r\n" + upstream.reply(b"{}")
    answer = await (await client(await sidecar(site(upstream)))).get("/page")
    if hints is None:
        assert answer.status in (200, 502)
    else:
        assert (answer.status, answer.hints) == (200, hints)


async def test_client_of_http_1_0_gets_no_interim_answer(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = HINTS + upstream.reply(b"{}")
    one = await client(await sidecar(site(upstream)))
    one.send("GET /page HTTP/1.0\r\nHost: app.example.com\r\n\r\n")
    assert (await one.rest()).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("102 Processing", ((102,), ())),
        ("102 Processing\r\nX-A: 1\r\nSet-Cookie: a=b", ((102,), (("X-A", "1"),))),
        (
            "104 Upload Resumption Supported\r\nLocation: /uploads/7\r\nUpload-Limit: max-size=9",
            ((104,), (("Upload-Limit", "max-size=9"), ("Location", "/api/uploads/7"))),
        ),
        ("199 Not Known", ((199,), ())),
        ("100 Continue\r\nX-A: 1", ((), ())),
    ],
)
@pytest.mark.parametrize("gap", [0.0, 0.02])
async def test_other_interim_answers_pass_but_for_continue(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    sent: str,
    passed: tuple[tuple[int, ...], tuple[tuple[str, str], ...]],
    gap: float,
) -> None:
    """RFC 9110 15.2; a Location of 104 is where the client finds it. Nobody asked for 100."""
    config = site(upstream)
    config["routes"][0]["strip"] = "/api"
    upstream.default = [f"HTTP/1.1 {sent}\r\n\r\n".encode(), gap, upstream.reply(b"{}")]
    one = await client(await sidecar(config))
    for _ in range(2):
        answer = await one.get("/api/a")
        assert (answer.status, answer.interim, answer.hints) == (200, *passed)


async def test_hints_of_pipelined_requests_stand_before_their_own_answers(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = lambda request: [
        HINTS.replace(b"app.css", request.target[1:].encode()),
        0.01,
        upstream.reply(b"{}", f"X-Path: {request.target}"),
    ]
    one = await client(await sidecar(site(upstream)))
    one.send("".join(f"GET /{n} HTTP/1.1\r\nHost: app.example.com\r\n\r\n" for n in range(3)))
    for number in range(3):
        answer = await one.answer()
        assert answer.get("X-Path") == f"/{number}"
        assert answer.hints == (("Link", LINK.replace("app.css", str(number))),)
