"""Histories with names: those that went wrong once, and those that are cut at every byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sidecar.core.record import replace
from tests.oracle.history import ALL, Ask, Cut, History, Talk
from tests.oracle.users import user
from tests.oracle.wording import worded

TWO: Final = ("raw", "authjs")
SHORT: Final = ("raw", "raw")  # their requests have few bytes


def _one(*asks: Ask, cuts: Sequence[Cut] = (), users: tuple[str, ...] = TWO) -> History:
    return History(users, (Talk(asks, tuple(cuts)),))


_HELD: Final = Ask("get", 0, held=2)
_A, _B = Ask("get", 0), Ask("get", 1)
_BIG: Final = Ask("post", 0, size=70_000)

KNOWN: Final = {
    # A segment holds the start of the third request; its rest was taken for a head of its own.
    "rest of the third while the first is served": _one(
        _HELD, _B, _A, cuts=[Cut(2, 40, "seen", 0)]
    ),
    # So the third was not read, and others were answered in its place.
    "another user behind the second answer": _one(
        *(_B, _HELD, _A, _A, _B, _B),
        cuts=[Cut(1, 0, "ended", 0), Cut(3, 10, "seen", 1), Cut(4, 0, "ended", 2), Cut(5, 0)],
    ),
    "last byte with the next": _one(_HELD, _B, _A, cuts=[Cut(1, -1, "seen", 0)]),
    "last byte with the next, of the same section": _one(
        _A, _HELD, _A, _B, cuts=[Cut(2, -1, "seen", 1)]
    ),
    # Reading paused for what waited behind a request that was answered at once, and stayed so.
    "large body behind an answer of the sidecar's own": _one(
        Ask("nowhere"), _BIG, cuts=[Cut(1, -2)]
    ),
    "large body that is refused behind such an answer": _one(
        _A, _BIG, _B, cuts=[Cut(2, 0)], users=("nobody", "raw")
    ),
}

FIXED: Final = {
    "known sections": (_HELD, _A, _B, _A),
    "bodies": (
        _HELD,
        Ask("post", 1, size=60),
        Ask("trailers", 0, look=1, size=40),
        Ask("head", 1),
        _B,
    ),
    "own answers": (
        Ask("nowhere", 1, held=2),
        Ask("expect", 0, size=20),
        Ask("get", 1, blank=1),
        _A,
    ),
    "logout": (Ask("get", 0, held=2), Ask("logout", 0), _A, _B),
    "websocket": (Ask("get", 1, held=2), _A, Ask("websocket", 1)),
}
"""Short ones by two users, to be cut everywhere. The upstream holds the first one's answer."""


def lengths(asks: Sequence[Ask], users: Sequence[str]) -> list[int]:
    """How many bytes each ask has."""
    whose = [user(kind, f"n0000000u{number:03d}") for number, kind in enumerate(users)]
    return [len(worded(ask, whose[ask.user], "n0000000c00r000").data) for ask in asks]


def cut_once(asks: Sequence[Ask]) -> Iterator[History]:
    """In two segments, at every byte: the second comes at once, or while the first is served."""
    for number, length in enumerate(lengths(asks, SHORT)):
        for offset in range(length):
            if number or offset:
                yield _one(*asks, cuts=[Cut(number, offset, "turns", 3)], users=SHORT)
            if number:
                waits = "seen" if ALL[asks[0].kind].need == "required" else "begun"
                yield _one(*asks, cuts=[Cut(number, offset, waits, 0)], users=SHORT)


def cut_twice(asks: Sequence[Ask]) -> Iterator[History]:
    """In three segments, at two of the places next to a boundary; all while the first is served."""
    places = [
        (number, offset) for number in range(1, len(asks)) for offset in (0, 1, 12, -4, -2, -1)
    ]
    for first, (number, offset) in enumerate(places):
        for other, at in places[first + 1 :]:
            cuts = [Cut(number, offset, "seen", 0), Cut(other, at, "turns", 3)]
            yield _one(*(replace(ask, held=ask.held and 3) for ask in asks), cuts=cuts, users=SHORT)
