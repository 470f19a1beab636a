"""The parts of an upstream's URL in its normal form (`core.config.values.parse_upstream_url`).

    http://api:4000/base          https://api          unix:/run/app.sock:/base

A Unix socket has no authority, so `localhost` stands in its place (RFC 9110 7.2).
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

UNIX: Final = "unix:"
_PORTS: Final = {"http": 80, "https": 443}


class ServerUrl(NamedTuple):
    """Where a server listens, and what it is asked for.

    `scheme` is http, https or unix, `authority` its Host field, `base` what stands before every
    path, without a slash at its end. `path` is a socket's; then `host` is empty and `port` is 0.
    """

    scheme: str
    authority: str
    host: str
    port: int
    base: str
    path: str | None = None

    @property
    def origin(self) -> str:
        """Scheme and authority as responses of the server name it."""
        scheme = "http" if self.path is not None else self.scheme
        return f"{scheme}://{self.authority}"


def split_upstream_url(url: str) -> ServerUrl:
    """The parts of an upstream's URL that is in its normal form."""
    if url.startswith(UNIX):
        path, _, base = url.removeprefix(UNIX).partition(":")
        return ServerUrl("unix", "localhost", "", 0, base, path)
    split = urlsplit(url)
    port = split.port or _PORTS[split.scheme]
    return ServerUrl(split.scheme, split.netloc, split.hostname or "", port, split.path)
