"""A process takes the sockets that it was given, once, and nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from sidecar.core.activation import HANDOVER, GivenSocket, Handover
from sidecar.core.config import Config, Listen, load
from sidecar.handover import obstacle, offered
from sidecar.inheritance import inherit

if TYPE_CHECKING:
    from pathlib import Path

BASE = load("upstream: http://a", source="test", environ={}, read_file=lambda path: path)


def config(http: Listen, admin: Listen | None) -> Config:
    return BASE.model_copy(update={"listen": http, "admin": admin})


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def listener(stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0)))


def at(one: socket.socket) -> Listen:
    return Listen(*one.getsockname())


def test_sockets_of_a_former_process_are_taken(stack: ExitStack) -> None:
    """The variable is gone then, the sockets are inherited no further, and it is told."""
    http, admin = listener(stack), listener(stack)
    ours, theirs = os.pipe()
    given = offered(config(at(http), at(admin)), [http], [admin], is_managed=False)
    copies = tuple(GivenSocket(os.dup(one.fd), one.name, one.listen) for one in given)
    environ = {HANDOVER: Handover(copies, theirs).as_text(), "OTHER": "1"}
    taken = inherit(environ, os.getpid(), config(at(http), at(admin)))
    assert environ == {"OTHER": "1"}
    assert [one.getsockname() for one in taken.http] == [http.getsockname()]
    assert [one.getsockname() for one in taken.admin] == [admin.getsockname()]
    assert not taken.is_managed
    for one in (*taken.http, *taken.admin):
        assert not one.get_inheritable()
        one.close()
    taken.tell_ready()
    assert os.read(ours, 9) == b"1"
    assert os.read(ours, 9) == b""
    os.close(ours)


def test_socket_for_another_address_is_closed(stack: ExitStack) -> None:
    http = listener(stack)
    ours, theirs = os.pipe()
    os.close(ours)
    copy = os.dup(http.fileno())
    given = (GivenSocket(copy, "http", str(at(http))),)
    environ = {HANDOVER: Handover(given, theirs).as_text()}
    taken = inherit(environ, os.getpid(), config(Listen("127.0.0.1", 1), None))
    assert (taken.http, taken.admin) == ((), ())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)
    taken.tell_ready()  # the other one has left: no matter


def test_nothing_is_given_to_most() -> None:
    taken = inherit({}, os.getpid(), BASE)
    assert (taken.http, taken.admin, taken.is_managed, taken.unused) == ((), (), False, ())
    taken.tell_ready()


def test_unix_socket_of_our_own_is_not_offered(stack: ExitStack, tmp_path: Path) -> None:
    """The other process's socket takes its name; one of a service manager is handed on."""
    http = stack.enter_context(socket.socket(socket.AF_UNIX))
    path = str(tmp_path / "http")
    http.bind(path)
    http.listen()
    unix = config(Listen("", 0, path), None)
    assert offered(unix, [http], [], is_managed=False) == ()
    managed = offered(unix, [http], [], is_managed=True)
    assert managed == (GivenSocket(http.fileno(), "http"),)


def test_who_cannot_be_replaced_is_told_the_remedy() -> None:
    """Process 1 of a container, and a service that systemd ends with its main process."""
    assert "container" in str(obstacle({}, 1))
    assert "Type=notify" in str(obstacle({"SYSTEMD_EXEC_PID": "7"}, 7))
    assert obstacle({"SYSTEMD_EXEC_PID": "7", "NOTIFY_SOCKET": "/run/x"}, 7) is None
    assert obstacle({"SYSTEMD_EXEC_PID": "6"}, 7) is None
    assert obstacle({}, 7) is None
