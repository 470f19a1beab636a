"""Where the site is, as its browsers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar.core.attributes import Scope
from sidecar.core.target import normal_origin

if TYPE_CHECKING:
    from sidecar.web.flow import Flow


def public_origin(flow: Flow) -> bytes:
    """Returns scheme://host of the site, in normal form."""
    configured = flow.runtime.policy.public_origin
    if configured is not None:
        return configured
    peer, request = flow.connection.peer, flow.request
    return normal_origin(b"%b://%b" % (peer.public_scheme(request), peer.public_host(request)))


def scope_of(flow: Flow) -> Scope:
    """Returns where session cookies are set, and how: as this site's applications do."""
    origin = urlsplit(public_origin(flow).decode("latin-1"))
    host = origin.hostname or ""
    return Scope(https=origin.scheme == "https", host=host, seen=flow.runtime.seen.at(host))
