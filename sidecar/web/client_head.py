"""The head of an upstream's response as its client gets it."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING

from sidecar.core.forwarding import clean_response
from sidecar.core.headers import is_for_everybody
from sidecar.core.https_site import HttpsSite
from sidecar.core.known_heads import keep
from sidecar.core.sweep import room_beside
from sidecar.web.observing import head_as_it_came
from sidecar.web.origin import public_origin, scope_of
from sidecar.web.session_end import signed_out, sweep_lines
from sidecar.web.storm_brake import note_success

if TYPE_CHECKING:
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.web.flow import Flow


def render_head(
    flow: Flow, head: UpstreamHead, *, wrapped: bool, coding: bytes | None = None
) -> bytes:
    """Returns the head without framing.

    `coding` is that of an envelope (`web.compression.coding_for`). What the response sets and
    expires takes effect here: sessions begin and end.
    """
    if flow.ends_at_head:
        flow.run_callbacks()
    if flow.observation is not None:
        return head_as_it_came(flow, head)
    if flow.counts and head.status < 300:
        if flow.presented.is_raw:
            _accept(flow, head)
        if flow.runtime.brakes.watched:
            note_success(flow, head)
    policy = flow.runtime.policy
    by_origin = policy.cors.is_on
    sets_cookies = head.cookies or flow.sweeps or flow.presented.sets
    private = flow.live is not None and flow.route.vouches
    # A head that came before is given out as it was then, unless something else has a part in it.
    facts, site, sent_host = head.facts, None, b""
    if b"location" in facts or b"content-location" in facts:
        site = HttpsSite.of(public_origin(flow))
        sent_host = flow.request.host if flow.route.maps_host else b""
    is_alone = not (sets_cookies or by_origin or site) and b"date" in facts
    made = head.made if is_alone else None
    parts = None
    if made is not None:
        key = flow.route, wrapped, private, coding, sent_host
        parts = made.get(key)
    if parts is None:
        cookies, no_store = _cookies(flow, head) if sets_cookies else ((), False)
        parts = clean_response(
            head,
            flow.route,
            wrapped=wrapped,
            private=private,
            cookies=cookies,
            no_store=no_store,
            date=flow.runtime.clock.date(flow.began),
            cors=b"" if flow.route.vouches and not by_origin else _cors(flow, head),
            by_origin=by_origin,
            coding=coding,
            site=site,
            sent_host=sent_host,
        )
        if made is not None:
            keep(made, key, parts)
    before, behind = parts
    return b"%b%b%b" % (before, flow.request_id, behind)


def _accept(flow: Flow, head: UpstreamHead) -> None:
    """An upstream has accepted a plain credential, unless every client would get that response.

    A shared cache may keep a response to a request with Authorization only if it says so, which
    then says nothing about the credential (RFC 9111 3.5).
    """
    evidence, fingerprint = flow.runtime.revocations.evidence, flow.presented.fingerprint
    if fingerprint is None or fingerprint in evidence.accepted:
        return
    if not is_for_everybody(head.fact(b"cache-control")):
        evidence.accept(fingerprint)


def _cors(flow: Flow, head: UpstreamHead) -> bytes | None:
    """The CORS lines of a response; None leaves the upstream's own policy as it is."""
    cors, lines = flow.runtime.policy.cors, b""
    if cors.is_on:
        exposed = head.fact(b"access-control-expose-headers")
        lines = cors.lines(flow.facts, exposed)
    return lines if lines or flow.route.owns_cors else None


def _cookies(flow: Flow, head: UpstreamHead) -> tuple[list[bytes], bool]:
    """The Set-Cookie values that may pass, and whether one of them is a session's."""
    runtime, route = flow.runtime, flow.route
    judge = runtime.set_cookies
    if route.strip_cookies and route.session != "none":
        passed = [one for one in head.cookies if not judge.is_session_cookie(one)]
    else:
        passed = judge.admit(head.cookies, flow.presented, flow.began, time())
    runtime.metrics.cookies_dropped += len(head.cookies) - len(passed)
    if flow.presented.sessions and flow.by_cookie and passed:
        domains, paths = runtime.policy.sweep.places(scope_of(flow))
        ended = judge.ended_by(passed, flow.presented, flow.began, domains=domains, paths=paths)
        if ended:
            signed_out(flow, ended)
    set_here = [one for one in passed if judge.is_session_cookie(one)]
    if set_here:
        host = scope_of(flow).host
        for cookie in set_here:
            runtime.seen.learn(cookie, host, flow.began)
    if flow.sweeps:
        more: Sequence[bytes] = sweep_lines(flow, room_beside(head.size), passed)
    else:
        # What the upstream sets itself was made of the renewed session, or is another one.
        more = () if set_here else flow.renewed_cookies
    return [*passed, *more], bool(set_here or more)
