"""What sessions cost a Redis: `python -m tests.scaling`, from the repository's root.

Real logins, requests, renewals and logouts on two replicas and a real `redis-server`. Counts what
Redis is asked for each of them (`INFO commandstats`), and weighs what stands there (`used_memory`,
by copies of each kind of key). Prints tables as Markdown for docs/scaling.md. Takes a minute.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp
from redis import Redis as Client
from yarl import URL

from tests.life.programs import SECRET, USERS, Api, Idp, Program, Redis
from tests.ports import free_port

SESSIONS: Final = 50
REQUESTS: Final = 20  # of each session
COPIES: Final = 20_000  # of each kind of key
LIFETIME: Final = 20  # seconds of an access token; it is renewed in the second half
IDLE: Final = 20.0  # seconds in which nobody does anything
APART: Final = frozenset({"info", "dbsize", "keys", "memory|usage", "client|setinfo", "hello"})
SETTLE: Final = 2.5  # seconds until what is written behind the answers is written


class Provider(Idp):
    """The rehearsal provider, with a callback that is asked."""

    def __init__(self, directory: Path, callback: str) -> None:
        super().__init__(directory)
        self.command = [
            f"--redirect-uri={callback}" if one.startswith("--redirect-uri") else one
            for one in self.command
        ]


class Serving(Program):
    """`sidecar run` on a port that is known before."""

    def __init__(self, port: int, config: dict[str, Any], directory: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        file = directory / f"{port}.json"
        listen = {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{free_port()}"}
        file.write_text(json.dumps({**listen, "drain": {"wait": "0s"}, **config}))
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        super().__init__(command, port, directory / f"{port}.log")


@dataclass
class Measured:
    """What one layout of sessions costs."""

    name: str
    operations: dict[str, dict[str, float]] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[float, int, float, float]] = field(default_factory=dict)
    """Behind an operation, by kind: how many, the bytes of one, of all that it takes, and for how
    many seconds."""
    idle: dict[str, float] = field(default_factory=dict)
    bytes_of_tokens: int = 0


class Site:
    """A provider, an API, a Redis and two replicas."""

    def __init__(self, directory: Path, redis_server: str, config: dict[str, Any]) -> None:
        ports = free_port(), free_port()
        self.origin = f"http://127.0.0.1:{ports[0]}"
        self.idp = Provider(directory, f"{self.origin}/auth/callback")
        self.api = Api(self.idp, directory)
        self.redis = Redis(redis_server, directory)
        oauth = {"issuer": self.idp.issuer, "client_id": "app", "client_secret": "rehearsal-only"}
        shared = {
            "secret": SECRET,
            "public_url": self.origin,
            "upstreams": {"api": {"url": f"http://127.0.0.1:{self.api.port}"}},
            "routes": [{"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"}],
            "store": {"url": self.redis.url},
            "log": {"access": False},
        }
        made = config | ({"oidc": oauth | config["oidc"]} if "oidc" in config else {})
        if "refresh" in config:
            made |= {"refresh": oauth}
        self.replicas = [Serving(port, shared | made, directory) for port in ports]
        self.programs = (self.idp, self.api, self.redis, *self.replicas)

    def __enter__(self) -> Site:
        for one in (self.idp, self.redis):
            one.start()
            one.wait()
        for later in (self.api, *self.replicas):
            later.start()
            later.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for one in reversed(self.programs):
            one.kill()


class Browser:
    """One user's session: a jar, and requests at either replica."""

    def __init__(self, site: Site, user: str) -> None:
        self._site = site
        self._user = user
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def log_in(self) -> None:
        """The sidecar's own login: to the provider and back."""
        await tell(self._site, sign_in_as=self._user)
        url = f"{self._site.origin}/auth/login?next=/api/me"
        for _ in range(5):
            async with self.http.get(url, allow_redirects=False) as answer:
                if answer.status not in (302, 303):
                    assert answer.status == 200, (url, answer.status, await answer.text())
                    return
                url = urljoin(url, answer.headers["Location"])
        raise AssertionError("a login in a circle")

    async def ask(self, replica: int = 0, method: str = "GET", path: str = "/api/me") -> None:
        """A request as a page's script sends it."""
        url = self._site.replicas[replica].url + path
        fields = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}
        async with self.http.request(method, url, headers=fields) as answer:
            assert answer.status == 200, (path, answer.status, await answer.text())


async def counted(
    redis: Client, measured: Measured, name: str, work: Callable[[], Awaitable[object]], by: int
) -> None:
    """Does something, and notes what Redis was asked `by` times, besides what it is in idleness."""
    before, began = commands(redis), time.monotonic()
    await work()
    await asyncio.sleep(SETTLE)
    seconds = time.monotonic() - began
    done = commands(redis) - before
    per = {
        command: (count - measured.idle.get(command, 0.0) * seconds) / by
        for command, count in done.items()
    }
    measured.operations[name] = {one: value for one, value in per.items() if value >= 0.05}


def commands(redis: Client) -> Counter[str]:
    """How often each command was carried out, those within scripts included."""
    stats: Any = redis.info("commandstats")
    found = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    return Counter({name: count for name, count in found.items() if name not in APART})


def all_keys(redis: Client) -> list[bytes]:
    """The keys of entries; that of the messages has no kind."""
    found: Any = redis.keys("sidecar:[a-z]*")
    return list(found)


def weigh(redis: Client, measured: Measured, when: str, before: frozenset[bytes]) -> None:
    """Notes each kind of key behind an operation: how many, and what many copies of one take.

    Keys that were there `before` are of others.
    """
    kinds: dict[str, list[bytes]] = {}
    for key in set(all_keys(redis)) - before:
        kinds.setdefault(key.decode().split(":")[1], []).append(key)
    for kind, keys in sorted(kinds.items()):
        if len(keys) < SESSIONS / 2:
            continue  # the processes' own
        values: Any = redis.mget(keys)
        there = [pair for pair in zip(values, keys, strict=True) if pair[0] is not None]
        value, typical = sorted(there, key=lambda pair: len(pair[0]))[len(there) // 2]
        taken = copied(redis, typical, value)
        lives: Any = max(redis.pttl(key) for _, key in there)
        measured.keys[when, kind] = (len(keys) / SESSIONS, len(value), taken, lives / 1000)


def copied(redis: Client, key: bytes, value: bytes) -> float:
    """The bytes that each of many such keys takes in a server that holds nothing else."""
    memory: Any = redis.info("memory")
    before = memory["used_memory"]
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(COPIES):
            pipeline.set(key[:-8] + b"%08d" % number, value, px=86_400_000)
            if number % 1000 == 999:
                pipeline.execute()
    memory = redis.info("memory")
    taken = (memory["used_memory"] - before) / COPIES
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(COPIES):
            pipeline.delete(key[:-8] + b"%08d" % number)
        pipeline.execute()
    return float(taken)


@asynccontextmanager
async def crowd(site: Site, first: int) -> AsyncIterator[list[Browser]]:
    """As many browsers as there are sessions, each of another user, from the `first` one on."""
    browsers = [Browser(site, user) for user in USERS[first : first + SESSIONS]]
    try:
        yield browsers
    finally:
        for browser in browsers:
            await browser.http.close()


async def played(
    site: Site, redis: Client, measured: Measured, begin: Callable[[Browser], Awaitable[object]]
) -> None:
    """Logins, requests, renewals and logouts, of sessions that `begin` begins."""

    async def each(browsers: list[Browser], work: Callable[[Browser], Awaitable[object]]) -> None:
        for browser in browsers:
            await work(browser)

    async with crowd(site, 0) as them:

        async def many() -> None:
            for _ in range(REQUESTS):
                await each(them, Browser.ask)

        await tell(site, access_token_lifetime=3600)
        await counted(redis, measured, "login", lambda: each(them, begin), SESSIONS)
        await counted(redis, measured, "first request", lambda: each(them, Browser.ask), SESSIONS)
        await counted(redis, measured, "request", many, SESSIONS * REQUESTS)
        other = "first request at another replica"
        await counted(redis, measured, other, lambda: each(them, lambda one: one.ask(1)), SESSIONS)
    before = frozenset(all_keys(redis))
    async with crowd(site, SESSIONS) as them:
        await tell(site, access_token_lifetime=LIFETIME)
        await each(them, begin)
        await asyncio.sleep(SETTLE)
        weigh(redis, measured, "login", before)
        await asyncio.sleep(LIFETIME / 2)
        await tell(site, access_token_lifetime=3600)
        await counted(redis, measured, "renewal", lambda: each(them, Browser.ask), SESSIONS)
        weigh(redis, measured, "renewal", before)
        ends = lambda one: one.ask(0, "POST", "/api/logout")  # noqa: E731
        await counted(redis, measured, "logout", lambda: each(them, ends), SESSIONS)
        weigh(redis, measured, "logout", before)


async def own_login(site: Site, measured: Measured) -> None:
    """Sessions of the sidecar's own, which stand in the store."""
    with Client(port=site.redis.port) as redis:
        await at_rest(redis, measured)
        await played(site, redis, measured, Browser.log_in)


async def plain_cookies(site: Site, measured: Measured) -> None:
    """Sessions in the application's cookies: only deaths and renewals stand in the store."""

    async def begin(browser: Browser) -> None:
        tokens = await tokens_of(site, browser.http, f"{site.origin}/auth/callback")
        jar = {name: tokens[name] for name in ("access_token", "refresh_token")}
        measured.bytes_of_tokens = sum(map(len, jar.values()))
        browser.http.cookie_jar.update_cookies(jar, URL(site.origin))

    with Client(port=site.redis.port) as redis:
        await at_rest(redis, measured)
        await played(site, redis, measured, begin)


async def tokens_of(site: Site, http: aiohttp.ClientSession, callback: str) -> dict[str, str]:
    """The code flow of a user, as an application does it for itself."""
    verifier = "v" * 43
    asked = {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": callback,
        "scope": "openid offline_access",
        "prompt": "consent",
        "code_challenge": "7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM",
        "code_challenge_method": "S256",
    }
    url = f"{site.idp.issuer}/authorize"
    async with http.get(url, params=asked, allow_redirects=False) as answer:
        code = answer.headers["Location"].partition("code=")[2].partition("&")[0]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    basic = {"Authorization": aiohttp.encode_basic_auth("app", "rehearsal-only")}
    async with http.post(
        f"{site.idp.issuer}/token", data={**form, "redirect_uri": callback}, headers=basic
    ) as answer:
        made = await answer.json()
        assert answer.status == 200, made
        return dict(made)


async def tell(site: Site, **changes: object) -> None:
    """Turns switches of the provider, which signs everybody in without asking."""
    async with aiohttp.ClientSession() as http:
        switches = {"sign_in_as": "user000", **changes}
        async with http.post(f"{site.idp.issuer}/_rehearsal", json=switches) as answer:
            assert answer.status == 200, await answer.text()


async def at_rest(redis: Client, measured: Measured) -> None:
    """Notes what two replicas ask while nobody does anything, each second."""
    await asyncio.sleep(SETTLE)
    before = commands(redis)
    await asyncio.sleep(IDLE)
    done = commands(redis) - before
    measured.idle = {name: count / IDLE for name, count in done.items()}


def printed(measured: Measured) -> None:
    """The tables."""
    print(f"\n### {measured.name}\n\n| for each | commands | which |\n|---|---|---|")
    for name, per in measured.operations.items():
        those = ", ".join(f"{one} {count:.1f}" for one, count in sorted(per.items()))
        print(f"| {name} | {sum(per.values()):.1f} | {those or 'none'} |")
    rest = ", ".join(f"{one} {count / 2:.2f}" for one, count in sorted(measured.idle.items()))
    print(f"| second of a replica at rest | {sum(measured.idle.values()) / 2:.1f} | {rest} |")
    titles = ("behind", "key", "of a session", "bytes of the value", "bytes in Redis", "lives")
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for (when, kind), (count, size, taken, lives) in measured.keys.items():
        print(f"| {when} | `{kind}` | {count:.2f} | {size} | {taken:.0f} | {lives:.0f} s |")
    if measured.bytes_of_tokens:
        print(f"\nTokens: {measured.bytes_of_tokens} bytes.")


def main() -> int:
    """The exit code: 2 without redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        print("redis-server is not installed", file=sys.stderr)
        return 2
    own = {"oidc": {"keep": "store", "scopes": ["openid", "profile", "offline_access"]}}
    cookie = {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
    plain = {"session": {"sources": [cookie]}, "refresh": {}}
    for name, config, work in (
        ("Own login, `keep: store`", own, own_login),
        ("Sessions in the application's cookies", plain, plain_cookies),
    ):
        measured = Measured(name)
        with tempfile.TemporaryDirectory() as folder, Site(Path(folder), program, config) as site:
            asyncio.run(work(site, measured))
        printed(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
