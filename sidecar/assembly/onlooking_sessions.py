"""What reads the sessions of requests by a policy alone, for who only looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.config.renewal import Refresh
from sidecar.core.view import ViewReader
from sidecar.sessions.directory import SessionDirectory
from sidecar.sessions.local import local_sessions

if TYPE_CHECKING:
    from sidecar.policy import Policy


def onlooking_sessions(policy: Policy) -> SessionDirectory:
    """Returns a directory that knows of no session yet, and asks no store."""
    config = policy.config
    login = None if policy.login is None else policy.login.source
    reader = ViewReader(policy.sources, policy.session_names, policy.hidden_names, login)
    renews = config.refresh is not None or policy.login is not None
    leeway = (config.refresh or Refresh()).leeway if renews else None
    return local_sessions(reader, policy.signer, leeway=leeway).directory
