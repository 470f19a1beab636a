"""The admin listener, and what must never be seen in it, in a log or in an answer."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Clients, Start, StartCommand, Upstream, Wire

HOST = "Host: app.example.com\r\n"


def routes(upstream: Upstream, **main: Any) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "upstreams": {
            "main": {"url": upstream.url, **main},
            "spare": {"url": "http://127.0.0.1:9"},
        },
        "routes": [
            {"path": "/api", "session": "optional", **api},
            {"path": "/api/need", **api},
            {"path": "/api/login", "session": "none", **api},
            {"path": "/spare", "kind": "api", "upstream": "spare", "session": "none"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
    }


# -- health ----------------------------------------------------------------------------------------


async def test_alive_and_ready(sidecar: Start, upstream: Upstream) -> None:
    """An upstream that is not marked is reported, no more (behaviour: admin listener)."""
    at = await sidecar(routes(upstream, ready=True))
    assert (await at.ask_admin("/healthz")).status == 200
    answer = await at.ask_admin("/readyz")
    assert (answer.status, answer.json["ready"]) == (200, True)
    told = answer.json["upstreams"]
    assert told["main"] == {"reachable": True, "required": True}
    assert told["spare"] == {"reachable": False, "required": False}


async def test_not_ready_while_a_required_upstream_is_down(
    sidecar: Start, upstream: Upstream
) -> None:
    """503, though alive; and ready again by itself."""
    at = await sidecar(routes(upstream, ready=True))
    await upstream.stop()
    answer = await at.ask_admin("/readyz")
    assert (answer.status, answer.json["ready"]) == (503, False)
    assert (await at.ask_admin("/healthz")).status == 200
    await upstream.start()
    assert (await at.ask_admin("/readyz")).status == 200


async def test_down_upstream_that_is_not_required_does_not_matter(
    sidecar: Start, upstream: Upstream
) -> None:
    at = await sidecar(routes(upstream))
    await upstream.stop()
    answer = await at.ask_admin("/readyz")
    assert (answer.status, answer.json["upstreams"]["main"]["reachable"]) == (200, False)


async def test_not_ready_without_the_store(
    sidecar: Start, upstream: Upstream, tmp_path: Path
) -> None:
    """Says that it is the store; and ready again by itself."""
    place = tmp_path / "later"
    at = await sidecar(routes(upstream, ready=True), store={"url": f"sqlite://{place}/store.db"})
    answer = await at.ask_admin("/readyz")
    assert (answer.status, answer.json["missing"]) == (503, ["store"])
    assert answer.json["store"] == {"reachable": False, "required": True, "pending": 0}
    await upstream.stop()
    assert (await at.ask_admin("/readyz")).json["missing"] == ["store", "upstream main"]
    await upstream.start()
    place.mkdir()
    answer = await at.ask_admin("/readyz")
    assert (answer.status, answer.json["missing"]) == (200, [])
    assert answer.json["store"] == {"reachable": True, "required": True, "pending": 0}


async def test_ready_without_a_store_that_readiness_does_not_depend_on(
    sidecar: Start, upstream: Upstream, tmp_path: Path
) -> None:
    """`store: {ready: false}`: it is reported only."""
    store = {"url": f"sqlite://{tmp_path}/later/store.db", "ready": False}
    answer = await (await sidecar(routes(upstream), store=store)).ask_admin("/readyz")
    assert (answer.status, answer.json["missing"]) == (200, [])
    assert answer.json["store"] == {"reachable": False, "required": False, "pending": 0}


async def test_memory_store_never_matters(sidecar: Start, upstream: Upstream) -> None:
    answer = await (await sidecar(routes(upstream))).ask_admin("/readyz")
    assert answer.json["store"] == {"reachable": True, "required": False, "pending": 0}
    assert answer.json["provider"] is None


async def test_readiness_reports_the_provider_and_its_last_error(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """It is none of the sidecar's own: users who are logged in are served all the same."""
    oidc = {"issuer": f"http://127.0.0.1:{free_port()}", "client_id": "a", "client_secret": "b"}
    at = await sidecar(routes(upstream), public_url="http://127.0.0.1:8080", oidc=oidc)
    login = await (await client(at)).get("/auth/login", "Host: 127.0.0.1:8080")
    assert login.status == 503  # at another Host it is a redirect, for which nobody is asked
    answer = await at.ask_admin("/readyz")
    assert (answer.status, answer.json["missing"]) == (200, [])
    metadata = answer.json["provider"]["metadata"]
    assert metadata["reachable"] is False
    assert "refused" in metadata["error"]
    assert metadata["at"] > 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_admin_is_not_on_the_public_port(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """T64: there it is a path like any other, whatever the User-Agent."""
    at = await sidecar(routes(upstream))
    await (await client(at)).get(path, "User-Agent: kube-probe/1.30", f"Host: 127.0.0.1:{at.admin}")
    assert upstream.last.target == path


async def test_public_paths_are_not_on_the_admin_port(sidecar: Start, upstream: Upstream) -> None:
    at = await sidecar(routes(upstream))
    for path in ("/api/a", "/api/logout", "/page"):
        assert (await at.ask_admin(path)).status == 404
    assert upstream.requests == []


async def test_admin_can_be_turned_off(
    sidecar: Start, command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    at = await command(routes(upstream) | {"admin": None})
    one = await client(at.port)
    assert (await one.get("/page")).status == 200
    with pytest.raises(ConnectionRefusedError):
        await at.ask_admin("/healthz")


# -- metrics ---------------------------------------------------------------------------------------


async def test_metrics_count_what_was_done(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """By route and status, with labels that come from the configuration only."""
    at = await sidecar(routes(upstream))
    one = await client(at)
    await one.get("/api/secret-path?token=x")
    await one.get("/api/a")
    await one.get("/page")
    await one.get("/api/need/a")
    upstream.answers(upstream.reply(b"{}", status="404 X"))
    await one.get("/api/a")
    metrics = await at.metrics()
    count = 'sidecar_requests_total{route="%s",status="%s"}'
    assert metrics[count % ("/api", 200)] == 2
    assert metrics[count % ("/api", 404)] == 1
    assert metrics[count % ("/", 200)] == 1
    assert metrics[count % ("/api/need", 303)] == 1
    assert metrics['sidecar_request_duration_seconds_count{route="/api"}'] == 3
    assert metrics['sidecar_request_duration_seconds_bucket{le="+Inf",route="/api"}'] == 3
    assert metrics["sidecar_client_connections"] == 1
    names = {name.partition("{")[0] for name in metrics}
    assert names >= {
        "sidecar_decisions_total",
        "sidecar_requests_in_flight",
        "sidecar_upstream_connections",
        "sidecar_upstream_retries_total",
        "sidecar_cookies_dropped_total",
        "sidecar_sessions_cached",
        "sidecar_tombstones",
    }
    assert not any("secret-path" in name for name in metrics)


async def test_client_that_left_is_counted(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """As nginx does, with a status of its own."""
    upstream.default = ["hang"]
    at = await sidecar(routes(upstream))
    one = await client(at)
    one.send(f"GET /page HTTP/1.1\r\n{HOST}\r\n")
    await at.wait_for(lambda _: bool(upstream.requests))
    one.reset()
    name = 'sidecar_requests_total{route="/",status="499"}'
    assert (await at.wait_for(lambda metrics: name in metrics))[name] == 1


async def test_number_of_label_values_does_not_grow_with_requests(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Paths, methods and hosts of clients make no new series."""
    at = await sidecar(routes(upstream))
    one = await client(at)
    await one.get("/page")
    before = set(await at.metrics())
    for number in range(20):
        await one.ask("PROPFIND", f"/page/{number}?q={number}", f"Host: h{number}.example")
    assert set(await at.metrics()) == before


# -- tokens ----------------------------------------------------------------------------------------

CANARY = "canary-c4n4ry-7f3a9e51d2"  # b64token characters, so that it is a credential
ODD = "canary c4n4ry-7f3a9e51d2"  # no credential, but a secret all the same


async def test_token_appears_nowhere_but_at_the_upstream(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """T46: not in the log at its most talkative, the metrics, an error or a redirect."""
    answers: list[bytes] = []
    at = await command(routes(upstream, head="300ms") | {"log": {"level": "debug", "access": True}})

    async def ask(
        *lines: str, method: str = "GET", path: str = "/api/a", body: bytes = b""
    ) -> None:
        one = await client(at.port)
        head = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", *lines))
        one.send(f"{head}{HOST}Connection: close\r\n\r\n".encode() + body)
        answers.append(await one.ends())

    upstream.default = upstream.reply(b"{}")
    for cookie in (
        f"access_token={CANARY}",
        f"access_token={ODD}",
        f"__Host-access_token={CANARY}",
    ):
        for route in ("a", "need", "login"):
            await ask(f"Cookie: {cookie}", path=f"/api/{route}")
        await ask(f"Cookie: {cookie}", path="/page")
        await ask(f"Cookie: {cookie}", path="/spare")
        await ask(f"Cookie: {cookie}", f"Authorization: Bearer {CANARY}", path="/api/need")
        await ask(f"Cookie: {cookie}", path=f"/api/a?token={CANARY}")
    upstream.answers(["reset"], ["hang"], b"garbage\r\n\r\n", upstream.reply(b"{"))
    for _ in range(4):
        await ask(f"Cookie: access_token={CANARY}")
    for odd in (
        f"Cookie: access_token={CANARY}\x00",
        f"Cookie: access_token={CANARY}\r\nBroken Header: x",
        f"Cookie: access_token={CANARY * 4000}",
        f"Cookie: access_token={CANARY}\r\nContent-Length: {CANARY}",
        f"Authorization: Bearer {CANARY}\r\nTransfer-Encoding: {CANARY}",
        f"{CANARY}: {CANARY}\r\n {CANARY}",
    ):
        await ask(odd)
    await ask(f"Host: {CANARY}/", f"Cookie: access_token={CANARY}")
    await ask(path=f"/api/%zz{CANARY}")
    await ask(
        f"Cookie: access_token={CANARY}",
        "Origin: https://evil.example",
        method="POST",
        path="/api/a",
    )
    upstream.answers(upstream.reply(b"{}", status="401 X"))
    await ask(f"Cookie: access_token={CANARY}", path="/api/need")
    await ask(f"Cookie: access_token={CANARY}", path="/api/need")
    await ask(f"Cookie: access_token={CANARY}", method="POST", path="/api/logout")
    metrics = (await at.ask_admin("/metrics")).body
    ready = (await at.ask_admin("/readyz")).body
    at.terminate()
    assert await at.exit_code() == 0
    seen = [request.get("Authorization") for request in upstream.requests]
    assert f"Bearer {CANARY}" in seen
    assert len(answers) > 30
    secret = re.compile(rb"c4n4ry", re.IGNORECASE)
    for place in (*answers, metrics, ready, at.stderr.encode()):
        assert not secret.search(place), place[max(0, secret.search(place).start() - 200) :][:400]  # type: ignore[union-attr]
    assert b"Traceback" not in at.stderr.encode()


async def test_access_log_has_a_line_for_each_request(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """JSON, with what happened and to whom by fingerprint; without the query."""
    at = await command(routes(upstream))
    one = await client(at.port)
    answer = await one.get("/api/a?q=secret", "Cookie: access_token=tok")
    await one.get("/api/need")
    at.terminate()
    assert await at.exit_code() == 0
    lines = [json.loads(line) for line in at.stderr.splitlines()]
    first, second = [line for line in lines if line["event"] == "request"]
    assert first["request_id"] == answer.get("X-Request-Id")
    assert (first["method"], first["path"], first["route"]) == ("GET", "/api/a", "/api")
    assert (first["status"], first["upstream_status"]) == (200, 200)
    assert first["duration_ms"] > 0
    assert len(first["session"]) == 22
    assert (second["status"], second["credential"]) == (303, "no_session")
    assert "secret" not in at.stderr


async def test_quiet_log_is_quiet(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    at = await command(routes(upstream) | {"log": {"level": "warning", "access": False}})
    assert (await (await client(at.port)).get("/page")).status == 200
    at.terminate()
    assert await at.exit_code() == 0
    assert at.stderr == ""


async def test_drain_is_told_by_readiness(
    sidecar: Start, command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    """So that a balancer stops sending while requests under way are finished."""
    release = asyncio.Event()

    async def serve(wire: Wire) -> None:
        await upstream.receive(wire)
        await release.wait()
        wire.send(upstream.reply(b"{}"))
        await wire.is_left()

    upstream.serve = serve
    at = await command(routes(upstream))
    one = await client(at.port)
    one.send(f"GET /page HTTP/1.1\r\n{HOST}\r\n")
    await at.wait_for(lambda _: bool(upstream.requests))
    at.terminate()
    async with asyncio.timeout(20):
        while (answer := await at.ask_admin("/readyz")).status == 200:
            await asyncio.sleep(0.02)
    assert (answer.status, answer.json["draining"]) == (503, True)
    release.set()
    assert (await one.answer()).status == 200
    await one.gone()
    assert await at.exit_code() == 0
