"""Structured logs through structlog: JSON lines for machines, a console for people."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import structlog

from sidecar.access_log import ChosenAccess, ConsoleAccess, JsonAccess
from sidecar.core.access_filter import access_filter
from sidecar.log_console import Console
from sidecar.log_level import SEVERITIES
from sidecar.log_writer import LONGEST_ATOMIC
from sidecar.strays import places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger, Processor

    from sidecar.access_log import Access
    from sidecar.core.config import Log
    from sidecar.core.path_mask import PathMask
    from sidecar.log_level import LogLevel
    from sidecar.log_writer import Output

Remember: TypeAlias = "Callable[[str, str, str, float], None]"
"""Is told a line's event, its level, its detail and when it was logged (Unix seconds)."""

_SEVERE: Final = frozenset(("warning", "error", "critical"))
FAILED: Final = "request failed"
"""The event of a request that the sidecar fails; each is remembered for itself."""


class Logging(msgspec.Struct, frozen=True):
    """Where lines go, and from which level."""

    output: Output
    level: LogLevel

    def events(self, section: Log, remember: Remember | None = None) -> FilteringBoundLogger:
        """A logger of events, in the form that the configuration says.

        `remember` is told of warnings and errors, on whatever level the log is.
        """
        processors: list[Processor] = [_Gate(self.level), structlog.processors.add_log_level]
        if remember is not None:
            processors.insert(0, partial(_remembered, remember))
        if section.format == "json":
            processors += (
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _render_exception,
                _drop_empty,
                structlog.processors.JSONRenderer(),
            )
        else:
            has_line = section.access is not None
            processors += (
                _render_exception,
                _drop_empty,
                _ConsoleLines(self.output, self.level, has_line=has_line),
            )
        logger: FilteringBoundLogger = structlog.wrap_logger(
            _Lines(self.output),
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(0),  # the level may change
            cache_logger_on_first_use=True,
        )
        return logger

    def access(
        self, section: Log, mask: PathMask, bound: Mapping[str, Any] | None = None
    ) -> Access | None:
        """What logs requests; None if they are not logged. `bound` stands in every JSON line."""
        if section.access is None:
            return None
        access: Access
        if section.format == "json":
            # Of several processes lines mix otherwise.
            longest = LONGEST_ATOMIC if bound else sys.maxsize
            access = JsonAccess(self.output, bound or {}, self.level, mask, longest)
        else:
            access = ConsoleAccess(self.output, self.level, mask)
        written = section.access
        rule = access_filter(written.min_status, written.min_duration, written.sample)
        return access if rule.takes_all else ChosenAccess(access, rule, self.level)


def report_gaps(output: Output, log: FilteringBoundLogger) -> None:
    """Lines that `output` had to drop are told by a line in their place."""
    output.on_gap = lambda count: log.warning("log lines lost", lines=count)


def _remembered(remember: Remember, _: Any, level: str, event: Any) -> Any:
    if level in _SEVERE and event["event"] != FAILED:
        remember(str(event["event"]), level, str(event.get("detail") or ""), time.time())
    return event


class _Gate:
    """Lets pass what is severe enough at the time."""

    def __init__(self, level: LogLevel) -> None:
        self._level: Final = level

    def __call__(self, _: Any, name: str, event: Any) -> Any:
        if not self._level.admits(SEVERITIES.get(name, SEVERITIES["error"])):
            raise structlog.DropEvent
        return event


class _ConsoleLines:
    """Renders events for people. `has_line`: each request that fails has a line of its own."""

    def __init__(self, output: Output, level: LogLevel, *, has_line: bool) -> None:
        self._output: Final = output
        self._level: Final = level
        self._has_line: Final = has_line

    def __call__(self, _: Any, __: str, event: Any) -> str:
        console = Console(self._output.columns)
        if event["event"] != FAILED:
            return console.event(event, time.time())
        if self._has_line and self._level.admits(SEVERITIES["info"]):
            raise structlog.DropEvent  # the line of the request follows
        return console.request(event, time.time())


class _Lines:
    """What structlog hands rendered lines to: a method for each level.

    They go out at once: events are few, and somebody may be waiting for them.
    """

    def __init__(self, output: Output) -> None:
        self._output: Final = output

    def msg(self, text: str) -> None:
        self._output.write(f"{text}\n".encode(errors="backslashreplace"), at_once=True)

    debug = info = warning = error = critical = msg


def _render_exception(_: Any, __: str, event: Any) -> Any:
    """The type of an exception, and where in the code it was."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["traceback"] = places(error)
    return event


def _drop_empty(_: Any, __: str, event: Any) -> Any:
    return {name: value for name, value in event.items() if value is not None}
