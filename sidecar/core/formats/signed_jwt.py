"""Session cookies that are signed and not encrypted: JWTs in compact serialization (RFC 7515).

Whoever has the cookie reads its claims, the token among them. What counts is that nobody else has
written them: the signature is checked with a secret (HS256 to HS512), or with public keys.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from sidecar.core.attributes import NO_KEYS, CookieKeys
from sidecar.core.formats.sealed import SealedSession, SealedSource, base_name, prefixed
from sidecar.core.jwe import SealError, as_base64url, expiry, parse_object
from sidecar.core.jws import ALGORITHMS, InvalidToken, SymmetricRegistry, UnknownKey, verify

TYPE: Final = "jwt"
LONGEST: Final = 16384  # characters of a session that is looked at
FRESH: Final = 3600.0  # seconds that fetched keys are used without asking again
SKEW: Final = 60.0  # seconds that `nbf` may lie ahead: clocks differ
_TYPES: Final = frozenset(("jwt", "at+jwt"))


class KeyRing(Protocol):
    """The public keys that sessions are checked with."""

    @property
    def keys(self) -> KeySet: ...
    def use(self, now: float) -> None:
        """A session is about to be checked with them."""
        ...

    def miss(self) -> None:
        """A session names a key that is not among them."""
        ...


@dataclass(frozen=True, slots=True)
class HeldKeys:
    """Keys that are there from the beginning (`KeyRing`)."""

    keys: KeySet = field(repr=False)

    def use(self, now: float) -> None:
        """They stay as they are."""

    def miss(self) -> None:
        """There are no others."""


class RemoteKeys:
    """The keys at a URL, as they were fetched last (`KeyRing`); none at first.

    `on_miss` is called for a session whose key is not among them: there may be a new one. It is
    called for keys that are older than `FRESH` too: one of them may have been withdrawn.
    """

    def __init__(self, url: str) -> None:
        self.url: Final = url
        self.keys = KeySet([])
        self.fetched_at = 0.0  # Unix seconds
        self.on_miss: Callable[[], None] = _nothing

    def use(self, now: float) -> None:
        if now - self.fetched_at > FRESH:
            self.on_miss()

    def miss(self) -> None:
        self.on_miss()


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class SignedOpener:
    """Checks and reads a session (`formats.sealed.Opener`): by `secrets` if there are any."""

    secrets: tuple[OctKey, ...] = field(repr=False)
    ring: KeyRing

    def open(self, value: str, name: str, now: float) -> SealedSession:  # noqa: ARG002 - one key for all names
        """Raises `SealError` for a session that is not to be believed."""
        if len(value) > LONGEST:
            raise SealError("it is longer than any session")
        claims = self._by_secret(value) if self.secrets else self._by_key(value, now)
        times = {name: claims[name] for name in ("exp", "nbf") if name in claims}
        end = expiry(times, now, SKEW)
        return SealedSession(claims, end, end)

    def _by_key(self, value: str, now: float) -> Mapping[str, object]:
        self.ring.use(now)
        try:
            return verify(value, self.ring.keys, ALGORITHMS, _TYPES).claims
        except UnknownKey:
            self.ring.miss()
            raise SealError("no key fits the one that it names") from None
        except InvalidToken as error:
            raise SealError(str(error)) from None

    def _by_secret(self, value: str) -> Mapping[str, object]:
        for secret in self.secrets:
            try:
                signed = jws.deserialize_compact(value, secret, registry=_SYMMETRIC)
            except (JoseError, InvalidToken, ValueError, TypeError, RecursionError):
                continue
            return parse_object(signed.payload or b"")
        raise SealError("no secret fits its signature")

    def respelled(self, value: str) -> str:
        """Header and claims as they are, since the signature covers their text."""
        if value.count(".") != 2:
            return value
        text, _, signature = value.rpartition(".")
        return f"{text}.{as_base64url(signature)}"


_SYMMETRIC: Final = SymmetricRegistry()


def jwt_source(
    *,
    cookie: str,
    secrets: Sequence[str] = (),
    ring: KeyRing | None = None,
    token: tuple[str, ...] | None = None,
    expires_at: tuple[str, ...] | None = None,
    keys: CookieKeys = NO_KEYS,
) -> SealedSource:
    """A source for the cookie named `cookie`, by `secrets` or by the keys of `ring`.

    `token` and `expires_at` are claim paths, the token's by default `accessToken`; `keys` are the
    cookie's attributes.
    """
    return SealedSource(
        type=TYPE,
        names=prefixed(base_name(cookie)),
        opener=SignedOpener(
            tuple(map(_shared_key, secrets)),
            ring or HeldKeys(KeySet([])),
        ),
        token=token or ("accessToken",),
        expires_at=expires_at,
        keys=keys,
    )


def _shared_key(secret: str) -> OctKey:
    """The key of a secret. The configuration warns of a short one by its own name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OctKey.import_key(secret.encode())
