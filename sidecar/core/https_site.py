"""A site behind TLS whose servers do not know of it: their `http://` names of the site itself."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.target import split_authority

_HTTPS: Final = b"https://"
_HTTPS_PORT: Final = b":443"


class HttpsSite(msgspec.Struct, frozen=True):
    """The host, with its port if that is not 443, at which browsers reach the site by https."""

    authority: bytes

    @classmethod
    def of(cls, origin: bytes) -> HttpsSite | None:
        """The site of a public origin in normal form; None if that is not https."""
        return cls(origin[len(_HTTPS) :]) if origin.startswith(_HTTPS) else None

    def location(self, location: str) -> str:
        """A reference to the site itself by `http://` as one by https; all others as they are.

        A server behind TLS that somebody else ends often takes http for the scheme of its clients.
        Another port is another server, and stays.
        """
        if location[:7].lower() != "http://":
            return location
        authority, rest = split_authority(location)
        if authority is None or authority.removesuffix(_HTTPS_PORT) != self.authority:
            return location
        return f"https://{self.authority.decode('latin-1')}{rest}"
