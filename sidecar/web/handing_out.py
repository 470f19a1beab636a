"""Responses that hand out a token in their body: one that has ended lives again by that.

Only routes that let nobody in by a session do so (`session: none`), and only while there are dead
sessions is anything read for it: JSON within `envelope.buffer`, of a success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.credential import credentials_in

if TYPE_CHECKING:
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.web.flow import Flow


def may_hand_out(flow: Flow) -> bool:
    """Whether the response to a request is worth reading."""
    return flow.route.session == "none" and bool(flow.runtime.revocations.tombstones)


def note(flow: Flow, head: UpstreamHead, text: bytes) -> None:
    """Looks at a JSON body that is here to its end. An error may repeat what it was sent."""
    if head.status < 300 and may_hand_out(flow):
        now = flow.runtime.clock.now()
        credentials = credentials_in(text)
        flow.runtime.set_cookies.hand_out(credentials, flow.presented, flow.began, now)
