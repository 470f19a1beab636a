"""`sidecar status` and `sidecar tail`, against a sidecar that runs."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from sidecar.observation.status_model import Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Clients, Command, StartCommand, Upstream

PATIENCE = 60.0


def routes(upstream: Upstream) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url}, "gone": {"url": "http://127.0.0.1:9"}},
        "routes": [
            {"path": "/gone", "kind": "api", "upstream": "gone", "session": "none"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
    }


async def sidecar(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sidecar", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_status_is_a_screen_and_its_exit_code(
    command: StartCommand, upstream: Upstream, client: Clients, tmp_path: Path
) -> None:
    """By the configuration's `admin`, as `health` does; 1 if something is not well."""
    at: Command = await command(routes(upstream))
    file = str(tmp_path / f"{at.port}.yaml")
    await (await client(at.port)).get("/page")
    code, out, _ = await sidecar("status", "-c", file)
    assert code == 0
    assert out.startswith("WELL: Serving since ")
    await (await client(at.port)).get("/gone/a")
    code, out, _ = await sidecar("status", "-c", file)
    assert code == 1
    assert out.startswith("DOWN: ")
    assert "upstream gone: connection refused since" in out.splitlines()[0]
    code, out, _ = await sidecar("status", "--admin", f"127.0.0.1:{at.admin}", "--json")
    assert code == 0
    assert msgspec.json.decode(out, type=Status).verdict.state == "down"


async def test_nobody_there_is_1_and_no_address_2(tmp_path: Path) -> None:
    code, _, err = await sidecar("status", "--admin", "127.0.0.1:9")
    assert (code, err) == (1, "127.0.0.1:9: Connection refused\n")
    code, _, err = await sidecar("tail", "--admin", "nonsense")
    assert code == 2
    assert err.startswith("--admin: must be host:port")


async def test_tail_writes_a_line_for_each_request(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    at: Command = await command(routes(upstream))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sidecar", "tail", "--admin", f"127.0.0.1:{at.admin}", "--errors", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    one = await client(at.port)
    reading = asyncio.create_task(process.stdout.readline())
    async with asyncio.timeout(PATIENCE):
        while not reading.done():  # nobody says when it has begun to listen
            await one.get("/page")
            await one.get("/gone/a?q=secret")
            await asyncio.wait([reading], timeout=0.1)
        told = json.loads(await reading)
        assert (told["path"], told["status"], told["upstream"]) == ("/gone/a", 502, "gone")
        at.terminate()
        await process.communicate()  # the rest of its lines
        assert process.returncode == 0


async def test_tail_of_a_session_begins_with_its_story(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """First seen, a 401 with its route and the end, though all of it is over."""
    config = routes(upstream)
    api = {"path": "/api", "kind": "api", "upstream": "main", "session": "optional"}
    config["routes"].append(api)
    config["session"] = {"sources": [{"type": "cookie", "cookie": "access_token"}]}
    at: Command = await command(config)
    one, cookie = await client(at.port), "Cookie: access_token=tok"
    assert (await one.get("/api/a", cookie)).status == 200
    upstream.answers(upstream.reply(b"{}", status="401 Unauthorized"))
    answer = await one.get("/api/orders?q=secret", cookie)
    admin = ("--admin", f"127.0.0.1:{at.admin}")
    _, found, _ = await sidecar("status", *admin, "--json")
    session = msgspec.json.decode(found, type=Status).ended.last[-1].session
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar", "tail", *admin, "--session", str(session)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        lines = [(await process.stdout.readline()).decode()[9:].strip() for _ in range(2)]
        at.terminate()
        await process.communicate()
    assert lines[0].startswith("first seen here route /api [")
    request_id = answer.get("X-Request-Id")
    told = f"ended token_rejected GET /api/orders 401 route /api [{request_id}]"
    assert lines[1] == told
