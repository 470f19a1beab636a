"""An administrator ends sessions: of a user, of a provider's session, or one by its fingerprint."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from sidecar.cli import cli
from sidecar.core.formats import FORMATS
from sidecar.core.formats.login_session import LoginSession
from tests.conftest import Client
from tests.web.test_wire_allow import Scene, clock, directory, people, scene  # noqa: F401
from tests.web.test_wire_login import DOCUMENT, FETCH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Answer, Clients, Embedded, Running, Start, Upstream
    from tests.web.test_wire_login import Browsers

SECRET = "0123456789abcdef0123456789abcdef"
NAME = "authjs.session-token"
ADMIN = "X-Sidecar-Admin: 1"
KEPT = ["cookie", "store", "sqlite"]
NOBODY = "A" * 22


async def end(at: Running, *lines: str, **asked: Any) -> Answer:
    """What the admin listener says to `POST /sessions/end`."""
    one = Client(*await asyncio.open_connection("127.0.0.1", at.admin))
    try:
        host = f"Host: 127.0.0.1:{at.admin}"
        body = json.dumps(asked).encode()
        return await one.post("/sessions/end", host, "Connection: close", *lines, body=body)
    finally:
        await one.gone()


def told(at: Embedded, event: str) -> list[dict[str, Any]]:
    """The log's lines of an event."""
    lines = [json.loads(line) for line in at.log.getvalue().splitlines() if line[:1] == "{"]
    return [line for line in lines if line["event"] == event]


def keys(kept: str, tmp_path: Path) -> dict[str, Any]:
    """Where login sessions are kept."""
    if kept == "sqlite":
        return {"store": {"url": f"sqlite://{tmp_path}/store.db"}}
    return {"keep": kept}


async def logged_in(scene: Scene, kept: str, tmp_path: Path) -> Embedded:  # noqa: F811
    given = keys(kept, tmp_path)
    whole = scene.with_login(**({} if "store" in given else given))
    return await scene.start({**whole, **(given if "store" in given else {})})


@pytest.mark.parametrize("kept", KEPT)
async def test_every_session_of_a_user_ends(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    tmp_path: Path,
    kept: str,
) -> None:
    """In every browser, and no other user's; tokens are revoked, and it is counted and logged."""
    at = await logged_in(scene, kept, tmp_path)
    one, two, bob = [await people(at) for _ in range(3)]
    await one.log_in()
    await two.log_in()
    await bob.log_in(user="bob")
    for each in (one, two, bob):
        assert (await each.get("/api/x", *FETCH)).status == 200
    answer = await end(at, ADMIN, sub="alice")
    assert (answer.status, answer.json) == (200, {"result": "done", "ended": 2, "known": True})
    for each in (one, two):
        assert (await each.get("/api/x", *FETCH)).status in (303, 401)
        assert (await each.who())["authenticated"] is False
    assert (await bob.get("/api/x", *FETCH)).status == 200
    again = await end(at, ADMIN, sub="alice", issuer=scene.provider.issuer)
    assert (again.status, again.json["ended"]) == (200, 0)
    await at.wait_for(lambda seen: seen['sidecar_sessions_ended_total{reason="admin"}'] == 2)
    await at.wait_for(lambda _: len(told(at, "session ended")) == 2)
    assert {line["reason"] for line in told(at, "session ended")} == {"admin"}
    lines = told(at, "ended by an administrator")
    assert [(line["what"], line["ended"]) for line in lines] == [("user", 2), ("user", 0)]
    assert "alice" not in at.log.getvalue()
    await one.log_in()
    assert (await one.get("/api/x", *FETCH)).status == 200, "a new login is a new session"


async def test_logout_of_one_user_reads_nobody_elses_email(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each email is in an id_token, and thousands of sessions are known. Somebody's sessions having
    been ended by an email before makes no logout longer (T95).
    """
    at = await logged_in(scene, "cookie", tmp_path)
    one, read = await people(at), list[str]()
    await one.log_in()
    assert (await one.get("/api/x", *FETCH)).status == 200
    assert (await end(at, ADMIN, email="nobody@example.com")).json["ended"] == 0
    monkeypatch.setattr(LoginSession, "email", property(lambda one: read.append(one.subject)))
    assert (await end(at, ADMIN, sub="bob")).json["ended"] == 0
    assert read == []
    assert (await end(at, ADMIN, email="carol@example.com")).json["ended"] == 0
    assert set(read) == {"alice"}


@pytest.mark.parametrize("is_told_by", ["id_token", "userinfo"])
@pytest.mark.parametrize("kept", KEPT)
async def test_every_session_of_an_email_ends(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    tmp_path: Path,
    kept: str,
    is_told_by: str,
) -> None:
    """In any spelling, whoever says that it is verified; the log is not told which one it is."""
    scene.directory.in_id_token = is_told_by == "id_token"
    at = await logged_in(scene, kept, tmp_path)
    one, two, bob = [await people(at) for _ in range(3)]
    await one.log_in()
    scene.said["alice"] = {"email": "Alice@EXAMPLE.com"}
    await two.log_in()
    await bob.log_in(user="bob")
    answer = await end(at, ADMIN, email=" ALICE@example.COM")
    assert (answer.status, answer.json) == (200, {"result": "done", "ended": 2, "known": True})
    for each in (one, two):
        assert (await each.get("/api/x", *FETCH)).status in (303, 401)
    assert (await bob.get("/api/x", *FETCH)).status == 200
    assert (await end(at, ADMIN, email="alice@example.com")).json["ended"] == 0
    lines = told(at, "ended by an administrator")
    assert [(line["what"], line["ended"]) for line in lines] == [("email", 2), ("email", 0)]
    assert "alice" not in at.log.getvalue().lower()
    await one.log_in()
    assert (await one.get("/api/x", *FETCH)).status == 200, "a new login is a new session"


@pytest.mark.parametrize("kept", KEPT)
async def test_an_email_that_nobody_has_verified_ends_nothing(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    tmp_path: Path,
    kept: str,
) -> None:
    """Anybody can write another one's address into a profile (T79)."""
    scene.said["alice"] = {"email_verified": False}
    scene.said["bob"] = {"email": "alice@example.com", "email_verified": None}
    at = await logged_in(scene, kept, tmp_path)
    both = [await people(at) for _ in range(2)]
    for one, user in zip(both, ("alice", "bob"), strict=True):
        await one.log_in(user=user)
    assert (await end(at, ADMIN, email="alice@example.com")).json["ended"] == 0
    for one in both:
        assert (await one.get("/api/x", *FETCH)).status == 200


async def test_session_is_found_by_the_email_that_a_renewal_brings(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    tmp_path: Path,
) -> None:
    """By a replica that has never seen it, though the index was written at the login."""
    shared = {"secret": "s" * 32, **keys("sqlite", tmp_path)}
    at = await scene.start({**scene.with_login(keep="cookie"), **shared})
    one = await people(at)
    await one.log_in()
    scene.said["alice"] = {"email": "alice@new.example"}
    scene.clock.ahead += 31
    assert (await one.get("/api/x", *FETCH)).status == 200, "its token is renewed"
    await at.wait_for(lambda seen: seen['sidecar_refreshes_total{outcome="renewed"}'] == 1)
    other = await scene.start({**scene.with_login(keep="cookie"), **shared})
    async with asyncio.timeout(10):  # the index is written behind the response
        while (await end(other, ADMIN, email="alice@new.example")).json["ended"] == 0:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        while (await one.get("/api/x", *FETCH)).status == 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kept", KEPT)
async def test_one_login_session_ends_by_its_fingerprint(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    tmp_path: Path,
    kept: str,
) -> None:
    """That of the log; the user's other session goes on."""
    at = await logged_in(scene, kept, tmp_path)
    one, two = await people(at), await people(at)
    await one.log_in()
    await two.log_in()
    fingerprint = told(at, "login")[0]["session"]
    assert (await one.get("/api/x", *FETCH)).status == 200
    answer = await end(at, ADMIN, fingerprint=fingerprint)
    assert (answer.status, answer.json["ended"]) == (200, 1)
    assert (await one.get("/api/x", *FETCH)).status in (303, 401)
    assert (await two.get("/api/x", *FETCH)).status == 200
    assert (await end(at, ADMIN, fingerprint=fingerprint)).json["ended"] == 0


async def test_what_is_open_with_the_session_ends(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    client: Clients,
) -> None:
    at = await scene.start(scene.with_login())
    one = await people(at)
    await one.log_in()
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    scene.upstream.default = lambda _: [head + b"9\r\ndata: 1\n\n\r\n", "hang"]
    stream = await client(at)
    lines = ["GET /api/events HTTP/1.1", "Host: app.example.com", "Accept: text/event-stream"]
    stream.send("\r\n".join([*lines, f"Cookie: {one.cookie}", "", ""]).encode())
    await stream.reader.readuntil(b"data: 1\n\n")
    assert (await end(at, ADMIN, sub="alice")).json["ended"] == 1
    await stream.ends()


@pytest.mark.parametrize("named", [{"sub": "alice"}, {"email": "alice@Example.com"}])
async def test_session_that_was_never_seen_is_refused_later(
    scene: Scene,  # noqa: F811
    people: Browsers,  # noqa: F811
    named: dict[str, str],
) -> None:
    """A restart has forgotten sessions that are kept in cookies."""
    secret = {"secret": "s" * 32}
    before = await scene.start({**scene.with_login(), **secret})
    one, two = await people(before), await people(before)
    await one.log_in()
    await two.log_in(user="bob")
    fingerprint = told(before, "login")[1]["session"]
    at = await scene.start({**scene.with_login(), **secret})
    assert (await end(at, ADMIN, **named)).json["ended"] == 0
    answer = await end(at, ADMIN, fingerprint=fingerprint)
    assert answer.json == {"result": "done", "ended": 0, "known": False}
    for each in (one, two):
        again = await people(at)
        again.cookie = each.cookie
        assert (await again.who())["authenticated"] is False


def seal(**claims: Any) -> str:
    """The cookie of a session as Auth.js writes it."""
    source: Any = FORMATS["authjs"](secrets=[SECRET])
    return f"Cookie: {NAME}={source.opener.seal({'exp': int(time.time()) + 9999, **claims}, NAME)}"


@pytest.fixture
async def library(sidecar: Start, upstream: Upstream) -> Embedded:
    """An API behind sessions of Auth.js."""
    return await sidecar(
        {
            "upstreams": {"main": {"url": upstream.url}},
            "routes": [
                {"path": "/api", "kind": "api", "upstream": "main"},
                {"path": "/", "kind": "page", "upstream": "main"},
            ],
            "session": {"sources": [{"type": "authjs", "secret": SECRET}]},
        }
    )


async def test_session_of_a_library_ends_by_its_fingerprint(
    library: Embedded, client: Clients
) -> None:
    """In every spelling of its cookie, since its token is dead."""
    one, cookie = await client(library), seal(accessToken="tok", n=1)
    assert (await one.get("/api/x", cookie, *FETCH)).status == 200
    location = (
        await one.get("/api/logout", cookie, "Sec-Fetch-Site: cross-site", *DOCUMENT)
    ).status
    assert location == 200, "it asks first, and nothing has ended"
    view = library.sidecar.runtime.directory.present(cookie[8:].encode(), time.time())
    answer = await end(library, ADMIN, fingerprint=view.fingerprint)
    assert (answer.status, answer.json["ended"]) == (200, 1)
    for each in (cookie, seal(accessToken="tok", n=2)):
        assert (await one.get("/api/x", each, *FETCH)).status in (303, 401)
    assert (await one.get("/api/x", seal(accessToken="other"), *FETCH)).status == 200


async def test_a_user_has_no_name_without_a_login_here(library: Embedded) -> None:
    answer = await end(library, ADMIN, sub="alice")
    assert (answer.status, answer.json["result"]) == (422, "refused")
    assert "name it by its fingerprint" in answer.json["reason"]


async def test_issuer_must_be_the_one_that_is_configured(scene: Scene) -> None:  # noqa: F811
    at = await scene.start(scene.with_login())
    answer = await end(at, ADMIN, sub="alice", issuer="https://other.example")
    assert (answer.status, answer.json["reason"][:7]) == (422, "issuer:")


async def test_no_other_site_ends_sessions(library: Embedded) -> None:
    """A form has no such header, and a script of another site no such Origin."""
    assert (await end(library, fingerprint=NOBODY)).status == 403
    assert (
        await end(library, ADMIN, "Origin: https://evil.example", fingerprint=NOBODY)
    ).status == 403
    assert (await library.ask_admin("/sessions/end")).status == 405
    assert (await end(library, ADMIN, fingerprint="x")).status == 400
    assert (await end(library, ADMIN, sub="x" * 5000)).status == 413
    assert told(library, "ended by an administrator") == []


async def test_command(library: Embedded, client: Clients) -> None:
    """Says how many have ended, by the configuration's `admin` or an address."""
    one, cookie = await client(library), seal(accessToken="tok")
    assert (await one.get("/api/x", cookie, *FETCH)).status == 200
    view = library.sidecar.runtime.directory.present(cookie[8:].encode(), time.time())
    admin = ["--admin", f"127.0.0.1:{library.admin}"]

    async def run(*options: str) -> tuple[int, str]:
        arguments = ["sessions", "end", *options]
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        return result.exit_code, result.output.strip()

    fingerprint = str(view.fingerprint)
    assert await run("--session", fingerprint, *admin) == (0, "1 ended")
    assert await run("--session", fingerprint, *admin) == (0, "none was alive")
    code, words = await run("--session", NOBODY, *admin)
    assert (code, words) == (0, "nobody knows this session; it is refused if it is presented")
    for named in (("--user", "alice"), ("--email", "alice@example.com")):
        code, words = await run(*named, *admin)
        assert (code, words[:21]) == (2, "refused: without oidc")
    assert await run("--email", "alice", *admin) == (
        2,
        "refused: email: must be a mail address such as alice@example.com",
    )
    assert (await run("--email", "a@b.example", "--user", "alice", *admin))[0] == 2
    assert (await run("--session", "x", *admin))[0] == 2
    assert (await run(*admin))[0] == 2
    code, words = await run("--session", NOBODY, "--admin", "127.0.0.1:1")
    assert (code, re.sub(r"\W+", " ", words.lower())) == (
        1,
        "failed 127 0 0 1 1 connection refused",
    )
