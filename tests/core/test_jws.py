"""A signed token is believed only with the provider's own keys and algorithms, and of its type."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from sidecar.core.jws import (
    ALGORITHMS,
    InvalidToken,
    UnknownKey,
    WrongSignature,
    key_of_pem,
    parse_keys,
    verify,
)

CLAIMS = {"sub": "alice", "exp": 12345678901234567}
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec", "alg": "ES256"})
EC384 = ECKey.generate_key("P-384", {"kid": "ec384"})
EC521 = ECKey.generate_key("P-521", {"kid": "ec521"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
OTHER = RSAKey.generate_key(2048, {"kid": "rsa"})
JWT = {"jwt"}


def published(*keys: Any) -> bytes:
    return json.dumps(KeySet(list(keys)).as_dict(private=False)).encode()


KEYS = parse_keys(published(RSA, EC, EC384, EC521, ED))


def signed(key: Any, alg: str, /, claims: Any = CLAIMS, **header: Any) -> str:
    whole = {"alg": alg, "kid": key.kid, "typ": "JWT", **header}
    fields = {name: value for name, value in whole.items() if value is not None}
    registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jws.serialize_compact(fields, payload, key, registry=registry)


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        *((RSA, alg) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        *((EC, "ES256"), (EC384, "ES384"), (EC521, "ES512"), (ED, "Ed25519")),
    ],
)
def test_every_asymmetric_algorithm_is_verified(key: Any, alg: str) -> None:
    verified = verify(signed(key, alg), KEYS, ALGORITHMS, JWT)
    assert (verified.claims, verified.algorithm) == (CLAIMS, alg)
    assert "alice" not in repr(verified)


def test_the_old_name_of_ed25519_is_known() -> None:
    """Providers write `EdDSA` (RFC 8037), which RFC 9864 has given up; no warning comes of it."""
    header, payload, _ = signed(ED, "Ed25519").split(".")
    fields = {"alg": "EdDSA", "kid": "ed"}
    header = base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()
    raw = ED.get_op_key("sign").sign(f"{header}.{payload}".encode())  # type: ignore[union-attr]  # it is a private key
    token = f"{header}.{payload}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"
    assert verify(token, KEYS, ["EdDSA"], JWT).claims == CLAIMS


def test_headers_that_other_providers_send_do_no_harm() -> None:
    token = signed(RSA, "RS256", x5t="AAAA", nonce="x", x5c=["A" * 3000])
    assert verify(token, KEYS, ["RS256"], JWT).claims == CLAIMS


def test_a_single_key_needs_no_kid() -> None:
    keys = parse_keys(published(RSA, EC))
    assert verify(signed(RSA, "RS256", kid=None), keys, ALGORITHMS, JWT).claims == CLAIMS


def hmac_with_the_public_key() -> str:
    """The old attack: the public key taken for a shared secret."""
    body = signed(RSA, "RS256").split(".")[1]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').rstrip(b"=").decode()
    mac = hmac.digest(RSA.as_pem(private=False), f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def unsigned() -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","kid":"rsa"}').rstrip(b"=").decode()
    return f"{header}.{signed(RSA, 'RS256').split('.')[1]}."


def tampered() -> str:
    header, _, signature = signed(RSA, "RS256").split(".")
    payload = base64.urlsafe_b64encode(b'{"sub":"bob"}').rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (hmac_with_the_public_key, "algorithm"),
        (unsigned, "algorithm"),
        (tampered, "signature"),
        (lambda: signed(OTHER, "RS256"), "signature"),
        (lambda: signed(EC, "ES256", kid="rsa"), "not for its algorithm"),
        (lambda: signed(EC384, "ES384", kid="ec"), "not for its algorithm"),  # by its `alg`
        (lambda: signed(RSA, "RS256", typ="at+jwt"), "type"),
        (lambda: signed(RSA, "RS256", typ="application/logout+jwt"), "type"),
        (lambda: signed(RSA, "RS256", b64=True, crit=["b64"]), "header"),
        (lambda: signed(RSA, "RS256", claims=b"[]"), "object"),
        (lambda: signed(RSA, "RS256", claims=b'{"exp": NaN}'), "JSON"),
        (lambda: signed(RSA, "RS256", claims=b""), "JSON"),
        (lambda: signed(RSA, "RS256", claims=b"[" * 20_000), "JSON"),
        (lambda: signed(RSA, "RS256").rpartition(".")[0], "serialization"),
        (lambda: signed(RSA, "RS256") + ".x", "serialization"),
        (lambda: "", "serialization"),
        (lambda: "..", "header"),
        (lambda: "\N{SNOWMAN}..", "serialization"),
        (lambda: signed(RSA, "RS256", claims={"a": "x" * 80_000}), "serialization"),
        (lambda: "eyJhbGciOlsiUlMyNTYiXX0.e30.AA", "algorithm"),  # ["RS256"]
    ],
)
def test_what_is_not_to_be_believed_is_refused(make: Any, why: str) -> None:
    with pytest.raises(InvalidToken, match=why) as caught:
        verify(make(), KEYS, ALGORITHMS, JWT)
    assert not isinstance(caught.value, UnknownKey)


def test_only_what_the_provider_announces_is_allowed() -> None:
    for announced in ([], ["ES256"], ["HS256", "none", "*"]):
        with pytest.raises(InvalidToken, match="algorithm"):
            verify(signed(RSA, "RS256"), KEYS, announced, JWT)


def test_a_key_that_is_not_published_is_told_apart() -> None:
    """So that the caller looks for new keys, which no other failure is worth."""
    with pytest.raises(UnknownKey):
        verify(signed(RSA, "RS256", kid="new"), KEYS, ALGORITHMS, JWT)
    with pytest.raises(UnknownKey):
        verify(signed(RSA, "RS256", kid=None), parse_keys(published(EC)), ALGORITHMS, JWT)


def unnamed(*keys: Any) -> KeySet:
    """As some providers publish them: without `kid`."""
    entries = [{k: v for k, v in key.as_dict(private=False).items() if k != "kid"} for key in keys]
    return parse_keys(json.dumps({"keys": entries}).encode())


@pytest.mark.parametrize("kid", [None, "anything"])
def test_each_key_that_fits_is_tried_where_none_is_named(kid: str | None) -> None:
    """Without kid in the token, or in the set (OpenID Connect Core 10.1)."""
    token = signed(RSA, "RS256", kid=kid)
    assert verify(token, unnamed(EC, OTHER, RSA), ALGORITHMS, JWT).claims == CLAIMS
    with pytest.raises(WrongSignature):
        verify(token, unnamed(EC, OTHER), ALGORITHMS, JWT)
    with pytest.raises(WrongSignature):  # no token is worth more than eight tries
        verify(token, unnamed(*[OTHER] * 8, RSA), ALGORITHMS, JWT)


def test_keys_of_one_name_are_all_tried() -> None:
    """A provider that rotates its key under one name publishes both for a while."""
    entries = [{**key.as_dict(private=False), "kid": "same"} for key in (OTHER, RSA)]
    keys = parse_keys(json.dumps({"keys": entries}).encode())
    assert verify(signed(RSA, "RS256", kid="same"), keys, ALGORITHMS, JWT).claims == CLAIMS


def test_an_algorithm_that_is_refused_is_named() -> None:
    """With what to set at the provider; what is no algorithm's name is not repeated."""
    for make, told in ((hmac_with_the_public_key, "HS256.*set the client to "), (unsigned, "none")):
        with pytest.raises(InvalidToken, match=told):
            verify(make(), KEYS, ALGORITHMS, JWT)


def test_keys_that_cannot_be_used_are_left_out() -> None:
    """Symmetric, weak, broken and unknown ones, and those for encryption; the good one stays."""
    good = RSA.as_dict(private=False)
    weak = {**good, "kid": "weak", "n": "w" * 171}  # 1024 bits
    entries = [
        {"kty": "oct", "kid": "oct", "k": "AAAA"},
        {**good, "kid": "enc", "use": "enc"},
        {"kty": "RSA", "kid": "broken"},
        {"kty": "RSA", "kid": "odd", "n": 1, "e": "AQAB"},
        {"kty": "EC", "kid": "off", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "curve", "crv": "P-999", "x": "AA", "y": "AA"},
        {**ECKey.generate_key("secp256k1").as_dict(private=False), "kid": "no algorithm"},
        {**OKPKey.generate_key("X25519").as_dict(private=False), "kid": "for agreement"},
        {"kty": "ML-DSA", "kid": "new"},
        "no key",
        None,
        weak,
        {**good, "d": "private"},
    ]
    keys = parse_keys(json.dumps({"keys": entries}).encode())
    assert [key.kid for key in keys] == ["rsa"]
    assert not any(key.is_private for key in keys)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": null}'])
def test_a_key_set_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidToken, match="key set"):
        parse_keys(body)


@pytest.mark.parametrize("curve", [ec.BrainpoolP256R1(), ec.SECP256K1(), None])
def test_a_pem_key_that_no_algorithm_takes_is_refused(curve: ec.EllipticCurve | None) -> None:
    """At load: with it no session would ever be believed."""
    key = X25519PrivateKey.generate() if curve is None else ec.generate_private_key(curve)
    text = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(InvalidToken, match="must be RSA"):
        key_of_pem(text)


def test_a_pem_key_of_an_unknown_type_is_refused() -> None:
    known, unknown = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d4201")
    der = base64.b64encode(EC.as_der(private=False).replace(known, unknown)).decode()
    with pytest.raises(InvalidToken, match="must be RSA"):
        key_of_pem(f"-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
