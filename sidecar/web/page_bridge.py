"""The server-render bridge: a page whose session dies while it is rendered leads to the logout.

The frontend's own API calls pass the same sidecar, with the same session as the page's request. So
it is known here when one of them ends the session, and the page's head may still be waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.core.bridge_rule import UndeletedCookies
from sidecar.core.client import Client
from sidecar.core.cookies import CookieJar
from sidecar.core.errors import loggable
from sidecar.web.unauthorized import bridged

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

HELD_BYTES: Final = 65536  # of a response that is held
SETTLED: Final = 0.05  # seconds without a server-side call after which the page expects none


class Bridge:
    """What is under way for each session: pages that may turn into redirects, and calls."""

    __slots__ = ("_calls", "_hold", "_loop", "_undeleted")

    def __init__(self, loop: asyncio.AbstractEventLoop, hold: float) -> None:
        self._loop: Final = loop
        self._hold: Final = hold
        self._calls: Counter[str] = Counter()
        self._undeleted: Final = UndeletedCookies()

    def lead(self, flow: Flow) -> bool:
        """Responds to a request of a dead session with a redirect. Returns whether it did.

        Not a document whose session's cookies stay though the logout has expired them: it would
        come back for ever.
        """
        if flow.request.client is Client.DOCUMENT and self._keeps_cookies(flow):
            return False
        self.answer(flow)
        return True

    def would_lead(self, flow: Flow) -> bool:
        """Returns what `lead` would return; does and notes nothing."""
        is_document = flow.request.client is Client.DOCUMENT
        return not (is_document and self._undeleted.would_stay(_cookies(flow), flow.began))

    def answer(self, flow: Flow) -> None:
        """Responds to a request whose session is dead."""
        if flow.request.client is Client.DOCUMENT:
            self._undeleted.led(_cookies(flow), flow.began)
        bridged(flow)

    def _keeps_cookies(self, flow: Flow) -> bool:
        view, undeleted, cookies = flow.presented, self._undeleted, _cookies(flow)
        if undeleted.is_known(cookies, flow.began):
            return True
        if not undeleted.is_found(cookies, flow.began):
            return False
        flow.runtime.log.warning(
            "session cookie not deleted",
            cookies=[loggable(name) for name in view.reading.names],
            session=view.fingerprint,
            route=flow.route.path,
            detail="the browser keeps it after the logout; name the domain and the path that it is "
            "set with in logout.domains and logout.paths",
        )
        return True

    def watch(self, flow: Flow) -> None:
        """Responds to the request at once when its session dies before the head of its page is
        sent.
        """
        fingerprint = flow.live
        assert fingerprint is not None
        revocations = flow.runtime.revocations
        close = partial(self._died, flow)
        revocations.attach(fingerprint, close)
        flow.on_finish(partial(revocations.detach, fingerprint, close))
        flow.ends_at_head = True

    def _died(self, flow: Flow) -> None:
        flow.cancel_work()
        self.answer(flow)

    def count(self, flow: Flow) -> None:
        """Counts a server-side call as under way until it ends."""
        fingerprint = flow.live
        assert fingerprint is not None
        self._calls[fingerprint] += 1
        flow.on_finish(partial(self._uncount, fingerprint))

    def _uncount(self, fingerprint: str) -> None:
        self._calls[fingerprint] -= 1
        if not self._calls[fingerprint]:
            del self._calls[fingerprint]

    async def hold(self, flow: Flow, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Returns the body's pieces once the response need not be held any longer.

        That is when it has come to its end, when no server-side call of its session has been under
        way for a moment, after `HELD_BYTES`, or after `bridge.hold` at the latest.
        """
        assert flow.live is not None
        now = self._loop.time
        until = last_call = now()
        until += self._hold
        held: list[bytes] = []
        size = 0
        coming = _next(pieces)
        try:
            while size <= HELD_BYTES and now() < until:
                await asyncio.wait({coming}, timeout=min(SETTLED, until - now()))
                if self._calls[flow.live]:
                    last_call = now()
                if coming.done():
                    data = coming.result()
                    if not data:
                        break
                    held.append(data)
                    size += len(data)
                    coming = _next(pieces)
                if now() - last_call >= SETTLED:
                    break
        except BaseException:
            coming.cancel()
            raise
        return _resume(b"".join(held), coming, pieces)


def _cookies(flow: Flow) -> int:
    """Stands for the cookies that the request's session was read from: those that are to go."""
    jar = CookieJar.parse(flow.request.cookie.decode("latin-1"))
    names = flow.presented.reading.names
    return hash(tuple((name, *jar.values(name)) for name in names))


def _next(pieces: AsyncIterator[bytes]) -> asyncio.Task[bytes]:
    """The next piece, empty at the end, as a task that a time limit does not cut short."""

    async def take() -> bytes:
        return await anext(pieces, b"")

    task = asyncio.ensure_future(take())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, if not asked
    return task


async def _resume(
    held: bytes, coming: asyncio.Task[bytes], rest: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    try:
        if held:
            yield held
        data = await coming
        if data:
            yield data
            async for data in rest:
                yield data
    finally:
        coming.cancel()
