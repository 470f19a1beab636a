"""Many connections and sessions that come and go: nothing is mixed up, and nothing grows."""

from __future__ import annotations

from pathlib import Path

from tests.floods.strangers import raise_descriptors
from tests.soak.__main__ import soak

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
