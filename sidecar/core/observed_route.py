"""A route that is only observed: requests pass as they came, and what would be done is noted."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from sidecar.core.actions import RELAY, UNAUTHORIZED, Action
from sidecar.core.envelope import InvalidJSON
from sidecar.core.record import replace
from sidecar.core.route_table import Route


class Would(StrEnum):
    """What a route would do, in logs and metrics."""

    RENEW = "renew"  # the token, before the request or after a 401
    INJECT = "inject"  # the credential
    STRIP_COOKIES = "strip_cookies"  # session cookies, those of dead sessions included
    REMOVE_AUTHORIZATION = "remove_authorization"  # the client's own
    REFUSE_CSRF = "csrf_rejected"
    REQUIRE_SESSION = "session_required"
    REFUSE_USER = "not_allowed"
    END_SESSION = "logout"
    WRAP = "wrap"
    REFUSE_ANSWER = "upstream_protocol"  # a JSON type that is not valid JSON
    DROP_SET_COOKIE = "drop_set_cookie"  # of a session's name


class Observed(msgspec.Struct, frozen=True):
    """What was found of a request: whether it would have been refused, and a 401 would count."""

    is_refused: bool
    counts: bool


def passing(route: Route) -> Route:
    """The route in whose place everything passes. `observes` holds its rules."""
    return replace(
        route,
        session="optional",
        inject=False,
        strip_cookies=False,
        envelope=None,
        on_unauthorized="pass",
        authorization=None,
        gates=(),
        identity=(),
        observes=route,
    )


def request_changes(
    cookie: bytes, own: bytes | None, would_send: tuple[bytes, bytes]
) -> Iterator[Would]:
    """What would become of a request's Cookie value and its own Authorization value.

    `would_send` are the Cookie value and the Authorization line that its upstream would get.
    """
    own_line = b"" if own is None else b"Authorization: %b\r\n" % own
    would_cookie, would_line = would_send
    if would_line not in (b"", own_line):
        yield Would.INJECT
    if own_line not in (b"", would_line):
        yield Would.REMOVE_AUTHORIZATION
    if would_cookie != cookie:
        yield Would.STRIP_COOKIES


def answer_change(action: Action, status: int, document: object, *, is_told: bool) -> Would | None:
    """What would become of a response, by its action and its body.

    `document` is what the body was found to be, None if it was not looked into; `is_told`: it
    says that the session is over.
    """
    if action is UNAUTHORIZED or is_told:
        return Would.END_SESSION
    if action is RELAY or action is Action.INSPECT:
        return None
    if isinstance(document, InvalidJSON) and action is Action.WRAP and status < 400:
        return Would.REFUSE_ANSWER
    return Would.WRAP
