"""What is open towards others: the store, the provider, upstreams; and what it reports."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.assembly.open_provider import open_provider
from sidecar.core.formats.ended import EndedSessions
from sidecar.net.background import Background
from sidecar.net.outbound import Outbound, way_of
from sidecar.net.pool import Pool
from sidecar.net.provider import Provider
from sidecar.net.store import Store, open_store
from sidecar.net.store.outbox import Outbox
from sidecar.net.store.wakeup import Wakeup
from sidecar.net.store.watch import StoreWatch
from sidecar.observation.recorder import Recorder
from sidecar.runtime import Clock, Runtime

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.metrics import Metrics
    from sidecar.policy import Policy


class Ports(msgspec.Struct, frozen=True):
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


def open_ports(
    policy: Policy,
    loop: asyncio.AbstractEventLoop,
    recorder: Recorder,
    log: FilteringBoundLogger,
    before: Runtime | None,
    *,
    wakeup: Wakeup | None,
) -> Ports:
    """Opens the store and the way to others; a store in this process's memory goes on."""
    metrics, config, report = recorder.metrics, policy.config, partial(write_report, log, "store")
    way = way_of(config.outbound.proxy, config.outbound.ca)  # first: it may fail, and opens nothing
    is_shared = config.store.url.is_shared
    if before is not None and not (is_shared or before.policy.config.store.url.is_shared):
        store = before.store
    else:
        url = config.store.url
        store = open_store(url, policy.secrets, report, counts=metrics.store, wakeup=wakeup)
    background = Background(loop, log)
    return Ports(
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
        provider=open_provider(config, partial(write_report, log, "provider"), way),
        ended=EndedSessions() if before is None or before.login is None else before.login.ended,
    )


def open_pools(ports: Ports, loop: asyncio.AbstractEventLoop) -> dict[str, Pool]:
    """By the upstream's name; connections are made on demand."""
    return {
        name: Pool(loop, address, partial(_report_server, ports.log, ports.metrics, name))
        for name, address in ports.policy.upstreams.items()
    }


_LEVELS: Final = {
    "refresh misconfigured": logging.ERROR,
    "refresh refused": logging.INFO,
    "refreshes resumed": logging.INFO,
}
"""What is reported on another level than warning."""


def write_report(log: FilteringBoundLogger, event: str, detail: str) -> None:
    """Logs an event on the level that it has among those who are on call."""
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
