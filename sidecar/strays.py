"""What nobody caught, on its way into the log: exceptions, warnings, the lines of libraries.

Their texts may hold anything: the message of an exception, the arguments of a callback, the repr of
a transport with its URL. So types, places in the code and numbers are told, and of a library's text
what stands in its source.
"""

from __future__ import annotations

import linecache
import logging
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    CurrentLog: TypeAlias = Callable[[], FilteringBoundLogger]

_SERVER: Final = "aiohttp.server"  # of the admin listener
_DEFECTS: Final = frozenset(("asyncio", _SERVER))
"""Loggers that tell of an exception which the sidecar's own code has let go."""
_OF_CLIENTS: Final = (HttpProcessingError, RequestPayloadError, ConnectionError)
"""A request that is none, or whose client has left: nobody but that client need know."""
_UNTOLD: Final = "…"


def places(error: BaseException) -> list[str]:
    """A traceback as places in the code: neither values nor messages, which may hold a secret."""
    return [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def told(record: logging.LogRecord) -> str:
    """What a library's line says, without what was put into its text; empty if that is unknown."""
    text = record.msg
    if not isinstance(text, str) or text not in "".join(linecache.getlines(record.pathname)):
        return ""
    if not isinstance(record.args, tuple) or not record.args:
        return text
    try:
        return text % tuple(map(_harmless, record.args))
    except (TypeError, ValueError):
        return text


def _harmless(argument: object) -> object:
    if isinstance(argument, BaseException):
        return type(argument).__name__
    return argument if isinstance(argument, int | float) else _UNTOLD


def into_log(log: CurrentLog, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Has all that this process lets go told by `log`, from now on.

    Without a `loop` there must be no other thread.
    """
    _Strays(log, loop).attach()


class _Strays(logging.Handler):
    def __init__(self, log: CurrentLog, loop: asyncio.AbstractEventLoop | None) -> None:
        super().__init__(logging.WARNING)
        self._log: Final = log
        self._loop: Final = loop

    def attach(self) -> None:
        """In place of another one: of the process that has forked this one."""
        root = logging.getLogger()
        for one in [one for one in root.handlers if isinstance(one, _Strays)]:
            root.removeHandler(one)
        root.addHandler(self)
        warnings.showwarning = lambda _, kind, file, line, *__: self._library(
            kind.__name__, f"{file}:{line}", None, None
        )
        sys.unraisablehook = lambda unraisable: self._defect(unraisable.exc_value)
        threading.excepthook = lambda ended: self._defect(ended.exc_value)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.name == _SERVER and isinstance(error, _OF_CLIENTS):
            return
        if error is not None and record.name in _DEFECTS:
            self._defect(error)
            return
        place = f"{record.pathname}:{record.lineno} {record.funcName}"
        self._library(record.name, place, told(record) or None, error)

    def _defect(self, error: BaseException | None) -> None:
        self._tell(lambda: self._log().error("defect", exc_info=error))

    def _library(
        self, name: str, place: str, detail: str | None, error: BaseException | None
    ) -> None:
        self._tell(
            lambda: self._log().warning(
                "library", library=name, place=place, detail=detail, exc_info=error
            )
        )

    def _tell(self, tell: Callable[[], object]) -> None:
        """In a turn of the loop: this may be another thread, or come in between two bytes (GC)."""
        if self._loop is None:
            tell()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)
