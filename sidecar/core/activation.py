"""Listening sockets that a process is given at its start, by the names that its environment has.

A service manager gives them as systemd does (sd_listen_fds(3)). A sidecar gives its own to the one
that takes its place, in one variable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from sidecar.core.record import values_of

Role: TypeAlias = Literal["http", "admin"]
"""What a socket is for: the key `listen`, or the key `admin`."""

ROLES: Final[tuple[Role, ...]] = ("http", "admin")
HANDOVER: Final = "_SIDECAR_HANDOVER"  # SIDECAR_… are keys
ACTIVATION: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
FIRST: Final = 3
"""The number of the first descriptor that a service manager gives."""


class GivenSocket(msgspec.Struct, frozen=True):
    """One socket: its descriptor, and what it is for, as far as it is said."""

    fd: int
    name: str
    """`http`, `admin`, or any other text, which says nothing."""
    listen: str | None = None
    """The value of the key that it was opened for; None if a service manager opened it.

    It is used only for the same value. Of a service manager it is used whatever the key says.
    """


class Handover(msgspec.Struct, frozen=True):
    """What a process gives to the one that takes its place."""

    sockets: tuple[GivenSocket, ...]
    ready: int
    """The descriptor of a pipe; a byte in it says that the other one serves."""

    def as_text(self) -> str:
        """The value of the variable."""
        return json.dumps(
            {"sockets": [values_of(one) for one in self.sockets], "ready": self.ready}
        )


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


class Wanted(msgspec.Struct, frozen=True):
    """An address that the configuration wants a socket for."""

    key: str
    """Of the configuration: `listen`, `listen[1]`, `admin`."""
    role: Role
    address: str


def keys_of(given: Sequence[tuple[GivenSocket, str]], wanted: Sequence[Wanted]) -> dict[int, str]:
    """The key that each socket is for, by its descriptor; those that are for nothing are missing.

    `given` has each socket with its address, written as in `wanted`. A socket of a former process
    is for the same address only. Of a service manager's, a name says the role; within it, or
    without a name, the address decides, and then the order: that of `wanted`. More sockets by the
    name `http` than there are addresses are all for the same one, if there is one alone.
    """
    keys: dict[int, str] = {}
    for one, address in given:
        at = next((at for at in _possible(one, wanted) if _is_same(one, address, at)), None)
        if at is not None:
            keys[one.fd] = at.key
    managed = [one for one, _ in given if one.listen is None]
    for one in sorted(managed, key=lambda one: one.name not in ROLES):  # names first
        free = (at for at in _possible(one, wanted) if at.key not in keys.values())
        if one.fd not in keys and (at := next(free, None)) is not None:
            keys[one.fd] = at.key
    for one in managed:
        possible = _possible(one, wanted)
        if one.name in ROLES and len(possible) == 1:
            keys.setdefault(one.fd, possible[0].key)
    return keys


def _possible(one: GivenSocket, wanted: Sequence[Wanted]) -> list[Wanted]:
    """What a socket can be for, by its name."""
    return [at for at in wanted if one.name not in ROLES or one.name == at.role]


def _is_same(one: GivenSocket, address: str, at: Wanted) -> bool:
    """Whether a socket listens where it is wanted; a former process says so itself."""
    return at.address == (address if one.listen is None else one.listen)
