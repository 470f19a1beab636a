"""What the page can make the identity provider do to a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from sidecar.demo.idp import RunningIdp

OUTAGE_SECONDS: Final = 10.0
_BURST_SECONDS: Final = 600  # until somebody calls


class BadOrder(ValueError):
    """There is no such action, or no such user."""


class Controls:
    """Carries out what is asked for by name, and says in words what has been done."""

    def __init__(self, idp: RunningIdp) -> None:
        self._idp: Final = idp
        self._back: asyncio.TimerHandle | None = None  # ends the outage
        self._actions: Final[Mapping[str, Callable[[object], Awaitable[str]]]] = {
            "burst": self._burst,
            "outage": self._outage,
            "revoke_grants": self._revoke_grants,
            "end_sessions": self._end_sessions,
        }

    @property
    def issuer(self) -> str:
        """Where the provider is."""
        return self._idp.issuer

    def state(self) -> dict[str, Any]:
        """How the provider is, JSON-ready: seconds until it is up again, and its counters."""
        left = 0.0
        if self._back is not None:
            left = max(0.0, self._back.when() - asyncio.get_running_loop().time())
        return {"down_for": left, "counts": asdict(self._idp.stats)}

    async def carry_out(self, action: object, subject: object) -> str:
        """Does it, to that user's sessions where it is about one. Raises `BadOrder`."""
        act = self._actions.get(action) if isinstance(action, str) else None
        if act is None:
            raise BadOrder(f"action: one of {', '.join(self._actions)}")
        return await act(subject)

    def _user(self, subject: object) -> str:
        users = self._idp.options.users
        if not isinstance(subject, str) or subject not in users:
            raise BadOrder(f"subject: one of {', '.join(users)}")
        return subject

    async def _burst(self, _: object) -> str:
        self._idp.set(burst=1, burst_seconds=_BURST_SECONDS)
        return "The next token that the API asks about counts as revoked. Call the API."

    async def _outage(self, _: object) -> str:
        if self._back is not None:
            self._back.cancel()
        self._idp.set(outage="unavailable")
        loop = asyncio.get_running_loop()
        self._back = loop.call_later(OUTAGE_SECONDS, self._recover)
        return "It answers 503 to everything. Let the token expire and call the API, now and later."

    def _recover(self) -> None:
        self._back = None
        self._idp.set(outage="none")

    async def _revoke_grants(self, subject: object) -> str:
        user = self._user(subject)
        count = self._idp.revoke_grants(user)
        return f"Grants of {user} revoked: {count}. The next renewal is refused. Call the API."

    async def _end_sessions(self, subject: object) -> str:
        user = self._user(subject)
        await self._idp.end_sessions(user)
        return f"Sessions of {user} ended, and the sidecar told over the back channel."
