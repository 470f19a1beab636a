"""Header fields that are made of claims: what an upstream is told, and nothing but that."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.access import find_claim
from sidecar.core.identity import LONGEST_VALUE, IdentityField, field_value, identity_lines


def claims(**said: Any) -> Any:
    return lambda path: find_claim(said, path)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("alice@example.com", b"alice@example.com"),
        ("Alice B.", b"Alice B."),
        ("Zoë", b"Zo%C3%AB"),
        ("100%", b"100%25"),
        (" a ", b"%20a%20"),
        ("  ", b"%20%20"),
        (["staff", "a,b", ""], b"staff,a%2Cb"),
        ("a,b", b"a,b"),
        (True, b"true"),
        (7, b"7"),
        ("", b""),
        ([], b""),
        ("a\r\nX-Admin: 1", b""),
        ("a\tb", b""),
        ("a\x85b", b""),
        (["fine", "no\0"], b""),
        ("x" * LONGEST_VALUE, b"x" * LONGEST_VALUE),
        ("x" * (LONGEST_VALUE + 1), b""),
    ],
)
def test_how_a_claim_is_written(value: object, written: bytes) -> None:
    """Printable ASCII as it is; control characters and what is too long are left out whole."""
    assert field_value(value) == written


@given(st.text() | st.lists(st.text(), max_size=5))
def test_no_value_leaves_its_line_and_each_can_be_read_back(value: Any) -> None:
    written = field_value(value)
    assert all(0x20 <= octet < 0x7F for octet in written)
    assert written == written.strip(b" ")
    if written:
        items = value if isinstance(value, list) else [value]
        parts = written.decode().split(",") if isinstance(value, list) else [written.decode()]
        assert [unquote(one) for one in parts] == [one for one in items if one]


def test_lines_of_what_the_session_says() -> None:
    """A claim that is missing, or an object, gives no line."""
    fields = [
        IdentityField(b"X-User", ("sub",)),
        IdentityField(b"X-Team", ("org", "team")),
        IdentityField(b"X-Org", ("org",)),
        IdentityField(b"X-None", ("none",)),
    ]
    lines = identity_lines(fields, claims(sub="alice", org={"team": "a"}))
    assert lines.startswith(b"X-User: alice\r\nX-Team: a\r\n")
    assert b"X-None" not in lines


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({}, b"X-User: a@b.c\r\n"),
        ({"email_verified": True}, b"X-User: a@b.c\r\n"),
        ({"email_verified": "true"}, b"X-User: a@b.c\r\n"),
        ({"email_verified": False}, b""),
        ({"email_verified": "false"}, b""),
    ],
)
def test_an_email_that_is_called_unverified_is_nobodys_name(
    said: dict[str, Any], line: bytes
) -> None:
    field = IdentityField(b"X-User", ("email",))
    assert field.line(claims(email="a@b.c", **said)) == line
