"""The story of one session, out of all that is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.core.record import replace
from sidecar.observation.first_seen import KIND
from sidecar.observation.status_model import RefusedRow, SessionEvent, Story, TroubleRow

LOGIN: Final = "login"


def story_of(
    asked: str,
    events: Sequence[SessionEvent],
    trouble: Sequence[TroubleRow],
    refused: Sequence[RefusedRow],
) -> Story:
    """What happened to the session that `asked` names: by its fingerprint, or by a request id.

    A request without a session is told by itself.
    """
    rows: tuple[SessionEvent | RefusedRow | TroubleRow, ...] = (*events, *trouble, *refused)
    named = [one.session for one in rows if one.request_id == asked and one.session is not None]
    session = next(iter(named), None)
    if session is None and any(one.session == asked for one in rows):
        session = asked
    if session is None:
        return Story(
            None,
            tuple(one for one in events if one.request_id == asked),
            tuple(one for one in trouble if one.request_id == asked),
            tuple(one for one in refused if one.request_id == asked),
        )
    return Story(
        session,
        tuple(one for one in events if one.session == session),
        tuple(one for one in trouble if one.session == session),
        tuple(one for one in refused if one.session == session),
    )


NOTHING: Final = Story(None, (), (), ())


def begun(story: Story, first: SessionEvent | None) -> Story:
    """The story with the first request of its session, unless a login is what it begins with.

    Of several workers each has seen the session first, and the earliest counts.
    """
    told = [one for one in story.events if one.kind != KIND]
    firsts = [one for one in (first, *story.events) if one is not None and one.kind == KIND]
    if not firsts or any(one.kind == LOGIN for one in told):
        return replace(story, events=tuple(told))
    return replace(story, events=(min(firsts, key=lambda one: one.at), *told))
