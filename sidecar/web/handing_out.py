"""Responses that hand out a token in their body: one that has ended lives again by that.

Only routes that let nobody in by a session do so (`session: none`), and only while there are dead
sessions is anything read for it: JSON within `envelope.buffer`, of a success. What anybody could
have brought there hands nothing out: what the request holds itself, what a GET or a cache shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.credential import credentials_in
from sidecar.core.headers import is_for_everybody
from sidecar.core.repetition import SentText
from sidecar.core.request import SAFE_METHODS

if TYPE_CHECKING:
    from sidecar.core.upstream_head import UpstreamHead
    from sidecar.web.flow import Flow


def may_hand_out(flow: Flow) -> bool:
    """Whether the response to a request is worth reading."""
    return (
        flow.route.session == "none"
        and flow.method not in SAFE_METHODS
        and bool(flow.runtime.revocations.tombstones)
    )


def note(flow: Flow, head: UpstreamHead, text: bytes) -> None:
    """Looks at a JSON body that is here to its end. An error may repeat what it was sent."""
    if head.status >= 300 or is_for_everybody(head.fact(b"cache-control")):
        return
    fields = flow.request.fields.raw
    if flow.streaming_body or any(name.lower() == b"content-encoding" for name, _ in fields):
        return  # the request may hold any credential
    if may_hand_out(flow):
        flow.runtime.set_cookies.hand_out(
            credentials_in(text),
            flow.presented,
            flow.began,
            flow.runtime.clock.now(),
            is_repeated=SentText(b"\n".join((flow.head, *(value for _, value in fields)))).holds,
        )
