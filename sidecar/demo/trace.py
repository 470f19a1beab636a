"""What happened, for people to look at: the sidecar's access log joined with what the API saw.

Neither holds a token: of a credential there is a prefix of its SHA-256, of a cookie its name.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TextIO

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
_LOUD: Final = frozenset({"warning", "error", "critical"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the API saw it, and its answer.

    `token_sha256` is a prefix of the bearer token's hash; `body` the answer as sent, None where it
    was streamed.
    """

    headers: Sequence[str]
    cookies: Sequence[str]
    token_sha256: str | None
    status: int
    content_type: str
    set_cookies: Sequence[str]
    body: str | None


class Trace:
    """The latest requests, oldest first; those for the page's own files are left out."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=MAX_ENTRIES)
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._count = 0

    def api_answered(self, request_id: str, seen: Seen) -> None:
        """Notes the API's side, which is known before the sidecar's."""
        self._seen[request_id] = seen
        if len(self._seen) > MAX_ENTRIES:
            self._seen.popitem(last=False)

    def ended(self, facts: dict[str, Any]) -> None:
        """Notes a line of the sidecar's access log."""
        if not _is_of_interest(facts.get("path") or ""):
            return
        self._count += 1
        seen = self._seen.pop(facts["request_id"], None)
        self._entries.append(
            {
                "number": self._count,
                **{name: facts.get(name) for name in _SHOWN},
                "api": None if seen is None else asdict(seen),
            }
        )

    def entries(self) -> list[dict[str, Any]]:
        """What there is, as JSON-ready objects."""
        return list(self._entries)


def _is_of_interest(path: str) -> bool:
    return path in {"/", "/login"} or path.startswith("/api/")


class AccessLog(io.StringIO):
    """Stands where the sidecar writes its log, JSON lines, and reads them as a collector would.

    Access lines go to the trace; warnings, and with `verbose` everything, to `console`.
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
        if self._verbose or event["level"] in _LOUD:
            self._console.write(f"{self._render(None, event['level'], event)}\n")
            self._console.flush()
