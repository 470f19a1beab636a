"""Plays faults against a site with people in it, and judges what comes of each."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.ledger import Tally
from tests.faults.sidecars import Sample
from tests.faults.site import PLANS, Site, running
from tests.faults.troubles import (
    EVERYBODY_SECONDS,
    FAULTS,
    RECOVERY_SECONDS,
    Fault,
    both,
    fits,
    go_together,
)
from tests.faults.users import Stream, Visitor
from tests.faults.wire import Broken

MIB: Final = 1 << 20
VISITORS: Final = 14
STREAMS: Final = 3  # of each kind
_WARM_UP: Final = 1.5
_BEFORE: Final = 0.3
_CALM: Final = 0.7
_TOGETHER: Final = 0.35  # share of the faults that come with another one
_SETTLE: Final = 12.0
_OUTGOING_MOST: Final = 200  # while nobody asks: pools keep some
_RESIDENT_MOST: Final = 48 * MIB  # that a process may grow over all faults


@dataclass
class Result:
    """What came of one fault."""

    site: str
    fault: str
    seconds: float
    tally: Tally
    recovery: float | None = None
    """Seconds until the first right answer."""
    all_served: float | None = None
    growth: dict[str, int] = field(default_factory=dict)
    """Of memory (bytes), tasks and descriptors, since before the first fault."""
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        tally = {**vars(self.tally)}
        tally |= {"codes": dict(self.tally.codes), "breaks": dict(self.tally.breaks)}
        return {**vars(self), "tally": tally}


class Lag:
    """How long this process itself was held up: seconds in all since `turn`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def watch(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            late = time.monotonic() - began - 0.05
            if late > 0.05:
                self.seconds += late

    def turn(self) -> None:
        """Begins anew."""
        self.seconds = 0.0


class Play:
    """Plays faults on one site. `patience` is added to each bound in seconds."""

    def __init__(self, name: str, site: Site, patience: float) -> None:
        self.name = name
        self.site = site
        self.results: list[Result] = []
        self._patience = patience
        self._lag = Lag()
        self._names: set[str] = set()
        self._first: Sample | None = None
        self._streams: list[Stream] = []

    @asynccontextmanager
    async def peopled(self) -> AsyncIterator[None]:
        """People come, and leave at the end."""
        site, crowd = self.site, self.site.crowd
        tasks = [asyncio.create_task(self._lag.watch())]
        crowd.wanted_streams = 2 * STREAMS
        for number in range(VISITORS):
            person = await site.enter(f"user{number:02}")
            site.people.append(person)
            self._names.add(person.name)
            tasks.append(asyncio.create_task(Visitor(crowd, person).visit()))
        for number in range(2 * STREAMS):
            kind = ("events", "socket")[number % 2]
            person = await site.enter(f"{kind}{number}")
            site.people.append(person)
            self._streams.append(Stream(crowd, person, kind))
            tasks.append(asyncio.create_task(self._streams[-1].visit()))
        crowd.go.set()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            for one in done:
                if isinstance(one, Exception):
                    raise one

    async def warm_up(self) -> None:
        """People work; then what the site takes is measured for the first time."""
        result = self._result("nothing", _WARM_UP)
        self.site.ledger.now = result.tally
        self.site.ledger.heal()
        await asyncio.sleep(_WARM_UP)
        await self._served()
        result.recovery = self.site.ledger.first
        self._clean(result, result.tally, "before any fault", Fault(_nothing))
        await self._streams_are_back(result)
        async with self._quiet():
            self._first = await self._measure()

    async def fault(self, names: Sequence[str], seconds: float) -> None:
        """Plays one fault, or two at once."""
        site, ledger, fault = self.site, self.site.ledger, FAULTS[names[0]]
        if len(names) > 1:
            fault = both(fault, FAULTS[names[1]])
        result = self._result(" + ".join(names), seconds)
        ledger.now = result.tally
        await self._streams_are_back(result)
        await asyncio.sleep(_BEFORE)
        await fault.act(site, seconds)
        ledger.heal()
        self._lag.turn()
        await self._served()
        result.recovery, result.all_served = ledger.first, ledger.until_all(self._names)
        self._judge(result, fault)
        await self._streams_are_back(result)
        calm = ledger.turn()
        await asyncio.sleep(_CALM)
        is_late = fault.recovery > RECOVERY_SECONDS  # who is not renewed yet may have to wait
        codes = fault.codes if is_late else frozenset[str]()
        self._clean(result, calm, "after it", Fault(_nothing, codes))
        ledger.now = result.tally
        await self._grown(result)

    def _result(self, name: str, seconds: float) -> Result:
        self.results.append(Result(self.name, name, seconds, Tally()))
        return self.results[-1]

    async def _served(self) -> None:
        """Waits until everybody was served, or that takes too long."""
        end = time.monotonic() + 3 * EVERYBODY_SECONDS + self._patience
        while self.site.ledger.until_all(self._names) is None and time.monotonic() < end:
            await asyncio.sleep(0.02)

    async def _streams_are_back(self, result: Result) -> None:
        crowd, end = self.site.crowd, time.monotonic() + EVERYBODY_SECONDS + self._patience
        while crowd.open_streams < crowd.wanted_streams:
            if time.monotonic() > end:
                lack = crowd.wanted_streams - crowd.open_streams
                result.violations.append(f"{lack} streams do not come back")
                return
            await asyncio.sleep(0.02)

    def _judge(self, result: Result, fault: Fault) -> None:
        slack = self._patience + self._lag.seconds
        if result.recovery is None or result.recovery > fault.recovery + slack:
            result.violations.append(f"first right answer after {result.recovery} s")
        bound = max(fault.recovery, fault.everybody) + slack
        if result.all_served is None or result.all_served > bound:
            who = sorted(self.site.ledger.waiting(self._names))
            result.violations.append(f"all served after {result.all_served} s, not: {who}")
        self._clean(result, result.tally, "during it", fault)

    def _clean(self, result: Result, tally: Tally, when: str, fault: Fault) -> None:
        """Whether users saw only what the fault may have them see."""
        found = [f"wrong: {one}" for one in tally.wrong]
        found += [f"session lost: {one}" for one in tally.lost]
        others = tally.codes.keys() - fault.codes
        found += [f"{tally.codes[code]} of {code}" for code in sorted(others)]
        if not fault.breaks:
            found += [f"{count} breaks: {how}" for how, count in tally.breaks.items()]
        if tally.told and not (fault.ends_streams or fault.cuts_streams):
            found.append(f"{tally.told} streams ended")
        if tally.cut and not fault.cuts_streams:
            found.append(f"{tally.cut} streams cut")
        reused, self.site.provider.reused = self.site.provider.reused, []
        found += [f"a spent refresh token of {one} was sent" for one in reused]
        found += [f"defect: {one[:2000]}" for one in self.site.new_defects()]
        examples = tally.examples[:3] if found else []
        result.violations += [f"{when}: {one}" for one in [*found, *examples]]

    # -- growth -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """Nobody asks, and all streams have left, so that numbers can be compared."""
        crowd, end = self.site.crowd, time.monotonic() + _SETTLE + self._patience
        crowd.go.clear()
        try:
            while (crowd.busy or crowd.open_streams) and time.monotonic() < end:
                for stream in self._streams:
                    stream.leave()
                await asyncio.sleep(0.01)
            yield
        finally:
            crowd.go.set()

    async def _measure(self) -> Sample:
        """What all sidecars take. Waits for an admin listener that does not answer yet."""
        end = time.monotonic() + _SETTLE + self._patience
        while True:
            try:
                samples = [await one.sample(self.site.servers) for one in self.site.sidecars]
            except (Broken, OSError, KeyError):
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)
            else:
                break
        return Sample(
            max(one.resident for one in samples),
            sum(one.tasks for one in samples),
            sum((one.kinds for one in samples), Counter()),
            sum(one.outgoing for one in samples),
        )

    async def _grown(self, result: Result) -> None:
        """Compares with before; what is still going away gets its time."""
        assert self._first is not None
        first, end = self._first, time.monotonic() + _SETTLE + self._patience
        async with self._quiet():
            while True:
                sample = await self._measure()
                grown = sample.tasks > first.tasks or sample.descriptors > first.descriptors
                if not grown or time.monotonic() > end:
                    break
                await asyncio.sleep(0.3)
        result.growth = {
            "resident": sample.resident - first.resident,
            "tasks": sample.tasks - first.tasks,
            "descriptors": sample.descriptors - first.descriptors,
            "outgoing": sample.outgoing,
        }
        if grown:
            kinds = dict(sample.kinds - first.kinds)
            result.violations.append(f"growth: {result.growth} {kinds}")
        if sample.outgoing > _OUTGOING_MOST:
            result.violations.append(f"{sample.outgoing} connections to other servers")
        if sample.resident - first.resident > _RESIDENT_MOST:
            more = (sample.resident - first.resident) / MIB
            result.violations.append(f"memory grew by {more:.0f} MiB")


async def _nothing(site: Site, seconds: float) -> None:
    pass


def order(name: str, chance: random.Random, chosen: Sequence[str]) -> list[str]:
    """The faults that a site can have, in an order of their own."""
    names = [one for one in chosen if fits(one, PLANS[name])]
    chance.shuffle(names)
    return names


async def play_site(
    name: str,
    directory: Path,
    seed: int,
    *,
    seconds: float,
    chosen: Sequence[str] = tuple(FAULTS),
    patience: float = 0.0,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Plays faults for so long, each once before one comes again; at least one.

    Some come two at a time.

    Each result is told as soon as it is there.
    """
    chance = random.Random(f"{seed} {name} faults")
    until = time.monotonic() + seconds
    async with running(name, directory, seed) as site:
        play = Play(name, site, patience)
        async with play.peopled():
            await play.warm_up()
            tell(play.results[-1])
            left: list[str] = []
            while time.monotonic() < until or len(play.results) < 2:
                left = left or order(name, chance, chosen)
                if not left:
                    break
                names = [left.pop()]
                others = [one for one in left if go_together(names[0], one)]
                if others and chance.random() < _TOGETHER:
                    names.append(chance.choice(others))
                    left.remove(names[1])
                await play.fault(names, chance.uniform(0.5, 3.0))
                tell(play.results[-1])
    return play.results
