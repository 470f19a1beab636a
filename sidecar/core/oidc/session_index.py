"""Where sessions are found by the provider's names for them."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from sidecar.core.keys import derive_key
from sidecar.core.tickets import encode

MAX_INDEXED: Final = 200
"""Sessions of one user that are written down; of more the newest."""
_EMAIL: Final = "email"


class SessionIndex:
    """Keys under which the sessions of a user, or of a provider's session, are written down.

    They are keyed hashes, so a reader of the store does not learn who is logged in.
    """

    __slots__ = ("_issuer", "_keys")

    def __init__(self, issuer: str, secrets: Sequence[bytes]) -> None:
        """Of `secrets` the first writes, all find."""
        self._issuer: Final = issuer
        self._keys: Final = tuple(derive_key(secret, "session index") for secret in secrets)

    def written(self, subject: str, sid: str | None, email: str | None = None) -> tuple[str, ...]:
        """The keys to write a session under."""
        names = [("sub", subject), ("sid", sid), (_EMAIL, email)]
        return tuple(self._of(self._keys[0], kind, name) for kind, name in names if name)

    def sought(self, subject: str | None, sid: str | None) -> tuple[str, ...]:
        """The keys to look under: those of the session where one is named, else the user's."""
        kind, name = ("sub", subject) if sid is None else ("sid", sid)
        return tuple(self._of(key, kind, name) for key in self._keys) if name else ()

    def sought_unnamed(self, subject: str | None, sid: str | None) -> tuple[str, ...]:
        """The keys under which those sessions of a user are found that have no `sid`.

        A provider that names both may not have said which session a login began
        (Back-Channel 2.7).
        """
        return self.sought(subject, None) if sid is not None else ()

    def sought_email(self, email: str) -> tuple[str, ...]:
        """The keys to look under for the sessions of everybody who has this email."""
        return tuple(self._of(key, _EMAIL, email) for key in self._keys)

    def replayed(self, jti: str) -> str:
        """The key under which a logout token is written down as used."""
        return self._of(self._keys[0], "jti", jti)

    def _of(self, key: bytes, kind: str, name: str) -> str:
        text = msgspec.json.encode([kind, self._issuer, name])
        return f"{kind}:{encode(hmac.digest(key, text, 'sha256')[:16])}"


class IndexEntry(msgspec.Struct, frozen=True):
    """One session under a key of the index, and when it ends at the latest (Unix seconds).

    `has_sid`: whether the provider has named it.
    """

    fingerprint: str
    ends_at: float
    has_sid: bool = True


def with_session(stored: bytes | None, entry: IndexEntry, now: float) -> bytes:
    """The value of a key of the index with one more session, and without those that have ended."""
    kept = [one for one in sessions_in(stored, now) if one.fingerprint != entry.fingerprint]
    return msgspec.json.encode([*kept, entry][-MAX_INDEXED:])


def sessions_in(stored: bytes | None, now: float) -> list[IndexEntry]:
    """The sessions that the value of a key names, as far as they may live.

    Raises `msgspec.MsgspecError` for what is no such value.
    """
    entries = msgspec.json.decode(stored, type=list[IndexEntry]) if stored else []
    return [one for one in entries if now < one.ends_at]
