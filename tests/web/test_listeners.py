"""Sockets that listen: a Unix socket changes hands without a gap, and nobody removes another's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sidecar.core.config import Listen
from sidecar.web.listeners import CannotListen, Opened
from sidecar.web.listeners import listening as open_all


def unix(path: Path, mode: int | None = None) -> dict[str, Listen]:
    return {"listen": Listen("", 0, str(path), mode)}


@contextmanager
def listening(addresses: dict[str, Listen]) -> Iterator[tuple[socket.socket, ...]]:
    """The sockets of all addresses."""
    with open_all(addresses) as opened:
        yield tuple(one for at in opened.values() for one in at.sockets)


def reaches(path: Path, listener: socket.socket) -> bool:
    """Whether a client of the path comes to this listener."""
    listener.settimeout(1.0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.accept()[0].close()
    return True


def test_second_owner_keeps_what_it_took_over(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with listening(unix(path)) as (first,):
        assert reaches(path, first)
        second = listening(unix(path))
        (socket_,) = second.__enter__()
        assert reaches(path, socket_)
    assert reaches(path, socket_)
    second.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_start_that_fails_leaves_the_path_to_its_owner(tmp_path: Path) -> None:
    """As one beside a process that serves already: its port is busy, and its socket is not."""
    path, other = tmp_path / "s.sock", tmp_path / "t.sock"
    with listening(unix(path)) as (first,):
        busy = {"listen": Listen("", 0, str(path)), "admin": Listen("", 0, str(other))}
        port = {"listen[2]": Listen("127.0.0.1", 0)}
        with listening(port) as (held,):
            port = {"listen[2]": Listen(*held.getsockname())}
            with pytest.raises(CannotListen), listening({**busy, **port}):
                pass
        assert reaches(path, first)
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_path_is_never_without_a_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one listens before it takes the old one's place."""
    path, seen = tmp_path / "s.sock", []
    replace = Path.replace

    def look(self: Path, target: Path) -> Path:
        seen.append(reaches(self, made[-1]))
        return replace(self, target)

    made: list[socket.socket] = []
    listen = socket.socket.listen

    class Watched(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            made.append(self)
            listen(self, backlog)

    monkeypatch.setattr(Path, "replace", look)
    monkeypatch.setattr(socket, "socket", Watched)
    with listening(unix(path)):
        assert seen == [True]


def test_file_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
    with listening(unix(path)) as (one,):
        assert reaches(path, one)


def test_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="no socket"), listening(unix(path)):
        pass
    assert path.read_text() == "precious"


def test_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "s.sock"
    with pytest.raises(OSError, match="no such file") as caught, listening(unix(path)):
        pass
    assert str(caught.value) == f"listen: unix:{path}: no such file or directory"


def test_path_as_long_as_the_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("s" * 107)
    with listening(unix(path)) as (one,):
        assert reaches(path, one)
    assert os.listdir() == []


def test_busy_address_is_refused() -> None:
    with listening({"listen": Listen("127.0.0.1", 0)}) as (one,):
        port = one.getsockname()[1]
        with (
            pytest.raises(OSError, match="in use"),
            listening({"listen": Listen("127.0.0.1", port)}),
        ):
            pass


def test_every_address_that_cannot_be_had_is_told_at_once(tmp_path: Path) -> None:
    """And those that can are let go again."""
    path, missing = tmp_path / "s.sock", tmp_path / "none" / "s.sock"
    with listening({"listen": Listen("127.0.0.1", 0)}) as (one,):
        busy = Listen("127.0.0.1", one.getsockname()[1])
        addresses = {
            "listen[0]": Listen("", 0, str(path)),
            "listen[1]": busy,
            "listen[2]": Listen("", 0, str(missing)),
            "admin": Listen("no-such-host.invalid", 80),
        }
        with pytest.raises(CannotListen) as caught, listening(addresses):
            pass
    told = str(caught.value).split("; ")
    assert told[0] == f"listen[1]: {busy}: address already in use"
    assert told[1] == f"listen[2]: unix:{missing}: no such file or directory"
    assert told[2].startswith("admin: no-such-host.invalid:80: cannot be resolved: ")
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_socket_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s.sock"
    before = os.umask(0o027)
    try:
        with listening(unix(path, mode)):
            assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_every_address_is_of_both_versions(client: str) -> None:
    """`:port` is reached by IPv4 and IPv6."""
    if client == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listening({"listen": Listen("::", 0)}) as (one,):
        with socket.create_connection((client, one.getsockname()[1]), timeout=5):
            accepted, name = one.accept()
        accepted.close()
    assert client in name[0]


def test_without_ipv6_every_address_is_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening({"listen": Listen("::", 0)}) as (one,):
        assert one.family == socket.AF_INET
        assert one.getsockname()[0] == "0.0.0.0"


def test_all_of_ipv4_is_not_of_ipv6() -> None:
    with listening({"listen": Listen("0.0.0.0", 0)}) as (one,):
        assert one.family == socket.AF_INET


def test_what_is_given_is_not_opened_and_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    given = socket.create_server(("127.0.0.1", 0))
    addresses = {"listen[0]": Listen("", 0, str(path)), "listen[1]": Listen("127.0.0.1", 1)}
    with open_all(addresses, {"listen[1]": Opened(addresses["listen[1]"], (given,))}) as opened:
        assert [*opened] == ["listen[0]", "listen[1]"]
        assert opened["listen[1]"].sockets == (given,)
    assert given.fileno() == -1
