"""Lines for people: one that fits a terminal, with the cause, and nothing a terminal obeys."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.log_console import Console

NOW = 1_800_000_000.0
CLOCK = time.strftime("%H:%M:%S", time.localtime(NOW))
ID = "0123456789abcdef00000001"
FACTS: dict[str, Any] = {
    "request_id": ID,
    "client": "10.0.0.7",
    "peer": "10.0.0.7",
    "host": "app.example.com",
    "scheme": "https",
    "user_agent": "Mozilla/5.0",
    "method": "GET",
    "path": "/api/orders/1234",
    "protocol": "HTTP/1.1",
    "trace_id": None,
    "route": "/api/",
    "upstream": "api",
    "upstream_address": "127.0.0.1:4000",
    "status": 200,
    "upstream_status": 200,
    "decision": "wrap",
    "reason": None,
    "detail": None,
    "session": "abcdefghijklmnopqrstuv",
    "source": "authjs",
    "credential": "ok",
    "retries": None,
    "bytes_in": 0,
    "bytes_out": 1024,
    "upstream_ms": 1.1,
    "duration_ms": 1.234,
}
FAILED = {"status": 502, "upstream_status": None, "reason": "upstream_unreachable"}
OWN = {"upstream": None, "upstream_address": None, "upstream_status": None}
PLAIN = Console(None)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "200 GET /api/orders/1234 1.2ms api 127.0.0.1:4000"),
        (
            {**FAILED, "detail": "connection refused"},
            "502 GET /api/orders/1234 1.2ms api 127.0.0.1:4000 connection refused",
        ),
        (
            {"status": 303, "upstream_status": 401, "reason": "token rejected by the upstream"},
            "303 GET /api/orders/1234 1.2ms api 127.0.0.1:4000 answered 401, token rejected by the "
            "upstream",
        ),
        ({"retries": 1}, "200 GET /api/orders/1234 1.2ms api 127.0.0.1:4000 retries 1"),
        (
            {**OWN, "status": 401, "decision": "unauthorized", "reason": "session no_session"},
            "401 GET /api/orders/1234 1.2ms session no_session",
        ),
        (
            {**OWN, "status": 204, "decision": "preflight"},
            "204 GET /api/orders/1234 1.2ms preflight",
        ),
        (
            {"decision": "broken", "detail": "the connection was lost within the body"},
            "200 GET /api/orders/1234 1.2ms api 127.0.0.1:4000 broken: the connection was lost "
            "within the body",
        ),
        ({**OWN, "method": None, "path": None, "status": 400, "detail": "no"}, "400 1.2ms no"),
    ],
)
def test_a_request_has_one_line_with_its_cause(changed: dict[str, Any], line: str) -> None:
    assert PLAIN.request(FACTS | changed, NOW) == f"{CLOCK} {line} [{ID}]"


def test_the_common_line_fits_a_terminal() -> None:
    """The longest path that is shown whole, and a short cause."""
    usual = FACTS | {"path": "/api/v1/customers/1234"}
    assert len(PLAIN.request(usual, NOW)) <= 100
    assert len(PLAIN.request(usual | FAILED | {"detail": "connection refused"}, NOW)) <= 115
    longest = PLAIN.request(FACTS | {"path": "/" + "a" * 500}, NOW)
    assert len(longest) <= 140
    assert "aaa... 1.2ms" in longest


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.04, "0.0ms"), (9.94, "9.9ms"), (12.3, "12ms"), (999.4, "999ms"), (1500.0, "1.5s")],
)
def test_durations_are_short(milliseconds: float, text: str) -> None:
    line = PLAIN.request(FACTS | {"duration_ms": milliseconds}, NOW)
    assert f" {text} " in line


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "configuration", "level": "warning", "detail": "the secret is random"},
            "warning  configuration: the secret is random",
        ),
        (
            {"event": "serving", "level": "info", "listen": "0.0.0.0:8080", "version": "0.1.0"},
            "info     serving listen=0.0.0.0:8080 version=0.1.0",
        ),
        ({"event": "x", "level": "error", "why": "two words"}, "error    x why='two words'"),
        (
            {"event": "defect", "level": "error", "request_id": ID, "error": "TypeError"},
            f"error    defect error=TypeError [{ID}]",
        ),
    ],
)
def test_other_events_have_one_line_too(event: dict[str, Any], line: str) -> None:
    assert PLAIN.event({**event, "pid": 7}, NOW) == f"{CLOCK} {line}"


def test_a_traceback_stands_below() -> None:
    event = {"event": "defect", "level": "error", "error": "TypeError"}
    lines = PLAIN.event(event | {"traceback": ["a.py:1 f", "b.py:2 g"]}, NOW).splitlines()
    assert [line.strip() for line in lines[1:]] == ["a.py:1 f", "b.py:2 g"]


def test_long_texts_are_wrapped_to_the_terminal() -> None:
    """And indented, so that the next event is seen."""
    event = {"event": "memory store", "level": "info", "detail": "word " * 60}
    lines = Console(80).event(event, NOW).splitlines()
    assert len(lines) > 3
    assert all(len(re.sub(r"\x1b\[\d+m", "", line)) <= 80 for line in lines)
    assert all(line.startswith(" " * 18) for line in lines[1:])
    assert len(PLAIN.event(event, NOW).splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "colour"), [(101, 36), (204, 32), (303, 36), (404, 33), (499, 33), (502, 31)]
)
def test_a_terminal_shows_the_status_in_colour(status: int, colour: int) -> None:
    line = Console(120).request(FACTS | {"status": status}, NOW)
    assert f"\x1b[{colour}m{status}\x1b[0m" in line
    broken = Console(120).request(FACTS | {"decision": "broken", "detail": "lost"}, NOW)
    assert "\x1b[31m200\x1b[0m" in broken


@given(st.text(), st.text(), st.text())
def test_no_text_of_others_controls_a_terminal(path: str, detail: str, name: str) -> None:
    """Nor breaks a line."""
    facts = FACTS | {"path": path, "detail": detail, "method": name, "request_id": name}
    event = {"event": name, "level": "info", "detail": detail, "path": path, "request_id": name}
    for line in (PLAIN.request(facts, NOW), PLAIN.event(event, NOW)):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
