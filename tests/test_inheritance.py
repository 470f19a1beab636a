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
from sidecar.core.config.listen_section import listeners_at
from sidecar.handover import obstacle, offered
from sidecar.inheritance import inherit
from sidecar.web.listeners import Opened

if TYPE_CHECKING:
    from pathlib import Path

BASE = load("upstream: http://a", source="test", environ={}, read_file=lambda path: path)


def config(http: Listen, admin: Listen | None) -> Config:
    return BASE.model_copy(update={"listen": listeners_at(http), "admin": admin})


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
    given = offered({"listen": Opened(at(http), (http,)), "admin": Opened(at(admin), (admin,))})
    copies = tuple(GivenSocket(os.dup(one.fd), one.name, one.listen) for one in given)
    environ = {HANDOVER: Handover(copies, theirs).as_text(), "OTHER": "1"}
    taken = inherit(environ, os.getpid(), config(at(http), at(admin)))
    assert environ == {"OTHER": "1"}
    (ours_http,), (ours_admin,) = taken.sockets["listen"].sockets, taken.sockets["admin"].sockets
    assert ours_http.getsockname() == http.getsockname()
    assert ours_admin.getsockname() == admin.getsockname()
    assert not any(one.is_managed for one in taken.sockets.values())
    for one in (ours_http, ours_admin):
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
    assert taken.sockets == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)
    taken.tell_ready()  # the other one has left: no matter


def test_nothing_is_given_to_most() -> None:
    taken = inherit({}, os.getpid(), BASE)
    assert (taken.sockets, taken.unused) == ({}, ())
    taken.tell_ready()


def test_unix_socket_of_our_own_is_not_offered(stack: ExitStack, tmp_path: Path) -> None:
    """The other process's socket takes its name; one of a service manager is handed on."""
    http = stack.enter_context(socket.socket(socket.AF_UNIX))
    path = str(tmp_path / "http")
    http.bind(path)
    http.listen()
    unix = Listen("", 0, path)
    assert offered({"listen": Opened(unix, (http,))}) == ()
    managed = offered({"listen": Opened(unix, (http,), is_managed=True)})
    assert managed == (GivenSocket(http.fileno(), "http"),)


def test_only_what_a_service_manager_has_opened_is_handed_on_as_its_own(
    stack: ExitStack, tmp_path: Path
) -> None:
    """Beside a socket of its own, which the other process opens anew or takes by its address."""
    managed, ours = listener(stack), listener(stack)
    http = stack.enter_context(socket.socket(socket.AF_UNIX))
    opened = {
        "listen[0]": Opened(Listen("0.0.0.0", 443), (managed,), is_managed=True),
        "listen[1]": Opened(at(ours), (ours,)),
        "listen[2]": Opened(Listen("", 0, str(tmp_path / "http")), (http,)),
    }
    assert offered(opened) == (
        GivenSocket(managed.fileno(), "http"),
        GivenSocket(ours.fileno(), "http", str(at(ours))),
    )


def test_who_cannot_be_replaced_is_told_the_remedy() -> None:
    """Process 1 of a container, and a service that systemd ends with its main process."""
    assert "container" in str(obstacle({}, 1))
    assert "Type=notify" in str(obstacle({"SYSTEMD_EXEC_PID": "7"}, 7))
    assert obstacle({"SYSTEMD_EXEC_PID": "7", "NOTIFY_SOCKET": "/run/x"}, 7) is None
    assert obstacle({"SYSTEMD_EXEC_PID": "6"}, 7) is None
    assert obstacle({}, 7) is None
