"""What can be refused without a key is refused before one is used."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OctKey

from sidecar.core.jwe import (
    A256CBC_HS512,
    A256GCM,
    Keyring,
    SealError,
    as_base64url,
    as_number,
    parse_object,
)
from sidecar.core.keys import hkdf

KEY = bytes(range(32))
KEYRING = Keyring({A256GCM: [KEY]}, {})
GOOD_HEADER: dict[str, object] = {"alg": "dir", "enc": A256GCM}


def compact(header: object, iv: str = "A" * 16, tag: str = "A" * 22, key: str = "") -> str:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return ".".join([base64.urlsafe_b64encode(text).rstrip(b"=").decode(), key, iv, "AAAA", tag])


@pytest.mark.parametrize(
    "token",
    [
        compact({**GOOD_HEADER, "alg": "none"}),
        compact({**GOOD_HEADER, "alg": "A256KW"}),
        compact({**GOOD_HEADER, "alg": "PBES2-HS256+A128KW", "p2c": 2**31, "p2s": "AA"}),
        compact({**GOOD_HEADER, "alg": ["dir"]}),
        compact({"enc": A256GCM}),
        compact({"alg": "dir"}),
        compact({**GOOD_HEADER, "enc": "none"}),
        compact({**GOOD_HEADER, "enc": "A128CBC-HS256"}),
        compact({**GOOD_HEADER, "enc": A256CBC_HS512}),
        compact({**GOOD_HEADER, "enc": {}}),
        compact({**GOOD_HEADER, "zip": "DEF"}),
        compact({**GOOD_HEADER, "zip": None}),
        compact({**GOOD_HEADER, "crit": ["exp"], "exp": 1}),
        compact({**GOOD_HEADER, "crit": []}),
        compact({**GOOD_HEADER, "b64": False}),
        compact(GOOD_HEADER, key="AAAA"),
        compact(GOOD_HEADER, iv="A" * 15),
        compact(GOOD_HEADER, iv=""),
        compact(GOOD_HEADER, tag=""),
        compact(GOOD_HEADER, tag="A" * 16),
        compact(GOOD_HEADER) + ".",
        compact(b'{"alg":"dir","enc":"A256GCM","x":NaN}'),
        compact(b'{"alg":"dir","enc":"A256GCM","x":1e400}'),
        compact(b'{"alg":"dir","enc":"A256GCM","x":' + b"[" * 5000),
        compact(b"\xff"),
        compact([]),
        "",
        "....",
        "a.b.c.d",
        "." * 1000,
        "é....",
    ],
)
def test_a_key_is_never_used_on_what_needs_none_to_refuse(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a key was used")

    monkeypatch.setattr("joserfc.jwe.decrypt_compact", never)
    with pytest.raises(SealError):
        KEYRING.open(token)


def test_what_the_key_sealed_opens() -> None:
    token = jwe.encrypt_compact({"alg": "dir", "enc": A256GCM}, b"text", OctKey.import_key(KEY))
    assert KEYRING.open(token) == b"text"
    with pytest.raises(SealError):
        Keyring({A256GCM: [bytes(32)]}, {}).open(token)


@given(st.text() | st.text("eyJ.AB-_", max_size=200))
def test_any_text_is_refused_with_the_one_error(text: str) -> None:
    with pytest.raises(SealError):
        KEYRING.open(text)


def test_hkdf_is_that_of_rfc_5869() -> None:
    """Appendix A.3 of the RFC, whose key material of 22 octets 0x0b is also UTF-8."""
    expected = (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    assert hkdf(b"\x0b" * 22, salt=b"", info=b"", size=42).hex() == expected


@given(st.binary())
def test_parse_object_yields_a_dict_or_the_one_error(text: bytes) -> None:
    try:
        assert isinstance(parse_object(text), dict)
    except SealError:
        return


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (-1.5, -1.5), (0, 0.0), (2**53, 2.0**53), (2**53 + 1, None), (10**400, None)]
    + [(value, None) for value in (True, None, "1", [1], float("nan"), float("inf"))],
)
def test_only_an_exact_number_is_a_number(value: object, number: float | None) -> None:
    assert as_number(value) == number


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ""),
        ("YQ", "YQ"),
        ("YR", "YQ"),
        ("YQ==", "YQ"),
        ("YQ==YQ", "YQ"),
        ("Y Q", "YQ"),
        ("Y!Q", "YQ"),
        ("Y.Q", "YQ"),
        ("YQ\xe9", "YQ"),
        ("YWI", "YWI"),
        ("YWJj", "YWJj"),
        ("YWJjZ", "YWJj"),
        ("YWJj=ZGVm", "YWJj"),
        ("=YQ", ""),
        ("-_+/", "-_-_"),
        ("A", ""),
    ],
)
def test_base64url_is_read_as_nodejs_reads_it(text: str, read: str) -> None:
    """`Buffer.from(text, "base64").toString("base64url")` of Node.js 20."""
    assert as_base64url(text) == read


@given(st.binary())
def test_base64url_of_octets_stays(octets: bytes) -> None:
    text = base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    assert as_base64url(text) == text
