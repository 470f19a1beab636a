"""Plays a history of replicas, and judges whatever comes of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import uvloop

from sidecar.core.cookies import with_set_cookies
from sidecar.core.formats import FORMATS
from tests.oracle.replicas_history import EVERYBODY, NEWEST, OLDEST, REPLICAS, History
from tests.oracle.replicas_knowledge import HEALED, SLACK, Fact, Process
from tests.oracle.replicas_provider import Family, Tokens
from tests.oracle.replicas_world import AUTHJS, LASTING, LIFETIME, ORIGIN, RAW, SECRET, World

PROMPT: Final = 5.0  # seconds that an answer may take, and longer by what the provider takes
PROVIDER_BACK: Final = 10.0  # seconds in which it is noticed that the provider answers again
KILLED: Final = 16.0  # seconds for which one who was killed may hold up the sessions it renewed
LONGEST: Final = 30.0  # seconds that any request may take
BEHIND: Final = 5.0  # seconds by which a stalled machine may bring a logout to others too late
UNAVAILABLE: Final = "with the store and the provider there"
SLOW: Final = "late, with the store and the provider there"
WAITED: Final = frozenset({"refresh_unavailable", "store_unavailable"})  # codes of waits that end
LARGEST: Final = 200  # MiB that a process may need
NAME: Final = "__Secure-authjs.session-token"
PATHS: Final = {"token": ("accessToken",), "refresh_token": ("refreshToken",)}
SOURCE: Final = FORMATS["authjs"](secrets=[SECRET], expires_at=("expiresAt",), **PATHS)
FETCH: Final = {
    "Host": urlsplit(ORIGIN).netloc,
    "Origin": ORIGIN,
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Accept": "application/json",
}
NAVIGATES: Final = {
    "Host": urlsplit(ORIGIN).netloc,
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Accept": "text/html",
}


Played = TypeVar("Played")


class Wrong(AssertionError):
    """What was promised did not hold."""


class Late(Wrong):
    """Nothing was wrong but the time: a clock passed a limit, as it does when a machine stalls."""


@dataclass(eq=False)
class User:
    """Somebody with a session, and all that its Cookie header has been."""

    name: str
    kind: str
    family: Family
    cookies: list[str]
    login: Fact | None = None
    """Of the own login: it lives no longer than the store keeps it."""
    exchanges: list[Fact] = field(default_factory=list)
    logouts: list[Fact] = field(default_factory=list)
    is_ending: bool = False
    """Whether a logout was asked for, however it was answered."""
    held_up_by: list[tuple[Process, float]] = field(default_factory=list)
    """Replicas in trouble that may have been renewing the session, and when."""

    @property
    def is_token_lost(self) -> bool:
        """Nobody can know which of its tokens is the newest."""
        return bool(self.family.excuses) or any(fact.is_lost for fact in self.exchanges)

    @property
    def is_gone(self) -> bool:
        """The store has forgotten it, and nothing else holds it: an excuse for anything."""
        return self.login is not None and self.login.stored_at is None

    @property
    def is_forgotten(self) -> bool:
        """Nobody knows any more what became of the session: an excuse for its end."""
        return self.is_gone or self.is_token_lost

    def __repr__(self) -> str:
        return f"{self.name} ({self.kind})"


@dataclass(frozen=True)
class Got:
    """An answer; status 0: none."""

    status: int
    document: Any = None
    sets: tuple[bytes, ...] = ()
    location: str = ""
    why: str = ""

    @property
    def code(self) -> str:
        """The envelope's `errorData.code`, or what else it was."""
        data = self.document.get("errorData") if isinstance(self.document, dict) else None
        return str(data.get("code")) if isinstance(data, dict) else self.why


@dataclass(eq=False)
class Asking:
    """A request under way."""

    user: User
    process: Process | None
    nonce: str
    cookie: str
    sent: float = field(default_factory=time.monotonic)
    was_ending: bool = False

    def __str__(self) -> str:
        replica = "?" if self.process is None else self.process.replica
        at = self.user.cookies.index(self.cookie)
        return f"{self.nonce} of {self.user}, cookie {at}, at replica {replica}"


class Player:
    """Plays one history in a world of its own."""

    def __init__(self, directory: Path, history: History, *, is_shared: bool) -> None:
        sources = [source for source in (AUTHJS, RAW) if source is AUTHJS or "raw" in history.kinds]
        self._history = history
        self.world = World(directory, sources, history.clocks, is_shared=is_shared)
        self.users: list[User] = []
        self._places: list[User] = []  # who is there now
        self.wrong: list[str] = []
        self.late: list[str] = []
        self.notes: list[str] = []
        self.checks = 0
        self.excused = 0
        self._asking: set[Asking] = set()
        self._count = 0
        self._logouts = 0
        self._strangers = 0
        self._began = 0.0

    async def play(self) -> None:
        """Raises `Wrong`."""
        world = self.world
        world.provider.on_call = self._on_call
        world.provider.on_exchange = self._on_exchange
        world.provider.on_reuse = self._on_reuse
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        limit = aiohttp.ClientTimeout(total=LONGEST)
        try:
            await world.start()
            self._began = time.monotonic()
            jar = aiohttp.DummyCookieJar()
            async with aiohttp.ClientSession(
                connector=connector, timeout=limit, cookie_jar=jar
            ) as http:
                self._http = http
                await self._steps()
        finally:
            await world.stop()

    async def _steps(self) -> None:
        for kind in self._history.kinds:
            self._places.append(await self._login(kind))
        for pause, name, *arguments in self._history.steps:
            await asyncio.sleep(pause)
            self._note(name, *arguments)
            await getattr(self, f"_do_{name}")(*arguments)
            self._judge()
        await self._end()

    def _note(self, *what: object) -> None:
        self.notes.append(f"{time.monotonic() - self._began:6.2f} {' '.join(map(str, what))}")

    def _fault(self, what: str, *, is_late: bool = False) -> None:
        self._note("LATE:" if is_late else "WRONG:", what)
        (self.late if is_late else self.wrong).append(what)

    def _judge(self) -> None:
        for failed in self.world.failed:
            raise failed
        if self.wrong:
            raise Wrong("\n".join(self.wrong))
        if self.late:
            raise Late("\n".join(self.late))

    # -- steps ------------------------------------------------------------------------------------

    async def _do_nothing(self) -> None:
        pass

    def _there(self, number: int) -> list[User]:
        """One of those who are there, or all."""
        if number == EVERYBODY:
            return list(self._places)
        return [self._places[number % len(self._places)]]

    async def _do_again(self) -> None:
        """Who has no session any more logs in."""
        for place, user in enumerate(self._places):
            if user.is_ending or user.is_forgotten:
                replica = self._serving()
                if replica is not None:
                    self._places[place] = await self._login(user.kind, replica)

    def _serving(self) -> int | None:
        """A replica that nothing is wrong with."""
        for process in self.world.processes:
            is_good = process is not None and not process.is_leaving
            if is_good and process is not None and process.was_calm(time.monotonic()):
                return process.replica
        return None

    async def _do_ask(
        self, user: int, replica: int, cookie: int, method: str, leaves: float
    ) -> None:
        for who in self._there(user):
            self.world.spawn(self._ask(who, replica, self._cookie(who, cookie), method, leaves))
        await asyncio.sleep(0)

    async def _do_burst(self, user: int, cookie: int, times: int) -> None:
        for number in range(times * len(REPLICAS)):
            await self._do_ask(user, number % len(REPLICAS), cookie, "GET", 0)

    async def _do_logout(self, user: int, replica: int, cookie: int) -> None:
        for who in self._there(user):
            self.world.spawn(self._logout(who, replica, self._cookie(who, cookie)))
        await asyncio.sleep(0)

    async def _do_reject(self, user: int) -> None:
        """None that was brought for a request under way: that would end the session rightly."""
        for who in self._there(user):
            now = time.monotonic()
            sent = [asking.sent for asking in self._asking if asking.user is who]
            self.world.provider.reject(who.family, now - min(sent, default=now))

    async def _do_provider(self, mode: str, delay: float) -> None:
        self.world.provider.turn(mode, delay)

    async def _do_link(self, replica: int, mode: str, delay: float) -> None:
        self.world.link(replica, mode, delay)
        self._hold_up()

    async def _do_snapshot(self, how: str) -> None:
        await self.world.snapshot(how)

    async def _do_redis(self, how: str) -> None:
        if how == "stop":
            await self.world.stop_redis()
            self._hold_up()
        else:
            await self.world.start_redis(how)
            self._hold_up()

    async def _do_messages(self) -> None:
        await self.world.many_messages()

    async def _do_crowd(self, replica: int, many: int) -> None:
        """So many strangers log out, one after the other on each of some connections."""
        one, process = self.world.sidecars[replica], self.world.processes[replica]
        if one is not None and process is not None and not process.is_leaving:
            self._strangers += many
            self.world.spawn(self._leave(one.port, iter(range(many))))

    async def _leave(self, port: int, strangers: Iterator[int]) -> None:
        async def leave() -> None:
            for number in strangers:
                headers = {**FETCH, "Cookie": f"access_token=stranger{number}"}
                url = f"http://127.0.0.1:{port}/api/logout"
                with suppress(aiohttp.ClientError, OSError):
                    async with self._http.post(url, headers=headers) as answer:
                        await answer.read()

        await asyncio.gather(*(leave() for _ in range(16)))

    async def _do_kill(self, replica: int) -> None:
        process = self.world.processes[replica]
        if process is not None:
            process.is_leaving = True
            self._hold_up(process)
            self.world.kill(replica)

    async def _do_drain(self, replica: int) -> None:
        self.world.drain(replica)

    async def _do_start(self, replica: int) -> None:
        process = self.world.processes[replica]
        if process is None or process.is_leaving:
            self.world.spawn(self.world.run(replica))

    async def _do_heal(self) -> None:
        for replica in REPLICAS:
            self.world.link(replica, "ok", 0)
            await self._do_start(replica)
        if not self.world.redis_is_up:
            await self.world.start_redis("kept")
        self.world.provider.turn("ok")

    # -- what users do ----------------------------------------------------------------------------

    def _cookie(self, user: User, number: int) -> str:
        return user.cookies[max(number, -len(user.cookies))]

    async def _login(self, kind: str, replica: int = 0) -> User:
        name = f"user{len(self.users)}"
        if kind == "own":
            user = await self._own_login(name, replica)
        else:
            family, tokens = self.world.provider.grant(name)
            cookie = _sealed(name, tokens) if kind == "authjs" else _raw(tokens)
            user = User(name, kind, family, [cookie])
        self.users.append(user)
        return user

    async def _own_login(self, name: str, replica: int) -> User:
        process = self.world.processes[replica]
        assert process is not None
        begun = await self._get(replica, "/auth/login?next=/", "", **NAVIGATES)
        asked = {key: one[0] for key, one in parse_qs(urlsplit(begun.location).query).items()}
        family, code = self.world.provider.code(name, asked["nonce"])
        cookie = with_set_cookies("", begun.sets, time.time())
        answer = {"code": code, "state": asked["state"]}
        done = await self._get(replica, f"/auth/callback?{urlencode(answer)}", cookie, **NAVIGATES)
        if done.status not in (302, 303) or not done.sets:
            self._fault(f"login of {name}: {done.status} {done.code}")
            self._judge()
        cookie = with_set_cookies(cookie, done.sets, time.time())
        fact = self.world.knowledge.happened("login", process, is_told=False)
        fact.stored_at = time.monotonic()
        return User(name, "own", family, [cookie], login=fact)

    async def _ask(
        self, user: User, replica: int, cookie: str, method: str = "GET", leaves: float = 0
    ) -> None:
        self._count += 1
        process = self.world.processes[replica]
        asking = Asking(user, process, f"n{self._count}", cookie, was_ending=user.is_ending)
        if process is None:
            return
        self._asking.add(asking)
        if process.calm_since is None:
            user.held_up_by.append((process, 0.0))
        try:
            limit = leaves or LONGEST
            async with asyncio.timeout(limit):
                got = await self._fetch(method, replica, f"/api/x?n={asking.nonce}", cookie, FETCH)
        except TimeoutError:
            if not leaves:
                self._fault(f"{asking}: no answer in {LONGEST:g} s", is_late=True)
        else:
            self._take(asking, got)
        finally:
            self._asking.discard(asking)

    def _take(self, asking: Asking, got: Got) -> None:
        self.checks += 1
        seconds = time.monotonic() - asking.sent
        self._note(f"{asking}: {got.status} {got.code} after {seconds:.2f} s")
        wrong = self._wrong_with(asking, got, seconds)
        if wrong:
            what = f"{asking}: {got.status} {got.code} after {seconds:.2f} s: {wrong}"
            self._fault(what, is_late=is_late(wrong, got.code))
        user = asking.user
        if got.sets and not user.is_ending:
            cookie = with_set_cookies(asking.cookie, got.sets, time.time())
            if cookie and cookie not in user.cookies:
                user.cookies.append(cookie)

    async def _logout(self, user: User, replica: int, cookie: str) -> None:
        process = self.world.processes[replica]
        if process is None:
            return
        user.is_ending = True
        got = await self._fetch("POST", replica, "/api/logout", cookie, FETCH)
        self._note(f"logout of {user} at {replica}: {got.status} {got.code}")
        if got.status == 200:
            self._logouts += 1
            fact = self.world.knowledge.happened("logout", process, is_told=True)
            user.logouts.append(fact)
        elif got.status not in (0, 303, 401, 503):
            self._fault(f"logout of {user} at {replica}: {got.status} {got.code}")

    async def _get(self, replica: int, target: str, cookie: str, **fields: str) -> Got:
        return await self._fetch("GET", replica, target, cookie, fields)

    async def _fetch(
        self, method: str, replica: int, target: str, cookie: str, fields: dict[str, str]
    ) -> Got:
        one = self.world.sidecars[replica]
        if one is None:
            return Got(0, why="ended")
        url = f"http://127.0.0.1:{one.port}{target}"
        body = b"hello" if method == "POST" else None
        headers = {**fields, "Cookie": cookie, "Content-Type": "text/plain"}
        try:
            async with self._http.request(
                method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            return Got(0, why=type(error).__name__)
        sets = tuple(one.encode("latin-1") for one in answer.headers.getall("Set-Cookie", ()))
        is_json = answer.content_type == "application/json"
        document = json.loads(text) if is_json else None
        return Got(answer.status, document, sets, answer.headers.get("Location", ""))

    # -- what is wrong ----------------------------------------------------------------------------

    def _wrong_with(self, asking: Asking, got: Got, seconds: float) -> str | None:
        user, process = asking.user, asking.process
        assert process is not None
        if got.status == 0:
            return None if process.is_leaving else "a broken connection"
        if got.status == 200:
            data = got.document["data"]
            if (data["user"], data["nonce"]) != (user.name, asking.nonce):
                return f"the answer of {data['user']}, {data['nonce']}"
        elif got.status not in (303, 401, 503):
            return "no such status was promised"
        if user.is_ending or user.is_gone:
            return None
        wrong, is_excused = None, self._is_held_up(asking)
        if got.status in (303, 401):
            wrong = "the session of somebody who has not logged out"
            is_excused = user.is_forgotten
        elif got.status == 503:
            wrong = UNAVAILABLE
        elif seconds > PROMPT + self.world.provider.longest_delay:
            wrong = SLOW
        self.excused += wrong is not None and is_excused
        return None if is_excused else wrong

    def _is_held_up(self, asking: Asking) -> bool:
        """Whether there was trouble that excuses no answer, or a late one."""
        process, since = asking.process, asking.sent
        assert process is not None
        provider = self.world.provider.calm_since
        if process.is_leaving or not process.was_calm(since):
            return True
        if provider is None or provider + PROVIDER_BACK > since:
            return True
        return any(
            until > since or (one.is_alive and not one.was_calm(since))
            for one, until in asking.user.held_up_by
        )

    def _hold_up(self, killed: Process | None = None) -> None:
        """Replicas are in trouble: they may be renewing the sessions that they were asked for."""
        now = time.monotonic()
        busy = [(asking.user, asking.process) for asking in self._asking]
        for call in self.world.provider.under_way:
            who = self.world.processes[call.replica]
            busy += [(user, who) for user in self.users if user.family is call.family]
        for user, process in busy:
            if process is not None and process is killed:
                user.held_up_by.append((process, now + KILLED))
            elif process is not None and not process.was_calm(now):
                user.held_up_by.append((process, 0.0))

    def _on_exchange(self, family: Family, replica: int) -> None:
        process = self.world.processes[replica]
        self._note(f"exchange of {family.user} at {replica}")
        for user in self.users:
            if user.family is family and process is not None:
                user.exchanges.append(
                    self.world.knowledge.happened("exchange", process, is_told=False)
                )

    def _on_reuse(self, family: Family, replica: int) -> None:
        (user,) = (one for one in self.users if one.family is family)
        if user.is_token_lost:
            self._note(f"reuse of {user} at {replica}, excused")
            family.excuses.append("a spent token came again, since nobody knew better")
        else:
            self._fault(f"replica {replica} sends a spent refresh token of {user}")

    def _on_call(self, family: Family, replica: int) -> None:
        self.checks += 1
        now, process = time.monotonic(), self.world.processes[replica]
        for user in self.users:
            if user.family is not family or process is None or user.is_forgotten:
                continue
            for fact in user.logouts:
                if fact.must_be_known(process, now) and self._is_one(user, fact):
                    late = now - fact.at
                    self._fault(
                        f"replica {replica} sends a token of {user}, who logged out at replica"
                        f" {fact.origin.replica} {late:.2f} s before",
                        is_late=late < BEHIND,
                    )

    def _is_one(self, user: User, logout: Fact) -> bool:
        """Whether all knew then which tokens were those of the one session."""
        return all(
            one.stored_at is not None or one.at > logout.at or one.origin is logout.origin
            for one in user.exchanges
        )

    # -- the end ----------------------------------------------------------------------------------

    async def _end(self) -> None:
        """All is well again, and so must be what becomes of everybody."""
        self._note("the end")
        await self._do_heal()
        await self._settled()
        await asyncio.sleep(HEALED + 2 * SLACK)
        for pause in (0.0, LIFETIME):  # so that tokens are renewed once more
            await asyncio.sleep(pause)
            await asyncio.gather(
                *(
                    self._ask(user, replica, self._cookie(user, cookie))
                    for user in self._places
                    for replica in REPLICAS
                    for cookie in (NEWEST, OLDEST)
                )
            )
            self._judge()
        self._check_bounds()
        self._judge()

    async def _settled(self) -> None:
        """Waits until what was begun is over, and all replicas serve."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            await asyncio.sleep(0.05)
            is_up = all(one is not None and not one.is_leaving for one in self.world.processes)
            if is_up and not self._asking:
                return
        self._fault("what was begun is never over", is_late=True)

    def _check_bounds(self) -> None:
        users, exchanges = len(self.users), self.world.provider.exchanges
        keys, lasting = self.world.lasting_keys()
        most = 20 + 16 * (users + self._logouts) + 6 * exchanges + 4 * self._strangers
        self._note(f"{keys} keys of {users} users, {exchanges} exchanges: {lasting} lasting")
        if keys > most:
            self._fault(f"{keys} keys, where {most} are enough")
        ended = sum(user.is_ending or user.is_forgotten for user in self.users)
        if "raw" not in self._history.kinds and lasting > 4 + 4 * users + 12 * ended:
            self._fault(f"{lasting} keys of {users} users, {ended} ended, outlast a day")
        largest = self.world.resident() >> 20
        if largest > LARGEST:
            self._fault(f"a process needs {largest} MiB")


def is_late(why: str, code: str) -> bool:
    """Whether an answer is wrong by its time alone.

    It is the user's own data, or a wait for somebody else that came to its end.
    """
    return why == SLOW or (why == UNAVAILABLE and code in WAITED)


def _sealed(user: str, tokens: Tokens) -> str:
    now = int(time.time())
    claims = {"sub": user, "name": user, "iat": now, "exp": now + LASTING}
    claims |= {"accessToken": tokens.access, "refreshToken": tokens.refresh}
    claims["expiresAt"] = int(tokens.expires_at)
    seal: Callable[[dict[str, Any], str], str] = SOURCE.opener.seal  # type: ignore[attr-defined]
    return f"{NAME}={seal(claims, NAME)}"


def _raw(tokens: Tokens) -> str:
    return f"access_token={tokens.access}; refresh_token={tokens.refresh}"


def play(directory: Path, history: History, *, is_shared: bool = True) -> Player:
    """Plays one history on the loop that the product runs on. Raises `Wrong`.

    `is_shared`: whether the replicas share a store; without one they must be found wrong.
    """
    return again_if_late(directory, lambda place: _play(place, history, is_shared=is_shared))


def again_if_late(directory: Path, played: Callable[[Path], Played]) -> Played:
    """Plays it once more where it was nothing but late. Raises `Wrong`: late twice is wrong."""
    try:
        return played(directory)
    except Late:
        again = directory / "again"
        again.mkdir()
        return played(again)


def _play(directory: Path, history: History, *, is_shared: bool) -> Player:
    player = Player(directory, history, is_shared=is_shared)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(player.play())
        except AssertionError as wrong:
            kind = Late if isinstance(wrong, Late) else Wrong
            notes = "\n".join(player.notes)
            raise kind(f"{wrong}\n\n{notes}\n\n{history}") from None
    return player
