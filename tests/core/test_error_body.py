"""The sidecar's own errors, in the shape that a route's clients read."""

from __future__ import annotations

import json

import pytest

from sidecar.core.envelope import EnvelopeRule
from sidecar.core.error_body import error_body, error_shape
from sidecar.core.record import replace
from sidecar.core.request import Request
from sidecar.core.route_table import UNROUTED

PLAIN = replace(UNROUTED, path="/graphql", session="required")
URQL = "application/graphql-response+json, application/graphql+json, application/json"


def ask(accept: str) -> Request:
    fields = ((b"Host", b"app.test"), (b"Accept", accept.encode()))
    return Request("POST", "/graphql", fields, http11=True)


def test_envelope_has_its_five_members() -> None:
    type_line, body = error_body("envelope", 401, "No session", "session_required", "id-1", a="/b")
    assert type_line == b"Content-Type: application/json\r\n"
    assert json.loads(body) == {
        "isError": True,
        "message": "No session",
        "data": None,
        "status": 401,
        "errorData": {"code": "session_required", "requestId": "id-1", "a": "/b"},
    }


def test_problem_is_that_of_rfc_9457() -> None:
    """The title is the status's own phrase, since there is no type; the facts are extensions."""
    type_line, body = error_body("problem", 503, "Too many", "overloaded", "id-1", a="/b")
    assert type_line == b"Content-Type: application/problem+json\r\n"
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "Too many",
        "code": "overloaded",
        "requestId": "id-1",
        "a": "/b",
    }


def test_graphql_finds_the_error_among_errors() -> None:
    """Besides the five members, for readers of either."""
    type_line, body = error_body("graphql", 401, 'Not "now"', "session_required", "id-1", a="/b")
    _, envelope = error_body("envelope", 401, 'Not "now"', "session_required", "id-1", a="/b")
    assert type_line == b"Content-Type: application/json\r\n"
    facts = {"code": "session_required", "requestId": "id-1", "a": "/b"}
    assert json.loads(body) == {
        **json.loads(envelope),
        "errors": [{"message": 'Not "now"', "extensions": facts}],
    }


@pytest.mark.parametrize("errors", ["envelope", "problem", "graphql"])
def test_a_route_names_its_shape(errors: str) -> None:
    """Whatever its clients accept."""
    for accept in ("*/*", URQL, "text/html"):
        assert error_shape(replace(PLAIN, errors=errors), ask(accept)) == errors


@pytest.mark.parametrize(
    ("accept", "shape"),
    [
        (URQL, "graphql"),
        ("Application/GraphQL-Response+JSON", "graphql"),
        ("application/json", "envelope"),
        ("*/*", "envelope"),
    ],
)
def test_without_envelope_a_graphql_client_is_understood(accept: str, shape: str) -> None:
    """Those that say what they speak. Where answers are wrapped, all of them are envelopes."""
    assert error_shape(PLAIN, ask(accept)) == shape
    wrapped = replace(PLAIN, envelope=EnvelopeRule(keep=(), buffer=1024))
    assert error_shape(wrapped, ask(accept)) == "envelope"
