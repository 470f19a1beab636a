"""CPU time per request and latency, under load by wrk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from sidecar.core.record import replace
from tests.bench import wrk
from tests.bench.procfs import cpu_seconds
from tests.bench.samples import Ask, size_of
from tests.bench.servers import Server
from tests.bench.stage import Sample, Stage

# Each request another session than the last one, of plain cookies; all are of the same length.
_COOKIE: Final = "access_token=%024d-%012d; seen=x"
RENEWABLE: Final = "access_token=%024d-%012d; refresh_token=%024d-%012d; seen=x"
_NEW_SESSIONS: Final = """
local number = 0
request = function()
  number = (number + 1) % {count}
  wrk.headers["Cookie"] = string.format("{cookie}", {began}, number, {began}, number)
  return wrk.format()
end
"""


_NO_END: Final = 10**12


def new_sessions(count: int = _NO_END, cookie: str = _COOKIE) -> str:
    """Lua that presents sessions which no other call presents: so many, by turns."""
    script = _NEW_SESSIONS.replace("{cookie}", cookie).replace("{count}", str(count))
    return script.replace("{began}", str(time.monotonic_ns()))


@dataclass(frozen=True, slots=True)
class Load:
    """A request, and how many connections repeat it.

    All are of one session; or each is of another one; or `sessions` take turns on each connection,
    as behind a proxy whose clients share its connections. `cookie` is what those of others hold.
    """

    ask: Ask
    connections: int = 32
    each_new: bool = False
    sessions: int = 0
    cookie: str = _COOKIE

    def __call__(self, stage: Stage, name: str) -> Sample:
        """On a contender as it comes."""
        return self.on(stage, stage.server(name))

    def on(self, stage: Stage, server: Server) -> Sample:
        """Microseconds of CPU time per request, requests a second, latencies in microseconds.

        Raises `BenchError` where an answer is not as its sample.
        """
        size = size_of(server, stage.site, self._sample())
        before = cpu_seconds(server.pid)
        told = wrk.run(
            server,
            self.ask,
            connections=self.connections,
            seconds=stage.seconds,
            home=stage.site.home,
            lua=new_sessions(self.sessions or _NO_END, self.cookie) if self._has_others else "",
        )
        spent = cpu_seconds(server.pid) - before
        load = wrk.judge(server.name, told, self.ask, size)
        cpu = spent / load.requests * 1e6
        return {"cpu": cpu, "rate": load.per_second, "p50": load.p50, "p99": load.p99}

    @property
    def _has_others(self) -> bool:
        """Whether other sessions are presented than the run's."""
        return self.each_new or self.sessions > 0

    def _sample(self) -> Ask:
        """The request once, with a session that no other has."""
        if not self._has_others:
            return self.ask
        numbers = (time.monotonic_ns(), 0)
        cookie = self.cookie % (numbers * (self.cookie.count("%") // len(numbers)))
        return replace(self.ask, fields={**self.ask.fields, "Cookie": cookie})
