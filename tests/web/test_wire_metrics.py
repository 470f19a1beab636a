"""`/metrics` of a running sidecar: what is counted, by which labels, and from where on."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from sidecar import __version__
from sidecar.core.errors import ProxyError
from sidecar.core.families import FAMILIES, MetricKind
from sidecar.tls import ends_at
from tests.e2e.servers import write_certificate
from tests.ports import free_port
from tests.test_docs import subclasses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Clients, Start, Upstream

ONLY_OF_SEVERAL = {"sidecar_workers", "sidecar_workers_replaced", "sidecar_worker_connections"}
ERRORS = 'sidecar_upstream_errors_total{cause="%s",upstream="main"}'


def routes(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": upstream.url, **more}},
        "routes": [
            {"path": "/", "kind": "page", "upstream": "main"},
            {"path": "/api", "kind": "api", "upstream": "main", "session": "optional"},
            {"path": "/need", "kind": "api", "upstream": "main", "session": "required"},
        ],
    }


async def test_every_metric_is_exposed_as_the_table_says(
    sidecar: Start, upstream: Upstream
) -> None:
    """Name, type, help and labels; and nothing else is."""
    at = await sidecar(routes(upstream))
    text = (await at.ask_admin("/metrics")).body.decode()
    found = {one.name: one for one in text_string_to_metric_families(text)}
    assert found.keys() == FAMILIES.keys() - ONLY_OF_SEVERAL
    for name, metric in found.items():
        family = FAMILIES[name]
        assert (metric.type, metric.documentation) == (family.kind.value, family.text)
        for sample in metric.samples:
            assert sample.labels.keys() - {"le"} == set(family.labels), sample


async def test_prometheus_has_nothing_to_say_against_a_scrape(
    sidecar: Start, upstream: Upstream, client: Clients, require_program: Callable[[str], str]
) -> None:
    """Its own check of names, types, units and labels."""
    promtool = require_program("promtool")
    at = await sidecar(routes(upstream))
    await (await client(at)).get("/api/a", "Cookie: access_token=tok")
    text = (await at.ask_admin("/metrics")).body
    process = await asyncio.create_subprocess_exec(
        promtool,
        *("check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(text)
    assert (process.returncode, said.decode()) == (0, "")


async def test_counters_of_known_labels_begin_at_zero(sidecar: Start, upstream: Upstream) -> None:
    """So that the first failure is an increase."""
    at = await sidecar(routes(upstream))
    metrics = await at.metrics()
    assert metrics[ERRORS % "refused"] == 0
    for code in {kind.code for kind in subclasses(ProxyError)}:
        assert metrics[f'sidecar_responses_total{{code="{code}"}}'] == 0
    for name in (
        'sidecar_requests_total{route="/api",status="502"}',
        'sidecar_decisions_total{decision="broken",route="/api"}',
        'sidecar_request_duration_seconds_count{route="/need"}',
        'sidecar_sessions_opened_total{result="invalid",source="access_token"}',
        'sidecar_sessions_unreadable_total{source="access_token"}',
        'sidecar_sessions_ended_total{reason="token_rejected"}',
        'sidecar_logins_total{outcome="unavailable"}',
        'sidecar_refreshes_total{outcome="refused"}',
        'sidecar_logout_steps_total{outcome="failed",step="hook"}',
        'sidecar_store_errors_total{operation="put"}',
        'sidecar_config_reloads_total{outcome="refused"}',
    ):
        assert metrics[name] == 0
    counters = {one.shown for one in FAMILIES.values() if one.kind is MetricKind.COUNTER}
    present = {name.partition("{")[0] for name in metrics}
    absent = {"sidecar_workers_replaced_total", "sidecar_observed_total"}  # none is observed here
    assert counters - present == absent


async def test_no_series_stands_twice(sidecar: Start, upstream: Upstream, client: Clients) -> None:
    """Whole bodies and streamed ones are one decision; Prometheus takes no series twice."""
    at = await sidecar(routes(upstream))
    one = await client(at)
    await one.get("/page")
    upstream.answers(
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\na", b"b"]
    )
    await one.get("/page")
    text = (await at.ask_admin("/metrics")).body.decode()
    names = re.findall(r"^(\w.*) \S+$", text, re.MULTILINE)
    assert sorted(names) == sorted(set(names))
    assert (await at.metrics())['sidecar_decisions_total{decision="relay",route="/"}'] == 2


async def test_openmetrics_is_served_to_clients_that_accept_it(
    sidecar: Start, upstream: Upstream
) -> None:
    at = await sidecar(routes(upstream))
    wire = (await at.ask_admin("/metrics")).get("Content-Type") or ""
    assert wire.startswith("text/plain; version=0.0.4")
    reader, writer = await asyncio.open_connection("127.0.0.1", at.admin, limit=1 << 20)
    writer.write(
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n"
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"application/openmetrics-text; version=1.0.0" in head
    told = openmetrics_families(body.decode())  # type: ignore[no-untyped-call]
    found = {one.name for one in told}
    assert found == FAMILIES.keys() - ONLY_OF_SEVERAL


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (b"garbage\r\n\r\n", ("protocol", "upstream_protocol")),
        (["hang"], ("head_timeout", "upstream_timeout")),
        (["close"], ("closed", "upstream_unreachable")),
    ],
)
async def test_a_failure_of_an_upstream_is_counted_by_its_cause(
    sidecar: Start, upstream: Upstream, client: Clients, script: Any, told: tuple[str, str]
) -> None:
    at = await sidecar(routes(upstream, head="300ms"))
    upstream.default = script
    one = await client(at)
    assert (await one.get("/api/a")).status in (502, 504)
    metrics = await at.metrics()
    cause, code = told
    failed = {name for name in metrics if name.startswith("sidecar_upstream_errors_total")}
    assert {name: metrics[name] for name in failed if metrics[name]} == {ERRORS % cause: 1}
    assert metrics[f'sidecar_responses_total{{code="{code}"}}'] == 1


async def test_a_body_that_breaks_off_is_cut(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    upstream.answers(
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\na", "close"]
    )
    one = await client(at)
    one.send("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await one.broken()
    metrics = await at.wait_for(lambda metrics: bool(metrics[ERRORS % "cut"]))
    assert metrics['sidecar_decisions_total{decision="broken",route="/"}'] == 1


async def test_no_connection_is_counted_by_its_cause(sidecar: Start, client: Clients) -> None:
    """Nobody listens; the name is unknown; TLS is spoken to whom does not speak it."""
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            accepted, _ = plain.accept()
            accepted.recv(100)
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            accepted.close()

        at = await sidecar(
            {
                "upstreams": {
                    "down": {"url": f"http://127.0.0.1:{free_port()}"},
                    "lost": {"url": "http://nowhere.invalid:80"},
                    "plain": {"url": f"https://127.0.0.1:{plain.getsockname()[1]}"},
                },
                "routes": [
                    {"path": f"/{name}", "kind": "api", "upstream": name, "session": "none"}
                    for name in ("down", "lost", "plain")
                ],
            }
        )
        answering = asyncio.get_running_loop().run_in_executor(None, answer)
        one = await client(at)
        for name in ("down", "lost", "plain"):
            assert (await one.get(f"/{name}")).status == 502
        await answering
    metrics = await at.metrics()
    counted = {
        (name, cause)
        for name in ("down", "lost", "plain")
        for cause in ("refused", "dns", "tls", "network")
        if metrics[f'sidecar_upstream_errors_total{{cause="{cause}",upstream="{name}"}}']
    }
    assert counted == {("down", "refused"), ("lost", "dns"), ("plain", "tls")}
    assert metrics['sidecar_upstream_wait_seconds_count{upstream="down"}'] == 1


async def test_bytes_and_the_upstreams_part_are_counted(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    one = await client(at)
    upstream.default = upstream.reply(b"hello", "Content-Type: text/plain")
    assert (await one.post("/page", body=b"x" * 1000)).body == b"hello"
    metrics = await at.metrics()
    assert metrics['sidecar_request_body_bytes_total{route="/"}'] == 1000
    assert metrics['sidecar_response_body_bytes_total{route="/"}'] == 5
    assert metrics['sidecar_upstream_duration_seconds_count{upstream="main"}'] == 1
    took = metrics['sidecar_request_duration_seconds_sum{route="/"}']
    assert 0 < metrics['sidecar_upstream_duration_seconds_sum{upstream="main"}'] <= took


async def test_sessions_are_counted_when_their_cookies_are_read(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Once for each header that is new, by source and result."""
    at = await sidecar(
        routes(upstream),
        session={
            "sources": [
                {"type": "authjs", "secret": "a secret of the application", "token": "accessToken"},
                {"type": "cookie", "cookie": "access_token"},
            ]
        },
    )
    one = await client(at)
    for _ in range(3):
        await one.get("/api/a", "Cookie: access_token=tok")
    await one.get("/api/a", "Cookie: authjs.session-token=eyJhbGciOiJkaXIifQ..aa.bb.cc")
    metrics = await at.metrics()
    opened = 'sidecar_sessions_opened_total{result="%s",source="%s"}'
    assert metrics[opened % ("ok", "access_token")] == 1
    assert metrics[opened % ("invalid", "authjs.session-token")] == 1
    assert metrics[opened % ("ok", "authjs.session-token")] == 0
    assert metrics['sidecar_sessions_unreadable_total{source="authjs.session-token"}'] == 1


async def test_open_websockets_and_event_streams(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """They count while they are open, also if another configuration holds meanwhile."""
    upstream.default = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        "hang",
    ]
    at = await sidecar(routes(upstream))
    one = await client(at)
    one.send("GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    open_streams = 'sidecar_lasting_responses{kind="event_stream"}'
    await at.wait_for(lambda metrics: metrics[open_streams] == 1)
    await at.sidecar.reload(at.sidecar.runtime.policy.config)
    metrics = await at.metrics()
    assert metrics[open_streams] == metrics['sidecar_requests_in_flight{kind="stream"}'] == 1
    one.reset()
    await at.wait_for(lambda metrics: metrics[open_streams] == 0)


async def test_the_store_is_timed_and_its_failures_are_counted(
    sidecar: Start, upstream: Upstream, tmp_path: Path
) -> None:
    """Up again once an operation succeeds; a SQLite store tells how large its file is."""
    place = tmp_path / "later"
    at = await sidecar(routes(upstream), store={"url": f"sqlite://{place}/store.db"})
    failed = await at.wait_for(lambda metrics: metrics["sidecar_store_up"] == 0)
    errors = [name for name in failed if name.startswith("sidecar_store_errors_total")]
    assert sum(failed[name] for name in errors) >= 1
    place.mkdir()
    await at.wait_for(lambda metrics: metrics["sidecar_store_up"] == 1)
    timed = 'sidecar_store_duration_seconds_count{operation="put"}'
    await at.wait_for(lambda metrics: metrics[timed] >= 1)
    metrics = await at.wait_for(lambda metrics: metrics["sidecar_store_bytes"] > 0)
    assert "sidecar_store_entries" not in metrics


async def test_the_store_in_memory_tells_how_full_it_is(sidecar: Start, upstream: Upstream) -> None:
    at = await sidecar(routes(upstream))
    await at.ask_admin("/readyz")
    metrics = await at.metrics()
    assert metrics["sidecar_store_entries"] == 1
    assert 0 < metrics["sidecar_store_bytes"] < metrics["sidecar_store_bytes_limit"]


async def test_readiness_build_and_process(sidecar: Start, upstream: Upstream) -> None:
    """`sidecar_ready` is what /readyz answered last."""
    main = routes(upstream, ready=True)
    at = await sidecar(main)
    metrics = await at.metrics()
    assert metrics["sidecar_ready"] == 1
    build = next(name for name in metrics if name.startswith("sidecar_build_info"))
    assert f'version="{__version__}"' in build
    assert metrics["process_open_fds"] < metrics["process_max_fds"]
    assert metrics["process_start_time_seconds"] > 1e9
    assert metrics["sidecar_config_last_reload_successful"] == 1
    assert metrics["sidecar_config_last_reload_success_timestamp_seconds"] > 1e9
    await upstream.stop()
    assert (await at.ask_admin("/readyz")).status == 503
    assert (await at.metrics())["sidecar_ready"] == 0
    await upstream.start()


async def test_counters_go_on_over_a_reload(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Also those of sources, the store and logouts; what the new configuration adds is there."""
    at = await sidecar(routes(upstream))
    one = await client(at)
    await one.get("/api/a", "Cookie: access_token=tok")
    await one.post("/api/logout", "Cookie: access_token=tok", "Origin: http://localhost")
    before = await at.metrics()
    config = at.sidecar.runtime.policy.config
    moved = config.routes[0].model_copy(update={"path": "/moved"})
    await at.sidecar.reload(config.model_copy(update={"routes": (*config.routes, moved)}))
    after = await at.metrics()
    counted = {
        name: value
        for name, value in before.items()
        if "_total" in name or name.partition("{")[0].endswith(("_count", "_bucket"))
    }
    assert {name for name, value in counted.items() if after[name] < value} == set()
    assert after['sidecar_requests_total{route="/moved",status="200"}'] == 0


async def test_certificates_tell_when_they_end(
    sidecar: Start, upstream: Upstream, tmp_path: Path
) -> None:
    """The listener's, and those that upstreams are shown."""
    folders = tmp_path / "a", tmp_path / "b"
    for one in folders:
        one.mkdir()
    (server, key), (shown, its_key) = map(write_certificate, folders)
    at = await sidecar(
        routes(upstream)
        | {
            "tls": {"cert": str(server), "key": str(key)},
            "upstreams": {
                "main": {
                    "url": f"https://127.0.0.1:{free_port()}",
                    "tls": {"cert": str(shown), "key": str(its_key)},
                }
            },
        }
    )
    name = 'sidecar_tls_certificate_expiry_timestamp_seconds{file="%s",use="own"}'
    metrics = await at.metrics()
    for file in (server, shown):
        end = ends_at(str(file))
        assert end is not None
        assert metrics[name % file] == end.timestamp()


async def test_the_provider_tells_whether_it_was_reached(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Down at the start: what it publishes was never fetched, and the last attempt failed."""
    at = await sidecar(
        routes(upstream),
        public_url="http://127.0.0.1:8080",
        oidc={"issuer": f"http://127.0.0.1:{free_port()}", "client_id": "a", "client_secret": "b"},
    )
    up = 'sidecar_provider_up{document="%s"}'
    metrics = await at.wait_for(lambda metrics: metrics[up % "metadata"] == 0)
    assert metrics[up % "keys"] == 1  # nobody has asked for them
    fetched = 'sidecar_provider_last_fetch_timestamp_seconds{document="metadata"}'
    assert metrics[fetched] == 0


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x", "*/*", "?;;=,"])
async def test_odd_accept_gets_the_text_format(
    sidecar: Start, upstream: Upstream, accept: str
) -> None:
    at = await sidecar(routes(upstream))
    reader, writer = await asyncio.open_connection("127.0.0.1", at.admin, limit=1 << 20)
    fields = f"Host: localhost\r\nConnection: close\r\nAccept: {accept}\r\n\r\n"
    writer.write(f"GET /metrics HTTP/1.1\r\n{fields}".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"sidecar_requests_total" in body
