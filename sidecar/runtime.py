"""What runs: the policy and everything it holds open, as one snapshot."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from sidecar.net.pool import Pool
from sidecar.net.sessions import Sessions

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.metrics import Metrics
    from sidecar.policy import Policy


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
    """Request ids and trace ids: unique by a random prefix per process and a counter."""

    __slots__ = ("_count", "_prefix", "_trace")

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex().encode()
        self._trace = b"traceparent: 00-" + os.urandom(8).hex().encode()
        self._count = 0

    def fresh(self) -> bytes:
        """A new request id."""
        self._count += 1
        return b"%b%08x" % (self._prefix, self._count)

    def trace_line(self) -> bytes:
        """A `traceparent` line (W3C Trace Context, version 00, not sampled) for the newest id."""
        number = b"%016x" % self._count
        return b"".join((self._trace, number, b"-", number, b"-00\r\n"))


@dataclass(frozen=True, slots=True)
class Runtime:
    """The policy, its open ports and its memory."""

    policy: Policy
    loop: asyncio.AbstractEventLoop
    sessions: Sessions
    pools: dict[str, Pool]
    metrics: Metrics
    log: FilteringBoundLogger
    clock: Clock
    ids: Ids
    background: set[asyncio.Task[None]]


def open_runtime(
    policy: Policy,
    loop: asyncio.AbstractEventLoop,
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> Runtime:
    """Opens what the policy needs; connections to upstreams are made on demand."""
    return Runtime(
        policy=policy,
        loop=loop,
        sessions=Sessions(policy.sources, policy.session_names, policy.signer),
        pools={name: Pool(loop, address) for name, address in policy.upstreams.items()},
        metrics=metrics,
        log=log,
        clock=Clock(),
        ids=Ids(),
        background=set(),
    )
