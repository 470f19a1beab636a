"""What measurements are taken on, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from tests.bench.contenders import DIRECT
from tests.bench.samples import check_upstream_side
from tests.bench.servers import CONTENDERS, Server, running
from tests.bench.site import Site

Sample: TypeAlias = Mapping[str, float]
"""What one measurement has: `cpu` in microseconds for each request, or message, or event; `rate` of
them a second; `p50` and `p99` in microseconds; or one `value`, in the row's unit."""

Rounds: TypeAlias = Sequence[Mapping[str, Sample]]
"""For each round a sample of each entry."""


Prepare: TypeAlias = Callable[[Server, ExitStack], None]
"""Does something to a server; what it opens stays open until the stack is left."""


def _as_it_is(_server: Server, _stack: ExitStack) -> None:
    """Prepares nothing."""


class Stage:
    """The servers of one row, each started when it is first wanted, and found to be right."""

    def __init__(self, site: Site, direct: Server, seconds: int) -> None:
        self.site: Final = site
        self.seconds: Final = seconds
        self._servers: Final = {(DIRECT, ""): direct}
        self._stack: Final = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def server(self, name: str, state: str = "", prepare: Prepare = _as_it_is) -> Server:
        """A contender that runs until the stage is left; one more for each `state`, which `prepare`
        puts it into. Raises `BenchError`.
        """
        if (name, state) not in self._servers:
            server = self._stack.enter_context(running(self.site, name))
            check_upstream_side(server)
            prepare(server, self._stack)
            self._servers[name, state] = server
        return self._servers[name, state]

    def warm_ups(self, name: str) -> int:
        """How many rounds a contender takes to be at its speed."""
        return 1 if name == DIRECT else CONTENDERS[name].warm_ups


Take: TypeAlias = Callable[[Stage, str], Sample]
"""Measures a contender, by name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a row: which contender, and how it is measured."""

    contender: str
    take: Take


@dataclass(frozen=True, slots=True)
class Row:
    """Entries that are compared. Ratios are to `baseline`; `target` is the sidecar's.

    `unit` is what CPU time is counted for, or what a value is in. It is measured in each round, or
    `once`.
    """

    title: str
    entries: Mapping[str, Entry]
    baseline: str
    unit: str = "request"
    target: str = ""
    once: bool = False


def measure(
    row: Row, stage: Stage, rounds: int, left_out: Mapping[str, str], say: Callable[[str], None]
) -> Rounds:
    """Takes the rounds of a row without the contenders that are missing. `say` is told which round.

    What comes before the first warms up, and is not counted. Raises `BenchError`.
    """
    entries = [one for one in row.entries.items() if one[1].contender not in left_out]
    if not row.once:
        say(f"warm-up: {row.title}")
        for _, entry in entries:
            for _ in range(stage.warm_ups(entry.contender)):
                entry.take(stage, entry.contender)
    count = 1 if row.once else rounds
    taken = []
    for number in range(count):
        say(f"round {number + 1} of {count}: {row.title}")
        # Who comes first alternates, as the machine's other work comes and goes.
        turn = entries[:: -1 if number % 2 else 1]
        samples = {name: entry.take(stage, entry.contender) for name, entry in turn}
        taken.append({name: samples[name] for name, _ in entries})
    return taken
