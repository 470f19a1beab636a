"""A raw cookie is taken as it is, or not at all."""

from __future__ import annotations

import pytest

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Result, read_credential
from sidecar.core.formats.raw import raw_source
from sidecar.core.token_set import TokenSet

SOURCE = raw_source(cookie="access_token")


@pytest.mark.parametrize(
    ("header", "result", "token"),
    [
        ("access_token=abc", Result.OK, "abc"),
        ('access_token="abc"', Result.OK, "abc"),
        ("access_token=a.b-c_d~e+f/g==", Result.OK, "a.b-c_d~e+f/g=="),
        ("__Secure-access_token=abc", Result.OK, "abc"),
        ("access_token=plain; __Host-access_token=host", Result.OK, "host"),
        ("access_token=a b; access_token=abc", Result.OK, "abc"),
        ("access_token=; access_token=abc", Result.OK, "abc"),
        ("access_token=", Result.NO_SESSION, None),
        ('access_token=""', Result.NO_SESSION, None),
        ("access_token", Result.NO_SESSION, None),
        ("other=abc; ACCESS_TOKEN=abc; access_token2=abc", Result.NO_SESSION, None),
        ("access_token.1=c; access_token.0=ab", Result.OK, "abc"),
        ("access_token__0=a%62; access_token__1=c", Result.OK, "abc"),
        ("access_token.1=c; access_token.5=ab", Result.NO_SESSION, None),
        ("access_token=%61bc", Result.OK, "abc"),
        ("access_token=abc%3D%3d", Result.OK, "abc=="),
        ("access_token=%2561bc", Result.BAD_TOKEN, None),
        ("access_token=%6xabc", Result.BAD_TOKEN, None),
        ("access_token=abc%FF", Result.BAD_TOKEN, None),
        ("access_token=a b", Result.BAD_TOKEN, None),
        ("access_token=a=b", Result.BAD_TOKEN, None),
        ('access_token="abc', Result.BAD_TOKEN, None),
        ('access_token="', Result.BAD_TOKEN, None),
        ("access_token=a%20b", Result.BAD_TOKEN, None),
        ("access_token=a\\b", Result.BAD_TOKEN, None),
        ("access_token=a\r\nX: y", Result.BAD_TOKEN, None),
        ("access_token=a\x7f", Result.BAD_TOKEN, None),
        ("access_token=\xe2\x98\x83", Result.BAD_TOKEN, None),
        ("access_token=abc\n", Result.OK, "abc"),
    ],
)
def test_only_a_b64token_is_a_token(header: str, result: Result, token: str | None) -> None:
    reading = read_credential([SOURCE], CookieJar.parse(header), 0)
    assert (reading.result, reading.token) == (result, token)
    assert reading.source == (None if result is Result.NO_SESSION else "cookie")


def test_a_jwt_is_not_judged_by_its_own_expiry() -> None:
    jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.c2ln"
    reading = read_credential([SOURCE], CookieJar.parse(f"access_token={jwt}"), 2_000_000_000)
    assert (reading.result, reading.expires_at, reading.valid_until) == (Result.OK, None, None)


def test_reading_says_where_the_token_came_from() -> None:
    header = "a=b; __Secure-access_token=abc"
    reading = read_credential([SOURCE], CookieJar.parse(header), 0)
    assert reading.cookie == "__Secure-access_token"
    assert reading.names == ("__Secure-access_token",)
    assert reading.chunks == 1
    assert reading.header_bytes == len(header)


@pytest.mark.parametrize(
    ("presented", "written"),
    [("r%C3%A9s", b"refresh_token=r%C3%A9s"), ("r%E2%98%83", b"refresh_token=r%E2%98%83")],
)
def test_a_refresh_token_that_stays_is_written_as_it_came(presented: str, written: bytes) -> None:
    """A provider that does not rotate must be sent the same octets at the next renewal."""
    source = raw_source(cookie="access_token", refresh_cookie="refresh_token")
    jar = CookieJar.parse(f"access_token=a; refresh_token={presented}")
    (reading,) = source.readings(jar, 0.0)
    assert reading.tokens is not None
    renewed = TokenSet("b", reading.tokens.refresh_token, issued_at=0.0)
    lines = source.write(reading, renewed, "fingerprint", Scope())
    assert [line.partition(b";")[0] for line in lines] == [b"access_token=b", written]
