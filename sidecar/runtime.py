"""What runs: the policy and everything it holds open, as one snapshot."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sidecar.core.config.renewal import Refresh
from sidecar.core.discovery import OPTIONAL, REQUIRED
from sidecar.core.formats.ended import EndedSessions
from sidecar.core.rejections import Rejections
from sidecar.core.token_response import AnswerPaths
from sidecar.core.view import ViewReader
from sidecar.net.background import Background
from sidecar.net.outbound import Outbound, Way, way_of
from sidecar.net.pool import Pool
from sidecar.net.provider import Provider, ProviderSettings, ProviderUnavailable
from sidecar.net.store import Store, open_store
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.sessions.coordinator import SessionCoordinator
from sidecar.sessions.directory import SessionDirectory
from sidecar.sessions.large_cookies import LargeCookies
from sidecar.sessions.local import local_sessions
from sidecar.sessions.login_views import LoginViews
from sidecar.sessions.logins import Logins
from sidecar.sessions.logout_tasks import LogoutTasks
from sidecar.sessions.openings import Openings
from sidecar.sessions.refresh_grants import HttpGrant, OAuth2Grant, RefreshEndpoint
from sidecar.sessions.refresher import Refresher, RefreshTimes
from sidecar.sessions.revocations import Revocations
from sidecar.sessions.seen_cookies import SeenCookies
from sidecar.sessions.session_records import SessionRecords
from sidecar.sessions.set_cookies import SetCookies
from sidecar.sessions.shared import SharedSessions, drop_stored, open_shared
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.termination import SessionTermination

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config import Config
    from sidecar.core.oidc import OidcClient
    from sidecar.metrics import Metrics
    from sidecar.policy import LoginPolicy, Policy
    from sidecar.sessions.refresh_grants import RefreshGrant


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


@dataclass(frozen=True, slots=True)
class LoginParts:
    """The sidecar's own login and what it holds open."""

    policy: LoginPolicy
    provider: Provider
    sessions: StoredLogins
    logins: Logins
    termination: SessionTermination
    ended: EndedSessions

    async def warm_up(self) -> None:
        """Has the provider's metadata fetched: a logout goes there without waiting for them."""
        with suppress(ProviderUnavailable):  # reported, and asked for again when they are needed
            await self.provider.metadata()


@dataclass(frozen=True, slots=True)
class Runtime:
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
    log: FilteringBoundLogger
    clock: Clock
    ids: Ids
    background: Background
    outbounds: tuple[Outbound, ...]
    provider: Provider | None
    logout_tasks: LogoutTasks
    rejections: Rejections
    login: LoginParts | None

    async def start(self) -> None:
        """Listens to what other processes on the same store tell."""
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
            pool.close()
        if not keeps_store:
            await self.store.close()
        for outbound in self.outbounds:
            await outbound.close()
        if self.provider is not None:
            await self.provider.close()


def open_runtime(
    policy: Policy,
    loop: asyncio.AbstractEventLoop,
    metrics: Metrics,
    log: FilteringBoundLogger,
    before: Runtime | None = None,
) -> Runtime:
    """Opens what the policy needs; connections to upstreams are made on demand.

    `before` served until now: what this process alone remembers goes on.
    """
    clock = Clock()
    background = Background(loop, log)
    config = policy.config
    is_shared = config.store.url.is_shared
    report = partial(_report, log, "store")
    if before is not None and not (is_shared or before.policy.config.store.url.is_shared):
        store = before.store
    else:
        store = open_store(config.store.url, policy.secrets, report)
    outbox = Outbox(background.run)
    watch = StoreWatch(store, partial(_report, log, "store"))
    way = way_of(config.outbound.proxy, config.outbound.ca)
    outbound, to_hooks = Outbound(way), Outbound(way)  # apart, so that neither starves the other
    provider = open_provider(config, partial(_report, log, "provider"), way)
    client = None if policy.login is None else policy.login.client
    grant = _refresh_grant(config, provider, client, outbound, clock.now)
    renewal = config.refresh or Refresh()
    stored = None if policy.login is None else StoredLogins(policy.login, store, clock.now)
    ended = EndedSessions() if before is None or before.login is None else before.login.ended
    reader = _view_reader(policy, ended)
    types = [one.type for one in policy.sources]
    openings = Openings(policy.source_names, types, reader.matchers, partial(_report, log))
    local = local_sessions(
        reader,
        policy.signer,
        on_read=openings.note,
        leeway=None if grant is None else renewal.leeway,
        is_shared=is_shared or grant is not None,
        before=None if before is None else before.revocations,
    )
    refresher = None
    if grant is not None:
        refresher = Refresher(
            grant,
            RefreshTimes(renewal.leeway, renewal.grace),
            store,
            hash_of=policy.signer.fingerprint,
            now=clock.now,
            outbox=outbox,
            watch=watch if is_shared else None,
            report=partial(_report, log),
        )
    records = SessionRecords(store, clock.now)
    shared = None
    if is_shared:
        shared = open_shared(
            local,
            records,
            refresher=refresher,
            stored=stored,
            store=store,
            outbox=outbox,
            watch=watch,
            now=clock.now,
            spawn=background.run,
        )
    else:
        drop_stored(local, stored, outbox)
    logins = None
    if stored is not None:
        logins = LoginViews(
            local,
            stored,
            refresher,
            outbox=outbox,
            is_doubtful=(lambda: False) if shared is None else shared.feed.is_doubtful,
            now=clock.now,
            spawn=background.run,
        )
    broadcast = None if shared is None else shared.broadcast
    logout_tasks = LogoutTasks(
        provider,
        refresher,
        local,
        store,
        hooks=config.logout.hooks,
        revokes_all=config.refresh is not None,
        outbound=to_hooks,
        spawn=background.run,
        log=log,
    )
    coordinator = SessionCoordinator(
        local,
        records,
        refresher,
        logins,
        broadcast,
        now=clock.now,
        orphaned=logout_tasks.revoke,
    )
    login_parts = None
    if policy.login is not None and provider is not None and stored is not None:
        login_parts = LoginParts(
            policy.login,
            provider,
            stored,
            Logins(
                policy.login,
                provider,
                stored,
                store,
                hash_of=policy.signer.fingerprint,
                now=clock.now,
                background=background,
                log=log,
            ),
            SessionTermination(
                local, records, stored, broadcast, outbox=outbox, watch=watch, now=clock.now
            ),
            ended,
        )
    return Runtime(
        policy=policy,
        loop=loop,
        directory=local.directory,
        revocations=local.revocations,
        set_cookies=local.set_cookies,
        openings=openings,
        seen=SeenCookies(policy.sweep.by_base),
        large=LargeCookies(log),
        coordinator=coordinator,
        refresher=refresher,
        shared=shared,
        store=store,
        outbox=outbox,
        watch=watch,
        pools={name: Pool(loop, address) for name, address in policy.upstreams.items()},
        metrics=metrics,
        log=log,
        clock=clock,
        ids=Ids(),
        background=background,
        outbounds=(outbound, to_hooks),
        provider=provider,
        logout_tasks=logout_tasks,
        rejections=Rejections(),
        login=login_parts,
    )


def _view_reader(policy: Policy, ended: EndedSessions) -> ViewReader:
    sources, login = policy.sources, None
    if policy.login is not None:
        login = replace(policy.login.source, ended=ended)
        sources = (login, *sources[1:])
    return ViewReader(sources, policy.session_names, policy.hidden_names, login)


_LEVELS: Final = {
    "refresh misconfigured": logging.ERROR,
    "refresh refused": logging.INFO,
    "refreshes resumed": logging.INFO,
}
"""What is reported on another level than warning."""


def _report(log: FilteringBoundLogger, event: str, detail: str) -> None:
    log.log(_LEVELS.get(event, logging.WARNING), event, detail=detail)


def open_provider(config: Config, report: Callable[[str], None], way: Way) -> Provider | None:
    """The identity provider that tokens come from, if there is one."""
    refresh, oidc = config.refresh, config.oidc
    if oidc is None and (refresh is None or refresh.type != "oauth2"):
        return None
    given = [section for section in (refresh, oidc) if section is not None]

    def first(name: str) -> Any:
        return next((v for one in given if (v := getattr(one, name, None)) is not None), None)

    secret = first("client_secret")
    settings = ProviderSettings(
        client_id=first("client_id"),
        issuer=first("issuer"),
        metadata_url=first("metadata_url"),
        client_secret=None if secret is None else secret.get_secret_value(),
        auth=next((one.auth for one in given if one.auth != "auto"), "auto"),
        **{name: first(name) for name in (*REQUIRED, *OPTIONAL)},
    )
    return Provider(settings, report, way)


def _refresh_grant(
    config: Config,
    provider: Provider | None,
    client: OidcClient | None,
    outbound: Outbound,
    now: Callable[[], float],
) -> RefreshGrant | None:
    """How tokens are renewed, if they are."""
    refresh = config.refresh
    if refresh is not None and refresh.type == "http":
        assert refresh.request is not None
        request, response = refresh.request, refresh.response
        paths = AnswerPaths(response.access_token, response.refresh_token, response.expires_in)
        endpoint = RefreshEndpoint(
            request.method, request.url, request.headers, request.body, paths
        )
        return HttpGrant(endpoint, outbound, now)
    if provider is None:
        return None
    scope = refresh.scope if refresh is not None else None
    return OAuth2Grant(provider, scope, now, client)
