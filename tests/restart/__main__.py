"""`python -m tests.restart --seconds N`: reloads and restarts under load, and what was lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port
from tests.restart.site import a_site


def ports() -> Iterator[int]:
    while True:
        yield free_port()


async def main(seconds: float, workers: int) -> bool:
    """Returns whether nobody lost anything."""
    until = time.monotonic() + seconds
    reloads = restarts = 0
    with tempfile.TemporaryDirectory() as folder:
        async with a_site(Path(folder), ports(), workers) as site:
            await site.start()
            await site.visited()
            while time.monotonic() < until:
                for how in ("signal", "file", "post"):
                    await site.reload(how)
                    reloads += 1
                    await site.busy()
                await site.replace()
                restarts += 1
                await site.until(site.are_all_here)
                await site.busy()
            await site.leave()
            print(f"workers       {workers}: {reloads} reloads, {restarts} restarts")
            print("\n".join(site.seen.lines()))
            return site.seen.is_fine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.seconds, given.workers)) else 1)
