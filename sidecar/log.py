"""Structured logs on standard error, through structlog: JSON for machines, a console for people."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor


def open_log(level: str, form: str) -> FilteringBoundLogger:
    """A logger that writes lines of `form` (json or console) from `level` on."""
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _render_exception,
        _drop_empty,
    ]
    if form == "json":
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    return logger


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
