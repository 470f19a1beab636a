"""The provider: it rotates refresh tokens, and can be in trouble."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from aiohttp import web

from tests.life.door import Gate
from tests.oracle.replicas_provider import Call, Family, Provider, Tokens

LIFETIME: Final = 4.0  # seconds that an access token lives
_JUST_NOW: Final = 3.0  # seconds in which an exchange may not be written down yet


class TroubledProvider(Provider):
    """Besides the modes of a `Provider`: `html`, and `refuses` (connections).

    `forgives`: a spent token may come again, as it must where nothing is kept over a restart.
    """

    def __init__(self, *, forgives: bool) -> None:
        super().__init__(LIFETIME)
        self._forgives = forgives
        self._recent: deque[tuple[float, Family]] = deque(maxlen=1000)
        self._gate: Gate | None = None
        self.reused: list[str] = []
        self.on_exchange = self._note
        self.on_reuse = lambda family, _: self.reused.append(family.user)

    async def open(self) -> None:
        """Listens, on a port that can refuse connections."""
        await self.start()
        self._gate = Gate(int(self.issuer.rpartition(":")[2]))
        await self._gate.open()
        self.issuer = f"http://127.0.0.1:{self._gate.port}"

    async def close(self) -> None:
        """Ends it."""
        assert self._gate is not None
        await self._gate.shut()
        await self.stop()

    async def refuse(self) -> None:
        """Takes no connection any more."""
        assert self._gate is not None
        await self._gate.shut()

    async def accept(self) -> None:
        """Takes connections again."""
        assert self._gate is not None
        await self._gate.open()

    def owner(self, token: str) -> Family | None:
        """Whose token it is."""
        return self._families.get(token)

    def excuse_recent(self, why: str) -> None:
        """Whoever is renewed just now may lose the new tokens."""
        since = time.monotonic() - _JUST_NOW
        families = [family for at, family in self._recent if at >= since]
        for family in (*families, *(call.family for call in self.under_way)):
            family.excuses.append(why)

    def _note(self, family: Family, _: int) -> None:
        self._recent.append((time.monotonic(), family))

    def _exchanged(self, token: str, call: Call) -> bool:
        if self._forgives or call.family.excuses:
            call.family.spent[token] = False
        return super()._exchanged(token, call)

    async def _answered(self, request: web.Request, token: str, call: Call) -> web.Response:
        if self.mode == "html":
            return web.Response(text="<h1>Sorry</h1>", content_type="text/html")
        return await super()._answered(request, token, call)

    def forget(self, family: Family) -> None:
        """Lets go of the tokens of a family that nobody presents any more."""
        for token in (*family.access, *family.spent):
            self._families.pop(token, None)


__all__ = ["LIFETIME", "Family", "Tokens", "TroubledProvider"]
