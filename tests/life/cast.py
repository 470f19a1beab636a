"""The users of a site: their logins, their browsers, and what becomes of their requests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle, groupby
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
from yarl import URL

from sidecar.core.tickets import ClaimStamp, Signer
from tests.life.programs import CALLBACK, COOKIES, LIFETIME, SECRET, USERS, Idp, Replica

VERIFIER: Final = "v" * 43
CHALLENGE: Final = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
HERE: Final = URL("http://127.0.0.1/")
BASIC: Final = {"Authorization": aiohttp.encode_basic_auth("app", "rehearsal-only")}

Library = Callable[[Sequence[object]], list[Any]]
"""Seals and opens cookies with the real libraries (`library.mjs`)."""

Expired = dict[tuple[str, str], list[dict[str, str]]]
"""By the type of their session and their user: the cookies of those who are not in use yet."""

LATE: Final = "refresh_unavailable"
PATIENCE: Final = 60.0  # seconds in which a request is asked again where a busy provider was late
LOOKS: Final = 20  # that a machine with nothing else to do has within a second
STOCK: Final = 12  # sessions of each of the first users that are made at a time


@dataclass(frozen=True)
class Got:
    """What became of a request: an answer, or (status 0) a connection that failed."""

    began: float
    seconds: float
    status: int
    code: str = ""
    user: str = ""
    token: str = ""
    location: str = ""
    worker: str = ""
    sets: tuple[str, ...] = ()
    """Set-Cookie lines, which hold sealed tokens."""

    def __repr__(self) -> str:
        names = [line.partition("=")[0] for line in self.sets]
        return (
            f"<{self.status} {self.code} {self.user} {self.token[:5]} {self.location[:20]}"
            f" after {self.seconds:.2f} s, sets {names}>"
        )


STAMP: Final = ClaimStamp([SECRET.encode()])
SIGNER: Final = Signer([SECRET.encode()])


class Browser:
    """One user's browser. All replicas are one host to it, and so share its cookies.

    One that is `frozen` keeps the cookies that it has for ever.
    """

    def __init__(
        self, user: str, http: aiohttp.ClientSession, cookies: Mapping[str, str], frozen: bool
    ) -> None:
        self.user = user
        self._http = http
        self._jar = aiohttp.CookieJar(unsafe=True)  # which here means: of IP addresses too
        self._jar.update_cookies(cookies, HERE)
        self._frozen = frozen

    @property
    def cookies(self) -> dict[str, str]:
        """Those that it presents now."""
        return {name: morsel.value for name, morsel in self._jar.filter_cookies(HERE).items()}

    def frozen(self) -> Browser:
        """Somebody who presents the cookies as they are now, and does so for ever."""
        return Browser(self.user, self._http, self.cookies, frozen=True)

    async def get(self, at: Replica, path: str = "/api/me", **fields: str) -> Got:
        """A request, as `fetch` of a page sends it."""
        return await self.ask("GET", at, path, **fields)

    async def served(self, at: Replica, path: str = "/api/me", **fields: str) -> Got:
        """What comes in the end: asked again while 503 says that the session's renewal was late.

        Anything else is returned as it is, and so is the last 503.
        """
        end = time.monotonic() + PATIENCE
        while True:
            got = await self.get(at, path, **fields)
            if (got.status, got.code) != (503, LATE) or time.monotonic() > end:
                return got
            await asyncio.sleep(0.2)

    async def ask(self, method: str, at: Replica, path: str, **fields: str) -> Got:
        """A request, whatever becomes of it; redirects are not followed."""
        began, clock = time.time(), time.monotonic()
        try:
            async with self.opened(method, at, path, **fields) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Got(began, time.monotonic() - clock, 0, code=type(error).__name__)
        sets = tuple(answer.headers.getall("Set-Cookie", ()))
        if not self._frozen:
            self._jar.update_cookies_from_headers(sets, HERE)
        document = json.loads(body) if answer.content_type == "application/json" else {}
        data = document.get("data") or document.get("errorData") or {}
        return Got(
            began,
            time.monotonic() - clock,
            answer.status,
            code=data.get("code", ""),
            user=data.get("user", ""),
            token=data.get("token", ""),
            location=answer.headers.get("Location", ""),
            worker=answer.headers.get("X-Request-Id", "")[:16],
            sets=sets,
        )

    def opened(
        self, method: str, at: Replica, path: str, **fields: str
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A request whose answer is read by the caller, and whose cookies are not kept."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}
        return self._http.request(
            method, at.url + path, headers={**headers, **fields}, allow_redirects=False
        )


@dataclass
class Traffic:
    """Requests that go on and on, of several browsers with several tabs each."""

    browsers: Sequence[Browser]
    replicas: Sequence[Replica]
    got: list[tuple[Browser, Got]] = field(default_factory=list)

    def wrong(self, *codes: str) -> list[tuple[str, Got]]:
        """Answers that are neither the user's own data, nor a 503 with one of these codes."""
        return [
            (browser.user, got)
            for browser, got in self.got
            if not (got.status == 200 and got.user == browser.user)
            and not (got.status == 503 and got.code in codes)
        ]

    def statuses(self) -> Counter[tuple[int, str]]:
        """How many answers there were of each kind."""
        return Counter((got.status, got.code) for _, got in self.got)

    def served(self, since: float = 0.0) -> set[str]:
        """The users who were given their data by a request begun since then."""
        return {one.user for one, got in self.got if got.began >= since and got.status == 200}

    def count(self, browser: Browser) -> int:
        """How many answers a browser has got."""
        return sum(one is browser for one, _ in self.got)

    def renewed(self) -> set[str]:
        """The users whose session was given new tokens."""
        return {one.user for one, got in self.got if got.sets}

    async def until(self, condition: Callable[[], Any], seconds: float) -> float:
        """Waits for something while the traffic goes on; how long that took."""
        return await until(condition, seconds, self.statuses)

    async def until_all_work(self, seconds: float) -> float:
        """Waits until each user was given data by a request begun from now on."""
        now, users = time.time(), {browser.user for browser in self.browsers}
        return await self.until(lambda: self.served(now) == users, seconds)

    async def tab(self, browser: Browser, first: int, over: asyncio.Event) -> None:
        """One tab; it asks all replicas in turn."""
        replicas = cycle([*self.replicas[first:], *self.replicas[:first]])
        while not over.is_set():
            self.got.append((browser, await browser.get(next(replicas))))
            await asyncio.sleep(0.03)  # think time, or two processors would be busy with it alone

    @asynccontextmanager
    async def going_on(self, tabs: int = 2) -> AsyncIterator[Traffic]:
        """At the end what is under way is waited for, so that no answer's cookies are lost."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for browser in self.browsers:
                for number in range(tabs):
                    group.create_task(self.tab(browser, number % len(self.replicas), over))
            try:
                yield self
            finally:
                over.set()


async def until(
    condition: Callable[[], Any], seconds: float, about: Callable[[], object] = str
) -> float:
    """Waits for something; how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {about()}"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


class Cast:
    """Users who log in at the provider, and what the provider is told to do to them."""

    def __init__(
        self, idp: Idp, library: Library, expired: Expired, http: aiohttp.ClientSession
    ) -> None:
        self.idp = idp
        self._library = library
        self._expired = expired
        self._http = http

    # -- the provider -----------------------------------------------------------------------------

    async def set(self, **changes: Any) -> dict[str, int]:
        """Turns switches of the provider; what it has counted."""
        async with self._http.post(f"{self.idp.issuer}/_rehearsal", json=changes) as answer:
            assert answer.status == 200, await answer.text()
            return dict((await answer.json())["stats"])

    async def stats(self) -> dict[str, int]:
        """What the provider has counted."""
        return await self.set()

    async def is_live(self, token: str) -> bool:
        """What the provider says about a token (RFC 7662)."""
        url = f"{self.idp.issuer}/introspect"
        async with self._http.post(url, data={"token": token}, headers=BASIC) as answer:
            return bool((await answer.json())["active"])

    async def refresh(self, token: str) -> dict[str, Any]:
        """The provider's answer to a refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return await self._exchange(form)

    async def revoke(self, token: str) -> None:
        """Has the provider revoke a token (RFC 7009)."""
        url = f"{self.idp.issuer}/revoke"
        async with self._http.post(url, data={"token": token}, headers=BASIC) as answer:
            assert answer.status == 200

    async def _exchange(self, form: dict[str, str]) -> dict[str, Any]:
        async with self._http.post(f"{self.idp.issuer}/token", data=form, headers=BASIC) as answer:
            return dict(await answer.json())

    # -- logins -----------------------------------------------------------------------------------

    async def log_in(
        self, users: Sequence[str], *, lifetime: int = LIFETIME, type_: str = "authjs"
    ) -> list[Browser]:
        """Browsers with a session of the real library, whose access token lives that long.

        That is renewed at its first use: it expires within the leeway of 30 s, and is said to have
        been issued long ago.
        """
        cookies = await self._sessions([(type_, user) for user in users], lifetime)
        return [
            Browser(user, self._http, one, frozen=False)
            for user, one in zip(users, cookies, strict=True)
        ]

    async def expired(self, users: Sequence[str], *, type_: str = "authjs") -> list[Browser]:
        """Browsers whose access token has expired, for the API as well."""
        if not all(self._expired.get((type_, user)) for user in users):
            await self._make_expired()
        return [
            Browser(user, self._http, self._expired[type_, user].pop(), frozen=False)
            for user in users
        ]

    async def _make_expired(self) -> None:
        """Many at once, since it takes two seconds until they are so."""
        owners = []
        for number, user in enumerate(USERS):
            owners += [("authjs", user)]
            owners += [*[("authjs", user)] * STOCK, ("nextauth", user)] if number < STOCK else []
        cookies = await self._sessions(owners, 1)
        end = ceil(time.time() + 1)  # the provider rounds up as well
        for owner, one in zip(owners, cookies, strict=True):
            self._expired.setdefault(owner, []).append(one)
        await until(lambda: time.time() >= end, 3)

    async def _sessions(
        self, owners: Sequence[tuple[str, str]], lifetime: int
    ) -> list[dict[str, str]]:
        """The cookies of new sessions, each of a type and a user."""
        await self.set(access_token_lifetime=lifetime)
        deeds = []
        for user, same in groupby(owners, key=lambda owner: owner[1]):
            await self.set(sign_in_as=user)
            types = [type_ for type_, _ in same]
            for type_, answer in zip(
                types, await asyncio.gather(*(self._tokens() for _ in types)), strict=True
            ):
                claims = {
                    "name": f"{user} ☃",
                    "sub": user,
                    "accessToken": answer["access_token"],
                    "refreshToken": answer["refresh_token"],
                    "expiresAt": int(time.time()) + answer["expires_in"],
                    # As of a token that was issued long ago: the whole leeway counts.
                    "sidecar": STAMP.write(
                        SIGNER.fingerprint(answer["access_token"]), time.time() - 3600
                    ),
                }
                deeds.append(["seal", type_, COOKIES[type_], SECRET, claims])
        await self.set(access_token_lifetime=LIFETIME, sign_in_as=None)
        return await asyncio.to_thread(self._library, deeds)

    async def _tokens(self) -> dict[str, Any]:
        """The code flow of who is signed in, without a person (RFC 6749 4.1)."""
        asked = {
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": CALLBACK,
            "scope": "openid offline_access",
            "prompt": "consent",
            "code_challenge": CHALLENGE.decode(),
            "code_challenge_method": "S256",
        }
        url = f"{self.idp.issuer}/authorize"
        async with self._http.get(url, params=asked, allow_redirects=False) as answer:
            code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
        return await self._exchange({**form, "redirect_uri": CALLBACK})

    async def opened(self, *browsers: Browser, type_: str = "authjs") -> list[dict[str, Any]]:
        """What the real library reads in the cookies of browsers."""
        deeds = [["open", type_, COOKIES[type_], SECRET, browser.cookies] for browser in browsers]
        claims = await asyncio.to_thread(self._library, deeds)
        assert None not in claims
        return claims


async def within(
    began: float, condition: Callable[[], Awaitable[bool]], seconds: float = 1.0
) -> None:
    """Comes true within so many seconds of a moment, or as many looks as an idle machine has then.

    Only a look that began too late counts: one that is slow itself says nothing of the product.
    """
    looks, looked = 1, time.monotonic()
    while not await condition():
        is_early = looked - began < seconds or looks < LOOKS * seconds
        assert is_early, f"not after {looks} looks"
        await asyncio.sleep(0.02)
        looks, looked = looks + 1, time.monotonic()
