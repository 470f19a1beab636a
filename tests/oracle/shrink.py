"""Makes a failing history smaller, as long as it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

from sidecar.core.record import replace
from tests.oracle.history import ALL, Ask, Cut, History, Talk

T = TypeVar("T")
ROUNDS: Final = 400  # plays at most


async def shrunk(history: History, fails: Callable[[History], Awaitable[bool]]) -> History:
    """The smallest history that was found and fails; `history` itself where none is smaller."""
    rounds = 0
    smaller = True
    while smaller and rounds < ROUNDS:
        smaller = False
        for candidate in _candidates(history):
            rounds += 1
            if rounds > ROUNDS:
                break
            if await fails(candidate):
                history, smaller = candidate, True
                break
    return history


def _candidates(history: History) -> Iterator[History]:
    """Smaller histories, the boldest first."""
    for one in _without_each(history.talks):
        if one:
            yield replace(history, talks=one)
    for number, talk in enumerate(history.talks):
        for smaller in _smaller(talk):
            talks = (*history.talks[:number], smaller, *history.talks[number + 1 :])
            yield replace(history, talks=talks)
    for number, kind in enumerate(history.users):
        if kind not in ("raw", "nobody"):
            users = (*history.users[:number], "raw", *history.users[number + 1 :])
            yield replace(history, users=users)


def _smaller(talk: Talk) -> Iterator[Talk]:
    if talk.every:
        yield replace(talk, every=0)
    count = len(talk.asks)
    for length in (count // 2, count // 4, 1):
        if length:
            for start in range(0, count, length):
                rest = _without(talk, start, min(start + length, count))
                if rest.asks:
                    yield rest
    for cuts in _without_each(talk.cuts):
        yield replace(talk, cuts=cuts)
    for number, ask in enumerate(talk.asks):
        for simpler in _simpler(ask):
            yield replace(talk, asks=(*talk.asks[:number], simpler, *talk.asks[number + 1 :]))
    for number, cut in enumerate(talk.cuts):
        if (cut.wait, cut.of) != ("turns", 3):
            calm = replace(cut, wait="turns", of=3)
            yield replace(talk, cuts=(*talk.cuts[:number], calm, *talk.cuts[number + 1 :]))


def _simpler(ask: Ask) -> Iterator[Ask]:
    plain = Ask("get", ask.user, held=ask.held)
    if ask.kind != "get":
        yield plain
    if ask.kind not in ("get", "post") and ALL[ask.kind].framing:
        yield replace(ask, kind="post")
    lesser = (replace(ask, look=0), replace(ask, size=0), replace(ask, blank=0))
    yield from (one for one in (*lesser, replace(ask, held=0)) if one != ask)
    if ask.held > 1:
        yield replace(ask, held=1)


def _without_each(many: Sequence[T]) -> Iterator[tuple[T, ...]]:
    for number in range(len(many)):
        yield (*many[:number], *many[number + 1 :])


def _without(talk: Talk, start: int, end: int) -> Talk:
    """Without the asks from `start` to before `end`; what waited for them waits no more."""
    cuts = [_moved(cut, start, end) for cut in talk.cuts if not start <= cut.ask < end]
    return replace(talk, asks=(*talk.asks[:start], *talk.asks[end:]), cuts=tuple(cuts))


def _moved(cut: Cut, start: int, end: int) -> Cut:
    gap = end - start
    ask = cut.ask - gap if cut.ask >= end else cut.ask
    if cut.wait == "turns" or cut.of < start:
        return replace(cut, ask=ask)
    if cut.of < end:
        return replace(cut, ask=ask, wait="turns", of=3)
    return replace(cut, ask=ask, of=cut.of - gap)
