"""The admin listener: health, readiness and metrics, away from the public port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from sidecar.core.errors import StoreUnavailable
from sidecar.web.exposition import Exposition

if TYPE_CHECKING:
    import socket

    from sidecar.net.store import Store
    from sidecar.runtime import Runtime
    from sidecar.web.proxy import Proxy
    from sidecar.web.server import Server

PROBE_SECONDS: Final = 2.0


class Facts(Protocol):
    """What the admin listener reports: of one process, or of several together."""

    async def is_alive(self) -> bool:
        """Whether requests are served."""

    async def readiness(self) -> dict[str, Any]:
        """A JSON object: `ready` says whether requests should come, `missing` what is not there."""

    async def metrics(self) -> bytes:
        """Prometheus's text format."""


class Admin:
    """Serves `/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._runner: web.AppRunner | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serves on sockets that listen already. Raises `OSError`."""
        if not sockets:
            return
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        for one in sockets:
            await web.SockSite(self._runner, one).start()

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        if await self._facts.is_alive():
            return web.json_response({"status": "alive"})
        return web.json_response({"status": "dead"}, status=503)

    async def _readyz(self, _: web.Request) -> web.Response:
        """503 while draining, or while something that is needed cannot be reached."""
        body = await self._facts.readiness()
        return web.json_response(body, status=200 if body["ready"] else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=await self._facts.metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


class ProcessFacts:
    """What this process reports (`Facts`)."""

    def __init__(self, runtime: Runtime, proxy: Proxy, server: Server) -> None:
        self._server = server
        self.serve_with(runtime, proxy)

    def serve_with(self, runtime: Runtime, proxy: Proxy) -> None:
        """Reports on another configuration from now on; the counters go on."""
        self._runtime = runtime
        self._registry = CollectorRegistry()
        self._registry.register(Exposition(runtime, proxy.budgets.in_flight))

    async def is_alive(self) -> bool:
        """Who can be asked is alive."""
        return True

    async def readiness(self) -> dict[str, Any]:
        """Not ready while draining, or without the store or an upstream marked `ready: true`."""
        configured = self._runtime.policy.config.upstreams
        pools = self._runtime.pools
        store, *reached = await asyncio.gather(
            _answers(self._runtime.store),
            *(pools[name].is_reachable(PROBE_SECONDS) for name in configured),
        )
        upstreams = {
            name: {"reachable": fine, "required": upstream.ready}
            for (name, upstream), fine in zip(configured.items(), reached, strict=True)
        }
        missing = [] if store else ["store"]
        missing += [
            f"upstream {name}"
            for name, row in upstreams.items()
            if row["required"] and not row["reachable"]
        ]
        return {
            "ready": not (missing or self._server.draining),
            "draining": self._server.draining,
            "missing": missing,
            "store": {"reachable": store, "pending": self._runtime.outbox.pending.total()},
            "upstreams": upstreams,
        }

    async def metrics(self) -> bytes:
        """The counters of this process."""
        return generate_latest(self._registry)


async def _answers(store: Store) -> bool:
    """Whether the store can be written to."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await store.ping()
    except (StoreUnavailable, TimeoutError):
        return False
    return True
