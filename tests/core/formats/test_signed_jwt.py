"""Signed sessions: what is believed, by which key, and for how long."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, read_credential
from sidecar.core.formats.signed_jwt import FRESH, HeldKeys, RemoteKeys, jwt_source

SECRET = "a secret of the application, of 32 bytes"
NOW = 1_800_000_000.0
CLAIMS = {"sub": "ada", "accessToken": "at-1", "exp": NOW + 60}
KEYS: dict[str, Any] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
}
PUBLIC = KeySet([type(key).import_key(key.as_dict(private=False)) for key in KEYS.values()])


def signed(algorithm: str, key: Any, claims: dict[str, Any] = CLAIMS, **header: Any) -> str:
    head = {"alg": algorithm, "typ": "JWT", **header}
    text = jws.serialize_compact(head, json.dumps(claims), key, algorithms=[algorithm])
    return str(text)


def by_hand(header: dict[str, Any], key: bytes) -> str:
    """With HMAC-SHA256, whatever the header says."""
    parts = (json.dumps(one).encode() for one in (header, CLAIMS))
    text = b".".join(base64.urlsafe_b64encode(one).rstrip(b"=") for one in parts)
    mac = base64.urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=")
    return f"{text.decode()}.{mac.decode()}"


def by_secret(value: str, now: float = NOW, *secrets: str) -> Reading:
    source = jwt_source(cookie="session", secrets=secrets or (SECRET,))
    return read_credential([source], CookieJar.parse(f"session={value}"), now)


def by_key(value: str, ring: Any = None) -> Reading:
    source = jwt_source(cookie="session", ring=ring or HeldKeys(PUBLIC))
    return read_credential([source], CookieJar.parse(f"session={value}"), NOW)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_session_signed_with_the_secret_yields_its_token(algorithm: str) -> None:
    key = OctKey.import_key(SECRET.encode())
    reading = by_secret(signed(algorithm, key))
    assert (reading.result, reading.token, reading.subject) == (Result.OK, "at-1", "ada")
    assert reading.expires_at == NOW + 60
    assert by_secret(signed(algorithm, key), NOW, "x" * 32, SECRET).result is Result.OK
    assert by_secret(signed(algorithm, key), NOW, "x" * 32).result is Result.INVALID


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_session_signed_with_a_key_yields_its_token(algorithm: str) -> None:
    key = KEYS[algorithm]
    assert by_key(signed(algorithm, key, kid=key.kid)).token == "at-1"
    assert by_key(signed(algorithm, key)).token == "at-1"


def test_public_key_is_no_secret() -> None:
    """The classic confusion: HS256 with the text of the RSA key that everybody knows."""
    pem = KEYS["RS256"].as_pem(private=False)
    assert by_key(by_hand({"alg": "HS256", "kid": "rsa"}, pem)).result is Result.INVALID
    assert by_secret(signed("RS256", KEYS["RS256"])).result is Result.INVALID


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "None"}, {"alg": "HS1"}, {}])
def test_unsigned_session_is_invalid(header: dict[str, str]) -> None:
    parts = (json.dumps(header), json.dumps(CLAIMS))
    text = ".".join(base64.urlsafe_b64encode(one.encode()).rstrip(b"=").decode() for one in parts)
    for reading in (by_secret(f"{text}."), by_key(f"{text}."), by_secret(text), by_key(text)):
        assert reading.result is Result.INVALID


@pytest.mark.parametrize("more", [{"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]}])
def test_header_that_asks_for_more_is_refused(more: dict[str, Any]) -> None:
    """RFC 7515 4.1.11, RFC 7797 3."""
    assert by_secret(by_hand({"alg": "HS256"}, SECRET.encode())).result is Result.OK
    assert by_secret(by_hand({"alg": "HS256", **more}, SECRET.encode())).result is Result.INVALID


def test_session_counts_until_its_end_and_from_its_beginning() -> None:
    key = OctKey.import_key(SECRET.encode())
    value = signed("HS256", key)
    assert by_secret(value, NOW + 59).result is Result.OK
    assert by_secret(value, NOW + 60).result is Result.EXPIRED
    early = signed("HS256", key, CLAIMS | {"nbf": NOW + 61})
    assert by_secret(early).result is Result.INVALID
    assert by_secret(early, NOW + 2).result is Result.OK
    endless = signed("HS256", key, {"accessToken": "at-1"})
    assert by_secret(endless, NOW * 2).result is Result.OK


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize("value", ["1900000000", "never", True, None, [], {}, 2.0**54])
def test_a_time_that_is_none_makes_a_session_invalid(name: str, value: Any) -> None:
    """Or the session would have no end, which its library would not have it (T25)."""
    key = OctKey.import_key(SECRET.encode())
    reading = by_secret(signed("HS256", key, {**CLAIMS, name: value}))
    assert (reading.result, reading.token) == (Result.INVALID, None)


def test_session_without_a_token_is_told_by_its_claims() -> None:
    reading = by_secret(signed("HS256", OctKey.import_key(SECRET.encode()), {"sub": "ada"}))
    assert reading.result is Result.TOKEN_MISSING
    assert "sub" in reading.why


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_whatever_is_no_session_is_invalid_or_none(value: str) -> None:
    for reading in (by_secret(value), by_key(value)):
        assert reading.result in (Result.INVALID, Result.NO_SESSION)


@given(st.integers(0, 400), st.integers(1, 255))
def test_changed_session_is_invalid(at: int, by: int) -> None:
    """Whichever character is changed, but for bits that the encoding does not use."""
    value = signed("HS256", OctKey.import_key(SECRET.encode()))
    place = at % (len(value) - 1)
    other = value[:place] + chr(32 + (ord(value[place]) - 32 + by) % 94) + value[place + 1 :]
    if other != value and not set(other) & set('; ,"\\'):
        assert by_secret(other).result is not Result.OK


def test_unknown_key_is_missed_once_it_is_named() -> None:
    """So that the set is fetched anew; a wrong signature of a known key is no reason."""
    ring, misses = RemoteKeys("https://a/jwks"), []
    ring.fetched_at = NOW
    ring.on_miss = lambda: misses.append(1)
    value = signed("ES256", KEYS["ES256"], kid="ec")
    assert by_key(value, ring).result is Result.INVALID
    assert len(misses) == 1
    ring.keys = PUBLIC
    assert by_key(value, ring).result is Result.OK
    stranger = ECKey.generate_key("P-256", {"kid": "ec"})
    assert by_key(signed("ES256", stranger, kid="ec"), ring).result is Result.INVALID
    assert len(misses) == 1


def test_old_keys_are_asked_for_anew_though_they_fit() -> None:
    """A key that its owner has withdrawn is not believed for ever."""
    ring, misses = RemoteKeys("https://a/jwks"), []
    ring.keys, ring.on_miss = PUBLIC, lambda: misses.append(1)
    value = signed("ES256", KEYS["ES256"], kid="ec")
    for age, wanted in ((FRESH, 0), (FRESH + 1, 1)):
        ring.fetched_at = NOW - age
        assert by_key(value, ring).result is Result.OK
        assert len(misses) == wanted
