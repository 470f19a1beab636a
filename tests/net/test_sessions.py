"""Sessions are opened once, die once and stay dead, and none of it grows without bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cookies import CookieJar, NameMatcher, Scope, collect_chunks
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.formats.own import (
    Lifetimes,
    OwnSession,
    Profile,
    new_session,
    own_store_source,
)
from sidecar.core.formats.raw import raw_source
from sidecar.core.tickets import Signer
from sidecar.core.tokens import TokenSet
from sidecar.net import sessions as module
from sidecar.net.sessions import NOTHING_PRESENTED, UNKNOWN_LIFETIME, Presented, Sessions

NOW = 1_700_000_000.0
HOUR = 3600.0
SIGNER = Signer([b"s" * 32])


@dataclass
class Claims:
    """A source whose cookie `sid`, whole or in chunks, is `token~expiry`; it counts its work."""

    type: str = "claims"
    base_names: tuple[str, ...] = ("sid",)
    opened: int = 0

    def read(self, jar: CookieJar, now: float) -> Reading:
        chunks = collect_chunks(jar, "sid", ".")
        found: list[tuple[tuple[str, ...], str]] = [
            (("sid",), value) for value in jar.values("sid") if value
        ]
        if chunks is not None:
            found += [(chunks.names, value) for value in chunks.joined or ("broken",)]
        for names, value in found:
            self.opened += 1
            token, _, expiry = value.partition("~")
            if not expiry.isdigit() or not is_b64token(token):
                return Reading(Result.INVALID, "claims", "sid", names)
            result = Result.OK if now < float(expiry) else Result.EXPIRED
            return Reading(result, "claims", "sid", names, token=token, valid_until=float(expiry))
        return Reading(Result.NO_SESSION)


def make(claims: Claims | None = None) -> Sessions:
    sources = (claims or Claims(), raw_source(cookie="access_token"))
    return Sessions(sources, NameMatcher(["sid", "access_token"]), SIGNER)


def sid(token: str, lifetime: float = HOUR) -> bytes:
    return b"sid=%b~%d" % (token.encode(), NOW + lifetime)


# -- what is presented ---------------------------------------------------------------------------


def test_a_session_is_opened_once() -> None:
    """The second request of a session costs a look-up."""
    claims = Claims()
    sessions = make(claims)
    first = sessions.present(sid("tok"), NOW)
    assert sessions.present(sid("tok"), NOW + 1) is first
    assert claims.opened == 1
    assert first.authorization == b"Authorization: Bearer tok\r\n"
    assert first.fingerprint == SIGNER.fingerprint("tok")


def test_a_remembered_session_ends_when_it_says() -> None:
    """The cache never makes a session outlive its expiry."""
    sessions = make()
    presented = sessions.present(sid("tok", 10), NOW)
    assert presented.fingerprint is not None
    later = sessions.present(sid("tok", 10), NOW + 10)
    assert later.reading.result is Result.EXPIRED
    assert later.fingerprint is None
    assert later.authorization == b""


@pytest.mark.parametrize(
    ("cookie", "result"),
    [
        (b"", Result.NO_SESSION),
        (b"a=1", Result.NO_SESSION),
        (b"sid=broken", Result.INVALID),
        (b"sid=tok~1", Result.EXPIRED),
        (b"access_token=a b", Result.BAD_TOKEN),
        (b"access_token=a\xff", Result.BAD_TOKEN),
    ],
)
def test_without_a_live_credential_nothing_is_injected(cookie: bytes, result: Result) -> None:
    """No fingerprint, no Authorization line."""
    presented = make().present(cookie, NOW)
    assert presented.reading.result is result
    assert presented.fingerprint is None
    assert presented.authorization == b""


@given(st.binary(max_size=60))
def test_any_cookie_text_can_be_presented(cookie: bytes) -> None:
    """Latin-1 or not, it is read without raising, and what is left is part of it."""
    presented = make().present(cookie, NOW)
    if presented.reading.result is Result.NO_SESSION:
        assert presented.others in (cookie, b"")
    assert b"\n" not in presented.authorization[:-2]


def test_other_cookies_stay_byte_for_byte() -> None:
    """Session cookies go, whole and chunks, everything else stays (threat 7)."""
    cookie = b'a="x; y";  ' + sid("tok") + b"; sid.0=x; __Host-access_token=t; b=\xff;c"
    assert make().present(cookie, NOW).others == b'a="x; y"; b=\xff;c'


@pytest.mark.parametrize(
    ("cookie", "ambiguous"),
    [
        (b"a=1", False),
        (sid("tok"), False),
        (b"a=1; " + sid("tok"), False),
        (b"sid.0=to; sid.1=k~%d" % (NOW + HOUR), False),
        (sid("tok") + b"; " + sid("dead"), True),
        (sid("tok") + b"; access_token=x", True),
        (sid("tok") + b"; sid.0=x", True),
        (sid("tok") + b"; __Secure-sid=x", True),
        (b"sid=broken", True),
        (b"sid=tok~1", True),
    ],
)
def test_more_session_cookies_than_were_read_are_noticed(cookie: bytes, ambiguous: bool) -> None:
    """Another session may hide in those that were not."""
    assert make().present(cookie, NOW).ambiguous is ambiguous


# -- the cache -------------------------------------------------------------------------------------


def test_the_cache_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of new cookies pushes the oldest out."""
    monkeypatch.setattr(module, "CACHE_BYTES", 50_000)
    claims = Claims()
    sessions = make(claims)
    for number in range(200):
        sessions.present(sid(f"tok{number}"), NOW)
        assert sessions.cached <= 50
    opened = claims.opened
    sessions.present(sid("tok199"), NOW)
    assert claims.opened == opened
    sessions.present(sid("tok0"), NOW)
    assert claims.opened == opened + 1


def test_a_cookie_larger_than_the_cache_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it leave the count wrong for those that come after."""
    monkeypatch.setattr(module, "CACHE_BYTES", 10_000)
    sessions = make()
    sessions.present(b"a=" + b"x" * 20_000, NOW)
    assert sessions.cached == 0
    sessions.present(sid("tok"), NOW)
    assert sessions.cached == 1


def test_reading_again_does_not_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is replaced gives its room back."""
    monkeypatch.setattr(module, "CACHE_BYTES", 5_000)
    sessions = make()
    for number in range(20):
        both = sid(f"tok{number}", 10) + b"; access_token=other"
        for now in (NOW, NOW + 10):
            assert sessions.present(both, now).fingerprint is not None
    assert sessions.cached >= 3


def test_an_expired_session_is_not_kept() -> None:
    """Nobody needs it any more, and it holds a token."""
    sessions = make()
    sessions.present(sid("tok", 10), NOW)
    assert sessions.cached == 1
    sessions.present(sid("tok", 10), NOW + 10)
    assert sessions.cached == 0


def test_guesses_are_not_remembered() -> None:
    """What does not open costs the guesser, not the memory."""
    sessions = make()
    for number in range(100):
        sessions.present(b"sid=guess%d" % number, NOW)
    assert sessions.cached == 0


# -- death -----------------------------------------------------------------------------------------


def test_a_dead_session_is_refused_and_forgotten() -> None:
    """Every cookie that holds the credential, and nobody else's."""
    sessions = make()
    presented = sessions.present(sid("tok"), NOW)
    sessions.present(sid("tok", 2 * HOUR), NOW)
    other = sessions.present(sid("other"), NOW)
    sessions.bury(presented, NOW)
    assert sessions.cached == 1
    assert sessions.live_fingerprint(presented, NOW) is None
    for cookie in (sid("tok"), sid("tok", 2 * HOUR), b"access_token=tok"):
        assert sessions.live_fingerprint(sessions.present(cookie, NOW), NOW) is None
    assert sessions.live_fingerprint(other, NOW) == other.fingerprint


@given(
    st.lists(
        st.tuples(st.sampled_from(["tok", "other", "third"]), st.integers(1, 9), st.booleans()),
        max_size=30,
    )
)
def test_what_is_remembered_of_a_session_is_found_at_its_death(
    steps: list[tuple[str, int, bool]],
) -> None:
    """However it was read, expired, pushed out and read again in between."""
    sessions = make()
    cached: dict[bytes, str] = {}
    for token, lifetime, dies in steps:
        cookie = sid(token, lifetime)
        presented = sessions.present(cookie, NOW)
        cached[cookie] = token
        if dies:
            sessions.bury(presented, NOW)
            cached = {one: name for one, name in cached.items() if name != token}
        assert sessions.cached == len(cached)


@pytest.mark.parametrize(
    ("cookie", "dead_for"),
    [
        (sid("tok", HOUR), UNKNOWN_LIFETIME),
        (sid("tok", 2 * UNKNOWN_LIFETIME), 2 * UNKNOWN_LIFETIME),
        (b"access_token=tok", UNKNOWN_LIFETIME),
    ],
)
def test_it_stays_dead_while_the_credential_could_be_presented(
    cookie: bytes, dead_for: float
) -> None:
    """Longer than its cookie says, since it may have been re-sealed into one that ends later."""
    sessions = make()
    presented = sessions.present(cookie, NOW)
    sessions.bury(presented, NOW)
    assert sessions.is_dead(presented.fingerprint, NOW + dead_for - 1)
    assert not sessions.is_dead(presented.fingerprint, NOW + dead_for)


def test_nobody_cannot_die() -> None:
    """Burying what holds no session changes nothing."""
    sessions = make()
    sessions.bury(NOTHING_PRESENTED, NOW)
    assert sessions.dead == 0
    assert not sessions.is_dead(None, NOW)


def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of 401s forgets the oldest deaths first (threat 36)."""
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 10)
    sessions = make()
    for number in range(25):
        sessions.bury(sessions.present(b"access_token=t%d" % number, NOW), NOW)
    assert sessions.dead == 10
    assert sessions.is_dead(SIGNER.fingerprint("t24"), NOW)
    assert not sessions.is_dead(SIGNER.fingerprint("t14"), NOW)


# -- what an answer sets ---------------------------------------------------------------------------

ATTRIBUTES = b"; Path=/; HttpOnly"
DEAD = "dead"
SET_DEAD = sid(DEAD) + ATTRIBUTES
SET_OTHER = sid("other") + ATTRIBUTES
FREE = b"theme=dark; Path=/"
BEFORE, AFTER = NOW - 1, NOW + 1


def buried(token: str = DEAD) -> tuple[Sessions, Presented]:
    sessions = make()
    presented = sessions.present(sid(token), NOW - 2)
    sessions.bury(presented, NOW)
    return sessions, presented


@pytest.mark.parametrize(
    ("cookie", "began", "passes"),
    [
        # The answer to a request from before the logout came late (baseline, row 16).
        (sid(DEAD), BEFORE, False),
        (b"", BEFORE, False),
        (sid("other"), BEFORE, False),
        # The dead cookie, presented again.
        (sid(DEAD), AFTER, False),
        (sid(DEAD, 2 * HOUR), AFTER, False),
        (b"access_token=" + DEAD.encode(), AFTER, False),
        # A login: the API hands the same token out again.
        (b"", AFTER, True),
        (b"theme=dark", AFTER, True),
        (sid("other"), AFTER, True),
        # The dead cookie, smuggled beside one that is read.
        (sid("other") + b"; " + sid(DEAD), AFTER, False),
        (sid("other") + b"; access_token=" + DEAD.encode(), AFTER, False),
        (sid("other") + b"; sid.0=" + sid(DEAD)[4:], AFTER, False),
        (b"sid.0=" + sid(DEAD)[4:] + b"; sid.7=x", AFTER, False),
        (b"sid=broken", AFTER, False),
        # At the very moment: in doubt it was before.
        (b"", NOW, False),
    ],
)
@pytest.mark.parametrize(
    "session_cookies",
    [
        [SET_DEAD],
        [b"__Host-access_token=" + DEAD.encode() + ATTRIBUTES],
        [b"sid.0=de", b"sid.1=" + sid(DEAD)[6:], b"sid=; Max-Age=0"],
        [b"=" + SET_DEAD],
    ],
)
def test_a_dead_credential_is_not_set_again(
    cookie: bytes, began: float, passes: bool, session_cookies: list[bytes]
) -> None:
    """Unless it was handed out anew: begun after the logout, the dead session not presented."""
    sessions, _ = buried()
    answer = [FREE, *session_cookies]
    passed = sessions.admit(answer, sessions.present(cookie, began), began, AFTER + 1)
    if passes:
        assert passed == answer
        assert sessions.dead == 0
    else:
        assert FREE in passed
        assert all(DEAD.encode() not in one for one in passed)
        assert not set(session_cookies[:2]) & set(passed)
        assert sessions.dead == 1


def test_a_dead_credential_does_not_hide_behind_another() -> None:
    """Each Set-Cookie is judged for itself, whichever source wins."""
    sessions, presented = buried()
    raw = b"access_token=" + DEAD.encode()
    answer = [SET_OTHER, raw, SET_OTHER.replace(b"other", b"third")]
    passed = sessions.admit(answer, presented, BEFORE, AFTER)
    assert passed == [SET_OTHER, answer[2]]


def test_old_values_that_are_deleted_hide_nothing() -> None:
    """`access_token=deleted` beside the dead token itself."""
    sessions, presented = buried()
    answer = [b"access_token=deleted; Path=/a; Max-Age=0", b"access_token=" + DEAD.encode()]
    assert answer[1] not in sessions.admit(answer, presented, BEFORE, AFTER)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [FREE, b"a=1"],
        [SET_OTHER, FREE],
        [b"sid=; Max-Age=0", b"sid.0=; Max-Age=0"],
        [b"sid=broken"],
        [b"sid"],
    ],
)
def test_everything_else_passes_in_order(answer: list[bytes]) -> None:
    """Other sessions, deletions, cookies that are no session's."""
    sessions, presented = buried()
    assert sessions.admit(answer, presented, BEFORE, AFTER) == answer
    assert sessions.dead == 1
    assert make().admit([SET_DEAD], NOTHING_PRESENTED, NOW, NOW) == [SET_DEAD]


def test_a_tombstone_that_is_over_stops_nothing() -> None:
    """Nor is it lifted: it is just past."""
    sessions, presented = buried()
    later = NOW + UNKNOWN_LIFETIME
    answer = [b"access_token=" + DEAD.encode()]
    assert sessions.admit(answer, presented, BEFORE, later) == answer


def test_a_second_401_does_not_undo_a_login_in_between() -> None:
    """Two 401s are one death (lessons: two logouts from two 401s)."""
    sessions, presented = buried()
    sessions.bury(presented, NOW + 2)
    assert sessions.admit([SET_DEAD], NOTHING_PRESENTED, NOW + 1, NOW + 3) == [SET_DEAD]


def test_a_death_after_a_revival_counts_anew() -> None:
    """Once lifted, the old tombstone has no say about the next."""
    sessions, presented = buried()
    sessions.admit([SET_DEAD], NOTHING_PRESENTED, AFTER, AFTER)
    sessions.bury(presented, NOW + 5)
    assert sessions.admit([SET_DEAD], NOTHING_PRESENTED, NOW + 4, NOW + 6) == []


@pytest.mark.parametrize(
    ("set_cookie", "is_session"),
    [
        (b"sid=x; Path=/", True),
        (b" sid = x", True),
        (b"=sid=x", True),
        (b"__Host-sid=x", True),
        (b"__Secure-access_token.0=x", True),
        (b"sid.12=x", True),
        (b"sid__3=x", True),
        (b"sidecar=x", False),
        (b"sid.x=x", False),
        (b"x=sid=1", False),
        (b"SID=x", False),
        (b"sid", False),
        (b"", False),
    ],
)
def test_session_cookies_are_known_by_name(set_cookie: bytes, is_session: bool) -> None:
    """Base or chunk, under each prefix (threat 8)."""
    assert make().is_session_cookie(set_cookie) is is_session


# -- what lives as long as the session -------------------------------------------------------------


def test_streams_end_with_their_session() -> None:
    """Each once, and those of others not at all (threat 59)."""
    sessions = make()
    presented = sessions.present(sid("tok"), NOW)
    other = sessions.present(sid("other"), NOW)
    assert presented.fingerprint is not None
    assert other.fingerprint is not None
    closed: list[str] = []

    def detaching() -> None:
        closed.append("first")
        sessions.detach(SIGNER.fingerprint("tok"), detaching)

    def staying() -> None:
        closed.append("second")

    def never() -> None:
        closed.append("other")

    sessions.attach(presented.fingerprint, detaching)
    sessions.attach(presented.fingerprint, staying)
    sessions.attach(other.fingerprint, never)
    sessions.bury(presented, NOW)
    assert sorted(closed) == ["first", "second"]


def test_a_stream_that_has_ended_is_let_go() -> None:
    """Detaching twice, or what was never attached, is harmless."""
    sessions = make()
    presented = sessions.present(sid("tok"), NOW)
    assert presented.fingerprint is not None
    closed: list[int] = []

    def close() -> None:
        closed.append(1)

    sessions.attach(presented.fingerprint, close)
    for _ in range(2):
        sessions.detach(presented.fingerprint, close)
    sessions.bury(presented, NOW)
    assert closed == []


def test_nothing_presented_is_nothing() -> None:
    """The stand-in before cookies were read never expires and injects nothing."""
    assert NOTHING_PRESENTED.valid_until == inf
    assert NOTHING_PRESENTED.authorization == b""
    assert NOTHING_PRESENTED.fingerprint is None


# -- own sessions in the store ---------------------------------------------------------------------


def stored(**more: Any) -> OwnSession:
    session = new_session(
        b"i" * 32,
        SIGNER.fingerprint,
        cookie="own",
        subject="alice",
        sid=None,
        tokens=TokenSet("access", "refresh", NOW + HOUR, NOW),
        profile=Profile(),
        now=NOW,
    )
    return replace(session, **more)


def keeping() -> tuple[Sessions, bytes]:
    """Sessions that are kept in a store, and the cookie of one."""
    source = own_store_source(cookie="own", lifetimes=Lifetimes(10 * HOUR, 100 * HOUR))
    (line,) = source.lines(stored(), (), Scope())
    sessions = Sessions((source,), NameMatcher(source.base_names), SIGNER, 60.0, own=source)
    return sessions, line.partition(b";")[0]


def test_a_stored_session_is_loaded_before_it_is_known() -> None:
    """Until then nobody is told that it is known; then it is, for that cookie."""
    sessions, cookie = keeping()
    unknown = sessions.present(cookie, NOW)
    (handle,) = unknown.handles
    assert (unknown.fingerprint, unknown.is_checked) == (None, False)
    adopted = sessions.adopt(cookie, handle, stored(), NOW)
    assert adopted is not None
    assert adopted.authorization == b"Authorization: Bearer access\r\n"
    assert sessions.present(cookie, NOW) is adopted
    assert sessions.known(handle.fingerprint) is adopted


def test_a_handle_that_is_not_the_sessions_gets_nothing() -> None:
    sessions, cookie = keeping()
    (handle,) = sessions.present(cookie, NOW).handles
    assert sessions.adopt(cookie, handle._replace(id="guessed"), stored(), NOW) is None
    assert sessions.present(cookie, NOW).fingerprint is None


def test_a_session_that_changes_is_read_again_by_all_who_have_it() -> None:
    """Whatever cookies it came with: plans that were made with it hold no longer."""
    sessions, cookie = keeping()
    (handle,) = sessions.present(cookie, NOW).handles
    other = cookie + b"; a=b"
    old = [sessions.adopt(one, handle, stored(), NOW) for one in (other, cookie)][1]
    assert old is not None
    new = sessions.adopt(other, handle, stored(tokens=TokenSet("next", "r", NOW + 9)), NOW)
    assert old.renews_at == 0.0
    assert sessions.present(other, NOW) is new
    assert sessions.present(cookie, NOW).fingerprint is None


def test_a_session_without_its_cookie_is_remembered_for_nobody() -> None:
    """One that is known by its bearer: requests without cookies are other people's."""
    sessions, cookie = keeping()
    (handle,) = sessions.present(cookie, NOW).handles
    adopted = sessions.adopt(b"", handle, stored(), NOW)
    assert adopted is not None
    for presented in (
        sessions.rename(adopted, "another"),
        sessions.supersede(adopted),
        adopted,
    ):
        assert presented is not sessions.present(b"", NOW)
    assert sessions.present(b"", NOW).reading.result is Result.NO_SESSION


def test_the_tombstone_of_an_own_session_lasts_as_long_as_it_could() -> None:
    sessions, cookie = keeping()
    (handle,) = sessions.present(cookie, NOW).handles
    adopted = sessions.adopt(cookie, handle, stored(), NOW)
    assert adopted is not None
    sessions.bury(adopted, NOW)
    assert sessions.tombs[handle.fingerprint].until == NOW + 100 * HOUR
    assert sessions.is_dead(handle.fingerprint, NOW + 99 * HOUR)
    assert not sessions.is_dead(handle.fingerprint, NOW + 100 * HOUR)


def test_an_own_session_is_known_by_its_id_alone() -> None:
    """Some providers hand out one token again: the next login is another session all the same."""
    sessions, cookie = keeping()
    (handle,) = sessions.present(cookie, NOW).handles
    adopted = sessions.adopt(cookie, handle, stored(), NOW)
    assert adopted is not None
    sessions.bury(adopted, NOW)
    next_one = stored(id="next", fingerprint=SIGNER.fingerprint("next"))
    (again,) = sessions.present(b"own=next." + next_one.fingerprint.encode(), NOW).handles
    presented = sessions.adopt(b"own=next", again, next_one, NOW)
    assert presented is not None
    assert sessions.live_fingerprint(presented, NOW) == next_one.fingerprint
