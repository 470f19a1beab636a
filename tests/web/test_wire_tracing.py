"""Traces, as an OTLP receiver gets them: what belongs to what, who decides, and what is in none."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar import spans
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Clients, Embedded, Received, Script, Start, StartCommand, Upstream

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PATIENCE = 20.0
CLIENT, SERVER = 3, 2  # SpanKind of opentelemetry.proto.trace.v1


class Receiver:
    """What OTLP receivers do at /v1/traces: the spans, by the official messages."""

    def __init__(self) -> None:
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self.raw = b""
        self.spans: list[dict[str, Any]] = []

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.raw += body
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            of_resource = _values(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_span(one, of_resource) for one in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def have(self, *names: str) -> list[dict[str, Any]]:
        """The first span of each name, once all are here."""

        def found(name: str) -> dict[str, Any] | None:
            return next((one for one in self.spans if one["name"] == name), None)

        async with asyncio.timeout(PATIENCE):
            while not all(map(found, names)):
                await asyncio.sleep(0.02)
        return [one for name in names if (one := found(name)) is not None]


def _values(attributes: Any) -> dict[str, Any]:
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        found[one.key] = getattr(one.value, kind)
    return found


def _span(one: Any, resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "trace": one.trace_id.hex(),
        "id": one.span_id.hex(),
        "parent": one.parent_span_id.hex(),
        "attributes": _values(one.attributes),
        "status": one.status.code,
        "resource": resource,
        "begin": one.start_time_unix_nano,
        "end": one.end_time_unix_nano,
    }


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    one = Receiver()
    application = web.Application(client_max_size=1 << 24)
    application.router.add_post("/v1/traces", one.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(one.endpoint.rpartition(":")[2])).start()
    yield one
    await runner.cleanup()


def site(upstream: Upstream, receiver: Receiver, **more: Any) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main", "strip": "/api", "session": "optional"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [{"path": "/api/", **api}, {"path": "/", "kind": "page", "upstream": "main"}],
        "tracing": {"endpoint": receiver.endpoint, **more},
    }


def lines(at: Embedded) -> list[dict[str, Any]]:
    return [json.loads(line) for line in at.log.getvalue().splitlines()]


def sent(upstream: Upstream) -> tuple[str, str, bool]:
    """Trace id, span id and whether it is sampled, of the traceparent that came last."""
    (value,) = upstream.last.all("traceparent")
    version, trace, span, flags = value.split("-")
    assert version == "00"
    return trace, span, bool(int(flags, 16) & 1)


async def test_request_and_its_upstream_are_one_trace(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    """The upstream is told of the span of its part, and the log names the trace."""
    at = await sidecar(site(upstream, receiver))
    before = time.time_ns()
    got = await (await client(at)).get("/api/orders?id=1", "User-Agent: me")
    assert got.status == 200
    request, part = await receiver.have("GET /api/", "upstream main")
    assert (request["kind"], part["kind"]) == (SERVER, CLIENT)
    assert (request["parent"], part["parent"]) == ("", request["id"])
    assert part["trace"] == request["trace"]
    assert sent(upstream) == (request["trace"], part["id"], True)
    assert before - 10**9 < request["begin"] <= part["begin"] <= part["end"] == request["end"]
    told = request["attributes"]
    assert told["http.request.method"] == "GET"
    assert told["http.route"] == "/api/"
    assert told["url.path"] == "/api/orders"
    assert told["http.response.status_code"] == 200
    assert told["sidecar.decision"] == "wrap"
    assert told["sidecar.request_id"] == got.get("X-Request-Id")
    assert told["user_agent.original"] == "me"
    host, _, port = upstream.url.rpartition("/")[2].partition(":")
    assert part["attributes"]["server.address"] == host
    assert part["attributes"]["server.port"] == int(port)
    assert part["attributes"]["http.response.status_code"] == 200
    assert request["resource"]["service.name"] == "session-sidecar"
    line = next(one for one in lines(at) if one["event"] == "request")
    assert line["trace_id"] == request["trace"]


async def test_masked_paths_are_masked_in_spans(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    """As in the log."""
    at = await sidecar(site(upstream, receiver) | {"log": {"mask": ["/api/cards/*"]}})
    assert (await (await client(at)).get("/api/cards/4111/limit")).status == 200
    request, _ = await receiver.have("GET /api/", "upstream main")
    assert request["attributes"]["url.path"] == "/api/cards/*/limit"


async def test_each_request_of_a_connection_has_spans_of_its_own(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    """Though the heads are alike, and planned once."""
    at = await sidecar(site(upstream, receiver))
    one = await client(at)
    told = set()
    for _ in range(5):
        await one.get("/api/a", "Cookie: access_token=t")
        told.add(sent(upstream))
    assert len(told) == 5
    async with asyncio.timeout(PATIENCE):
        while len(receiver.spans) < 10:
            await asyncio.sleep(0.02)
    assert {(one["trace"], one["id"], True) for one in receiver.spans} >= told


@pytest.mark.parametrize(
    ("trusted", "flags", "share", "recorded"),
    [
        (True, "01", 0.0, True),
        (True, "00", 1.0, False),
        (False, "01", 0.0, False),
        (False, "00", 1.0, True),
    ],
)
async def test_trusted_proxy_decides_what_is_recorded_and_nobody_else(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    receiver: Receiver,
    *,
    trusted: bool,
    flags: str,
    share: float,
    recorded: bool,
) -> None:
    """Else a stranger could have everything recorded; its trace goes on either way."""
    config = site(upstream, receiver, sample=share)
    config["trusted_proxies"] = ["127.0.0.1"] if trusted else []
    at = await sidecar(config)
    await (await client(at)).get("/api/a", f"traceparent: 00-{TRACE}-{PARENT}-{flags}")
    trace, span, is_sampled = sent(upstream)
    assert (trace, is_sampled) == (TRACE, recorded)
    assert span != PARENT
    if recorded:
        (request,) = await receiver.have("GET /api/")
        assert (request["trace"], request["parent"]) == (TRACE, PARENT)
    else:
        await at.sidecar.runtime.tracer.close()  # type: ignore[union-attr]
        assert receiver.spans == []


async def test_renewal_after_a_401_is_part_of_its_request(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    """Two attempts at the upstream, and between them what they waited for."""

    def answer(request: Received) -> Script:
        if request.target == "/token":
            tokens = {"access_token": "new", "refresh_token": "next", "expires_in": 3600}
            return upstream.reply(json.dumps(tokens).encode())
        is_new = request.get("Authorization") == "Bearer new"
        return upstream.reply(b"{}", status="200 OK" if is_new else "401 Unauthorized")

    upstream.default = answer
    config = site(upstream, receiver)
    raw = {"type": "cookie", "cookie": "access_token", "refresh_cookie": "refresh_token"}
    config["session"] = {"sources": [raw]}
    config["refresh"] = {"token_endpoint": f"{upstream.url}/token", "client_id": "app"}
    at = await sidecar(config)
    assert (
        await (await client(at)).get("/api/a", "Cookie: access_token=old; refresh_token=first")
    ).status == 200
    request, renewal = await receiver.have("GET /api/", "token renewal")
    attempts = sorted(
        (one for one in receiver.spans if one["name"] == "upstream main"),
        key=lambda one: int(one["begin"]),
    )
    assert [one["parent"] for one in (*attempts, renewal)] == [request["id"]] * 3
    assert attempts[0]["end"] <= renewal["begin"] <= renewal["end"] <= attempts[1]["begin"]
    assert request["attributes"]["sidecar.retries"] == 1


async def test_store_that_is_asked_is_part_of_its_request(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver, tmp_path: Path
) -> None:
    """With its operation's name, and nothing of its key or value."""
    config = site(upstream, receiver)
    config["routes"][0]["session"] = "required"
    config["routes"][1]["session"] = "none"
    config["store"] = {"url": f"sqlite://{tmp_path}/store.db"}
    at = await sidecar(config)
    assert (await (await client(at)).get("/api/a", "Cookie: access_token=t-1")).status == 200
    request, asked = await receiver.have("GET /api/", "store get")
    assert (asked["parent"], asked["trace"]) == (request["id"], request["trace"])
    assert asked["attributes"] == {}


async def test_no_span_holds_a_secret(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    """Neither query, cookie, token nor a field of the client but its User-Agent."""
    at = await sidecar(site(upstream, receiver))
    canary = "canary-4f1c"
    await (await client(at)).ask(
        "POST",
        f"/api/a?token={canary}",
        f"Cookie: access_token={canary}; other={canary}",
        f"X-Secret: {canary}",
        f"Referer: http://a/?{canary}",
        "Origin: http://app.example.com",
        body=canary.encode(),
    )
    await receiver.have("POST /api/", "upstream main")
    assert canary.encode() not in receiver.raw


async def test_long_requests_make_no_long_spans(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    """Thousands of spans wait in memory while their receiver is away."""
    at = await sidecar(site(upstream, receiver))
    await (await client(at)).get(f"/api/{'a' * 20_000}", f"User-Agent: {'b' * 5000}")
    (request,) = await receiver.have("GET /api/")
    assert max(len(str(value)) for value in request["attributes"].values()) <= 1024
    assert len(receiver.raw) < 10_000


async def test_failure_is_an_error_with_its_cause(
    sidecar: Start, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    config = site(upstream, receiver)
    config["upstreams"]["main"] = {"url": f"http://127.0.0.1:{free_port()}"}
    at = await sidecar(config)
    assert (await (await client(at)).get("/api/a")).status == 502
    request, part = await receiver.have("GET /api/", "upstream main")
    assert (request["status"], part["status"]) == (2, 2)
    assert request["attributes"]["error.type"] == "502"


async def test_receiver_that_is_away_is_reported_once_and_holds_nobody_up(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    config = site(upstream, receiver)
    config["tracing"]["endpoint"] = f"http://127.0.0.1:{free_port()}"
    at = await sidecar(config)
    one = await client(at)
    for _ in range(20):
        assert (await one.get("/api/a")).status == 200
    async with asyncio.timeout(PATIENCE):
        while '"tracing"' not in at.log.getvalue():
            await asyncio.sleep(0.05)
    assert len([line for line in lines(at) if line["event"] == "tracing"]) == 1


async def test_what_is_left_is_exported_at_the_end(
    command: StartCommand,
    upstream: Upstream,
    client: Clients,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that drains sends its last spans, though their time had not come yet."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    at = await command({**site(upstream, receiver), "drain": {"wait": "0s"}})
    one = await client(at)
    assert (await one.get("/api/a")).status == 200
    await one.gone()
    at.terminate()
    assert await at.exit_code() == 0
    await receiver.have("GET /api/", "upstream main")


async def test_receiver_that_hangs_does_not_hold_up_the_end(
    command: StartCommand, upstream: Upstream, client: Clients, receiver: Receiver
) -> None:
    """It takes connections and answers nothing; the process ends all the same, and in order."""
    held: list[asyncio.StreamWriter] = []
    port = free_port()
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", port)
    config = site(upstream, receiver)
    config["tracing"]["endpoint"] = f"http://127.0.0.1:{port}"
    at = await command({**config, "drain": {"wait": "0s"}})
    one = await client(at)
    assert (await one.get("/api/a")).status == 200
    await one.gone()
    at.terminate()
    async with asyncio.timeout(PATIENCE):
        assert await at.exit_code() == 0
    assert held
    for writer in held:
        writer.close()
    server.close()


def test_missing_extra_is_a_fault_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "find_spec", {}.get)
    with pytest.raises(OSError, match=r"tracing\.endpoint: http://a:4318: .* pip install"):
        spans.require_opentelemetry("http://a:4318")
