"""What runs: the policy and everything it holds open, as one snapshot."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.core.brake import Brakes
from sidecar.core.client_assertion import read_private_key
from sidecar.core.config.renewal import ClientAuth, Refresh
from sidecar.core.discovery import OPTIONAL, REQUIRED
from sidecar.core.formats.ended import EndedSessions
from sidecar.core.rate_limit import RateLimit, rate_limits
from sidecar.core.record import replace
from sidecar.core.rejections import Rejections
from sidecar.core.token_response import AnswerPaths
from sidecar.core.view import ViewReader
from sidecar.net.background import Background
from sidecar.net.outbound import Outbound, Way, way_of
from sidecar.net.pool import Pool
from sidecar.net.provider import Provider, ProviderSettings, ProviderUnavailable
from sidecar.net.remote_keys import KeyFetcher
from sidecar.net.store import Store, open_store
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.watch import StoreWatch
from sidecar.observation.recorder import Recorder
from sidecar.observation.status_model import SessionEvent
from sidecar.observation.warning_log import WarningLog
from sidecar.sessions.broadcast import Broadcast
from sidecar.sessions.coordinator import SessionCoordinator
from sidecar.sessions.directory import SessionDirectory
from sidecar.sessions.gates import close_refused
from sidecar.sessions.large_cookies import LargeCookies
from sidecar.sessions.local import LocalSessions, local_sessions
from sidecar.sessions.login_views import LoginViews
from sidecar.sessions.logins import Logins
from sidecar.sessions.logout_tasks import LogoutTasks
from sidecar.sessions.openings import Openings
from sidecar.sessions.refresh_grants import HttpGrant, OAuth2Grant, RefreshEndpoint
from sidecar.sessions.refresher import Refresher, RefreshTimes
from sidecar.sessions.revocations import Revocations
from sidecar.sessions.rotating import RotatingStore
from sidecar.sessions.seen_cookies import SeenCookies
from sidecar.sessions.session_records import SessionRecords
from sidecar.sessions.set_cookies import SetCookies
from sidecar.sessions.shared import SharedSessions, drop_stored, open_shared
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.termination import SessionTermination
from sidecar.spans import require_opentelemetry
from sidecar.tls import client_context, show_certificate

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config import Config
    from sidecar.core.oidc.relying_party import OidcClient
    from sidecar.core.view import OpenedSession
    from sidecar.metrics import Metrics
    from sidecar.policy import LoginPolicy, Policy
    from sidecar.sessions.refresh_grants import RefreshGrant
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


class _Ports(msgspec.Struct, frozen=True):
    """The policy, what is open towards others, and what all parts are given."""

    policy: Policy
    metrics: Metrics
    recorder: Recorder
    log: FilteringBoundLogger
    clock: Clock
    background: Background
    store: Store
    outbox: Outbox
    watch: StoreWatch
    outbound: Outbound
    to_hooks: Outbound
    provider: Provider | None
    ended: EndedSessions


class _Sessions(msgspec.Struct, frozen=True):
    """What knows sessions: here, in the store, and together with other processes."""

    openings: Openings
    local: LocalSessions
    records: SessionRecords
    refresher: Refresher | None
    stored: StoredLogins | None
    shared: SharedSessions | None

    @property
    def broadcast(self) -> Broadcast | None:
        """What is sent to the other processes on the store, if there are any."""
        return None if self.shared is None else self.shared.broadcast


def open_runtime(
    policy: Policy,
    loop: asyncio.AbstractEventLoop,
    metrics: Metrics,
    log: FilteringBoundLogger,
    before: Runtime | None = None,
    *,
    warnings: WarningLog | None = None,
) -> Runtime:
    """Opens what the policy needs; connections to upstreams are made on demand.

    `warnings` are what the log remembers.

    `before` served until now: what this process alone remembers goes on.
    """
    if policy.config.tracing.endpoint is not None:
        require_opentelemetry(policy.config.tracing.endpoint)  # first: it opens nothing
    metrics.begin(policy)
    recorder = Recorder(metrics, time.time(), warnings) if before is None else before.recorder
    ports = _open_ports(policy, loop, recorder, log, before)
    sessions = _open_sessions(ports, before)
    local = sessions.local
    logout_tasks = _logout_tasks(ports, local, sessions.refresher)
    return Runtime(
        policy=policy,
        loop=loop,
        directory=local.directory,
        revocations=local.revocations,
        set_cookies=local.set_cookies,
        openings=sessions.openings,
        seen=SeenCookies(policy.sweep.by_base, None if before is None else before.seen),
        large=LargeCookies(log),
        coordinator=_coordinator(ports, sessions, logout_tasks),
        refresher=sessions.refresher,
        shared=sessions.shared,
        store=ports.store,
        outbox=ports.outbox,
        watch=ports.watch,
        pools=_pools(ports, loop),
        metrics=metrics,
        recorder=recorder,
        log=log,
        clock=ports.clock,
        ids=Ids(),
        background=ports.background,
        outbounds=(ports.outbound, ports.to_hooks),
        provider=ports.provider,
        logout_tasks=logout_tasks,
        rejections=Rejections(),
        brakes=_brakes(policy, before),
        limits=_rate_limits(policy, before),
        termination=_termination(ports, sessions),
        login=_login_parts(ports, sessions.stored),
        tracer=_open_tracer(policy.config, log),
        keys=_keys(ports, local),
    )


def _open_tracer(config: Config, log: FilteringBoundLogger) -> Tracer | None:
    written = config.tracing
    if written.endpoint is None:
        return None
    from sidecar.tracing import open_tracer, report_to

    return open_tracer(
        written.endpoint, share=written.sample, service=written.service, report=report_to(log)
    )


def _brakes(policy: Policy, before: Runtime | None) -> Brakes:
    """The brakes on storms of 401; those of before, if nothing has changed for them."""
    rule = policy.unauthorized.brake
    return before.brakes if before is not None and before.brakes.rule == rule else Brakes(rule)


def _rate_limits(policy: Policy, before: Runtime | None) -> Mapping[str, RateLimit]:
    """What one client address may do (`limits.per_client`)."""
    written = policy.config.limits.per_client
    rates = {
        "login": written.login,
        "callback": written.login,
        "logout": written.logout,
        "refresh": written.refresh,
    }
    return rate_limits(rates, {} if before is None else before.limits)


def _open_ports(
    policy: Policy,
    loop: asyncio.AbstractEventLoop,
    recorder: Recorder,
    log: FilteringBoundLogger,
    before: Runtime | None,
) -> _Ports:
    metrics, config, report = recorder.metrics, policy.config, partial(_report, log, "store")
    way = way_of(config.outbound.proxy, config.outbound.ca)  # first: it may fail, and opens nothing
    is_shared = config.store.url.is_shared
    if before is not None and not (is_shared or before.policy.config.store.url.is_shared):
        store = before.store
    else:
        store = open_store(config.store.url, policy.secrets, report, counts=metrics.store)
    background = Background(loop, log)
    return _Ports(
        policy=policy,
        metrics=metrics,
        recorder=recorder,
        log=log,
        clock=Clock(),
        background=background,
        store=store,
        outbox=Outbox(background.run),
        watch=StoreWatch(store, report, metrics.store),
        outbound=Outbound(way),
        to_hooks=Outbound(way),  # apart, so that neither starves the other
        provider=open_provider(config, partial(_report, log, "provider"), way),
        ended=EndedSessions() if before is None or before.login is None else before.login.ended,
    )


def _refresher(ports: _Ports) -> Refresher | None:
    policy, config = ports.policy, ports.policy.config
    client = None if policy.login is None else policy.login.client
    grant = _refresh_grant(config, ports.provider, client, ports.outbound, ports.clock.now)
    if grant is None:
        return None
    renewal = config.refresh or Refresh()
    rotating = RotatingStore(ports.store, policy.signer)
    return Refresher(
        grant,
        RefreshTimes(renewal.leeway, renewal.grace),
        rotating,
        hash_of=rotating.name_of,
        now=ports.clock.now,
        outbox=ports.outbox,
        watch=ports.watch if config.store.url.is_shared else None,
        report=partial(_report, ports.log),
        counts=ports.metrics.refreshes,
    )


def _local_sessions(
    ports: _Ports,
    refresher: Refresher | None,
    before: Runtime | None,
) -> tuple[Openings, LocalSessions]:
    policy = ports.policy
    reader = _view_reader(policy, ports.ended)
    types = [one.type for one in policy.sources]
    report = partial(_report, ports.log)
    counts = ports.metrics.sessions
    openings = Openings(
        policy.source_names, types, reader.matchers, report, counts, failed=ports.recorder.example
    )
    local = local_sessions(
        reader,
        policy.signer,
        on_read=openings.note,
        leeway=None if refresher is None else (policy.config.refresh or Refresh()).leeway,
        is_shared=policy.config.store.url.is_shared or refresher is not None,
        before=None if before is None else before.revocations,
    )
    return openings, local


def _shared_sessions(
    ports: _Ports,
    local: LocalSessions,
    records: SessionRecords,
    refresher: Refresher | None,
    stored: StoredLogins | None,
) -> SharedSessions | None:
    """What meets other processes in the store, if there are any."""
    if not ports.policy.config.store.url.is_shared:
        drop_stored(local, stored, ports.outbox)
        return None
    return open_shared(
        local,
        records,
        refresher=refresher,
        stored=stored,
        store=ports.store,
        outbox=ports.outbox,
        watch=ports.watch,
        now=ports.clock.now,
        spawn=ports.background.run,
    )


def _open_sessions(ports: _Ports, before: Runtime | None) -> _Sessions:
    policy, now = ports.policy, ports.clock.now
    refresher = _refresher(ports)
    openings, local = _local_sessions(ports, refresher, before)
    records = SessionRecords(ports.store, now)
    stored = None if policy.login is None else StoredLogins(policy.login, ports.store, now)
    shared = _shared_sessions(ports, local, records, refresher, stored)
    return _Sessions(openings, local, records, refresher, stored, shared)


def _coordinator(
    ports: _Ports, sessions: _Sessions, logout_tasks: LogoutTasks
) -> SessionCoordinator:
    local, now = sessions.local, ports.clock.now
    return SessionCoordinator(
        local,
        sessions.records,
        sessions.refresher,
        _login_views(ports, sessions),
        sessions.broadcast,
        now=now,
        orphaned=logout_tasks.revoke,
        refused=partial(_refresh_refused, ports.metrics, ports.recorder, now),
        renewed=partial(close_refused, ports.policy.routes.gates, local.revocations),
    )


def _pools(ports: _Ports, loop: asyncio.AbstractEventLoop) -> dict[str, Pool]:
    """By the upstream's name; connections are made on demand."""
    return {
        name: Pool(loop, address, partial(_report_server, ports.log, ports.metrics, name))
        for name, address in ports.policy.upstreams.items()
    }


def _keys(ports: _Ports, local: LocalSessions) -> KeyFetcher:
    """Fetches the public keys of signed sessions."""
    return KeyFetcher(
        ports.policy.remote_keys,
        ports.outbound,
        ports.background,
        report=partial(_report, ports.log, "keys of sessions"),
        changed=local.directory.forget_all,
    )


def _login_views(ports: _Ports, sessions: _Sessions) -> LoginViews | None:
    stored, shared = sessions.stored, sessions.shared
    if stored is None:
        return None
    return LoginViews(
        sessions.local,
        stored,
        sessions.refresher,
        outbox=ports.outbox,
        is_doubtful=(lambda: False) if shared is None else shared.feed.is_doubtful,
        now=ports.clock.now,
        spawn=ports.background.run,
    )


def _logout_tasks(ports: _Ports, local: LocalSessions, refresher: Refresher | None) -> LogoutTasks:
    return LogoutTasks(
        ports.provider,
        refresher,
        local,
        ports.store,
        hooks=ports.policy.config.logout.hooks,
        revokes_all=ports.policy.config.refresh is not None,
        outbound=ports.to_hooks,
        spawn=ports.background.run,
        log=ports.log,
        counts=ports.metrics.logout_steps,
    )


def _termination(ports: _Ports, sessions: _Sessions) -> SessionTermination:
    return SessionTermination(
        sessions.local,
        sessions.records,
        sessions.stored,
        sessions.broadcast,
        ended=ports.ended,
        outbox=ports.outbox,
        watch=ports.watch,
        now=ports.clock.now,
    )


def _login_parts(ports: _Ports, stored: StoredLogins | None) -> LoginParts | None:
    login, provider, now = ports.policy.login, ports.provider, ports.clock.now
    if login is None or provider is None or stored is None:
        return None
    rotating = RotatingStore(ports.store, ports.policy.signer)
    logins = Logins(
        login,
        provider,
        stored,
        rotating,
        hash_of=rotating.name_of,
        now=now,
        background=ports.background,
        log=ports.log,
    )
    return LoginParts(login, provider, stored, logins, ports.ended)


def _view_reader(policy: Policy, ended: EndedSessions) -> ViewReader:
    sources, login = policy.sources, None
    if policy.login is not None:
        login = replace(policy.login.source, ended=ended)
        sources = (login, *sources[1:])
    return ViewReader(sources, policy.session_names, policy.hidden_names, login)


def _refresh_refused(
    metrics: Metrics, recorder: Recorder, now: Callable[[], float], session: OpenedSession
) -> None:
    """Counts and remembers a session that ends since its refresh token was refused."""
    metrics.sessions_ended["refresh_refused"] += 1
    event = SessionEvent(
        at=now(),
        kind="ended",
        session=session.fingerprint,
        reason="refresh_refused",
        source=session.reading.source,
    )
    recorder.sessions.add(event, is_proven=session.is_sealed)


_LEVELS: Final = {
    "refresh misconfigured": logging.ERROR,
    "refresh refused": logging.INFO,
    "refreshes resumed": logging.INFO,
}
"""What is reported on another level than warning."""


def _report(log: FilteringBoundLogger, event: str, detail: str) -> None:
    log.log(_LEVELS.get(event, logging.WARNING), event, detail=detail)


def _report_server(
    log: FilteringBoundLogger, metrics: Metrics, upstream: str, address: str | None, why: str | None
) -> None:
    """Logs why a server is left out, or why none takes a connection (`address` is None).

    If there is no reason why, it is used again.
    """
    what = {"upstream": upstream} if address is None else {"upstream": upstream, "address": address}
    if why is None:
        log.info("upstream reachable" if address is None else "server healthy", **what)
        return
    if address is not None:
        metrics.ejections[upstream, address] += 1
    log.warning(
        "upstream unreachable" if address is None else "server unhealthy", **what, detail=why
    )


def open_provider(config: Config, report: Callable[[str], None], way: Way) -> Provider | None:
    """The identity provider that tokens come from, if there is one."""
    refresh, oidc = config.refresh, config.oidc
    if oidc is None and (refresh is None or refresh.type != "oauth2"):
        return None
    given = [section for section in (refresh, oidc) if section is not None]

    def first(name: str) -> Any:
        return next((v for one in given if (v := getattr(one, name, None)) is not None), None)

    secret, key = first("client_secret"), first("key")
    auth: ClientAuth = next((one.auth for one in given if one.auth != "auto"), "auto")
    text = "" if key is None else key.get_secret_value()
    settings = ProviderSettings(
        client_id=first("client_id"),
        issuer=first("issuer"),
        metadata_url=first("metadata_url"),
        client_secret=None if secret is None else secret.get_secret_value(),
        auth=auth,
        key=read_private_key(text) if auth == "private_key_jwt" else None,
        **{name: first(name) for name in (*REQUIRED, *OPTIONAL)},
    )
    if auth == "tls":
        ca = config.outbound.ca
        context = client_context(ca, at="outbound")
        show_certificate(context, first("cert"), text, "oidc" if refresh is None else "refresh")
        way = replace(way, tls=context)
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
