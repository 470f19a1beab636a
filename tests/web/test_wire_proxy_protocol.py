"""Listeners that are for a balancer: its PROXY header names the client, and nobody else's does."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conftest import PATIENCE, Client
from tests.net.store.conftest import Certificates, make_certificates
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Embedded, Start, Upstream

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
REQUEST: Final = b"GET /x HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
LAST_REQUEST: Final = REQUEST[:-2] + b"Connection: close\r\n\r\n"
TRUSTED: Final = {"trusted_proxies": ["127.0.0.1", "192.0.2.0/24"]}


def line(address: str = "203.0.113.7") -> bytes:
    return f"PROXY TCP4 {address} 10.0.0.1 56324 443\r\n".encode()


def binary(kind: int, body: bytes, *, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes((command, kind)) + len(body).to_bytes(2) + body


V2: Final = binary(0x11, b"\xcb\x00\x71\x07\x0a\x00\x00\x01\xdc\x04\x01\xbb\x04\x00\x01x")
V2_UNIX: Final = binary(0x31, bytes(216))
LOCAL: Final = binary(0x00, b"", command=0x20)
UNKNOWN: Final = b"PROXY UNKNOWN\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def listener(port: int, **more: Any) -> dict[str, Any]:
    return {"address": f"127.0.0.1:{port}", "proxy_protocol": True, **more}


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def rest_of(wire: Client) -> bytes:
    """What is still sent until the end, be it an orderly one or not."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await wire.reader.read()
        except ConnectionResetError:
            return b""


def requests(running: Embedded) -> list[dict[str, Any]]:
    told = (json.loads(one) for one in running.log.getvalue().splitlines())
    return [one for one in told if one["event"] == "request"]


async def refusals(running: Embedded) -> dict[str, float]:
    """How many connections were refused, by reason; those of none are left out."""
    name = "sidecar_proxy_headers_refused_total"
    metrics = await running.metrics()
    reasons = ("untrusted", "malformed", "timeout")
    found = {one: metrics[f'{name}{{reason="{one}"}}'] for one in reasons}
    return {one: count for one, count in found.items() if count}


def told(running: Embedded) -> list[dict[str, Any]]:
    lines = (json.loads(one) for one in running.log.getvalue().splitlines())
    return [one for one in lines if one["event"] == "proxy header refused"]


@pytest.mark.parametrize("header", [line(), V2], ids=["v1", "v2"])
async def test_header_names_the_client(sidecar: Start, upstream: Upstream, header: bytes) -> None:
    """To the upstream and in the log, for every request; what it claims itself is not believed."""
    port = free_port()
    running = await sidecar(TRUSTED, listen=[listener(port)])
    wire = await connect(port)
    wire.send(header)
    for _ in range(2):
        answer = await wire.get("/x", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https")
        assert answer.status == 200
        assert upstream.last.get("X-Forwarded-For") == "203.0.113.7"
        assert upstream.last.get("X-Forwarded-Proto") == "http"
    await wire.gone()
    assert {(one["client"], one["peer"]) for one in requests(running)} == {("203.0.113.7",) * 2}
    assert await refusals(running) == {}


@pytest.mark.parametrize("header", [line(), V2], ids=["v1", "v2"])
async def test_header_may_come_in_any_pieces(
    sidecar: Start, upstream: Upstream, header: bytes
) -> None:
    """Byte by byte, together with the request, and with a part of it."""
    port = free_port()
    await sidecar(TRUSTED, listen=[listener(port)])
    whole = header + REQUEST
    for cut in (0, 1, len(header) - 1, len(header), len(header) + 1, len(whole)):
        wire = await connect(port)
        await wire.trickle(whole[:cut] if cut < len(whole) else whole)
        wire.send(whole[cut:])
        assert (await wire.answer()).status == 200
        assert upstream.last.get("X-Forwarded-For") == "203.0.113.7"
        await wire.gone()


async def test_header_stands_before_tls(
    sidecar: Start, upstream: Upstream, certificates: Certificates
) -> None:
    """And the scheme is that of the listener."""
    port = free_port()
    own = {"cert": str(certificates.cert), "key": str(certificates.key)}
    running = await sidecar(TRUSTED, listen=[listener(port, tls=own)])
    context = ssl.create_default_context(cafile=certificates.ca)
    context.check_hostname = False
    for header in (line(), V2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(header)
        await writer.start_tls(context)
        wire = Client(reader, writer)
        assert (await wire.get("/x")).status == 200
        assert upstream.last.get("X-Forwarded-For") == "203.0.113.7"
        assert upstream.last.get("X-Forwarded-Proto") == "https"
        await wire.gone()
    with pytest.raises((ssl.SSLError, ConnectionError)):  # a handshake without a header before it
        await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="a")
    assert await refusals(running) == {"malformed": 1}


FIELDS: Final = ("X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: https")


@pytest.mark.parametrize(
    ("header", "logged", "seen"),
    [
        # The balancer stands in front of a proxy, which is trusted as one that connects itself is.
        (line("192.0.2.9"), "198.51.100.1", ("198.51.100.1, 192.0.2.9", "https")),
        # A health check of the balancer's own.
        (LOCAL, "198.51.100.1", ("198.51.100.1, 127.0.0.1", "https")),
        # Somebody, of whom nobody knows whether they are a proxy.
        (UNKNOWN, "127.0.0.1", ("127.0.0.1", "http")),
        (binary(0x00, b""), "127.0.0.1", ("127.0.0.1", "http")),
        # A program on the balancer's machine: trusted if Unix sockets are.
        (V2_UNIX, "", (None, "http")),
    ],
    ids=["proxy", "local", "unknown", "unspecified", "unix"],
)
async def test_client_that_is_named_is_trusted_as_if_it_had_connected(
    sidecar: Start,
    upstream: Upstream,
    header: bytes,
    logged: str,
    seen: tuple[str | None, str],
) -> None:
    port = free_port()
    running = await sidecar(TRUSTED, listen=[listener(port)])
    wire = await connect(port)
    wire.send(header)
    assert (await wire.get("/x", *FIELDS)).status == 200
    told = upstream.last
    assert (told.get("X-Forwarded-For"), told.get("X-Forwarded-Proto")) == seen
    await wire.gone()
    (one,) = requests(running)
    assert one["client"] == logged


async def test_peer_that_is_not_trusted_is_closed_at_once(
    sidecar: Start, upstream: Upstream
) -> None:
    """Without a word, whatever it sends; each is counted, and the log says it once a minute."""
    port = free_port()
    running = await sidecar({"trusted_proxies": ["192.0.2.1"]}, listen=[listener(port)])
    for header in (line(), V2, LOCAL, b""):
        wire = await connect(port)
        if header:
            wire.send(header + REQUEST)
        assert await rest_of(wire) == b""
        wire.close()
    assert upstream.requests == []
    assert await refusals(running) == {"untrusted": 4}
    (said,) = told(running)
    assert said["reason"] == "untrusted"
    assert said["peer"] == "127.0.0.1"
    assert said["listen"] == f"127.0.0.1:{port}"
    assert "trusted_proxies" in said["detail"]
    wire = await connect(running.port)  # another listener is for everybody
    assert (await wire.get("/x")).status == 200
    await wire.gone()


async def test_listener_without_the_protocol_takes_no_header(
    sidecar: Start, upstream: Upstream
) -> None:
    """Also from a trusted peer: a client could send it through a balancer that does not know it."""
    running = await sidecar(TRUSTED)
    wire = await connect(running.port)
    wire.send(line() + REQUEST)
    assert (await wire.answer()).status == 400
    wire.close()
    assert upstream.requests == []


@pytest.mark.parametrize(
    "data",
    [REQUEST, b"\x16\x03\x01\x00\x05", line()[:-2] + b"\n", SIGNATURE + b"\x31\x11", b"\0" * 200],
    ids=["http", "tls", "line", "version", "zeros"],
)
async def test_connection_without_a_header_is_closed(
    sidecar: Start, upstream: Upstream, data: bytes
) -> None:
    port = free_port()
    running = await sidecar(TRUSTED, listen=[listener(port)])
    wire = await connect(port)
    wire.send(data)
    assert await rest_of(wire) == b""
    wire.close()
    assert upstream.requests == []
    assert await refusals(running) == {"malformed": 1}
    assert [one["reason"] for one in told(running)] == ["malformed"]


async def test_header_that_is_cut_off_is_malformed_and_a_probe_is_not(sidecar: Start) -> None:
    """Balancers connect and leave, to see whether somebody listens."""
    port = free_port()
    running = await sidecar(TRUSTED, listen=[listener(port)])
    for data in (b"", b"PROXY TCP4 203", V2[:14]):
        wire = await connect(port)
        wire.send(data)
        wire.writer.write_eof()
        assert await rest_of(wire) == b""
        wire.close()
    assert await refusals(running) == {"malformed": 2}


async def test_slow_header_is_cut_and_holds_up_nobody(sidecar: Start, upstream: Upstream) -> None:
    """By the time limit of a request's head; others are served meanwhile."""
    port = free_port()
    running = await sidecar(TRUSTED, listen=[listener(port)], limits={"client_head": "1s"})
    slow = [await connect(port) for _ in range(20)]
    for at, wire in enumerate(slow):
        wire.send(line()[:at])
    quick = await connect(port)
    quick.send(line())
    assert (await quick.get("/x")).status == 200
    for wire in slow:
        assert await rest_of(wire) == b""
        wire.close()
    await quick.gone()
    assert await refusals(running) == {"timeout": 20}
    assert [one["reason"] for one in told(running)] == ["timeout"]


async def test_connections_that_wait_for_their_header_are_bounded(sidecar: Start) -> None:
    """By `limits.connections`: the oldest makes room."""
    port = free_port()
    running = await sidecar(TRUSTED, listen=[listener(port)], limits={"connections": 5})
    waiting = [await connect(port) for _ in range(8)]
    for wire in waiting[:3]:
        assert await rest_of(wire) == b""
    for wire in waiting[3:]:
        wire.send(line())
        assert (await wire.get("/x")).status == 200
    for wire in waiting:
        wire.close()
    await running.under_way()
    metrics = await running.metrics()
    assert metrics['sidecar_limited_connections_total{outcome="idle_closed"}'] >= 3


async def test_limits_are_those_of_the_client_that_is_named(sidecar: Start) -> None:
    port = free_port()
    running = await sidecar(
        TRUSTED, listen=[listener(port)], limits={"per_client": {"connections": 2}}
    )
    wires = []
    for address, fits in (
        *[("203.0.113.7", True)] * 2,
        ("203.0.113.7", False),
        ("203.0.113.8", True),
        *[("192.0.2.9", True)] * 4,  # a proxy of ours
    ):
        wire = await connect(port)
        wire.send(line(address))
        wires.append(wire)
        if fits:
            assert (await wire.get("/x")).status == 200
        else:
            assert await rest_of(wire) == b""
    for wire in wires:
        wire.close()
    metrics = await running.metrics()
    assert metrics['sidecar_limited_connections_total{outcome="per_client"}'] == 1


async def test_unix_socket_is_for_a_balancer_too(
    sidecar: Start, upstream: Upstream, tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"
    address = {"address": f"unix:{path}", "proxy_protocol": True}
    await sidecar({"trusted_proxies": ["unix"]}, listen=[address])
    wire = Client(*await asyncio.open_unix_connection(str(path)))
    wire.send(V2)
    assert (await wire.get("/x")).status == 200
    assert upstream.last.get("X-Forwarded-For") == "203.0.113.7"
    await wire.gone()


async def test_reload_decides_anew_who_is_trusted(sidecar: Start, upstream: Upstream) -> None:
    """Of new connections their peer, and of those that are open the client that was named."""
    port = free_port()
    running = await sidecar({"trusted_proxies": ["127.0.0.1"]}, listen=[listener(port)])
    wire = await connect(port)
    wire.send(line("192.0.2.9"))
    await wire.get("/x", *FIELDS)
    assert upstream.last.get("X-Forwarded-For") == "192.0.2.9"
    config = running.sidecar.runtime.policy.config
    await running.sidecar.reload(config.model_copy(update={"trusted_proxies": ("192.0.2.9",)}))
    await wire.get("/x", *FIELDS)
    assert upstream.last.get("X-Forwarded-For") == "198.51.100.1, 192.0.2.9"
    await wire.gone()
    other = await connect(port)
    other.send(line())
    assert await rest_of(other) == b""
    other.close()


async def test_any_bytes_are_answered_or_closed(sidecar: Start, upstream: Upstream) -> None:
    """Valid headers that are damaged, random bytes, and both in random pieces; then all is well."""
    rng = random.Random(7)
    port = free_port()
    await sidecar(TRUSTED, listen=[listener(port)], limits={"client_head": "2s"})

    async def one(data: bytes, pieces: int) -> bytes:
        wire = await connect(port)
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(pieces))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if not wire.writer.is_closing():
                wire.send(data[begin:end])
                await asyncio.sleep(0)
        found = await rest_of(wire)
        wire.close()
        return found

    def damaged(header: bytes) -> bytes:
        data = bytearray(header)
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        is_whole = rng.randrange(2)
        return bytes(data if is_whole else data[: rng.randrange(1, len(data))])

    cases = [damaged(rng.choice((line(), V2, V2_UNIX, LOCAL, UNKNOWN))) for _ in range(60)]
    cases += [rng.randbytes(rng.randrange(1, 300)) for _ in range(20)]
    found = await asyncio.gather(*(one(case + LAST_REQUEST, rng.randrange(1, 4)) for case in cases))
    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 ") for answer in found)
    assert b"" in found
    assert any(answer.startswith(b"HTTP/1.1 200") for answer in found)
    wire = await connect(port)
    wire.send(V2)
    assert (await wire.get("/x")).status == 200
    await wire.gone()
