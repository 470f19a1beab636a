"""Whatever spelling a server takes for a gated path needs a session.

The servers run, and are asked for what the sidecar would forward without one.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.errors import BadRequest
from sidecar.core.record import replace
from sidecar.core.route_table import UNROUTED, RouteTable
from sidecar.core.target import split_target
from tests.fuzz import oracles
from tests.fuzz.target import Target

OPEN: Final = replace(UNROUTED, path="/", kind="page", session="optional")
GATED: Final = replace(OPEN, path="/gated/", session="required")
STRIPS: Final = replace(OPEN, path="/app/", strip="/app", strip_segments=1)
TABLES: Final = (
    ("/", RouteTable([OPEN, GATED])),
    ("/app/", RouteTable([STRIPS, replace(STRIPS, path="/app/gated/", session="required")])),
)
"""Where a client finds what the servers have at `/`, and the routes to it."""
SERVERS: Final = oracles.servers()


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for prefix, table in TABLES:
        _needs_a_session(prefix + text, table)


def _needs_a_session(target: str, table: RouteTable) -> None:
    try:
        path, query, route_path = split_target(target)
    except BadRequest:
        return
    route = table.match(route_path)
    if route is None or route.session == "required":
        return
    sent = route.upstream_target(path, query).encode("utf-8", "surrogateescape")
    for server in SERVERS:
        assert oracles.MARK.encode() not in server.body_of(sent), f"{server.name} answers {sent!r}"


TARGET: Final = Target(
    check,
    words=[
        *(
            b"gated",
            b"secret.txt",
            b"/",
            b"//",
            b"%2F",
            b"%2f",
            b"%252F",
            b"%5C",
            b"%255C",
            b";",
            b";a=b",
        ),
        *(
            b".",
            b"%2E",
            b"..",
            b"%67",
            b"%47",
            b"GATED",
            b"Gated",
            b"SECRET.TXT",
            b"%3B",
            b"%3F",
            b"?",
            b"%23",
        ),
        *(
            b"%00",
            b"%20",
            b"%09",
            b"%0D%0A",
            b"%C0%AF",
            b"%C0%AE",
            b"\xc3\xa9",
            b"%EF%BC%8F",
            b"%E2%81%84",
        ),
        *(
            b"a.example",
            b"http:",
            b"@",
            b":",
            b"~",
            b"+",
            b"*",
            b"%",
            b"%25",
            b"index.html",
            b"&",
            b"%7E",
        ),
    ],
    seeds=[
        b"gated/secret.txt",
        b"/gated/secret.txt",
        b"gated%2Fsecret.txt",
        b"%67ated/secret.txt?a=b",
        b"gated;a=b/secret.txt",
        b"a.example//gated/secret.txt",
        b"index.html",
    ],
    longest=128,
)
