"""A redirect target that is accepted stays on the origin, by the algorithm of browsers.

Node.js is asked, whose `URL` is that algorithm (WHATWG URL).
"""

from __future__ import annotations

from typing import Final

from sidecar.core.record import replace
from sidecar.core.route_table import UNROUTED
from sidecar.core.target import is_local_path, local_reference
from tests.fuzz import oracles
from tests.fuzz.target import Draw, Target

ORIGIN: Final = "https://app.example.com"
PAGE: Final = ORIGIN + "/api/logout?next=x"
UPSTREAM: Final = "http://api.internal:4000"
ROUTES: Final = tuple(
    replace(
        UNROUTED,
        path="/api/",
        strip=strip,
        strip_segments=strip.count("/"),
        base=base,
        upstream_origins=(UPSTREAM,),
        host=b"api.internal:4000",
    )
    for strip, base in (("", ""), ("/api", ""), ("", "/v1"), ("/api", "/v1"))
)
NODE: Final = oracles.node()


def check(data: bytes) -> None:
    draw = Draw(data)
    route = draw.pick(ROUTES)
    text = draw.rest()
    value = text.decode("utf-8", "surrogateescape")
    if is_local_path(value):
        _stays(value)
    reference = local_reference(value)
    if reference is not None:
        assert is_local_path(reference) or "//" in reference
        _stays(reference)
        _is_printable(reference)
    location = text.decode("latin-1")
    if not set(location) & set(map(chr, (*range(9), *range(10, 32), 127))):
        public = route.public_location(location)
        if public != location:
            _stays(public)  # it was the upstream's own


def _stays(reference: str) -> None:
    href = NODE.ask("url", text=reference, base=PAGE)
    assert str(href).startswith(ORIGIN + "/"), (reference, href)


def _is_printable(reference: str) -> None:
    assert reference.isascii()
    assert reference.isprintable()
    assert " " not in reference


TARGET: Final = Target(
    check,
    words=[
        *(
            b"/",
            b"//",
            b"\\",
            b"/\\",
            b"%2F",
            b"%5C",
            b"..",
            b"%2e",
            b"?",
            b"#",
            b"@",
            b":",
            b"\t",
            b"\n",
            b"\r",
        ),
        *(
            b"http:",
            b"https:",
            b"javascript:",
            b"data:",
            b"evil.example",
            b"app.example.com",
            b"api.internal",
        ),
        *(
            b":4000",
            b"http://api.internal:4000",
            b"HTTP://API.internal:04000/",
            b"/v1",
            b"/api",
            b" ",
            b"\xa0",
        ),
        *(
            b"\xe3\x80\x82",
            b"\xef\xbc\x8f",
            b"\xe2\x80\x8b",
            b"[::1]",
            b"0x7f.1",
            b"%00",
            b"\0",
            b"\x85",
            b";",
            b"'",
        ),
    ],
    seeds=[
        b"\0/dashboard?tab=1#top",
        b"\0//evil.example/",
        b"\0/\\evil.example",
        b"\1http://api.internal:4000/x",
        b"\3/v1/x/../y",
        b"\2//api.internal:4000/v1",
        b"\1/\t/evil.example",
        b"\0/a//b/%2e%2e",
    ],
    longest=256,
)
