"""CORS lines: for listed origins, whole, and for nobody else."""

from __future__ import annotations

import pytest

from sidecar.core.cors import CorsRule
from sidecar.core.request import Request

APP = "https://app.example.com"
RULE = CorsRule([APP])


def ask(method: str = "GET", **fields: str) -> Request:
    named = {"Host": "api.test", **{k.replace("_", "-"): v for k, v in fields.items()}}
    raw = tuple((name.encode(), value.encode()) for name, value in named.items())
    return Request(method, "/x", raw, http11=True)


def test_listed_origin_may_read_with_credentials() -> None:
    """The origin itself, never a wildcard (Fetch 3.2.5)."""
    assert RULE.lines(ask(Origin=APP).facts) == (
        b"Access-Control-Allow-Origin: https://app.example.com\r\n"
        b"Access-Control-Allow-Credentials: true\r\n"
        b"Access-Control-Expose-Headers: X-Request-Id, Retry-After, ETag, Link, Location, "
        b"Content-Disposition\r\n"
    )


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://APP.example.com.evil.example",
        "null",
        "*",
        "",
    ],
)
def test_nobody_else_may(origin: str) -> None:
    asked = ask("OPTIONS", Origin=origin, Access_Control_Request_Method="GET")
    assert RULE.lines(asked.facts) == b""
    assert RULE.preflight_lines(asked.facts) == b""
    assert not RULE.allows(asked.facts)


@pytest.mark.parametrize("origin", ["https://APP.example.com", "https://app.example.com:443"])
def test_an_origin_is_listed_in_every_spelling(origin: str) -> None:
    """What is allowed is the listed one."""
    asked = ask(Origin=origin)
    assert RULE.allows(asked.facts)
    assert RULE.lines(asked.facts) == RULE.lines(ask(Origin=APP).facts)


def test_upstreams_names_are_exposed_besides() -> None:
    """Each once; a wildcard means nothing with credentials, so it is left out."""
    lines = RULE.lines(ask(Origin=APP).facts, b"X-Total, etag, *")
    assert lines.endswith(b"Location, Content-Disposition, x-total\r\n")


@pytest.mark.parametrize(
    ("asked", "is_one"),
    [
        (ask("OPTIONS", Origin=APP, Access_Control_Request_Method="PUT"), True),
        (ask("OPTIONS", Origin=APP), False),
        (ask("OPTIONS", Access_Control_Request_Method="PUT"), False),
        (ask("GET", Origin=APP, Access_Control_Request_Method="PUT"), False),
    ],
)
def test_what_is_a_preflight(asked: Request, is_one: bool) -> None:
    """Fetch 3.2.2; any other OPTIONS is the upstream's."""
    assert CorsRule.is_preflight(asked) is is_one


def test_preflight_is_told_what_may_be_sent() -> None:
    wanted = {"Access_Control_Request_Method": "PUT"}
    lines = RULE.preflight_lines(
        ask(
            "OPTIONS", Origin=APP, Access_Control_Request_Headers="x-csrf,content-type", **wanted
        ).facts
    )
    assert b"Access-Control-Allow-Headers: x-csrf,content-type\r\n" in lines
    assert b"Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n" in lines
    assert b"Access-Control-Max-Age: 600\r\n" in lines
    long = ask("OPTIONS", Origin=APP, Access_Control_Request_Headers="x" * 5000, **wanted)
    assert b"Allow-Headers" not in RULE.preflight_lines(long.facts)


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        ("PROPFIND", ", PROPFIND"),
        ("QUERY", ", QUERY"),
        ("patch", ", patch"),  # what a page writes in lower case is another method
        ("DELETE", ""),
        ("A B", ""),
        ("A, *", ""),
        ("X" * 65, ""),
        ("", ""),
    ],
)
def test_preflight_allows_the_method_that_is_asked_for(asked: str, more: str) -> None:
    """WebDAV's, and whatever else an API knows; nothing that is no method."""
    request = ask("OPTIONS", Origin=APP, Access_Control_Request_Method=asked)
    line = f"Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE{more}\r\n"
    assert line.encode() in RULE.preflight_lines(request.facts)


def test_without_origins_it_is_off() -> None:
    assert not CorsRule([]).is_on
    assert CorsRule([]).lines(ask(Origin=APP).facts) == b""
