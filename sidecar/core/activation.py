"""Listening sockets that a process is given at its start, by the names that its environment has.

A service manager gives them as systemd does (sd_listen_fds(3)). A sidecar gives its own to the one
that takes its place, in one variable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

Role: TypeAlias = Literal["http", "admin"]
"""What a socket is for: the key `listen`, or the key `admin`."""

ROLES: Final[tuple[Role, ...]] = ("http", "admin")
HANDOVER: Final = "_SIDECAR_HANDOVER"  # SIDECAR_… are keys
ACTIVATION: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
FIRST: Final = 3
"""The number of the first descriptor that a service manager gives."""


@dataclass(frozen=True, slots=True)
class GivenSocket:
    """One socket: its descriptor, and what it is for, as far as it is said."""

    fd: int
    name: str
    """`http`, `admin`, or any other text, which says nothing."""
    listen: str | None = None
    """The value of the key that it was opened for; None if a service manager opened it.

    It is used only for the same value. Of a service manager it is used whatever the key says.
    """


@dataclass(frozen=True, slots=True)
class Handover:
    """What a process gives to the one that takes its place."""

    sockets: tuple[GivenSocket, ...]
    ready: int
    """The descriptor of a pipe; a byte in it says that the other one serves."""

    def as_text(self) -> str:
        """The value of the variable."""
        return json.dumps({"sockets": [asdict(one) for one in self.sockets], "ready": self.ready})


def read_handover(environ: Mapping[str, str]) -> Handover | None:
    """What the former process gives, if there is one."""
    text = environ.get(HANDOVER)
    if not text:
        return None
    told = json.loads(text)
    return Handover(tuple(GivenSocket(**one) for one in told["sockets"]), told["ready"])


def read_activation(environ: Mapping[str, str], pid: int) -> tuple[GivenSocket, ...]:
    """What a service manager gives to the process `pid`; nothing if it is meant for another."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal():
        return ()
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return tuple(GivenSocket(FIRST + at, names[at]) for at in range(int(count)))


def roles_of(
    given: Sequence[tuple[GivenSocket, str]], keys: Mapping[Role, str | None]
) -> dict[int, Role]:
    """What each socket is for, by its descriptor; those that are for nothing are missing.

    `given` has each socket with its address, written as in `keys`; those are the values of `listen`
    and `admin` (None: none). A name says it, else the address, else the order: the first one is for
    `listen`, and the second one for `admin`.
    """
    roles: dict[int, Role] = {}
    for one, _ in given:
        for role in ROLES:
            if one.name == role and one.listen in (None, keys[role]):
                roles[one.fd] = role
    unknown = [(one, at) for one, at in given if one.name not in ROLES and one.listen is None]
    for one, address in unknown:
        for role in ROLES:
            if address == keys[role]:
                roles.setdefault(one.fd, role)
    left = [one.fd for one, _ in unknown if one.fd not in roles]
    for role in ROLES:
        if left and role not in roles.values() and keys[role] is not None:
            roles[left.pop(0)] = role
    return {fd: role for fd, role in roles.items() if keys[role] is not None}
