"""What outlives a response's head ends with its sessions (logout, expiry), or with the server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

LONGEST_TIMER = 86400.0 * 30  # seconds; event loops count milliseconds in 32 bits at the least


class _Ending:
    """The end of something that lasts, in its turn (`web.turn.PutOff`)."""

    __slots__ = ("go_on",)

    def __init__(self, close: Callable[[], None]) -> None:
        self.go_on: Final = close


def end_with_server(flow: Flow, close: Callable[[], None], kind: str) -> None:
    """Calls `close` when the server is about to end, unless the flow ends before.

    `kind` is what it counts as until then: `websocket` or `event_stream`.
    """
    lasting = flow.handler.lasting
    flow.on_finish(partial(lasting.discard, close))
    lasting.add(close, kind)


def end_with_session(flow: Flow, close: Callable[[], None]) -> None:
    """Calls `close` when a session that the upstream was shown ends, unless the flow ends before.

    All of one session at once would hold everybody else up, so each comes in its turn.
    That is the one whose credential was injected, and every one whose cookies were forwarded. At
    the expiry of the request's own session it is called as well, and once the route's `allow` does
    not let its user in any more. Routes that are only observed end nothing.
    """
    if flow.observation is not None:
        return
    runtime, view = flow.runtime, flow.presented
    places = _places(flow)
    if not places:
        return
    revocations, now = runtime.revocations, runtime.clock.now()
    if any(revocations.is_dead(fingerprint, now) for fingerprint, _ in places):
        close()  # it died while the response's head was on its way
        return
    turns, ending = flow.handler.lasting.turns, _Ending(close)
    end = partial(turns.put_off, ending)
    for fingerprint, gate in places:
        revocations.attach(fingerprint, end, gate)
    timer = None
    if flow.live is not None and view.valid_until != inf:
        remaining = min(max(view.valid_until - now, 0.0), LONGEST_TIMER)
        timer = runtime.loop.call_later(remaining, end)

    def detach() -> None:
        for fingerprint, gate in places:
            revocations.detach(fingerprint, end, gate)
        if timer is not None:
            timer.cancel()
        turns.forget(ending)

    flow.on_finish(detach)


def _shown(flow: Flow) -> frozenset[str]:
    shown = set() if flow.live is None else {flow.live}
    if flow.by_cookie and not flow.route.strip_cookies:
        shown.update(flow.presented.living)
    return frozenset(shown)


def _places(flow: Flow) -> list[tuple[str, str]]:
    """What closes a flow: the ends of its sessions, and the gates that its user has passed."""
    ends = [(fingerprint, "") for fingerprint in _shown(flow)]
    passed = flow.route.gates if flow.live is not None else ()
    return ends + [(flow.live or "", gate.name) for gate in passed]
