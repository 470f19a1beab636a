"""The load: connections that share a budget of requests under way, and sessions that come and go.

Everything happens in callbacks, since a task a request would cost more than the sidecar does.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, cast

from sidecar.core.cookies import with_set_cookies
from sidecar.core.formats import FORMATS
from tests.faults.wire import Broken, connected

SECRET: Final = "a secret of the soak, 32 bytes or more"
COOKIE: Final = "authjs.session-token"
UNDER_WAY: Final = 100  # requests, of all connections together: one process has enough to do
LASTING: Final = 4  # times as long as others, sessions of streams are used
BRAKED: Final = "brake engaged"  # what the refused are counted by whose session was spared
LOGOUTS: Final = 50  # of streams, at a time
SHORT: Final = 0.15  # of their time, sessions are used while what is bounded fills
RENEWED: Final = 3  # one session of so many is renewed
_BODY: Final = b"b" * 2000
_EXAMPLES: Final = 20
_CHAT_SECONDS: Final = 4.0
SOURCE: Final = FORMATS["authjs"](
    secrets=[SECRET],
    token=("accessToken",),
    refresh_token=("refreshToken",),
    expires_at=("expiresAt",),
)


class End(Enum):
    """How a session ends."""

    FORGOTTEN = auto()
    LOGOUT = auto()
    REJECTED = auto()


@dataclass(slots=True)
class Session:
    """Somebody's session, which is asked with until a time (`time.monotonic`)."""

    name: str
    cookie: str
    until: float
    end: End
    count: int = 0


@dataclass
class Seen:
    """What came of it."""

    requests: int = 0
    right: int = 0
    sessions: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    renewed: int = 0
    events: int = 0
    streams_opened: int = 0
    streams_ended: int = 0
    """By the logout of their session, as they must."""
    refused: Counter[str] = field(default_factory=Counter)
    """Clean errors, by their code; by `BRAKED` the 401s of sessions that the brake spared."""
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long one request of a hundred took."""

    def blame(self, what: str) -> None:
        """Notes something that may not be."""
        self.errors["wrong"] += 1
        if len(self.wrong) < _EXAMPLES:
            self.wrong.append(what)

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[int(share * (len(ordered) - 1))] if ordered else 0.0


def request(method: str, target: str, cookie: str, *fields: str, body: bytes = b"") -> bytes:
    """A request of a script of the same origin."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Cookie: {cookie}"]
    lines += ["Sec-Fetch-Site: same-origin", *fields]
    lines += [f"Content-Length: {len(body)}"] if method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Wire(asyncio.Protocol):
    """One connection. Subclasses take what comes."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # of uvloop, in fact
        self.begin()

    def begin(self) -> None:
        """The connection is there."""

    def write(self, data: bytes) -> None:
        """Sends."""
        assert self.transport is not None
        self.transport.write(data)

    def leave(self) -> None:
        """Ends it."""
        if self.transport is not None:
            self.transport.abort()

    def head(self) -> tuple[int, bytes] | None:
        """Takes a head off the buffer, if it is here whole: its status and itself."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        return int(head[9:12]), head


Judge = Callable[[int, bytes], None]
"""Takes the status and the body of a response."""


class Asker(Wire):
    """Asks with one session after the other."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._session: Session | None = None
        self._judge: Judge | None = None
        self._head: tuple[int, bytes] | None = None
        self._length = 0
        self._nonce = b""
        self._began = 0.0

    def begin(self) -> None:
        """Waits for its turn."""
        self.load.idle.append(self)
        self.load.go_on()

    def ask(self) -> None:
        """It is its turn."""
        now = time.monotonic()
        session = self._session
        if session is None:
            session = self._session = self.load.session()
        elif now >= session.until:
            if session.end is not End.FORGOTTEN:
                self._end(session)
                return
            self.load.seen.ended["forgotten"] += 1
            session = self._session = self.load.session()
        session.count += 1
        self._nonce = f"{session.name}-{session.count}".encode()
        self._judge = self._judge_answer
        is_post = self.load.chance.random() < 0.1
        body, method = (_BODY, "POST") if is_post else (b"", "GET")
        self._send(method, f"/api/x?nonce={self._nonce.decode()}", session, body)

    def _send(self, method: str, target: str, session: Session, body: bytes = b"") -> None:
        self._began = time.monotonic()
        self.load.seen.requests += 1
        self.write(request(method, target, session.cookie, body=body))

    def _end(self, session: Session) -> None:
        if session.end is End.LOGOUT:
            self._judge = self._judge_logout
            self._send("POST", "/api/logout", session)
        else:
            self._judge = self._judge_rejected
            self._send("GET", "/api/reject", session)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self._head is None:
            self._head = self.head()
            if self._head is None:
                return
            fields = self._head[1].lower()
            at = fields.find(b"\r\ncontent-length:")
            self._length = int(fields[at + 17 :].partition(b"\r\n")[0]) if at >= 0 else 0
        if len(self.buffer) < self._length:
            return
        (status, head), self._head = self._head, None
        body, self.buffer = self.buffer[: self._length], self.buffer[self._length :]
        if self.buffer:
            self.load.seen.blame(f"bytes that nobody asked for: {self.buffer[:200]!r}")
        self._done(status, head, body)

    def _done(self, status: int, head: bytes, body: bytes) -> None:
        load, session, judge = self.load, self._session, self._judge
        assert session is not None
        assert judge is not None
        if load.seen.requests % 100 == 0:
            load.seen.seconds.append(time.monotonic() - self._began)
        if b"et-cookie:" in head or b"et-Cookie:" in head:
            lines = head.split(b"\r\n")
            values = [one[11:].strip() for one in lines if one[:11].lower() == b"set-cookie:"]
            session.cookie = with_set_cookies(session.cookie, values, time.time())
            load.seen.renewed += status == 200 and judge == self._judge_answer
        self._judge = None
        judge(status, body)
        load.over(self)

    def _judge_answer(self, status: int, body: bytes) -> None:
        assert self._session is not None
        wanted = b'{"nonce":"%b","token":"t.%b.' % (self._nonce, self._session.name.encode())
        if status == 503 and _code(body):
            self.load.seen.refused[_code(body)] += 1
        elif status != 200:
            self.load.seen.errors[f"{status} {_code(body)}"] += 1
        elif wanted not in body:
            self.load.seen.blame(f"{self._nonce!r} got {body[:300]!r}")
        else:
            self.load.seen.right += 1

    def _judge_logout(self, status: int, body: bytes) -> None:
        self._take(status, body, "logout", 200)
        self._replay()

    def _judge_rejected(self, status: int, body: bytes) -> None:
        if status == 401 and _code(body) == "token_rejected":
            self.load.seen.ended["rejected"] += 1
            self.load.seen.refused[BRAKED] += 1
        else:
            self._take(status, body, "rejected", 303)
        self._replay()

    def _replay(self) -> None:
        """The next session begins. What the old one's cookie said is void."""
        self._session = None

    def _take(self, status: int, body: bytes, what: str, wanted: int) -> None:
        self.load.seen.ended[what] += 1
        if status == wanted:
            self.load.seen.right += 1
        elif status == 503 and _code(body):
            self.load.seen.refused[_code(body)] += 1
        else:
            self.load.seen.errors[f"{status} at {what}"] += 1

    def connection_lost(self, error: Exception | None) -> None:
        if self.load.is_over:
            return
        if self._judge is not None:
            self.load.seen.errors[f"closed before the response ({error})"] += 1
            self.load.under_way -= 1
        self.load.replace(self)


class Stream(Wire):
    """An event stream or a WebSocket, until its session logs out."""

    def __init__(self, load: Load, kind: str) -> None:
        super().__init__(load)
        self.kind = kind
        self.session = Session("", "", 0.0, End.LOGOUT)
        self.is_open = False
        self.is_to_end = False
        self._nonce = b""

    def begin(self) -> None:
        """Asks for it, with a session of its own."""
        self.session = self.load.session(LASTING)
        self._nonce = f"{self.session.name}-0".encode()
        target = f"/api/{self.kind}?nonce={self._nonce.decode()}"
        if self.kind == "socket":
            key = base64.b64encode(os.urandom(16)).decode()
            fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            self.write(
                request("GET", target, self.session.cookie, *fields, f"Sec-WebSocket-Key: {key}")
            )
        else:
            self.write(request("GET", target, self.session.cookie, "Accept: text/event-stream"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            head = self.head()
            if head is None:
                return
            if head[0] not in (101, 200):
                self.load.seen.errors[f"{head[0]} for a stream"] += 1
                self.leave()
                return
            self.is_open = True
            self.load.seen.streams_opened += 1
            if self.kind == "socket":
                self._chat()
        if self.kind == "socket":
            self._frames()
        else:
            self._events()

    def _chat(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.write(b"\x81\x82\x00\x00\x00\x00hi")
            asyncio.get_running_loop().call_later(_CHAT_SECONDS, self._chat)

    def _events(self) -> None:
        *events, self.buffer = self.buffer.split(b"\n\n")
        for event in events:
            self._check(event)

    def _frames(self) -> None:
        while len(self.buffer) >= 2:
            size = start = 2
            if self.buffer[1] == 126:
                start, size = 4, 4 + int.from_bytes(self.buffer[2:4], "big")
            else:
                size += self.buffer[1]
            if len(self.buffer) < size:
                return
            opcode, payload = self.buffer[0] & 15, self.buffer[start:size]
            self.buffer = self.buffer[size:]
            if opcode == 9:
                self.write(bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
            elif opcode == 8:
                self.leave()
                return
            else:
                self._check(payload)

    def _check(self, text: bytes) -> None:
        wanted = b'"nonce":"%b","token":"t.%b.' % (self._nonce, self.session.name.encode())
        if wanted in text:
            self.load.seen.events += 1
        else:
            self.load.seen.blame(f"stream {self._nonce!r} got {text[:300]!r}")

    def connection_lost(self, error: Exception | None) -> None:
        if self.load.is_over:
            return
        if self.is_to_end:
            self.load.seen.streams_ended += 1
        elif self.is_open:
            self.load.seen.errors[f"a stream ended ({error})"] += 1
        self.load.streams.discard(self)
        self.load.stream(self.kind)


class Load:
    """All connections. `life` is how long a session is asked with, in seconds.

    While it `is_filling`, that is much shorter, so that what is bounded is full soon.
    """

    def __init__(self, port: int, life: float, seed: int, *, is_filling: bool = False) -> None:
        self.port = port
        self.life = life
        self.is_filling = is_filling
        self.chance = random.Random(seed)
        self.seen = Seen()
        self.idle: deque[Asker] = deque()
        self.askers: set[Asker] = set()
        self.streams: set[Stream] = set()
        self.under_way = 0
        self.is_over = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._gate = asyncio.Semaphore(100)

    def session(self, lasting: int = 1) -> Session:
        """Somebody who has just logged in; of some the token is about to end.

        `lasting` is how many times longer than others the session is used.
        """
        seen, now, usual = self.seen, time.time(), self.life * lasting
        if lasting == 1 and self.is_filling:
            usual *= SHORT
        seen.sessions += 1
        name = f"u{seen.sessions:07}"
        claims: dict[str, Any] = {"sub": name, "iat": int(now), "accessToken": f"t.{name}.0"}
        claims["exp"] = int(now + max(2.5 * usual, 30))
        if seen.sessions % RENEWED == 0:
            claims |= {"refreshToken": f"r.{name}.0", "expiresAt": int(now + usual / 2)}
        sealed = SOURCE.opener.seal(claims, COOKIE)  # type: ignore[attr-defined]
        life = usual * self.chance.uniform(0.5, 1.5)
        end = self.chance.choice((End.LOGOUT, End.LOGOUT, End.REJECTED, End.FORGOTTEN))
        return Session(name, f"theme=dark; {COOKIE}={sealed}", time.monotonic() + life, end)

    def connect(self, made: Callable[[], Wire]) -> None:
        """Opens a connection, a few at a time."""
        task = asyncio.ensure_future(self._connect(made))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, made: Callable[[], Wire]) -> None:
        async with self._gate:
            for _ in range(50):
                try:
                    loop = asyncio.get_running_loop()
                    await loop.create_connection(made, "127.0.0.1", self.port)
                except OSError as error:
                    self.seen.errors[f"connect: {type(error).__name__}"] += 1
                    await asyncio.sleep(0.2)
                else:
                    return

    def asker(self) -> None:
        """One more connection that asks."""

        def made() -> Wire:
            one = Asker(self)
            self.askers.add(one)
            return one

        self.connect(made)

    def stream(self, kind: str) -> None:
        """One more stream."""

        def made() -> Wire:
            one = Stream(self, kind)
            self.streams.add(one)
            return one

        self.connect(made)

    def replace(self, asker: Asker) -> None:
        """A connection was closed."""
        self.askers.discard(asker)
        if asker in self.idle:
            self.idle.remove(asker)
        self.asker()
        self.go_on()

    def over(self, asker: Asker) -> None:
        """A response is here."""
        self.under_way -= 1
        self.idle.append(asker)
        self.go_on()

    def go_on(self) -> None:
        """Has those ask whose turn it is."""
        while self.idle and self.under_way < UNDER_WAY and not self.is_over:
            self.under_way += 1
            self.idle.popleft().ask()

    async def log_out_streams(self) -> None:
        """Ends the sessions of streams when their time is over; goes on until it is cancelled."""
        while True:
            now = time.monotonic()
            due = [one for one in self.streams if one.is_open and now >= one.session.until]
            due = [one for one in due if not one.is_to_end]
            due.sort(key=lambda one: one.session.until)  # none waits until its session expires
            await asyncio.gather(*(self._log_out(one) for one in due[:LOGOUTS]))
            await asyncio.sleep(0.2)

    async def _log_out(self, stream: Stream) -> None:
        """Elsewhere, and so on another connection."""
        stream.is_to_end = True
        try:
            async with connected(self.port) as wire:
                got = await wire.ask(request("POST", "/api/logout", stream.session.cookie))
        except (Broken, OSError) as error:
            self.seen.errors[f"logout: {type(error).__name__}"] += 1
            stream.is_to_end = False
        else:
            if got.status != 200:
                self.seen.errors[f"{got.status} at a logout"] += 1

    def leave(self) -> None:
        """Ends all connections."""
        self.is_over = True
        for task in self._tasks:
            task.cancel()
        for one in (*self.askers, *self.streams):
            one.leave()


def _code(body: bytes) -> str:
    _, found, rest = body.partition(b'"code":"')
    return rest.partition(b'"')[0].decode("latin-1") if found else ""
