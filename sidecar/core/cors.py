"""CORS: which other origins' pages may read answers and call with credentials
(behaviour: browser protection).

The WHATWG Fetch standard, section 3.2, is the source. The sidecar owns the policy: what an upstream
says about origins does not stand beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from sidecar.core.client import Facts
from sidecar.core.headers import list_members
from sidecar.core.memo import Memo
from sidecar.core.request import Request
from sidecar.core.target import normal_origin

PREFLIGHT_SECONDS: Final = 600  # Chromium keeps no preflight for longer than two hours
_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 9.1, if short
_LONGEST_LIST: Final = 4096  # bytes of Access-Control-Request-Headers that are echoed

# What a page may read besides the few safelisted fields; `*` means nothing with credentials.
_EXPOSED: Final = b"X-Request-Id, Retry-After, ETag, Link, Location, Content-Disposition"


class CorsRule:
    """The listed origins, compiled. Without any of them no answer is changed."""

    __slots__ = ("_lines", "_origins", "is_on")

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins: Final = frozenset(origin.encode() for origin in origins)
        self._lines: Final = {
            origin: b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\n"
            % origin
            for origin in self._origins
        }
        self.is_on: Final = bool(self._origins)

    def allows(self, facts: Facts) -> bool:
        """Whether the Origin is a listed one."""
        origin = facts.get(b"origin")
        return origin is not None and normal_origin(origin) in self._origins

    def lines(self, facts: Facts, exposed: bytes = b"") -> bytes:
        """The lines that let the page read the answer, whole; empty where it may not.

        `exposed` are the names that the upstream wants read besides.
        """
        origin = facts.get(b"origin")
        lines = b"" if origin is None else self._lines.get(normal_origin(origin), b"")
        if not lines:
            return b""
        return b"%bAccess-Control-Expose-Headers: %b\r\n" % (lines, _all_exposed(exposed))

    @staticmethod
    def is_preflight(request: Request) -> bool:
        """Whether a browser asks for permission (Fetch 3.2.2)."""
        facts = request.facts
        return (
            request.method == "OPTIONS"
            and b"origin" in facts
            and b"access-control-request-method" in facts
        )

    def preflight_lines(self, facts: Facts) -> bytes:
        """What a preflight is told besides `lines`; without permission the browser asks no more."""
        if not self.allows(facts):
            return b""
        wanted = facts.get(b"access-control-request-headers")
        allowed = b""
        if wanted and len(wanted) <= _LONGEST_LIST:
            allowed = b"Access-Control-Allow-Headers: %b\r\n" % wanted
        return (
            b"%bAccess-Control-Allow-Methods: %b\r\nAccess-Control-Max-Age: %d\r\n"
            b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
            % (allowed, _methods(facts), PREFLIGHT_SECONDS)
        )


def _methods(facts: Facts) -> bytes:
    """The usual methods, and the one that is asked for: which ones there are is the API's to say.

    Methods are case-sensitive (RFC 9110 9.1).
    """
    asked = facts.get(b"access-control-request-method", b"")
    is_another = _METHOD.fullmatch(asked) and asked not in _METHODS.split(b", ")
    return b"%b, %b" % (_METHODS, asked) if is_another else _METHODS


def _with_exposed(more: bytes) -> bytes:
    known = set(list_members(_EXPOSED)) | {b"*"}
    return b", ".join([_EXPOSED, *(name for name in list_members(more) if name not in known)])


_all_exposed: Final = Memo(_with_exposed, 64).__getitem__
