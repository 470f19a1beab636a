"""A signed session is believed if a private key of the application has signed it, else refused.

An input says what is done: a text is read in which 0x01 stands for a genuine session, a genuine one
is changed, any header and claims are signed: by the right key, by another one under its name, or by
what an attacker knows of it; or the key set is any text.
"""

from __future__ import annotations

import contextlib
import hmac
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, KeySet, OKPKey

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.formats import FORMATS
from sidecar.core.formats.signed_jwt import HeldKeys
from sidecar.core.jws import InvalidToken, key_of_pem, parse_keys
from sidecar.core.tickets import encode
from tests.fuzz.target import Draw, Target
from tests.fuzz.targets._seals import NOW
from tests.fuzz.targets.tokens import KEY as EDWARDS

# RFC 7515 A.3.1, and a key that the application does not know.
CURVE: Final = ECKey.import_key(
    {
        "kty": "EC",
        "crv": "P-256",
        "kid": "e",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
    }
)
OTHER: Final = OKPKey.import_key(
    Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
)
_KEYS: Final = (
    OKPKey.import_key(EDWARDS.as_dict(private=False)),
    ECKey.import_key(CURVE.as_dict(private=False)),
)
PUBLIC: Final = KeySet(list(_KEYS))
SOURCE: Final[Any] = FORMATS["jwt"](cookie="session", ring=HeldKeys(PUBLIC))
SIGNERS: Final[tuple[tuple[str, str, Any], ...]] = (
    ("Ed25519", "k", EDWARDS),
    ("EdDSA", "k", EDWARDS),
    ("ES256", "e", CURVE),
)
KNOWN: Final = (  # what an attacker may take for a secret
    _KEYS[0].as_pem(private=False),
    _KEYS[1].as_pem(private=False),
    msgspec.json.encode(_KEYS[0].as_dict(private=False)),
    b"",
)


class _Registry(jws.JWSRegistry):
    """Every algorithm, without a warning of an old name."""

    def get_alg(self, name: str) -> JWSAlgModel:
        return self.algorithms[name]


_REGISTRY: Final = _Registry(strict_check_header=False)
_CLAIMS: Final = {"accessToken": "t", "exp": int(NOW) + 300, "sub": "u"}


def _signed(signer: tuple[str, str, Any], payload: bytes, **header: object) -> str:
    algorithm, kid, key = signer
    return jws.serialize_compact(
        {"alg": algorithm, "kid": kid, **header}, payload, key, registry=_REGISTRY
    )


GENUINE: Final = _signed(SIGNERS[0], msgspec.json.encode(_CLAIMS))


def check(data: bytes) -> None:
    draw = Draw(data)
    draw.pick((_any_text, _changed, _by_us, _by_another, _by_what_is_known, _any_keys))(draw)


def _read(value: str) -> list[Reading]:
    found = list(SOURCE.readings(CookieJar.parse(f"session={value}"), NOW))
    for reading in found:
        assert reading.token is None or is_b64token(reading.token)
    return found


def _opens(value: str) -> bool:
    opened = (Result.OK, Result.TOKEN_MISSING, Result.BAD_TOKEN, Result.EXPIRED)
    return any(reading.result in opened for reading in _read(value))


def _any_text(draw: Draw) -> None:
    text = draw.rest().decode("latin-1").replace("\x01", GENUINE)
    assert not _opens(text) or GENUINE in text, "a text opens that nobody has signed"


def _changed(draw: Draw) -> None:
    value = GENUINE
    while draw.left:
        at, octet = (draw.byte() << 8 | draw.byte()) % (len(value) + 1), chr(draw.byte())
        kind = draw.byte() % 3
        value = value[:at] + (octet if kind < 2 else "") + value[at + (kind > 0) :]
    if _opens(value):
        assert value.strip('" \t').split(";")[0].rpartition(".")[0] == GENUINE.rpartition(".")[0], (
            "a changed session opens"
        )


def _by_us(draw: Draw) -> None:
    signer, type_ = draw.pick(SIGNERS), draw.pick((None, "JWT", "at+jwt", "logout+jwt", "dpop+jwt"))
    payload = draw.rest()
    for reading in _read(_signed(signer, payload, **({"typ": type_} if type_ else {}))):
        if reading.result is not Result.OK:
            continue
        assert type_ in (None, "JWT", "at+jwt"), "another type of token is a session"
        given = msgspec.json.decode(payload)
        for name in ("exp", "nbf"):
            assert name not in given or type(given[name]) in (int, float), f"{name} is no date"
        assert given.get("exp", NOW + 1) > NOW
        assert given.get("nbf", NOW) <= NOW + 60


def _by_another(draw: Draw) -> None:
    """Another key says that it is ours, and brings itself along."""
    kid = draw.pick(("k", "e", "", OTHER.thumbprint()))
    public = OTHER.as_dict(private=False)
    more: dict[str, Any] = draw.pick(
        ({}, {"jwk": public}, {"jku": "https://evil.example"}, {"x5u": "https://evil.example"})
    )
    payload = draw.rest() or msgspec.json.encode(_CLAIMS)
    assert not _opens(_signed(("Ed25519", kid, OTHER), payload, **more))


def _by_what_is_known(draw: Draw) -> None:
    """A MAC by a public key (RFC 8725 2.1), or no signature at all."""
    algorithm = draw.pick(("HS256", "none", "None", "ES256", "RS256", "Ed25519", "ES256K"))
    secret, kid = draw.pick(KNOWN), draw.pick(({}, {"kid": "k"}, {"kid": "e"}))
    given = draw.rest()
    header = msgspec.json.encode({"alg": algorithm, **kid})
    text = f"{encode(header)}.{encode(msgspec.json.encode(_CLAIMS))}"
    for signature in (hmac.digest(secret, text.encode(), "sha256"), given, b"", bytes(64)):
        assert not _opens(f"{text}.{encode(signature)}"), "a session opens that nobody has signed"


def _any_keys(draw: Draw) -> None:
    """A key set of any text has public keys only, and a session opens by none but its own."""
    body = draw.rest()
    with contextlib.suppress(InvalidToken):
        key_of_pem(body.decode("latin-1"))
    try:
        keys = parse_keys(body)
    except InvalidToken:
        return
    ours = {OTHER.thumbprint(), EDWARDS.thumbprint()}
    source: Any = FORMATS["jwt"](cookie="session", ring=HeldKeys(keys))
    for token in (GENUINE, _signed(("Ed25519", "k", OTHER), msgspec.json.encode(_CLAIMS))):
        for reading in source.readings(CookieJar.parse(f"session={token}"), NOW):
            if reading.result is Result.OK:
                assert {one.thumbprint() for one in keys} & ours
    for one in keys:
        assert not one.is_private, "a private key is kept"


_BOTH: Final = msgspec.json.encode(PUBLIC.as_dict(private=False))
TARGET: Final = Target(
    check,
    words=[
        *(b'"accessToken":"t"', b'"exp":', b'"nbf":', b'"sub":"u"', b"1800000300", b"1e300", b"-1"),
        *(
            b"null",
            b"true",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b'"',
            b"\xff",
            b"\x01",
            b".",
            b"=",
            b"%2E",
        ),
        *(b'"keys":[', b'{"kty":"OKP","crv":"Ed25519"', b'"kty":"EC"', b'"kty":"oct","k":"AAAA"'),
        *(
            b'"kty":"RSA","e":"AQAB","n":"',
            b'"use":"sig"',
            b'"use":"enc"',
            b'"alg":"EdDSA"',
            b'"d":',
        ),
        *(b'"kid":"k"', b'"kid":7', b'"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"', b'"y":"'),
        *(b"eyJhbGciOiJub25lIn0", b"eyJhbGciOiJIUzI1NiJ9", b"-----BEGIN PUBLIC KEY-----\n"),
        *(b'"crv":"X25519"', b'"crv":"P-256"', b'"crv":"secp256k1"', b'"key_ops":["verify"]'),
    ],
    seeds=[
        b"\0\x01",
        b"\1\0\x09A\1",
        b"\2\0\0" + msgspec.json.encode(_CLAIMS),
        b"\2\2\1" + msgspec.json.encode({**_CLAIMS, "nbf": NOW + 30}),
        b"\2\1\3" + msgspec.json.encode(_CLAIMS),
        b"\3\0\1",
        b"\4\0\0\1",
        b"\4\1\3\0",
        b"\5" + _BOTH,
        b"\5" + msgspec.json.encode({"keys": [OTHER.as_dict(private=True)]}),
        b"\5" + KNOWN[1],
    ],
    longest=1024,
)
