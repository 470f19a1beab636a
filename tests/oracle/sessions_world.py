"""The running product for histories of sessions: two replicas on one store, and what they serve.

One upstream is the frontend, the API and the token endpoint; requests say in a field of their own
what it is to do with them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Final, TypeAlias

import uvloop

from sidecar.app import Sidecar
from sidecar.core.config import Listen, load
from sidecar.core.config.listen_section import listeners_at
from tests.conftest import Answer, Client, Clients, Embedded, Received, Upstream, Wire
from tests.net.store.conftest import Server
from tests.ports import free_port

PATIENCE: Final = 5.0
SECRET: Final = "a secret of the application, 32 bytes or more"
REPLICAS: Final = 2
BEGINNING: Final = 0.03  # seconds after which a replica has asked its store the first things
_DO: Final = "X-Do"

Do: TypeAlias = Mapping[str, Any]
"""What the upstream is to do: `set` Set-Cookie values, wait for `hold`, answer `status`, …"""


@dataclass
class Arrival:
    """A request as an upstream got it, and what was known when it did."""

    request: Received
    known: Any

    @property
    def token(self) -> str | None:
        """The bearer token."""
        value = self.request.get("Authorization")
        return None if value is None else value.removeprefix("Bearer ")

    @property
    def cookie(self) -> str:
        """The Cookie field value, as Node.js gives it to a library."""
        return "; ".join(self.request.all("Cookie"))


@dataclass(eq=False)
class Asking:
    """A request under way: what arrived of it, and what lets its answer go."""

    number: str
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: list[Arrival] = field(default_factory=list)
    is_taken: bool = False  # whatever it was to be, the late answer is 200


Acts: TypeAlias = Callable[[Arrival, Do], tuple[str, Sequence[str]]]
"""What the upstream answers: its status, and the Set-Cookie values."""


class Site(Upstream):
    """The upstream. `acts` says what it answers; `exchange` what its token endpoint does."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.asked: dict[str, Asking] = {}
        self.acts: Acts = lambda arrival, do: ("200 OK", do.get("set", ()))
        self.exchange: Callable[[str], Mapping[str, object] | None] = lambda token: None
        self.known: Callable[[], Any] = lambda: None
        self.serve = self._site

    async def _site(self, wire: Wire) -> None:
        while not wire.writer.is_closing():
            request = await self.receive(wire)
            wire.send(await self._answer(request))
            await wire.writer.drain()

    async def _answer(self, request: Received) -> bytes:
        if request.target == "/token":
            tokens = self.exchange(json.loads(request.body)["t"])
            status = "401 Unauthorized" if tokens is None else "200 OK"
            return self.reply(json.dumps(tokens or {}).encode(), status=status)
        do: Do = json.loads(request.get(_DO) or "{}")
        asking = self.asked.get(do.get("number", ""))
        arrival = Arrival(request, self.known())
        status, cookies = self.acts(arrival, do)
        if asking is not None:
            asking.arrivals.append(arrival)
            asking.arrived.set()
            if do.get("hold") and len(asking.arrivals) == 1:
                await asking.released.wait()
                status = "200 OK" if asking.is_taken else do.get("status", status)
        kind = "text/html" if do.get("page") else "application/json"
        return self.reply(
            b"{}", *(f"Set-Cookie: {one}" for one in cookies), status=status, type=kind
        )


class World:
    """Replicas and their upstream. Belongs to one event loop."""

    def __init__(self, site: Site, config: Mapping[str, Any]) -> None:
        self.site = site
        self._config = json.dumps(config)
        self.replicas: list[Embedded] = []
        self._clients = Clients()
        self._wires: dict[tuple[int, object], Client] = {}
        self._count = 0
        self._started = 0.0
        self._thresholds = gc.get_threshold()

    async def start(self) -> None:
        """Serves."""
        await self.site.start()
        for _ in range(REPLICAS):
            self.replicas.append(await self.serve())

    async def serve(self) -> Embedded:
        """One more replica."""
        port, admin = free_port(), free_port()
        while admin == port:
            admin = free_port()
        listeners = {
            "listen": listeners_at(Listen("127.0.0.1", port)),
            "admin": Listen("127.0.0.1", admin),
        }
        log = StringIO()
        with redirect_stderr(log):
            whole = load(self._config, source="oracle", environ={}, read_file=_no_file)
            sidecar = Sidecar(whole.model_copy(update=listeners))
        await sidecar.start()
        self._started = asyncio.get_running_loop().time()
        return Embedded(port, admin, sidecar, log)

    async def _end(self, replica: Embedded) -> None:
        """Stops a replica, but not while it still begins: that has a test of its own."""
        age = asyncio.get_running_loop().time() - self._started
        await asyncio.sleep(max(0.0, BEGINNING - age))
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await replica.sidecar.stop(0.1)

    async def stop(self) -> None:
        """Ends everything. Fails where a replica has logged a defect."""
        for asking in self.site.asked.values():
            asking.released.set()
        await self._clients.close()
        for one in self.replicas:
            await self._end(one)
        await self.site.stop()
        gc.set_threshold(*self._thresholds)
        defects = [line for one in self.replicas for line in one.log.getvalue().splitlines()]
        defects = [line for line in defects if '"event": "defect"' in line]
        assert not defects, defects

    async def restart(self, replica: int) -> None:
        """Another process takes a replica's place; it knows what the store knows."""
        for key in [key for key in self._wires if key[0] == replica]:
            await self._wires.pop(key).gone()
        await self._end(self.replicas[replica])
        assert '"event": "defect"' not in self.replicas[replica].log.getvalue()
        self.replicas[replica] = await self.serve()

    async def tombstones(self, replica: int) -> float:
        """How many sessions a replica knows to be dead."""
        return (await self.replicas[replica].metrics())["sidecar_tombstones"]

    def asking(self) -> Asking:
        """A request to be made."""
        self._count += 1
        asking = self.site.asked[str(self._count)] = Asking(str(self._count))
        return asking

    async def ask(
        self,
        asking: Asking,
        replica: int,
        who: object,
        method: str,
        target: str,
        *fields: str,
        cookie: str = "",
        do: Do | None = None,
    ) -> Answer:
        """Sends a request on the connection of `who`, and returns its answer."""
        wire = self._wires.get((replica, who))
        if wire is None or wire.writer.is_closing() or wire.reader.at_eof():
            wire = self._wires[replica, who] = await self._clients(self.replicas[replica])
        lines = [f"Cookie: {cookie}"] if cookie else []
        lines += [f"{_DO}: {json.dumps({**(do or {}), 'number': asking.number})}", *fields]
        body = b"{}" if method == "POST" else b""
        answer = await wire.ask(method, target, *lines, body=body)
        if answer.get("Connection") == "close":
            await self._wires.pop((replica, who)).gone()
        return answer


def _no_file(path: str) -> str:
    raise FileNotFoundError(path)


def config(site: Site, store: str, sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A frontend and an API behind one origin, with a login on either."""
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "secret": "a secret of the sidecars, 32 bytes or more",
        "upstreams": {"main": {"url": site.url}},
        "routes": [
            {"path": "/api", **api},
            {"path": "/api/optional", "session": "optional", **api},
            {"path": "/api/login", "session": "none", **api},
            {"path": "/api/auth", "kind": "page", "upstream": "main"},
            {"path": "/", "kind": "page", "upstream": "main"},
            {"path": "/open", "kind": "page", "upstream": "main", "session": "none"},
        ],
        "session": {"sources": list(sources)},
        "store": {"url": store},
        "refresh": {
            "type": "http",
            "leeway": "10s",
            "grace": "10m",
            "request": {"url": f"{site.url}/token", "json": {"t": "{refresh_token}"}},
        },
    }


@contextmanager
def a_store(directory: Path) -> Iterator[str]:
    """The URL of a store that replicas share: a Redis where there is one, else a file."""
    program = shutil.which("redis-server")
    if program is None:
        yield f"sqlite:///{directory}/store"
        return
    server = Server(program, directory)
    server.start()
    try:
        yield f"redis://{server.address}"
    finally:
        server.kill()


def runner() -> asyncio.Runner:
    """Runs coroutines on the loop that the product runs on."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
