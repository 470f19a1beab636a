"""Histories of sessions: what users, applications and providers do, one step after another.

A step is a name and numbers; each number chooses among what there is at that moment, so that every
list of steps is a history, and a shorter one still is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from tests.conftest import Answer
from tests.oracle.sessions_model import (
    Fault,
    Model,
    Reading,
    Session,
    applied,
    as_json,
    families,
    header_of,
    is_made_of,
    is_session_name,
    set_lines,
    split,
)
from tests.oracle.sessions_spelling import SPELLING, Change, spell
from tests.oracle.sessions_world import PATIENCE, Arrival, Asking, Do, World

Spelling: TypeAlias = tuple[Sequence[Change], int]
Step: TypeAlias = tuple[str, int, int, int, Spelling]

BROWSERS: Final = 2
KINDS: Final = (
    *("sealed", "raw", "plain", "due", "page", "large", "forged", "secure"),
    *("due", "forged"),  # of which there must be one to be told about the other
)
DOCUMENT: Final = (
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
)
PREFETCH: Final = ("Sec-Purpose: prefetch", *DOCUMENT)
FETCH: Final = ("Sec-Fetch-Dest: empty", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin")
PAGES: Final = (DOCUMENT, PREFETCH, FETCH, (), ("RSC: 1", *FETCH))
HELD: Final = ("page", "reseal", "rotate", "api401", "login", "again", "api")
RESEALS: Final = ("plain", "rotate", "plain, anew", "rotate, anew")
NEWS: Final = 1.0  # seconds within which a logout is known everywhere
LOOKED_UP: Final = 0.2  # seconds in which a replica that has begun since asks the store for a death

_SERIAL: Final = count(1)


@dataclass
class Request:
    """A request and what its cookies hold; `began` is the step that it was made at."""

    header: str
    began: int
    readings: list[Reading]
    is_normal: bool
    asking: Asking
    what: str
    browser: int | None = None
    sets: list[str] = field(default_factory=list)  # what the application answers for sure
    made: Session | None = None
    task: asyncio.Task[Answer] | None = None

    @property
    def sessions(self) -> list[Session]:
        """The sessions presented."""
        return [session for session, _ in self.readings]


class History:
    """Plays steps in a world, and compares what happens with the model."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self._model: Final = Model(str(next(_SERIAL)))
        self._jars: Final[list[dict[str, str]]] = [{} for _ in range(BROWSERS)]
        self._held: Final[list[Request]] = []
        self._now = 0
        self._made: dict[str, Session] = {}
        self.told: Final[list[str]] = []
        self.checks = 0
        world.site.acts = self._act
        world.site.exchange = self._model.exchange
        world.site.known = lambda: self._now

    async def run(self, steps: Sequence[Step]) -> None:
        """Plays all steps. Raises `Fault` with the history so far."""
        try:
            for name, a, b, c, spelling in steps:
                self._now += 1
                await STEPS[name](self, a, b, c, spelling)
                self._expect(self._model.reuses == 0, "a refresh token was used twice")
            while self._held:
                self._now += 1
                await self._release(0, 0, 0, ((), 0))
        except Fault as fault:
            told = "\n  ".join(self.told)
            raise Fault(f"{fault}\n  {told}\nto play it again: {as_json(steps)}") from None

    async def leave(self) -> None:
        """Lets go what is still held, whatever comes of it."""
        tasks = [request.task for request in self._held if request.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, text: str) -> None:
        self.told.append(f"{self._now}: {text}")

    def _expect(self, holds: object, text: str) -> None:
        self.checks += 1
        if not holds:
            raise Fault(text)

    # -- the upstream ---------------------------------------------------------------------------

    def _act(self, arrival: Arrival, do: Do) -> tuple[str, list[str]]:
        """The frontend and the API."""
        cookies = list(do.get("set", ()))
        if do.get("reseal"):
            cookies += self._resealed(
                arrival, rotates="rotate" in do["reseal"], keeps="anew" not in do["reseal"]
            )
        if do.get("signs_out"):
            names = [pair.partition("=")[0] for pair in arrival.cookie.split("; ")]
            cookies += [f"{n}=; Max-Age=0; Path=/" for n in names if is_session_name(n)]
        is_refused = arrival.token is not None and not self._model.is_accepted(arrival.token)
        return "401 Unauthorized" if is_refused else "200 OK", cookies

    def _resealed(self, arrival: Arrival, *, rotates: bool, keeps: bool) -> list[str]:
        """What Auth.js does at GET /api/auth/session, with a new token if it refreshes.

        The application keeps the claims that it does not know, or makes all of them anew.
        """
        readings = [one for one in self._model.read(arrival.cookie) if one.session.kind != "raw"]
        if not readings:
            return []
        session, generation = readings[0]
        is_newest = generation == len(session.tokens) - 1
        if rotates and session.refresh and is_newest and session.alive and not session.doomed:
            self._model.exchange(session.refresh[-1])
            session.rotated = generation + 1
            is_newest = True
        if not is_newest:  # it seals what it was given
            return [f"{n}={v}; Path=/" for n, v in _pairs(arrival.cookie) if is_session_name(n)]
        kept = self._model.private(arrival.cookie) if keeps else {}
        made = self._model.cookies(session, **kept)
        gone = [
            n for n, _ in _pairs(arrival.cookie) if n.startswith(session.name) and n not in made
        ]
        return [*(f"{n}=; Max-Age=0; Path=/" for n in gone), *set_lines(made)]

    # -- requests -------------------------------------------------------------------------------

    def _request(self, header: str, what: str, *, browser: int | None, is_normal: bool) -> Request:
        readings = self._model.read(header)
        self._tell(f"{what} with {readings or 'no session'}")
        asking = self._world.asking()
        return Request(header, self._now, readings, is_normal, asking, what, browser)

    async def _send(
        self, request: Request, replica: int, method: str, target: str, *fields: str, **do: Any
    ) -> Answer:
        """One request on the connection of its browser, and its answer, checked."""
        who = request.asking if do.get("hold") else request.browser
        answer = await self._world.ask(
            request.asking,
            replica,
            who,
            method,
            target,
            *fields,
            cookie=request.header,
            do={"page": not target.startswith("/api/"), **do},
        )
        self._check(request, answer)
        return answer

    def _check(self, request: Request, answer: Answer) -> None:
        """What holds for every answer, and for what an upstream was sent for it."""
        for arrival in request.asking.arrivals:
            self._check_arrival(request, arrival)
        self._check_sets(request, answer)
        if request.browser is not None:
            jar = self._jars[request.browser]
            applied(jar, answer.all("Set-Cookie"))
            jar.pop("theme", None)
        self._note(answer)

    def _note(self, answer: Answer) -> None:
        """Remembers the session cookies that were handed out."""
        kept = {n: v for n, v, gone in map(split, answer.all("Set-Cookie")) if not gone}
        kept = {n: v for n, v in kept.items() if is_session_name(n)}
        if kept:
            self._model.seen.append(kept)
            self._model.given("; ".join(f"{n}={v}" for n, v in kept.items()))

    def _check_arrival(self, request: Request, arrival: Arrival) -> None:
        token = arrival.token
        injected = [] if token is None else [self._model.of_token(token)]
        if injected == [None] and is_made_of(token or "", request.header):
            injected = []  # a raw cookie, whole or in chunks, is the token, whatever it is
        for reading in (*injected, *self._model.read(arrival.cookie)):
            self._expect(reading, f"{request.what}: a token of nobody: {arrival.token}")
            assert reading is not None
            session = reading.session
            if not session.promised:
                continue
            held = session in request.sessions or session in self._model.held(request.header)
            self._expect(held, f"{request.what}: {session} is somebody else")
            is_over = session.is_dead(reading.generation) and session.deaths[-1] < arrival.known
            where = "its token was injected" if reading in injected else "a page can read it"
            self._expect(not is_over, f"{request.what}: {session} is dead, and {where}")

    def _check_sets(self, request: Request, answer: Answer) -> None:
        sets = answer.all("Set-Cookie")
        set_here = [one for one in sets if is_session_name(split(one)[0]) and not split(one)[2]]
        for session in request.sessions:
            is_late = session.promised and any(request.began < death for death in session.deaths)
            self._expect(
                not (is_late and set_here),
                f"{request.what}: began before {session} ended, and sets {_names(set_here)}",
            )
        for header in families(set_here):
            for session, generation in self._model.read(header):
                if session.is_dead(generation):
                    self._expect(False, f"{request.what}: sets the dead {session} again")
        late = [
            session
            for session in request.sessions
            if not session.promised or any(request.began < death for death in session.deaths)
        ]
        if late and request.made is not None:
            request.made.promised = False  # what a late answer would set is dead too
        is_ended = request.made is not None and not (request.made.alive and request.made.promised)
        if request.sets and not (late or is_ended):
            missing = [one for one in request.sets if one not in sets]
            self._expect(not missing, f"{request.what}: a login lost {_names(missing)}")

    # -- what is promised -----------------------------------------------------------------------

    def _is_usable(self, readings: Sequence[Reading]) -> bool:
        """Whether it is promised what becomes of these cookies, or else they are not presented.

        The application's own exchange leaves old cookies behind whose refresh token is spent.
        """
        return not any(
            session.alive and session.promised and 0 <= generation < session.rotated
            for session, generation in readings
        )

    def _expected(self, readings: Sequence[Reading]) -> Session | None:
        """The session that wins: the first that lives and has a token."""
        living = (s for s, g in readings if s.tokens and not s.is_dead(g))
        return next(living, None)

    def _is_certain(self, readings: Sequence[Reading]) -> bool:
        return all(
            session.promised and (session.alive or session.is_dead(generation))
            for session, generation in readings
        )

    def _hidden(self, header: str, readings: Sequence[Reading]) -> list[Session]:
        """Living sessions that a library would read but for what else of that name is there.

        The product may take that out, on each route alike, and then one of them stands first.
        """
        read = [session for session, _ in readings]
        found = [one for one in self._model.held(header) if one not in read]
        return [one for one in dict.fromkeys(found) if one.alive]

    def _die(self, session: Session, generation: int) -> None:
        session.alive = False
        session.ended_at = generation
        session.deaths.append(self._now)

    async def _settled(self, before: Sequence[float], unheard: float = 0.0) -> None:
        """Waits until the other replica has heard of a change at one of them.

        `unheard`: seconds that it may take until the first of them has heard of it.
        """
        began = asyncio.get_running_loop().time()
        deadline = began + NEWS
        while asyncio.get_running_loop().time() < deadline:
            now = await self._tombstones()
            changed = [was != is_ for was, is_ in zip(before, now, strict=True)]
            is_over = asyncio.get_running_loop().time() >= began + unheard
            if all(changed) or (is_over and not any(changed)):
                return
            await asyncio.sleep(0.005)

    async def _tombstones(self) -> list[float]:
        count = len(self._world.replicas)
        return [await self._world.tombstones(number) for number in range(count)]

    # -- steps ----------------------------------------------------------------------------------

    def _begin(self, kind: str) -> tuple[Session, dict[str, str]]:
        """A session of a kind, and its cookies."""
        more: dict[str, Any] = {}
        if kind == "forged":
            # A user may write into a session of the application's what names somebody else's.
            stolen = [f for f, s in self._model.fingerprints.items() if s.promised]
            more = {"sidecar": {"fingerprint": stolen[-1], "issuedAt": 1.0}} if stolen else {}
        session = self._model.begin(
            kind,
            has_refresh=kind not in ("raw", "plain", "page"),
            has_token=kind != "page",
        )
        if kind == "secure":
            session.name = f"__Secure-{session.name}"
        return session, self._model.cookies(session, due=kind == "due", **more)

    async def _log_in(self, a: int, b: int, c: int, _: Spelling) -> None:
        """A login, by the API or by the frontend; with the old cookies, or without any."""
        browser, replica, by_page, clean = a % BROWSERS, c % 2, c // 2 % 2, c // 4 % 2
        session, cookies = self._begin(KINDS[b % len(KINDS)])
        jar = self._jars[browser]
        header = "" if clean else header_of(jar)
        if not self._is_usable(self._model.read(header)):
            header = ""
        request = self._request(header, f"login as {session}", browser=browser, is_normal=True)
        await self._give(request, replica, session, cookies, by_page=bool(by_page))

    async def _log_in_again(self, a: int, b: int, c: int, _: Spelling) -> None:
        """A login that hands out the token of a session that has ended."""
        ended = [s for s in self._model.sessions if s.kind in ("raw", "plain")]
        ended = [s for s in ended if not s.alive and s.promised and not s.doomed]
        if not ended:
            return
        session = ended[a % len(ended)]
        browser = b % BROWSERS
        request = self._request("", f"login again as {session}", browser=browser, is_normal=True)
        session.alive = True
        before = await self._tombstones()
        await self._give(request, c % 2, session, self._model.cookies(session), by_page=bool(c & 2))
        await self._settled(before, LOOKED_UP)

    async def _give(
        self,
        request: Request,
        replica: int,
        session: Session,
        cookies: dict[str, str],
        *,
        by_page: bool,
    ) -> None:
        assert request.browser is not None
        jar = self._jars[request.browser]
        family = "access_token" if session.kind == "raw" else "session-token"
        for name in [name for name in jar if family in name]:
            del jar[name]
        request.sets = set_lines(cookies)
        path = "/signin" if by_page else "/api/login"
        self._doom(request)
        await self._send(request, replica, "POST", path, set=request.sets)

    def _doom(self, request: Request) -> None:
        """A doomed session may end as soon as something is done with it."""
        for session in request.sessions:
            if session.doomed and session.alive:
                session.promised = False

    async def _call(self, a: int, b: int, c: int, _: Spelling) -> None:
        """A request to the API."""
        browser = a % BROWSERS
        header = header_of(self._jars[browser])
        await self._ask_api(header, browser, b % 2, "call the API", c)

    async def _ask_api(
        self, header: str, browser: int | None, replica: int, what: str, c: int
    ) -> None:
        readings = self._model.read(header)
        if not self._is_usable(readings):
            return
        request = self._request(header, f"{what} at {replica}", browser=browser, is_normal=True)
        before = await self._tombstones()
        expected, is_certain = self._expected(readings), self._is_certain(readings)
        path = ("/api/me", "/api/optional/me")[c // 2 % 2]
        method, fields = ("GET", "POST")[c % 2], (FETCH, ())[c // 4 % 2]
        answer = await self._send(request, replica, method, path, *fields)
        hidden = self._hidden(header, readings)
        if not is_certain or any(self._refuses(one) or not one.promised for one in hidden):
            for one in filter(self._refuses, hidden):
                one.promised = False  # whether it was asked for, and so ended, is not said
            return
        arrivals = request.asking.arrivals
        tokens = [arrival.token for arrival in arrivals]
        if expected is None:
            is_empty = not any(session.alive for session in self._model.held(header))
            is_right = answer.status != 200 or tokens == [None] or not is_empty
            self._expect(is_right, f"{what}: {answer.status} without a session")
            return
        if self._refuses(expected):
            is_refused = answer.status in (303, 401) or (path != "/api/me" and tokens[-1] is None)
            self._expect(is_refused, f"{what}: {answer.status} for {expected}")
            self._die(expected, len(expected.tokens) - 1)
            self._tell(f"the API's 401 ends {expected}")
            await self._settled(before)
            return
        self._expect(answer.status == 200, f"{what}: {answer.status} for the living {expected}")
        if tokens and any(tokens[-1] == one.newest for one in hidden):
            return
        self._expect(
            tokens and tokens[-1] == expected.newest,
            f"{what}: {tokens} were injected, not {expected.newest} of {expected}",
        )

    @staticmethod
    def _refuses(session: Session) -> bool:
        """Whether the API's 401 is the end of a session."""
        return session.doomed or (not session.refresh and session.stale >= len(session.tokens))

    async def _call_both(self, a: int, b: int, c: int, _: Spelling) -> None:
        """The same request at both replicas at once."""
        browser = a % BROWSERS
        header = header_of(self._jars[browser])
        readings = self._model.read(header)
        expected = self._expected(readings)
        if expected is None or self._refuses(expected):
            return
        await asyncio.gather(
            self._ask_api(header, browser, 0, "call the API", 0),
            self._ask_api(header, browser, 1, "call the API", 0),
        )

    async def _open_page(self, a: int, b: int, c: int, _: Spelling) -> None:
        """A page, as a document, a prefetch, router data or a script's request."""
        browser = a % BROWSERS
        await self._ask_page(header_of(self._jars[browser]), browser, b % 2, c)

    async def _ask_page(self, header: str, browser: int | None, replica: int, c: int) -> None:
        readings = self._model.read(header)
        if not self._is_usable(readings):
            return
        fields = PAGES[c % len(PAGES)]
        request = self._request(
            header, f"open a page at {replica}", browser=browser, is_normal=True
        )
        self._doom(request)
        is_certain = self._is_certain(readings)
        living = [s for s, g in readings if s.alive]
        answer = await self._send(request, replica, "GET", "/page", *fields)
        if is_certain and living and len(living) == len(readings):
            self._expect(answer.status == 200, f"{request.what}: {answer.status} for {living}")
            read = [one.session for one in self._model.read(request.asking.arrivals[-1].cookie)]
            hidden = self._hidden(header, readings)
            is_right = read == living or (hidden and set(living) < set(read) <= {*living, *hidden})
            self._expect(is_right, f"{request.what}: it got {read}, not {living}")
        if (
            answer.status == 303
            and fields == DOCUMENT
            and "ticket=" in (answer.get("Location") or "")
        ):
            way = self._request(header, "follow to the logout", browser=browser, is_normal=True)
            await self._send(way, replica, "GET", answer.get("Location") or "", *fields)

    async def _reseal(self, a: int, b: int, c: int, _: Spelling) -> None:
        """The frontend seals its session again, with a new token or without."""
        browser = a % BROWSERS
        header = header_of(self._jars[browser])
        if not self._is_usable(self._model.read(header)):
            return
        how = RESEALS[c % len(RESEALS)]
        request = self._request(
            header, f"the frontend reseals: {how}", browser=browser, is_normal=True
        )
        self._doom(request)
        await self._send(request, b % 2, "GET", "/api/auth/session", *FETCH, reseal=how)

    async def _hold(self, a: int, b: int, c: int, _: Spelling) -> None:
        """A request whose answer is late."""
        browser, what = a % BROWSERS, HELD[c % len(HELD)]
        header = header_of(self._jars[browser])
        if not self._is_usable(self._model.read(header)):
            return
        request = self._request(header, f"hold {what}", browser=browser, is_normal=True)
        self._doom(request)
        method, target = "GET", "/page"
        do: dict[str, Any] = {}
        if what in ("reseal", "rotate"):
            target, do = "/api/auth/session", {"reseal": what}
        elif what in ("login", "again"):
            method, target = "POST", ("/api/login", "/signin")[c // 7 % 2]
            do = {"set": self._late_login(request, what)}
        elif what in ("api", "api401"):
            target = "/api/me"
            do = {"status": "401 Unauthorized"} if what == "api401" else {}
        send = self._send(request, b % 2, method, target, *FETCH, hold=True, **do)
        request.task = asyncio.create_task(send)
        arrived = asyncio.create_task(request.asking.arrived.wait())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({request.task, arrived}, return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        if request.task.done():
            await request.task
        else:
            self._held.append(request)

    def _late_login(self, request: Request, what: str) -> list[str]:
        living = [s for s in self._model.sessions if s.alive and s.promised and not s.doomed]
        living = [s for s in living if s.kind in ("raw", "plain")]
        if what == "again" and living:
            request.what += f" of {living[-1]}"
            return set_lines(self._model.cookies(living[-1]))
        session, cookies = self._begin("plain")
        request.made = session
        request.what += f" as {session}"
        request.sets = set_lines(cookies)
        return request.sets

    async def _release(self, a: int, b: int, c: int, _: Spelling) -> None:
        """A late answer comes."""
        if not self._held:
            return
        request = self._held.pop(a % len(self._held))
        self._tell(f"release: {request.what}, of step {request.began}")
        for session in request.sessions:
            if session.rotated:
                request.asking.is_taken = True  # or the spent refresh token would be tried
            elif session.alive and not session.refresh and "api" in request.what:
                session.promised = False  # whatever follows, it is the API's word
        request.asking.released.set()
        assert request.task is not None
        async with asyncio.timeout(PATIENCE):
            await request.task

    async def _log_out(self, a: int, b: int, c: int, _: Spelling) -> None:
        """By the button, by a link, or by the frontend's own sign-out."""
        browser, replica = a % BROWSERS, b % 2
        header = header_of(self._jars[browser])
        readings = self._model.read(header)
        way = ("post", "link", "frontend")[c % 3]
        request = self._request(
            header, f"log out at {replica}: {way}", browser=browser, is_normal=True
        )
        before = await self._tombstones()
        certain = self._is_certain(readings)
        living = [(s, g) for s, g in readings if s.alive]
        if way == "post":
            answer = await self._send(request, replica, "POST", "/api/logout", *FETCH)
        elif way == "link":
            answer = await self._send(request, replica, "GET", "/api/logout", *DOCUMENT)
        else:
            self._doom(request)
            answer = await self._send(request, replica, "POST", "/signout", *FETCH, signs_out=True)
        self._expect(answer.status in (200, 303), f"{request.what}: {answer.status}")
        for session, generation in living[:1] if certain else ():
            if session.promised:
                newer = generation if session.rotated else max(generation, len(session.tokens) - 1)
                self._die(session, newer)
        for session, _generation in living[1:] if certain else living:
            session.promised = False  # whether a logout ends two sessions is not said
        for session in self._model.held(header):
            if session not in request.sessions:
                session.promised = False  # no library reads it, but the product may
        left = [one for one in self._jars[browser] if is_session_name(one)]
        self._expect(way == "frontend" or not left, f"{request.what}: the browser keeps {left}")
        for name in left:
            del self._jars[browser][name]
        await self._settled(before)

    async def _stale(self, a: int, b: int, c: int, _: Spelling) -> None:
        """The API takes a token no longer, though it has not expired."""
        found = [s for s in self._model.sessions if s.alive and s.refresh and not s.doomed]
        if found:
            session = found[a % len(found)]
            self._tell(f"the API takes no token of {session} that there is")
            session.stale = len(session.tokens)

    async def _doomed(self, a: int, b: int, c: int, _: Spelling) -> None:
        """Neither the API nor the provider know a session any more."""
        found = [s for s in self._model.sessions if s.alive and s.tokens]
        if found:
            session = found[a % len(found)]
            self._tell(f"neither the API nor the provider take anything of {session}")
            session.doomed = True

    async def _replay(self, a: int, b: int, c: int, spelling: Spelling) -> None:
        """Any cookie ever seen, spelled in some way, from anywhere."""
        if not self._model.seen:
            return
        seen = self._model.seen[a % len(self._model.seen)]
        changes, separator = spelling
        header = spell(seen, changes if c & 1 else (), separator)
        if not self._is_usable(self._model.found(header)):
            return
        request = self._request(header, f"replay {header[:60]!r}…", browser=None, is_normal=False)
        self._doom(request)
        method, target, fields = REPLAYS[c // 2 % len(REPLAYS)]
        await self._send(request, b % 2, method, target, *fields)

    async def _restart(self, a: int, b: int, c: int, _: Spelling) -> None:
        """A replica makes way for another."""
        if self._held:
            return
        self._tell(f"replica {a % 2} starts again")
        await self._world.restart(a % 2)


REPLAYS: Final[Sequence[tuple[str, str, Sequence[str]]]] = (
    ("GET", "/page", ()),
    ("GET", "/api/optional/me", ()),
    ("GET", "/page", DOCUMENT),
    ("GET", "/api/me", FETCH),
    ("GET", "/page", PREFETCH),
    ("GET", "/open/page", ()),
)

STEPS: Final[Mapping[str, Any]] = {
    "login": History._log_in,
    "again": History._log_in_again,
    "call": History._call,
    "both": History._call_both,
    "page": History._open_page,
    "reseal": History._reseal,
    "hold": History._hold,
    "release": History._release,
    "logout": History._log_out,
    "stale": History._stale,
    "doomed": History._doomed,
    "replay": History._replay,
    "restart": History._restart,
}

_OFTEN: Final = ["login", "call", "page", "hold", "release", "logout", "replay", *STEPS]
_NUMBER: Final = st.integers(0, 15)
_STEP: Final = st.tuples(st.sampled_from(_OFTEN), _NUMBER, _NUMBER, _NUMBER, SPELLING)
_LOGIN: Final = st.tuples(st.just("login"), _NUMBER, _NUMBER, _NUMBER, st.just(((), 0)))
STEPS_OF_A_HISTORY: Final = st.tuples(_LOGIN, *[st.lists(_STEP, max_size=12)] * 4).map(
    lambda parts: [parts[0], *(step for part in parts[1:] for step in part)]
)


def _pairs(header: str) -> list[tuple[str, str]]:
    return [(n, v) for n, _, v in (pair.partition("=") for pair in header.split("; "))]


def _names(set_cookies: Sequence[str]) -> list[str]:
    return [split(one)[0] for one in set_cookies]
