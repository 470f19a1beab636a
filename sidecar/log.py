"""Structured logs on standard error, through structlog: JSON for machines, a console for people."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from sidecar.log_writer import Output


Remember: TypeAlias = Callable[[str, str, str, float], None]
"""Is told a line's event, its level, its detail and when it was logged (Unix seconds)."""


def open_log(
    level: str, form: str, output: Output, remember: Remember | None = None
) -> FilteringBoundLogger:
    """A logger that hands lines of `form` (json or console) from `level` on to `output`.

    `remember` is told of warnings and errors.
    """
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _render_exception,
        _drop_empty,
    ]
    if remember is not None:
        processors.insert(0, partial(_remembered, remember))
    if form == "json":
        processors.append(structlog.processors.JSONRenderer())
    else:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        processors.append(structlog.dev.ConsoleRenderer(colors=is_terminal))
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(output),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    return logger


_SEVERE: Final = frozenset(("warning", "error", "critical"))
FAILED: Final = "request failed"
"""The event of a request that the sidecar fails; each is remembered for itself."""


def report_gaps(output: Output, log: FilteringBoundLogger) -> None:
    """Lines that `output` had to drop are told by a line in their place."""
    output.on_gap = lambda count: log.warning("log lines lost", lines=count)


def _remembered(remember: Remember, _: Any, level: str, event: Any) -> Any:
    if level in _SEVERE and event["event"] != FAILED:
        remember(str(event["event"]), level, str(event.get("detail") or ""), time.time())
    return event


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
    """A traceback as places in the code: neither values nor messages, which may hold a secret."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["traceback"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
    return event


def _drop_empty(_: Any, __: str, event: Any) -> Any:
    return {name: value for name, value in event.items() if value is not None}
