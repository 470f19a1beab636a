"""Which answers depend on their session's being alive: navigations to pages, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.bridge import BridgeRule
from sidecar.core.request import Request
from sidecar.core.routes import UNROUTED

PAGE = replace(UNROUTED, path="/", kind="page", session="optional")
DOCUMENT = {"Sec-Fetch-Dest": "document"}
ROUTER = {"Sec-Fetch-Dest": "empty", "RSC": "1"}


def ask(headers: dict[str, str], target: str = "/a", method: str = "GET") -> Request:
    fields = {"Host": "app.test", **headers}.items()
    raw = tuple((name.encode(), value.encode()) for name, value in fields)
    return Request(method, target, raw, http11=True)


@pytest.mark.parametrize(
    ("request_", "is_one"),
    [
        (ask(DOCUMENT), True),
        (ask(ROUTER), True),
        (ask({"Accept": "text/html"}), True),
        (ask(DOCUMENT, method="POST"), False),
        (ask(DOCUMENT, method="HEAD"), False),
        (ask({**DOCUMENT, "Sec-Purpose": "prefetch"}), False),
        (ask({**ROUTER, "Next-Router-Prefetch": "1"}), False),
        (ask({**ROUTER, "Next-Action": "x"}, method="POST"), False),
        (ask({"Sec-Fetch-Dest": "empty"}), False),
        (ask({"Sec-Fetch-Dest": "image"}), False),
        (ask({}), False),
        (ask(DOCUMENT, "/login"), False),
        (ask(DOCUMENT, "/login/?next=/a"), False),
        (ask(DOCUMENT, "/%6Cogin"), False),
        (ask(ROUTER, "/login?_rsc=1"), False),
        (ask(DOCUMENT, "/login/help"), True),
    ],
)
def test_navigations_are_concerned(request_: Request, is_one: bool) -> None:
    """GET by document or router, no prefetch, never the page that the logout leads to."""
    assert BridgeRule("/login", 0).concerns(request_, PAGE) is is_one


def test_only_pages_with_a_session_are_concerned() -> None:
    rule = BridgeRule("/login", 0)
    assert not rule.concerns(ask(DOCUMENT), replace(PAGE, kind="api"))
    assert not rule.concerns(ask(DOCUMENT), replace(PAGE, session="none"))
    assert rule.concerns(ask(DOCUMENT), replace(PAGE, session="required"))


def test_login_elsewhere_is_no_page_of_this_site() -> None:
    assert BridgeRule(None, 0).concerns(ask(DOCUMENT, "/login"), PAGE)
    assert not BridgeRule(None, 0).is_login(ask(DOCUMENT, "/"))


def test_only_router_data_is_held_and_only_where_configured() -> None:
    assert BridgeRule("/login", 1.0).holds(ask(ROUTER))
    assert not BridgeRule("/login", 1.0).holds(ask(DOCUMENT))
    assert not BridgeRule("/login", 0.0).holds(ask(ROUTER))
