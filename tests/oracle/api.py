"""The recording upstream: answers with what it saw, and remembers it by nonce."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.oracle.users import token_in

if TYPE_CHECKING:
    from tests.conftest import Head, Wire

ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
CLOSE_FRAME: Final = b"\x88\x02\x03\xe8"
LINES: Final = 6000  # of a large answer
_ENVELOPE_FREE: Final = {"Content-Type": "text/plain"}


@dataclass(frozen=True, slots=True)
class Sight:
    """A request as the upstream saw it: `token` is that of its Cookie header.

    `length` and `sha` are the body's; an early answer knows none.
    """

    nonce: str
    method: str
    authorization: str
    token: str
    length: int
    sha: str


class Api:
    """Serves the connections of an `Upstream` (`tests.conftest`), as its `serve`.

    `strangers` are requests that contradict themselves: they were mixed of several. Whoever
    watches a nonce is called when its request is here; what is held is answered when let go.
    """

    def __init__(self) -> None:
        self.sights: dict[str, list[Sight]] = {}
        self.strangers: list[str] = []
        self.watchers: dict[str, Callable[[], None]] = {}
        self.held: dict[str, asyncio.Event] = {}

    def forget(self, nonces: list[str]) -> None:
        """Lets go of requests that have been judged, so that long runs stay small."""
        for nonce in nonces:
            self.sights.pop(nonce, None)
            self.watchers.pop(nonce, None)
            self.held.pop(nonce, None)

    async def serve(self, wire: Wire) -> None:
        """Answers the requests of a connection until it ends."""
        while not wire.writer.is_closing():
            line, fields, _ = await wire.read_head()
            head = _head(line, fields)
            method, target, _ = head.line.split(" ")
            if target == "/token":
                await _renew(wire, head)
                continue
            behaviour, nonce = [*target.split("/"), "", "", ""][2:4]
            if behaviour == "early":
                sight = self._note(_Seen(method, nonce, head), None)
                await self._wait(nonce)
                await _answer(wire, "echo", sight)
                if self._blames(nonce, head, await wire.read_body(head)):
                    self.strangers.append(f"{target}: body of another one")
                continue
            body = await wire.read_body(head)
            if behaviour == "socket":
                await self._switch(wire, nonce, head)
                return
            sight = self._note(_Seen(method, nonce, head), body)
            await self._wait(nonce)
            await _answer(wire, behaviour, sight)

    async def _switch(self, wire: Wire, nonce: str, head: Head) -> None:
        """Accepts a WebSocket, takes one frame, says what it was, and ends."""
        await self._wait(nonce)
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        )
        start = await wire.reader.readexactly(2)
        text = await wire.reader.readexactly(4 + (start[1] & 0x7F))
        said = said_by(self._note(_Seen("GET", nonce, head), text[4:]))
        wire.send(bytes((0x81, 126)) + len(said).to_bytes(2) + said + CLOSE_FRAME)
        await wire.is_left()

    async def _wait(self, nonce: str) -> None:
        event = self.held.get(nonce)
        if event is not None:
            await event.wait()

    def _note(self, seen: _Seen, body: bytes | None) -> Sight:
        nonce, head = seen.nonce, seen.head
        sight = Sight(
            nonce,
            seen.method,
            head.get("Authorization") or "none",
            token_in(head.get("Cookie") or "") or "none",
            -1 if body is None else len(body),
            "" if body is None else hashlib.sha256(body).hexdigest(),
        )
        self.sights.setdefault(nonce, []).append(sight)
        if self._blames(nonce, head, body):
            self.strangers.append(f"{head.line}, X-Nonce {head.get('X-Nonce')}, {sight}")
        watcher = self.watchers.get(nonce)
        if watcher is None:
            self.strangers.append(f"nobody has sent {head.line}, {sight}")
        else:
            watcher()
        return sight

    @staticmethod
    def _blames(nonce: str, head: Head, body: bytes | None) -> bool:
        """Whether target, header and body are not of one request, or the user is another's."""
        token = (head.get("Authorization") or "").removeprefix("Bearer ")
        name = head.get("X-Whose") or ""
        return (
            (head.get("X-Nonce") or nonce) != nonce
            or (bool(body) and not (body or b"").startswith(nonce.encode()))
            or (bool(token) and token != f"token-of-{name}")
            or name[:8] != nonce[:8]
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    method: str
    nonce: str
    head: Head


def _head(line: bytes, fields: tuple[tuple[str, str], ...]) -> Head:
    from tests.conftest import Head

    return Head(line.decode("latin-1"), fields)


def said_by(sight: Sight) -> bytes:
    """The JSON body that answers a request."""
    told = {
        "nonce": sight.nonce,
        "method": sight.method,
        "authorization": sight.authorization,
        "token": sight.token,
        "length": sight.length,
        "sha": sight.sha,
    }
    return json.dumps(told).encode()


async def _renew(wire: Wire, head: Head) -> None:
    """A token endpoint: a refresh token `r-TOKEN` leads to `TOKEN`, and stays good."""
    given = json.loads(await wire.read_body(head))["t"]
    answer = {"access_token": given.removeprefix("r-"), "refresh_token": given}
    body = json.dumps(answer | {"expires_in": 3600}).encode()
    wire.send(_lines("200 OK", "application/json", [f"Content-Length: {len(body)}"]) + body)


async def _answer(wire: Wire, behaviour: str, sight: Sight) -> None:
    own = [
        f"X-Nonce: {sight.nonce}",
        f"X-Authorization: {sight.authorization}",
        f"X-Token: {sight.token}",
    ]
    if behaviour == "slow":
        await asyncio.sleep(0.003)
    if behaviour in ("pieces", "large"):
        await _answer_in_pieces(wire, behaviour, sight, own)
        return
    status = "401 Unauthorized" if behaviour == "deny" else "200 OK"
    body = said_by(sight)
    head = _lines(status, "application/json", [*own, f"Content-Length: {len(body)}"])
    wire.send(head if sight.method == "HEAD" else head + body)


async def _answer_in_pieces(wire: Wire, behaviour: str, sight: Sight, own: list[str]) -> None:
    kind = "application/json" if behaviour == "pieces" else "text/plain"
    wire.send(_lines("200 OK", kind, [*own, "Transfer-Encoding: chunked"]))
    async for piece in _pieces(behaviour, sight):
        wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await wire.writer.drain()
    wire.send(b"0\r\n\r\n")


async def _pieces(behaviour: str, sight: Sight) -> AsyncIterator[bytes]:
    whole = said_by(sight) if behaviour == "pieces" else f"{sight.nonce}\n".encode() * LINES
    step = max(20, len(whole) // 4)
    for at in range(0, len(whole), step):
        await asyncio.sleep(0)
        yield whole[at : at + step]


def _lines(status: str, kind: str, fields: list[str]) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *fields, "", ""]
    return "\r\n".join(lines).encode()
