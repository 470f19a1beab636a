"""The main job with nothing made up: a library's own cookie, `sidecar run`, a real HTTP server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

NPM = Path(__file__).parent / "npm"
BROWSER = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
SCRIPT = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors", "Accept": "*/*"}


class Api(ThreadingHTTPServer):
    """An API that knows good tokens, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ApiRequest)
        self.good: set[str] = set()
        self.seen: list[dict[str, str]] = []


class ApiRequest(BaseHTTPRequestHandler):
    """One request to the API."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Api)
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status = 200 if token in self.server.good else 401
        body = json.dumps({"data": {"me": 42}} if status == 200 else {"message": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    """The API on a free port."""
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def chunked(
    npm_project: Callable[..., Path], require_program: Callable[[str], str]
) -> dict[str, dict[str, Any]]:
    """For each library a cookie in chunks that it sealed just now, with what opens it."""
    node, project = require_program("node"), npm_project(NPM)
    minted = subprocess.run(
        [node, "mint.mjs"], cwd=project, capture_output=True, timeout=60, check=True
    )
    cases = [case for case in json.loads(minted.stdout) if len(case["cookies"]) > 1]
    return {case["type"]: case for case in cases}


def config_of(case: dict[str, Any], api_port: int, port: int) -> dict[str, Any]:
    """A configuration whose only source opens the case."""
    names = {"secrets": "secret", "passwords": "password"}
    options = {names.get(name, name): value for name, value in case["options"].items()}
    return {
        "listen": f"127.0.0.1:{port}",
        "admin": None,
        "upstreams": {"api": {"url": f"http://127.0.0.1:{api_port}"}},
        "routes": [{"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"}],
        "session": {"sources": [{"type": case["type"], **options}]},
    }


@contextmanager
def running(config: dict[str, Any], folder: Path, port: int, secret: str) -> Iterator[None]:
    """`sidecar run` with this configuration, until the block ends; `secret` is never logged."""
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps({"drain": {"wait": "0s"}, **config}))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR")}
    command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(port, process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert secret not in log


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the sidecar does not listen")


Answer = tuple[int, list[tuple[str, str]], bytes]


def ask(port: int, target: str, cookies: dict[str, str], fields: dict[str, str]) -> Answer:
    """One GET, redirects not followed."""
    cookie = "; ".join(f"{name}={value}" for name, value in {**cookies, "theme": "dark"}.items())
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", target, headers={"Cookie": cookie, **fields})
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()


def field(answer: Answer, name: str) -> str:
    return next(value for key, value in answer[1] if key.lower() == name.lower())


def expired(answer: Answer) -> set[str]:
    """The names that the answer's Set-Cookie lines expire."""
    lines = [value for key, value in answer[1] if key.lower() == "set-cookie"]
    assert all("Max-Age=0" in line and "Path=/" in line for line in lines)
    return {line.partition("=")[0] for line in lines}


@pytest.mark.parametrize("client", ["document", "fetch"])
@pytest.mark.parametrize("type_", ["authjs", "nextauth", "auth0", "better-auth", "iron-session"])
def test_the_whole_story(
    type_: str,
    client: str,
    chunked: dict[str, dict[str, Any]],
    api: Api,
    tmp_path: Path,
) -> None:
    """Token injected, answer enveloped; a 401 ends in expired chunks and the login."""
    case, port = chunked[type_], free_port()
    cookies, fields = case["cookies"], BROWSER if client == "document" else SCRIPT
    api.good.add(case["token"])
    with running(config_of(case, api.server_port, port), tmp_path, port, case["token"]):
        status, _, body = ask(port, "/api/me?a=%2F", cookies, SCRIPT)
        assert status == 200
        assert json.loads(body) == {
            "isError": False,
            "message": None,
            "data": {"me": 42},
            "status": 200,
            "errorData": None,
        }
        assert api.seen[-1]["authorization"] == f"Bearer {case['token']}"
        assert api.seen[-1]["cookie"] == "theme=dark"

        api.good.clear()
        refused = ask(port, "/api/me", cookies, fields)
        assert refused[0] == 303
        assert field(refused, "Cache-Control") == "no-store"
        logout = ask(port, field(refused, "Location"), cookies, fields)
        assert set(cookies) <= expired(logout)
        if client == "document":
            assert (logout[0], field(logout, "Location")) == (303, "/login")
        else:
            told = json.loads(logout[2])
            assert (logout[0], told["isError"]) == (401, True)
            assert told["errorData"]["code"] == "session_expired"
            assert told["errorData"]["loginUrl"] == "/login"

        before = len(api.seen)
        replayed = ask(port, "/api/me", cookies, SCRIPT)
        assert replayed[0] == 303
        assert len(api.seen) == before  # the old cookie is refused without asking the API
