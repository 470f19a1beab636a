"""The programs of a site: identity provider, API, Redis and sidecars, each a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from redis import Redis as Client

from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 15.0  # seconds that a program may take to start
SECRET: Final = "a secret of the tests, 32 bytes or more"
USERS: Final = tuple(f"user{number:03}" for number in range(200))
LIFETIME: Final = 20  # seconds that an access token lives
CALLBACK: Final = "http://127.0.0.1:9/callback"  # is never asked
COOKIES: Final = {"authjs": "authjs.session-token", "nextauth": "next-auth.session-token"}


class Program:
    """One program, which leads a process group of its own."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.command = command
        self.port = port
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begins it; `wait` waits until it serves."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, "XDG_RUNTIME_DIR": str(self.log.parent)},
            )

    def serves(self) -> bool:
        """Whether it can be used."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def wait(self) -> None:
        """Waits until it serves."""
        end = time.monotonic() + PATIENCE
        while not self.serves():
            assert self._process is not None
            assert self._process.poll() is None, f"has ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"does not serve: {self.log.read_text()[-2000:]}"
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Sends a signal to the whole group."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """As when the machine breaks; safe to do twice."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Connections are accepted, but nothing is answered."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)


class Idp(Program):
    """The rehearsal provider: rotation with reuse detection, access tokens of 20 s."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.issuer = f"http://127.0.0.1:{port}"
        options = {
            "port": port,
            "access-token-lifetime": LIFETIME,
            "redirect-uri": CALLBACK,
            "signing-algorithm": "ES256",
        }
        command = [sys.executable, "-m", "sidecar.demo.idp"]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += [f"--user={user}" for user in USERS]
        super().__init__(command, port, directory / "idp.log")


class Api(Program):
    """The API (`tests.life.api`)."""

    def __init__(self, idp: Idp, directory: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "tests.life.api", str(port), idp.issuer, "rehearsal-only"]
        super().__init__(command, port, directory / "api.log")


class Redis(Program):
    """A server that loses everything when it is killed, unless it is `lasting`."""

    def __init__(self, program: str, directory: Path, *, lasting: bool = False) -> None:
        port = free_port()
        directory = directory / str(port)
        directory.mkdir()
        writing = ["yes", "--appendfsync", "always"] if lasting else ["no"]
        command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
        command += ["--save", "", "--appendonly", *writing]
        super().__init__(command, port, directory / "redis.log")
        self.url = f"redis://127.0.0.1:{port}/0"

    def save(self) -> None:
        """Writes a snapshot, which it starts from once it has been killed."""
        with Client(port=self.port) as client:
            client.save()

    def flood(self, count: int) -> None:
        """As many messages as of that many logouts, so that older ones are kept no longer."""
        with Client(port=self.port) as client, client.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.xadd("sidecar::messages", {"m": b"x"}, maxlen=10_000, approximate=True)
            pipeline.execute()

    def count(self, pattern: str) -> int:
        """How many keys there are of a pattern."""
        with Client(port=self.port) as client:
            return len(client.keys(pattern))


class Replica(Program):
    """`sidecar run` with one or several workers."""

    def __init__(self, config: dict[str, Any], directory: Path) -> None:
        port, self.admin = free_port(), free_port()
        self.workers: int = config.get("workers", 1)
        self.url = f"http://127.0.0.1:{port}"
        file = directory / f"{port}.json"
        listeners = {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{self.admin}"}
        file.write_text(json.dumps({"drain": {"wait": "0s"}, **listeners, **config}))
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        super().__init__(command, port, directory / f"{port}.log")

    def serves(self) -> bool:
        """Whether all of its workers do, and the store is there."""
        try:
            with urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=1) as answer:
                answer.read()
            with urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=1) as answer:
                found = re.search(r"^sidecar_workers (\d+)", answer.read().decode(), re.MULTILINE)
        except (HTTPError, URLError, OSError):
            return False
        return self.workers == (1 if found is None else int(found[1]))

    def facts(self, path: str) -> str:
        """What the admin listener says."""
        try:
            with urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            return str(error.read().decode())

    def ask_to_end(self) -> None:
        """As in a rolling update."""
        self.signal(signal.SIGTERM)

    def wait_for_end(self, seconds: float) -> int:
        """Its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log about one event."""
        text = self.log.read_text()
        whole = text[: text.rfind("\n") + 1]  # without a line that is being written
        lines = [line for line in whole.splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == event]


def config_of(idp: Idp, api: Api, **more: Any) -> dict[str, Any]:
    """A site with sessions of Auth.js and NextAuth in front of the API."""
    claims = {"token": "accessToken", "refresh_token": "refreshToken", "expires_at": "expiresAt"}
    return {
        "secret": SECRET,
        "upstreams": {"api": {"url": f"http://127.0.0.1:{api.port}"}},
        "routes": [
            {"path": "/api", "kind": "api", "upstream": "api", "strip": "/api"},
            {"path": "/", "kind": "page", "upstream": "api"},
        ],
        "session": {"sources": [{"type": type_, "secret": SECRET, **claims} for type_ in COOKIES]},
        "refresh": {
            "issuer": idp.issuer,
            "client_id": "app",
            "client_secret": "rehearsal-only",
        },
        **more,
    }
