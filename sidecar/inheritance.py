"""Takes the sockets that this process was given at its start (`core.activation`)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.core.activation import (
    ACTIVATION,
    HANDOVER,
    GivenSocket,
    Wanted,
    keys_of,
    read_activation,
    read_handover,
)
from sidecar.web.listeners import ADMIN, Key, Opened, addresses_of

if TYPE_CHECKING:
    from sidecar.core.config import Config, Listen

READY: Final = b"1"


class Inheritance(msgspec.Struct, frozen=True):
    """What this process was given."""

    sockets: Mapping[Key, Opened] = msgspec.field(default_factory=lambda: MappingProxyType({}))
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
    addresses = addresses_of(config)
    keys = keys_of([(one, _address(usable)) for one, usable in opened.items()], _wanted(addresses))
    unused = [usable for one, usable in opened.items() if one.fd not in keys]
    told = tuple(map(_address, unused))
    for usable in unused:
        usable.close()
    sockets = {}
    for key, address in addresses.items():
        ours = {one: usable for one, usable in opened.items() if keys.get(one.fd) == key}
        if ours:
            is_managed = any(one.listen is None for one in ours)
            sockets[key] = Opened(address, tuple(ours.values()), is_managed)
    if handover is None:
        return Inheritance(sockets, told)
    os.set_inheritable(handover.ready, False)
    return Inheritance(sockets, ready=handover.ready)


def _wanted(addresses: Mapping[Key, Listen]) -> list[Wanted]:
    return [
        Wanted(key, "admin" if key == ADMIN else "http", str(one)) for key, one in addresses.items()
    ]


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
