"""Many connections and sessions that come and go: nothing is mixed up, and nothing grows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.floods.strangers import raise_descriptors
from tests.soak.__main__ import soak
from tests.soak.judge import violations
from tests.soak.load import BRAKED, Asker, Load, Seen

MIB = 1 << 20


async def test_nothing_is_mixed_up_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """The long run is `python -m tests.soak`."""
    raise_descriptors()
    done = await soak(
        tmp_path, seconds=10, connections=200, sessions=2000, seed=1, flat=64.0 * MIB, trends=False
    )
    assert done.violations == []
    assert done.seen.right > 500
    assert done.seen.renewed > 0
    assert done.seen.events > 0
    assert done.seen.streams_ended > 0
    assert set(done.seen.ended) == {"logout", "rejected", "forgotten"}


@pytest.mark.parametrize(
    ("status", "code", "refused", "errors"),
    [
        (303, "", {}, {}),
        (401, "token_rejected", {BRAKED: 1}, {}),
        (401, "session_expired", {}, {"401 at rejected": 1}),
        (503, "overloaded", {"overloaded": 1}, {}),
        (200, "", {}, {"200 at rejected": 1}),
    ],
)
def test_a_rejected_session_that_the_brake_spared_is_no_error(
    status: int, code: str, refused: dict[str, int], errors: dict[str, int]
) -> None:
    """It is 401 `token_rejected` then; any other 401 is an error."""
    load = Load(0, 1.0, 1)
    Asker(load)._judge_rejected(status, b'{"errorData":{"code":"%b"}}' % code.encode())
    assert (load.seen.refused, load.seen.errors) == (refused, errors)
    assert load.seen.ended == {"rejected": 1}


@pytest.mark.parametrize(
    ("spared", "brakes", "found"),
    [
        (0, 0, []),
        (50, 1, []),
        (1, 0, ["1 rejected sessions were spared, and no brake was engaged"]),
        (51, 1, ["the brake spared 51 of 100 rejected sessions"]),
    ],
)
def test_the_brake_spares_only_while_it_is_engaged(
    spared: int, brakes: int, found: list[str]
) -> None:
    """And never most of those that are rejected, beside all who are not."""
    seen = Seen(requests=1000, right=900, events=1, streams_ended=1)
    seen.ended["rejected"] = 100
    seen.refused[BRAKED] = spared
    sample = SimpleNamespace(tasks=0, descriptors=0)
    point: Any = SimpleNamespace(sample=sample, metrics={"sidecar_client_connections": 0.0})
    assert violations(seen, [], point, point, brakes=brakes) == found
