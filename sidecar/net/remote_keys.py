"""Fetches the public keys of signed sessions, and again if a session names a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import time
from typing import Final

from sidecar.core.formats.signed_jwt import RemoteKeys
from sidecar.core.jws import InvalidToken, parse_keys
from sidecar.net.background import Background
from sidecar.net.outbound import Outbound
from sidecar.net.outbound_answer import Unreachable

FIRST_SECONDS: Final = 5.0  # that the start waits for keys
LIMIT: Final = 10.0
PAUSE: Final = 10.0
"""Seconds between two looks for one set: anybody can name a key that does not exist."""


class KeyFetcher:
    """Keeps sets of keys up to date. `changed` is called once a set has other keys than before."""

    def __init__(
        self,
        rings: Sequence[RemoteKeys],
        outbound: Outbound,
        background: Background,
        *,
        report: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._rings: Final = rings
        self._outbound: Final = outbound
        self._background: Final = background
        self._report: Final = report
        self._changed: Final = changed
        self._rests: Final[set[str]] = set()

    async def start(self) -> None:
        """Fetches every set once, and waits for that a while."""
        for ring in self._rings:
            ring.on_miss = lambda ring=ring: self._look(ring)  # type: ignore[misc]
        if self._rings:
            fetches = [self._background.begin(self._fetch(ring)) for ring in self._rings]
            await asyncio.wait(fetches, timeout=FIRST_SECONDS)

    def _look(self, ring: RemoteKeys) -> None:
        """Fetches a set anew, unless that was just done."""
        if ring.url not in self._rests:
            self._rests.add(ring.url)
            self._background.run(self._fetch(ring))
            asyncio.get_running_loop().call_later(PAUSE, self._rests.discard, ring.url)

    async def _fetch(self, ring: RemoteKeys) -> None:
        try:
            answer = await self._outbound.ask("GET", ring.url, LIMIT)
            if answer.status != 200:
                raise InvalidToken(f"{answer.address}: expected keys, got status {answer.status}")
            keys = parse_keys(answer.body)
        except Unreachable as error:
            self._report(error.detail)
        except InvalidToken as error:
            self._report(str(error))
        else:
            before = {key.thumbprint() for key in ring.keys}
            ring.keys, ring.fetched_at = keys, time()
            if {key.thumbprint() for key in keys} != before:
                self._changed()
