"""Sites: what they consist of, and how people enter them."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from sidecar.core.cookies import with_set_cookies
from sidecar.core.formats import FORMATS
from tests.faults.ledger import Ledger
from tests.faults.provider import TroubledProvider
from tests.faults.sidecars import Running
from tests.faults.upstream import Upstream
from tests.faults.users import Crowd, Person
from tests.faults.wire import connected, request
from tests.life.programs import Redis
from tests.oracle.replicas_play import NAVIGATES
from tests.oracle.replicas_provider import CLIENT
from tests.oracle.replicas_world import fake_clock

SECRET: Final = "a secret of the tests, 32 bytes or more"
COOKIE: Final = "authjs.session-token"
SESSION_SECONDS: Final = 3600
CLAIMS: Final = {"refresh_token": "refreshToken", "expires_at": "expiresAt"}
SOURCE: Final = FORMATS["authjs"](
    secrets=[SECRET],
    token=("accessToken",),
    refresh_token=("refreshToken",),
    expires_at=("expiresAt",),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a site consists of: how many workers each replica has, its store, its sessions."""

    workers: tuple[int, ...]
    store: str
    is_own_login: bool
    has_clock: bool = False
    """Its clock steps, and that is all that happens to it."""
    log_to_file: bool = False


PLANS: Final = MappingProxyType(
    {
        "cookies": Plan((1,), "memory", is_own_login=False),
        "clock": Plan((1,), "memory", is_own_login=False, has_clock=True),
        "sqlite": Plan((2,), "sqlite", is_own_login=False, log_to_file=True),
        "redis": Plan((1, 2), "redis", is_own_login=True),
    }
)


@dataclass
class Site:
    """All that runs."""

    plan: Plan
    directory: Path
    random: random.Random
    upstream: Upstream
    provider: TroubledProvider
    redis: Redis | None
    ledger: Ledger
    sidecars: list[Running] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    away: set[int] = field(default_factory=set)
    """Numbers of replicas that a load balancer does not ask."""
    crowd: Crowd = field(init=False)
    _defects: int = 0

    def __post_init__(self) -> None:
        """People enter by this site."""
        self.crowd = Crowd(self.provider, self.ledger, self.ports, self.enter, self.random)

    @property
    def clock(self) -> Path | None:
        """The file that says how far the sidecars' clock is."""
        has_one = self.plan.has_clock and fake_clock() is not None
        return self.directory / "clock" if has_one else None

    @property
    def log_file(self) -> Path | None:
        """Where the log goes, if into a file."""
        return self.directory / "sidecar.log" if self.plan.log_to_file else None

    def ports(self) -> list[int]:
        """Of the replicas that are asked, in any order."""
        ports = [one.port for number, one in enumerate(self.sidecars) if number not in self.away]
        self.random.shuffle(ports)
        return ports

    def configuration(self, workers: int) -> dict[str, Any]:
        """What a replica is run with."""
        stores = {
            "memory": "memory:",
            "sqlite": f"sqlite:///{self.directory}/store.db",
            "redis": "" if self.redis is None else self.redis.url,
        }
        issuer, log_file = self.provider.issuer, self.log_file
        config: dict[str, Any] = {
            "secret": SECRET,
            "workers": workers,
            "upstreams": {
                "api": {
                    "url": f"http://127.0.0.1:{self.upstream.port}",
                    "connect": "1s",
                    "head": "2s",
                    "idle": "2s",
                    "pool": {"idle": "2s", "max": 64},
                }
            },
            "routes": [{"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"}],
            "session": {
                "sources": [{"type": "authjs", "secret": SECRET, "token": "accessToken", **CLAIMS}]
            },
            "refresh": {"token_endpoint": f"{issuer}/token/0", **CLIENT, "leeway": "1s"},
            "store": {"url": stores[self.plan.store]},
            "limits": {"client_head": "2s", "client_idle": "30s"},
            "drain": {"wait": "500ms", "timeout": "5s"},
            "core_dumps": True,  # its descriptors are looked at
            "log": {"access": True},
        }
        if log_file is not None:
            config["log"]["target"] = f"file://{log_file}"
        if self.plan.is_own_login:
            config["public_url"] = "http://127.0.0.1"
            config["oidc"] = {"issuer": issuer, **CLIENT, "scopes": ["openid", "offline_access"]}
        return config

    @property
    def servers(self) -> list[int]:
        """Ports of those that sidecars connect to."""
        ports = [self.upstream.port, int(self.provider.issuer.rpartition(":")[2])]
        return ports if self.redis is None else [*ports, self.redis.port]

    def forget_renewals(self, why: str) -> None:
        """What was renewed is known to nobody any more, unless the cookie says it."""
        for person in self.people:
            person.family.excuses.append(why)

    def new_defects(self) -> list[str]:
        """What may stand in no log, since the last call."""
        found = [one for sidecar in self.sidecars for one in sidecar.defects()]
        new, self._defects = found[self._defects :], len(found)
        return new

    # -- people -----------------------------------------------------------------------------------

    async def enter(self, name: str) -> Person:
        """Logs somebody in. Raises `Broken`, `OSError` or `LookupError`."""
        return await (self._own_login(name) if self.plan.is_own_login else self._sealed(name))

    async def _sealed(self, name: str) -> Person:
        family, tokens = self.provider.grant(name)
        now = int(time.time())
        claims = {"sub": name, "iat": now, "exp": now + SESSION_SECONDS}
        claims |= {"accessToken": tokens.access, "refreshToken": tokens.refresh}
        claims |= {"expiresAt": int(tokens.expires_at)}
        seal: Callable[[dict[str, Any], str], str] = SOURCE.opener.seal  # type: ignore[attr-defined]
        return Person(name, f"theme=dark; {COOKIE}={seal(claims, COOKIE)}", family)

    async def _own_login(self, name: str) -> Person:
        fields = [f"{key}: {value}" for key, value in NAVIGATES.items() if key != "Host"]
        async with connected(self.ports()[0]) as wire:
            begun = await wire.ask(_navigation("/auth/login?next=/", "", *fields))
            query = parse_qs(urlsplit(begun.fields["location"]).query)
            family, code = self.provider.code(name, query["nonce"][0])
            cookie = with_set_cookies("theme=dark", begun.cookies, time.time())
            answer = urlencode({"code": code, "state": query["state"][0]})
            done = await wire.ask(_navigation(f"/auth/callback?{answer}", cookie, *fields))
            if done.status not in (302, 303) or not done.cookies:
                raise LookupError(f"the login ended with {done.status}")
        return Person(name, with_set_cookies(cookie, done.cookies, time.time()), family)


def _navigation(target: str, cookie: str, *fields: str) -> bytes:
    data = request("GET", target, cookie, *fields)
    return data.replace(b"Sec-Fetch-Site: same-origin\r\n", b"")


@asynccontextmanager
async def running(name: str, directory: Path, seed: int) -> AsyncIterator[Site]:
    """A site of that name, until the context is left."""
    plan, directory = PLANS[name], directory / name
    directory.mkdir()
    redis = None
    if plan.store == "redis":
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is missing"
        redis = Redis(program, directory, lasting=True)
    provider = TroubledProvider(forgives=plan.store == "memory")
    upstream = Upstream(str(directory))
    chance = random.Random(f"{seed} {name}")
    site = Site(plan, directory, chance, upstream, provider, redis, Ledger())
    if site.clock is not None:
        site.clock.write_text("+0s\n")
    try:
        await provider.open()
        for one_program in [upstream] if redis is None else [upstream, redis]:
            one_program.start()
            await asyncio.to_thread(one_program.wait)
        for workers in plan.workers:
            config = site.configuration(workers)
            one = Running(config, directory, clock=site.clock, log_file=site.log_file)
            site.sidecars.append(one)
            await one.begin()
        yield site
    finally:
        for one in site.sidecars:
            one.kill()
            one.said.close()
        upstream.kill()
        if redis is not None:
            redis.kill()
        await provider.close()
