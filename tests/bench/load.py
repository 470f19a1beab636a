"""CPU time per request and latency, under load by wrk."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import wrk
from tests.bench.procfs import cpu_seconds
from tests.bench.samples import Ask, size_of
from tests.bench.stage import Sample, Stage


@dataclass(frozen=True, slots=True)
class Load:
    """A request, how many connections repeat it, and wrk's `request` where it is never the same."""

    ask: Ask
    connections: int = 32
    lua: str = ""

    def __call__(self, stage: Stage, name: str) -> Sample:
        """Microseconds of CPU time per request, requests a second, latencies in microseconds.

        Raises `BenchError` where an answer is not as its sample.
        """
        server = stage.server(name)
        size = size_of(server, self.ask)
        before = cpu_seconds(server.pid)
        told = wrk.run(
            server,
            self.ask,
            connections=self.connections,
            seconds=stage.seconds,
            home=stage.site.home,
            lua=self.lua,
        )
        spent = cpu_seconds(server.pid) - before
        load = wrk.judge(name, told, self.ask, size)
        cpu = spent / load.requests * 1e6
        return {"cpu": cpu, "rate": load.per_second, "p50": load.p50, "p99": load.p99}
