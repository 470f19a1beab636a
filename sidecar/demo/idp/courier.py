"""Back-channel logout: sending logout tokens to clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

import aiohttp
from aiohttp import web

from sidecar.demo.idp.demo_provider import LogoutNotice
from sidecar.demo.idp.records import Stats

NOTICE_SECONDS: Final = 5.0  # that the delivery of a logout token may take

_log = logging.getLogger(__name__)


class Courier:
    """Delivers while the application that it belongs to serves."""

    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None

    async def serve(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`."""
        timeout = aiohttp.ClientTimeout(total=NOTICE_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as self._http:
            yield
        self._http = None

    async def deliver(self, notices: Sequence[LogoutNotice], stats: Stats) -> None:
        """Sends logout tokens, all at once, and counts what became of them.

        `Back-Channel Logout` section 2.5. Waits for the answers, `NOTICE_SECONDS` at most.
        """
        for arrived in await asyncio.gather(*map(self._deliver, notices)):
            if arrived:
                stats.back_channel_delivered += 1
            else:
                stats.back_channel_failed += 1

    async def _deliver(self, notice: LogoutNotice) -> bool:
        assert self._http is not None
        data = {"logout_token": notice.token}
        try:
            async with self._http.post(notice.uri, data=data, allow_redirects=False) as answer:
                return answer.status in {200, 204}
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("logout token not delivered to %s: %s", notice.uri, type(error).__name__)
            return False
