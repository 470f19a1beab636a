"""Who may use the admin listener: nobody by way of a browser that another site directs.

The listener has no authentication. A page of another site can send requests to addresses that only
its visitor reaches: forms and images to any address, and scripts to its own name once that leads to
another address (DNS rebinding).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

import msgspec

from sidecar.core.target import normal_origin

HEADER: Final = "X-Sidecar-Admin"
"""Makes browsers ask before a script of another site sends it, and no form can send it."""

OPEN_PATHS: Final = frozenset(("/healthz", "/readyz", "/metrics"))
"""Probes and scrapes; they change nothing, and hold nothing that a visitor's address protects."""

_SAFE: Final = frozenset(("GET", "HEAD"))
_OWN_SITE: Final = frozenset(("same-origin", "none"))


class AdminRequest(msgspec.Struct, frozen=True):
    """What the guard looks at; None stands for a header that is missing."""

    method: str
    path: str
    host: str | None
    origin: str | None
    fetch_site: str | None
    has_header: bool
    """Whether there is `X-Sidecar-Admin`, with any value."""
    is_unix: bool
    """Whether it came by a Unix socket, which no browser reaches."""


def refusal(request: AdminRequest, names: frozenset[str]) -> str | None:
    """Why a request is refused, with the remedy; None if it is not.

    `names` are the hosts that the listener is configured with, in lower case.
    """
    is_safe = request.method in _SAFE
    if is_safe and request.path in OPEN_PATHS:
        return None
    if not (request.is_unix or _is_own(request.host, names)):
        return "Host must be an IP address, localhost or the host of `admin`"
    if is_safe:
        return None
    if not request.has_header:
        return f"{request.method} must have the header {HEADER}: 1"
    if request.origin is not None and not _is_same(request.origin, request.host):
        return "Origin must be the admin listener's own"
    if request.fetch_site is not None and request.fetch_site.lower() not in _OWN_SITE:
        return "Sec-Fetch-Site must be same-origin or none"
    return None


def _is_own(host: str | None, names: frozenset[str]) -> bool:
    """Whether a Host says whom a client meant; the name of another site is not believed.

    The port is not compared: it may be forwarded, and a name that is rebound has any.
    """
    if not host:
        return False
    name = _without_port(host).lower()
    return name == "localhost" or name in names or _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str | None) -> bool:
    if not host:
        return False
    seen = normal_origin(origin.encode("utf-8", "surrogateescape"))
    own = host.encode("utf-8", "surrogateescape")
    return seen in (normal_origin(b"http://" + own), normal_origin(b"https://" + own))
