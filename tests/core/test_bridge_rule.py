"""Which answers depend on their session's being alive: navigations to pages, and nothing else."""

from __future__ import annotations

import pytest

from sidecar.core.bridge_rule import AGAIN, KNOWN, MOST_KNOWN, BridgeRule, UndeletedCookies
from sidecar.core.record import replace
from sidecar.core.request import Request
from sidecar.core.route_table import UNROUTED

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
        # A form is sent without JavaScript, or its link is checked.
        (ask(DOCUMENT, method="POST"), True),
        (ask(DOCUMENT, method="HEAD"), True),
        (ask(ROUTER, method="POST"), False),
        (ask({"Sec-Fetch-Dest": "empty", "X-Nextjs-Data": "1"}), True),
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
    """Documents of any method and router data, no prefetch, never the page of the login."""
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


def test_a_session_led_away_twice_at_once_keeps_its_cookies() -> None:
    """Found the second time, and known while it goes on; of nobody else."""
    undeleted = UndeletedCookies()
    assert not undeleted.is_found(1, 100.0)
    undeleted.led(1, 100.0)
    assert not undeleted.is_known(1, 101.0)
    assert not undeleted.is_found(2, 101.0)
    assert undeleted.is_found(1, 102.0)
    assert undeleted.is_known(1, 101.0 + KNOWN)
    assert undeleted.is_known(1, 102.0 + KNOWN)  # as long as it is seen
    assert not undeleted.is_known(1, 102.0 + 2 * KNOWN)


def test_a_session_led_away_twice_much_later_does_not() -> None:
    """An old tab of it may be opened once more."""
    undeleted = UndeletedCookies()
    undeleted.led(1, 100.0)
    assert not undeleted.is_found(1, 100.0 + AGAIN)


def test_strangers_fill_a_bounded_room() -> None:
    """The first that were led away are forgotten."""
    undeleted = UndeletedCookies()
    for number in range(MOST_KNOWN + 10):
        undeleted.led(number, 0.0)
        undeleted.is_found(number, 0.0)
    assert not undeleted.is_found(9, 0.0)
    assert not undeleted.is_known(9, 0.0)
    assert undeleted.is_known(10, 0.0)
    assert len(undeleted._led_at) == len(undeleted._kept_until) == MOST_KNOWN
