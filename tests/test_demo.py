"""`sidecar demo`: the real command, and the story that its page tells, over real HTTP."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from http.cookies import Morsel
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    CookieJar,
    WSMsgType,
    WSServerHandshakeError,
)

from sidecar import demo
from sidecar.core.cookies import CookieJar as Presented
from sidecar.core.credential import Result, read_credential
from sidecar.demo.api import LARGE_ITEMS
from sidecar.demo.logins import ALL_COOKIES, KINDS, Logins
from sidecar.demo.page import asset
from sidecar.demo.trace import MAX_ENTRIES, AccessLog, Seen, Trace
from sidecar.policy import compile_sources

DOCUMENT = {"Accept": "text/html", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
MEMBERS = ["isError", "message", "data", "status", "errorData"]
SECRET = "a secret of the tests, 32 bytes or more"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """`start(*arguments)` runs `sidecar demo`; what still runs at the end is killed."""
    with ExitStack() as stack:

        def run(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "sidecar", "demo", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def address(process: subprocess.Popen[str]) -> str:
    """The URL in the first line that the demo prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"Sidecar demo: (http://127\.0\.0\.1:\d+)/  \(metrics: ", line)
    assert found, line or process.communicate(timeout=10)[1]
    return found[1]


@pytest.fixture(scope="module")
def url(start: Start) -> str:
    """A demo that all tests share."""
    return address(start("--port", "0"))


@pytest.fixture
async def browser(url: str) -> AsyncIterator[ClientSession]:
    """A client with cookies of its own."""
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def log_in(browser: ClientSession, kind: str) -> None:
    async with browser.post("/api/login", data={"name": "Ada", "session": kind}) as answer:
        assert answer.status == 200
        assert (await answer.json())["message"] == "Welcome, Ada"


async def expire(browser: ClientSession) -> None:
    async with browser.post("/api/expire") as answer:
        assert answer.status == 200


def presented(browser: ClientSession) -> dict[str, Morsel[str]]:
    return {cookie.key: cookie for cookie in browser.cookie_jar}


def expired_names(answer: ClientResponse) -> set[str]:
    lines = answer.headers.getall("Set-Cookie", [])
    assert all("Max-Age=0" in line and "Path=/" in line for line in lines)
    return {line.split("=")[0] for line in lines}


async def trace(browser: ClientSession) -> Any:
    async with browser.get("/demo/trace") as answer:
        return await answer.json()


# -- the story ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_api_gets_the_token_and_no_session_cookie(browser: ClientSession, kind: str) -> None:
    """But other cookies; and the answer is an envelope."""
    async with browser.get("/") as answer:
        assert answer.status == 200
    await log_in(browser, kind)
    cookies = presented(browser)
    assert cookies.keys() & set(ALL_COOKIES)
    assert all(cookies[name]["httponly"] for name in cookies.keys() & set(ALL_COOKIES))
    async with browser.get("/api/me") as answer:
        body = await answer.json()
    assert list(body) == MEMBERS
    saw = body["data"]["saw"]
    assert body["message"] == "Hello, Ada"
    assert "Authorization" in saw["headers"]
    assert saw["cookies"] == ["demo_theme"]
    if kind == "plain":
        token = cookies["access_token"].value
        assert saw["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()[:12]
        assert token not in json.dumps(body)


async def test_login_of_another_kind_takes_the_first_cookies_away(browser: ClientSession) -> None:
    """So that the session in use is the latest."""
    names = []
    for kind in (*KINDS, KINDS[0]):
        await log_in(browser, kind)
        names.append(list(presented(browser)))
    base = "authjs.session-token"
    assert names == [["access_token"], [base], [f"{base}.0", f"{base}.1"], ["access_token"]]


async def test_refused_login_is_no_logout(browser: ClientSession) -> None:
    await log_in(browser, "plain")
    async with browser.post("/api/login", data={"name": "nobody"}) as answer:
        assert (answer.status, answer.history) == (401, ())
    async with browser.post("/api/login", data={"name": " "}) as answer:
        assert answer.status == 422
    async with browser.get("/api/me") as answer:
        assert answer.status == 200


async def test_form_of_a_browser_leads_from_login_to_page(browser: ClientSession) -> None:
    """Without a script: 303 to the public address."""
    form = {"name": "Ada", "session": "authjs"}
    async with browser.post("/api/login", data=form, headers=DOCUMENT) as answer:
        assert [step.status for step in answer.history] == [303]
        assert answer.url.path == "/"
        assert "<h1>Sidecar demo</h1>" in await answer.text()


@pytest.mark.parametrize(
    ("path", "status", "message", "detail"),
    [
        ("/api/problem", 409, "You asked for 12 and there are 5", {"in_stock": 5}),
        ("/api/failure", 500, "Internal Server Error", "the database is having a rest"),
    ],
)
async def test_errors_are_envelopes(
    browser: ClientSession, path: str, status: int, message: str, detail: Any
) -> None:
    await log_in(browser, "plain")
    async with browser.get(path) as answer:
        body = await answer.json()
    assert (answer.status, body["isError"], body["message"]) == (status, True, message)
    told = body["errorData"]
    assert told == detail if isinstance(detail, str) else detail.items() <= told.items()


async def test_orders_keep_their_digits_and_a_form_adds_one(browser: ClientSession) -> None:
    """2**53 + 1 does not fit into a JavaScript number; the sidecar passes its bytes on."""
    await log_in(browser, "plain")
    async with browser.post("/api/orders", data={"item": "coffee"}) as answer:
        ordered = await answer.json()
    assert (answer.status, ordered["data"]["item"]) == (201, "coffee")
    async with browser.get("/api/orders") as answer:
        body = await answer.json()
    assert body["data"][0]["id"] == 2**53 + 1
    assert ordered["data"] in body["data"]


async def test_large_list_is_an_envelope_too(browser: ClientSession) -> None:
    """Beyond the buffer it comes as a stream, without a length."""
    await log_in(browser, "plain")
    async with browser.get("/api/large") as answer:
        body = await answer.json()
    assert answer.content_length is None
    assert (body["isError"], body["message"], len(body["data"])) == (False, "A long list", 30_000)
    assert body["data"][-1]["number"] == LARGE_ITEMS - 1


@pytest.mark.parametrize("kind", KINDS)
async def test_expired_token_is_an_envelope_for_fetch(browser: ClientSession, kind: str) -> None:
    """And every cookie of the session is expired."""
    await log_in(browser, kind)
    names = set(presented(browser))
    await expire(browser)
    async with browser.get("/api/me", headers={"Sec-Fetch-Dest": "empty"}) as answer:
        body = await answer.json()
    assert [(step.status, step.url.path) for step in answer.history] == [(303, "/api/me")]
    assert (answer.status, answer.url.path) == (401, "/api/logout")
    assert list(body) == MEMBERS
    assert body["errorData"]["loginUrl"] == "/login"
    assert names <= expired_names(answer)
    assert presented(browser) == {}


@pytest.mark.parametrize("kind", KINDS)
async def test_expired_token_leads_a_document_to_the_login(
    browser: ClientSession, kind: str
) -> None:
    """303 to the logout, 303 to the login; and every cookie of the session is expired."""
    await log_in(browser, kind)
    async with browser.get("/api/report", headers=DOCUMENT) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert "Report for Ada" in await answer.text()
    names = set(presented(browser))
    await expire(browser)
    async with browser.get("/api/report", headers=DOCUMENT) as answer:
        steps = [(step.status, step.url.path) for step in answer.history]
        assert "<h1>Log in</h1>" in await answer.text()
    assert steps == [(303, "/api/report"), (303, "/api/logout")]
    assert (answer.status, answer.url.path) == (200, "/login")
    assert names <= expired_names(answer.history[1])
    assert presented(browser) == {}


async def test_events_end_with_the_session(browser: ClientSession) -> None:
    """The first comes at once."""
    await log_in(browser, "plain")
    async with browser.get("/api/events", headers={"Accept": "text/event-stream"}) as answer:
        lines = [(await answer.content.readline()).decode() for _ in range(3)]
        assert lines == ["id: 1\n", 'data: {"number": 1, "for": "Ada"}\n', "\n"]
        async with browser.post("/api/logout") as logout:
            assert logout.status == 200
        with pytest.raises(ClientError):  # broken off, not brought to an end
            await asyncio.wait_for(answer.content.read(), 5)
    assert presented(browser) == {}


async def test_websocket_echoes_until_the_session_ends(url: str, browser: ClientSession) -> None:
    """Through the sidecar, for a page of the same origin."""
    await log_in(browser, "authjs")
    async with browser.ws_connect("/api/echo", origin=url) as echo:
        await echo.send_str("hello")
        assert await echo.receive_str() == "Ada said: hello"
        await expire(browser)
        async with browser.get("/api/me") as answer:
            assert answer.status == 401
        message = await echo.receive(timeout=5)
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)
    with pytest.raises(WSServerHandshakeError):
        await browser.ws_connect("/api/echo", origin=url)


async def test_logout_by_link_and_by_post(browser: ClientSession) -> None:
    await log_in(browser, "plain")
    async with browser.get("/api/logout", headers=DOCUMENT) as answer:
        assert (answer.status, answer.url.path) == (200, "/login")
    assert presented(browser) == {}
    await log_in(browser, "authjs-chunked")
    async with browser.post("/api/logout", headers=DOCUMENT) as answer:
        assert (answer.status, answer.url.path) == (200, "/login")
    assert presented(browser) == {}


async def test_fetching_the_logout_link_ends_nothing(browser: ClientSession) -> None:
    await log_in(browser, "plain")
    headers = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}
    async with browser.get("/api/logout", headers=headers) as answer:
        assert answer.status == 405
    async with browser.get("/api/me") as answer:
        assert answer.status == 200


# -- what the page shows ----------------------------------------------------------------------


async def test_trace_joins_both_sides_by_request(browser: ClientSession) -> None:
    """The chain after an expiry: what the sidecar did, what the API saw; nowhere a token."""
    await log_in(browser, "plain")
    token = presented(browser)["access_token"].value
    await expire(browser)
    chain = {"X-Request-Id": "chain-1"}
    async with browser.get("/api/me", headers=chain):
        pass
    shown = await trace(browser)
    first, second = [entry for entry in shown["entries"] if entry["request_id"] == "chain-1"]
    assert (first["path"], first["status"], first["api"]["status"]) == ("/api/me", 303, 401)
    assert first["api"]["token_sha256"] == hashlib.sha256(token.encode()).hexdigest()[:12]
    assert "no longer" in first["api"]["body"]
    assert (second["path"], second["status"], second["api"]) == ("/api/logout", 401, None)
    assert (shown["session_cookies"], shown["other_cookies"]) == ([], [])
    assert token not in json.dumps(shown)
    assert not any(entry["path"].startswith("/demo") for entry in shown["entries"])


async def test_trace_names_the_cookies_that_the_browser_sends(browser: ClientSession) -> None:
    await log_in(browser, "authjs-chunked")
    async with browser.get("/"):
        pass
    shown = await trace(browser)
    assert shown["session_cookies"] == ["authjs.session-token.0", "authjs.session-token.1"]
    assert shown["other_cookies"] == ["demo_theme"]


async def test_page_needs_nothing_from_elsewhere(browser: ClientSession) -> None:
    """No inline script or style, no other origin; and it shows its configuration."""
    for path in ("/", "/login"):
        async with browser.get(path) as answer:
            text = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?! src)|<style|\son\w+=|\sstyle=|(?:src|href)=\"(?!/)", text)
        for link in re.findall(r'(?:src|href)="(/[\w.]+)"', text):
            async with browser.get(link) as answer:
                assert answer.status == 200, link
    async with browser.get("/") as answer:
        text = await answer.text()
    assert "{path: /api/login, kind: api, upstream: api, strip: /api, session: none}" in text
    assert "${AUTH_SECRET}" in text


async def test_script_knows_every_element_that_it_asks_for(browser: ClientSession) -> None:
    """Both pages load one script, which looks elements up by id."""
    script, page = asset("app.js").decode(), asset("page.html").decode()
    wanted = set(re.findall(r'element\("([\w-]+)"\)', script))
    assert wanted
    assert wanted <= set(re.findall(r'id="([\w-]+)"', page))


# -- start and end --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_at_once_with_0(start: Start, number: signal.Signals) -> None:
    process = start("--port", "0")
    address(process)
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert time.monotonic() - began < 2


async def test_open_streams_do_not_hold_up_the_end(start: Start) -> None:
    """They are cut, quietly: so is one that a logout has ended before."""
    process = start("--port", "0")
    url = address(process)
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as browser:
        await log_in(browser, "plain")
        async with browser.get("/api/events"), browser.post("/api/logout"):
            await asyncio.sleep(1.2)  # until the API's next event finds nobody there
        await log_in(browser, "plain")
        async with browser.get("/api/events"), browser.ws_connect("/api/echo", origin=url):
            process.terminate()
            _, errors = await asyncio.to_thread(process.communicate, timeout=10)
    assert (process.returncode, errors) == (0, "")


async def test_verbose_prints_the_access_log(start: Start) -> None:
    """One line a request, for people; without it there is none."""
    process = start("--port", "0", "--verbose")
    async with ClientSession(address(process)) as client, client.get("/login") as answer:
        assert answer.status == 200
    process.terminate()
    _, errors = process.communicate(timeout=10)
    line = next(line for line in errors.splitlines() if "request" in line)
    assert "path=/login" in line
    assert "status=200" in line


def test_taken_port_is_told_and_exits_2(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        output, errors = process.communicate(timeout=10)
        assert (process.returncode, output) == (2, "")
        assert errors.startswith(f"sidecar demo: 127.0.0.1:{port} is in use; ")


def test_unusable_port_exits_2(start: Start) -> None:
    process = start("--port", "65536")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "--port" in errors


def test_other_faults_of_a_port_are_told_too() -> None:
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    text = demo._complaint(80, error)
    assert text == "sidecar demo: cannot listen on 127.0.0.1:80: Permission denied\n"


# -- the parts --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "chunks"), list(zip(KINDS, (1, 1, 2), strict=True)))
def test_sealed_cookies_open_with_the_secret(kind: str, chunks: int) -> None:
    """With the demo's own configuration; with another secret they do not."""
    cookies = Logins(SECRET).cookies(kind, "Ada", "token-1")
    assert len(cookies) == chunks
    assert set(cookies) <= set(ALL_COOKIES)
    assert all(len(name) + len(value) <= 4096 for name, value in cookies.items())
    jar = Presented.parse("; ".join(f"{name}={value}" for name, value in cookies.items()))
    readings = [
        read_credential(compile_sources(demo._load(_environment(secret))), jar, time.time())
        for secret in (SECRET, SECRET[::-1])
    ]
    assert (readings[0].result, readings[0].token) == (Result.OK, "token-1")
    assert readings[1].result is (Result.OK if kind == "plain" else Result.INVALID)


def _environment(secret: str) -> dict[str, str]:
    return {"AUTH_SECRET": secret}


def test_configuration_has_no_warnings_and_runs_without_the_demo() -> None:
    """Its variables have defaults, so that it can be copied."""
    config = demo._load(_environment(SECRET))
    assert config.warnings == ()
    assert str(config.listen) == "127.0.0.1:8080"


def _line(level: str = "info", **facts: object) -> str:
    return json.dumps({"event": "request", "level": level, "request_id": "1", **facts}) + "\n"


def test_access_log_is_traced_and_only_warnings_are_printed() -> None:
    traced, console = Trace(), StringIO()
    log = AccessLog(traced, console, verbose=False)
    log.write(_line(path="/api/me", status=200))
    log.write(json.dumps({"event": "watch out", "level": "warning"}) + "\n")
    assert [entry["path"] for entry in traced.entries()] == ["/api/me"]
    assert "watch out" in console.getvalue()
    assert "/api/me" not in console.getvalue()


def test_trace_is_bounded() -> None:
    """On both sides, whatever is asked."""
    traced = Trace()
    seen = Seen([], [], None, 200, "", [], None)
    for number in range(3 * MAX_ENTRIES):
        traced.api_answered(f"never ended {number}", seen)
        traced.ended({"request_id": str(number), "path": "/"})
    entries = traced.entries()
    assert len(entries) == len(traced._seen) == MAX_ENTRIES
    assert entries[-1]["number"] == 3 * MAX_ENTRIES


def test_package_holds_every_file_that_it_serves() -> None:
    """Next to the code, where the wheel takes them along."""
    folder = Path(demo.__file__).parent / "static"
    names = {path.name for path in folder.iterdir()}
    assert names == {*demo.page._TYPES, demo.CONFIG_FILE}
