"""Streams of the admin listener, by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import pytest

from sidecar.web.status_feed import (
    LISTENERS,
    WAITING,
    StatusFeed,
    Tail,
    TooManyListeners,
    event,
    with_beats,
)


async def test_one_document_is_made_for_all_who_listen() -> None:
    made = 0

    async def make() -> bytes:
        nonlocal made
        made += 1
        return b"{}"

    feed = StatusFeed(make)
    streams = [feed.documents() for _ in range(LISTENERS)]
    for one in streams:
        assert await anext(one) == b"{}"
    assert made == LISTENERS  # each has one at once
    with pytest.raises(TooManyListeners):
        await anext(feed.documents())
    for one in streams:
        assert await anext(one) == b"{}"
    assert made == LISTENERS + 1
    for one in streams:
        await one.aclose()
    made = 0
    await asyncio.sleep(0)
    assert feed._task is None


async def test_slow_listener_is_told_how_many_it_missed() -> None:
    tail = Tail(lambda facts: facts["status"] >= 500)
    tail.add({"status": 200})
    for at in range(WAITING + 7):
        tail.add({"status": 500, "at": at})
    lines = tail.lines()
    told = [msgspec.json.decode(await anext(lines)) for _ in range(WAITING + 1)]
    assert [one["at"] for one in told[:-1]] == [*range(WAITING)]
    assert told[-1] == {"lost": 7}


async def test_silence_has_beats_and_loses_nothing() -> None:
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def items() -> AsyncGenerator[bytes]:
        while True:
            yield await queue.get()

    async with aclosing(with_beats(items(), 0.001)) as found:
        assert await anext(found) is None
        queue.put_nowait(b"a")
        while (item := await anext(found)) is None:
            pass
        assert item == b"a"


async def test_end_of_what_is_told_ends_the_stream() -> None:
    async def items() -> AsyncGenerator[bytes]:
        yield b"a"

    assert [one async for one in with_beats(items())] == [b"a"]


def test_events_are_framed() -> None:
    assert event(b"{}", "status") == b"event: status\ndata: {}\n\n"
    assert event(b"{}") == b"data: {}\n\n"
