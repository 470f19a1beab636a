"""When tokens are renewed: before they expire, and never for nothing."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.token_set import TokenSet, from_bytes, jwt_times, to_bytes, token_set

NOW = 1_800_000_000.0


def jwt(claims: Any) -> str:
    parts = (b'{"alg":"none"}', msgspec.json.encode(claims), b"signature")
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize(
    ("tokens", "leeway", "at"),
    [
        (TokenSet("a", "r", NOW, NOW - 300), 30, NOW - 30),
        # At most half of the lifetime, or short tokens would be renewed at every request.
        (TokenSet("a", "r", NOW, NOW - 20), 30, NOW - 10),
        (TokenSet("a", "r", NOW), 30, NOW - 30),
        (TokenSet("a", "r", NOW, NOW + 5), 30, NOW - 30),
        # Nothing is known of its end, or there is nothing to renew it with.
        (TokenSet("a", "r"), 30, inf),
        (TokenSet("a", None, NOW), 30, inf),
        (TokenSet("a", "", NOW), 30, inf),
        # Only what renews it is left.
        (TokenSet("", "r"), 30, 0.0),
    ],
)
def test_when_tokens_are_renewed(tokens: TokenSet, leeway: float, at: float) -> None:
    assert tokens.renews_at(leeway) == at


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6))
def test_token_is_used_for_half_of_its_life_at_least(lifetime: float, leeway: float) -> None:
    """Whatever the leeway is set to."""
    tokens = TokenSet("a", "r", NOW + lifetime, NOW)
    assert NOW + lifetime / 2 <= tokens.renews_at(leeway) + 1e-3 <= NOW + lifetime + 1e-3


@pytest.mark.parametrize(
    ("tokens", "is_valid"),
    [
        (TokenSet("a", "r", NOW + 1), True),
        (TokenSet("a", "r", NOW), False),
        (TokenSet("a", "r"), True),
        (TokenSet("", "r"), False),
    ],
)
def test_what_can_still_be_used(tokens: TokenSet, is_valid: bool) -> None:
    assert tokens.is_valid(NOW) is is_valid


@pytest.mark.parametrize(
    ("token", "times"),
    [
        (jwt({"iat": 1, "exp": 2}), (1.0, 2.0)),
        (jwt({"exp": 2.5}), (None, 2.5)),
        (jwt({"exp": "2"}), (None, None)),
        (jwt({"exp": True}), (None, None)),
        (jwt({"exp": -1}), (None, None)),
        (jwt({"exp": 1e300}), (None, None)),
        (jwt([1]), (None, None)),
        ("a.b.c", (None, None)),
        ("a.!!.c", (None, None)),
        ("opaque", (None, None)),
        ("", (None, None)),
        (f"a.{'A' * 20000}.c", (None, None)),
    ],
)
def test_times_of_a_jwt(token: str, times: tuple[float | None, float | None]) -> None:
    """They are read unverified, since they only say when to renew; nothing odd raises."""
    assert jwt_times(token) == times


@given(st.text(max_size=200))
def test_no_token_is_too_odd(token: str) -> None:
    jwt_times(token)
    jwt_times(f"{token}.{token}.{token}")


def test_stated_times_go_before_those_in_the_token() -> None:
    token = jwt({"iat": 1, "exp": 2})
    assert token_set(token, "r", None) == TokenSet(token, "r", 2.0, 1.0)
    assert token_set(token, "r", 9.0) == TokenSet(token, "r", 9.0, 1.0)
    assert token_set(token, "r", 9.0, 5.0) == TokenSet(token, "r", 9.0, 5.0)


def test_stored_tokens_come_back_and_nothing_else_does() -> None:
    tokens = TokenSet("a", "r", 1.5, None, "id")
    assert from_bytes(to_bytes(tokens)) == tokens
    for bad in (b"", b"{}", b"[]", b'{"access_token":1}', b"\xff"):
        with pytest.raises(msgspec.DecodeError):
            from_bytes(bad)


def test_repr_holds_no_token() -> None:
    text = repr(TokenSet("secret-a", "secret-r", 1.0, 2.0, "secret-i"))
    assert "secret" not in text
