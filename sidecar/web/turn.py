"""Shares of the event loop's time: long work gives way to other requests in between.

`Turn` is the share of one piece of long work. `Turns` is the one share of all connections for what
their clients have pipelined, or of all streams that end with their sessions: however many there
are, everybody else waits for one share.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import perf_counter
from typing import Final, Protocol

SHARE: Final = 0.004  # seconds of work after which the others come first
PIPELINED: Final = 0.001  # of all connections together, for requests that were pipelined, or ends


class Turn:
    """Counts the time that work has taken since the others were last let in.

    The loop's own clock stands still while its callbacks run, so it is of no use here.
    """

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether the others should come first now."""
        return perf_counter() - self._since > SHARE

    async def give_way(self) -> None:
        """Lets the others in if the turn is over; else returns at once."""
        if self.is_over:
            await asyncio.sleep(0)
            self._since = perf_counter()


class PutOff(Protocol):
    """A connection on which a request waits that was pipelined, or a stream that is to end."""

    def go_on(self) -> None:
        """Serves the next request, or ends."""


class Turns:
    """Lets connections go on with what is pipelined, in order, each for one request at a time.

    In one turn of the loop they have one share together. One that has more requests comes again
    behind all the others.
    """

    __slots__ = ("_is_called", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._waiting: Final[OrderedDict[PutOff, None]] = OrderedDict()
        self._is_called = False  # whether the loop is to call `_take`

    def put_off(self, one: PutOff) -> None:
        """Has `one` go on in its turn."""
        self._waiting[one] = None
        self._call()

    def forget(self, one: PutOff) -> None:
        """`one` has ended."""
        self._waiting.pop(one, None)

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._take)

    def _take(self) -> None:
        """One turn: one request at least, so that it always goes on."""
        until = perf_counter() + PIPELINED
        try:
            while self._waiting:
                one, _ = self._waiting.popitem(last=False)
                one.go_on()
                if perf_counter() >= until:
                    return
        finally:
            self._is_called = False
            if self._waiting:
                self._call()
