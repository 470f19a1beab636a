"""What would become of a request: as the running sidecar decides, in words without a value."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from click.testing import CliRunner, Result

from sidecar.cli import cli
from sidecar.compilation.compile_policy import compile_policy
from sidecar.core.config import load
from sidecar.core.errors import BadRequest
from sidecar.core.request import KNOWN_METHODS
from sidecar.policy import Policy
from sidecar.web.explanation import RequestExplanation, explain_request
from sidecar.web.foresight import Foresight
from sidecar.web.request_parser import RequestParser

CANARY = "canary-c4n4ry-7f3a9e51d2"
CONFIG: dict[str, Any] = {
    "public_url": "https://app.example.com",
    "secret": "a secret of the tests, 32 bytes or more",
    "upstreams": {
        "api": {"url": "http://127.0.0.1:9"},
        "frontend": {"url": "http://127.0.0.1:10"},
    },
    "routes": [
        {"path": "/api/", "kind": "api", "upstream": "api", "strip": "/api"},
        {"path": "/api/login", "kind": "api", "upstream": "api", "session": "none"},
        {"path": "/app/", "kind": "page", "upstream": "frontend"},
    ],
    "session": {"sources": [{"type": "cookie", "cookie": "access_token"}]},
}
COOKIE = f"theme={CANARY}; access_token={CANARY}"


@pytest.fixture(scope="module")
def policy() -> Policy:
    config = load(json.dumps(CONFIG), source="test", environ={}, read_file=lambda _: "")
    return compile_policy(config, bytes(32))


def told(policy: Policy, request: str, cookie: str = COOKIE) -> RequestExplanation:
    found = explain_request(Foresight(policy), request, cookie, 1_764_437_400.0)
    assert CANARY not in json.dumps(found)
    return found


def test_request_with_a_session_is_given_its_token(policy: Policy) -> None:
    found = told(policy, f"GET /api/orders?secret={CANARY}")
    assert found["result"] == "ok"
    request = found["request"]
    assert (request["route"], request["kind"], request["upstream"]) == ("/api/", "api", "api")
    assert request["path"] == "/api/orders"
    assert request["cookies"] == [("theme", len(CANARY)), ("access_token", len(CANARY))]
    whole = " ".join(request["decisions"])
    assert "Authorization is set to the session's token." in whole
    assert "Session cookies are taken out: access_token." in whole
    assert "/api is taken off the path." in whole
    assert "303 to /api/logout" in whole


def test_request_without_a_session_is_answered_here(policy: Policy) -> None:
    decisions = told(policy, "GET /api/orders", "theme=dark")["request"]["decisions"]
    assert "no upstream is asked" in decisions[-1]
    assert decisions[-1].endswith("303 to /api/logout.")


def test_client_decides_what_a_401_looks_like(policy: Policy) -> None:
    prefetch = told(policy, "GET /api/orders\nSec-Purpose: prefetch", "")["request"]
    assert prefetch["client"] == "prefetch"
    assert prefetch["decisions"][-1].endswith("401 prefetch_unauthenticated.")
    router = told(policy, "GET /api/orders HTTP/1.1\r\nRSC: 1\r\n", "")["request"]
    assert router["decisions"][-1].endswith("401 session_required.")


def test_cross_site_request_is_refused_with_the_origins(policy: Policy) -> None:
    request = "POST /api/orders\nOrigin: https://evil.example\nSec-Fetch-Site: cross-site"
    last = told(policy, request)["request"]["decisions"][-1]
    assert last.startswith("403 csrf_rejected: Origin is https://evil.example")
    assert "https://app.example.com" in last


def test_paths_that_reach_no_upstream_are_told(policy: Policy) -> None:
    assert told(policy, "GET /other")["request"]["decisions"] == [
        "No route matches the path: 404 no_route."
    ]
    logout = told(policy, "POST /api/logout")["request"]
    assert logout["endpoint"] == "logout"
    assert logout["route"] is None


def test_route_without_sessions_injects_nothing(policy: Policy) -> None:
    whole = " ".join(told(policy, "POST /api/login")["request"]["decisions"])
    assert "The route takes no session" in whole
    assert "No Authorization is sent." in whole


@pytest.mark.parametrize(
    "text", ["", "GET", "GET api", "/api", "GET /a b", "GET /a b c", "GET /a\nbroken"]
)
def test_what_is_no_request_is_refused(policy: Policy, text: str) -> None:
    with pytest.raises(BadRequest, match="METHOD /path"):
        told(policy, text)


@pytest.mark.parametrize("target", ["/api/ü", "/api/a?q=ü"])
def test_what_no_browser_sends_is_refused_as_on_the_wire(policy: Policy, target: str) -> None:
    """Browsers percent-encode it, and the parser takes nothing beyond ASCII."""
    request = told(policy, f"GET {target} HTTP/1.1")["request"]
    assert (request["status"], request["code"]) == (400, "bad_request")
    assert request["upstream_path"] is None


# -- the command -----------------------------------------------------------------------------------


def command(tmp_path: Path, *arguments: str) -> Result:
    file = tmp_path / "sidecar.yaml"
    file.write_text(json.dumps(CONFIG))
    return CliRunner().invoke(cli, ["explain", "-c", str(file), *arguments], input=COOKIE)


def test_command_adds_route_and_decisions(tmp_path: Path) -> None:
    done = command(tmp_path, "--request", "GET /api/orders", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["request"]["route"] == "/api/"
    text = command(tmp_path, "--request", "GET /api/orders").stdout
    assert "The route /api/ matches" in text
    assert "rejected      303\n" in text
    assert CANARY not in text + done.stdout


def test_command_names_what_is_wrong_with_a_request(tmp_path: Path) -> None:
    done = command(tmp_path, "--request", "orders")
    assert done.exit_code == 2
    assert done.stderr.startswith("--request: must be METHOD /path")


@pytest.mark.parametrize("method", ["FOO", "get", "PRI", "VIEW"])
def test_method_that_is_not_read_is_400(policy: Policy, method: str) -> None:
    """As the request itself would be; nothing is said of routes and tokens."""
    found = told(policy, f"{method} /api/x")["request"]
    assert found["method"] == method
    assert "400 bad_request" in found["decisions"][-1]


def test_known_methods_are_those_of_the_parser() -> None:
    others = "PRI DESCRIBE SETUP PLAY REDIRECT FOO get VIEW BASELINE-CONTROL UPDATEREDIRECTREF"

    def is_read(method: str) -> bool:
        loop = asyncio.new_event_loop()
        try:
            parser = RequestParser(BaseProtocol(loop), loop, 8192)
            head = f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n"
            return parser.read_head(head.encode()) is not None
        except HttpProcessingError:
            return False
        finally:
            loop.close()

    assert {one for one in (*KNOWN_METHODS, *others.split()) if is_read(one)} == KNOWN_METHODS
