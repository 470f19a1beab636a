"""What the admin page is told, over real sockets: the document, streams, stories, `/explain`."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pytest

from sidecar.core.cookies import MAX_COOKIES
from sidecar.observation.status_model import Configuration, Status, Story

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Answer, Clients, Embedded, Running, Start, StartCommand, Upstream

CANARY = "canary-c4n4ry-7f3a9e51d2"
TOKEN = "Cookie: access_token=tok"


def routes(upstream: Upstream, **more: Any) -> dict[str, Any]:
    api = {"kind": "api", "upstream": "main", "strip": "/api"}
    return {
        "upstreams": {"main": {"url": upstream.url}, "gone": {"url": "http://127.0.0.1:9"}},
        "routes": [
            {"path": "/api", "session": "optional", **api},
            {"path": "/gone", "kind": "api", "upstream": "gone", "session": "none"},
            {"path": "/", "kind": "page", "upstream": "main"},
        ],
        **more,
    }


async def status_of(at: Running) -> Status:
    answer = await at.ask_admin("/status.json")
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=Status)


async def post(client: Clients, at: Running, path: str, given: Any = None, *fields: str) -> Answer:
    one = await client(at.admin)
    body = b"" if given is None else json.dumps(given).encode()
    sent = ("Host: 127.0.0.1", "X-Sidecar-Admin: 1", "Content-Type: application/json", *fields)
    return await one.post(path, *sent, body=body)


async def story_of(at: Running, asked: str) -> Story:
    answer = await at.ask_admin(f"/session?id={quote(asked)}")
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=Story)


async def test_document_tells_what_was_served(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Requests by route, with the upstream's part, in the second that they ended in."""
    at = await sidecar(routes(upstream))
    one = await client(at)
    for _ in range(3):
        await one.get("/api/a", TOKEN)
    status = await status_of(at)
    assert sum(status.traffic.requests_by_second) == 3
    assert sum(status.traffic.errors_by_second) == 0
    row = next(row for row in status.traffic.routes if row.route == "/api")
    assert (row.total, row.statuses, row.upstream) == (3, {"2xx": 3}, "main")
    assert sum(row.requests) == sum(row.latency.counts) == sum(row.upstream_latency.counts) == 3
    assert status.traffic.upstream_share is not None
    main = next(row for row in status.upstreams if row.name == "main")
    assert (main.idle, sum(main.latency.counts), main.failing_since) == (1, 3, None)
    assert status.verdict.state == "well"
    assert status.verdict.text.startswith("Serving since ")
    assert [row.number for row in status.process.workers] == [1]


async def test_upstream_that_is_down_is_the_verdict(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """With the cause in words, since when, and each request for itself."""
    at = await sidecar(routes(upstream))
    answer = await (await client(at)).get("/gone/a?secret=x")
    status = await status_of(at)
    assert status.verdict.state == "down"
    assert "upstream gone: connection refused since" in status.verdict.text
    row = status.trouble[0]
    assert (row.status, row.code, row.cause) == (502, "upstream_unreachable", "connection refused")
    assert (row.route, row.upstream, row.path) == ("/gone", "gone", "/gone/a")
    assert row.request_id == answer.get("X-Request-Id")
    gone = next(row for row in status.upstreams if row.name == "gone")
    assert gone.failing_since is not None
    assert gone.errors == {"refused": 1}
    assert (await story_of(at, row.request_id)).trouble == (row,)


async def test_upstream_that_readiness_wants_is_the_verdict_before_any_request(
    sidecar: Start, upstream: Upstream
) -> None:
    """What `/readyz` says and what the page says is the same, until it is back."""
    config = routes(upstream)
    config["upstreams"]["main"]["ready"] = True
    at = await sidecar(config)
    assert (await status_of(at)).verdict.state == "well"
    await upstream.stop()
    status = await status_of(at)
    assert status.verdict.state == "down"
    assert "upstream main: it cannot be reached" in status.verdict.text
    assert [one.is_ready for one in status.process.workers] == [False]
    assert {row.name for row in status.upstreams if row.is_missing} == {"main"}
    await upstream.start()
    status = await status_of(at)
    assert status.verdict.state == "well"
    assert [one.is_ready for one in status.process.workers] == [True]


async def test_upstream_that_answers_again_fails_no_longer(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    one = await client(at)
    upstream.answers(b"no HTTP\r\n\r\n")
    assert (await one.get("/api/a")).status == 502
    assert (await status_of(at)).verdict.state == "down"
    assert (await one.get("/api/a")).status == 200
    status = await status_of(at)
    assert status.verdict.state == "degraded"
    assert "upstream main: 1 request failed" in status.verdict.text


async def test_story_of_a_session_ends_with_its_401(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Found by the request's id, as a user can tell it, or by the fingerprint of the log."""
    at = await sidecar(routes(upstream))
    one = await client(at)
    await one.get("/api/a", TOKEN)
    upstream.answers(upstream.reply(b"{}", status="401 Unauthorized"))
    answer = await one.get("/api/orders?page=2", TOKEN)
    assert answer.status == 303
    request_id = answer.get("X-Request-Id") or ""
    story = await story_of(at, request_id)
    event = story.events[-1]
    assert (event.kind, event.reason, event.request_id) == ("ended", "token_rejected", request_id)
    assert (event.route, event.path, event.status) == ("/api", "/api/orders", 401)
    assert story.session is not None
    assert await story_of(at, story.session) == story
    status = await status_of(at)
    assert status.ended.totals["token_rejected"] == 1
    assert sum(status.ended.by_reason["token_rejected"]) == 1
    assert status.ended.last[-1] == event


async def test_logout_is_told_with_its_route(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    one = await client(at)
    await one.get("/api/a", TOKEN)
    answer = await one.post("/api/logout", TOKEN)
    story = await story_of(at, answer.get("X-Request-Id") or "")
    assert [(one.kind, one.reason, one.path) for one in story.events] == [
        ("opened", "", None),
        ("ended", "logout", "/api/logout"),
    ]


async def test_story_begins_where_the_session_was_first_seen(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Once, on whichever connection; and its first request's id leads to it."""
    at = await sidecar(routes(upstream))
    first = await (await client(at)).get("/api/a", TOKEN)
    for target in ("/api/b", "/page", "/api/a"):
        assert (await (await client(at)).get(target, TOKEN)).status == 200
    story = await story_of(at, first.get("X-Request-Id") or "")
    (event,) = story.events
    assert (event.kind, event.route, event.source) == ("opened", "/api", "cookie")
    assert (event.request_id, event.session) == (first.get("X-Request-Id"), story.session)
    assert story.session is not None
    assert await story_of(at, story.session) == story


async def test_invented_sessions_do_not_displace_where_real_ones_began(
    sidecar: Start, upstream: Upstream, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T84: an upstream that has accepted a session speaks for it."""
    monkeypatch.setattr("sidecar.observation.first_seen.UNPROVEN", 5)
    at = await sidecar(routes(upstream))
    one = await client(at)
    first = await one.get("/api/a", TOKEN)
    await one.get("/api/b", TOKEN)
    upstream.default = upstream.reply(b"{}", status="403 Forbidden")
    for number in range(20):
        invented = await one.get("/api/a", f"Cookie: access_token=invented-{number}")
    story = await story_of(at, first.get("X-Request-Id") or "")
    assert [event.kind for event in story.events] == ["opened"]
    story = await story_of(at, invented.get("X-Request-Id") or "")
    assert "may have been here before" in story.events[0].detail


async def test_nothing_is_known_of_what_never_was(sidecar: Start, upstream: Upstream) -> None:
    at = await sidecar(routes(upstream))
    assert await story_of(at, "no such session") == Story(None, (), (), ())
    assert (await at.ask_admin("/session")).status == 400


async def test_refused_requests_say_what_was_seen(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """The origin and those allowed; the names of cookies by size, never a value."""
    at = await sidecar(routes(upstream, limits={"header": "4KiB"}))
    one = await client(at)
    assert (await one.post("/api/a", TOKEN, "Origin: https://evil.example")).status == 403
    cookies = f"theme={'x' * 3000}; small={CANARY}; other={'y' * 2000}"
    assert (await (await client(at)).get("/api/a", f"Cookie: {cookies}")).status == 431
    status = await status_of(at)
    assert status.refused.totals == {"csrf_rejected": 1, "headers_too_large": 1}
    by_code = {row.code: row for row in status.refused.last}
    csrf = by_code["csrf_rejected"]
    assert csrf.origin == "https://evil.example"
    assert csrf.allowed == ("http://app.example.com",)
    large = by_code["headers_too_large"]
    assert large.cookies == (("theme", 3000), ("other", 2000), ("small", len(CANARY)))
    assert large.header_bytes is not None
    assert large.header_bytes > 5000


async def test_of_too_many_cookies_the_first_are_told(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A stranger may send sixty thousand empty ones, and to read them all takes long (T92)."""
    at = await sidecar(routes(upstream))
    cookies = "a=b; " * MAX_COOKIES + "late=c"
    assert (await (await client(at)).get("/api/a", f"Cookie: {cookies}")).status == 431
    (row,) = (await status_of(at)).refused.last
    assert row.cookies == (("a", MAX_COOKIES),)


async def test_sources_say_whether_their_cookies_open(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """And the first that did not, as `explain` words it."""
    source = {"type": "authjs", "secret": "a secret of the tests", "token": "accessToken"}
    at = await sidecar(routes(upstream, session={"sources": [source]}))
    await (await client(at)).get("/api/a", f"Cookie: authjs.session-token={CANARY}")
    status = await status_of(at)
    row = status.sessions.sources[0]
    assert (row.source, row.type) == ("authjs.session-token", "authjs")
    assert (row.results["invalid"], row.has_opened) == (1, False)
    assert row.example is not None
    assert (row.example.result, row.example.cookie) == ("invalid", "authjs.session-token")
    assert "no session opens" in status.verdict.text
    assert [one.event for one in status.warnings] == ["no session opens"]


async def test_window_goes_on_over_a_reload(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    await (await client(at)).get("/api/a", TOKEN)
    await at.sidecar.reload(at.sidecar.runtime.policy.config)
    await (await client(at)).get("/api/a", TOKEN)
    assert sum((await status_of(at)).traffic.requests_by_second) == 2


# -- streams ---------------------------------------------------------------------------------------


async def stream(client: Clients, at: Running, path: str) -> Any:
    """A client that has the head of an event stream, and the first comment."""
    one = await client(at.admin)
    one.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    line, _, _ = await one.read_head()
    assert line == b"HTTP/1.1 200 OK"
    return one


async def test_events_bring_the_document_again_and_again(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    one = await stream(client, at, "/events")
    for _ in range(2):
        async with asyncio.timeout(20):
            found = b""
            while not re.search(rb"event: status\ndata: (.+)\n\n", found):
                found += await one.reader.readuntil(b"\r\n")
        data = re.search(rb"data: (.+)\n\n", found)
        assert data is not None
        assert msgspec.json.decode(data[1], type=Status).verdict.state == "well"


@pytest.mark.parametrize("path", ["/events", "/tail"])
async def test_a_stream_s_response_to_head_is_its_head(
    sidecar: Start, upstream: Upstream, client: Clients, path: str
) -> None:
    """It has no content (RFC 9110 9.3.2), so the next request of the connection is answered."""
    at = await sidecar(routes(upstream))
    one = await client(at.admin)
    head = await one.ask("HEAD", path, "Host: 127.0.0.1")
    assert (head.status, head.get("Content-Type")) == (200, "text/event-stream")
    assert (await one.get("/healthz", "Host: 127.0.0.1")).json == {"status": "alive"}


async def test_streams_end_with_the_sidecar_and_are_bounded(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Sixteen may listen; nobody holds up the end."""
    at = await sidecar(routes(upstream))
    for _ in range(16):
        await stream(client, at, "/tail")
    last = await stream(client, at, "/tail")
    async with asyncio.timeout(20):
        assert b"too many" in await last.reader.readuntil(b"listen already")


async def test_tail_follows_requests_of_one_session_or_errors(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    everything = await stream(client, at, "/tail")
    errors = await stream(client, at, "/tail?errors=1")
    await asyncio.sleep(0)
    one = await client(at)
    await at.wait_for(lambda _: len(at.sidecar.runtime.recorder.followers) == 2)
    await one.get("/api/a?q=secret", TOKEN)
    await one.get("/gone/b")
    async with asyncio.timeout(20):
        first = await everything.reader.readuntil(b"/api/a")
        failed = await errors.reader.readuntil(b"/gone/b")
    assert b"secret" not in first
    assert b"/api/a" not in failed


async def test_nobody_follows_once_listeners_have_left(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    one = await stream(client, at, "/tail")
    recorder = at.sidecar.runtime.recorder
    await at.wait_for(lambda _: len(recorder.followers) == 1)
    one.reset()
    public = await client(at)

    async def ask() -> None:
        while recorder.followers:
            await public.get("/api/a")

    async with asyncio.timeout(20):
        await ask()


# -- explain, configuration, drain -----------------------------------------------------------------


async def test_explain_answers_and_keeps_nothing(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    given = {"cookie": f"access_token={CANARY}", "request": "GET /api/orders"}
    cached = at.sidecar.runtime.directory.cached
    answer = await post(client, at, "/explain", given)
    assert (answer.status, answer.json["result"]) == (200, "ok")
    assert answer.json["request"]["route"] == "/api"
    assert len(answer.json["request"]["session"]) == 22
    assert CANARY not in answer.body.decode() + at.log.getvalue()
    assert at.sidecar.runtime.directory.cached == cached
    assert upstream.requests == []


async def test_explain_knows_that_a_session_has_ended(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    await (await client(at)).post("/api/logout", TOKEN)
    given = {"cookie": "access_token=tok", "request": "GET /api/orders"}
    answer = await post(client, at, "/explain", given)
    assert "has ended here" in answer.json["request"]["decisions"][1]


async def test_explain_takes_a_form_and_refuses_what_it_cannot_read(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(routes(upstream))
    one = await client(at.admin)
    fields = ("Host: 127.0.0.1", "X-Sidecar-Admin: 1")
    form = "Content-Type: application/x-www-form-urlencoded"
    body = b"cookie=access_token%3Dtok&request=GET+%2Fapi%2Fa"
    assert (await one.post("/explain", *fields, form, body=body)).json["result"] == "ok"
    for given in ([1], {"request": "nonsense"}):
        answer = await post(client, at, "/explain", given)
        assert answer.status == 400
        assert answer.json["reason"]
    bare = await one.post("/explain", "Host: 127.0.0.1", form, body=body)
    assert bare.status == 403


async def test_configuration_tells_the_difference_to_the_file(
    command: StartCommand, upstream: Upstream, client: Clients, tmp_path: Path
) -> None:
    """Secrets by their length alone."""
    at = await command(routes(upstream))
    file = tmp_path / f"{at.port}.yaml"

    async def told() -> Configuration:
        answer = await at.ask_admin("/configuration.json")
        assert b"a secret of the tests" not in answer.body
        return msgspec.json.decode(answer.body, type=Configuration)

    found = await told()
    assert (found.differences, found.faults) == ((), ())
    rows = {row.key: row for row in found.keys}
    assert rows["secret"].value == ["(39 characters)"]
    assert rows["secret"].origin.startswith(str(file))
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written | {"secret": "A SECRET of the tests, 32 bytes or more"}))
    assert [one.key for one in (await told()).differences] == ["secret"]
    file.write_text(json.dumps(written | {"limits": {"header": "many"}}))
    assert "limits.header" in (await told()).faults[0]


async def test_drain_by_post_ends_the_process_in_order(
    command: StartCommand, upstream: Upstream, client: Clients
) -> None:
    at = await command(routes(upstream))
    assert (await post(client, at, "/drain")).status == 202
    assert await at.exit_code() == 0


async def test_every_answer_is_shielded(sidecar: Start, upstream: Upstream) -> None:
    at = await sidecar(routes(upstream))
    for path in ("/status.json", "/session?id=a", "/configuration.json", "/healthz", "/none"):
        answer = await at.ask_admin(path)
        assert "frame-ancestors 'none'" in (answer.get("Content-Security-Policy") or ""), path
        assert answer.get("X-Content-Type-Options") == "nosniff"
        assert answer.get("Cache-Control") == "no-store"


async def test_no_secret_is_told(sidecar: Start, upstream: Upstream, client: Clients) -> None:
    """T84: tokens, cookie values and queries of any kind of request appear in no answer."""
    at: Embedded = await sidecar(routes(upstream, limits={"header": "4KiB"}))
    tail = await stream(client, at, "/tail")
    recorder = at.sidecar.runtime.recorder
    await at.wait_for(lambda _: len(recorder.followers) == 1)
    cookie = f"Cookie: access_token={CANARY}; {CANARY}; a={CANARY}"
    one = await client(at)
    await one.get(f"/api/a?q={CANARY}", cookie, f"Authorization: Bearer {CANARY}")
    await one.get(f"/gone/a?q={CANARY}", cookie, "User-Agent: x")
    await one.post(f"/api/a?q={CANARY}", cookie, "Origin: https://evil.example")
    await (await client(at)).get("/api/a", f"Cookie: a={CANARY * 300}; {CANARY * 9}")
    upstream.answers(upstream.reply(CANARY.encode(), status="500 X"))
    await one.get(f"/api/a?q={CANARY}", cookie)
    upstream.answers(upstream.reply(b"{}", status="401 X"))
    refused = await one.get(f"/api/a?q={CANARY}", cookie)
    await one.post("/api/logout", cookie)
    async with asyncio.timeout(20):
        lines = await tail.reader.readuntil(b"/api/logout")
    paths = ("/status.json", "/configuration.json", "/metrics")
    told = [lines, *[(await at.ask_admin(path)).body for path in paths]]
    story = await at.ask_admin(f"/session?id={refused.get('X-Request-Id')}")
    assert story.json["session"] is not None
    told.append(story.body)
    given = {"cookie": f"access_token={CANARY}; a={CANARY}", "request": f"GET /api/a?q={CANARY}"}
    told.append((await post(client, at, "/explain", given)).body)
    for place in told:
        assert b"c4n4ry" not in place.lower(), place


async def test_cookies_that_hold_no_session_are_a_reason_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """A user whose cookie does not open is logged out as well, and asks why."""
    source = {"type": "authjs", "secret": "a secret of the tests", "token": "accessToken"}
    config = routes(upstream, session={"sources": [source]})
    config["routes"][0]["session"] = "required"
    at = await sidecar(config)
    cookie = f"Cookie: authjs.session-token={CANARY}"
    answer = await (await client(at)).get("/api/orders", cookie)
    assert answer.status == 303
    story = await story_of(at, answer.get("X-Request-Id") or "")
    event = story.events[0]
    assert (event.kind, event.reason, event.source) == ("missing", "invalid", "authjs")
    assert event.detail.startswith("authjs.session-token: ")
    ended = (await status_of(at)).ended
    assert ended.totals == {"invalid": 1}
    assert ended.last == (event,)


async def test_log_level_is_another_one_for_a_while(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """And ends by itself, or by another POST; what is no level changes nothing."""
    at = await sidecar(routes(upstream))
    answer = await post(client, at, "/log-level", {"level": "debug", "seconds": 600})
    assert (answer.status, answer.json["level"]) == (200, "debug")
    status = await status_of(at)
    assert status.process.log_level == "debug"
    assert status.process.log_level_until is not None
    for given in (
        *({"level": "loud"}, {"level": "debug", "seconds": -1}, {"seconds": "many"}, [1]),
        *({"levle": "debug"}, {"level": "error", "second": 5}),
    ):
        refused = await post(client, at, "/log-level", given)
        assert refused.status == 400
        assert refused.json["reason"]
    assert (await status_of(at)).process.log_level == "debug"
    assert (await post(client, at, "/log-level", {})).json["level"] == "info"
    assert (await status_of(at)).process.log_level_until is None


async def test_masked_paths_are_masked_here_too(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """`log.mask` holds wherever a path is told: failed requests, stories and the tail."""
    at = await sidecar(routes(upstream, log={"mask": ["/gone/*"]}))
    tail = await stream(client, at, "/tail")
    recorder = at.sidecar.runtime.recorder
    await at.wait_for(lambda _: len(recorder.followers) == 1)
    await (await client(at)).get(f"/gone/{CANARY}/orders")
    assert (await status_of(at)).trouble[0].path == "/gone/*/orders"
    async with asyncio.timeout(20):
        line = await tail.reader.readuntil(b'/orders"')
    assert b"/gone/*/orders" in line
    assert b"c4n4ry" not in line
