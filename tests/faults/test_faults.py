"""Whatever fails around the sidecar: what users get is right, or visibly an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.play import play_site
from tests.floods.strangers import raise_descriptors

PATIENCE = 20.0  # seconds added to each bound: the machine may have more to do
CHOSEN = {
    "cookies": ("upstream cuts chunks", "killed"),
    "sqlite": ("handover", "disk full"),
    "redis": ("store killed", "worker killed"),
}


@pytest.mark.parametrize("site", CHOSEN)
async def test_nobody_gets_anything_wrong_and_all_recovers(
    tmp_path: Path, require_program: Callable[[str], str], site: str
) -> None:
    """The long run is `python -m tests.faults`."""
    if site == "redis":
        require_program("redis-server")
    raise_descriptors()
    results = await play_site(
        site, tmp_path, seed=1, seconds=5, chosen=CHOSEN[site], patience=PATIENCE
    )
    assert len(results) > 1
    for result in results:
        assert result.violations == [], result.fault
        assert result.tally.right > 0, result.fault
