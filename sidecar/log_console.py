"""Log lines for people at a terminal: what happened, on one line that fits, the cause last.

    22:31:07 502 GET /api/orders 1.2ms api 127.0.0.1:4000 connection refused [id]
    22:31:07 warning  configuration: logout.redirect_to: ...

Only what helps at a glance is here; JSON lines hold every fact.
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Mapping
from typing import Any, Final

LONGEST_PATH: Final = 60  # characters
_INDENT: Final = 18  # columns in front of an event's name
_NARROWEST: Final = 60  # columns of a terminal that texts are wrapped for

# C0 and C1 control characters, which a terminal would obey.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_RED: Final = "\x1b[31m"
_GREEN: Final = "\x1b[32m"
_YELLOW: Final = "\x1b[33m"
_CYAN: Final = "\x1b[36m"
_BY_CLASS: Final = {1: _CYAN, 2: _GREEN, 3: _CYAN, 4: _YELLOW, 5: _RED}
_BY_LEVEL: Final = {"warning": _YELLOW, "error": _RED, "critical": _RED}

_IN_PLACE: Final = frozenset(
    ("event", "level", "timestamp", "detail", "request_id", "traceback", "pid")
)
"""What has a place of its own in an event's line, or none."""


class Console:
    """Renders lines. `columns` is how wide the terminal is; None: it is none, so no colours."""

    __slots__ = ("columns",)

    def __init__(self, columns: int | None) -> None:
        self.columns: Final = columns

    def request(self, facts: Mapping[str, Any], now: float) -> str:
        """The line of a request: `facts` are those of the access log, `now` is in Unix seconds."""
        status = self._paint(_colour(facts), f"{facts['status']:03d}")
        words = [self._paint(_DIM, _clock(now)), status]
        words += (_clean(word) for word in _words(facts))
        return " ".join((*words, *self._id(facts)))

    def event(self, event: Mapping[str, Any], now: float) -> str:
        """The line of any other event; below it a traceback, a line for each place."""
        level = event["level"]
        text = event["event"]
        if event.get("detail") is not None:
            text += f": {event['detail']}"
        for name, value in event.items():
            if name not in _IN_PLACE:
                text += f" {name}={_value(value)}"
        head = (
            self._paint(_DIM, _clock(now)),
            self._paint(_BY_LEVEL.get(level, ""), f"{level:<8}"),
            self._wrapped(_clean(text)),
            *self._id(event),
        )
        places = (f"{'':{_INDENT}}{_clean(place)}" for place in event.get("traceback", ()))
        return "\n".join((" ".join(head), *places))

    def _id(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        given = facts.get("request_id")
        return (self._paint(_DIM, f"[{_clean(given)}]"),) if given else ()

    def _paint(self, colour: str, text: str) -> str:
        return text if self.columns is None or not colour else f"{colour}{text}{_RESET}"

    def _wrapped(self, text: str) -> str:
        """The text in lines as wide as the terminal, indented but for the first."""
        if self.columns is None or self.columns < _NARROWEST:
            return text
        lines = textwrap.wrap(text, self.columns - _INDENT, break_on_hyphens=False)
        return f"\n{'':{_INDENT}}".join(lines)


def _colour(facts: Mapping[str, Any]) -> str:
    status = 500 if facts.get("decision") == "broken" else facts["status"]
    return _BY_CLASS.get(status // 100, "")


def _words(facts: Mapping[str, Any]) -> list[str]:
    """What happened to a request, behind its status."""
    told = [facts.get("method"), _short(facts.get("path")), _duration(facts.get("duration_ms"))]
    told += [facts.get("upstream"), facts.get("upstream_address") or facts.get("address")]
    answered, retries = facts.get("upstream_status"), facts.get("retries")
    if answered and answered != facts["status"]:
        told.append(f"answered {answered},")
    if retries:
        told.append(f"retries {retries},")
    told.append(_why(facts))
    words = [word for word in told if word]
    return [*words[:-1], words[-1].rstrip(",")] if words else []


def _why(facts: Mapping[str, Any]) -> str | None:
    """The cause, or what the sidecar did if it has responded without an upstream."""
    cause: str | None = facts.get("detail") or facts.get("reason")
    if facts.get("decision") == "broken":
        return f"broken: {cause}"
    if cause is None and not facts.get("upstream"):
        return facts.get("decision")
    return cause


def _short(path: str | None) -> str | None:
    if path is None or len(path) <= LONGEST_PATH:
        return path
    return f"{path[: LONGEST_PATH - 3]}..."


def _duration(milliseconds: float | None) -> str | None:
    if milliseconds is None:
        return None
    if milliseconds < 10:
        return f"{milliseconds:.1f}ms"
    return f"{milliseconds:.0f}ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f}s"


def _clock(now: float) -> str:
    """The local time."""
    return time.strftime("%H:%M:%S", time.localtime(now))


def _value(value: Any) -> str:
    text = str(value)
    return repr(text) if " " in text else text


def _clean(text: str) -> str:
    return _CONTROLS.sub("?", text)
