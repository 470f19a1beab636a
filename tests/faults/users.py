"""Users, each with a session of its own, who know what every answer must say."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.core.cookies import with_set_cookies
from tests.faults.upstream import LINES
from tests.faults.wire import Broken, Got, Unanswered, Wire, connect, handshake, request

if TYPE_CHECKING:
    from tests.faults.ledger import Ledger
    from tests.faults.provider import Family, TroubledProvider

PATIENCE: Final = 20.0  # seconds after which a request counts as hanging
PAUSE: Final = 0.05  # seconds between two requests of a user, on average
_BACK_SECONDS: Final = 0.1
_GOING_AWAY: Final = 1001  # RFC 6455 7.4.1


@dataclass
class Person:
    """Somebody with a session."""

    name: str
    cookie: str
    family: Family


@dataclass
class Crowd:
    """What all users share."""

    provider: TroubledProvider
    ledger: Ledger
    ports: Callable[[], list[int]]
    """Of the replicas, the one to be preferred first."""
    enter: Callable[[str], Awaitable[Person]]
    """Logs somebody in."""
    random: random.Random
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is set, people ask."""
    busy: int = 0
    open_streams: int = 0
    wanted_streams: int = 0

    def is_of(self, token: str, person: Person) -> bool:
        """Whether a token is that user's."""
        family = self.provider.owner(token)
        return family is not None and family.user == person.name


class Visitor:
    """Asks again and again, on a connection that is kept."""

    def __init__(self, crowd: Crowd, person: Person) -> None:
        self.crowd = crowd
        self.person = person
        self._wire: Wire | None = None
        self._count = 0

    async def visit(self) -> None:
        """Goes on until it is cancelled."""
        try:
            while True:
                await self.crowd.go.wait()
                self.crowd.busy += 1
                try:
                    await self._once()
                finally:
                    self.crowd.busy -= 1
                await asyncio.sleep(self.crowd.random.uniform(0, 2 * PAUSE))
        finally:
            self._drop()

    async def _once(self) -> None:
        ledger, person = self.crowd.ledger, self.person
        self._count += 1
        nonce, began = f"{person.name}-{self._count}", time.monotonic()
        ledger.now.requests += 1
        try:
            async with asyncio.timeout(PATIENCE):
                path, length, got = await self._ask(nonce)
        except TimeoutError:
            ledger.now.wrong.append(f"{nonce}: no answer in {PATIENCE:g} s")
            self._drop()
        except (Broken, OSError) as error:
            ledger.now.breaks[f"{type(error).__name__} {error}"[:60]] += 1
            ledger.now.note(f"{nonce}: {type(error).__name__} {error}")
            self._drop()
            await asyncio.sleep(_BACK_SECONDS)
        except ValueError as error:
            ledger.now.wrong.append(f"{nonce}: {error}")
            self._drop()
        else:
            ledger.now.slowest = max(ledger.now.slowest, time.monotonic() - began)
            await self._judge(nonce, path, length, got, began)

    async def _ask(self, nonce: str) -> tuple[str, int, Got]:
        """The path, the length of the body and the answer."""
        dice = self.crowd.random.random()
        path = "/pieces" if dice < 0.1 else "/big" if dice < 0.15 else "/x"
        body = b"b" * self.crowd.random.randrange(1, 100_000) if 0.15 <= dice < 0.3 else b""
        method = "POST" if body else "GET"
        data = request(method, f"/api{path}?nonce={nonce}", self.person.cookie, body=body)
        is_used = self._wire is not None
        try:
            got = await (await self._connected()).ask(data)
        except Unanswered:
            self._drop()
            if not is_used:
                raise
            self.crowd.ledger.now.repeated += 1
            got = await (await self._connected()).ask(data)
        if got.fields.get("connection", "").lower() == "close":
            self._drop()
        return path, len(body), got

    async def _connected(self) -> Wire:
        if self._wire is None:
            self._wire = await reach(self.crowd)
        return self._wire

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.leave()
            self._wire = None

    async def _judge(self, nonce: str, path: str, length: int, got: Got, began: float) -> None:
        ledger, person = self.crowd.ledger, self.person
        if got.cookies:
            person.cookie = with_set_cookies(person.cookie, got.cookies, time.time())
        if got.status == 200:
            wrong = self._wrong(nonce, path, length, got)
            if wrong is None:
                ledger.served(person.name, began)
            else:
                ledger.now.wrong.append(f"{nonce} {path}: {wrong}")
        else:
            await refused(self.crowd, person, nonce, got)

    def _wrong(self, nonce: str, path: str, length: int, got: Got) -> str | None:
        """What is wrong with a 200."""
        if got.fields.get("content-type") == "text/plain":
            line, _, _ = got.body.partition(b"\n")
            said, _, token = line.decode("latin-1").partition(" ")
            if got.body != (line + b"\n") * LINES:
                return f"another text, {len(got.body)} bytes"
            found = {"nonce": said, "token": token, "body": length}
        else:
            document = _document(got.body)
            if not isinstance(document, dict) or document.get("isError") is not False:
                return f"no envelope of a success: {got.body[:200]!r}"
            found = document["data"]
        return wrong_with(self.crowd, self.person, nonce, found, length)


def wrong_with(crowd: Crowd, person: Person, nonce: str, found: Any, length: int = 0) -> str | None:
    """What is wrong with what an answer says."""
    if not isinstance(found, dict) or found.get("nonce") != nonce:
        return f"the answer of another request: {str(found)[:200]}"
    if found.get("body") != length:
        return f"a body of {found.get('body')} bytes arrived in place of {length}"
    if not crowd.is_of(str(found.get("token")), person):
        return f"the token of another user: {str(found.get('token'))[:200]}"
    return None


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


async def reach(crowd: Crowd) -> Wire:
    """A connection to the first replica that takes one. Raises `OSError`."""
    ports = crowd.ports()
    for port in ports[:-1]:
        try:
            return await connect(port)
        except OSError:
            continue
    return await connect(ports[-1])


async def refused(crowd: Crowd, person: Person, nonce: str, got: Got) -> None:
    """Notes an error. A session that has ended is begun anew."""
    document = _document(got.body)
    data = document.get("errorData") if isinstance(document, dict) else None
    code = data.get("code") if isinstance(data, dict) else None
    tally = crowd.ledger.now
    if got.status in (303, 401):
        if person.family.excuses:
            tally.again += 1
        else:
            tally.lost.append(
                f"{nonce}: {got.status} {code}, {got.fields.get('location', '')[:30]}"
            )
        try:
            fresh = await crowd.enter(person.name)
        except (Broken, OSError, LookupError) as error:
            tally.note(f"login of {person.name}: {type(error).__name__} {error}")
            await asyncio.sleep(_BACK_SECONDS)
            return
        person.cookie, person.family = fresh.cookie, fresh.family
        return
    tally.codes[f"{got.status} {code}"] += 1
    tally.note(f"{nonce}: {got.status} {code}")
    if not isinstance(document, dict) or document.get("isError") is not True or not code:
        tally.wrong.append(f"{nonce}: {got.status} is no clean error: {got.body[:200]!r}")
    await asyncio.sleep(_BACK_SECONDS)


class Stream:
    """Keeps an event stream open, or a WebSocket."""

    def __init__(self, crowd: Crowd, person: Person, kind: str) -> None:
        self.crowd = crowd
        self.person = person
        self._run = self._listen if kind == "events" else self._chat
        self._target = f"/api/{kind}"
        self._fields = handshake() if kind == "socket" else ("Accept: text/event-stream",)
        self._wire: Wire | None = None
        self._is_left = False
        self._status = 101 if kind == "socket" else 200
        self._count = 0

    async def visit(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            await self.crowd.go.wait()
            self._count += 1
            nonce = f"{self.person.name}-{self._count}"
            self.crowd.ledger.now.requests += 1
            try:
                await self._once(nonce)
                self.crowd.ledger.now.told += 1
            except (Broken, OSError) as error:
                if self._is_left:
                    continue
                self.crowd.ledger.now.cut += 1
                self.crowd.ledger.now.note(f"{nonce}: {type(error).__name__} {error}")
            except ValueError as error:
                self.crowd.ledger.now.wrong.append(f"{nonce}: {error}")
            except _Refused:
                pass  # which has been noted
            await asyncio.sleep(_BACK_SECONDS)

    def leave(self) -> None:
        """Leaves it, and comes again."""
        if self._wire is not None:
            self._is_left = True
            self._wire.leave()

    async def _once(self, nonce: str) -> None:
        wire = self._wire = await reach(self.crowd)
        self._is_left = False
        try:
            target = f"{self._target}?nonce={nonce}"
            wire.send(request("GET", target, self.person.cookie, *self._fields))
            async with asyncio.timeout(PATIENCE):
                got = await wire.head()
            self._take(got)
            if got.status != self._status:
                body = await wire.body(got)
                whole = Got(got.status, got.fields, got.cookies, body)
                await self._answered(nonce, whole)
                raise _Refused
            self.crowd.ledger.now.right += 1
            self.crowd.open_streams += 1
            try:
                await self._run(wire, nonce)
            finally:
                self.crowd.open_streams -= 1
        except TimeoutError:
            raise ValueError(f"no answer in {PATIENCE:g} s") from None
        finally:
            wire.leave()

    async def _answered(self, nonce: str, got: Got) -> None:
        """No stream: an error, or what an upstream in trouble answers to a handshake instead.

        Raises `ValueError` if that is of another request or another user.
        """
        document = _document(got.body)
        if got.status != 200 or not isinstance(document, dict) or document.get("isError"):
            await refused(self.crowd, self.person, nonce, got)
            return
        wrong = wrong_with(self.crowd, self.person, nonce, document.get("data"))
        if wrong is not None:
            raise ValueError(wrong)
        self.crowd.ledger.now.right += 1

    def _take(self, got: Got) -> None:
        if got.cookies:
            self.person.cookie = with_set_cookies(self.person.cookie, got.cookies, time.time())

    async def _listen(self, wire: Wire, nonce: str) -> None:
        rest = b""
        async for chunk in wire.chunks():
            *events, rest = (rest + chunk).split(b"\n\n")
            for event in events:
                self._check(nonce, event.removeprefix(b"data: "))

    async def _chat(self, wire: Wire, nonce: str) -> None:
        wire.say(1, nonce.encode())
        while True:
            opcode, payload = await wire.frame()
            if opcode == 8:
                code = int.from_bytes(payload[:2], "big")
                if code != _GOING_AWAY:
                    raise Broken(f"closed with {code}")
                return
            if opcode == 9:
                wire.say(10, payload)
                continue
            self._check(nonce, payload)
            await asyncio.sleep(4 * PAUSE)
            wire.say(1, nonce.encode())

    def _check(self, nonce: str, data: bytes) -> None:
        found = _document(data)
        wrong = wrong_with(self.crowd, self.person, nonce, found)
        if wrong is None and isinstance(found, dict) and found.get("said", nonce) != nonce:
            wrong = f"another's words: {data[:200]!r}"
        if wrong is not None:
            raise ValueError(wrong)


class _Refused(Exception):
    """The stream did not begin, which has been noted."""
