"""Other programs that are asked what they make of some bytes; they end with this process.

`Missing` is raised if one of them is not installed.
"""

from __future__ import annotations

import atexit
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any, Final

from tests import npm_packages
from tests.ports import free_port

HERE: Final = Path(__file__).parent
PACKAGES: Final = HERE.parents[1] / "build" / "fuzz-npm"
PATIENCE: Final = 60.0  # seconds that a program may take to serve
SECRET: Final = "gated/secret.txt"
MARK: Final = "what-is-gated-7391"  # all that the gated file holds
_LOOPBACK: Final = "127.0.0.1"


class Missing(Exception):
    """A program or its packages are not there. The text says which."""


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


@cache
def folder() -> Path:
    """A folder of this process: it holds the gated file, and goes with the process."""
    made = Path(mkdtemp(prefix="fuzz-oracle-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    made.chmod(0o755)
    root = made / "root"
    (root / SECRET).parent.mkdir(parents=True)
    (root / SECRET).write_text(MARK)
    (root / "index.html").write_text("open")
    return made


@cache
def packages() -> Path:
    """Where the packages of npm/package-lock.json are; installs them if they are not there."""
    try:
        return npm_packages.shared(HERE / "npm", PACKAGES, npm_packages.WITHOUT_OPTIONAL)
    except npm_packages.NotInstalled as missing:
        raise Missing(str(missing)) from None


# libFuzzer ends a process without a word, so a program ends when nobody holds its stdin any more.
_WITH_US: Final = '"$@" & program=$!; read -r _; kill $program; wait'


def _started(*command: str, env: Mapping[str, str] | None = None) -> None:
    """Runs a program for as long as this process lives."""
    _RUNNING.append(
        subprocess.Popen(
            ("/bin/sh", "-c", _WITH_US, "sh", *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=HERE.parents[1],
            env=env,
        )
    )


_RUNNING: Final[list[subprocess.Popen[bytes]]] = []


@atexit.register
def _end() -> None:
    """Ends the programs, and waits for their end."""
    for process in _RUNNING:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Node:
    """A running oracle.mjs: `ports` are those of its servers, by name."""

    def __init__(self) -> None:
        script, node = packages() / "oracle.mjs", _program("node")
        command = (node, str(script), str(folder() / "root"))
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        _RUNNING.append(self._process)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks: IO[bytes] = self._process.stdin
        self._tells: IO[bytes] = self._process.stdout
        self.ports: Mapping[str, int] = json.loads(self._tells.readline())

    def ask(self, question: str, **given: object) -> Any:
        """The answer to one question."""
        self._asks.write(json.dumps({"ask": question, **given}).encode() + b"\n")
        self._asks.flush()
        told = json.loads(self._tells.readline())
        assert "failed" not in told, told
        return told["answer"]


@cache
def node() -> Node:
    """The one Node.js process."""
    return Node()


class Server:
    """A server on loopback that is asked for raw targets, over a connection that is kept."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._port = port
        self._connection: socket.socket | None = None

    def body_of(self, target: bytes) -> bytes:
        """The bytes of the response to GET: its head, and as much of the body as is here.

        A connection that was kept may have ended meanwhile; then another one is used.
        """
        for _ in range(3):
            connection = self._connection or socket.create_connection((_LOOPBACK, self._port), 10)
            self._connection = connection
            try:
                connection.sendall(b"GET %b HTTP/1.1\r\nHost: a.example\r\n\r\n" % target)
                return self._read(connection)
            except OSError:
                self.close()
        raise OSError(f"{self.name} does not answer")

    def _read(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        if lines.get(b"transfer-encoding", b"").strip() == b"chunked":
            while not body.endswith(b"0\r\n\r\n"):
                body += self._more(connection)
        while len(body) < int(lines.get(b"content-length", 0)):
            body += self._more(connection)
        if lines.get(b"connection", b"").strip() == b"close":
            self.close()
        return head + b"\r\n\r\n" + body

    def _more(self, connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise OSError("the connection has ended")
        return data

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _serves(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), socket.create_connection((_LOOPBACK, port), 1):
            return
        if time.monotonic() > end:
            raise Missing("a server does not come up")
        time.sleep(0.05)


def _nginx() -> dict[str, int]:
    """nginx with files; with a location of its own; and as one that does not merge slashes."""
    nginx = _program("nginx")
    ports = {name: free_port() for name in ("nginx files", "nginx location", "nginx unmerged")}
    files, location, unmerged = ports.values()
    root = folder() / "root"
    text = f"""
daemon off; pid {folder()}/nginx.pid; error_log /dev/null; worker_processes 1;
events {{}}
http {{
  access_log off; root {root}; keepalive_requests 1000000;
  client_body_temp_path {folder()}/a; proxy_temp_path {folder()}/b; fastcgi_temp_path {folder()}/c;
  uwsgi_temp_path {folder()}/d; scgi_temp_path {folder()}/e;
  server {{ listen {_LOOPBACK}:{files}; }}
  server {{
    listen {_LOOPBACK}:{location};
    location / {{ return 404; }}
    location /gated/ {{ return 200 {MARK}; }}
  }}
  server {{ listen {_LOOPBACK}:{unmerged}; merge_slashes off; }}
}}
"""
    (folder() / "nginx.conf").write_text(text)
    _started(nginx, "-c", str(folder() / "nginx.conf"), "-e", "/dev/null")
    return ports


def _caddy() -> dict[str, int]:
    """Caddy, whose path matchers do not look at the case of letters."""
    caddy = _program("caddy")
    ports = {name: free_port() for name in ("caddy matcher", "caddy files")}
    matcher, files = ports.values()
    text = f"""{{
admin off
auto_https off
}}
http://:{matcher} {{
bind {_LOOPBACK}
respond /gated/* {MARK}
respond 404
}}
http://:{files} {{
bind {_LOOPBACK}
root * {folder() / "root"}
file_server
}}
"""
    path = folder() / "Caddyfile"
    path.write_text(text)
    _started(
        *(caddy, "run", "--adapter", "caddyfile", "--config", str(path)),
        env={"HOME": str(folder())},
    )
    return ports


def _asgi() -> dict[str, int]:
    """Uvicorn with Starlette: a route, a mount and files."""
    ports = {name: free_port() for name in ("starlette routes", "starlette files")}
    for name, port in ports.items():
        app = name.split()[1]
        _started(
            *(sys.executable, "-m", "uvicorn", f"tests.fuzz.asgi:{app}", "--port", str(port)),
            *("--log-level", "critical", "--timeout-keep-alive", "600"),
            env={"PATH": "/usr/bin:/bin", "FUZZ_ROOT": str(folder() / "root")},
        )
    return ports


@cache
def servers() -> tuple[Server, ...]:
    """Every server, each of which has the gated file and makes what it likes of a path."""
    ports = {**node().ports, **_nginx(), **_caddy(), **_asgi()}
    for port in ports.values():
        _serves(port)
    made = tuple(Server(name, port) for name, port in ports.items())
    for one in made:
        atexit.register(one.close)
        assert MARK.encode() in one.body_of(b"/" + SECRET.encode()), f"{one.name} has nothing gated"
    return made
