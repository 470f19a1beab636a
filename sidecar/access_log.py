"""The access log: a line for each request, behind its answer.

No query, no cookie, no field value: those can hold credentials.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from sidecar.core.request import UNREAD

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.forwarding import Peer
    from sidecar.core.request import Request
    from sidecar.core.route_table import Route
    from sidecar.core.view import SessionView


class HasPeer(Protocol):
    """The connection that a request came on."""

    @property
    def peer(self) -> Peer: ...


class Served(Protocol):
    """What is known of a request that has ended."""

    @property
    def request(self) -> Request: ...
    @property
    def request_id(self) -> bytes: ...
    @property
    def route(self) -> Route: ...
    @property
    def presented(self) -> SessionView: ...
    @property
    def connection(self) -> HasPeer: ...
    @property
    def status(self) -> int: ...
    @property
    def upstream_status(self) -> int: ...
    @property
    def decision(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def bytes_out(self) -> int: ...


Access: TypeAlias = Callable[[Served, float], None]
"""Logs a request that has ended, and took so many seconds."""


class JsonAccess:
    """Renders the line in one step: what structlog makes of `facts`, to the byte.

    structlog's chain of processors takes as long as the rest of a request. `bound` is what each
    line begins with. A line longer than `longest` bytes has its path cut, which ends in `...` then.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        bound: Mapping[str, Any],
        longest: int = sys.maxsize,
    ) -> None:
        self._write: Final = write
        self._longest: Final = longest
        self._begin: Final = "{" + "".join(
            f"{quoted(name)}: {json.dumps(value)}, " for name, value in bound.items()
        )
        self._second = 0
        self._date = ""

    def __call__(self, flow: Served, seconds: float) -> None:
        path = flow.request.path
        line = self._render(flow, seconds, path)
        if len(line) > self._longest:
            line = self._render(flow, seconds, _cut(path, len(line) - self._longest))
        self._write(line)

    def _render(self, flow: Served, seconds: float, path: str) -> bytes:
        request, presented, reading = flow.request, flow.presented, flow.presented.reading
        peer = flow.connection.peer
        asked = came = why = session = source = ""
        if request is not UNREAD:
            asked = f'"method": {quoted(request.method)}, "path": {quoted(path)}, '
        if flow.upstream_status:
            came = f'"upstream_status": {flow.upstream_status:d}, '
        if flow.reason:
            why = f'"reason": {quoted(flow.reason)}, '
        if flow.detail:
            why += f'"detail": {quoted(flow.detail)}, '
        if presented.fingerprint is not None:
            session = f'"session": {quoted(presented.fingerprint)}, '
        if reading.source is not None:
            source = f'"source": {quoted(reading.source)}, '
        return (
            f'{self._begin}"request_id": {quoted(flow.request_id.decode("latin-1"))}, '
            f'"client": {quoted(peer.client(request))}, "peer": {quoted(peer.address)}, {asked}'
            f'"route": {quoted(flow.route.path)}, "status": {flow.status:d}, {came}'
            f'"decision": {quoted(flow.decision)}, {why}{session}{source}'
            f'"credential": {quoted(reading.result)}, "bytes_out": {flow.bytes_out:d}, '
            f'"duration_ms": {round(seconds * 1000, 3)!r}, "event": "request", "level": "info", '
            f'"timestamp": "{self._timestamp(time())}"}}\n'.encode("ascii")
        )

    def _timestamp(self, now: float) -> str:
        """RFC 3339, in UTC. All but the fraction is made once a second."""
        second = int(now)
        if second != self._second:
            self._second, self._date = second, datetime.fromtimestamp(second, UTC).isoformat()[:19]
        return f"{self._date}.{int((now - second) * 1e6):06d}Z"


class StructuredAccess:
    """Renders the line through structlog, in whatever form that writes."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log: Final = log

    def __call__(self, flow: Served, seconds: float) -> None:
        self._log.info("request", **facts(flow, seconds))


def _cut(path: str, excess: int) -> str:
    """The path without its end, so that it takes at least `excess` bytes less in a line."""
    kept, budget = path, len(quoted(path)) - excess - len("...")
    while kept and len(quoted(kept)) > budget:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept}..."


def facts(flow: Served, seconds: float) -> dict[str, Any]:
    """What the line says of a request; None is left out."""
    request, presented = flow.request, flow.presented
    return {
        "request_id": flow.request_id.decode("latin-1"),
        "client": flow.connection.peer.client(request),
        "peer": flow.connection.peer.address,
        "method": request.method if request is not UNREAD else None,
        "path": request.path if request is not UNREAD else None,
        "route": flow.route.path,
        "status": flow.status,
        "upstream_status": flow.upstream_status or None,
        "decision": flow.decision,
        "reason": flow.reason or None,
        "detail": flow.detail or None,
        "session": presented.fingerprint,
        "source": presented.reading.source,
        "credential": presented.reading.result.value,
        "bytes_out": flow.bytes_out,
        "duration_ms": round(seconds * 1000, 3),
    }
