"""Sockets that listen: a Unix socket changes hands without a gap, and nobody removes another's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sidecar.core.config import Listen
from sidecar.web.listeners import listening


def unix(path: Path) -> Listen:
    return Listen("", 0, str(path))


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
    with pytest.raises(OSError, match="No such file") as caught, listening(unix(path)):
        pass
    assert caught.value.filename == str(path)


def test_path_as_long_as_the_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("s" * 107)
    with listening(unix(path)) as (one,):
        assert reaches(path, one)
    assert os.listdir() == []


def test_busy_address_is_refused() -> None:
    with listening(Listen("127.0.0.1", 0)) as (one,):
        port = one.getsockname()[1]
        with pytest.raises(OSError, match="in use"), listening(Listen("127.0.0.1", port)):
            pass
