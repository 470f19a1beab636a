"""The CSRF rule: may this request act with a credential that the browser attached by itself?"""

from __future__ import annotations

import msgspec

from sidecar.core.errors import CsrfRejected
from sidecar.core.request import SAFE_METHODS, Request
from sidecar.core.target import normal_origin

_SAME_ORIGIN = (b"same-origin", b"none")


class CsrfRule(msgspec.Struct, frozen=True):
    """The CSRF rule, compiled (behaviour: browser protection).

    `origins` are the listed origins besides the public one, all in normal form; `header` is a
    field that must be present as well (lower-case), or empty.
    """

    enabled: bool
    header: bytes
    origins: frozenset[bytes]

    def concerns(self, request: Request) -> bool:
        """Whether it matters where the request comes from: it is unsafe, or a handshake."""
        return self.enabled and (request.method not in SAFE_METHODS or request.is_websocket)

    def check(self, request: Request, public_origin: bytes) -> None:
        """Raises `CsrfRejected` where an unsafe request or a handshake comes from elsewhere."""
        if not self.concerns(request):
            return
        if not self.is_trusted_origin(request, public_origin):
            raise CsrfRejected(self._untrusted(request, public_origin))
        if not request.is_websocket:
            self.check_header(request)

    def check_header(self, request: Request) -> None:
        """Raises `CsrfRejected` where the field is missing that is to be present."""
        if self.enabled and self.header and not self._has_header(request):
            raise CsrfRejected(f"the field {self.header.decode()} is missing (csrf.header)")

    def _untrusted(self, request: Request, public_origin: bytes) -> str:
        """Which origin was seen, and which ones are trusted."""
        trusted = b", ".join((public_origin, *sorted(self.origins))).decode("latin-1")
        origin = request.facts.get(b"origin")
        if origin is None:
            site = request.fact(b"sec-fetch-site").decode("latin-1")[:40]
            return f"Sec-Fetch-Site is {site}, and there is no Origin; trusted are {trusted}"
        return f"Origin is {origin.decode('latin-1')[:80]}; trusted are {trusted}"

    def is_trusted_origin(self, request: Request, public_origin: bytes) -> bool:
        """Whether the request comes from the public origin, a listed one, or no browser at all."""
        site = request.facts.get(b"sec-fetch-site")
        if site in _SAME_ORIGIN:
            return True
        origin = request.facts.get(b"origin")
        if origin is None:
            return site is None
        return normal_origin(origin) in (public_origin, *self.origins)

    def _has_header(self, request: Request) -> bool:
        fields = request.fields
        names = (*fields.lines[::4], *fields.withheld[::4])
        return any(name.lower() == self.header for name in names)
