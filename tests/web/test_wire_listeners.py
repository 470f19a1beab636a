"""Several listeners in one process: each with its own TLS, and with the clients that it lets in."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import ssl
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.tls import ends_at
from tests.conftest import PATIENCE, Client
from tests.net.store.conftest import Certificates, make_certificates
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Command, Embedded, Start, StartCommand, Upstream

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and a certificate that it has issued."""
    return make_certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The same of another authority."""
    return make_certificates(tmp_path_factory.mktemp("theirs"))


def tls(certificates: Certificates, **more: Any) -> dict[str, Any]:
    return {"cert": str(certificates.cert), "key": str(certificates.key), **more}


def trusting(
    server: Certificates, shown: Certificates | None = None, **versions: ssl.TLSVersion
) -> ssl.SSLContext:
    """A client that trusts one authority, and shows a certificate."""
    context = ssl.create_default_context(cafile=str(server.ca))
    context.check_hostname = False
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    for name, version in versions.items():
        setattr(context, name, version)
    return context


async def status(port: int | Path, context: ssl.SSLContext | None = None) -> int | str:
    """The status of a request, or why there is none."""
    try:
        async with asyncio.timeout(PATIENCE):
            if isinstance(port, Path):
                reader, writer = await asyncio.open_unix_connection(
                    str(port), ssl=context, server_hostname="a" if context else None
                )
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            wire = Client(reader, writer)
            try:
                return (await wire.get("/x")).status
            finally:
                await wire.gone()
    except (ssl.SSLError, OSError, EOFError, AssertionError) as error:
        return type(error).__name__


def at(port: int, **more: Any) -> dict[str, Any]:
    return {"address": f"127.0.0.1:{port}", **more}


async def test_each_listener_has_its_own_scheme_and_certificate(
    sidecar: Start, upstream: Upstream, tmp_path: Path, ours: Certificates, theirs: Certificates
) -> None:
    """The common one, one of its own, and none; on a Unix socket none."""
    common, own, plain, unix = free_port(), free_port(), free_port(), tmp_path / "s.sock"
    running = await sidecar(
        tls=tls(ours),
        listen=[at(common), at(own, tls=tls(theirs)), at(plain, tls=None), f"unix:{unix}|0600"],
    )
    by_ours, by_theirs = trusting(ours), trusting(theirs)
    seen = []
    for port, context in ((common, by_ours), (own, by_theirs), (plain, None), (unix, None)):
        assert await status(port, context) == 200
        seen.append(upstream.last.get("X-Forwarded-Proto"))
    assert seen == ["https", "https", "http", "http"]
    assert await status(running.port, by_ours) == 200
    assert await status(own, by_ours) == "SSLCertVerificationError"
    assert unix.stat().st_mode & 0o777 == 0o600
    metrics = await running.metrics()
    name = 'sidecar_tls_certificate_expiry_timestamp_seconds{file="%s",use="own"}'
    assert name % ours.cert in metrics
    assert name % theirs.cert in metrics


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_without_a_certificate_of_the_authority_gets_nothing(
    sidecar: Start,
    upstream: Upstream,
    ours: Certificates,
    theirs: Certificates,
    version: ssl.TLSVersion,
) -> None:
    """None, another authority's, and with either version of TLS; the upstream is told of none."""
    port = free_port()
    await sidecar(listen=[at(port, tls=tls(ours, client_ca=str(ours.ca)))])
    assert await status(port, trusting(ours, ours, maximum_version=version)) == 200
    assert not any("cert" in name.lower() or "ssl" in name.lower() for name in names(upstream))
    count = len(upstream.requests)
    for shown in (None, theirs):
        found = await status(port, trusting(ours, shown, maximum_version=version))
        assert found != 200
    assert len(upstream.requests) == count


def names(upstream: Upstream) -> list[str]:
    return [name for name, _ in upstream.last.fields]


async def test_several_authorities_may_stand_in_one_file(
    sidecar: Start, tmp_path: Path, ours: Certificates, theirs: Certificates
) -> None:
    port, both = free_port(), tmp_path / "both.pem"
    both.write_bytes(ours.ca.read_bytes() + theirs.ca.read_bytes())
    await sidecar(listen=[at(port, tls=tls(ours, client_ca=str(both)))])
    for shown in (ours, theirs):
        assert await status(port, trusting(ours, shown)) == 200


async def test_older_version_of_tls_is_refused(sidecar: Start, ours: Certificates) -> None:
    usual, newest = free_port(), free_port()
    await sidecar(listen=[at(usual, tls=tls(ours)), at(newest, tls=tls(ours, min_version="1.3"))])
    old = trusting(ours, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert await status(usual, old) == 200
    assert await status(newest, old) in {"SSLError", "ConnectionResetError"}
    assert await status(newest, trusting(ours)) == 200


FAILED = 'sidecar_tls_handshakes_failed_total{reason="%s"}'


def failures(running: Embedded) -> list[dict[str, Any]]:
    told = (json.loads(line) for line in running.log.getvalue().splitlines())
    return [line for line in told if line["event"] == "tls handshake failed"]


async def raw(port: int, data: bytes) -> None:
    """Sends bytes in the place of a handshake, and waits for the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            await reader.read()
    writer.transport.abort()


def refuse(port: int, context: ssl.SSLContext) -> None:
    """Ends a handshake with an alert, which asyncio does not send."""
    with socket.create_connection(("127.0.0.1", port)) as wire, pytest.raises(ssl.SSLError):
        context.wrap_socket(wire, server_hostname="127.0.0.1")


async def test_every_client_that_comes_to_no_tls_connection_is_counted_and_told(
    sidecar: Start, ours: Certificates, theirs: Certificates, tmp_path: Path
) -> None:
    """By reason, with its address; once a minute for each."""
    port, newest = free_port(), free_port()
    late = make_certificates(tmp_path / "late", ends_in=-60)
    both = tmp_path / "both.pem"
    both.write_bytes(ours.ca.read_bytes() + late.ca.read_bytes())
    running = await sidecar(
        listen=[
            at(port, tls=tls(ours, client_ca=str(both))),
            at(newest, tls=tls(ours, min_version="1.3")),
        ],
        limits={"client_head": "1s"},
    )
    for _ in range(2):
        await status(port, trusting(ours))
        await status(port, trusting(ours, theirs))
        await status(port, trusting(ours, late))
        await asyncio.to_thread(refuse, newest, trusting(theirs))
        await status(newest, trusting(ours, maximum_version=ssl.TLSVersion.TLSv1_2))
        await raw(newest, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await raw(newest, b"")
        _, writer = await asyncio.open_connection("127.0.0.1", newest)
        writer.transport.abort()
    expected = {
        **dict.fromkeys(("no_certificate", "certificate", "expired"), ("warning", port)),
        **dict.fromkeys(("refused", "protocol", "no_tls", "timeout"), ("info", newest)),
    }
    await running.wait_for(
        lambda found: all(found[FAILED % reason] == 2 for reason in (*expected, "left"))
    )
    assert await status(port, trusting(ours, ours)) == 200
    assert (await running.metrics())[FAILED % "other"] == 0
    told = {one["reason"]: (one["level"], one["listen"]) for one in failures(running)}
    assert told == {reason: (level, f"127.0.0.1:{it}") for reason, (level, it) in expected.items()}
    assert len(failures(running)) == len(expected)
    assert {one["peer"] for one in failures(running)} == {"127.0.0.1"}


async def test_end_of_the_authorities_of_clients_is_in_a_metric(
    sidecar: Start, tmp_path: Path, ours: Certificates
) -> None:
    """Of several the first that ends."""
    port, both = free_port(), tmp_path / "both.pem"
    soon = make_certificates(tmp_path / "soon", ends_in=600)
    both.write_bytes(ours.ca.read_bytes() + soon.ca.read_bytes())
    running = await sidecar(listen=[at(port, tls=tls(ours, client_ca=str(both)))])
    name = 'sidecar_tls_certificate_expiry_timestamp_seconds{file="%s",use="%s"}'
    metrics = await running.metrics()
    end = ends_at(str(soon.ca))
    assert end is not None
    assert metrics[name % (both, "client_ca")] == end.timestamp()
    assert metrics[name % (ours.cert, "own")] > end.timestamp()


# -- the command -----------------------------------------------------------------------------------


def lines(running: Command, *events: str) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in running.stderr.splitlines() if line[:1] == "{"]
    return [line for line in told if line["event"] in events]


async def until(running: Command, count: int, *events: str) -> list[dict[str, Any]]:
    """The lines of these events, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while len(found := lines(running, *events)) < count:
            assert running.process.returncode is None, running.stderr
            await asyncio.sleep(0.02)
    return found


async def serving(running: Command, workers: int) -> None:
    await until(running, workers, "serving")


@WORKERS
async def test_reload_swaps_certificates_and_client_authorities(
    command: StartCommand, tmp_path: Path, ours: Certificates, theirs: Certificates, workers: int
) -> None:
    """In the same files, for new connections in all processes; and by other files."""
    port, cert, key, ca = free_port(), *(tmp_path / name for name in ("cert", "key", "ca"))

    def put(one: Certificates, authority: Certificates) -> None:
        for file, source in ((cert, one.cert), (key, one.key), (ca, authority.ca)):
            file.write_bytes(source.read_bytes())

    put(ours, ours)
    own = {"cert": str(cert), "key": str(key), "client_ca": str(ca)}
    running = await command({"watch": False, "workers": workers}, listen=[at(port, tls=own)])
    await serving(running, workers)
    count = 1 if workers == 1 else workers + 1
    for _ in range(4):
        assert await status(port, trusting(ours, ours)) == 200
    put(theirs, theirs)
    running.process.send_signal(signal.SIGHUP)
    await until(running, count, "reloaded")
    for _ in range(4):
        assert await status(port, trusting(theirs, theirs)) == 200
        assert await status(port, trusting(theirs, ours)) != 200
    file = tmp_path / f"{running.port}.yaml"
    written = json.loads(file.read_text())
    written["listen"][1]["tls"] = tls(ours, min_version="1.3")
    file.write_text(json.dumps(written))
    running.process.send_signal(signal.SIGHUP)
    await until(running, 2 * count, "reloaded")
    assert not lines(running, "reload is not complete")
    for _ in range(4):
        assert await status(port, trusting(ours)) == 200


async def test_changed_authority_reloads_by_itself(
    command: StartCommand, tmp_path: Path, ours: Certificates, theirs: Certificates
) -> None:
    """And one that holds no certificate is refused; the old one holds."""
    port, ca = free_port(), tmp_path / "ca.pem"
    ca.write_bytes(ours.ca.read_bytes())
    running = await command(listen=[at(port, tls=tls(ours, client_ca=str(ca)))])
    await serving(running, 1)
    ca.write_bytes(theirs.ca.read_bytes())
    await until(running, 1, "reloaded")
    assert await status(port, trusting(ours, theirs)) == 200
    ca.write_text("nonsense")
    (line,) = await until(running, 1, "reload refused")
    told = f"listen[1].tls.client_ca: {ca}: must contain a PEM certificate"
    assert line["detail"].endswith(told)
    assert await status(port, trusting(ours, theirs)) == 200


async def test_tls_of_a_listener_takes_a_restart_to_turn_on(
    command: StartCommand, tmp_path: Path, ours: Certificates
) -> None:
    """What else the file says holds at once, another certificate too."""
    port, other = free_port(), free_port()
    running = await command({"watch": False}, listen=[at(port), at(other, tls=tls(ours))])
    await serving(running, 1)
    file = tmp_path / f"{running.port}.yaml"
    written = json.loads(file.read_text())
    written["listen"][1]["tls"] = tls(ours)
    written["log"] = {"access": False}
    file.write_text(json.dumps(written))
    running.process.send_signal(signal.SIGHUP)
    (line,) = await until(running, 1, "reload is not complete")
    assert line["detail"].startswith("takes a restart: listen; ")
    assert await status(port) == 200
    assert not lines(running, "request")


@WORKERS
async def test_startup_line_names_every_listener(
    command: StartCommand, tmp_path: Path, workers: int
) -> None:
    port, unix = free_port(), tmp_path / "s.sock"
    running = await command({"workers": workers}, listen=[f"127.0.0.1:{port}", f"unix:{unix}"])
    for line in await until(running, workers, "serving"):
        assert line["listen"] == f"127.0.0.1:{running.port}, 127.0.0.1:{port}, unix:{unix}"
    for place in (running.port, port, unix):
        assert await status(place) == 200
    running.terminate()
    assert await running.exit_code() == 0
    assert not unix.exists()


@WORKERS
async def test_address_that_cannot_be_had_is_named_with_all_others(
    command: StartCommand, upstream: Upstream, tmp_path: Path, workers: int
) -> None:
    """And it exits with 2."""
    missing = tmp_path / "none" / "s.sock"
    running = await command(
        {"workers": workers}, listen=[f"127.0.0.1:{upstream.port}", f"unix:{missing}"]
    )
    assert await running.exit_code() == 2
    told = (
        f"sidecar: cannot start: listen[1]: 127.0.0.1:{upstream.port}: address already in use; "
        f"listen[2]: unix:{missing}: no such file or directory\n"
    )
    assert told in running.stderr


@WORKERS
async def test_another_process_goes_on_with_every_listener(
    command: StartCommand, tmp_path: Path, ours: Certificates, workers: int
) -> None:
    """By SIGUSR2: on the same sockets, also where the list has another order and one more."""
    port, own, more, unix = free_port(), free_port(), free_port(), tmp_path / "s.sock"
    given: list[Any] = [at(port), at(own, tls=tls(ours)), f"unix:{unix}"]
    running = await command({"watch": False, "workers": workers}, listen=given)
    await serving(running, workers)
    file = tmp_path / f"{running.port}.yaml"
    written = json.loads(file.read_text())
    written["listen"] = [*reversed(written["listen"]), f"127.0.0.1:{more}"]
    file.write_text(json.dumps(written))
    running.process.send_signal(signal.SIGUSR2)
    (line,) = await until(running, 1, "handed over")
    try:
        assert await running.exit_code() == 0
        for place in (running.port, port, unix, more):
            assert await status(place) == 200
        assert await status(own, trusting(ours)) == 200
        assert not lines(running, "socket is not used")
    finally:
        os.kill(line["pid"], signal.SIGTERM)
        await until_stopped(line["pid"])


async def until_stopped(pid: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while is_running(pid):
            await asyncio.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there, and more than what its parent has not taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


ACTIVATED = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1], LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "sidecar", "run", "-c", sys.argv[3]])
"""


@WORKERS
async def test_sockets_of_a_service_manager_are_for_the_listeners_of_their_addresses(
    tmp_path: Path, upstream: Upstream, ours: Certificates, workers: int
) -> None:
    """Whatever their order; an address without a socket is opened, and one too many is told."""
    plain, own, opened, admin = (free_port() for _ in range(4))
    config = {
        "upstream": upstream.url,
        "secret": "s" * 32,
        "workers": workers,
        "admin": f"127.0.0.1:{admin}",
        "drain": {"wait": "0s"},
        "listen": [at(plain), at(own, tls=tls(ours)), f"127.0.0.1:{opened}"],
    }
    file, log = tmp_path / "x.yaml", tmp_path / "x.log"
    file.write_text(json.dumps(config))
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", one)))
            for one in (own, admin, plain)
        ]
        errors = stack.enter_context(log.open("wb"))
        held = [os.dup(one.fileno()) for one in sockets]
        for to, fd in zip(range(100, 103), held, strict=True):
            os.dup2(fd, to)
            os.set_inheritable(to, True)
            stack.callback(os.close, to)
            os.close(fd)
        command = "exec 3<&100 4<&101 5<&102; exec " + shlex.join(
            [sys.executable, "-c", ACTIVATED, "3", "http:admin:http", str(file)]
        )
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", command, stderr=errors, pass_fds=(100, 101, 102)
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while log.read_text().count('"serving"') < workers:
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        assert await status(plain) == 200
        assert await status(own, trusting(ours)) == 200
        assert await status(opened) == 200
        assert "socket is not used" not in log.read_text()
    finally:
        process.terminate()
        assert await process.wait() == 0
