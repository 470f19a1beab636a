"""The shapes of the sidecar's own errors: an envelope, a problem (RFC 9457), or one for GraphQL.

A route names one (`errors`). Without, an API that is not wrapped speaks GraphQL to clients that
accept its media type (GraphQL over HTTP): they overlook an error without the member `errors`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from sidecar.core.envelope import fault
from sidecar.core.envelope.render import encode
from sidecar.core.request import Request
from sidecar.core.route_table import Route

ENVELOPE: Final = "envelope"
PROBLEM: Final = "problem"
GRAPHQL: Final = "graphql"

JSON_TYPE: Final = b"Content-Type: application/json\r\n"
PROBLEM_TYPE: Final = b"Content-Type: application/problem+json\r\n"

_GRAPHQL_TYPES: Final = (b"application/graphql-response+json", b"application/graphql+json")


def error_shape(route: Route, request: Request) -> str:
    """The shape in which a client of a route is told of an error, where it is not shown a page."""
    if route.errors is not None:
        return route.errors
    accepted = request.fact(b"accept").lower()
    speaks_graphql = route.envelope is None and any(one in accepted for one in _GRAPHQL_TYPES)
    return GRAPHQL if speaks_graphql else ENVELOPE


def error_body(
    shape: str, status: int, message: str, code: str, request_id: str, **more: Any
) -> tuple[bytes, bytes]:
    """The Content-Type line and the body of an error; `more` are links for the client."""
    facts = {"code": code, "requestId": request_id, **more}
    if shape == PROBLEM:
        # Without a type of its own, the title is the status's phrase (RFC 9457 4.2.1).
        title = HTTPStatus(status).phrase
        problem = {"type": "about:blank", "title": title, "status": status, "detail": message}
        return PROBLEM_TYPE, encode(problem | facts)
    body = fault(status, message, code, request_id, **more)
    if shape == GRAPHQL:
        error = {"message": message, "extensions": facts}
        body = b'%b,"errors":[%b]}' % (body[:-1], encode(error))
    return JSON_TYPE, body
