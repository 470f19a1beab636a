"""What all contenders of a run share."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sidecar.demo.idp import RunningIdp
from tests.bench.cookies import Login
from tests.bench.faults import BenchError

HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 30.0  # that anything may take to start
POLL_SECONDS: Final = 0.002
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Site:
    """A private directory, whose `www` holds the upstream's files, the login that requests present,
    and the port of the upstream in front of which all contenders stand (0: it does not run yet).
    """

    home: Path
    login: Login
    upstream: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process of a contender runs: its own folder and ports, `redis` for one beside it.
    `idp` is the provider that runs beside it.
    """

    site: Site
    folder: Path
    port: int
    admin: int
    redis: int
    idp: RunningIdp | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A session as requests present it: the whole Cookie header, and its cookies that are nobody's
    session. `is_token` says whether the upstream was given the token of it.
    """

    header: str = field(repr=False)
    others: str | None
    is_token: Callable[[str], bool]


def auth_js(place: Place) -> Session:
    """The run's session, as Auth.js v5 seals it."""
    login = place.site.login
    return Session(login.header, login.others, login.token.__eq__)


def next_auth(place: Place) -> Session:
    """The same session, as next-auth v4 seals it."""
    login = place.site.login
    return Session(login.header_4, login.others_4, login.token.__eq__)


def plain(place: Place) -> Session:
    """The token itself is the cookie."""
    token = place.site.login.token
    return Session(f"access_token={token}; seen=x", "seen=x", token.__eq__)


def await_port(port: int) -> None:
    """Raises `BenchError` where nobody listens there in time."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(POLL_SECONDS)
    raise BenchError(f"nobody listens on port {port}")
