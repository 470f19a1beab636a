"""Listens before workers are forked, so that busy addresses are reported once, all together.

A Unix socket takes the place of the one that was there, in one step: a new process can start beside
the one that it replaces, and no client meets a moment without either. No socket takes a place
before every address is bound: a start that fails leaves the place to whoever is there. The process
that ends removes the file only if it is still its own.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from sidecar.web.accepting import BACKLOG

if TYPE_CHECKING:
    from sidecar.core.config import Config, Listen

Key: TypeAlias = str
"""Of the configuration: `listen`, `listen[1]`, `admin`."""
ADMIN: Final[Key] = "admin"
_HAS_NOT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
EVERYWHERE: Final = "::"
_EVERYWHERE_V4: Final = "0.0.0.0"  # noqa: S104 - what is asked for


class Opened(msgspec.Struct, frozen=True):
    """The sockets that listen on what an address of the configuration stands for."""

    address: Listen
    sockets: tuple[socket.socket, ...]
    is_managed: bool = False
    """Whether a service manager has opened them, and keeps them open."""


_NOTHING: Final[Mapping[Key, Opened]] = MappingProxyType({})


class CannotListen(OSError):
    """Addresses cannot be had. The text has the key, the address and the cause of each."""

    def __init__(self, causes: Sequence[tuple[Key, Listen, OSError]]) -> None:
        told = (f"{key}: {address}: {_cause(error)}" for key, address, error in causes)
        super().__init__("; ".join(told))


def addresses_of(config: Config) -> dict[Key, Listen]:
    """Every address to listen on, by its key."""
    admin = {} if config.admin is None else {ADMIN: config.admin}
    return {one.key: one.address for one in config.listeners} | admin


def public_sockets(opened: Mapping[Key, Opened]) -> tuple[tuple[socket.socket, ...], ...]:
    """Those of each listener, in the order of `listen`."""
    return tuple(one.sockets for key, one in opened.items() if key != ADMIN)


def admin_sockets(opened: Mapping[Key, Opened]) -> tuple[socket.socket, ...]:
    """Those of the admin listener; none if it is off."""
    return opened[ADMIN].sockets if ADMIN in opened else ()


@contextmanager
def listening(
    addresses: Mapping[Key, Listen], given: Mapping[Key, Opened] = _NOTHING
) -> Iterator[dict[Key, Opened]]:
    """Listens on each address, and keeps their order. What is `given` listens already.

    Closes all at the end, and removes the files of Unix sockets unless they were given. Raises
    `CannotListen` with every address that cannot be had.
    """
    with ExitStack() as stack:
        opened, causes, names = {}, [], list[_Name]()
        for key, address in addresses.items():
            if key in given:
                opened[key] = given[key]
                for one in given[key].sockets:
                    stack.callback(one.close)
                continue
            try:
                opened[key] = Opened(address, _listen(stack, key, address, names))
            except OSError as error:
                causes.append((key, address, error))
        if causes:
            raise CannotListen(causes)
        for name in names:
            name.take()
        yield opened


class _Name:
    """The path of a Unix socket, `address`, which listens under its `own` name as yet."""

    def __init__(self, key: Key, address: Listen, own: Path) -> None:
        self._key: Final = key
        self._address: Final = address
        self._own: Final = own
        self._path: Final = Path(str(address.unix_path))
        self._identity: Final = _identity(own)

    def take(self) -> None:
        """Takes the place of the socket that was there. Raises `CannotListen`."""
        try:
            self._own.replace(self._path)
        except OSError as error:
            raise CannotListen([(self._key, self._address, error)]) from None

    def remove(self) -> None:
        """Removes the socket's file, unless another process has taken its place."""
        for path in (self._own, self._path):
            with suppress(FileNotFoundError):
                if _identity(path) == self._identity:
                    path.unlink()


def _listen(
    stack: ExitStack, key: Key, address: Listen, names: list[_Name]
) -> tuple[socket.socket, ...]:
    """Adds the name that a Unix socket has yet to take to `names`. Raises `OSError`."""
    if address.unix_path is not None:
        path = Path(address.unix_path)
        number = f"-{len(names)}" if names else ""  # short: a path has 107 bytes at most
        own = path.with_name(f".{os.getpid():x}{number}")
        one = _listen_unix(path, own, address.mode)
        names.append(_Name(key, address, own))
        stack.callback(names[-1].remove)
        stack.callback(one.close)
        return (one,)
    if address.host == EVERYWHERE:
        return (stack.enter_context(_listen_everywhere(address.port)),)
    return tuple(_listen_host(stack, address))


def _listen_everywhere(port: int) -> socket.socket:
    """For IPv6, and for IPv4 as well; for IPv4 alone if the machine has nothing else."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                (EVERYWHERE, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        except OSError as error:
            if error.errno not in _HAS_NOT:
                raise
    return socket.create_server((_EVERYWHERE_V4, port), backlog=BACKLOG)


def _listen_host(stack: ExitStack, address: Listen) -> Iterator[socket.socket]:
    """One socket for each address of the host."""
    missing: OSError | None = None
    count = 0
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, _, _, _, name in dict.fromkeys(found):
        try:
            one = socket.create_server(name, family=family, backlog=BACKLOG)
        except OSError as error:
            # A name may stand for an address of IPv6 though the machine has none.
            if error.errno not in _HAS_NOT:
                raise
            missing = error
            continue
        stack.callback(one.close)
        count += 1
        yield one
    if missing is not None and not count:
        raise missing


def _listen_unix(path: Path, own: Path, mode: int | None) -> socket.socket:
    """Listens under the name `own`, which is to become `path`. Raises `OSError`."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EADDRINUSE, "a file that is no socket is in the way", str(path))
    one = socket.socket(socket.AF_UNIX)
    try:
        own.unlink(missing_ok=True)
        one.bind(str(own))
        if mode is not None:
            own.chmod(mode)  # nobody can connect before it listens
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _cause(error: OSError) -> str:
    """In words, without the address that `create_server` appends."""
    number = error.errno
    if isinstance(error, socket.gaierror) or number is None:
        return f"cannot be resolved: {error.strerror}" if error.strerror else str(error)
    return (error.strerror or os.strerror(number)).partition(" (while")[0].lower()
