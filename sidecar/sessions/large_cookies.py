"""Warns once that the cookies of login sessions are large, and what helps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sidecar.core.cookies import value_size
from sidecar.core.formats.login_session import LARGE, LoginReading

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.core.view import SessionView

_HELP: Final = (
    "many page servers take no request head above 8 KiB; set `oidc.keep: store`, or "
    "`cookies: strip` on page routes whose servers make no calls with the session"
)
_LOST: Final = (
    "they are known by the old ones for a day at most, and then their users log in again; have the "
    "provider issue smaller tokens, or set `oidc.keep: store` for a login of the sidecar's own"
)


class LargeCookies:
    """Looks at what browsers are given. Each thing is reported once, and then as often as one
    starts the process again: the provider's tokens are large for every user.
    """

    __slots__ = ("_log", "_told")

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log: Final = log
        self._told: Final[set[str]] = set()

    def look(self, lines: Iterable[bytes]) -> None:
        """At the Set-Cookie values that hand a login session to its browser."""
        size = sum(map(value_size, lines))
        if size > LARGE:
            self._tell("session cookies are large", size, _HELP)

    def look_at(self, view: SessionView) -> None:
        """At a session that may have been renewed for a request."""
        if view.cookie is not None and not view.sets:
            self._tell("renewed tokens do not fit into cookies", None, _LOST)
        elif isinstance(view.reading, LoginReading):
            self.look(view.sets)

    def _tell(self, event: str, size: int | None, detail: str) -> None:
        if event not in self._told:
            self._told.add(event)
            self._log.warning(event, bytes=size, detail=detail)
