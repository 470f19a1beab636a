"""Sockets that a process is given, and what each of them is for."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.activation import (
    HANDOVER,
    GivenSocket,
    Handover,
    Role,
    read_activation,
    read_handover,
    roles_of,
)

KEYS: dict[Role, str | None] = {"http": "0.0.0.0:8080", "admin": "127.0.0.1:9090"}


def test_service_manager_gives_sockets_with_names() -> None:
    """From descriptor 3 on (sd_listen_fds(3)); names may be missing."""
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "http:admin"}
    assert read_activation(environ, 7) == (
        GivenSocket(3, "http"),
        GivenSocket(4, "admin"),
        GivenSocket(5, ""),
    )
    assert read_activation(environ, 8) == ()


@pytest.mark.parametrize("count", ["", "-1", "x", "0", "²"])
def test_what_is_no_number_of_sockets_is_none(count: str) -> None:
    assert read_activation({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7) == ()


def test_handover_is_read_as_it_was_written() -> None:
    given = Handover((GivenSocket(5, "http", "0.0.0.0:80"), GivenSocket(6, "admin")), 9)
    assert read_handover({HANDOVER: given.as_text()}) == given
    assert read_handover({}) is None


@pytest.mark.parametrize(
    ("given", "roles"),
    [
        # Names.
        ([("admin", "0.0.0.0:1"), ("http", "0.0.0.0:2")], ["admin", "http"]),
        ([("http", "0.0.0.0:1"), ("http", "[::]:1")], ["http", "http"]),
        # Addresses, whatever the order.
        ([("x.socket", "127.0.0.1:9090"), ("x.socket", "0.0.0.0:8080")], ["admin", "http"]),
        # The order, if nothing else says it.
        ([("", "0.0.0.0:443")], ["http"]),
        ([("x", "0.0.0.0:443"), ("x", "unix:/run/admin")], ["http", "admin"]),
        ([("", "0.0.0.0:443"), ("admin", "0.0.0.0:444")], ["http", "admin"]),
        ([("", "127.0.0.1:9090"), ("", "0.0.0.0:443")], ["admin", "http"]),
        ([("", "0.0.0.0:1"), ("", "0.0.0.0:2"), ("", "0.0.0.0:3")], ["http", "admin", None]),
    ],
)
def test_role_is_told_by_name_then_address_then_order(
    given: list[tuple[str, str]], roles: list[Role | None]
) -> None:
    sockets = [(GivenSocket(3 + at, name), address) for at, (name, address) in enumerate(given)]
    found = roles_of(sockets, KEYS)
    assert [found.get(3 + at) for at in range(len(given))] == roles


def test_socket_of_a_former_process_is_used_for_the_same_address_only() -> None:
    """Another address in the configuration is opened anew."""
    same, other = GivenSocket(5, "http", "0.0.0.0:8080"), GivenSocket(5, "http", "0.0.0.0:80")
    assert roles_of([(same, "0.0.0.0:8080")], KEYS) == {5: "http"}
    assert roles_of([(other, "0.0.0.0:80")], KEYS) == {}


def test_nothing_is_for_a_listener_that_is_turned_off() -> None:
    keys: dict[Role, Any] = {"http": "0.0.0.0:8080", "admin": None}
    named = [(GivenSocket(3, "admin"), "127.0.0.1:9090"), (GivenSocket(4, ""), "0.0.0.0:1")]
    assert roles_of(named, keys) == {4: "http"}
