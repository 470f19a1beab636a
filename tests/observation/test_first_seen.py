"""Where sessions were seen first: bounded, and strangers' apart."""

from __future__ import annotations

from sidecar.core.record import replace
from sidecar.observation.first_seen import PROVEN, UNPROVEN, FirstSeen
from sidecar.observation.status_model import SessionEvent, Story
from sidecar.observation.story import begun

EVENT = SessionEvent(1.0, "opened", "real", request_id="id", route="/api", source="cookie")


def test_first_one_counts_and_proof_keeps_it() -> None:
    """A session that is proven later keeps its time, and leaves the strangers' space."""
    first = FirstSeen()
    first.note(EVENT, is_proven=False)
    assert not first.knows("real")
    first.note(replace(EVENT, at=2.0, request_id="other"), is_proven=True)
    for at in range(UNPROVEN + 1):
        first.note(replace(EVENT, session=f"invented {at}", at=3.0), is_proven=False)
    assert first.knows("real")
    assert first.event("real") == EVENT
    assert first.session_of("id") == "real"
    assert first.event("invented 0") is None
    assert first.event(None) is None


def test_among_more_sessions_than_are_remembered_it_is_not_certain() -> None:
    first = FirstSeen()
    for at in range(PROVEN + 1):
        first.note(replace(EVENT, session=str(at)), is_proven=True)
    assert first.event("0") is None
    first.note(replace(EVENT, session="0"), is_proven=True)
    again, early = first.event("0"), first.event("2")
    assert again is not None
    assert early is not None
    assert "may have been here before" in again.detail
    assert early.detail == ""


def test_a_login_is_the_beginning_of_a_story() -> None:
    """Of several workers that have seen a session, the earliest counts."""
    later = replace(EVENT, at=5.0)
    ended = replace(EVENT, at=9.0, kind="ended")
    assert begun(Story("real", (later, ended), (), ()), EVENT).events == (EVENT, ended)
    login = replace(EVENT, kind="login", at=0.5)
    assert begun(Story("real", (login, ended), (), ()), EVENT).events == (login, ended)
