"""What outlives an answer's head is tied to its session: it ends at logout and at expiry."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.web.flow import Flow

LONGEST_TIMER = 86400.0 * 30  # seconds; event loops count milliseconds in 32 bits at the least


def end_with_session(flow: Flow, close: Callable[[], None]) -> None:
    """Calls `close` when the session of `flow` ends or expires, unless the flow ends before."""
    runtime, fingerprint, presented = flow.runtime, flow.live, flow.presented
    if fingerprint is None or presented is None:
        return
    if runtime.sessions.is_dead(fingerprint, runtime.clock.now()):
        close()  # it died while the answer's head was on its way
        return
    runtime.sessions.attach(fingerprint, close)
    timer = None
    if presented.valid_until != inf:
        remaining = presented.valid_until - runtime.clock.now()
        timer = runtime.loop.call_later(min(max(remaining, 0.0), LONGEST_TIMER), close)

    before = flow.on_end

    def detach() -> None:
        if before is not None:
            before()
        runtime.sessions.detach(fingerprint, close)
        if timer is not None:
            timer.cancel()

    flow.on_end = detach
