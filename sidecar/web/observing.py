"""Routes that are only observed (`observe: true`): what they would do is logged and counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from sidecar.core.actions import INSPECT, WRAP, decide
from sidecar.core.client import Client
from sidecar.core.codings import content_coding, is_decodable
from sidecar.core.envelope import Document, InvalidJSON, NeedsWalk, parse_at_once
from sidecar.core.errors import CsrfRejected
from sidecar.core.forwarding import clean_response
from sidecar.core.inflate import CorruptCoding, Inflater
from sidecar.core.observed_route import Observed, Would, answer_change, request_changes
from sidecar.web.allowed import refused_by, refused_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.actions import Action
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.web.flow import Flow

LOOKED_INTO: Final = 65536  # bytes of a body, as it comes
DECODED: Final = 262_144  # bytes that it may decode to


def note(flow: Flow, *found: Would) -> None:
    """Notes what would be done with a request, once each."""
    for one in found:
        if one not in flow.would:
            flow.would = (*flow.would, one.value)
            flow.runtime.metrics.observed[flow.route.path, one.value] += 1


# -- the request ----------------------------------------------------------------------------------


def note_request(
    flow: Flow, credential: Callable[[], tuple[bytes, bytes] | None], *, is_due: bool
) -> None:
    """Notes what the route's own rules would make of a request; `flow.route` is the passing one.

    `credential` decides by those rules what its upstream would get; what it leaves on the flow goes
    again, so that the response passes. `is_due`: the token would be renewed.
    """
    route, rules = flow.route, flow.route.observes
    assert rules is not None
    would_send, found = None, [Would.RENEW] if is_due else []
    flow.route = rules
    try:
        would_send = credential()
        if would_send is None:
            found.append(Would.REQUIRE_SESSION)
    except CsrfRejected:
        found.append(Would.REFUSE_CSRF)
    flow.route = route
    if would_send is not None:
        own = flow.request.facts.get(b"authorization")
        found += request_changes(flow.request.cookie, own, would_send)
        if not _is_let_in(flow):
            would_send = None
            found.append(Would.REFUSE_USER)
    flow.observation = Observed(is_refused=would_send is None, counts=flow.counts)
    flow.live, flow.counts, flow.sweeps, flow.by_cookie = None, False, False, True
    note(flow, *found)


def _is_let_in(flow: Flow) -> bool:
    """Whether the rules let the user of the live session in: the route's, and those of `oidc`."""
    rules, session = flow.route.observes, flow.presented.session(flow.live)
    if session is None or rules is None or rules.session == "none":
        return True
    return refused_here(flow, session) is None and refused_by(rules, session) is None


# -- the response ---------------------------------------------------------------------------------


def head_as_it_came(flow: Flow, head: UpstreamHead) -> bytes:
    """The head for the client, without framing: no cookie is dropped, expired or renewed."""
    before, behind = clean_response(
        head,
        flow.route,
        wrapped=False,
        private=False,
        cookies=head.cookies,
        no_store=False,
        date=flow.runtime.clock.date(flow.began),
        cors=None,
    )
    return b"%b%b%b" % (before, flow.request_id, behind)


def note_answer(flow: Flow, head: UpstreamHead, body: bytes | None) -> None:
    """Notes what the route's own rules would make of a response; None is a body too long to see."""
    if _is_judged(flow):
        _note(flow, head, _action(flow, head), body)


def watched(flow: Flow, head: UpstreamHead, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a body as they come; at their end it is noted what would become of it."""
    action = _action(flow, head)
    if not _is_judged(flow):
        return pieces
    if action is WRAP or action is INSPECT:
        return _collected(flow, head, action, pieces)
    _note(flow, head, action, None)
    return pieces


async def _collected(
    flow: Flow, head: UpstreamHead, action: Action, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    held, size = [], 0
    async for data in pieces:
        size += len(data)
        if size <= LOOKED_INTO:
            held.append(data)
        yield data
    _note(flow, head, action, b"".join(held) if size <= LOOKED_INTO else None)


def _is_judged(flow: Flow) -> bool:
    """Whether the request would have come to its upstream at all."""
    return flow.observation is not None and not flow.observation.is_refused


def _action(flow: Flow, head: UpstreamHead) -> Action:
    rules, seen = flow.route.observes, flow.observation
    assert rules is not None
    assert seen is not None
    statuses = flow.runtime.policy.unauthorized.statuses
    return decide(rules, head, flow.is_head, statuses, seen.counts)


def _note(flow: Flow, head: UpstreamHead, action: Action, body: bytes | None) -> None:
    runtime, rules, seen = flow.runtime, flow.route.observes, flow.observation
    assert rules is not None
    assert seen is not None
    document = None
    if body and len(body) <= LOOKED_INTO and (action is WRAP or action is INSPECT):
        document = _read(head, body)
    rule = runtime.policy.unauthorized
    is_told = seen.counts and isinstance(document, Document)
    is_told = is_told and rule.is_told_by(document, head.status)  # type: ignore[arg-type]
    change = answer_change(action, head.status, document, is_told=is_told)
    if change is Would.END_SESSION:
        change = _instead_of_the_end(flow)
    if change is not None:
        note(flow, change)
    if rules.strip_cookies and rules.session != "none":
        judge = runtime.set_cookies
        if any(judge.is_session_cookie(one) for one in head.cookies):
            note(flow, Would.DROP_SET_COOKIE)


def _instead_of_the_end(flow: Flow) -> Would | None:
    """A prefetch ends nothing, and what can be renewed is renewed first."""
    if flow.request.client is Client.PREFETCH:
        return None
    can_renew = flow.runtime.coordinator.can_renew(flow.presented)
    return Would.RENEW if can_renew else Would.END_SESSION


def _read(head: UpstreamHead, body: bytes) -> Document | InvalidJSON | None:
    """What a body is, None if it takes long to find out."""
    coding = content_coding(head.fact(b"content-encoding"))
    if coding:
        if not is_decodable(coding):
            return None
        parts: list[bytes] = []
        try:
            for part in Inflater().feed(body):
                parts.append(part)
                if sum(map(len, parts)) > DECODED:
                    return None
        except CorruptCoding:
            return None
        body = b"".join(parts)
    try:
        return parse_at_once(body)
    except InvalidJSON as error:
        return InvalidJSON(*error.args)  # without the frames that it holds
    except NeedsWalk:
        return None
