"""Logins that go round in circles: each succeeds, and none gives a session that lasts.

A provider that knows its user logs in without a question, so a browser would go on for ever. The
browser itself carries the trace, sealed in a cookie: nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar, gone_line, set_line
from sidecar.core.formats.sealed import base_name, prefixed
from sidecar.core.jwe import A256GCM, Keyring, SealError
from sidecar.core.keys import derive_key

QUICK: Final = 30.0  # seconds after a login in which the next one means that it was of no use
MOST: Final = 3  # such logins in a row; then the next one is not begun


class LoginTrace(msgspec.Struct, frozen=True):
    """The last login of a browser: when (Unix seconds), the fingerprint of its session, and how
    many logins before it were of no use.
    """

    at: float
    fingerprint: str
    vain: int = 0

    def vain_at(self, now: float) -> int:
        """How many were of no use, if another login begins now without a session."""
        return self.vain + 1 if 0 <= now - self.at < QUICK else 0


class TraceCookie:
    """The cookie that holds a trace."""

    __slots__ = ("_keyring", "_names")

    def __init__(self, cookie: str, secrets: Sequence[bytes]) -> None:
        """`cookie` is the session cookie's base name; of `secrets` the first seals, all open."""
        keys = [derive_key(secret, "login trace") for secret in secrets]
        self._keyring: Final = Keyring({A256GCM: keys}, {})
        self._names: Final = prefixed(trace_name(cookie))

    def line(self, trace: LoginTrace, scope: Scope) -> bytes:
        """The Set-Cookie value for a trace."""
        sealed = self._keyring.seal(msgspec.json.encode(trace))
        return set_line(self._name(scope), sealed, scope.own, trace.at + QUICK)

    def read(self, jar: CookieJar, scope: Scope) -> LoginTrace | None:
        """The trace that is presented."""
        for value in jar.values(self._name(scope))[:2]:
            try:
                return msgspec.json.decode(self._keyring.open(value), type=LoginTrace)
            except (SealError, ValueError, RecursionError):
                continue
        return None

    def gone(self, jar: CookieJar, scope: Scope) -> list[bytes]:
        """Set-Cookie values that take the trace away, where one is presented."""
        name = self._name(scope)
        return [gone_line(name, scope.own)] if jar.values(name) else []

    def _name(self, scope: Scope) -> str:
        return self._names[0] if scope.https else self._names[-1]


def trace_name(cookie: str) -> str:
    """The name of the trace's cookie, but for its prefix. No session's cookies begin so."""
    return f"trace-{base_name(cookie)}"
