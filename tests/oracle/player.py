"""Plays one talk over a real connection: each segment is a `data_received` of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

from tests.oracle.answers import Answer, AnswerReader, Malformed
from tests.oracle.api import CLOSE_FRAME
from tests.oracle.history import ALL, Cut, Talk

if TYPE_CHECKING:
    from tests.oracle.api import Api
    from tests.oracle.wording import Worded

WORTH_SENDING: Final = 65536  # bytes of a body that are here before its upstream has any
TURNS: Final = 3  # turns of the event loop in which a segment reaches the other side
CALM: Final = 4  # turns in which nothing more may come behind the last answer


@dataclass(slots=True)
class Played:
    """What came of a talk. `trouble`: why the answers could not be read, or did not come."""

    answers: list[Answer]
    tail: bytes = b""
    has_ended: bool = False
    is_inside: bool = False
    is_switched: bool = False
    trouble: str = ""
    segments: int = 0
    seen: set[int] = field(default_factory=set)


class Player(asyncio.Protocol):
    """One client connection."""

    def __init__(self, talk: Talk, words: Sequence[Worded], api: Api) -> None:
        self._talk = talk
        self._words = words
        self._api = api
        self._reader = AnswerReader([ALL[ask.kind].method for ask in talk.asks])
        self._changed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._played = Played(self._reader.answers)
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._held: dict[int, int] = {}
        self._sent = 0

    # -- protocol -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except Malformed as error:
            self._played.trouble = f"malformed: {error}"
        self._changed.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._reader.end()
        self._played.has_ended = True
        self._may_write.set()
        self._changed.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    # -- playing --------------------------------------------------------------------------------

    async def play(self, port: int, limit: float) -> Played:
        """Plays the talk; whatever does not come within `limit` seconds does not come."""
        loop = asyncio.get_running_loop()
        for index, (ask, words) in enumerate(zip(self._talk.asks, self._words, strict=True)):
            self._api.watchers[words.nonce] = lambda index=index: self._saw(index)  # type: ignore[misc]
            if ask.held:
                self._held[index] = ask.held
                self._api.held[words.nonce] = asyncio.Event()
        await loop.create_connection(lambda: self, "127.0.0.1", port)
        assert self._transport is not None
        try:
            async with asyncio.timeout(limit):
                await self._send()
                await self._until(self._is_over)
                await _turns(CALM)
        except TimeoutError:
            done, sent = len(self._reader.answers), self._sent
            self._played.trouble = f"hangs: {done} answers, {sent} bytes sent"
        finally:
            self._release(len(self._words))
            if self._played.trouble:
                self._transport.abort()
            else:
                self._transport.close()
        return self._result()

    def _result(self) -> Played:
        played = self._played
        played.tail = self._reader.tail
        played.is_inside = self._reader.is_inside
        played.is_switched = self._reader.is_switched
        return played

    def _saw(self, index: int) -> None:
        self._played.seen.add(index)
        self._changed.set()

    async def _send(self) -> None:
        data = b"".join(one.data for one in self._words)
        cuts = self._cuts()
        for start, end in pairwise([0, *cuts, len(data)]):
            if self._is_broken or self._transport is None or self._transport.is_closing():
                return
            await self._may_write.wait()
            self._transport.write(data[start:end])
            self._sent = end
            self._played.segments += 1
            cut = cuts.get(end)
            await (_turns(TURNS) if cut is None else self._pause(cut))
        self._release(len(self._words))

    def _cuts(self) -> dict[int, Cut | None]:
        """Where the stream is cut, in order."""
        starts = [0]
        for one in self._words:
            starts.append(starts[-1] + len(one.data))
        cuts: dict[int, Cut | None] = {}
        if self._talk.every:
            cuts = dict.fromkeys(range(self._talk.every, starts[-1], self._talk.every))
        for cut in self._talk.cuts:
            if cut.ask < len(self._words):
                cuts[starts[cut.ask] + self._words[cut.ask].at(cut.offset)] = cut
        return {at: cuts[at] for at in sorted(cuts) if 0 < at < starts[-1]}

    async def _pause(self, cut: Cut) -> None:
        if cut.wait == "turns":
            await _turns(cut.of)
        elif cut.of < cut.ask or (cut.of == cut.ask and self._may_answer_before(cut)):
            await self._wait_for(cut)
        await _turns(TURNS)
        self._count_down()

    def _may_answer_before(self, cut: Cut) -> bool:
        """Whether something comes back before the ask's end: its head is out, its body is not."""
        words = self._words[cut.ask]
        at, is_early = words.at(cut.offset), self._talk.asks[cut.ask].kind == "early"
        if cut.wait == "continue":
            return at == words.head_end < len(words.data)
        return cut.wait == "begun" and is_early and at >= words.head_end + WORTH_SENDING

    async def _wait_for(self, cut: Cut) -> None:
        of, reader = cut.of, self._reader
        self._release(of if cut.wait in ("seen", "continue") else of + 1)

        def ended() -> bool:
            return self._is_broken or len(reader.answers) > of

        conditions: dict[str, Callable[[], bool]] = {
            "seen": lambda: of in self._played.seen or ended(),
            "begun": lambda: reader.begun > of or ended(),
            "ended": ended,
            "continue": lambda: reader.interims[of] > 0 or reader.begun > of or ended(),
        }
        await self._until(conditions[cut.wait])

    def _count_down(self) -> None:
        """Lets go of held answers that have seen enough cuts pass."""
        for index in [index for index in self._held if index in self._played.seen]:
            self._held[index] -= 1
            if not self._held[index]:
                self._let_go(index)

    def _release(self, below: int) -> None:
        for index in [index for index in self._held if index < below]:
            self._let_go(index)

    def _let_go(self, index: int) -> None:
        del self._held[index]
        self._api.held[self._words[index].nonce].set()

    @property
    def _is_broken(self) -> bool:
        return self._played.has_ended or bool(self._played.trouble)

    def _is_over(self) -> bool:
        if self._is_broken:
            return True
        if len(self._reader.answers) < len(self._words):
            return False
        if self._reader.is_switched:
            return self._reader.tail.endswith(CLOSE_FRAME)
        return not ALL[self._talk.asks[-1].kind].is_last

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
