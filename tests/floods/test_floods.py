"""Whatever a stranger floods the sidecar with, users are served."""

from __future__ import annotations

from tests.floods.__main__ import play
from tests.floods.strangers import FLOODS, raise_descriptors
from tests.floods.world import running_site

MIB = 1 << 20


async def test_users_are_served_beside_every_flood() -> None:
    """No error, no other user's answer; the long run is `python -m tests.floods`."""
    raise_descriptors()
    async with running_site() as site:
        for name in FLOODS:
            result = await play(site, name, 0.6, 6)
            assert result.sent > 0, name
            assert result.seen.errors == {}, name
            assert len(result.seen.seconds) >= 6, name
            assert result.peak - result.before < 64 * MIB, name
            for memory, (holds, bound) in result.fills.items():
                assert holds <= bound, (name, memory)
