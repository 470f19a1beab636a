"""The admin listener: health, readiness, metrics, reloads and a page, away from the public port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sidecar.core.admin_guard import HEADER, AdminRequest, refusal
from sidecar.core.end_request import BadEndRequest, EndResult, read_end_request
from sidecar.web import admin_page
from sidecar.web.admin_end import end_for_admin
from sidecar.web.exposition import Collected, Exposition
from sidecar.web.readiness import readiness
from sidecar.web.status_endpoints import SHIELD, StatusEndpoints, StatusFacts

if TYPE_CHECKING:
    import socket

    from aiohttp.typedefs import Handler

    from sidecar.core.config import Listen
    from sidecar.core.end_request import EndRequest
    from sidecar.core.reload_result import ReloadHistory, ReloadResult
    from sidecar.log_level import LogLevel
    from sidecar.reload import Reloads
    from sidecar.runtime import Runtime
    from sidecar.web.budgets import Budgets
    from sidecar.web.proxy import Proxy
    from sidecar.web.server import Server

END: Final = b"# EOF\n"
"""The last line of OpenMetrics."""
LONGEST_BODY: Final = 4096  # bytes of a request to the listener
_STATUSES: Final = {"reloaded": 200, "refused": 422, "failed": 500}
_END_STATUSES: Final = {"done": 200, "refused": 422, "failed": 503}


class Facts(Protocol):
    """What the admin listener reports: of one process, or of several together."""

    @property
    def log_level(self) -> LogLevel:
        """The log's level in all processes; `override` changes it for a while."""

    async def is_alive(self) -> bool:
        """Whether requests are served."""

    async def readiness(self) -> dict[str, Any]:
        """A JSON object: `ready` says whether requests should come, `missing` what is not there."""

    async def metrics(self) -> CollectorRegistry:
        """What is counted."""

    async def reload(self) -> ReloadResult:
        """Has the configuration read anew, and waits for what comes of it."""

    async def reloads(self) -> ReloadHistory:
        """What holds, and what came of the last reload."""

    async def end_sessions(self, asked: EndRequest) -> EndResult:
        """Ends sessions everywhere, and waits until that is so."""


class LevelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /log-level` is given. A misspelled member is no wish for the usual level."""

    level: str | None = None
    seconds: float = 600.0


class Admin:
    """Serves the admin page, `/healthz`, `/readyz`, `/metrics`, `/reload` and `/sessions/end` on
    `listen`.
    """

    def __init__(self, facts: Facts, status: StatusFacts, listen: Listen | None) -> None:
        self._facts = facts
        self._status = StatusEndpoints(status)
        self._names = frozenset(() if listen is None else (listen.host,))
        self._runner: web.AppRunner | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serves on sockets that listen already. Raises `OSError`."""
        if not sockets:
            return
        application = web.Application(middlewares=[self._guard], client_max_size=LONGEST_BODY)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/reload", self._reloads)
        application.router.add_post("/reload", self._reload)
        application.router.add_post("/sessions/end", self._end_sessions)
        for path in admin_page.FILES:
            application.router.add_get(path, self._page)
        application.router.add_post("/log-level", self._log_level)
        self._status.add_to(application)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        for one in sockets:
            await web.SockSite(self._runner, one).start()

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what another site may have caused (`core.admin_guard`)."""
        reason = refusal(_guarded(request), self._names)
        response: web.StreamResponse
        if reason is not None:
            response = web.json_response({"result": "refused", "reason": reason}, status=403)
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                _shield(error)
                raise
        if not response.prepared:
            _shield(response)
        return response

    async def _healthz(self, _: web.Request) -> web.Response:
        if await self._facts.is_alive():
            return web.json_response({"status": "alive"})
        return web.json_response({"status": "dead"}, status=503)

    async def _readyz(self, _: web.Request) -> web.Response:
        """503 while draining, or while something that is needed cannot be reached."""
        body = await self._facts.readiness()
        return web.json_response(body, status=200 if body["ready"] else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        """Prometheus's text format, or OpenMetrics if that is asked for."""
        encode, content_type = _encoder(request.headers.get("Accept", ""))
        body = bytearray()
        for metric in (await self._facts.metrics()).collect():
            body += encode(Collected((metric,))).removesuffix(END)
            await asyncio.sleep(0)  # many routes take long: requests have their turn meanwhile
        if content_type.startswith("application/openmetrics-text"):
            body += END
        return web.Response(body=bytes(body), headers={"Content-Type": content_type})

    async def _page(self, request: web.Request) -> web.Response:
        """A file of the admin page."""
        _, media_type = admin_page.FILES[request.path]
        return web.Response(
            body=admin_page.content(request.path),
            content_type=media_type,
            charset="utf-8",
            headers=admin_page.SECURITY,
        )

    async def _log_level(self, request: web.Request) -> web.Response:
        """`level` for so many `seconds`, in all processes; without a level an override ends."""
        level = self._facts.log_level
        try:
            given = msgspec.json.decode(await request.read(), type=LevelRequest)
            if given.level is None:
                level.reset()
            else:
                level.override(given.level, given.seconds)
        except (msgspec.DecodeError, ValueError) as error:
            return web.json_response({"result": "refused", "reason": str(error)}, status=400)
        told = {"level": level.current, "seconds": round(level.remaining, 3)}
        return web.json_response({"result": "done", **told})

    async def _reload(self, _: web.Request) -> web.Response:
        """Answers once it is done: 200, or 422 with every fault while the old one stays."""
        result = await self._facts.reload()
        return web.json_response(result.as_json(), status=_STATUSES[result.result])

    async def _end_sessions(self, request: web.Request) -> web.Response:
        """Answers once all processes know: 200, 400 and 422 for what cannot be meant, else 503."""
        try:
            asked = read_end_request(await request.read())
        except BadEndRequest as error:
            result, status = EndResult(result="refused", reason=str(error)), 400
        else:
            # The caller may leave before the answer; what has begun is done.
            result = await asyncio.shield(asyncio.ensure_future(self._facts.end_sessions(asked)))
            status = _END_STATUSES[result.result]
        return web.json_response(result.as_json(), status=status)

    async def _reloads(self, _: web.Request) -> web.Response:
        return web.json_response((await self._facts.reloads()).as_json())


def _shield(response: web.StreamResponse) -> None:
    for name, value in SHIELD.items():
        response.headers.setdefault(name, value)


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """What renders metrics for a client, and the type of that."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # of a version that is no number
        return choose_encoder("")


def _guarded(request: web.Request) -> AdminRequest:
    """What the guard looks at. Two lines of one header are no line that counts."""
    headers = request.headers
    transport = request.transport
    name = None if transport is None else transport.get_extra_info("sockname")
    return AdminRequest(
        method=request.method,
        path=request.path,
        host=_only(headers.getall(hdrs.HOST, [])),
        origin=_joined(headers.getall(hdrs.ORIGIN, [])),
        fetch_site=_joined(headers.getall("Sec-Fetch-Site", [])),
        has_header=HEADER in headers,
        is_unix=isinstance(name, str | bytes),
    )


def _only(values: Sequence[str]) -> str | None:
    return values[0] if len(values) == 1 else None


def _joined(values: Sequence[str]) -> str | None:
    return ", ".join(values) if values else None


class ProcessFacts:
    """What this process reports (`Facts`)."""

    def __init__(
        self,
        runtime: Runtime,
        proxy: Proxy,
        server: Server,
        reloads: Reloads,
        log_level: LogLevel,
    ) -> None:
        self._server = server
        self._reloads = reloads
        self._is_ready = True
        self._budgets: tuple[Budgets, ...] = ()
        self.log_level = log_level
        self.serve_with(runtime, proxy)

    def serve_with(self, runtime: Runtime, proxy: Proxy) -> None:
        """Reports on another configuration from now on; the counters go on."""
        self._runtime = runtime
        former = (one for one in self._budgets if any(one.in_flight.values()))
        self._budgets = (proxy.budgets, *former)
        self._exposition = Exposition(
            runtime, self._budgets, lambda: self._reloads.history, is_ready=self._is_ready
        )
        self._registry = CollectorRegistry()
        self._registry.register(self._exposition)

    async def is_alive(self) -> bool:
        """Who can be asked is alive."""
        return True

    async def readiness(self) -> dict[str, Any]:
        """As this process sees it now."""
        report = await readiness(self._runtime, draining=self._server.draining)
        self._is_ready = self._exposition.is_ready = bool(report["ready"])
        return report

    async def metrics(self) -> CollectorRegistry:
        """The counters of this process."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(0)  # behind all that is ready now
        self._exposition.lag = loop.time() - began
        self._exposition.tasks = len(asyncio.all_tasks(loop))
        return self._registry

    async def reload(self) -> ReloadResult:
        """Waits for this process."""
        return await self._reloads.ask()

    async def reloads(self) -> ReloadHistory:
        """Of this process."""
        return self._reloads.history

    async def end_sessions(self, asked: EndRequest) -> EndResult:
        """By this process, for all on its store."""
        return await end_for_admin(self._runtime, asked)
