"""What becomes of an upstream's answer: one decision, from its head and the request's route."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sidecar.core.envelope import is_json_type
from sidecar.core.forwarding import AnswerHead
from sidecar.core.headers import media_type
from sidecar.core.routes import Route

_NEVER_WRAPPED: Final = frozenset((204, 205, 206))
_DECODABLE: Final = frozenset((b"", b"identity", b"gzip", b"x-gzip", b"deflate"))


class Action(StrEnum):
    """The ways an answer can go to the client; also the `decision` in logs and metrics."""

    RELAY = "relay"  # as it came
    WRAP = "wrap"  # a JSON body, in the envelope
    WRAP_EMPTY = "wrap_empty"  # 2xx without a body
    WRAP_ERROR = "wrap_error"  # an error that is not JSON
    UNAUTHORIZED = "unauthorized"  # a 401 that counts


def decide(
    route: Route,
    head: AnswerHead,
    *,
    is_head_request: bool,
    unauthorized: frozenset[int],
    counts: bool,
) -> Action:
    """Returns the action for an answer.

    `counts`: whether a 401 says something about the session that was presented (contract 5);
    `unauthorized`: the statuses that say it.
    """
    status = head.status
    if (
        counts
        and status in unauthorized
        and not names_other_problem(head.fact(b"www-authenticate"))
    ):
        return Action.UNAUTHORIZED
    if route.envelope is None or is_head_request or not is_wrappable(head):
        return Action.RELAY
    if status < 300:
        if head.is_empty:
            return Action.WRAP_EMPTY
        return Action.WRAP if is_json_type(head.fact(b"content-type")) else Action.RELAY
    return Action.WRAP if is_json_type(head.fact(b"content-type")) else Action.WRAP_ERROR


def is_wrappable(head: AnswerHead) -> bool:
    """Whether the head is of an answer that may be wrapped (contract 3, pass-through rows)."""
    status = head.status
    if status < 200 or 300 <= status < 400 or status in _NEVER_WRAPPED:
        return False
    if media_type(head.fact(b"content-type")) == b"text/event-stream":
        return False
    if media_type(head.fact(b"content-disposition")) == b"attachment":
        return False
    return head.fact(b"content-encoding").strip().lower() in _DECODABLE


def names_other_problem(www_authenticate: bytes) -> bool:
    """Whether a challenge names an error other than invalid_token: step-up, a DPoP nonce.

    (RFC 6750 3.1, RFC 9449 8, RFC 9470 3.) Such a 401 asks for more; it does not end a session.
    """
    value = www_authenticate.lower().replace(b" ", b"")
    if b"error=" not in value:
        return False
    return b'error="invalid_token"' not in value and b"error=invalid_token" not in value
