"""What runs: the policy and everything it holds open, as one snapshot."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.core.brake import Brakes
from sidecar.core.formats.ended import EndedSessions
from sidecar.core.rate_limit import RateLimit
from sidecar.core.rejections import Rejections
from sidecar.net.background import Background
from sidecar.net.outbound import Outbound
from sidecar.net.pool import Pool
from sidecar.net.provider import Provider, ProviderUnavailable
from sidecar.net.remote_keys import KeyFetcher
from sidecar.net.store import Store
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.observation.recorder import Recorder
from sidecar.sessions.coordinator import SessionCoordinator
from sidecar.sessions.directory import SessionDirectory
from sidecar.sessions.large_cookies import LargeCookies
from sidecar.sessions.logins import Logins
from sidecar.sessions.logout_tasks import LogoutTasks
from sidecar.sessions.openings import Openings
from sidecar.sessions.refresher import Refresher
from sidecar.sessions.revocations import Revocations
from sidecar.sessions.seen_cookies import SeenCookies
from sidecar.sessions.set_cookies import SetCookies
from sidecar.sessions.shared import SharedSessions
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.termination import SessionTermination

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.metrics import Metrics
    from sidecar.policy import LoginPolicy, Policy
    from sidecar.tracing import Tracer

FINISH_SECONDS: Final = 12.0  # longer than an exchange may take, with its writing


class Clock:
    """Wall-clock time, and the Date header rendered once a second."""

    __slots__ = ("_date", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._date = b""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def date(self, now: float) -> bytes:
        """The Date field value (RFC 9110 6.6.1) at `now`."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
        return self._date


class Ids:
    """Request ids: unique by a random prefix per process and a counter."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex().encode()
        self._count = 0

    def fresh(self) -> bytes:
        """A new request id."""
        self._count += 1
        return b"%b%08x" % (self._prefix, self._count)


class LoginParts(msgspec.Struct, frozen=True):
    """The sidecar's own login and what it holds open."""

    policy: LoginPolicy
    provider: Provider
    sessions: StoredLogins
    logins: Logins
    ended: EndedSessions

    async def warm_up(self) -> None:
        """Has the provider's metadata fetched: a logout goes there without waiting for them."""
        with suppress(ProviderUnavailable):  # reported, and asked for again when they are needed
            await self.provider.metadata()


class Runtime(msgspec.Struct, frozen=True):
    """The policy, its open ports and its memory."""

    policy: Policy
    loop: asyncio.AbstractEventLoop
    directory: SessionDirectory
    revocations: Revocations
    set_cookies: SetCookies
    openings: Openings
    seen: SeenCookies
    large: LargeCookies
    coordinator: SessionCoordinator
    refresher: Refresher | None
    shared: SharedSessions | None
    store: Store
    outbox: Outbox
    watch: StoreWatch
    pools: dict[str, Pool]
    metrics: Metrics
    recorder: Recorder
    log: FilteringBoundLogger
    clock: Clock
    ids: Ids
    background: Background
    outbounds: tuple[Outbound, ...]
    provider: Provider | None
    logout_tasks: LogoutTasks
    rejections: Rejections
    brakes: Brakes
    termination: SessionTermination
    limits: Mapping[str, RateLimit]
    login: LoginParts | None
    tracer: Tracer | None
    keys: KeyFetcher

    async def start(self) -> None:
        """Listens to other processes on the same store, checks upstreams, fetches public keys."""
        for pool in self.pools.values():
            pool.start()
        await self.keys.start()
        if self.shared is not None:
            await self.shared.feed.start()
        if self.login is not None:
            self.background.run(self.login.warm_up())

    async def finish(self, seconds: float) -> None:
        """Waits for what must not be cut short, at most so long.

        A token that was sent is spent, whoever has left; and what the store has not taken yet,
        nobody else knows.
        """
        until = self.loop.time() + min(seconds, FINISH_SECONDS)
        if self.refresher is not None:
            await self.refresher.finish(until - self.loop.time())
        await self.outbox.flush(max(0.0, until - self.loop.time()))

    async def close(self, *, keeps_store: bool = False) -> None:
        """Lets go of everything; what is under way in the background gets a moment to end.

        `keeps_store`: another one goes on with it.
        """
        if self.shared is not None:
            self.shared.feed.stop()
        await self.background.close()
        await self.watch.close()
        for pool in self.pools.values():
            await pool.close()
        if not keeps_store:
            await self.store.close()
        for outbound in self.outbounds:
            await outbound.close()
        if self.provider is not None:
            await self.provider.close()
        if self.tracer is not None:
            await self.tracer.close()
        self.directory.forget_all()  # all of this waits for the garbage collector: leave it little
