"""A process that contends for a store with others: `python -m tests.net.store.contender`.

Says `ready`, waits for a line, counts up, and prints as JSON what it won and heard.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.net.store.conftest import Place


async def contend(place: Place, key: str, me: str, rivals: int, count: int) -> None:
    store = place.open(limit=10.0)
    heard: list[str] = []
    await store.ping()
    await store.subscribe(lambda message: heard.append(message.decode()))
    _say("ready")
    await asyncio.to_thread(sys.stdin.readline)

    async def win(number: int) -> int | None:
        return number if await store.add(f"{key}:{number}", me.encode(), 60) else None

    async def count_up() -> None:
        while True:
            seen = await store.get(key)
            assert seen is not None
            if await store.replace(key, seen, str(int(seen) + 1).encode(), 60):
                return

    won = [number for number in await asyncio.gather(*map(win, range(count))) if number is not None]
    for _ in range(count):
        await count_up()
    for number in range(3):
        await store.publish(f"{key}:{me}:{number}".encode())
    async with asyncio.timeout(10):
        while len(mine := [one for one in heard if one.startswith(key)]) < 3 * rivals:
            await asyncio.sleep(0.01)
    await store.close()
    _say(json.dumps({"won": won, "heard": mine}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    url, sealed, key, me, rivals, count = sys.argv[1:]
    asyncio.run(contend(Place(url, sealed == "sealed"), key, me, int(rivals), int(count)))
