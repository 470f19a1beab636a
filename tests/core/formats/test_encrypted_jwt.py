"""What a row of `FAMILIES` means for the cookie that it describes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import OctKey

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, read_credential
from sidecar.core.formats import FORMATS
from sidecar.core.formats.encrypted_jwt import FAMILIES, Family
from sidecar.core.jwe import ENCRYPTIONS
from sidecar.core.keys import hkdf

NOW = 1_800_000_000
GOOD = {"accessToken": "at", "tokenSet": {"accessToken": "at"}}
FOREIGN_ENCRYPTIONS = {"A128GCM": 16, "A192GCM": 24, "A128CBC-HS256": 32, "A192CBC-HS384": 48}


def seal(family: Family, payload: object, **header: Any) -> str:
    enc = header.pop("enc", family.encryptions[0])
    size = ENCRYPTIONS[enc].key_size if enc in ENCRYPTIONS else FOREIGN_ENCRYPTIONS[enc]
    salt, info = (text.format(name=family.cookie) for text in (family.salt, family.info))
    registry = jwe.JWERegistry(
        algorithms=["dir", enc, "DEF"], strict_check_header=False, header_registry={}
    )
    plaintext = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    key = OctKey.import_key(hkdf(b"secret", salt=salt.encode(), info=info.encode(), size=size))
    return jwe.encrypt_compact(
        {"alg": "dir", "enc": enc, **header}, plaintext, key, registry=registry
    )


def read(family: Family, value: str, *secrets: str) -> Reading:
    source = FORMATS[family.type](secrets=secrets or ("secret",))
    return read_credential([source], CookieJar.parse(f"{family.cookie}={value}"), NOW)


families = pytest.mark.parametrize("family", FAMILIES, ids=[f.type for f in FAMILIES])


@families
@pytest.mark.parametrize("position", [0, 1, 2])
def test_every_secret_of_a_list_opens(family: Family, position: int) -> None:
    secrets = ["other", "another", "a third"]
    secrets[position] = "secret"
    assert read(family, seal(family, GOOD), *secrets).token == "at"


@families
def test_a_secret_that_is_not_listed_does_not_open(family: Family) -> None:
    assert read(family, seal(family, GOOD), "other").result is Result.INVALID


@families
@pytest.mark.parametrize("enc", FOREIGN_ENCRYPTIONS)
def test_an_encryption_that_the_library_does_not_use_is_refused(family: Family, enc: str) -> None:
    assert read(family, seal(family, GOOD, enc=enc)).result is Result.INVALID


@families
def test_compression_is_refused(family: Family) -> None:
    assert read(family, seal(family, GOOD, zip="DEF")).result is Result.INVALID


@families
@pytest.mark.parametrize(
    "extra", [{"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}, {"typ": "JWT"}]
)
def test_hints_at_other_keys_are_ignored(family: Family, extra: dict[str, object]) -> None:
    assert read(family, seal(family, GOOD, **extra)).result is Result.OK


@families
@pytest.mark.parametrize(
    ("claims", "result"),
    [
        ('"exp": 1799999986', Result.OK),
        ('"exp": 1799999985', Result.EXPIRED),
        ('"exp": 1799999985.5', Result.OK),
        ('"exp": 0', Result.EXPIRED),
        ('"exp": -1', Result.EXPIRED),
        ('"exp": 99999999999999', Result.OK),
        ('"exp": 1e15', Result.OK),
        ('"exp": 1e300', Result.INVALID),
        ('"exp": 1e400', Result.INVALID),
        ('"exp": -1e400', Result.INVALID),
        ('"exp": 1' + "0" * 400, Result.INVALID),
        ('"exp": NaN', Result.INVALID),
        ('"exp": Infinity', Result.INVALID),
        ('"exp": true', Result.INVALID),
        ('"exp": null', Result.INVALID),
        ('"exp": "1900000000"', Result.INVALID),
        ('"exp": [1900000000]', Result.INVALID),
        ('"nbf": 1800000015', Result.OK),
        ('"nbf": 1800000016', Result.INVALID),
        ('"nbf": false', Result.INVALID),
        ('"iat": 1900000000', Result.OK),
        ('"iat": "now"', Result.INVALID),
        ('"name": "Ann \\ud83d"', Result.OK),
        ('"name": "\\ud83d\\ude00"', Result.OK),
        ('"deep": ' + "[" * 100_000, Result.INVALID),
    ],
)
def test_claims_are_held_to_their_types_and_times(
    family: Family, claims: str, result: Result
) -> None:
    payload = f'{{"accessToken": "at", "tokenSet": {{"accessToken": "at"}}, {claims}}}'
    assert read(family, seal(family, payload.encode())).result is result


@families
@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b'{"accessToken":"\xff"}', b"\xef\xbb\xbf{}", b"null", b"[]", b'"at"']
)
def test_a_payload_that_is_no_json_object_is_invalid(family: Family, payload: bytes) -> None:
    assert read(family, seal(family, payload)).result is Result.INVALID


def other_spellings(text: str) -> dict[str, str]:
    """Texts that a careless base64url decoder takes for `text`."""
    return {
        "padding": text + "==",
        "whitespace": text[:4] + "\n" + text[4:],
        "a character to ignore": text[:4] + "!" + text[4:],
        "trailing bits": text[:-1] + chr(ord(text[-1]) + 1),
        "the plain alphabet": text.replace("-", "+").replace("_", "/"),
    }


@families
@pytest.mark.parametrize("part", [0, 2, 3, 4])
def test_base64url_has_one_spelling(family: Family, part: int) -> None:
    """Only what RFC 7515 appendix C writes is read, so that a cookie value has no twins."""
    parts = seal(family, GOOD).split(".")
    for how, twin in other_spellings(parts[part]).items():
        value = ".".join([*parts[:part], twin, *parts[part + 1 :]])
        expected = Result.OK if twin == parts[part] else Result.INVALID
        assert read(family, value).result is expected, how


@families
@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (1_900_000_000, 1_900_000_000),
        (1_900_000_000_500, 1_900_000_000.5),
        ("2030", NOW),
        (True, NOW),
    ],
)
def test_a_named_expiry_is_in_seconds_or_milliseconds(
    family: Family, claim: object, expected: float
) -> None:
    value = seal(family, {**GOOD, "exp": NOW, "token_expires": claim})
    source = FORMATS[family.type](secrets=["secret"], expires_at=("token_expires",))
    reading = read_credential([source], CookieJar.parse(f"{family.cookie}={value}"), NOW)
    assert (reading.expires_at, reading.valid_until) == (expected, NOW + 15)


@pytest.mark.parametrize("kid", ["", "unknown", "x' UNION SELECT 'k"])
@families
def test_a_kid_selects_the_key_where_the_library_writes_one(family: Family, kid: str) -> None:
    expected = Result.INVALID if family.kid_hashes else Result.OK
    assert read(family, seal(family, GOOD, kid=kid)).result is expected


def test_auth0_counts_an_incomplete_set_of_chunks_as_no_session() -> None:
    source = FORMATS["auth0"](secrets=["secret"])
    reading = read_credential([source], CookieJar.parse("__session__0=a; __session__2=b"), NOW)
    assert (reading.result, reading.chunks) == (Result.NO_SESSION, 2)


def test_every_format_has_a_factory() -> None:
    assert sorted(FORMATS) == [
        "auth0",
        "authjs",
        "better-auth",
        "cookie",
        "iron-session",
        "jwt",
        "nextauth",
    ]
