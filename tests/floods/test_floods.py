"""Whatever a stranger floods the sidecar with, users are served."""

from __future__ import annotations

import asyncio

from tests.floods.__main__ import play
from tests.floods.strangers import BALANCER, FLOODS, flood, raise_descriptors
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


async def test_clients_of_a_balancer_are_served_beside_a_flood_of_headers() -> None:
    """On the very listener that is flooded, from the very address."""
    raise_descriptors()
    async with running_site() as site:
        flooding = asyncio.create_task(flood("PROXY headers", site.port, site.balanced, 5.0))
        served = 0
        while not flooding.done():
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", site.balanced, local_addr=(BALANCER, 0)
            )
            writer.write(b"PROXY TCP4 198.51.100.7 192.0.2.1 1024 443\r\n")
            writer.write(b"GET /open/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
            served += 1
            writer.close()
        assert served > 2
        assert await flooding > 1000
