"""A site as browsers see it: a provider, a small API with a page, and the sidecar in front."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.conftest import Running
from tests.e2e.servers import ROOT, running
from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, SECRET, Provider
from tests.ports import free_port

PAGE: Final = """<!doctype html>
<title>Work</title>
<h1>%s</h1>
<p>You are <b id="me"></b>, and have heard <b id="heard"></b>: <b id="state">not listening</b>.</p>
<p><a href="/private/orders?page=1">Orders</a> <a href="/auth/logout">Log out</a></p>
<script>
  const show = (id, text) => { document.getElementById(id).textContent = text };
  async function call(path) {
    const begun = Date.now();
    const answer = await fetch(path);
    const type = answer.headers.get("Content-Type");
    return { status: answer.status, type, text: await answer.text(), begun, done: Date.now() };
  }
  function listen() {
    const source = new EventSource("/api/events");
    source.onopen = () => show("state", "open");
    source.onmessage = (event) => show("heard", event.data);
    const closed = EventSource.CLOSED;
    source.onerror = () => show("state", source.readyState === closed ? "closed" : "lost");
  }
  const name = (it) => it.status === 200 ? JSON.parse(it.text).data.name : "nobody";
  call("/api/me").then((it) => show("me", name(it)));
</script>
"""


@dataclass(frozen=True)
class Call:
    """A call as the API got it: `user` is whose token it was, None where the token is not good."""

    path: str
    token: str | None
    user: str | None
    cookie: str


class Api:
    """Asks the provider about each token (RFC 7662), and answers with its user's data."""

    def __init__(self, provider: Provider) -> None:
        self.port: Final = free_port()
        self.calls: Final[list[Call]] = []
        self.listeners: Final[list[str]] = []  # users whose event stream is open
        self.stopped: Final = threading.Event()
        self.provider: Final = provider

    def calls_of(self, user: str) -> list[Call]:
        """What came with one of the user's tokens, in order."""
        return [call for call in self.calls if call.user == user]

    def user_of(self, token: str | None) -> str | None:
        """Whose token it is; None where it is not good."""
        if token is None:
            return None
        url, headers, form = self.provider.introspection(token)
        asked = Request(url, urlencode(form).encode(), headers)  # noqa: S310 - the provider's own
        with urlopen(asked, timeout=10) as answer:  # noqa: S310
            told = json.load(answer)
        user: str | None = told["sub"] if told["active"] else None
        return user


class _Handler(BaseHTTPRequestHandler):
    """One request to the API or for the page."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        api, path = self.server.api, self.path.partition("?")[0]
        if not path.startswith("/api/"):
            self._send(200, "text/html; charset=utf-8", PAGE % escape(path))
            return
        given = self.headers.get("Authorization")
        token = None if given is None else given.removeprefix("Bearer ")
        user = api.user_of(token)
        api.calls.append(Call(path, token, user, self.headers.get("Cookie", "")))
        if user is None:
            self._send(401, "application/json", json.dumps({"message": "The token is not good"}))
        elif path == "/api/events":
            self._stream(user)
        else:
            self._send(200, "application/json", json.dumps({"data": {"name": user}}))

    def _send(self, status: int, media_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, user: str) -> None:
        """Events until the other side leaves; browsers that lose them come back soon."""
        api = self.server.api
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        api.listeners.append(user)
        number = 0
        try:
            while not api.stopped.wait(0.05):
                number += 1
                self.wfile.write(b"retry: 100\ndata: %d\n\n" % number)
        except OSError:
            pass  # it has left
        finally:
            api.listeners.remove(user)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, api: Api) -> None:
        super().__init__(("127.0.0.1", api.port), _Handler)
        self.api: Final = api


@contextmanager
def serving(api: Api) -> Iterator[None]:
    """Runs the API in threads, until the block ends."""
    with _Server(api) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            api.stopped.set()
            server.shutdown()
            thread.join()


@dataclass
class Site:
    """A running site. `url` is the sidecar's."""

    url: str
    provider: Provider
    api: Api
    sidecar: Running
    log: Path  # of the sidecar
    events: Path
    hold: Path

    @property
    def noted(self) -> list[dict[str, Any]]:
        """What the provider has noted, in order."""
        if not self.events.exists():
            return []
        return [json.loads(line) for line in self.events.read_text().splitlines()]

    def noted_of(self, user: str, what: str) -> list[dict[str, Any]]:
        """The same, of one user and one kind."""
        return [one for one in self.noted if one["what"] == what and one.get("user") == user]

    def codes(self, user: str) -> int:
        """How many codes were redeemed for a user."""
        return len(self.noted_of(user, "authorization_code"))

    def exchanges(self, user: str) -> int:
        """How many refresh tokens of a user were exchanged."""
        return len(self.noted_of(user, "refresh_token"))

    def tokens(self, *names: str, user: str | None = None) -> list[str]:
        """Every token of these names that the provider has issued, to one user or to all."""
        answers = [
            one["answer"]
            for one in self.noted
            if user in (None, one.get("user"))
            if "answer" in one
        ]
        return [answer[name] for answer in answers for name in names]

    async def has_under_way(self, kind: str, count: int) -> None:
        """Waits until the sidecar has that many requests of a kind under way."""
        name = f'sidecar_requests_in_flight{{kind="{kind}"}}'
        await self.sidecar.wait_for(lambda metrics: metrics[name] == count)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Within the block, the provider's token endpoint answers nothing."""
        self.hold.touch()
        try:
            yield
        finally:
            self.hold.unlink()


@asynccontextmanager
async def running_site(
    node: str, project: Path, folder: Path, *, kept: str, seconds: int
) -> AsyncIterator[Site]:
    """A site with a folder of its own. Its sessions are `kept` in a cookie or in the store, its
    access tokens live that many `seconds`.
    """
    port, admin = free_port(), free_port()
    url, provider = f"http://127.0.0.1:{port}", Provider(free_port())
    events, hold, log = folder / "events", folder / "hold", folder / "sidecar.log"
    api = Api(provider)
    options: dict[str, Any] = {"seconds": seconds, "events": str(events), "hold": str(hold)}
    file = folder / "sidecar.json"
    file.write_text(json.dumps(_configuration(port, admin, kept, folder, api)))
    try:
        await provider.start(node, project, url, folder / "provider.log", **options)
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        with serving(api), running(command, port, log, ROOT):
            yield Site(url, provider, api, Running(port, admin), log, events, hold)
    finally:
        await provider.stop()


def _configuration(port: int, admin: int, kept: str, folder: Path, api: Api) -> Mapping[str, Any]:
    return {
        "listen": f"127.0.0.1:{port}",
        "drain": {"wait": "0s"},
        "admin": f"127.0.0.1:{admin}",
        "upstreams": {"main": {"url": f"http://127.0.0.1:{api.port}"}},
        "routes": [
            {"path": "/api", "kind": "api", "upstream": "main"},
            {"path": "/private", "kind": "page", "upstream": "main", "session": "required"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        "secret": SECRET,
        "store": {"url": "memory:" if kept == "cookie" else f"sqlite://{folder}/store.db"},
        "oidc": {
            "issuer": api.provider.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "scopes": ["openid", "profile", "email", "offline_access"],
            "keep": kept,
        },
    }
