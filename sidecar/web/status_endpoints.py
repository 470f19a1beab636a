"""What the admin page is told, and what it may do: the paths beside health and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from sidecar.core.errors import BadRequest
from sidecar.web.status_feed import StatusFeed, TooManyListeners, event, with_beats

if TYPE_CHECKING:
    from sidecar.observation.status_model import Configuration, Status, Story

BODY: Final = 512 * 1024
"""Bytes of the body of a POST."""
LONGEST_ID: Final = 256
LOG_SECONDS: Final = 600.0

SHIELD: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
"""Fields of every response of the admin listener that has none of its own by that name."""


class StatusFacts(Protocol):
    """What is told of one process, or of several together."""

    async def status(self) -> Status:
        """The document. Raises `ValueError` if nobody answers."""

    async def story(self, asked: str) -> Story:
        """What is known of a session (`observation.story`)."""

    async def configuration(self) -> Configuration:
        """What runs, and how the file on disk differs."""

    async def explain(self, cookie: str, request: str | None) -> Mapping[str, Any]:
        """What becomes of a request. Raises `BadRequest`."""

    def tail(self, session: str | None, *, errors: bool) -> AsyncGenerator[bytes]:
        """Requests as they end, as JSON objects: of one session, or those that failed, or all.

        Raises `TooManyListeners`.
        """

    def drain(self) -> None:
        """Lets requests under way come to their end, and ends; as SIGTERM does."""


class StatusEndpoints:
    """Serves these paths."""

    def __init__(self, facts: StatusFacts) -> None:
        self._facts: Final = facts
        self._feed: Final = StatusFeed(self._document)
        self._streams: Final[set[asyncio.Task[Any]]] = set()

    def add_to(self, application: web.Application) -> None:
        """Adds the paths."""
        router = application.router
        router.add_get("/status.json", self._status)
        router.add_get("/events", self._events)
        router.add_get("/tail", self._tail)
        router.add_get("/session", self._story)
        router.add_get("/configuration.json", self._configuration)
        router.add_post("/explain", self._explain)
        router.add_post("/drain", self._drain)
        application.on_shutdown.append(self._end_streams)

    async def _document(self) -> bytes:
        return msgspec.json.encode(await self._facts.status())

    async def _status(self, _: web.Request) -> web.Response:
        try:
            return _json(await self._document())
        except ValueError as error:
            return web.json_response({"reason": str(error)}, status=503)

    async def _story(self, request: web.Request) -> web.Response:
        asked = request.query.get("id", "")[:LONGEST_ID]
        if not asked:
            return _refused("id must be a session's fingerprint or a request id")
        return _json(msgspec.json.encode(await self._facts.story(asked)))

    async def _configuration(self, _: web.Request) -> web.Response:
        return _json(msgspec.json.encode(await self._facts.configuration()))

    async def _explain(self, request: web.Request) -> web.Response:
        """A form, or a JSON object: `cookie` is a Cookie header, `request` a request's line."""
        try:
            given = await _given(request)
            facts = await self._facts.explain(given.get("cookie", ""), given.get("request") or None)
        except BadRequest as error:
            return _refused(error.detail)
        return _json(json.dumps(facts).encode())

    async def _drain(self, _: web.Request) -> web.Response:
        self._facts.drain()
        return web.json_response({"result": "draining"}, status=202)

    # -- streams ----------------------------------------------------------------------------------

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, self._feed.documents, "status")

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        session = request.query.get("session") or None
        errors = request.query.get("errors", "") not in ("", "0", "false")
        return await self._stream(
            request, lambda: self._facts.tail(session, errors=errors), "request"
        )

    async def _stream(
        self, request: web.Request, begin: Callable[[], AsyncGenerator[bytes]], name: str
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", **SHIELD}
        if request.method == "HEAD":  # a response without content, which ends (RFC 9110 9.3.2)
            return web.Response(headers=headers)
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        response = web.StreamResponse(headers=headers)
        found = begin()
        try:
            async with aclosing(found):
                await response.prepare(request)
                await response.write(b": \n\n")
                async with aclosing(with_beats(found)) as told:
                    async for data in told:
                        await response.write(b": \n\n" if data is None else event(data, name))
        except TooManyListeners:
            if not response.prepared:
                return web.json_response({"reason": "too many listen already"}, status=503)
            await response.write(event(b'"too many listen already"', "refused"))
        except (ConnectionError, ValueError):
            pass  # the listener has left, or nobody has anything to tell
        finally:
            self._streams.discard(task)
        return response

    async def _end_streams(self, _: web.Application) -> None:
        """Streams would keep the listener from closing."""
        for task in list(self._streams):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._streams, return_exceptions=True)
        await self._feed.close()


async def _given(request: web.Request) -> Mapping[str, str]:
    """The members of a form or of a JSON object. Raises `BadRequest`."""
    body = await request.content.read(BODY + 1)
    while len(body) <= BODY and (more := await request.content.read(BODY + 1 - len(body))):
        body += more
    if len(body) > BODY:
        raise BadRequest(f"the body must be at most {BODY} bytes")
    if request.content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    try:
        found = msgspec.json.decode(body, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("the body must be a form, or a JSON object of texts") from None
    return found


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _refused(reason: str) -> web.Response:
    return web.json_response({"result": "refused", "reason": reason}, status=400)
