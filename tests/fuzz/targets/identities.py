"""What claims say of a user is told to an upstream as it is, or not at all.

An input is the claims as JSON, which an application or a provider has signed; users write parts of
them. h11 reads what is sent, and the values come back as the claims have them.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import h11

from sidecar.core.access import (
    EMAIL,
    EMAIL_VERIFIED,
    AccessRule,
    ClaimPath,
    folded_email,
    key_of,
    needed_for,
    picked,
    texts,
    verified_email,
    why_not,
)
from sidecar.core.identity import LONGEST_VALUE, IdentityField, identity_lines
from sidecar.core.jwe import SealError, parse_object
from tests.fuzz.target import Target

PATHS: Final[tuple[ClaimPath, ...]] = (("sub",), EMAIL, ("groups",), ("realm", "roles"))
FIELDS: Final = tuple(IdentityField(b"X-User-%d" % at, path) for at, path in enumerate(PATHS))
RULES: Final = (
    AccessRule(EMAIL, domains=frozenset({"example.com"})),
    AccessRule(("groups",), any=frozenset({"admin"})),
    AccessRule(("realm", "roles"), all=frozenset({"a", "b"})),
)


def check(data: bytes) -> None:
    try:
        claims = parse_object(data)
    except SealError:
        return
    shown = picked(claims, needed_for(PATHS))

    def claim(path: ClaimPath) -> object:
        return shown.get(key_of(path))

    told = _told(identity_lines(FIELDS, claim))
    for field in FIELDS:
        _is_true(told.pop(field.name.lower(), None), field.claim, claim(field.claim))
    assert not told, "a claim makes a field of its own"
    if claim(EMAIL_VERIFIED) not in (None, True, "true"):
        assert not FIELDS[1].line(claim), "an email is told that is somebody else's, perhaps"
    _is_let_in(claim)
    why_not(RULES, claim)
    for value in map(claim, PATHS):
        for text in texts(value):
            _is_one_address(text)


def _told(lines: bytes) -> dict[bytes, bytes]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Request), (lines, event)
    assert not connection.trailing_data[0], "another request is behind it"
    names = [bytes(name) for name, _ in event.headers]
    assert len(names) == len(set(names)), "a field stands there twice"
    return {bytes(n): bytes(v) for n, v in event.headers if bytes(n) != b"host"}


def _is_true(told: bytes | None, path: ClaimPath, value: object) -> None:
    if told is None:
        return
    assert 0 < len(told) <= LONGEST_VALUE
    assert told.isascii()
    said = [one for one in texts(value) if one]
    parts = told.decode().split(",") if isinstance(value, list) else [told.decode()]
    assert [unquote(one) for one in parts] == said, (path, told, said)


def _is_let_in(claim: Any) -> None:
    by_domain, by_group, by_roles = (rule.holds(claim) for rule in RULES)
    if by_domain:
        assert claim(EMAIL_VERIFIED) in (True, "true")
        assert any(one.lower().endswith("@example.com") for one in texts(claim(EMAIL)))
    assert by_group == ("admin" in texts(claim(("groups",))))
    assert by_roles == ({"a", "b"} <= set(texts(claim(("realm", "roles")))))
    address = verified_email(claim)
    assert address is None or claim(EMAIL_VERIFIED) in (True, "true")


def _is_one_address(text: str) -> None:
    """All spellings of an address have one: it is its own, and so are other letters of it."""
    folded = folded_email(text)
    if folded is not None:
        assert folded_email(folded) == folded, (text, folded)
        assert folded_email(f" {text} ") == folded
        if text.isascii():
            assert folded_email(text.upper()) == folded


TARGET: Final = Target(
    check,
    words=[
        *(b'{"sub":"u"', b'"email":"', b'u@example.com"', b'"email_verified":', b'"groups":['),
        *(b'"realm":{"roles":', b'"admin"', b'"a"', b'"b"', b"true", b"false", b'"true"', b"null"),
        *(
            b"1",
            b"1.5",
            b"1e300",
            b"-0",
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b'"',
            b":",
            b" ",
            b"@",
            b"%",
        ),
        *(
            b"\\r\\n",
            b"\\u0000",
            b"\\u2028",
            b"\\u0085",
            b"%0d%0a",
            b"%2C",
            b"\xc3\xa9",
            b"\xc3\x9f",
        ),
        *(
            b"\xef\xbc\xa0",
            b"\xe2\x84\xaa",
            b"\xc4\xb0",
            b"xn--",
            b"\xe3\x80\x82",
            b"\xe1\xba\x9e",
            b".",
        ),
    ],
    seeds=[
        b'{"sub":"u","email":"U@Example.com","email_verified":true,"groups":["admin","a,b"]}',
        b'{"sub":" a b ","email":"\xc3\xa9@\xc3\xbc.example","realm":{"roles":["a","b",1,true]}}',
        b'{"sub":"a\\r\\nX-User: b","groups":["%2C",""],"email":"u@example.com"}',
        b'{"sub":1.5,"email":"a@b@example.com.","email_verified":"true"}',
    ],
    longest=512,
)
