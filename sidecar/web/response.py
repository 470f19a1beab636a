"""What becomes of an upstream's response whose body is here to its end.

body ──► envelope, as it came, or the end of the session ──► compressed ──► delivered
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.actions import (
    INSPECT,
    RELAY,
    UNAUTHORIZED,
    WRAP,
    WRAP_EMPTY,
    WRAP_ERROR,
    Action,
    is_wrappable,
)
from sidecar.core.codings import GZIP
from sidecar.core.envelope import (
    Document,
    InvalidJSON,
    NeedsWalk,
    envelope_parts,
    parse_at_once,
    wrap_empty,
    wrap_text,
)
from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.headers import media_type
from sidecar.core.representation import stands_for_envelope
from sidecar.web import handing_out
from sidecar.web.client_head import render_head
from sidecar.web.compression import (
    AT_ONCE,
    COMPRESSED_FROM,
    coding_for,
    gzipped,
    gzipped_in_turns,
)
from sidecar.web.exchange import JOINED
from sidecar.web.inspection import walked
from sidecar.web.observing import note_answer
from sidecar.web.unauthorized import unauthorized

if TYPE_CHECKING:
    from sidecar.core.envelope import Parts
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.web.flow import Flow

UNREAD: Final = Document(b"", None)
"""Stands for a body that was not parsed."""


def conclude(
    flow: Flow,
    head: UpstreamHead,
    action: Action,
    body: bytes,
    document: Document | InvalidJSON = UNREAD,
) -> None:
    """Responds with a body that is here to its end, decoded if it is to be wrapped.

    `document` is what the body was found to be. Raises `UpstreamProtocolError`.
    """
    came = len(body)
    if document is UNREAD and (action is WRAP or action is INSPECT):
        try:
            document = parse_at_once(body)
        except InvalidJSON as error:
            document = InvalidJSON(*error.args)  # without the frames that it holds
        except NeedsWalk:
            flow.spawn(_walk, head, action, body)
            return
    if flow.route.session == "none" and isinstance(document, Document) and document.body:
        handing_out.note(flow, head, body)
    parts: Parts = (body,)
    if action is WRAP:
        action, parts = _wrap(flow, head, body, document)
    elif action is INSPECT:
        action = _inspect(flow, head.status, document) if flow.counts else RELAY
    elif action is RELAY and not body and _is_empty_success(flow, head):
        action = WRAP_EMPTY
    if action is UNAUTHORIZED:
        unauthorized(flow)
        return
    if action is WRAP_EMPTY or action is WRAP_ERROR:
        parts = (_wrap_other(head, action, b"".join(parts)),)
    if action is RELAY:
        deliver(flow, head, action, body)
    elif came > COMPRESSED_FROM or b"content-encoding" in head.facts:
        _compress(flow, head, action, parts)
    else:  # what `deliver` does with most responses, without a call
        flow.decision = action
        flow.respond(render_head(flow, head, wrapped=True), b"".join(parts), status=head.status)


async def _walk(flow: Flow, head: UpstreamHead, action: Action, body: bytes) -> None:
    """Looks into a JSON body that takes long to read: deep, or with lone surrogates."""
    conclude(flow, head, action, body, await walked(body))


def _wrap(
    flow: Flow, head: UpstreamHead, body: bytes, document: Document | InvalidJSON
) -> tuple[Action, Parts]:
    """The envelope of a JSON body, or what else becomes of it."""
    rule, status = flow.route.envelope, head.status
    assert rule is not None
    if not body:
        return (WRAP_EMPTY if status < 400 else WRAP_ERROR), ()
    if isinstance(document, InvalidJSON):
        if status < 400:
            raise UpstreamProtocolError(f"JSON type, but not valid JSON: {document}")
        return WRAP_ERROR, ()
    if flow.counts and flow.runtime.policy.unauthorized.is_told_by(document, status):
        return UNAUTHORIZED, ()
    problem = status >= 400 and is_problem(head)
    return WRAP, envelope_parts(rule, document, status, head.reason, problem=problem)


def _wrap_other(head: UpstreamHead, action: Action, body: bytes) -> bytes:
    """The envelope of a body that is empty, or no JSON."""
    if action is WRAP_EMPTY:
        return wrap_empty(head.status)
    is_text = media_type(head.fact(b"content-type")) == b"text/plain"
    return wrap_text(head.status, head.reason, body if is_text else None)


def is_problem(head: UpstreamHead) -> bool:
    """Returns whether the body is an RFC 9457 problem: detail or title stand in for a message."""
    return media_type(head.fact(b"content-type")) == b"application/problem+json"


def _inspect(flow: Flow, status: int, document: Document | InvalidJSON) -> Action:
    """Whether a body that is not wrapped says that the session is over."""
    if isinstance(document, InvalidJSON):
        return RELAY  # as the upstream sent it
    is_over = flow.runtime.policy.unauthorized.is_told_by(document, status)
    return UNAUTHORIZED if is_over else RELAY


def _is_empty_success(flow: Flow, head: UpstreamHead) -> bool:
    """Whether the body's end has shown that a success has none (behaviour: envelope)."""
    return (
        flow.route.envelope is not None
        and not flow.is_head
        and head.status < 300
        and is_wrappable(head)
    )


def _compress(flow: Flow, head: UpstreamHead, action: Action, parts: Parts) -> None:
    """Responds with an envelope that is worth compressing, if its client accepts that."""
    coding, size = coding_for(flow, head), sum(map(len, parts))
    if coding and size > AT_ONCE:
        flow.spawn(_compress_in_turns, head, action, parts)
    elif coding:
        deliver(flow, head, action, gzipped(b"".join(parts)), coding)
    elif size > JOINED:
        flow.decision = action
        lines = render_head(flow, head, wrapped=True, coding=coding)
        flow.respond_in_parts(lines, parts, status=head.status)
    else:
        deliver(flow, head, action, b"".join(parts), coding)


async def _compress_in_turns(flow: Flow, head: UpstreamHead, action: Action, parts: Parts) -> None:
    deliver(flow, head, action, await gzipped_in_turns(parts), GZIP)


def deliver(
    flow: Flow, head: UpstreamHead, action: Action, body: bytes, coding: bytes | None = None
) -> None:
    """Responds with a body as it leaves, in `coding` (`web.compression.coding_for`)."""
    if flow.observation is not None:
        note_answer(flow, head, body)
    flow.decision = action
    if action is RELAY and head.forbids_content:
        body = b""
    if action is RELAY and (flow.is_head or head.status in (204, 304)):
        _deliver_bodiless(flow, head)
    else:
        lines = render_head(flow, head, wrapped=action is not RELAY, coding=coding)
        flow.respond(lines, body, status=head.status)


def _deliver_bodiless(flow: Flow, head: UpstreamHead) -> None:
    """Responds to HEAD, or without content, with what is said of the body of GET."""
    wrapped = flow.route.envelope is not None and stands_for_envelope(head, flow.request.facts)
    lines = render_head(flow, head, wrapped=wrapped)
    length = head.facts.get(b"content-length", b"")
    if flow.is_head and length.isdigit() and not (wrapped or head.forbids_content):
        lines += b"Content-Length: %b\r\n" % length
    flow.respond(lines, b"", status=head.status, bodiless=True)
