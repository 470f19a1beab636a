"""What a request costs where there are many sessions, connections or workers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from tests.bench import quotas, wrk
from tests.bench.costs import allow_open_files, open_connections
from tests.bench.load import Load, new_sessions
from tests.bench.samples import Ask
from tests.bench.servers import Server
from tests.bench.stage import Sample, Stage, Take

_1K: Final = Load(Ask("/1k.json"))
_MANY: Final = Load(Ask("/1k.json"), connections=64)  # enough for each worker to have some


def after_sessions(count: int) -> Take:
    """A request of one session, where so many others have been seen."""

    def take(stage: Stage, name: str) -> Sample:
        def see(server: Server, _: ExitStack) -> None:
            left = count
            while left > 0:
                home = stage.site.home
                told = wrk.run(
                    server, _1K.ask, connections=64, seconds=1, home=home, lua=new_sessions()
                )
                left -= int(told["requests"])

        return _1K.on(stage, stage.server(name, f"{count} sessions", see))

    return take


def beside_connections(count: int) -> Take:
    """A request where so many other connections are open, and idle."""

    def take(stage: Stage, name: str) -> Sample:
        def connect(server: Server, stack: ExitStack) -> None:
            open_connections(stack, server, count)

        allow_open_files()
        return _1K.on(stage, stage.server(name, f"{count} connections", connect))

    return take


def within_shares(stage: Stage, name: str) -> Sample:
    """A request where each process has its share of a processor."""

    def limit(server: Server, stack: ExitStack) -> None:
        quotas.limit(server.pid, stack)

    return _MANY.on(stage, stage.server(name, "within shares", limit))
