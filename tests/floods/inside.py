"""A sidecar as a process, which says how full its memories are: `python -m tests.floods.inside`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from sidecar.app import Sidecar
from sidecar.core.config import Config, load
from sidecar.core.proof import Proof
from sidecar.net.open_files import raise_open_files
from sidecar.sessions.bounds import Latest
from sidecar.sessions.breaker import TOKENS
from sidecar.sessions.tombstones import ROOM
from sidecar.sessions.view_cache import CACHE_BYTES
from sidecar.web.unread import BYTES


def fills(sidecar: Sidecar) -> Iterator[tuple[str, float, float]]:
    """Yields each memory that a stranger can reach: its name, what it holds, and its bound."""
    runtime, server = sidecar.runtime, sidecar._server
    tombstones, evidence = runtime.revocations.tombstones, runtime.revocations.evidence
    rooms = runtime.directory._cache._rooms
    for name, room in zip(("plain", "sealed"), rooms, strict=True):
        yield f"sessions opened, {name} (bytes)", room.bytes, CACHE_BYTES
    for proof in Proof:
        name = f"tombstones, {proof.name.lower()} (bytes)"
        yield name, tombstones._bytes[proof], ROOM[proof]
    latest: dict[str, Latest[Any]] = {
        "sessions accepted": evidence.accepted,
        "sessions renewed": evidence._vouched,
        **{
            f"logouts seen off, {proof.name.lower()}": lane.begun
            for proof, lane in runtime.logout_tasks._lanes.items()
        },
        "hosts of cookies": runtime.seen._hosts,
    }
    if runtime.refresher is not None:
        latest["refresh tokens proven"] = runtime.refresher._attempts._proven
        latest["refresh tokens spent"] = runtime.refresher._succession._spent
        breaker = runtime.refresher._attempts._breaker
        yield "failed renewals", len(breaker), 2 * TOKENS
    for proof, lane in runtime.logout_tasks._lanes.items():
        yield f"logouts waiting, {proof.name.lower()} (bytes)", lane.held, lane.room.max_bytes
    for name, one in latest.items():
        yield name, len(one), one._most
    fill = runtime.metrics.store.fill()
    if fill is not None and fill.max_bytes is not None:
        yield "store in memory (bytes)", fill.size, fill.max_bytes
    events = runtime.recorder.sessions._unproven
    yield "events for the admin page", len(events), events.maxlen or 0
    most = runtime.policy.config.limits.connections
    yield "client connections", len(server._connections), most
    if server._acceptor is not None:
        yield "connections that wait to begin", len(server._acceptor._waiting), most
    yield "bytes that are no request yet", server._unread.bytes, BYTES
    budgets = sidecar._proxy.budgets
    for kind, limit in budgets.limits.items():
        yield f"requests under way, {kind}", budgets.in_flight[kind], limit


def _no_file(path: str) -> NoReturn:
    raise FileNotFoundError(path)


async def _main(config: Config, socket: str) -> None:
    sidecar = Sidecar(config)
    await sidecar.start()

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(list(fills(sidecar))).encode())
        writer.close()

    async with await asyncio.start_unix_server(tell, socket):
        await asyncio.Event().wait()


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text()
    raise_open_files()
    uvloop.run(_main(load(text, source="floods", environ={}, read_file=_no_file), sys.argv[2]))
