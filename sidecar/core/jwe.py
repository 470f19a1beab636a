"""JWE in compact serialization with direct keys (RFC 7516, RFC 7518), and the time claims of JWT.

joserfc does the cryptography. What stands here comes before and after it: everything about a
token that can be refused without a key is refused first, and claims are held to their types.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, thumbprint
from joserfc.util import urlsafe_b64decode, urlsafe_b64encode

from sidecar.core.errors import SidecarError
from sidecar.core.json_text import decode_json

KidHash = Literal["sha256", "sha512"]


class SealError(SidecarError):
    """A sealed value cannot be opened or believed. The text is for a person and holds no secret."""


class ContentEncryption(msgspec.Struct, frozen=True):
    """Sizes that an `enc` fixes: the key in octets, IV and tag in base64url characters."""

    key_size: int
    iv_length: int
    tag_length: int


A256GCM = "A256GCM"
A256CBC_HS512 = "A256CBC-HS512"
ENCRYPTIONS = {
    A256GCM: ContentEncryption(key_size=32, iv_length=16, tag_length=22),
    A256CBC_HS512: ContentEncryption(key_size=64, iv_length=22, tag_length=43),
}

_REFUSED_PARAMETERS = frozenset({"zip", "crit", "b64"})
"""Header parameters that change how a token is read; no session library writes them."""

_REGISTRY = jwe.JWERegistry(algorithms=["dir", *ENCRYPTIONS], strict_check_header=False)

_MAX_NUMERIC_DATE = 2**53
"""Beyond this a JSON number is not exact in the libraries that wrote it (RFC 8259 section 6)."""


_OTHER_ALPHABET = str.maketrans("+/", "-_")
_NO_BASE64URL = re.compile(r"[^A-Za-z0-9_-]+")


def as_compact(token: str) -> str:
    """A compact JWE without what Node.js leaves out when it decodes base64url."""
    return ".".join(map(as_base64url, token.split("."))) if token.count(".") == 4 else token


def as_base64url(text: str) -> str:
    """The one spelling of what Node.js decodes of base64url: it takes the other alphabet too.

    It leaves out padding with all that follows, white space and every other character, and bits at
    the end that are no whole octet.
    """
    text = _NO_BASE64URL.sub("", text.partition("=")[0].translate(_OTHER_ALPHABET))
    whole = text[:-1] if len(text) % 4 == 1 else text
    return urlsafe_b64encode(base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))).decode()


class _Key:
    """A key for one token, as joserfc asks for it.

    What joserfc makes of a token refers to itself. `part` ends that: token and plaintext would stay
    in memory until the garbage collector comes.
    """

    __slots__ = ("_key", "_recipients")

    def __init__(self, key: OctKey) -> None:
        self._key: Final = key
        self._recipients: Final[list[object]] = []

    def __call__(self, recipient: object) -> OctKey:
        self._recipients.append(recipient)
        return self._key

    def part(self) -> None:
        """Parts what refers to each other; the token cannot be used from then on."""
        for one in self._recipients:
            vars(one).clear()


class Keyring:
    """The keys that may open one cookie, newest first, for each `enc` that is allowed.

    `keys` maps `enc` to raw keys, `kid_hashes` to the hash of JWK thumbprints (RFC 7638), by which
    a token's `kid` selects the key. Where an `enc` has none, `kid` is ignored and every key
    is tried, as it is for a token without `kid`.
    """

    __slots__ = ("_by_kid", "_keys")

    def __init__(
        self, keys: Mapping[str, Sequence[bytes]], kid_hashes: Mapping[str, KidHash]
    ) -> None:
        self._keys = {enc: tuple(map(OctKey.import_key, raw)) for enc, raw in keys.items()}
        self._by_kid = {
            enc: {
                thumbprint(key.as_dict(private=True), kid_hash): (key,) for key in self._keys[enc]
            }
            for enc, kid_hash in kid_hashes.items()
        }

    def open(self, token: str) -> bytes:
        """The plaintext of a compact JWE, whose `alg` is `dir`. Raises `SealError`."""
        for key in map(_Key, self._select(token)):
            try:
                return jwe.decrypt_compact(token, key, registry=_REGISTRY).plaintext or b""
            except (JoseError, ValueError, TypeError, RecursionError):
                continue
            finally:
                key.part()
        raise SealError("no configured secret opens the value")

    def seal(self, plaintext: bytes) -> str:
        """A compact JWE with the newest key of the first `enc`, as the format's library writes."""
        enc, keys = next(iter(self._keys.items()))
        header = {"alg": "dir", "enc": enc}
        kids = self._by_kid.get(enc)
        if kids:
            header["kid"] = next(kid for kid, (key,) in kids.items() if key is keys[0])
        key = _Key(keys[0])
        try:
            return jwe.encrypt_compact(header, plaintext, key, registry=_REGISTRY)
        finally:
            key.part()

    def _select(self, token: str) -> Sequence[OctKey]:
        """The keys to try, once everything has passed that needs none."""
        header_text, encrypted_key, iv, _, tag = _split(token)
        header = _parse_header(header_text)
        enc = header.get("enc")
        if not isinstance(enc, str) or enc not in self._keys:
            raise SealError("the value has a content encryption that the library does not use")
        sizes = ENCRYPTIONS[enc]
        if encrypted_key or len(iv) != sizes.iv_length or len(tag) != sizes.tag_length:
            raise SealError("the parts of the value have wrong sizes for their algorithm")
        return self._candidates(enc, header.get("kid"))

    def _candidates(self, enc: str, kid: object) -> Sequence[OctKey]:
        by_kid = self._by_kid.get(enc)
        if by_kid is None or kid is None:
            return self._keys[enc]
        if not isinstance(kid, str) or kid not in by_kid:
            raise SealError("the value was sealed with a secret that is not configured")
        return by_kid[kid]


def _split(token: str) -> list[str]:
    parts = token.split(".", 5)
    if len(parts) != 5:
        raise SealError("the value is not a JWE in compact serialization")
    return parts


def _parse_header(text: str) -> dict[str, object]:
    try:
        header = parse_object(urlsafe_b64decode(text.encode("ascii")))
    except ValueError:
        raise SealError("the header of the value is not base64url") from None
    if header.get("alg") != "dir":
        raise SealError("the key management of the value is not a direct key")
    if not _REFUSED_PARAMETERS.isdisjoint(header):
        raise SealError("the header of the value asks for something that the library does not use")
    return header


def parse_object(text: bytes) -> dict[str, object]:
    """The JSON object in `text`, which is strict UTF-8 without NaN or numbers out of range.

    Raises `SealError`.
    """
    try:
        value = decode_json(text)
    except (ValueError, RecursionError):
        raise SealError("the value does not contain valid JSON") from None
    if not isinstance(value, dict):
        raise SealError("the value does not contain a JSON object")
    return value


def expiry(claims: Mapping[str, object], now: float, tolerance: float) -> float | None:
    """The `exp` of a JWT claims set in Unix seconds, None where there is none; it may have passed.

    Raises `SealError` where `exp`, `nbf` or `iat` is no NumericDate (RFC 7519 section 2), or `nbf`
    is more than `tolerance` seconds after `now`. An `iat` in the future is fine.
    """
    exp, nbf, _ = (_numeric_date(claims, name) for name in ("exp", "nbf", "iat"))
    if nbf is not None and nbf > now + tolerance:
        raise SealError("the session is not valid yet")
    return exp


def _numeric_date(claims: Mapping[str, object], name: str) -> float | None:
    if name not in claims:
        return None
    value = as_number(claims[name])
    if value is None:
        raise SealError(f"the claim {name} is not a date")
    return value


def as_number(value: object) -> float | None:
    """A JSON number that is exact, else None; a boolean is no number."""
    if type(value) not in {int, float}:
        return None
    assert isinstance(value, int | float)
    return float(value) if abs(value) <= _MAX_NUMERIC_DATE else None
