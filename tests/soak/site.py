"""The sidecar and its backend, as processes of their own, and what they take over time."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults.sidecars import Running, Sample
from tests.life.programs import Program
from tests.ports import free_port
from tests.soak.load import SECRET

_SPARE: Final = 200  # connections above those of the load: logouts, the test's own
POOL: Final = 256


@dataclass(frozen=True, slots=True)
class Point:
    """What the sidecar takes at a time (seconds since the beginning)."""

    at: float
    sample: Sample
    metrics: Mapping[str, float]

    def row(self) -> dict[str, float]:
        """For the report."""
        names = ("sidecar_sessions_cached", "sidecar_tombstones", "sidecar_store_bytes")
        return {
            "seconds": round(self.at, 1),
            "resident_mib": round(self.sample.resident / (1 << 20), 1),
            "tasks": self.sample.tasks,
            "descriptors": self.sample.descriptors + self.sample.outgoing,
            **{name.removeprefix("sidecar_"): self.metrics.get(name, 0.0) for name in names},
        }


class Site:
    """What runs. `point` measures it."""

    def __init__(self, sidecar: Running, backend: Program) -> None:
        self.sidecar = sidecar
        self._backend = backend
        self._began = time.monotonic()

    async def point(self) -> Point:
        """What the sidecar takes now. Raises `Broken` or `OSError`."""
        metrics = await self.sidecar.metrics()
        sample = self.sidecar.sampled(metrics, [self._backend.port])
        return Point(time.monotonic() - self._began, sample, metrics)


def configuration(port: int, connections: int) -> dict[str, Any]:
    """What the sidecar is run with."""
    claims = {"refresh_token": "refreshToken", "expires_at": "expiresAt"}
    token = f"http://127.0.0.1:{port}/token"
    return {
        "secret": SECRET,
        "upstreams": {"api": {"url": f"http://127.0.0.1:{port}", "pool": {"max": POOL}}},
        "routes": [{"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"}],
        "session": {
            "sources": [{"type": "authjs", "secret": SECRET, "token": "accessToken", **claims}]
        },
        "refresh": {
            "token_endpoint": token,
            "client_id": "app",
            "client_secret": "s" * 32,
            "leeway": "1s",
        },
        "limits": {"connections": connections + _SPARE},
        "drain": {"wait": "0s"},
        "log": {"access": {"sample": 0.001}},
    }


@asynccontextmanager
async def running(directory: Path, connections: int) -> AsyncIterator[Site]:
    """All of it, until the context is left."""
    port = free_port()
    command = [sys.executable, "-m", "tests.soak.backend", str(port)]
    backend = Program(command, port, directory / "backend.log")
    config = configuration(port, connections)
    sidecar = Running(config, directory, clock=None, log_file=None)
    try:
        backend.start()
        await asyncio.to_thread(backend.wait)
        await sidecar.begin()
        yield Site(sidecar, backend)
    finally:
        sidecar.kill()
        sidecar.said.close()
        backend.kill()
