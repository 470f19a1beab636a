"""The oracle itself: its segments are segments, and it sees what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import pytest

from sidecar.core.record import replace
from sidecar.web.connection import ClientConnection
from tests.oracle.history import Ask, Cut, History, Talk, generate
from tests.oracle.known import FIXED, TWO
from tests.oracle.player import Player
from tests.oracle.shrink import shrunk

if TYPE_CHECKING:
    from tests.oracle.player import Played
    from tests.oracle.world import World


@pytest.mark.parametrize("every", [1, 7, 40])
async def test_each_segment_is_received_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    sizes: list[int] = []
    received = ClientConnection.data_received

    def counted(connection: ClientConnection, data: bytes) -> None:
        sizes.append(len(data))
        received(connection, data)

    asks = FIXED["known sections"]
    await world.faults(History(TWO, (Talk(asks),)))  # what the requests get alone is known now
    monkeypatch.setattr(ClientConnection, "data_received", counted)
    await world.faults(History(TWO, (Talk(asks, (), every),)))
    sizes = [size for size in sizes if size]
    assert set(sizes[:-1]) == {every}
    assert sum(sizes[:-1]) + sizes[-1] > 400


def _swap(played: Played) -> None:
    played.answers[1:3] = played.answers[2:0:-1]


def _lose(played: Played) -> None:
    del played.answers[-1]


def _end(played: Played) -> None:
    played.has_ended = True


def _add(played: Played) -> None:
    played.tail = b"HTTP/1.1 200 OK\r\n\r\n"


def _repeat(played: Played) -> None:
    played.answers[1] = played.answers[0]


def _change(played: Played) -> None:
    played.answers[1] = replace(played.answers[1], status=203)


def _unseal(played: Played) -> None:
    fields = [(k, "none" if k == "x-authorization" else v) for k, v in played.answers[1].fields]
    played.answers[1] = replace(played.answers[1], fields=tuple(fields))


@pytest.mark.parametrize("tamper", [_swap, _lose, _end, _add, _repeat, _change, _unseal])
async def test_what_is_wrong_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch, tamper: Callable[[Played], None]
) -> None:
    history = History(TWO, (Talk(FIXED["known sections"]),))
    assert await world.faults(history) == []
    result = Player._result

    def tampered(player: Player) -> Played:
        played = result(player)
        tamper(played)
        return played

    monkeypatch.setattr(Player, "_result", tampered)
    assert await world.faults(history)


async def test_request_that_is_mixed_of_two_is_seen(world: World) -> None:
    """By the upstream, whoever is answered."""
    sent = Player.connection_made

    def mixing(player: Player, *arguments: object) -> None:
        player._words = [replace(one, data=_mixed(one.data)) for one in player._words]
        sent(player, *arguments)  # type: ignore[arg-type]

    history = History(("raw",), (Talk((Ask("get", 0, look=1), Ask("get", 0))),))
    assert await world.faults(history) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Player, "connection_made", mixing)
        faults = await world.faults(history)
    assert any(one.startswith("upstream: ") for one in faults)


def _mixed(data: bytes) -> bytes:
    return data.replace(b"r000 HTTP", b"r001 HTTP")


async def test_failing_history_is_made_small() -> None:
    """Down to the one request that fails it, and its cut."""

    async def fails(history: History) -> bool:
        return any(
            ask.kind == "post" and any(cut.ask == number for cut in talk.cuts)
            for talk in history.talks
            for number, ask in enumerate(talk.asks)
        )

    seeds = [seed for seed in range(200) if await fails(generate(Random(seed)))][:5]
    for seed in seeds:
        small = await shrunk(generate(Random(seed)), fails)
        (talk,) = small.talks
        assert [ask.kind for ask in talk.asks] == ["post"]
        assert [replace(cut, offset=0) for cut in talk.cuts] == [Cut(0, 0)]
