"""Fingerprints and logout tickets: keyed hashes that say something without giving it away."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from copy import copy
from typing import Final

import msgspec

from sidecar.core.keys import derive_key

TICKET_LIFETIME: Final = 120  # seconds: a redirect followed at once, on a slow network
_FINGERPRINT_BYTES: Final = 16
_MAC_BYTES: Final = 16
_TIME_BYTES: Final = 5
_SOURCE_BYTES: Final = 4  # one bit a source
_FORMER_KEYS: Final = 8  # of secrets that are no longer the first
_SHAPES: Final = ("envelope", "problem", "graphql")  # of errors; a byte if it is not the first


def encode(raw: bytes) -> str:
    """Base64url without padding (RFC 4648 5)."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes | None:
    """The reverse of `encode`; None for anything that `encode` would not have written."""
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        return None
    return raw if encode(raw) == text else None


class Signer:
    """Makes fingerprints and tickets with the newest secret and knows tickets of all of them."""

    __slots__ = ("_fingerprint_keys", "_ticket_keys")

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._fingerprint_keys = tuple(derive_key(secret, "fingerprint") for secret in secrets)
        self._ticket_keys: Final = tuple(derive_key(secret, "logout ticket") for secret in secrets)

    def fingerprint(self, identity: str) -> str:
        """What stays the same while a session lives, as 128 bits that are safe to log."""
        return _fingerprint(self._fingerprint_keys[0], identity)

    def former_fingerprints(self, identity: str) -> list[str]:
        """What the same session was called when another secret was the first."""
        return [_fingerprint(key, identity) for key in self._fingerprint_keys[1:]]

    def after(self, before: Signer) -> Signer:
        """The same with the fingerprints that were made `before`: secrets were changed meanwhile.

        Nothing that was signed before is known by it.
        """
        new = copy(self)
        keys = dict.fromkeys((*self._fingerprint_keys, *before._fingerprint_keys))
        new._fingerprint_keys = tuple(keys)[: max(len(self._fingerprint_keys), _FORMER_KEYS)]
        return new

    def ticket(
        self,
        fingerprint: str | None,
        now: float,
        sources: frozenset[int] | None = None,
        errors: str = _SHAPES[0],
    ) -> str:
        """Proof that a real 401 ended the session of `fingerprint` (None: there was none).

        `sources` are those that the route took credentials from; None: all. `errors` is the shape
        in which its client is told of errors.
        """
        named = decode(fingerprint) if fingerprint else b""
        claims = (int(now) + TICKET_LIFETIME).to_bytes(_TIME_BYTES, "big") + (named or b"")
        if sources is not None and max(sources, default=0) < 8 * _SOURCE_BYTES:
            claims += sum(1 << source for source in sources).to_bytes(_SOURCE_BYTES, "big")
        if errors != _SHAPES[0]:
            claims += _SHAPES.index(errors).to_bytes()
        return encode(claims + self._mac(self._ticket_keys[0], claims))

    def read_ticket(self, ticket: str, now: float) -> Ticket | None:
        """Opens a ticket; None when it is forged, broken or past its lifetime."""
        raw = decode(ticket) if len(ticket) <= 64 else None
        if raw is None or len(raw) < _TIME_BYTES + _MAC_BYTES:
            return None
        claims, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        genuine = any(hmac.compare_digest(self._mac(key, claims), mac) for key in self._ticket_keys)
        if not genuine or int.from_bytes(claims[:_TIME_BYTES], "big") < now:
            return None
        named, sources, errors = claims[_TIME_BYTES:], None, _SHAPES[0]
        if len(named) % _SOURCE_BYTES == 1:
            named, shape = named[:-1], named[-1]
            errors = _SHAPES[shape] if shape < len(_SHAPES) else _SHAPES[0]
        if len(named) % _FINGERPRINT_BYTES == _SOURCE_BYTES:
            bits = int.from_bytes(named[-_SOURCE_BYTES:], "big")
            named = named[:-_SOURCE_BYTES]
            sources = frozenset(at for at in range(8 * _SOURCE_BYTES) if bits >> at & 1)
        return Ticket(encode(named) if named else None, sources, errors)

    @staticmethod
    def _mac(key: bytes, claims: bytes) -> bytes:
        return hmac.digest(key, claims, "sha256")[:_MAC_BYTES]


def _fingerprint(key: bytes, identity: str) -> str:
    return encode(hmac.digest(key, identity.encode(), "sha256")[:_FINGERPRINT_BYTES])


class ClaimStamp:
    """The private claim that a renewal leaves in a session which the application seals again.

    It names the session (its fingerprint) and says when its token was issued (Unix seconds). Users
    may be able to write claims of their session, so a MAC (HMAC-SHA256, 128 bits) covers both.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """The first of `secrets` writes, all read."""
        self._keys: Final = tuple(derive_key(secret, "session claim") for secret in secrets)

    def write(self, fingerprint: str, issued_at: float | None) -> dict[str, object]:
        """The claim's value."""
        mac = _claim_mac(self._keys[0], fingerprint, issued_at)
        return {"fingerprint": fingerprint, "issuedAt": issued_at, "mac": mac}

    def read(self, claim: object) -> tuple[str | None, float | None]:
        """The fingerprint and the time of issue; twice None for anything that `write` did not."""
        match claim:
            case {
                "fingerprint": str(fingerprint),
                "issuedAt": int() | float() | None as issued_at,
                "mac": str(mac),
            }:
                pass
            case _:
                return None, None
        for key in self._keys:
            wanted = _claim_mac(key, fingerprint, issued_at)
            if hmac.compare_digest(wanted.encode(), mac.encode("utf-8", "surrogatepass")):
                return fingerprint, issued_at
        return None, None


def _claim_mac(key: bytes, fingerprint: str, issued_at: float | None) -> str:
    # JSON knows one kind of number, so 1 and 1.0 must be the same.
    issued = "" if issued_at is None else repr(float(issued_at))
    text = f"{fingerprint} {issued}".encode("utf-8", "surrogatepass")
    return encode(hmac.digest(key, text, "sha256")[:_MAC_BYTES])


class Ticket(msgspec.Struct, frozen=True):
    """An opened ticket: the fingerprint of the session that died, if there was one, and the sources
    of the route that it was on, if not all. `errors`: how its client is told of errors.
    """

    fingerprint: str | None
    sources: frozenset[int] | None = None
    errors: str = _SHAPES[0]
