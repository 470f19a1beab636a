"""What knows sessions, and what becomes of them: joined to what is open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sidecar.assembly.open_ports import Ports, write_report
from sidecar.assembly.open_provider import refresh_grant
from sidecar.core.config.renewal import Refresh
from sidecar.core.errors import StoreUnavailable
from sidecar.core.formats.ended import EndedNames, EndedSessions
from sidecar.core.record import replace
from sidecar.core.view import ViewReader
from sidecar.net.remote_keys import KeyFetcher
from sidecar.observation.recorder import Recorder
from sidecar.observation.status_model import SessionEvent
from sidecar.runtime import LoginParts, Runtime
from sidecar.sessions.broadcast import Broadcast
from sidecar.sessions.coordinator import SessionCoordinator
from sidecar.sessions.gates import close_refused
from sidecar.sessions.local import LocalSessions, local_sessions
from sidecar.sessions.login_views import LoginViews
from sidecar.sessions.logins import Logins
from sidecar.sessions.logout_tasks import LogoutTasks
from sidecar.sessions.openings import Openings
from sidecar.sessions.refresher import Refresher, RefreshTimes
from sidecar.sessions.rotating import RotatingStore
from sidecar.sessions.session_records import SessionRecords
from sidecar.sessions.shared import SharedSessions, drop_stored, open_shared
from sidecar.sessions.stored import StoredLogins
from sidecar.sessions.termination import SessionTermination

if TYPE_CHECKING:
    from sidecar.core.view import OpenedSession
    from sidecar.metrics import Metrics
    from sidecar.policy import Policy


class OpenSessions(msgspec.Struct, frozen=True):
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


def open_sessions(ports: Ports, before: Runtime | None) -> OpenSessions:
    """What knows sessions; what `before` knew of those that have ended goes on."""
    policy, now = ports.policy, ports.clock.now
    refresher = _refresher(ports)
    openings, local = _local_sessions(ports, refresher, before)
    records = SessionRecords(ports.store, now)
    stored = None if policy.login is None else StoredLogins(policy.login, ports.store, now)
    shared = _shared_sessions(ports, local, records, refresher, stored)
    return OpenSessions(openings, local, records, refresher, stored, shared)


def _refresher(ports: Ports) -> Refresher | None:
    policy, config = ports.policy, ports.policy.config
    client = None if policy.login is None else policy.login.client
    grant = refresh_grant(config, ports.provider, client, ports.outbound, ports.clock.now)
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
        report=partial(write_report, ports.log),
        counts=ports.metrics.refreshes,
    )


def _local_sessions(
    ports: Ports,
    refresher: Refresher | None,
    before: Runtime | None,
) -> tuple[Openings, LocalSessions]:
    policy = ports.policy
    reader = _view_reader(policy, ports.ended)
    types = [one.type for one in policy.sources]
    report = partial(write_report, ports.log)
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


def _view_reader(policy: Policy, ended: EndedSessions) -> ViewReader:
    sources, login = policy.sources, None
    if policy.login is not None:
        login = replace(policy.login.source, ended=ended)
        sources = (login, *sources[1:])
    return ViewReader(sources, policy.session_names, policy.hidden_names, login)


def _shared_sessions(
    ports: Ports,
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


def open_coordinator(
    ports: Ports, sessions: OpenSessions, logout_tasks: LogoutTasks
) -> SessionCoordinator:
    """What is asked when something must be waited for: the store, a renewal."""
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


def _login_views(ports: Ports, sessions: OpenSessions) -> LoginViews | None:
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


def _refresh_refused(
    metrics: Metrics, recorder: Recorder, now: Callable[[], float], session: OpenedSession
) -> None:
    """Counts and remembers a session that ends since its refresh token was refused."""
    is_proven = session.is_sealed
    _count_ended(metrics, recorder, now(), session, "refresh_refused", is_proven=is_proven)


def _count_ended(
    metrics: Metrics,
    recorder: Recorder,
    now: float,
    session: OpenedSession,
    reason: str,
    *,
    is_proven: bool,
) -> None:
    """Counts and remembers a session that no request has ended here."""
    metrics.sessions_ended[reason] += 1
    event = SessionEvent(
        at=now,
        kind="ended",
        session=session.fingerprint,
        reason=reason,
        source=session.reading.source,
    )
    recorder.sessions.add(event, is_proven=is_proven)


def open_logout_tasks(
    ports: Ports, local: LocalSessions, refresher: Refresher | None
) -> LogoutTasks:
    """What is still done when a session has ended: revocation, hooks."""
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


def open_termination(ports: Ports, sessions: OpenSessions) -> SessionTermination:
    """What ends sessions."""
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


def take_part_in_ends(
    ports: Ports, sessions: OpenSessions, termination: SessionTermination, tasks: LogoutTasks
) -> None:
    """Has login sessions end that this process alone knows, if another one ends them by name."""
    if sessions.shared is None or ports.policy.login is None:
        return

    def note(reason: str, session: OpenedSession) -> None:
        now = ports.clock.now()
        _count_ended(ports.metrics, ports.recorder, now, session, reason, is_proven=True)
        tasks.begin(session, reason)

    async def end(names: EndedNames) -> None:
        with suppress(StoreUnavailable):  # in this process they have ended even then
            await termination.end_told(names, partial(note, names.reason))

    sessions.shared.feed.ended = lambda names: ports.background.run(end(names))


def open_login_parts(ports: Ports, stored: StoredLogins | None) -> LoginParts | None:
    """The sidecar's own login, if there is one."""
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


def open_keys(ports: Ports, local: LocalSessions) -> KeyFetcher:
    """Fetches the public keys of signed sessions."""
    return KeyFetcher(
        ports.policy.remote_keys,
        ports.outbound,
        ports.background,
        report=partial(write_report, ports.log, "keys of sessions"),
        changed=local.directory.forget_all,
    )
