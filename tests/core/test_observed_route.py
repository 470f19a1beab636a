"""What an observed route would do, decided by its rules; and the route that does none of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.actions import Action
from sidecar.core.envelope import Document, EnvelopeRule, InvalidJSON
from sidecar.core.observed_route import Would, answer_change, passing, request_changes
from sidecar.core.record import replace
from sidecar.core.route_table import UNROUTED

RULES = replace(
    UNROUTED,
    path="/a",
    session="required",
    inject=True,
    strip_cookies=True,
    envelope=EnvelopeRule(),
    on_unauthorized="logout",
    authorization="session",
)
TOKEN = b"Authorization: Bearer tok\r\n"


def test_passing_route_has_no_rule_left() -> None:
    """But for where it leads, and what its own errors look like."""
    route = passing(RULES)
    assert route.observes is RULES
    assert (route.path, route.kind, route.errors) == (RULES.path, RULES.kind, RULES.errors)
    assert not any((route.inject, route.vouches, route.strip_cookies, route.reads_answers))
    assert not any((route.is_private, route.by_cookie, route.owns_cors, route.nosniff))
    assert (route.session, route.on_unauthorized, route.envelope) == ("optional", "pass", None)


@pytest.mark.parametrize(
    ("own", "would_send", "found"),
    [
        (None, (b"a=1", b""), []),
        (None, (b"a=1", TOKEN), [Would.INJECT]),
        (None, (b"", b""), [Would.STRIP_COOKIES]),
        (b"Bearer own", (b"a=1", b"Authorization: Bearer own\r\n"), []),
        (b"Bearer own", (b"a=1", b""), [Would.REMOVE_AUTHORIZATION]),
        (b"Bearer own", (b"a=1", TOKEN), [Would.INJECT, Would.REMOVE_AUTHORIZATION]),
        (b"Bearer tok", (b"a=1", TOKEN), []),
    ],
)
def test_changes_of_a_request(
    own: bytes | None, would_send: tuple[bytes, bytes], found: list[Would]
) -> None:
    assert list(request_changes(b"a=1", own, would_send)) == found


@given(st.binary(max_size=20), st.none() | st.binary(min_size=1, max_size=20))
def test_request_that_would_be_sent_as_it_came_has_no_changes(
    cookie: bytes, own: bytes | None
) -> None:
    line = b"" if own is None else b"Authorization: %b\r\n" % own
    assert list(request_changes(cookie, own, (cookie, line))) == []


GOOD, BAD = Document(b"{}", {}), InvalidJSON("no")


@pytest.mark.parametrize(
    ("action", "status", "document", "is_told", "found"),
    [
        (Action.RELAY, 200, None, False, None),
        (Action.INSPECT, 200, GOOD, False, None),
        (Action.INSPECT, 200, GOOD, True, Would.END_SESSION),
        (Action.INSPECT, 200, BAD, False, None),
        (Action.UNAUTHORIZED, 401, None, False, Would.END_SESSION),
        (Action.WRAP, 200, GOOD, False, Would.WRAP),
        (Action.WRAP, 200, GOOD, True, Would.END_SESSION),
        (Action.WRAP, 200, None, False, Would.WRAP),
        (Action.WRAP, 200, BAD, False, Would.REFUSE_ANSWER),
        (Action.WRAP, 500, BAD, False, Would.WRAP),
        (Action.WRAP_ERROR, 500, None, False, Would.WRAP),
        (Action.WRAP_EMPTY, 200, None, False, Would.WRAP),
    ],
)
def test_change_of_a_response(
    action: Action, status: int, document: object, is_told: bool, found: Would | None
) -> None:
    assert answer_change(action, status, document, is_told=is_told) is found
