"""What becomes of an upstream's answer: one decision, from its head and the request's route."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from sidecar.core.client import Client
from sidecar.core.codings import content_coding, is_decodable
from sidecar.core.envelope import is_json_type as _is_json_type
from sidecar.core.headers import media_type
from sidecar.core.known_heads import keep
from sidecar.core.memo import Memo
from sidecar.core.route_table import Route
from sidecar.core.upstream_head import UpstreamHead

is_json_type: Final = Memo[bytes, bool](_is_json_type, 64).__getitem__
_NEVER_WRAPPED: Final = frozenset((204, 205, 206))

# Auth-params (RFC 9110 11.2): name, and value as quoted-string or token. Nothing within quotation
# marks is a parameter.
_AUTH_PARAM: Final = re.compile(
    rb"(?:^|[\s,])([!#-'*+.^-`|~0-9a-z-]++)[ \t]*+=[ \t]*+"
    rb'(?:"([^"\\]*+(?>\\.[^"\\]*+)*+)|([^",;\s]*+))'
)


class Action(StrEnum):
    """The ways an answer can go to the client; also the `decision` in logs and metrics."""

    RELAY = "relay"  # as it came
    INSPECT = "inspect"  # as it came, unless its JSON says that the session is over
    WRAP = "wrap"  # a JSON body, in the envelope
    WRAP_EMPTY = "wrap_empty"  # 2xx without a body
    WRAP_ERROR = "wrap_error"  # an error that is not JSON
    UNAUTHORIZED = "unauthorized"  # a 401 that counts

    # That of its text: `decision` may be that as well, and Enum's own is much slower.
    __hash__ = str.__hash__


# A member of an enumeration costs seven times a global.
RELAY: Final = Action.RELAY
INSPECT: Final = Action.INSPECT
WRAP: Final = Action.WRAP
WRAP_EMPTY: Final = Action.WRAP_EMPTY
WRAP_ERROR: Final = Action.WRAP_ERROR
UNAUTHORIZED: Final = Action.UNAUTHORIZED


def decide(
    route: Route,
    head: UpstreamHead,
    is_head_request: bool,
    unauthorized: frozenset[int],
    counts: bool,
    *,
    is_read: bool = False,
) -> Action:
    """Returns the action for an answer.

    `counts`: whether a 401 says something about the session that was presented (behaviour: 401);
    `unauthorized`: the statuses that say it; `is_read`: whether its JSON is of interest otherwise.
    """
    made = head.made
    if made is None:
        return _decide(route, head, is_head_request, unauthorized, counts, is_read=is_read)
    key = (route, is_head_request, unauthorized, counts, is_read)
    action: Action | None = made.get(key)
    if action is None:
        action = _decide(route, head, is_head_request, unauthorized, counts, is_read=is_read)
        keep(made, key, action)
    return action


def _decide(
    route: Route,
    head: UpstreamHead,
    is_head_request: bool,
    unauthorized: frozenset[int],
    counts: bool,
    *,
    is_read: bool,
) -> Action:
    status = head.status
    if (
        counts
        and status in unauthorized
        and not names_other_problem(head.fact(b"www-authenticate"))
    ):
        return UNAUTHORIZED
    if is_head_request:
        return RELAY
    if not is_wrappable(head):
        return INSPECT if counts and _may_say_unauthorized(head) else RELAY
    if route.envelope is None:
        return (
            INSPECT if (counts or is_read) and is_json_type(head.fact(b"content-type")) else RELAY
        )
    if status < 300 and head.facts.get(b"content-length") == b"0":
        return WRAP_EMPTY
    if is_json_type(head.fact(b"content-type")):
        return WRAP
    return RELAY if status < 300 else WRAP_ERROR


def leads_to_logout(client: Client, route: Route, *, is_live: bool, has_login: bool) -> bool:
    """Whether a 401 sends its client to the logout, or is told as such (behaviour: 401, rule 3).

    With a login of the sidecar's own, a document goes there too whose page needs a session.
    """
    if client in (Client.ROUTER, Client.WEBSOCKET):
        return False
    lacks_session = not is_live and client is Client.DOCUMENT and route.kind == "page"
    is_own = lacks_session and has_login and route.on_unauthorized == "pass"
    return is_own or route.on_unauthorized == "logout"


def is_wrappable(head: UpstreamHead) -> bool:
    """Whether the head is of an answer that may be wrapped (behaviour: envelope)."""
    status, facts = head.status, head.facts
    if status < 200 or 300 <= status < 400 or status in _NEVER_WRAPPED:
        return False
    if (
        b"content-disposition" in facts
        and media_type(facts[b"content-disposition"]) == b"attachment"
    ):
        return False
    if (
        status < 300  # an error in a coding that cannot be undone counts as not JSON
        and b"content-encoding" in facts
        and not is_decodable(content_coding(facts[b"content-encoding"]))
    ):
        return False
    return media_type(facts.get(b"content-type", b"")) != b"text/event-stream"


def _may_say_unauthorized(head: UpstreamHead) -> bool:
    """Whether JSON that is never wrapped, of a redirect or a part, is looked into all the same."""
    status, facts = head.status, head.facts
    has_body = status == 206 or (300 <= status < 400 and status != 304)
    is_plain = has_body and b"content-encoding" not in facts
    return is_plain and is_json_type(head.fact(b"content-type"))


def names_other_problem(www_authenticate: bytes) -> bool:
    """Whether a challenge names an error other than invalid_token: step-up, a DPoP nonce.

    (RFC 6750 3.1, RFC 9449 8, RFC 9470 3.) Such a 401 asks for more; it does not end a session.
    """
    params = _AUTH_PARAM.findall(www_authenticate.lower())
    errors = {quoted or token for name, quoted, token in params if name == b"error"} - {b""}
    return bool(errors) and b"invalid_token" not in errors
