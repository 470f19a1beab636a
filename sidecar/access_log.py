"""The access log: a line for each request, behind its answer.

No query, no cookie, no field value: those can hold credentials.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from random import random
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from sidecar.core.errors import loggable
from sidecar.core.memo import Memo
from sidecar.core.request import UNREAD
from sidecar.core.trace_context import trace_id_of
from sidecar.log_console import Console
from sidecar.log_level import SEVERITIES

if TYPE_CHECKING:
    from sidecar.core.access_filter import AccessFilter
    from sidecar.core.forwarding import Peer
    from sidecar.core.path_mask import PathMask
    from sidecar.core.request import Request
    from sidecar.core.route_table import Route
    from sidecar.core.view import SessionView
    from sidecar.log_level import LogLevel
    from sidecar.log_writer import Output

_INFO: Final = SEVERITIES["info"]
_DEBUG: Final = SEVERITIES["debug"]
LONGEST_FIELD: Final = 256
"""Bytes of a field of the client's that are logged, such as User-Agent."""


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
    def trace_id(self) -> str: ...
    @property
    def retries(self) -> int: ...
    @property
    def upstream_address(self) -> str: ...
    @property
    def upstream_seconds(self) -> float: ...
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
    def would(self) -> tuple[str, ...]: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...


Access: TypeAlias = Callable[[Served, float], None]
"""Logs a request that has ended, and took so many seconds."""


class JsonAccess:
    """Renders the line in one step: what structlog makes of `facts`, to the byte; from level info.

    structlog's chain of processors takes as long as the rest of a request. `bound` is what each
    line begins with. A line longer than `longest` bytes has its path cut, which ends in `...` then.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        bound: Mapping[str, Any],
        level: LogLevel,
        mask: PathMask,
        longest: int = sys.maxsize,
    ) -> None:
        self._write: Final = write
        self._level: Final = level
        self._mask: Final = mask or None
        self._longest: Final = longest
        self._begin: Final = "{" + "".join(
            f"{quoted(name)}: {json.dumps(value)}, " for name, value in bound.items()
        )
        self._second = 0
        self._date = ""

    def __call__(self, flow: Served, seconds: float) -> None:
        if not self._level.admits(_INFO):
            return
        path = flow.request.path
        if self._mask is not None:
            path = self._mask(path)
        line = self._render(flow, seconds, path)
        if len(line) > self._longest:
            line = self._render(flow, seconds, _cut(path, len(line) - self._longest))
        self._write(line)

    def _render(self, flow: Served, seconds: float, path: str) -> bytes:
        request, presented, reading = flow.request, flow.presented, flow.presented.reading
        to = came = why = session = retries = took = ""
        if request is UNREAD:
            who, asked = _peer_text(flow.connection.peer, request), ""
        else:
            fields = request.fields
            who = fields.logged
            if not who:
                who = fields.logged = _who(flow.connection.peer, request)
            asked = (
                f'"method": {quoted(request.method)}, "path": {quoted(path)}, '
                f'"protocol": "{PROTOCOLS[request.http11]}", '
            )
            if flow.trace_id or b"traceparent" in request.facts:
                asked += _pair("trace_id", trace_id(flow))
        if flow.upstream_address:
            to = _TO[flow.route.upstream, flow.upstream_address]
        if flow.upstream_status:
            came = f'"upstream_status": {flow.upstream_status:d}, '
        if flow.reason or flow.detail or flow.would:
            why = _why(flow)
        if presented.fingerprint is not None:
            session = f'"session": {quoted(presented.fingerprint)}, '
        if reading.source is not None:
            session += f'"source": {quoted(reading.source)}, '
        if flow.retries:
            retries = f'"retries": {flow.retries:d}, '
        if flow.upstream_seconds:
            took = f'"upstream_ms": {milliseconds(flow.upstream_seconds)!r}, '
        return (
            f'{self._begin}"request_id": {quoted(flow.request_id.decode("latin-1"))}, {who}{asked}'
            f'"route": {quoted(flow.route.path)}, {to}"status": {flow.status:d}, {came}'
            f'"decision": {quoted(flow.decision)}, {why}{session}'
            f'"credential": {quoted(reading.result)}, {retries}"bytes_in": {flow.bytes_in:d}, '
            f'"bytes_out": {flow.bytes_out:d}, {took}"duration_ms": {milliseconds(seconds)!r}, '
            f'"event": "request", "level": "info", "timestamp": "{self._timestamp(time())}"}}\n'
        ).encode("ascii")

    def _timestamp(self, now: float) -> str:
        """RFC 3339, in UTC. All but the fraction is made once a second."""
        second = int(now)
        if second != self._second:
            self._second, self._date = second, datetime.fromtimestamp(second, UTC).isoformat()[:19]
        return f"{self._date}.{int((now - second) * 1e6):06d}Z"


class ConsoleAccess:
    """Renders the line for people; from level info."""

    def __init__(self, output: Output, level: LogLevel, mask: PathMask) -> None:
        self._output: Final = output
        self._level: Final = level
        self._mask: Final = mask

    def __call__(self, flow: Served, seconds: float) -> None:
        if self._level.admits(_INFO):
            told = {**facts(flow, seconds), "path": told_path(flow, self._mask)}
            line = Console(self._output.columns).request(told, time())
            self._output.write(f"{line}\n".encode(errors="backslashreplace"))


class ChosenAccess:
    """Logs the requests that a rule takes; on level debug all of them."""

    def __init__(self, access: Access, rule: AccessFilter, level: LogLevel) -> None:
        self._access: Final = access
        self._rule: Final = rule
        self._level: Final = level

    def __call__(self, flow: Served, seconds: float) -> None:
        is_broken = flow.decision == "broken"
        if self._rule.takes(
            flow.status, seconds, is_broken=is_broken, draw=random
        ) or self._level.admits(_DEBUG):
            self._access(flow, seconds)


def _cut(path: str, excess: int) -> str:
    """The path without its end, so that it takes at least `excess` bytes less in a line."""
    kept, budget = path, len(quoted(path)) - excess - len("...")
    while kept and len(quoted(kept)) > budget:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept}..."


PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")


def milliseconds(seconds: float) -> float:
    """A duration as it is logged: to the microsecond, since more is noise."""
    return int(seconds * 1_000_000) / 1000


def field_text(value: bytes) -> str:
    """The value of a client's field as it is logged: printable ASCII, and not too long."""
    return loggable(value[:LONGEST_FIELD].decode("latin-1"))


def trace_id(flow: Served) -> str:
    """The id of the trace that a request belongs to, or empty."""
    return flow.trace_id or trace_id_of(flow.request.fact(b"traceparent"))


def _pair(name: str, value: str) -> str:
    return f'"{name}": {quoted(value)}, ' if value else ""


def _why(flow: Served) -> str:
    """What a line says of what was done, and of what an observed route would have done."""
    said = ("reason", flow.reason), ("detail", flow.detail), ("would", ", ".join(flow.would))
    return "".join(_pair(name, value) for name, value in said)


def _peer_text(peer: Peer, request: Request) -> str:
    return f'"client": {quoted(peer.client(request))}, "peer": {quoted(peer.address)}, '


def _who(peer: Peer, request: Request) -> str:
    """What a line says of who asks: all that depends on the connection and the header section."""
    host, agent = peer.asked_host(request), request.fact(b"user-agent")
    scheme = peer.told_scheme(request).decode()
    return (
        f'{_peer_text(peer, request)}{_pair("host", field_text(host))}"scheme": {quoted(scheme)}, '
        f"{_pair('user_agent', field_text(agent))}"
    )


def _to(upstream: tuple[str, str]) -> str:
    name, address = upstream
    return f'"upstream": {quoted(name)}, "upstream_address": {quoted(address)}, '


_TO: Final = Memo(_to, 512, lambda key: len(key[1]))
"""What a line says of the server that was asked."""


def told_path(flow: Served, mask: PathMask) -> str | None:
    """The path as logs may show it; None if the request could not be read."""
    return None if flow.request is UNREAD else mask(flow.request.path)


def facts(flow: Served, seconds: float) -> dict[str, Any]:
    """What the line says of a request; None is left out."""
    request, presented, peer = flow.request, flow.presented, flow.connection.peer
    asked: dict[str, Any] = {}
    if request is not UNREAD:
        asked = {
            "host": field_text(peer.asked_host(request)) or None,
            "scheme": peer.told_scheme(request).decode(),
            "user_agent": field_text(request.fact(b"user-agent")) or None,
            "method": request.method,
            "path": request.path,
            "protocol": PROTOCOLS[request.http11],
            "trace_id": trace_id(flow) or None,
        }
    return {
        "request_id": flow.request_id.decode("latin-1"),
        "client": peer.client(request),
        "peer": peer.address,
        **asked,
        "route": flow.route.path,
        "upstream": flow.route.upstream if flow.upstream_address else None,
        "upstream_address": flow.upstream_address or None,
        "status": flow.status,
        "upstream_status": flow.upstream_status or None,
        "decision": flow.decision,
        "reason": flow.reason or None,
        "detail": flow.detail or None,
        "would": ", ".join(flow.would) or None,
        "session": presented.fingerprint,
        "source": presented.reading.source,
        "credential": presented.reading.result.value,
        "retries": flow.retries or None,
        "bytes_in": flow.bytes_in,
        "bytes_out": flow.bytes_out,
        "upstream_ms": milliseconds(flow.upstream_seconds) if flow.upstream_seconds else None,
        "duration_ms": milliseconds(seconds),
    }
