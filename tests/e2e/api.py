"""The API of the end-to-end tests: it issues tokens, revokes them, and remembers who called."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import WSMsgType, web

PASSWORD: Final = "correct horse"
USER: Final = web.RequestKey("user", str)
PERMISSIONS: Final = {"big": 3_300, "huge": 12_200}  # bytes of a claim, by the beginning of a name


@dataclass(frozen=True)
class Call:
    """A call as the API got it, and what it answered."""

    method: str
    path: str
    user: str  # empty: nobody
    bearer: bool
    cookie: str
    status: int


@dataclass
class Gate:
    """A place where a call waits: `arrived` tells that one does, `open` lets it go on."""

    arrived: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)
    reads: bool = False  # whether the body is read before the token is looked at

    async def passed(self) -> None:
        self.arrived.set()
        while not self.open.is_set():
            await asyncio.sleep(0.01)


class Api:
    """The server and its switches. Users are told apart by name, and tokens belong to users."""

    def __init__(self, port: int) -> None:
        self.port: Final = port
        self.calls: Final[list[Call]] = []
        self.items: Final[list[tuple[str, str]]] = []
        self.tokens: Final[dict[str, str]] = {}  # token → user, also of revoked ones
        self.uploaded: Final[list[tuple[str, int]]] = []
        self._good: Final[set[str]] = set()
        self._gates: Final[dict[tuple[str, str], Gate]] = {}
        self._count: Final = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def revoke(self, user: str) -> None:
        """From now on, every token that the user has gets 401."""
        self._good.difference_update(self.tokens_of(user))

    def restore(self, user: str) -> None:
        """Every token that the user has is good again."""
        self._good.update(self.tokens_of(user))

    def uploads_of(self, user: str) -> list[int]:
        """The sizes of what the user has uploaded."""
        return [size for owner, size in self.uploaded if owner == user]

    def tokens_of(self, user: str) -> list[str]:
        """The tokens issued to a user, in order."""
        return [token for token, owner in self.tokens.items() if owner == user]

    def calls_of(self, user: str) -> list[Call]:
        """What came with one of the user's tokens, in order."""
        return [call for call in self.calls if call.user == user]

    @contextmanager
    def gate(self, user: str, path: str, *, reads: bool = False) -> Iterator[Gate]:
        """Calls of this user to this path wait at the gate until it is opened or the block ends."""
        gate = self._gates[user, path] = Gate(reads=reads)
        try:
            yield gate
        finally:
            gate.open.set()
            del self._gates[user, path]

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/elsewhere", self._elsewhere),
                web.post("/login", self._login),
                web.get("/me", self._me),
                web.get("/slow", self._me),
                web.get("/items", self._list),
                web.post("/items", self._add),
                web.post("/upload", self._upload),
                web.get("/events", self._events),
                web.get("/socket", self._socket),
            ]
        )
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], object]
    ) -> web.StreamResponse:
        """Lets good tokens in, after their gate; every call is remembered with its answer."""
        if request.path in ("/login", "/elsewhere"):
            return await handler(request)  # type: ignore[misc, no-any-return]  # aiohttp's own type
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        user = self.tokens.get(token, "")
        gate = self._gates.get((user, request.path))
        if gate is not None:
            await gate.passed()
            if gate.reads:
                await request.read()
        good = token in self._good
        call = Call(
            request.method,
            request.path,
            user,
            "Authorization" in request.headers,
            request.headers.get("Cookie", ""),
            200 if good else 401,
        )
        self.calls.append(call)
        if not good:
            return web.json_response({"message": "The token is not valid"}, status=401)
        request[USER] = user
        return await handler(request)  # type: ignore[misc, no-any-return]  # aiohttp's own type

    async def _elsewhere(self, request: web.Request) -> web.Response:
        """A page of another site, with a link to `to`."""
        link = f'<a href="{request.query["to"]}">Win a prize</a>'
        return web.Response(text=f"<!doctype html>{link}", content_type="text/html")

    async def _login(self, request: web.Request) -> web.Response:
        given = await request.json()
        if given.get("password") != PASSWORD:
            return web.json_response({"message": "Wrong name or password"}, status=401)
        name: str = given["name"]
        token = f"token-{next(self._count)}-{secrets.token_urlsafe(24)}"
        self.tokens[token] = name
        self._good.add(token)
        size = PERMISSIONS.get(name.partition("-")[0], 10)
        data = {"name": name, "accessToken": token, "permissions": "p" * size}
        answer = web.json_response({"data": data})
        answer.set_cookie("access_token", token, httponly=True, samesite="Lax")
        return answer

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response({"data": {"name": request[USER]}})

    async def _list(self, request: web.Request) -> web.Response:
        mine = [text for user, text in self.items if user == request[USER]]
        items = [{"id": at, "text": text} for at, text in enumerate(["First item", *mine])]
        return web.json_response({"data": items})

    async def _add(self, request: web.Request) -> web.Response:
        text = (await request.json())["text"]
        self.items.append((request[USER], text))
        return web.json_response({"data": {"id": len(self.items), "text": text}}, status=201)

    async def _upload(self, request: web.Request) -> web.Response:
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        self.uploaded.append((request[USER], size))
        return web.json_response({"data": {"size": size}})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for number in itertools.count(1):
            await answer.write(b"data: %d\n\n" % number)
            await asyncio.sleep(0.1)
        return answer

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(f"Hello {request[USER]}")
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    """Runs the API in a thread with a loop of its own, until the block ends."""
    ready, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        runner = web.AppRunner(api.application(), handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", api.port).start()
        ready.set()
        while not ended.is_set():
            await asyncio.sleep(0.02)
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="api")
    thread.start()
    try:
        assert ready.wait(10), "the API does not start"
        yield api
    finally:
        ended.set()
        thread.join()
