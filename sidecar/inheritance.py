"""Takes the sockets that this process was given at its start (`core.activation`)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.core.activation import (
    ACTIVATION,
    HANDOVER,
    ROLES,
    GivenSocket,
    Role,
    read_activation,
    read_handover,
    roles_of,
)

if TYPE_CHECKING:
    from sidecar.core.config import Config, Listen

READY: Final = b"1"


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What this process was given."""

    http: tuple[socket.socket, ...] = ()
    admin: tuple[socket.socket, ...] = ()
    is_managed: bool = False
    """Whether a service manager has opened them, and keeps them open."""
    unused: tuple[str, ...] = ()
    """Addresses of sockets that are for nothing here; they are closed."""
    ready: int | None = None

    def tell_ready(self) -> None:
        """Tells the process whose place this one takes that it can leave."""
        if self.ready is not None:
            with suppress(OSError):  # it has left already
                os.write(self.ready, READY)
            os.close(self.ready)

    def forget(self) -> None:
        """Leaves it to another process to tell: that it cannot any more must be seen."""
        if self.ready is not None:
            os.close(self.ready)


NOTHING: Final = Inheritance()


def inherit(environ: MutableMapping[str, str], pid: int, config: Config) -> Inheritance:
    """Takes them out of `environ`, so that no process started from here takes them, too."""
    handover = read_handover(environ)
    given = read_activation(environ, pid) if handover is None else handover.sockets
    for name in (*ACTIVATION, HANDOVER):
        environ.pop(name, None)
    opened = {one: usable for one in given if (usable := _opened(one)) is not None}
    keys: dict[Role, str | None] = {"http": str(config.listen), "admin": _text(config.admin)}
    roles = roles_of([(one, _address(usable)) for one, usable in opened.items()], keys)
    found: dict[Role, list[socket.socket]] = {role: [] for role in ROLES}
    unused = []
    for one, usable in opened.items():
        if one.fd in roles:
            found[roles[one.fd]].append(usable)
        else:
            unused.append(_address(usable))
            usable.close()
    if handover is not None:
        os.set_inheritable(handover.ready, False)
    return Inheritance(
        tuple(found["http"]),
        tuple(found["admin"]),
        any(one.listen is None for one in given),
        tuple(unused) if handover is None else (),
        None if handover is None else handover.ready,
    )


def _opened(given: GivenSocket) -> socket.socket | None:
    """None for what is no socket that accepts connections; it is closed."""
    try:
        one = socket.socket(fileno=given.fd)
    except OSError:
        return None
    one.set_inheritable(False)
    if one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return one
    one.close()
    return None


def _address(one: socket.socket) -> str:
    """As the keys `listen` and `admin` are written."""
    name = one.getsockname()
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{os.fsdecode(name)}"


def _text(listen: Listen | None) -> str | None:
    return None if listen is None else str(listen)
