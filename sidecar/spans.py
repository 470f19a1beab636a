"""Parts of the work for a request that are traced, if tracing is on (`sidecar.tracing`)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Final, Protocol

from sidecar.tls import UnusableFile

_NOTHING: Final = nullcontext()


class HasSpans(Protocol):
    """The trace of one request."""

    def child(self, name: str) -> AbstractContextManager[None]:
        """A span of what is done within it. What it raises is noted by its type alone."""
        ...


current: Final[ContextVar[HasSpans | None]] = ContextVar("trace", default=None)
"""Of the request that this task serves."""


def span(name: str) -> AbstractContextManager[None]:
    """A span for what this task is about to do for its request; nothing if it is not traced."""
    trace = current.get()
    return _NOTHING if trace is None else trace.child(name)


def require_opentelemetry(endpoint: str) -> None:
    """Raises `UnusableFile` if traces cannot be sent to `endpoint`: the extra is not installed."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise UnusableFile(
            "tracing.endpoint",
            endpoint,
            "needs OpenTelemetry, which is not installed: pip install 'session-sidecar[otel]'",
        )
