"""Sockets that a process is given, and what each of them is for."""

from __future__ import annotations

import pytest

from sidecar.core.activation import (
    HANDOVER,
    GivenSocket,
    Handover,
    Wanted,
    keys_of,
    read_activation,
    read_handover,
)

ADMIN = Wanted("admin", "admin", "127.0.0.1:9090")
WANTED = [Wanted("listen", "http", "0.0.0.0:8080"), ADMIN]
SEVERAL = [
    Wanted("listen[0]", "http", "[::]:8080"),
    Wanted("listen[1]", "http", "[::]:8443"),
    Wanted("listen[2]", "http", "unix:/run/s"),
    ADMIN,
]


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


def sockets(given: list[tuple[str, str]]) -> list[tuple[GivenSocket, str]]:
    """Of a service manager: names and addresses."""
    return [(GivenSocket(3 + at, name), address) for at, (name, address) in enumerate(given)]


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        # Names.
        ([("admin", "0.0.0.0:1"), ("http", "0.0.0.0:2")], ["admin", "listen"]),
        ([("http", "0.0.0.0:1"), ("http", "[::]:1")], ["listen", "listen"]),
        ([("http", "0.0.0.0:1"), ("http", "0.0.0.0:8080")], ["listen", "listen"]),
        # Addresses, whatever the order.
        ([("x.socket", "127.0.0.1:9090"), ("x.socket", "0.0.0.0:8080")], ["admin", "listen"]),
        # The order, if nothing else says it.
        ([("", "0.0.0.0:443")], ["listen"]),
        ([("x", "0.0.0.0:443"), ("x", "unix:/run/admin")], ["listen", "admin"]),
        ([("", "0.0.0.0:443"), ("admin", "0.0.0.0:444")], ["listen", "admin"]),
        ([("", "127.0.0.1:9090"), ("", "0.0.0.0:443")], ["admin", "listen"]),
        ([("", "0.0.0.0:1"), ("", "0.0.0.0:2"), ("", "0.0.0.0:3")], ["listen", "admin", None]),
    ],
)
def test_key_is_told_by_name_then_address_then_order(
    given: list[tuple[str, str]], keys: list[str | None]
) -> None:
    found = keys_of(sockets(given), WANTED)
    assert [found.get(3 + at) for at in range(len(given))] == keys


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ([("http", "unix:/run/s"), ("http", "[::]:8443")], [2, 1]),
        ([("http", "unix:/run/s"), ("http", "[::]:1"), ("http", "[::]:2")], [2, 0, 1]),
        ([("", "[::]:1"), ("", "[::]:8080"), ("", "[::]:2")], [1, 0, 2]),
        # Nobody can tell which listener one more is for.
        ([("http", f"[::]:{port}") for port in range(1, 5)], [0, 1, 2, None]),
        ([("admin", "[::]:1"), ("admin", "[::]:8080")], ["admin", "admin"]),
        ([("x", f"[::]:{port}") for port in range(1, 6)], [0, 1, 2, "admin", None]),
    ],
)
def test_several_listeners_are_told_by_address_then_order(
    given: list[tuple[str, str]], keys: list[int | str | None]
) -> None:
    found = keys_of(sockets(given), SEVERAL)
    expected = [f"listen[{one}]" if isinstance(one, int) else one for one in keys]
    assert [found.get(3 + at) for at in range(len(given))] == expected


def test_socket_of_a_former_process_is_used_for_the_same_address_only() -> None:
    """Another address in the configuration is opened anew."""
    same, other = GivenSocket(5, "http", "0.0.0.0:8080"), GivenSocket(5, "http", "0.0.0.0:80")
    assert keys_of([(same, "0.0.0.0:8080")], WANTED) == {5: "listen"}
    assert keys_of([(other, "0.0.0.0:80")], WANTED) == {}
    second = GivenSocket(6, "http", "[::]:8443")
    assert keys_of([(same, "0.0.0.0:8080"), (second, "[::]:8443")], SEVERAL) == {6: "listen[1]"}


def test_nothing_is_for_a_listener_that_is_turned_off() -> None:
    named = [(GivenSocket(3, "admin"), "127.0.0.1:9090"), (GivenSocket(4, ""), "0.0.0.0:1")]
    assert keys_of(named, WANTED[:1]) == {4: "listen"}
