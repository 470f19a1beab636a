"""Reloads: another configuration holds and no request is dropped, or the old one stays."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.store_url import StoreUrl
from sidecar.runtime import Runtime
from tests.conftest import Client
from tests.e2e.servers import write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Answer, Clients, Command, Start, StartCommand, Upstream

WORKERS: Final = pytest.mark.parametrize("workers", [1, 2])
COOKIE: Final = "Cookie: access_token=good"


class Site:
    """A sidecar with its file, which can be changed."""

    def __init__(self, at: Command, file: Path) -> None:
        self.at = at
        self.file = file

    def lines(self, *events: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in self.at.stderr.splitlines() if line[:1] == "{"]
        return [line for line in told if line["event"] in events]

    def change(self, text: str | None = None, **more: Any) -> None:
        written = json.loads(self.file.read_text()) | more
        self.file.write_text(json.dumps(written) if text is None else text)

    async def reload(self, count: int = 1) -> list[dict[str, Any]]:
        """Sends SIGHUP, and waits until `count` lines say what became of it."""
        before = len(self.lines("reloaded", "reload refused"))
        self.at.process.send_signal(signal.SIGHUP)
        return await self.told(before + count)

    def exchange(self, **more: Any) -> None:
        """As `change`, by another file of this name."""
        written = json.loads(self.file.read_text()) | more
        other = self.file.with_suffix(".new")
        other.write_text(json.dumps(written))
        other.replace(self.file)

    def watches(self) -> bool:
        """Whether the process has an inotify instance."""
        links = Path(f"/proc/{self.at.process.pid}/fd").iterdir()
        return any("inotify" in os.readlink(link) for link in links)

    async def counted(self, count: int, event: str) -> None:
        """Waits until so many lines tell of an event."""
        async with asyncio.timeout(20):
            while len(self.lines(event)) != count:
                assert self.at.process.returncode is None, self.at.stderr
                await asyncio.sleep(0.02)

    async def history(self) -> Any:
        return (await self.ask("GET", f"Host: 127.0.0.1:{self.at.admin}")).json

    async def ask(self, method: str, *fields: str) -> Answer:
        """The answer of `/reload`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.at.admin)
        one = Client(reader, writer)
        try:
            return await one.ask(method, "/reload", "Connection: close", *fields)
        finally:
            await one.gone()

    async def told(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while len(told := self.lines("reloaded", "reload refused")) < count:
                assert self.at.process.returncode is None, self.at.stderr
                await asyncio.sleep(0.02)
        return told


@pytest.fixture
def start(command: StartCommand, upstream: Upstream, tmp_path: Path) -> Callable[..., Any]:
    async def run(workers: int = 1, **more: Any) -> Site:
        route = {"path": "/", "kind": "api", "upstream": "api", "session": "optional"}
        upstreams = {"api": {"url": upstream.url}}
        config = {"upstreams": upstreams, "routes": [route], "watch": False, **more}
        at = await command(config, workers=workers)
        async with asyncio.timeout(10):
            while at.stderr.count('"serving"') < workers:
                await asyncio.sleep(0.02)
        return Site(at, tmp_path / f"{at.port}.yaml")

    return run


def lines_of(workers: int) -> int:
    """How many lines tell of a reload: each worker's, and the supervisor's."""
    return 1 if workers == 1 else workers + 1


@WORKERS
async def test_new_configuration_holds_for_open_connections_too(
    start: Callable[..., Any], client: Clients, workers: int
) -> None:
    """Routes, and everything that was planned with the old ones; the process stays the same."""
    site: Site = await start(workers)
    ones = [await client(site.at) for _ in range(4)]
    for _ in range(3):
        assert [(await one.get("/x", COOKIE)).status for one in ones] == [200] * 4
    route = {"path": "/api/", "kind": "api", "upstream": "api", "session": "optional"}
    site.change(routes=[route])
    await site.reload(lines_of(workers))
    assert [(await one.get("/x", COOKIE)).status for one in ones] == [404] * 4
    assert [(await one.get("/api/x", COOKIE)).status for one in ones] == [200] * 4
    assert (await (await client(site.at)).get("/x")).status == 404
    assert site.at.process.returncode is None


@WORKERS
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense: 1", "nonsense: unknown key"),
        ("{", "YAML"),
        (None, "/nowhere/ca.pem: no such file or directory"),
        ("missing", "No such file"),
    ],
)
async def test_configuration_that_cannot_be_used_is_refused_and_the_old_one_stays(
    *, start: Callable[..., Any], client: Clients, workers: int, text: str | None, told: str
) -> None:
    site: Site = await start(workers)
    if text == "missing":
        site.file.unlink()
    else:
        site.change(text, outbound={"ca": "/nowhere/ca.pem"})
    (line,) = await site.reload()
    assert (line["event"], line["level"]) == ("reload refused", "error")
    assert "the old configuration stays" in line["detail"]
    assert told in line["detail"]
    assert (await (await client(site.at)).get("/x", COOKIE)).status == 200


@WORKERS
async def test_client_certificate_that_is_missing_is_told_once(
    start: Callable[..., Any], workers: int
) -> None:
    """By the supervisor of several workers, which would begin others with what it takes."""
    site: Site = await start(workers, public_url="http://127.0.0.1", secret="s" * 32)
    client = {"issuer": "http://127.0.0.1:1", "client_id": "a", "auth": "tls"}
    cert, key = write_certificate(site.file.parent)
    cert.unlink()
    site.change(oidc={**client, "cert": str(cert), "key_file": str(key)})
    (line,) = await site.reload()
    assert f"oidc.cert: {cert}: no such file or directory" in line["detail"]


@WORKERS
async def test_store_that_cannot_be_is_refused_and_the_old_one_stays(
    *, start: Callable[..., Any], client: Clients, tmp_path: Path, workers: int
) -> None:
    """As a file for the log. What has become of the old one's file keeps nobody from a reload."""
    old, folder = f"sqlite://{tmp_path}/old/store.db", tmp_path / "old"
    folder.mkdir()
    site: Site = await start(workers, store=old, secret="a secret of 32 bytes, or more ...")
    for url, told in (
        (
            f"sqlite://{tmp_path}/new/store.db",
            f"/new/store.db: the directory {tmp_path}/new is mis",
        ),
        (f"rediss://127.0.0.1:1?ca={tmp_path}/new.pem", "/new.pem: no such file or directory"),
    ):
        site.change(store=url)
        line = (await site.reload())[-1]
        assert line["event"] == "reload refused"
        assert told in line["detail"]
    assert (await (await client(site.at)).get("/x", COOKIE)).status == 200
    shutil.rmtree(folder)
    site.change(store=old, log={"level": "debug"})
    lines = await site.reload(lines_of(workers))
    assert {one["event"] for one in lines} >= {"reloaded"}


async def test_shared_store_stays_until_a_restart_where_workers_would_have_none(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """A place for a store of a run's own is made at its start alone, and here it was not needed.

    Without one each worker would know of no logouts but its own.
    """
    store = {"url": f"sqlite://{tmp_path}/store.db"}
    site: Site = await start(2, store=store, admin=None, secret="a secret of 32 bytes, or more ...")
    written = json.loads(site.file.read_text())
    site.change(json.dumps({key: one for key, one in written.items() if key != "store"}))
    (line,) = await site.reload()
    assert "store.url: takes a restart to be removed" in line["detail"]


@WORKERS
async def test_every_process_logs_in_the_new_form(start: Callable[..., Any], workers: int) -> None:
    """The supervisor's lines, too: whoever collects them reads one form."""
    site: Site = await start(workers)
    site.change(log={"format": "console"})
    for count, what in ((lines_of(workers), " reloaded "), (1, " reload refused: ")):
        site.at.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while site.at.stderr.count(what) != count:
                await asyncio.sleep(0.02)
        site.file.write_text("nonsense: 1")
    assert not site.lines("reloaded", "reload refused")


@WORKERS
async def test_no_request_is_dropped(
    start: Callable[..., Any], upstream: Upstream, client: Clients, workers: int
) -> None:
    """Neither one that is under way, nor an event stream, nor any of many meanwhile."""
    site: Site = await start(workers)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    release = asyncio.Event()
    upstream.answers([head, b"data: 1\n\n", 2.0, b"data: 2\n\n"], [1.0, upstream.reply(b"{}")])
    stream, slow = await client(site.at), await client(site.at)
    stream.send(f"GET /events HTTP/1.1\r\nHost: a\r\n{COOKIE}\r\n\r\n")
    await stream.reader.readuntil(b"data: 1\n\n")
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    while len(upstream.requests) < 2:
        await asyncio.sleep(0.01)

    async def load() -> int:
        done, one = 0, await client(site.at)
        while not release.is_set():
            assert (await one.get("/x", COOKIE)).status == 200
            done += 1
        return done

    loads = [asyncio.create_task(load()) for _ in range(4)]
    for number in range(3):
        site.change(limits={"client_idle": f"{60 + number}s"})
        await site.reload(lines_of(workers))
    assert (await slow.answer()).status == 200
    assert b"data: 2" in await stream.reader.readuntil(b"data: 2\n\n")
    release.set()
    assert all(await asyncio.gather(*loads))
    assert not site.lines("defect", "request failed", "reload failed")
    site.at.terminate()
    await stream.gone()
    await slow.gone()
    await client.close()
    assert await site.at.exit_code() == 0
    assert "exception" not in site.at.stderr.lower()


@WORKERS
async def test_dead_sessions_stay_dead(
    start: Callable[..., Any], upstream: Upstream, client: Clients, workers: int
) -> None:
    """Also one that dies by an answer to a request of before, whatever was planned since."""
    site: Site = await start(workers)
    one, late = await client(site.at), await client(site.at)
    upstream.answers([1.0, upstream.reply(b"{}", status="401 Unauthorized")])
    late.send(f"GET /late HTTP/1.1\r\nHost: a\r\n{COOKIE}\r\n\r\n")
    while not upstream.requests:
        await asyncio.sleep(0.01)
    site.change(limits={"client_idle": "60s"})
    await site.reload(lines_of(workers))
    for _ in range(3):
        assert (await one.get("/x", COOKIE)).status == 200
        assert upstream.last.get("Authorization") == "Bearer good"
    assert (await late.answer()).status == 303
    await asyncio.sleep(1.0 if workers > 1 else 0.0)
    assert (await one.get("/x", COOKIE)).status == 200
    assert upstream.last.get("Authorization") is None
    site.change(limits={"client_idle": "61s"})
    await site.reload(lines_of(workers))
    await one.get("/x", COOKIE)
    assert upstream.last.get("Authorization") is None


@WORKERS
async def test_certificate_is_read_anew(
    start: Callable[..., Any], tmp_path: Path, workers: int
) -> None:
    """New connections are shown the new one."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    cert, key = write_certificate(tmp_path / "old")
    site: Site = await start(workers, tls={"cert": str(cert), "key": str(key)})
    before = await certificate(site.at.port)
    for old, new in zip((cert, key), write_certificate(tmp_path / "new"), strict=True):
        os.replace(new, old)
    assert await certificate(site.at.port) == before
    await site.reload(lines_of(workers))
    for _ in range(6):
        assert await certificate(site.at.port) != before


@WORKERS
async def test_authorities_of_an_upstream_are_read_anew(
    start: Callable[..., Any], client: Clients, tmp_path: Path, workers: int
) -> None:
    """Whom a new connection trusts is what the file holds by then."""
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    own, key = write_certificate(tmp_path / "own")
    other, _ = write_certificate(tmp_path / "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(other.read_bytes())
    port = server.sockets[0].getsockname()[1]
    api = {"url": f"https://127.0.0.1:{port}", "tls": {"ca": str(trusted)}}
    site: Site = await start(workers, upstreams={"api": api})
    for certificates, status in ((own, 200), (other, 502)):
        trusted.write_bytes(certificates.read_bytes())
        await site.reload(lines_of(workers))
        ones = [await client(site.at) for _ in range(4)]
        assert [(await one.get("/x")).status for one in ones] == [status] * 4
    server.close()


async def certificate(port: int) -> bytes | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return found


async def test_what_takes_a_restart_is_said(start: Callable[..., Any], client: Clients) -> None:
    """And all else holds."""
    site: Site = await start()
    log = {"level": "debug", "access": False}
    site.change(listen="127.0.0.1:1", workers=3, core_dumps=True, log=log)
    await site.reload()
    await site.counted(1, "reload is not complete")
    (line,) = site.lines("reload is not complete")
    told = "takes a restart: listen, core_dumps, workers; SIGUSR2 restarts without a loss"
    assert line["detail"] == told
    assert (await (await client(site.at)).get("/x")).status == 200
    assert not site.lines("request")


async def test_worker_that_is_replaced_begins_with_the_new_configuration(
    start: Callable[..., Any], client: Clients
) -> None:
    site: Site = await start(2)
    site.change(routes=[{"path": "/api/", "kind": "api", "upstream": "api", "session": "none"}])
    await site.reload(3)
    for line in site.lines("serving"):
        os.kill(line["pid"], signal.SIGKILL)
    async with asyncio.timeout(10):
        while len(site.lines("serving")) < 4:
            await asyncio.sleep(0.02)
    assert (await (await client(site.at)).get("/x")).status == 404


@pytest.mark.parametrize("credential", [COOKIE, "Authorization: Bearer good"])
@pytest.mark.parametrize("more", [{}, {"secret": ["n" * 40]}], ids=["", "with another secret"])
async def test_session_that_dies_after_a_reload_is_dead_for_what_waits_since_before(
    start: Callable[..., Any],
    upstream: Upstream,
    client: Clients,
    credential: str,
    more: dict[str, Any],
) -> None:
    """A request whose body is still coming was planned by the old configuration."""
    route = {"path": "/", "kind": "api", "upstream": "api", "authorization": "session"}
    site: Site = await start(secret=["o" * 40], routes=[{**route, "session": "optional"}])
    one, slow = await client(site.at), await client(site.at)
    assert (await one.get("/x", COOKIE)).status == 200
    mode = "Sec-Fetch-Site: same-origin"
    head = f"POST /slow HTTP/1.1\r\nHost: a\r\n{credential}\r\n{mode}\r\nContent-Length: 4\r\n\r\n"
    slow.send(f"{head}ab")
    await asyncio.sleep(0.2)
    site.change(limits={"client_idle": "60s"}, **more)
    await site.reload()
    assert (await one.post("/api/logout", COOKIE, mode)).status == 200
    slow.send("cd")
    assert (await slow.answer()).status == 200
    assert upstream.last.target == "/slow"
    assert upstream.last.get("Authorization") is None


@WORKERS
@pytest.mark.parametrize("kept", [True, False], ids=["the old one opens", "the old one is gone"])
async def test_dead_sessions_stay_dead_with_another_secret(
    start: Callable[..., Any], upstream: Upstream, client: Clients, workers: int, *, kept: bool
) -> None:
    """Whoever rotates the secret lifts no logout; and what lasts still ends with its session."""
    old, new = "o" * 40, "n" * 40
    site: Site = await start(workers, secret=[old])
    one, stream = await client(site.at), await client(site.at)
    other = "Cookie: access_token=other"
    assert (await one.get("/x", COOKIE)).status == 200
    assert (await one.post("/api/logout", COOKIE, "Sec-Fetch-Site: same-origin")).status == 200
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    upstream.answers([head, b"data: 1\n\n", 20.0])
    stream.send(f"GET /events HTTP/1.1\r\nHost: a\r\n{other}\r\n\r\n")
    await stream.reader.readuntil(b"data: 1\n\n")
    await asyncio.sleep(1.0 if workers > 1 else 0.0)
    for secrets in ([new, old], [new]) if kept else ([new],):
        site.change(secret=secrets)
        await site.reload(lines_of(workers))
        for _ in range(4):
            again = await client(site.at)
            await again.get("/x", COOKIE)
            assert upstream.last.get("Authorization") is None
            await again.get("/x", f"Authorization: Bearer {COOKIE.partition('=')[2]}")
            assert upstream.last.get("Authorization") is None
    assert (await one.post("/api/logout", other, "Sec-Fetch-Site: same-origin")).status == 200
    await stream.gone()


# -- POST /reload ----------------------------------------------------------------------------------


@WORKERS
async def test_post_says_what_came_of_the_reload(
    start: Callable[..., Any], client: Clients, workers: int
) -> None:
    """Once it is done, for every worker."""
    site: Site = await start(workers)
    began = (await site.history())["holds"]
    assert began["result"] == "started"
    site.change(routes=[{"path": "/api/", "kind": "api", "upstream": "api", "session": "none"}])
    answer = await site.at.post_admin("/reload")
    assert (answer.status, answer.json["result"], answer.json["kept"]) == (200, "reloaded", [])
    assert answer.json["hash"] != began["hash"]
    assert answer.json["when"] > began["when"]
    for _ in range(8):
        assert (await (await client(site.at)).get("/x")).status == 404
    assert len(site.lines("reloaded")) == lines_of(workers)
    site.change(listen="127.0.0.1:1")
    answer = await site.at.post_admin("/reload")
    assert (answer.status, answer.json["kept"]) == (200, ["listen"])
    history = await site.history()
    assert history["holds"] == history["last"]
    assert history["counts"] == {"reloaded": 2, "refused": 0, "failed": 0}


@WORKERS
async def test_post_says_why_a_reload_is_refused(start: Callable[..., Any], workers: int) -> None:
    """With every fault; the old configuration goes on under its hash."""
    site: Site = await start(workers)
    began = (await site.history())["holds"]
    site.change(nonsense=1, limits={"header": "many"})
    answer = await site.at.post_admin("/reload")
    assert (answer.status, answer.json["result"]) == (422, "refused")
    assert answer.json["hash"] == began["hash"]
    told = "\n".join(answer.json["faults"])
    assert "nonsense: unknown key" in told
    assert "limits.header" in told
    history = await site.history()
    assert history["holds"] == began
    assert history["last"]["faults"] == answer.json["faults"]


@WORKERS
async def test_every_post_is_answered_by_a_reload_after_it(
    start: Callable[..., Any], workers: int
) -> None:
    """Several at once, and signals between them: each sees the file as it was when it came."""
    site: Site = await start(workers)
    for number in range(3):
        site.change(limits={"client_idle": f"{60 + number}s"})
        site.at.process.send_signal(signal.SIGHUP)
        answers = await asyncio.gather(*(site.at.post_admin("/reload") for _ in range(3)))
        assert [answer.status for answer in answers] == [200] * 3
        assert len({answer.json["hash"] for answer in answers}) == 1
        assert (await site.at.post_admin("/reload")).json["hash"] == answers[0].json["hash"]


@WORKERS
async def test_admin_listener_acts_for_no_other_site(
    start: Callable[..., Any], workers: int
) -> None:
    """Forms, scripts and names that were rebound get 403, and nothing is done."""
    site: Site = await start(workers)
    own = f"127.0.0.1:{site.at.admin}"
    for fields in (
        [f"Host: {own}", f"Origin: http://{own}"],
        [f"Host: {own}", "X-Sidecar-Admin: 1", "Origin: https://evil.example"],
        [f"Host: {own}", "X-Sidecar-Admin: 1", "Sec-Fetch-Site: cross-site"],
        [f"Host: evil.example:{site.at.admin}", "X-Sidecar-Admin: 1"],
    ):
        answer = await site.ask("POST", *fields)
        assert (answer.status, answer.json["result"]) == (403, "refused")
        assert answer.json["reason"]
    assert (await site.ask("GET", "Host: evil.example")).status == 403
    assert (await site.ask("GET", f"Host: localhost:{site.at.admin}")).status == 200
    assert not site.lines("reloaded", "reload refused")


async def test_reload_that_fails_half_way_leaves_nothing_open(
    sidecar: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a store nor a task; the old configuration serves as before."""
    at = await sidecar()
    running = at.sidecar
    before, old = asyncio.all_tasks(), running.runtime
    opened: list[Runtime] = []

    async def fail(runtime: Runtime) -> None:
        opened.append(runtime)
        raise OSError("no start")

    monkeypatch.setattr(Runtime, "start", fail)
    closed = []
    config = old.policy.config
    shared = config.store.model_copy(
        update={"url": StoreUrl("sqlite", path=str(tmp_path / "store.db"))}
    )
    for other in (config, config.model_copy(update={"store": shared})):
        with pytest.raises(OSError, match="no start"):
            await running.reload(other)
        closed.append(opened[-1])
    assert running.runtime is old
    assert closed[0].store is old.store
    await old.store.ping()
    with pytest.raises(StoreUnavailable):
        await closed[1].store.ping()
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


# -- a changed file --------------------------------------------------------------------------------


@WORKERS
async def test_changed_file_reloads(
    start: Callable[..., Any], client: Clients, workers: int
) -> None:
    """The configuration's, replaced by rename or written over, also after one that was refused."""
    site: Site = await start(workers, watch=True)
    for path, write in (("/a/", site.change), ("/b/", site.exchange)):
        before = len(site.lines("reloaded"))
        route = {"path": path, "kind": "api", "upstream": "api", "session": "none"}
        write(routes=[route])
        await site.counted(before + lines_of(workers), "reloaded")
        one = await client(site.at)
        assert (await one.get(f"{path}x")).status == 200
        assert (await one.get("/x")).status == 404
        correct = site.file.read_text()
        refused = len(site.lines("reload refused"))
        site.change("{")
        await site.counted(refused + 1, "reload refused")
        site.file.write_text(correct)
        await site.counted(before + 2 * lines_of(workers), "reloaded")
    assert site.lines("files changed")[0]["files"] == [str(site.file)]


@WORKERS
async def test_changed_secret_and_certificate_reload(
    start: Callable[..., Any], client: Clients, tmp_path: Path, workers: int
) -> None:
    """Each file that the configuration names, as Kubernetes and certificate managers change it."""
    secret = tmp_path / "secret"
    secret.write_text("o" * 40)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old = write_certificate(tmp_path / "old")
    new = write_certificate(tmp_path / "new")
    (tmp_path / "tls").symlink_to("old")
    cert, key = (str(tmp_path / "tls" / one.name) for one in old)
    assert [one.name for one in old] == [one.name for one in new]
    tls = {"cert": cert, "key": key}
    source = {"type": "authjs", "secret_file": str(secret), "token": "accessToken"}
    site: Site = await start(workers, watch=True, tls=tls, session={"sources": [source]})
    shown = await certificate(site.at.port)
    secret.write_text("n" * 40)
    await site.counted(lines_of(workers), "reloaded")
    assert await certificate(site.at.port) == shown
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(tmp_path / "tls")
    await site.counted(2 * lines_of(workers), "reloaded")
    for _ in range(4):
        assert await certificate(site.at.port) != shown


async def test_watching_can_be_turned_off_and_on(start: Callable[..., Any]) -> None:
    """By a reload; then a change is neither lost nor taken twice."""
    site: Site = await start(watch=True, core_dumps=True)  # whoever runs this test may look
    site.change(watch=False)
    await site.counted(1, "reloaded")
    assert not site.watches()
    site.change(watch=True)
    await site.reload()
    assert site.watches()
    site.change(limits={"client_idle": "60s"})
    await site.counted(3, "reloaded")
    assert (await site.history())["counts"]["reloaded"] == 3
