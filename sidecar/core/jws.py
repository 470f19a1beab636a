"""JWTs that a provider has signed (RFC 7515, RFC 7519): which keys and algorithms are believed.

joserfc does the cryptography. What stands here keeps it to asymmetric algorithms, to keys that fit
them, and to the types of token that are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from sidecar.core.errors import SidecarError
from sidecar.core.json_text import decode_object
from sidecar.core.jwe import SealError, parse_object

ALGORITHMS: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
"""The algorithms that are believed, and the type of their keys (RFC 7518, RFC 8037, RFC 9864)."""

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
"""The algorithms that a shared secret signs with. No key of the others is ever one of these."""

PublicKey: TypeAlias = RSAKey | ECKey | OKPKey
_KEY_TYPES: Final[Mapping[str, type[PublicKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_CURVES: Final = frozenset(("P-256", "P-384", "P-521", "Ed25519", "Ed448"))
"""Those that an algorithm here verifies with. X25519 is for encryption, and others are unknown."""

UNFIT: Final = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError)
"""What reading a key raises that no algorithm takes, though its text may be right."""

_PUBLIC_MEMBERS: Final = ("kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y")
_MIN_RSA_BITS: Final = 2048  # RFC 7518 3.3
_MAX_KEYS: Final = 100
_MAX_TRIED: Final = 8  # keys that one token is tried with
_LONGEST_TOKEN: Final = 65536  # characters
_LONGEST_HEADER: Final = 8192  # octets; some carry certificates


class InvalidToken(SidecarError):
    """A signed token is not to be believed. The text says why and holds nothing of the token."""


class UnknownKey(InvalidToken):
    """It names a key that is not in the set: maybe a new one, maybe none."""


class WrongSignature(InvalidToken):
    """No key of the set has signed it: maybe a new one under an old name, maybe none."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A token whose signature is right: its claims, unchecked, and the algorithm that signed."""

    claims: Mapping[str, object] = field(repr=False)
    algorithm: str


class _Registry(JWSRegistry):
    """Exactly the algorithms given, without warnings about old names of good ones."""

    max_header_length = _LONGEST_HEADER
    max_payload_length = _LONGEST_TOKEN

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)

    def get_alg(self, name: str) -> JWSAlgModel:
        assert self.allowed is not None
        if name not in self.allowed:
            raise InvalidToken("its algorithm is not allowed")
        return self.algorithms[name]


class SymmetricRegistry(JWSRegistry):
    """HS256 to HS512 alone, for sessions of an application that shares its secret."""

    max_header_length = _LONGEST_HEADER
    max_payload_length = _LONGEST_TOKEN

    def __init__(self) -> None:
        super().__init__(algorithms=list(SYMMETRIC), strict_check_header=False)

    def check_header(self, header: dict[str, object]) -> None:
        """Raises `InvalidToken` for what is not done here (RFC 7515 4.1.11, RFC 7797)."""
        super().check_header(header)
        if not {"crit", "b64"}.isdisjoint(header):
            raise InvalidToken("its header asks for something that is not done here")


_REGISTRIES: Final = {name: _Registry(name) for name in ALGORITHMS}


def parse_keys(body: bytes) -> KeySet:
    """The public keys for signatures in a JWK set (RFC 7517 5). Raises `InvalidToken`.

    Keys that are not understood, too weak, or for encryption are left out, as the RFC asks.
    """
    try:
        given = decode_object(body).get("keys")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list):
        raise InvalidToken("the provider's key set is not the JSON that it must be")
    keys = [key for one in given[:_MAX_KEYS] if (key := _public_key(one)) is not None]
    return KeySet(list(keys))


def key_of_pem(text: str) -> PublicKey:
    """A public key in PEM. Raises `InvalidToken` for one that no algorithm here takes."""
    for kind in _KEY_TYPES.values():
        try:
            found = _public_key(kind.import_key(text).as_dict(private=False))
        except UNFIT:
            continue
        if found is not None:
            return found
    raise InvalidToken("its key must be RSA of 2048 bits or more, EC, or Ed25519")


def _public_key(given: object) -> PublicKey | None:
    if not isinstance(given, dict) or given.get("use", "sig") != "sig":
        return None
    kind = _KEY_TYPES.get(str(given.get("kty")))
    if kind is None:
        return None
    public = {name: given[name] for name in _PUBLIC_MEMBERS if name in given}
    try:
        if kind is RSAKey and 8 * len(urlsafe_b64decode(public["n"].encode())) < _MIN_RSA_BITS:
            return None
        key = kind.import_key(public)
        is_fit = isinstance(key, RSAKey) or key.curve_name in _CURVES
    except UNFIT:
        return None
    return key if is_fit else None


def verify(
    token: str, keys: KeySet, algorithms: Collection[str], types: Collection[str]
) -> Verified:
    """The claims of a compact JWS whose signature is right.

    `algorithms` are those that the provider announces; of them count the ones in `ALGORITHMS`.
    `types` are the values of `typ` that may be there, in lower case; a token without one is a
    `jwt`. Raises `UnknownKey` or `WrongSignature` where its key may not be in the set, else
    `InvalidToken`.
    """
    header = _header(token)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or algorithm not in algorithms:
        raise InvalidToken(_not_allowed(algorithm, algorithms))
    if not {"crit", "b64"}.isdisjoint(header):
        raise InvalidToken("its header asks for something that is not done here")
    if _type(header.get("typ")) not in types:
        raise InvalidToken("it is another type of token")
    for key in _fitting(keys, algorithm, header.get("kid")):
        try:
            signed = jws.deserialize_compact(token, key, registry=_REGISTRIES[algorithm])
            return Verified(parse_object(signed.payload or b""), algorithm)
        except SealError as error:
            raise InvalidToken(str(error)) from None
        except (JoseError, ValueError, TypeError, RecursionError):
            continue
    raise WrongSignature("its signature is wrong")


def _not_allowed(algorithm: object, announced: Collection[str]) -> str:
    """Why an algorithm is refused, by its name where that is a registered one (RFC 7518 3.1)."""
    if algorithm not in (*ALGORITHMS, *SYMMETRIC, "none"):
        return "its algorithm is not allowed"
    if algorithm in ALGORITHMS:
        return f"its algorithm {algorithm} is none that the provider's metadata announce"
    allowed = ", ".join(name for name in announced if name in ALGORITHMS) or "RS256"
    return f"its algorithm {algorithm} is not allowed; set the client to {allowed} at the provider"


def _header(token: str) -> Mapping[str, object]:
    first, _, rest = token.partition(".")
    if len(token) > _LONGEST_TOKEN or rest.count(".") != 1 or not token.isascii():
        raise InvalidToken("it is not a JWS in compact serialization")
    try:
        return parse_object(urlsafe_b64decode(first.encode("ascii")))
    except (SealError, ValueError, msgspec.MsgspecError):
        raise InvalidToken("its header is not JSON") from None


def _type(typ: object) -> str:
    """The media type without its `application/` (RFC 7515 4.1.9), in lower case."""
    return "jwt" if typ is None else str(typ).lower().removeprefix("application/")


def _fitting(keys: KeySet, algorithm: str, kid: object) -> Sequence[PublicKey]:
    """The keys to verify with (OpenID Connect Core 10.1): those named by `kid`, and those that have
    none; without `kid` all that fit the algorithm, at most `_MAX_TRIED`.
    """
    fitting: Sequence[PublicKey] = [
        key
        for key in keys
        if isinstance(key, RSAKey | ECKey | OKPKey)
        and key.key_type == ALGORITHMS[algorithm]
        and key.get("alg") in (None, algorithm)
        and (kid is None or key.kid in (kid, key.thumbprint()))  # which joserfc names those without
    ]
    if not fitting and kid is not None:
        if any(key.kid == kid for key in keys):
            raise InvalidToken("the key that it names is not for its algorithm")
        raise UnknownKey("it is signed with a key that the provider does not publish")
    if not fitting:
        raise UnknownKey("the provider publishes no key for its algorithm")
    return fitting[:_MAX_TRIED]
