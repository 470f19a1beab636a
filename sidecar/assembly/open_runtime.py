"""A policy becomes what runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sidecar.assembly.open_ports import open_pools, open_ports
from sidecar.assembly.open_sessions import (
    open_coordinator,
    open_keys,
    open_login_parts,
    open_logout_tasks,
    open_sessions,
    open_termination,
    take_part_in_ends,
)
from sidecar.core.brake import Brakes
from sidecar.core.rate_limit import RateLimit, rate_limits
from sidecar.core.rejections import Rejections
from sidecar.net.store.wakeup import Wakeup
from sidecar.observation.recorder import Recorder
from sidecar.observation.warning_log import WarningLog
from sidecar.runtime import Ids, Runtime
from sidecar.sessions.large_cookies import LargeCookies
from sidecar.sessions.seen_cookies import SeenCookies
from sidecar.spans import require_opentelemetry

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.config import Config
    from sidecar.metrics import Metrics
    from sidecar.policy import Policy
    from sidecar.tracing import Tracer


def open_runtime(
    policy: Policy,
    loop: asyncio.AbstractEventLoop,
    metrics: Metrics,
    log: FilteringBoundLogger,
    before: Runtime | None = None,
    *,
    warnings: WarningLog | None = None,
    wakeup: Wakeup | None = None,
) -> Runtime:
    """Opens what the policy needs; connections to upstreams are made on demand.

    `warnings` are what the log remembers; `wakeup` reaches the other workers.

    `before` served until now: what this process alone remembers goes on.
    """
    if policy.config.tracing.endpoint is not None:
        require_opentelemetry(policy.config.tracing.endpoint)  # first: it opens nothing
    metrics.begin(policy)
    recorder = Recorder(metrics, time.time(), warnings) if before is None else before.recorder
    ports = open_ports(policy, loop, recorder, log, before, wakeup=wakeup)
    sessions = open_sessions(ports, before)
    local = sessions.local
    logout_tasks = open_logout_tasks(ports, local, sessions.refresher)
    termination = open_termination(ports, sessions)
    take_part_in_ends(ports, sessions, termination, logout_tasks)
    return Runtime(
        policy=policy,
        loop=loop,
        directory=local.directory,
        revocations=local.revocations,
        set_cookies=local.set_cookies,
        openings=sessions.openings,
        seen=SeenCookies(policy.sweep.by_base, None if before is None else before.seen),
        large=LargeCookies(log),
        coordinator=open_coordinator(ports, sessions, logout_tasks),
        refresher=sessions.refresher,
        shared=sessions.shared,
        store=ports.store,
        outbox=ports.outbox,
        watch=ports.watch,
        pools=open_pools(ports, loop),
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
        termination=termination,
        login=open_login_parts(ports, sessions.stored),
        tracer=_open_tracer(policy.config, log),
        keys=open_keys(ports, local),
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
