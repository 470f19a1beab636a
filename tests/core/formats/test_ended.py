"""A provider's logout counts for sessions that nobody knew when it came."""

from __future__ import annotations

import pytest

from sidecar.core.formats.ended import MOST, EndedSessions
from sidecar.core.formats.login_session import LoginSession, Profile
from sidecar.core.token_set import TokenSet


def session(
    created_at: float,
    sid: str | None = "s",
    subject: str = "alice",
    *,
    email: str | None = None,
    is_verified: bool = True,
) -> LoginSession:
    profile = Profile(email=email, claims={"email": email, "email_verified": is_verified})
    times = (created_at, created_at)
    return LoginSession("id", "fp", "sidecar", subject, TokenSet("t"), *times, sid, profile)


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


@pytest.mark.parametrize(
    ("one", "is_covered"),
    [
        (session(10.0, email="alice@example.com"), True),
        (session(10.0, email="Alice@EXAMPLE.com", sid=None, subject="else"), True),
        (session(10.1, email="alice@example.com"), False),
        (session(10.0, email="alice@example.com", is_verified=False), False),
        (session(10.0, email="alice@other.example"), False),
        (session(10.0), False),
    ],
)
def test_what_an_email_ends(one: LoginSession, *, is_covered: bool) -> None:
    """Every session that has it verified, in any spelling; and never what began later."""
    ended = EndedSessions()
    ended.add_email("alice@example.com", 10.0)
    assert ended.covers(one) is is_covered
    ended.add("alice", None, 1.0)
    assert ended.covers(one) is is_covered, "names of other kinds change nothing"


def test_names_are_bounded() -> None:
    ended = EndedSessions()
    for number in range(MOST + 1):
        ended.add(f"user {number}", None, 10.0)
    covered = [ended.covers(session(1.0, subject=f"user {at}")) for at in (0, 1, MOST)]
    assert covered == [False, True, True]
    for number in range(MOST + 1):
        ended.add_email(f"{number}@example.com", 10.0)
    emails = [session(1.0, email=f"{at}@example.com") for at in (0, 1, MOST)]
    assert [ended.covers(one) for one in emails] == [False, True, True]
