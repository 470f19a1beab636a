"""The admin listener: health, readiness and metrics, away from the public port."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from sidecar.metrics import Exposition

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.policy import UpstreamAddress
    from sidecar.runtime import Runtime
    from sidecar.web.proxy import Proxy
    from sidecar.web.server import Server

PROBE_SECONDS: Final = 2.0


class Admin:
    """Serves `/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, runtime: Runtime, proxy: Proxy, server: Server) -> None:
        self._runtime = runtime
        self._server = server
        self._registry = CollectorRegistry()
        self._registry.register(Exposition(runtime, proxy.in_flight))
        self._runner: web.AppRunner | None = None

    async def start(self, config: Config) -> None:
        """Listens on the configured address, if there is one. Raises `OSError`."""
        listen = config.admin
        if listen is None:
            return
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site: web.BaseSite
        if listen.unix_path is not None:
            site = web.UnixSite(self._runner, listen.unix_path)
        else:
            site = web.TCPSite(self._runner, listen.host, listen.port)
        await site.start()

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.Response:
        """503 while draining, or while an upstream marked `ready: true` cannot be reached."""
        upstreams = self._runtime.policy.config.upstreams
        addresses = self._runtime.policy.upstreams
        reached = await asyncio.gather(*(_is_reachable(addresses[name]) for name in upstreams))
        report = {
            name: {"reachable": fine, "required": upstream.ready}
            for (name, upstream), fine in zip(upstreams.items(), reached, strict=True)
        }
        ready = not self._server.draining and all(
            row["reachable"] for row in report.values() if row["required"]
        )
        body = {"ready": ready, "draining": self._server.draining, "upstreams": report}
        return web.json_response(body, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


async def _is_reachable(address: UpstreamAddress) -> bool:
    """Whether a TCP connection to the upstream can be made."""
    try:
        async with asyncio.timeout(min(address.connect, PROBE_SECONDS)):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
