"""Login sessions packed for cookies: small, whole again, and no secret in what is compressed."""

from __future__ import annotations

import json
import os
import zlib
from base64 import urlsafe_b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.formats.packed import MOST, pack, unpack
from sidecar.core.token_set import TokenSet

MEMBERS = {"id": "the-id", "fingerprint": "f", "sid": None, "created_at": 1.5}
PROFILE = {"name": "Zoë", "email": None, "picture": None}
SIGNATURE = os.urandom(256)


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwt(claims: object) -> str:
    header = encoded(b'{"alg":"RS256"}')
    return f"{header}.{encoded(json.dumps(claims).encode())}.{encoded(SIGNATURE)}"


def again(tokens: TokenSet) -> TokenSet:
    members, profile, unpacked = unpack(pack(MEMBERS, PROFILE, tokens))
    assert (members, profile) == (MEMBERS, PROFILE)
    return unpacked


@pytest.mark.parametrize(
    "token",
    [
        jwt({"sub": "alice"}),
        "opaque/token+1==",
        "a.b",
        "a.b.c",
        "YQ.YQ.YR",  # decodes, but is not what encoding gives
        "YQ==.YQ.YQ",
        "..",
        "YQ.YQ.YQ.YQ.YQ",
        "é",
        "",
    ],
)
def test_every_token_comes_out_as_it_went_in(token: str) -> None:
    tokens = TokenSet(token, token, 2.0, None, token, 7)
    assert again(tokens) == tokens
    assert again(tokens).generation == 7


@given(st.text(), st.none() | st.text(), st.none() | st.text())
def test_any_tokens_at_all(access: str, refresh: str | None, id_token: str | None) -> None:
    tokens = TokenSet(access, refresh, None, 1.0, id_token)
    assert again(tokens) == tokens


def test_what_jwts_have_in_common_is_there_once() -> None:
    """An access token, an id_token and a refresh token of one user, as Keycloak makes them."""
    claims = {"iss": "https://sso.example.com/realms/main", "roles": ["a", "b", "c"] * 60}
    tokens = TokenSet(jwt(claims), jwt({**claims, "typ": "r"}), 1.0, 2.0, jwt({**claims, "n": 1}))
    size = len(tokens.access_token + (tokens.refresh_token or "") + (tokens.id_token or ""))
    assert len(pack(MEMBERS, PROFILE, tokens)) < size / 3


def test_no_secret_is_among_what_is_compressed() -> None:
    """Or its length would tell of guesses that somebody has put beside it."""
    tokens = TokenSet("opaque-access-secret", "opaque-refresh-secret", 1.0, 2.0, jwt({"a": 1}))
    packed = pack({**MEMBERS, "id": "id-secret"}, PROFILE, tokens)
    told = zlib.decompress(msgspec.msgpack.decode(packed)[-1])
    assert b'{"a": 1}' in told
    assert b"secret" not in told
    assert SIGNATURE[:8] not in told
    for secret in (b"opaque-access-secret", b"opaque-refresh-secret", b"id-secret", SIGNATURE):
        assert secret in packed


BOMB = zlib.compress(msgspec.msgpack.encode([PROFILE, b"x" * 2 * MOST]))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"{}",
        b"\xff",
        msgspec.msgpack.encode([MEMBERS, [None, None, 0], [None, None, None], b"no zlib"]),
        msgspec.msgpack.encode([MEMBERS, [None, None, 0], [None, None, None], BOMB]),
        msgspec.msgpack.encode(
            [MEMBERS, [None, None, 0], [None, 7, None], zlib.compress(b"\x91\xc0")]
        ),
        msgspec.msgpack.encode(
            [MEMBERS, [None, None, 0], [b"s", 7, None], zlib.compress(b"\x91\xc0")]
        ),
    ],
)
def test_what_was_not_packed_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        unpack(packed)
