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
    def began(self) -> float: ...
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


_LONGEST_SAID: Final = 1024  # bytes of what is kept until the line is written, or for the next
_MANY: Final = 64  # lines that are rendered and written soon
_MOST: Final = 512  # lines that are rendered at once
_LONGEST_REST: Final = 384  # bytes of what a line says besides: an id of 128, times, numbers

_LINE: Final = (
    b'%b%b", %b"bytes_in": %d, "bytes_out": %d, %b"duration_ms": %d%b, '
    b'"event": "request", "level": "info", "timestamp": "%b.%06dZ"}\n'
)

_Ended: TypeAlias = tuple[bytes, bytes, int, int, float, float, float]
"""A request that has ended: what is said of it, its id, the bytes of both bodies, how many seconds
its upstream and itself took, and when it ended (Unix seconds)."""

Access: TypeAlias = Callable[[Served, float], None]
"""Logs a request that has ended, and took so many seconds."""


class JsonAccess:
    """Renders lines: what structlog makes of `facts`, to the byte; from level info.

    structlog's chain of processors takes as long as the rest of a request. What requests have in
    common is prepared once (`_said`), and the rest is rendered for many requests together, behind
    their responses: code that runs again and again is several times as fast as code that the
    processor has to fetch anew.

    `bound` is what each line begins with. A line that could be longer than `longest` bytes has its
    path cut, which ends in `...` then.
    """

    def __init__(
        self,
        output: Output,
        bound: Mapping[str, Any],
        level: LogLevel,
        mask: PathMask,
        longest: int = sys.maxsize,
    ) -> None:
        self._output: Final = output
        self._level: Final = level
        self._mask: Final = mask
        begin = "".join(f"{quoted(name)}: {json.dumps(value)}, " for name, value in bound.items())
        self._begin: Final = f'{{{begin}"request_id": "'.encode("ascii")
        self._longest: Final = longest - len(self._begin) - _LONGEST_REST
        self._ended: list[_Ended] = []
        self._second = 0
        self._date = b""

    def __call__(self, flow: Served, seconds: float) -> None:
        if not self._level.admits(_INFO):
            return
        # All that `_said` depends on, but for the request itself.
        key = (
            self,
            flow.route,
            flow.presented,
            flow.upstream_address,
            flow.status,
            flow.upstream_status,
            flow.decision,
            flow.reason,
            flow.detail,
            flow.would,
            flow.retries,
            flow.trace_id,
        )
        request = flow.request
        known = request.logged
        if known is not None and known[0] == key:
            said = known[1]
        else:
            said = self._said(flow)
            if request is not UNREAD and len(said) <= _LONGEST_SAID:
                request.logged = key, said
        took = flow.upstream_seconds
        ended = self._ended
        now = flow.began + seconds
        ended.append((said, flow.request_id, flow.bytes_in, flow.bytes_out, took, seconds, now))
        count = len(ended)
        if count == 1:
            self._output.expect(self._lines)
        elif count >= _MANY or len(said) > _LONGEST_SAID:
            self._output.hurry(at_once=count >= _MOST or len(said) > _LONGEST_SAID)

    def _lines(self) -> list[bytes]:
        """The lines of the requests that have ended since the last call."""
        ended, self._ended = self._ended, []
        begin, lines = self._begin, []
        for said, request_id, bytes_in, bytes_out, took, seconds, now in ended:
            # Unless the clock was set back; a function, even `max`, would cost as much as a tenth.
            whole = int(seconds * 1_000_000) if seconds > 0.0 else 0
            second = int(now)
            if second != self._second:
                self._second = second
                self._date = datetime.fromtimestamp(second, UTC).isoformat()[:19].encode("ascii")
            upstream = b""
            if took:
                part = int(took * 1_000_000) if took > 0.0 else 0
                upstream = b'"upstream_ms": %d%b, ' % (part // 1000, _FRACTIONS[part % 1000])
            lines.append(
                _LINE
                % (
                    begin,
                    request_id,
                    said,
                    bytes_in,
                    bytes_out,
                    upstream,
                    whole // 1000,
                    _FRACTIONS[whole % 1000],
                    self._date,
                    int((now - second) * 1_000_000),
                )
            )
        return lines

    def _said(self, flow: Served) -> bytes:
        """What a line says between the request's id and its bytes."""
        path = self._mask(flow.request.path)
        said = _render(flow, path)
        if len(said) > self._longest:
            said = _render(flow, _cut(path, len(said) - self._longest))
        return said


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


def _render(flow: Served, path: str) -> bytes:
    request, presented, reading = flow.request, flow.presented, flow.presented.reading
    to = came = why = session = retries = ""
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
    return (
        f'{who}{asked}"route": {quoted(flow.route.path)}, {to}"status": {flow.status:d}, {came}'
        f'"decision": {quoted(flow.decision)}, {why}{session}'
        f'"credential": {quoted(reading.result)}, {retries}'
    ).encode("ascii")


def _cut(path: str, excess: int) -> str:
    """The path without its end, so that it takes at least `excess` bytes less in a line."""
    kept, budget = path, len(quoted(path)) - excess - len("...")
    while kept and len(quoted(kept)) > budget:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept}..."


PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")


def milliseconds(seconds: float) -> float:
    """A duration as it is logged: to the microsecond, since more is noise.

    None is negative, though the clock may have been set back meanwhile.
    """
    return int(seconds * 1_000_000) / 1000 if seconds > 0.0 else 0.0


_FRACTIONS: Final = tuple(f"{number / 1000!r}"[1:].encode("ascii") for number in range(1000))
"""What stands behind the digits of whole milliseconds, by the number of thousandths."""


def field_text(value: bytes) -> str:
    """The value of a client's field as it is logged: printable ASCII, and not too long."""
    return loggable(value[:LONGEST_FIELD].decode("latin-1"))


def trace_id(flow: Served) -> str:
    """The id of the trace that a request belongs to, or empty."""
    return flow.trace_id or trace_id_of(flow.request.fact(b"traceparent"))


_FIELD: Final = Memo[bytes, str](lambda value: quoted(field_text(value)), 256)
"""The same in quotes: clients say the same Host and User-Agent in request after request."""


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
    told = f'"host": {_FIELD[host]}, ' if host else ""
    told += f'"scheme": "{scheme}", '
    if agent:
        told += f'"user_agent": {_FIELD[agent]}, '
    return f"{_peer_text(peer, request)}{told}"


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
