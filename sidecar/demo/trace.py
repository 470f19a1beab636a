"""What happened, for people to look at: the sidecar's log joined with what the API saw.

Neither holds a token: of a credential there is a prefix of its SHA-256, of a cookie its name.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from typing import Any, Final, TextIO, TypeVar

import structlog

MAX_ENTRIES: Final = 100
_SHOWN: Final = (
    "request_id",
    "timestamp",
    "method",
    "path",
    "status",
    "decision",
    "reason",
    "credential",
    "source",
    "duration_ms",
)
_EVENTS: Final = frozenset(
    ("login", "login failed", "refresh failed", "refresh refused", "session ended")
)
"""What the sidecar tells besides its requests."""

_FACTS: Final = ("reason", "code", "detail", "refresh_token", "access_token")
"""What it tells of them; of the tokens, what became of their revocation."""

_SESSION_PATH: Final = "/auth/session"  # the page asks for it all the time
_LOUD: Final = frozenset({"warning", "error", "critical"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the API saw it, and its answer.

    `token_sha256` is a prefix of the bearer token's hash; `body` the answer as sent, None where it
    was streamed; `expires_at` when the token expires (Unix seconds), where that is known.
    """

    headers: Sequence[str]
    cookies: Sequence[str]
    token_sha256: str | None
    status: int
    content_type: str
    set_cookies: Sequence[str]
    body: str | None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """One of the calls of the API, which are numbered as they come."""

    number: int
    seen: Seen


class Trace:
    """The latest requests, oldest first; those for the page's own files are left out."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=MAX_ENTRIES)
        self._numbers = count(1)
        self._call_numbers = count(1)
        self._calls: OrderedDict[str, list[_Call]] = OrderedDict()  # by request
        self._latest: OrderedDict[str, _Call] = OrderedDict()  # by session

    def api_answered(self, request_id: str, seen: Seen) -> None:
        """Notes the API's side, which is known before the sidecar's.

        A request that the sidecar repeats comes more than once.
        """
        calls = self._calls.setdefault(request_id, [])
        calls.append(_Call(next(self._call_numbers), seen))
        _bound(self._calls)

    def ended(self, facts: dict[str, Any]) -> None:
        """Notes a line of the sidecar's access log.

        Of the API's side, `api` is each call that it saw of the request; `new_token`: the first
        came with another token than the last one of its session did; `repeated`: a further one did.
        """
        calls = self._calls.pop(facts["request_id"], [])
        if not _is_of_interest(facts.get("path") or ""):
            return
        tokens = [call.seen.token_sha256 for call in calls]
        self._add(
            "request",
            **{name: facts.get(name) for name in _SHOWN},
            api=[asdict(call.seen) for call in calls],
            new_token=self._has_new_token(facts.get("session"), calls),
            repeated=any(one != other for one, other in pairwise(tokens)),
        )

    def noted(self, event: dict[str, Any]) -> None:
        """Notes another line of the sidecar's log."""
        told = {name: event[name] for name in _FACTS if event.get(name) is not None}
        self._add(event["event"], timestamp=event.get("timestamp"), facts=told)

    def entries(self) -> list[dict[str, Any]]:
        """What there is, as JSON-ready objects; `event` says what an entry is about."""
        return list(self._entries)

    def _add(self, event: str, **facts: Any) -> None:
        self._entries.append({"number": next(self._numbers), "event": event, **facts})

    def _has_new_token(self, session: str | None, calls: Sequence[_Call]) -> bool:
        """Whether a renewed token came with the first call; the last one is remembered.

        Requests end in another order than they came in: a stream long after what came later.
        """
        if session is None or not calls:
            return False
        before = self._latest.get(session)
        if before is None or before.number < calls[-1].number:
            self._latest[session] = calls[-1]
            self._latest.move_to_end(session)
            _bound(self._latest)
        first = calls[0]
        return (
            before is not None
            and before.number < first.number
            and before.seen.token_sha256 != first.seen.token_sha256
        )


def _bound(table: OrderedDict[str, _T]) -> None:
    if len(table) > MAX_ENTRIES:
        table.popitem(last=False)


def _is_of_interest(path: str) -> bool:
    return path in {"/", "/login"} or (
        path.startswith(("/api/", "/auth/")) and path != _SESSION_PATH
    )


class AccessLog(io.StringIO):
    """Stands where the sidecar writes its log, JSON lines, and reads them as a collector would.

    What happened goes to the trace; warnings, and with `verbose` everything, to `console`.
    """

    def __init__(self, trace: Trace, console: TextIO, *, verbose: bool) -> None:
        super().__init__()
        self._trace = trace
        self._console = console
        self._verbose = verbose
        self._render = structlog.dev.ConsoleRenderer(colors=console.isatty())

    def write(self, text: str, /) -> int:
        """Takes whole lines."""
        for line in text.splitlines():
            self._take(json.loads(line))
        return len(text)

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "request":
            self._trace.ended(event)
        elif event["event"] in _EVENTS:
            self._trace.noted(event)
        if self._verbose or event["level"] in _LOUD:
            self._console.write(f"{self._render(None, event['level'], event)}\n")
            self._console.flush()
