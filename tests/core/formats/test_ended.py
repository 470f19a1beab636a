"""A provider's logout counts for sessions that nobody knew when it came."""

from __future__ import annotations

import pytest

from sidecar.core.formats.ended import MOST, EndedSessions
from sidecar.core.formats.login_session import LoginSession
from sidecar.core.token_set import TokenSet


def session(created_at: float, sid: str | None = "s", subject: str = "alice") -> LoginSession:
    return LoginSession("id", "fp", "sidecar", subject, TokenSet("t"), created_at, created_at, sid)


@pytest.mark.parametrize(
    ("subject", "sid", "one", "is_covered"),
    [
        ("alice", None, session(10.0), True),
        ("alice", None, session(10.0, None), True),
        ("alice", None, session(10.1), False),
        ("alice", None, session(1.0, subject="bob"), False),
        (None, "s", session(10.0), True),
        (None, "s", session(10.0, None), False),
        (None, "s", session(10.0, "other"), False),
        ("alice", "s", session(10.0, "other"), False),
        ("alice", "s", session(10.0, None), True),
        ("alice", "s", session(10.0, None, "bob"), False),
    ],
)
def test_what_a_logout_token_ends(
    subject: str | None, sid: str | None, one: LoginSession, *, is_covered: bool
) -> None:
    """The named session; of a user without one, all; and never what began later."""
    ended = EndedSessions()
    assert not ended.covers(one)
    ended.add(subject, sid, 10.0)
    assert ended.covers(one) is is_covered


def test_names_are_bounded() -> None:
    ended = EndedSessions()
    for number in range(MOST + 1):
        ended.add(f"user {number}", None, 10.0)
    covered = [ended.covers(session(1.0, subject=f"user {at}")) for at in (0, 1, MOST)]
    assert covered == [False, True, True]
