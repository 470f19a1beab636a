"""One decision for every answer: row by row (behaviour: envelope, behaviour: 401)."""

from __future__ import annotations

import pytest

from sidecar.core.actions import Action, decide, names_other_problem
from sidecar.core.envelope import EnvelopeRule
from sidecar.core.record import replace
from sidecar.core.route_table import UNROUTED, Route
from sidecar.core.upstream_head import UpstreamHead

API = replace(UNROUTED, envelope=EnvelopeRule(), inject=True, session="required")
PAGE = replace(UNROUTED, kind="page", envelope=None)
JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json; charset=utf-8"}
TEXT = {"Content-Type": "text/plain"}
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}

RELAY, INSPECT, WRAP, WRAP_EMPTY, WRAP_ERROR, UNAUTHORIZED = (
    Action.RELAY,
    Action.INSPECT,
    Action.WRAP,
    Action.WRAP_EMPTY,
    Action.WRAP_ERROR,
    Action.UNAUTHORIZED,
)


def head(status: int, fields: dict[str, str]) -> UpstreamHead:
    return UpstreamHead(status, tuple((k.encode(), v.encode()) for k, v in fields.items()))


def action(
    status: int,
    fields: dict[str, str],
    *,
    route: Route = API,
    is_head: bool = False,
    counts: bool = False,
) -> Action:
    return decide(
        route,
        head(status, fields),
        is_head_request=is_head,
        unauthorized=frozenset([401, 419]),
        counts=counts,
    )


@pytest.mark.parametrize(
    ("status", "fields", "wanted"),
    [
        (200, JSON, WRAP),
        (201, {"Content-Type": "application/vnd.api+json"}, WRAP),
        (200, {"Content-Type": "text/json"}, WRAP),
        (400, JSON, WRAP),
        (422, PROBLEM, WRAP),
        (500, JSON, WRAP),
        (404, TEXT, WRAP_ERROR),
        (404, {"Content-Type": "text/html"}, WRAP_ERROR),
        (500, {}, WRAP_ERROR),
        (500, {"Content-Length": "0"}, WRAP_ERROR),
        (200, {"Content-Length": "0"}, WRAP_EMPTY),
        (201, {**TEXT, "Content-Length": "0"}, WRAP_EMPTY),
        (202, {**JSON, "Content-Length": "0"}, WRAP_EMPTY),
        # Passed through unwrapped.
        (200, TEXT, RELAY),
        (200, {}, RELAY),
        (204, {}, RELAY),
        (205, {"Content-Length": "0"}, RELAY),
        (206, JSON, RELAY),
        (301, {"Location": "/x"}, RELAY),
        (304, {}, RELAY),
        (303, JSON, RELAY),
        (200, EVENTS, RELAY),
        (500, EVENTS, RELAY),
        (101, {}, RELAY),
        (200, {"Content-Type": "application/x-ndjson"}, RELAY),
        (200, {"Content-Type": "application/grpc-web+json"}, RELAY),
        (200, {"Content-Type": "application/connect+json"}, RELAY),
        (200, {"Content-Type": "application/stream+json"}, RELAY),
        (200, {**JSON, "Content-Disposition": 'Attachment; filename="x.json"'}, RELAY),
        (500, {**JSON, "Content-Disposition": "attachment"}, RELAY),
        (200, {**JSON, "Content-Disposition": "inline"}, WRAP),
        # Decoded where that is possible, else left alone.
        (200, {**JSON, "Content-Encoding": "gzip"}, WRAP),
        (200, {**JSON, "Content-Encoding": "DEFLATE"}, WRAP),
        (200, {**JSON, "Content-Encoding": "identity"}, WRAP),
        (200, {**JSON, "Content-Encoding": "utf-8"}, WRAP),
        (200, {**JSON, "Content-Encoding": ""}, WRAP),
        (500, {**JSON, "Content-Encoding": "none"}, WRAP),
        (200, {**JSON, "Content-Encoding": "br"}, RELAY),
        # but an error is one in any coding: its body counts as not JSON then
        (500, {**JSON, "Content-Encoding": "gzip, br"}, WRAP),
        (404, {**TEXT, "Content-Encoding": "br"}, WRAP_ERROR),
    ],
)
def test_what_is_wrapped(status: int, fields: dict[str, str], wanted: Action) -> None:
    """Without an envelope, and to HEAD, everything passes as it came (behaviour: envelope)."""
    assert action(status, fields) is wanted
    assert action(status, fields, is_head=True) is RELAY
    assert action(status, fields, route=PAGE) is RELAY


@pytest.mark.parametrize(
    ("status", "counts", "wanted"),
    [
        (401, True, UNAUTHORIZED),
        (419, True, UNAUTHORIZED),
        (401, False, WRAP),
        (403, True, WRAP),
        (400, True, WRAP),
    ],
)
def test_a_401_counts_only_where_it_says_something_about_the_session(
    status: int, counts: bool, wanted: Action
) -> None:
    """The configured statuses, on requests that carried a credential (behaviour: 401)."""
    assert action(status, JSON, counts=counts) is wanted


@pytest.mark.parametrize("fields", [JSON, TEXT, {}, {"Content-Encoding": "br"}, EVENTS])
@pytest.mark.parametrize("is_head", [True, False])
def test_a_401_that_counts_comes_before_all_else(fields: dict[str, str], is_head: bool) -> None:
    """Whatever its body is, and to HEAD as well."""
    assert action(401, fields, is_head=is_head, counts=True) is UNAUTHORIZED


@pytest.mark.parametrize(
    ("challenge", "other"),
    [
        ("", False),
        ("Bearer", False),
        ('Bearer realm="api"', False),
        ('Bearer error="invalid_token"', False),
        ('Bearer realm="api", error="invalid_token", error_description="expired"', False),
        ("Bearer error=invalid_token", False),
        ("bearer ERROR = INVALID_TOKEN", False),
        ('Bearer error_uri="https://docs.test/?error=expired"', False),
        ('Bearer error_description="error"', False),
        ('Bearer realm="x",error="insufficient_user_authentication"', True),
        ('Bearer error="insufficient_user_authentication", acr_values="gold"', True),
        ('DPoP error="use_dpop_nonce", error_description="nonce"', True),
        ("DPoP error=use_dpop_nonce", True),
        ('Bearer error="insufficient_scope"', True),
        ('Bearer error="invalid_request"', True),
        ('Bearer error="not_invalid_token"', True),
        ('Bearer, DPoP error="use_dpop_nonce"', True),
        ('DPoP error="use_dpop_nonce", Bearer error="invalid_token"', False),
        ('Bearer error_description="token error=foo happened"', False),
        ('Bearer scope="x error=y", realm="a\\" error=z"', False),
        ('Bearer realm="example, error=x"', False),
        ('Bearer error=""', False),
        ('Bearer error="invalid_token', False),
        ('Bearer realm="a \\" b", error="insufficient_scope"', True),
    ],
)
def test_a_challenge_that_asks_for_something_else_ends_no_session(
    challenge: str, other: bool
) -> None:
    """Step-up (RFC 9470 3), a DPoP nonce (RFC 9449 8), a scope (RFC 6750 3.1)."""
    assert names_other_problem(challenge.encode()) is other
    wanted = WRAP if other else UNAUTHORIZED
    assert action(401, {**JSON, "WWW-Authenticate": challenge}, counts=True) is wanted


@pytest.mark.parametrize(
    ("status", "fields", "wanted"),
    [
        (200, JSON, INSPECT),
        (500, PROBLEM, INSPECT),
        (200, TEXT, RELAY),
        (200, {**JSON, "Content-Encoding": "gzip"}, INSPECT),
        (200, {**JSON, "Content-Encoding": "br"}, RELAY),
        (200, {**JSON, "Content-Disposition": "attachment"}, RELAY),
        (204, JSON, RELAY),
        (401, JSON, UNAUTHORIZED),
    ],
)
def test_without_an_envelope_json_is_looked_into(
    status: int, fields: dict[str, str], wanted: Action
) -> None:
    """`message` counts on requests that carried a credential (behaviour: 401)."""
    assert action(status, fields, route=PAGE, counts=True) is wanted
    assert action(status, fields, route=PAGE) is RELAY


@pytest.mark.parametrize("status", [206, 300, 302, 307, 308])
@pytest.mark.parametrize("route", [API, PAGE])
def test_json_that_is_never_wrapped_is_looked_into(status: int, route: Route) -> None:
    """A rule of `unauthorized.match` holds at any status. HEAD and codings are left alone."""
    assert action(status, JSON, route=route, counts=True) is INSPECT
    assert action(status, JSON, route=route) is RELAY
    assert action(status, {**JSON, "Content-Encoding": "gzip"}, route=route, counts=True) is RELAY
    assert action(status, JSON, route=route, counts=True, is_head=True) is RELAY
    assert action(status, TEXT, route=route, counts=True) is RELAY


@pytest.mark.parametrize("status", [204, 205, 304])
def test_without_a_body_there_is_nothing_to_look_into(status: int) -> None:
    assert action(status, JSON, counts=True) is RELAY


def test_challenges_in_several_fields_are_read_together() -> None:
    """RFC 9110 5.3: a second field is a further member of the list."""
    fields = [(b"WWW-Authenticate", b"Bearer"), (b"WWW-Authenticate", b'DPoP error="x"')]
    assert names_other_problem(UpstreamHead(401, fields).fact(b"www-authenticate"))


def test_actions_are_the_words_of_logs_and_metrics() -> None:
    """A dashboard that was built on them must not break unnoticed."""
    assert [str(one) for one in Action] == [
        "relay",
        "inspect",
        "wrap",
        "wrap_empty",
        "wrap_error",
        "unauthorized",
    ]
