"""The log as it is configured: which requests have a line, what it shows, and where it goes."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Clients, Command, Start, StartCommand, Upstream


def site(upstream: Upstream, **log: Any) -> dict[str, Any]:
    dead = f"http://127.0.0.1:{free_port()}"
    return {
        "upstreams": {"main": {"url": upstream.url}, "dead": {"url": dead}},
        "routes": [
            {"path": "/", "kind": "api", "upstream": "main", "session": "none"},
            {"path": "/dead", "kind": "api", "upstream": "dead", "session": "none"},
        ],
        "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
        "drain": {"wait": "0s"},
        "log": log,
    }


def read(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def requests(text: str) -> list[str]:
    """The paths of the requests that have a line."""
    return [line["path"] for line in read(text) if line["event"] == "request"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_filters_leave_out_what_is_well(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A client's fault has its line by its status, a failure always, and its cause in both."""
    at = await sidecar(site(upstream, access={"min_status": 404}))
    one = await client(at.port)
    upstream.answers(upstream.reply(b"{}"), upstream.reply(b"{}", status="404 Not Found"))
    for path in ("/fine", "/missing", "/dead"):
        await one.get(path)
    await until(lambda: "/dead" in requests(at.log.getvalue()))
    assert requests(at.log.getvalue()) == ["/missing", "/dead"]
    (failure,) = [one for one in read(at.log.getvalue()) if one["event"] == "request failed"]
    (line,) = [one for one in read(at.log.getvalue()) if one.get("path") == "/dead"][1:]
    assert failure["detail"] == line["detail"] == "connection refused"


async def test_slow_requests_have_a_line(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Whatever their status."""
    at = await sidecar(site(upstream, access={"min_status": 500, "min_duration": "30ms"}))
    upstream.answers([0.05, upstream.reply(b"{}")])
    await (await client(at.port)).get("/slow")
    await until(lambda: requests(at.log.getvalue()) == ["/slow"])


async def test_debug_lifts_the_filters_for_a_while(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """And a quieter level turns the access log off, but no failure."""
    at = await sidecar(site(upstream, access={"sample": 0}))
    level = at.sidecar.logging.level
    one = await client(at.port)
    await one.get("/before")
    level.override("debug", 600)
    await one.get("/debug")
    level.override("error", 600)
    await one.get("/quiet")
    await one.get("/dead")
    level.reset()
    await one.get("/after")
    await until(lambda: "request failed" in at.log.getvalue())
    assert requests(at.log.getvalue()) == ["/debug"]


async def test_debug_tells_that_a_request_is_sent_again(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """And why."""
    at = await sidecar(site(upstream, level="debug"))
    one = await client(at.port)
    await one.get("/first")
    upstream.answers(["reset"])
    await one.get("/again")
    await until(lambda: requests(at.log.getvalue()) == ["/first", "/again"])
    (told,) = [line for line in read(at.log.getvalue()) if line["event"] == "sent again"]
    assert (told["path"], told["upstream"], told["level"]) == ("/again", "main", "debug")
    assert told["detail"]


async def test_masked_segments_are_in_no_line(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Neither of requests nor of failures, and whatever the format is."""
    for form in ("json", "console"):
        mask = ["/users/*", "/dead/*/x"]
        at = await sidecar(site(upstream, mask=mask, format=form))
        one = await client(at.port)
        await one.get("/users/4711/orders")
        await one.get("/dead/4711/x")
        await until(lambda at=at: "/dead/*/x" in at.log.getvalue())  # type: ignore[misc]
        assert "/users/*/orders" in at.log.getvalue()
        assert "4711" not in at.log.getvalue()


async def test_console_tells_a_failure_once_with_its_cause(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """In one line that fits; and also if requests have none."""
    for log in ({}, {"access": False}, {"level": "error"}):
        at = await sidecar(site(upstream, format="console", **log))
        await (await client(at.port)).get("/dead?token=secret")
        await until(lambda at=at: "refused" in at.log.getvalue())  # type: ignore[misc]
        (line,) = [one for one in at.log.getvalue().splitlines() if "/dead" in one]
        assert " 502 GET /dead " in line
        assert " dead 127.0.0.1:" in line or " dead http://127.0.0.1:" in line
        assert line.partition("[")[0].endswith("connection refused ")
        assert len(line) < 110
        assert "secret" not in line


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_log_file_is_opened_anew_at_a_reload(
    command: StartCommand, upstream: Upstream, client: Clients, tmp_path: Path, workers: int
) -> None:
    """As logrotate asks for it; also if the configuration that is read has a fault."""
    path, old = tmp_path / "sidecar.log", tmp_path / "sidecar.log.1"
    at = await command(site(upstream, target=f"file://{path}"), workers=workers)
    await all_write(at, client, path, workers)
    for event in ("reloaded", "reload refused"):
        path.rename(old)
        if event == "reload refused":
            break_configuration(tmp_path, at)
        at.process.send_signal(signal.SIGHUP)
        await until(lambda: path.exists() and event in path.read_text())  # noqa: B023
        await all_write(at, client, path, workers)
        old.unlink()
    at.terminate()
    assert await at.exit_code() == 0
    assert at.stderr == ""


async def all_write(at: Command, client: Clients, path: Path, workers: int) -> None:
    """Asks until each worker has written lines of requests to that file."""
    async with asyncio.timeout(60):
        found: set[int] = set()
        while len(found) < workers:
            one = await client(at.port)
            assert (await one.get("/again")).status == 200
            one.close()
            await asyncio.sleep(0.02)
            found = writers(path)


def writers(path: Path) -> set[int]:
    """The workers that lines of requests in a file are of."""
    lines = read(path.read_text()) if path.exists() else []
    return {line.get("worker", 0) for line in lines if line["event"] == "request"}


def break_configuration(folder: Path, at: Command) -> None:
    (file,) = (one for one in folder.glob("*.yaml") if str(at.port) in one.read_text())
    file.write_text("nonsense: true")
