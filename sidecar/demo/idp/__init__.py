"""A small, correct OpenID Provider on the loopback interface, for demos and tests only.

    async with running_idp(redirect_uris=["http://127.0.0.1:8080/auth/callback"]) as idp: …

docs/rehearsal.md tells how to use it.
"""

from __future__ import annotations

from sidecar.demo.idp.options import Options, RegisteredClient, Switches
from sidecar.demo.idp.records import Introspection, Stats
from sidecar.demo.idp.serve import RunningIdp, running_idp

__all__ = [
    "Introspection",
    "Options",
    "RegisteredClient",
    "RunningIdp",
    "Stats",
    "Switches",
    "running_idp",
]
