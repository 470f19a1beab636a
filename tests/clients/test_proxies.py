"""Proxies in front of the sidecar: nginx with its default buffers, Caddy, HAProxy, Traefik."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType, web

from tests.conftest import PATIENCE
from tests.e2e.servers import write_certificate
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conftest import Clients, Embedded, Start, Upstream

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = (DOCS / "deployment.md").read_text(encoding="utf-8")
IN_FRONT: Final = (DOCS / "in-front.md").read_text(encoding="utf-8")
HOST: Final = "app.example.com"
SERVER: Final = re.compile(r":8\d\d\d\b")
SITE: Final = f"https://{HOST}"
FETCH: Final = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"]
SCRIPT: Final = [f"Host: {HOST}", f"Origin: {SITE}", *FETCH]
EVENTS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: a\n\n\r\n"
)
TRAEFIK: Final = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": HOST,
    "X-Forwarded-Port": "443",
    "X-Forwarded-Server": "traefik-7d9f",
    "X-Real-Ip": "203.0.113.9",
}
"""What Traefik 3 adds besides X-Forwarded-Proto."""


def site(url: str, **more: Any) -> dict[str, Any]:
    return {
        "trusted_proxies": ["127.0.0.1"],
        "upstreams": {"main": {"url": url}},
        "routes": [
            {"path": "/api/", "kind": "api", "upstream": "main", "strip": "/api"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        **more,
    }


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """The URL of an API that says its token over a WebSocket, and echoes."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        wire = web.WebSocketResponse()
        await wire.prepare(request)
        await wire.send_str(request.headers["Authorization"])
        async for message in wire:
            await wire.send_str(message.data)
        return wire

    application = web.Application()
    application.router.add_get("/socket", serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


def shown(language: str, page: str = IN_FRONT) -> str:
    """The page's first block of a language."""
    return page.partition(f"```{language}\n")[2].partition("```")[0]


async def reached(client: Clients, port: int) -> int:
    """The port, once somebody listens there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                (await client(port)).close()
            except OSError:
                await asyncio.sleep(0.02)
            else:
                return port


async def first_event(port: int) -> bytes:
    """The first event of a stream that stays open."""
    given = {"Cookie": "access_token=tok", "Accept": "text/event-stream", "Host": HOST}
    url = f"http://127.0.0.1:{port}/api/events"
    async with (
        asyncio.timeout(PATIENCE),
        ClientSession() as session,
        session.get(url, headers=given) as answer,
    ):
        assert answer.status == 200
        return await answer.content.readuntil(b"\n\n")


async def talk(url: str, headers: dict[str, str], log_out: Callable[[], Awaitable[None]]) -> None:
    """A WebSocket works, and is closed as the session ends."""
    given = {"Cookie": "access_token=tok", "Origin": SITE, "Host": HOST, **headers}
    async with ClientSession() as session, session.ws_connect(url, headers=given) as wire:
        assert await wire.receive_str() == "Bearer tok"
        await wire.send_str("hello")
        assert await wire.receive_str() == "hello"
        await log_out()
        async with asyncio.timeout(PATIENCE):
            assert (await wire.receive()).type in {WSMsgType.CLOSE, WSMsgType.CLOSED}


# -- nginx -----------------------------------------------------------------------------------------


@pytest.fixture
async def nginx(
    require_program: Callable[[str], str], sidecar: Start, client: Clients, tmp_path: Path
) -> AsyncIterator[Callable[[Embedded], Awaitable[int]]]:
    """`await nginx(sidecar)` is the port of an nginx in front, by docs/deployment.md, and by
    docs/in-front.md for event streams.
    """
    program = require_program("nginx")
    running: list[asyncio.subprocess.Process] = []

    async def start(at: Embedded) -> int:
        port, folder = free_port(), tmp_path
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        server = shown("nginx", PAGE).replace("server {", f"server {{\n{shown('nginx')}", 1)
        for told, here in (
            ("server {", f"server {{ listen 127.0.0.1:{port};"),
            ("127.0.0.1:8080", f"127.0.0.1:{at.port}"),
            ("$scheme", "https"),
        ):
            assert told in server
            server = server.replace(told, here)
        (folder / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; {temporary} {server} }}
""")
        command = (program, "-e", f"{folder}/error.log", "-p", str(folder), "-c")
        running.append(await asyncio.create_subprocess_exec(*command, f"{folder}/nginx.conf"))
        return await reached(client, port)

    yield start
    for process in running:
        process.terminate()
        await process.wait()


async def test_logout_passes_nginx_with_two_parent_domains(
    nginx: Callable[[Embedded], Awaitable[int]],
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
) -> None:
    """nginx answers 502 to heads above 4 KiB; that of the logout is smaller, for a script that was
    refused and for a button.
    """
    upstream.answers(upstream.reply(b"{}", status="401 Unauthorized"))
    at = await sidecar(
        site(upstream.url, logout={"domains": ["example.com", HOST]}),
        session={"sources": [{"type": "cookie", "cookie": "app_token"}]},
    )
    wire = await client(await nginx(at))
    cookie = "Cookie: app_token=tok"
    refused = await wire.get("/api/me", cookie, *SCRIPT)
    assert refused.status == 303
    ended = await wire.get(refused.get("Location") or "", cookie, *SCRIPT)
    assert (ended.status, ended.code) == (401, "session_expired")
    button = await wire.post("/api/logout", cookie, *SCRIPT)
    assert button.status == 200
    for answer in (ended, button):
        assert any(line.startswith("app_token=;") for line in answer.all("Set-Cookie"))


async def test_cookies_of_seven_kilobytes_pass_nginx(
    nginx: Callable[[Embedded], Awaitable[int]],
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
) -> None:
    """A session and the application's own cookies, about as much as nginx takes in one line."""
    wire = await client(await nginx(await sidecar(site(upstream.url))))
    token, other = "t" * 3500, "o" * 3500
    answer = await wire.get("/api/me", f"Cookie: access_token={token}; other={other}", *SCRIPT)
    assert answer.status == 200
    assert upstream.last.get("Authorization") == f"Bearer {token}"
    assert upstream.last.get("Cookie") == f"other={other}"
    logout = await wire.post("/api/logout", f"Cookie: access_token={token}; other={other}", *SCRIPT)
    assert logout.status == 200


async def test_websocket_through_nginx_ends_with_its_session(
    nginx: Callable[[Embedded], Awaitable[int]], sidecar: Start, client: Clients, echo: str
) -> None:
    at = await sidecar(site(echo))
    port = await nginx(at)

    async def log_out() -> None:
        wire = await client(port)
        answer = await wire.post("/api/logout", "Cookie: access_token=tok", *SCRIPT)
        assert answer.status == 200

    await talk(f"http://127.0.0.1:{port}/api/socket", {}, log_out)


async def test_events_pass_nginx_as_they_come(
    nginx: Callable[[Embedded], Awaitable[int]], sidecar: Start, upstream: Upstream
) -> None:
    """By the location on the page: the first one arrives while the stream goes on."""
    upstream.default = [EVENTS, "hang"]
    assert await first_event(await nginx(await sidecar(site(upstream.url)))) == b"data: a\n\n"


# -- Caddy -----------------------------------------------------------------------------------------


@pytest.fixture
async def caddy(
    require_program: Callable[[str], str], sidecar: Start, client: Clients, tmp_path: Path
) -> AsyncIterator[Callable[[Embedded], Awaitable[int]]]:
    """`await caddy(sidecar)` is the port of a Caddy in front, as docs/in-front.md has it."""
    program = require_program("caddy")
    running: list[asyncio.subprocess.Process] = []

    async def start(at: Embedded) -> int:
        port, text = free_port(), shown("caddyfile")
        for told, here in (
            (f"{HOST} {{", f"http://:{port} {{"),
            ("127.0.0.1:8080", f"127.0.0.1:{at.port}"),
        ):
            assert told in text
            text = text.replace(told, here)
        file = tmp_path / "Caddyfile"
        file.write_text(f"{{\n  admin off\n  default_bind 127.0.0.1\n}}\n{text}")
        command = (program, "run", "--adapter", "caddyfile", "--config", str(file))
        home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
        quiet = asyncio.subprocess.DEVNULL
        running.append(await asyncio.create_subprocess_exec(*command, env=home, stderr=quiet))
        return await reached(client, port)

    yield start
    for process in running:
        process.terminate()
        await process.wait()


async def test_events_pass_caddy_as_they_come(
    caddy: Callable[[Embedded], Awaitable[int]], sidecar: Start, upstream: Upstream
) -> None:
    upstream.default = [EVENTS, "hang"]
    assert await first_event(await caddy(await sidecar(site(upstream.url)))) == b"data: a\n\n"
    assert upstream.last.get("X-Forwarded-Host") == HOST


async def test_websocket_through_caddy_ends_with_its_session(
    caddy: Callable[[Embedded], Awaitable[int]], sidecar: Start, client: Clients, echo: str
) -> None:
    """Caddy ends TLS on a site of its own; here `public_url` says that it did."""
    port = await caddy(await sidecar(site(echo, public_url=SITE)))

    async def log_out() -> None:
        wire = await client(port)
        answer = await wire.post("/api/logout", "Cookie: access_token=tok", *SCRIPT)
        assert answer.status == 200

    await talk(f"http://127.0.0.1:{port}/api/socket", {}, log_out)


# -- HAProxy ---------------------------------------------------------------------------------------


@pytest.fixture
async def haproxy(
    require_program: Callable[[str], str], sidecar: Start, client: Clients, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """`await haproxy(text, port)` is the port of an HAProxy in front of a sidecar's port.

    `text` is a block of docs/in-front.md.
    """
    program = require_program("haproxy")
    running: list[asyncio.subprocess.Process] = []

    async def start(text: str, at: int, *others: tuple[str, str]) -> int:
        port, file = free_port(), tmp_path / "haproxy.cfg"
        usual = (("bind :443", f"bind 127.0.0.1:{port}"), (SERVER.search(text)[0], f":{at}"))  # type: ignore[index]
        for told, here in (*usual, *others):
            assert told in text
            text = text.replace(told, here)
        times = "timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        file.write_text(f"defaults\n  {times}\n{text}")
        quiet = asyncio.subprocess.DEVNULL
        running.append(
            await asyncio.create_subprocess_exec(
                program, "-db", "-f", str(file), stdout=quiet, stderr=quiet
            )
        )
        return await reached(client, port)

    yield start
    for process in running:
        process.terminate()
        await process.wait()


PLAIN: Final = ((" ssl crt /etc/haproxy/app.pem", ""),)
"""TLS at HAProxy is its own affair."""


async def test_websocket_and_events_through_haproxy(
    haproxy: Callable[..., Awaitable[int]],
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    echo: str,
) -> None:
    """In mode http: scheme, host and client's address as HAProxy has them, for a client that claims
    others.
    """
    at = await sidecar(site(echo))
    port = await haproxy(shown("haproxy"), at.port, *PLAIN)

    async def log_out() -> None:
        wire = await client(port)
        answer = await wire.post("/api/logout", "Cookie: access_token=tok", *SCRIPT)
        assert answer.status == 200

    await talk(f"http://127.0.0.1:{port}/api/socket", {}, log_out)


async def test_events_pass_haproxy_as_they_come(
    haproxy: Callable[..., Awaitable[int]], sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    upstream.default = [EVENTS, "hang"]
    at = await sidecar(site(upstream.url))
    port = await haproxy(shown("haproxy"), at.port, *PLAIN)
    assert await first_event(port) == b"data: a\n\n"
    upstream.default = upstream.reply(b"{}")
    forged = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http"]
    await (await client(port)).get("/api/me", "Cookie: access_token=tok", *forged, *SCRIPT)
    assert upstream.last.get("X-Forwarded-For") == "127.0.0.1, 127.0.0.1"
    assert upstream.last.get("X-Forwarded-Proto") == "https"
    assert upstream.last.get("X-Forwarded-Host") == HOST


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """A certificate of the sidecar's own."""
    cert, key = write_certificate(tmp_path)
    return {"cert": str(cert), "key": str(key)}


async def asked_over_tls(port: int, cert: str) -> int:
    """The status that a client gets which comes from an address of its own."""
    context = ssl.create_default_context(cafile=cert)
    connector = TCPConnector(local_addr=("127.0.0.7", 0), ssl=context)
    async with ClientSession(connector=connector) as session:
        forged = {"X-Forwarded-For": "203.0.113.9", "Cookie": "access_token=tok"}
        async with session.get(f"https://localhost:{port}/api/me", headers=forged) as answer:
            return answer.status


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
async def test_haproxy_passes_connections_on_and_names_their_clients(
    *,
    haproxy: Callable[..., Awaitable[int]],
    sidecar: Start,
    upstream: Upstream,
    tls: dict[str, str],
    version: str,
) -> None:
    """In mode tcp, with TLS that the sidecar ends, and with health checks that say who they are."""
    port = free_port()
    listen = [{"address": f"127.0.0.1:{port}", "proxy_protocol": True, "tls": tls}]
    at = await sidecar(site(upstream.url), listen=listen)
    checked = f"{version} check check-send-proxy inter 100ms"
    front = await haproxy(shown("haproxy-tcp"), port, ("send-proxy-v2", checked))
    for _ in range(3):
        assert await asked_over_tls(front, tls["cert"]) == 200
        assert upstream.last.get("X-Forwarded-For") == "127.0.0.7"
        assert upstream.last.get("X-Forwarded-Proto") == "https"
    metrics = await at.metrics()
    refused = [value for name, value in metrics.items() if "proxy_headers_refused" in name]
    assert refused == [0, 0, 0]


STREAM: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


async def test_nginx_passes_connections_on_and_names_their_clients(
    *,
    require_program: Callable[[str], str],
    do_without: Callable[[str], NoReturn],
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    tls: dict[str, str],
    tmp_path: Path,
) -> None:
    """By its module `stream`, which speaks version 1."""
    program = require_program("nginx")
    if not STREAM.exists():
        do_without("nginx has no module stream (libnginx-mod-stream)")
    port, front = free_port(), free_port()
    listen = [{"address": f"127.0.0.1:{port}", "proxy_protocol": True, "tls": tls}]
    await sidecar(site(upstream.url), listen=listen)
    file = tmp_path / "nginx.conf"
    file.write_text(f"""
load_module {STREAM}; daemon off; master_process off; pid {tmp_path}/nginx.pid;
error_log {tmp_path}/error.log; events {{}}
stream {{ server {{
  listen 127.0.0.1:{front}; proxy_pass 127.0.0.1:{port}; proxy_protocol on;
}} }}
""")
    process = await asyncio.create_subprocess_exec(
        program, "-e", f"{tmp_path}/error.log", "-p", str(tmp_path), "-c", str(file)
    )
    try:
        await reached(client, front)
        assert await asked_over_tls(front, tls["cert"]) == 200
        assert upstream.last.get("X-Forwarded-For") == "127.0.0.7"
    finally:
        process.terminate()
        await process.wait()


# -- Traefik ---------------------------------------------------------------------------------------


async def test_websocket_with_the_fields_of_traefik(
    sidecar: Start, client: Clients, echo: str
) -> None:
    """It says `X-Forwarded-Proto: wss` of a handshake, which is https for the origin's rule."""
    at = await sidecar(site(echo))

    async def log_out() -> None:
        lines = [f"{name}: {value}" for name, value in TRAEFIK.items()]
        given = ["Cookie: access_token=tok", "X-Forwarded-Proto: https", *lines, *SCRIPT]
        assert (await (await client(at)).post("/api/logout", *given)).status == 200

    url = f"http://127.0.0.1:{at.port}/api/socket"
    await talk(url, {**TRAEFIK, "X-Forwarded-Proto": "wss"}, log_out)


async def test_upstream_learns_of_traefik_s_client(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Scheme, host and client's address as Traefik has them; cookies are renewed for https."""
    at = await sidecar(site(upstream.url))
    lines = [f"{name}: {value}" for name, value in TRAEFIK.items()]
    given = [*lines, "X-Forwarded-Proto: https", "Cookie: access_token=tok", *SCRIPT]
    wire = await client(at)
    assert (await wire.get("/api/me", *given)).status == 200
    seen = upstream.last
    assert seen.get("X-Forwarded-Proto") == "https"
    assert seen.get("X-Forwarded-Host") == HOST
    assert seen.get("X-Forwarded-For") == "203.0.113.9, 127.0.0.1"
    logout = await wire.post("/api/logout", *given)
    assert logout.status == 200
    assert any("__Host-access_token=;" in line for line in logout.all("Set-Cookie"))
