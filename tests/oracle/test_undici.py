"""Calls of several users through one pooling client, pipelined by a real one: undici."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.oracle.relay import cutting_relay
from tests.oracle.users import User, user

if TYPE_CHECKING:
    from tests.oracle.world import World

PROJECT: Final = Path(__file__).parent / "npm"
USERS: Final = ("raw", "authjs", "renewing", "raw")
CALLS: Final = 1000
SECONDS: Final = 30.0


@pytest.fixture(scope="session")
def project(npm_project: Callable[..., Path]) -> Path:
    """The script with the packages of its lock file."""
    return npm_project(PROJECT)


def _call(random: Random, whose: User, nonce: str) -> dict[str, Any]:
    headers = {"cookie": whose.cookie, "x-whose": whose.name}
    if random.random() < 0.3:
        headers["x-nonce"] = nonce
    behaviour = random.choice(("echo", "echo", "echo", "echo", "slow", "pieces"))
    body = None
    if random.random() < 0.1:
        body = nonce + "GET /api/echo/smuggled HTTP/1.1\r\n\r\n" * random.choice((0, 1, 30, 3000))
    method = "GET" if body is None else "POST"
    path = f"/api/{behaviour}/{nonce}"
    return {"nonce": nonce, "method": method, "path": path, "headers": headers, "body": body}


def _told(call: dict[str, Any], whose: User) -> dict[str, Any]:
    body = (call["body"] or "").encode()
    return {
        "nonce": call["nonce"],
        "method": call["method"],
        "authorization": f"Bearer {whose.token}",
        "token": "none",
        "length": len(body),
        "sha": hashlib.sha256(body).hexdigest(),
    }


@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "cut"])
@pytest.mark.parametrize(("connections", "pipelining"), [(1, 10), (3, 10), (2, 2), (2, 1)])
async def test_pooled_calls_of_many_users_get_their_own_answers(
    world: World, project: Path, connections: int, pipelining: int, *, relayed: bool
) -> None:
    """Each with its own nonce and token, in the segments of undici and in others."""
    random = Random(connections * 100 + pipelining)
    users = [user(kind, f"n0000000u{number:03d}") for number, kind in enumerate(USERS)]
    whose = [random.choice(users) for _ in range(CALLS)]
    calls = [_call(random, one, f"n0000000r{number:05d}") for number, one in enumerate(whose)]
    world.api.watchers.update({call["nonce"]: lambda: None for call in calls})
    job = {
        "connections": connections,
        "pipelining": pipelining,
        "workers": 40,
        "calls": calls,
    }
    async with cutting_relay(world.port, random) as relay:
        port = relay if relayed else world.port
        results = await _run(project, job | {"origin": f"http://127.0.0.1:{port}"})
    expected = {call["nonce"]: _told(call, one) for call, one in zip(calls, whose, strict=True)}
    wrong = [result for result in results if _is_wrong(result, expected[result[0]])]
    assert wrong == []
    assert {result[0] for result in results} == expected.keys()
    assert {nonce: len(sights) for nonce, sights in world.api.sights.items()} == dict.fromkeys(
        expected, 1
    )
    assert world.api.strangers == []


async def _run(project: Path, job: dict[str, Any]) -> list[list[Any]]:
    process = await asyncio.create_subprocess_exec(
        "node",
        "client.mjs",
        cwd=project,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(json.dumps(job).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()[-1000:]
    results: list[list[Any]] = json.loads(out)
    return results


def _is_wrong(result: list[Any], told: dict[str, Any]) -> bool:
    nonce, status, named, body = result
    return (status, named) != (200, nonce) or json.loads(body)["data"] != told
