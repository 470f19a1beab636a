"""Sessions are opened once, die once and stay dead, and none of it grows without bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar, NameMatcher, collect_chunks
from sidecar.core.credential import Reading, Result, is_b64token
from sidecar.core.formats.iron import iron_source
from sidecar.core.formats.login_session import (
    Lifetimes,
    LoginSession,
    Profile,
    login_store_source,
    new_session,
)
from sidecar.core.formats.raw import raw_source
from sidecar.core.proof import Proof
from sidecar.core.record import replace
from sidecar.core.tickets import Signer
from sidecar.core.token_set import TokenSet
from sidecar.core.view import NOTHING_PRESENTED, SessionView, ViewReader
from sidecar.sessions import bounds, evidence, tombstones, view_cache
from sidecar.sessions.local import LocalSessions, local_sessions
from sidecar.sessions.revocations import UNKNOWN_LIFETIME
from sidecar.sessions.set_cookies import MOST_HANDED_OUT

NOW = 1_700_000_000.0
HOUR = 3600.0
SIGNER = Signer([b"s" * 32])


@dataclass
class Claims:
    """A source whose cookie `sid`, whole or in chunks, is `token~expiry`; it counts its work."""

    type: str = "claims"
    base_names: tuple[str, ...] = ("sid",)
    stems: tuple[str, ...] = ()
    opened: int = 0

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:
        chunks = collect_chunks(jar, "sid", ".")
        found: list[tuple[tuple[str, ...], str, tuple[int, ...]]] = [
            (("sid",), jar.pairs[place][1], (place,)) for place in jar.places("sid")
        ]
        if chunks is not None:
            found += [
                (chunks.names, value, places)
                for value, places in zip(chunks.joined, chunks.places, strict=True)
            ]
        for names, value, places in found:
            self.opened += 1
            token, _, expiry = value.partition("~")
            if not expiry.isdigit() or not is_b64token(token):
                yield Reading(Result.INVALID, "claims", "sid", names, places=places)
                continue
            result = Result.OK if now < float(expiry) else Result.EXPIRED
            yield Reading(
                result,
                "claims",
                "sid",
                names,
                token=token,
                valid_until=float(expiry),
                places=places,
            )


def make(claims: Claims | None = None) -> LocalSessions:
    names = NameMatcher(["sid", "access_token"])
    sources = (claims or Claims(), raw_source(cookie="access_token"))
    return local_sessions(ViewReader(sources, names, names), SIGNER)


def revoke(sessions: LocalSessions, view: SessionView, now: float) -> None:
    """Ends the session that requests with this view are served with."""
    session = view.session(view.fingerprint)
    assert session is not None
    sessions.revocations.revoke(session, now)


def sid(token: str, lifetime: float = HOUR) -> bytes:
    return b"sid=%b~%d" % (token.encode(), NOW + lifetime)


# -- what is presented ---------------------------------------------------------------------------


def test_a_session_is_opened_once() -> None:
    """The second request of a session costs a look-up."""
    claims = Claims()
    sessions = make(claims)
    first = sessions.directory.present(sid("tok"), NOW)
    assert sessions.directory.present(sid("tok"), NOW + 1) is first
    assert claims.opened == 1
    assert first.authorization == b"Authorization: Bearer tok\r\n"
    assert first.fingerprint == SIGNER.fingerprint("tok")


def test_a_remembered_session_ends_when_it_says() -> None:
    """The cache never makes a session outlive its expiry."""
    sessions = make()
    presented = sessions.directory.present(sid("tok", 10), NOW)
    assert presented.fingerprint is not None
    later = sessions.directory.present(sid("tok", 10), NOW + 10)
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
    """No living session, no Authorization line."""
    sessions = make()
    presented = sessions.directory.present(cookie, NOW)
    assert presented.reading.result is result
    assert sessions.revocations.live_fingerprint(presented, NOW) is None
    assert presented.authorization == b""


@given(st.binary(max_size=60))
def test_any_cookie_text_can_be_presented(cookie: bytes) -> None:
    """Latin-1 or not, it is read without raising, and what is left is part of it."""
    presented = make().directory.present(cookie, NOW)
    if presented.reading.result is Result.NO_SESSION:
        assert presented.others in (cookie, b"")
    assert b"\n" not in presented.authorization[:-2]


def test_other_cookies_stay_byte_for_byte() -> None:
    """Session cookies go, whole and chunks, everything else stays (T7)."""
    cookie = b'a="x; y";  ' + sid("tok") + b"; sid.0=x; __Host-access_token=t; b=\xff;c"
    assert make().directory.present(cookie, NOW).others == b'a="x; y"; b=\xff;c'


@pytest.mark.parametrize(
    ("cookie", "ambiguous"),
    [
        (b"a=1", False),
        (sid("tok"), False),
        (b"a=1; " + sid("tok"), False),
        (b"sid.0=to; sid.1=k~%d" % (NOW + HOUR), False),
        (sid("tok") + b"; " + sid("other"), False),
        (sid("tok") + b"; access_token=x", False),
        (sid("tok") + b"; access_token.5=x", True),
        (sid("tok") + b"; sid.0=x", True),
        (sid("tok") + b"; __Secure-sid=x", True),
        (b"sid=broken", True),
        (b"sid=tok~1", True),
    ],
)
def test_more_session_cookies_than_were_read_are_noticed(cookie: bytes, ambiguous: bool) -> None:
    """Another session may hide in those that did not open."""
    assert make().directory.present(cookie, NOW).is_ambiguous is ambiguous


# -- the cache -------------------------------------------------------------------------------------


def test_the_cache_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of new cookies pushes the oldest out."""
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 50_000)
    claims = Claims()
    sessions = make(claims)
    for number in range(200):
        sessions.directory.present(sid(f"tok{number}"), NOW)
        assert sessions.directory.cached <= 50
    opened = claims.opened
    sessions.directory.present(sid("tok199"), NOW)
    assert claims.opened == opened
    sessions.directory.present(sid("tok0"), NOW)
    assert claims.opened == opened + 1


@pytest.mark.parametrize("cookie", ["a=%d", "access_token=made-up-%d", "sid=guess%d"])
def test_made_up_cookies_push_no_sealed_session_out(
    monkeypatch: pytest.MonkeyPatch, cookie: str
) -> None:
    """It need not be opened again, nor looked up in a store, and is there for a store's loss."""
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 20_000)
    claims = Claims()
    sessions = make(claims)
    sessions.directory.present(sid("real"), NOW)
    for number in range(200):
        sessions.directory.present((cookie % number).encode(), NOW)
    assert sessions.directory.cached <= 21
    opened = claims.opened
    assert sessions.directory.present(sid("real"), NOW).has_credential
    assert claims.opened == opened


def test_a_cookie_larger_than_the_cache_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it leave the count wrong for those that come after."""
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 10_000)
    sessions = make()
    sessions.directory.present(b"a=" + b"x" * 20_000, NOW)
    assert sessions.directory.cached == 0
    sessions.directory.present(sid("tok"), NOW)
    assert sessions.directory.cached == 1


def test_reading_again_does_not_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is replaced gives its room back."""
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 12_000)
    sessions = make()
    for number in range(20):
        both = sid(f"tok{number}", 10) + b"; access_token=other"
        for now in (NOW, NOW + 10):
            assert sessions.directory.present(both, now).fingerprint is not None
    assert sessions.directory.cached >= 3


def test_known_session_has_its_newest_tokens() -> None:
    """An administrator's end revokes these, though its browser has just presented old ones."""
    names = NameMatcher(["access_token", "refresh_token"])
    source = raw_source(cookie="access_token", refresh_cookie="refresh_token")
    directory = local_sessions(ViewReader((source,), names, names), SIGNER).directory
    cookie = first = b"access_token=a0; refresh_token=r0"
    fingerprint = directory.present(first, NOW).fingerprint
    assert fingerprint is not None
    for number in range(1, 4):
        tokens = TokenSet(f"a{number}", f"r{number}", generation=number)
        renewed = directory.renewed(directory.present(cookie, NOW), tokens, Scope())
        assert renewed.cookie is not None
        cookie = renewed.cookie
    directory.present(first + b"; seen=x", NOW)
    known = directory.known(fingerprint)
    assert known is not None
    assert known.reading.token == "a3"


def test_few_headers_of_one_session_are_remembered() -> None:
    """What is learned of a session changes each of them. Sessions of others keep theirs."""
    claims = Claims()
    sessions = make(claims)
    sessions.directory.present(sid("other"), NOW)
    most = view_cache.MAX_HEADERS
    for number in range(3 * most):
        sessions.directory.present(sid("tok") + b"; seen=%d" % number, NOW)
    assert sessions.directory.cached == 1 + most
    opened = claims.opened
    for number in range(2 * most, 3 * most):
        sessions.directory.present(sid("tok") + b"; seen=%d" % number, NOW)
    assert sessions.directory.present(sid("other"), NOW).has_credential
    assert claims.opened == opened
    recognised = sessions.directory.recognise(b"Bearer tok", NOW)
    assert recognised is not None
    sessions.directory.present(sid("tok") + b"; seen=0", NOW)
    assert claims.opened == opened + 1


def test_few_headers_of_one_refresh_token_are_remembered() -> None:
    """Its death forgets each of them, however many access tokens came beside it (T99)."""
    names = NameMatcher(["access_token", "rt"])
    source = raw_source(cookie="access_token", refresh_cookie="rt")
    sessions = local_sessions(ViewReader((source,), names, names), SIGNER)
    most = view_cache.MAX_HEADERS
    for number in range(3 * most):
        sessions.directory.present(b"access_token=a%d; rt=r" % number, NOW)
        sessions.directory.present(b"access_token=b%d; rt=r%d" % (number, number), NOW)
    assert sessions.directory.cached == most + 3 * most


def test_an_expired_session_is_not_kept() -> None:
    """Nobody needs it any more, and it holds a token."""
    sessions = make()
    sessions.directory.present(sid("tok", 10), NOW)
    assert sessions.directory.cached == 1
    sessions.directory.present(sid("tok", 10), NOW + 10)
    assert sessions.directory.cached == 0


def test_guesses_are_not_remembered() -> None:
    """What does not open costs the guesser, not the memory."""
    sessions = make()
    for number in range(100):
        sessions.directory.present(b"sid=guess%d" % number, NOW)
    assert sessions.directory.cached == 0


# -- death -----------------------------------------------------------------------------------------


def test_a_dead_session_is_refused_and_forgotten() -> None:
    """Every cookie that holds the credential, and nobody else's."""
    sessions = make()
    presented = sessions.directory.present(sid("tok"), NOW)
    sessions.directory.present(sid("tok", 2 * HOUR), NOW)
    other = sessions.directory.present(sid("other"), NOW)
    revoke(sessions, presented, NOW)
    assert sessions.directory.cached == 1
    assert sessions.revocations.live_fingerprint(presented, NOW) is None
    for cookie in (sid("tok"), sid("tok", 2 * HOUR), b"access_token=tok"):
        assert (
            sessions.revocations.live_fingerprint(sessions.directory.present(cookie, NOW), NOW)
            is None
        )
    assert sessions.revocations.live_fingerprint(other, NOW) == other.fingerprint


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
        presented = sessions.directory.present(cookie, NOW)
        cached[cookie] = token
        if dies:
            revoke(sessions, presented, NOW)
            cached = {one: name for one, name in cached.items() if name != token}
        assert sessions.directory.cached == len(cached)


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
    presented = sessions.directory.present(cookie, NOW)
    revoke(sessions, presented, NOW)
    assert sessions.revocations.is_dead(presented.fingerprint, NOW + dead_for - 1)
    assert not sessions.revocations.is_dead(presented.fingerprint, NOW + dead_for)


def test_nobody_is_not_dead() -> None:
    assert not make().revocations.is_dead(None, NOW)


@pytest.mark.parametrize("proof", list(Proof))
def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch, proof: Proof) -> None:
    """A flood of 401s forgets the oldest deaths first (T36)."""
    monkeypatch.setattr(tombstones, "ROOM", dict.fromkeys(Proof, 10 * tombstones.TOMBSTONE_COST))
    sessions = make()
    for number in range(25):
        presented = sessions.directory.present(b"access_token=t%d" % number, NOW)
        speak_for(sessions, presented, proof)
        revoke(sessions, presented, NOW)
    assert len(sessions.revocations.tombstones) == 10
    assert sessions.revocations.is_dead(SIGNER.fingerprint("t24"), NOW)
    assert not sessions.revocations.is_dead(SIGNER.fingerprint("t14"), NOW)


def speak_for(sessions: LocalSessions, view: SessionView, proof: Proof) -> None:
    """Has something speak for the session of a request."""
    assert view.fingerprint is not None
    if proof is Proof.ACCEPTED:
        sessions.evidence.accept(view.fingerprint)
    elif proof is Proof.VOUCHED:
        sessions.evidence.vouch(view.fingerprint)


@pytest.mark.parametrize("cookie", [sid("real"), b"access_token=real"])
@pytest.mark.parametrize("flood", [Proof.NONE, Proof.ACCEPTED])
def test_logouts_of_nobody_push_no_tombstone_out(
    monkeypatch: pytest.MonkeyPatch, cookie: bytes, flood: Proof
) -> None:
    """Of a session that more speaks for: its old cookie stays refused."""
    monkeypatch.setattr(tombstones, "ROOM", dict.fromkeys(Proof, 20 * tombstones.TOMBSTONE_COST))
    sessions = make()
    presented = sessions.directory.present(cookie, NOW)
    if presented.is_raw:
        speak_for(sessions, presented, Proof(flood + 1))
    revoke(sessions, presented, NOW)
    for number in range(100):
        made_up = sessions.directory.present(b"access_token=made-up-%d" % number, NOW)
        speak_for(sessions, made_up, flood)
        revoke(sessions, made_up, NOW)
    assert sessions.revocations.tombstones.count(flood) == 20
    assert sessions.revocations.is_dead(presented.fingerprint, NOW)
    assert not sessions.revocations.is_dead(SIGNER.fingerprint("made-up-1"), NOW)


def test_what_speaks_for_a_session() -> None:
    """A seal; the provider's renewal; an upstream that accepted its credential or handed it out."""
    sessions = make()
    for cookie, proof in ((sid("t"), Proof.VOUCHED), (b"access_token=t0", Proof.NONE)):
        view = sessions.directory.present(cookie, NOW)
        session = view.session(view.fingerprint)
        assert session is not None
        assert sessions.evidence.of(session) is proof
        assert view.is_raw is (proof is Proof.NONE)
    sessions.set_cookies.admit([b"access_token=t1; Path=/"], NOTHING_PRESENTED, NOW, NOW)
    for token, proof in (("t0", Proof.NONE), ("t1", Proof.ACCEPTED)):
        view = sessions.directory.present(b"access_token=" + token.encode(), NOW)
        session = view.session(view.fingerprint)
        assert session is not None
        assert sessions.evidence.of(session) is proof


def test_what_speaks_for_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream may answer 2xx to everybody; that pushes out nothing that says more."""
    monkeypatch.setattr(evidence, "ACCEPTED_BYTES", 10 * bounds.NAME_COST)
    sessions = make()
    sessions.evidence.vouch("renewed")
    for number in range(100):
        sessions.evidence.accept(f"accepted-{number}")
    assert len(sessions.evidence.accepted) == 10
    assert "accepted-99" in sessions.evidence.accepted
    view = sessions.directory.present(b"access_token=t", NOW)
    session = view.session(view.fingerprint)
    assert session is not None
    assert sessions.evidence.of(replace(session, fingerprint="renewed")) is Proof.VOUCHED


# -- what an answer sets ---------------------------------------------------------------------------

ATTRIBUTES = b"; Path=/; HttpOnly"
DEAD = "dead"
SET_DEAD = sid(DEAD) + ATTRIBUTES
SET_OTHER = sid("other") + ATTRIBUTES
FREE = b"theme=dark; Path=/"
BEFORE, AFTER = NOW - 1, NOW + 1


def revoked(token: str = DEAD) -> tuple[LocalSessions, SessionView]:
    sessions = make()
    presented = sessions.directory.present(sid(token), NOW - 2)
    revoke(sessions, presented, NOW)
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
    sessions, _ = revoked()
    answer = [FREE, *session_cookies]
    passed = sessions.set_cookies.admit(
        answer, sessions.directory.present(cookie, began), began, AFTER + 1
    )
    if passes:
        assert passed == answer
        assert len(sessions.revocations.tombstones) == 0
    else:
        assert FREE in passed
        assert all(DEAD.encode() not in one for one in passed)
        assert not set(session_cookies[:2]) & set(passed)
        assert len(sessions.revocations.tombstones) == 1


def test_a_dead_credential_does_not_hide_behind_another() -> None:
    """Each Set-Cookie is judged for itself, whichever source wins."""
    sessions, presented = revoked()
    raw = b"access_token=" + DEAD.encode()
    answer = [SET_OTHER, raw, SET_OTHER.replace(b"other", b"third")]
    passed = sessions.set_cookies.admit(answer, presented, AFTER, AFTER + 1)
    assert passed == [SET_OTHER, answer[2]]


def test_old_values_that_are_deleted_hide_nothing() -> None:
    """`access_token=deleted` beside the dead token itself."""
    sessions, presented = revoked()
    answer = [b"access_token=deleted; Path=/a; Max-Age=0", b"access_token=" + DEAD.encode()]
    assert answer[1] not in sessions.set_cookies.admit(answer, presented, BEFORE, AFTER)


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
    """Other sessions, deletions, cookies that are not a session's."""
    sessions, presented = revoked()
    assert sessions.set_cookies.admit(answer, presented, AFTER, AFTER + 1) == answer
    assert sessions.set_cookies.admit(answer, NOTHING_PRESENTED, BEFORE, AFTER) == answer
    assert len(sessions.revocations.tombstones) == 1
    assert make().set_cookies.admit([SET_DEAD], NOTHING_PRESENTED, NOW, NOW) == [SET_DEAD]


@pytest.mark.parametrize("cookie", [sid(DEAD), sid("other") + b"; access_token=" + DEAD.encode()])
def test_a_late_answer_sets_no_session_whatever_is_in_it(cookie: bytes) -> None:
    """It may be the session that was logged out, with rotated tokens. Deletions pass."""
    sessions = make()
    view = sessions.directory.present(cookie, NOW - 2)
    for session in view.sessions:
        sessions.revocations.revoke(session, NOW)
    answer = [
        sid("new") + ATTRIBUTES,
        b"access_token=third",
        b"sid=broken",
        b"sid=; Max-Age=0",
        FREE,
    ]
    assert sessions.set_cookies.admit(answer, view, BEFORE, AFTER) == answer[3:]
    assert sessions.set_cookies.admit(answer, view, NOW, AFTER) == answer[3:]
    for rotated in (sid("new"), b"access_token=third"):
        presented = sessions.directory.present(rotated, AFTER)
        assert sessions.revocations.live_fingerprint(presented, AFTER) is None
    login = [sid("newer") + ATTRIBUTES]
    assert sessions.set_cookies.admit(login, view, AFTER, AFTER + 1) == login


def test_a_tombstone_that_is_over_stops_nothing() -> None:
    """Nor is it lifted: it is just past."""
    sessions, presented = revoked()
    later = NOW + UNKNOWN_LIFETIME
    answer = [b"access_token=" + DEAD.encode()]
    assert sessions.set_cookies.admit(answer, presented, BEFORE, later) == answer


def test_a_second_401_does_not_undo_a_login_in_between() -> None:
    """Two 401s are one death, and must not become two logouts."""
    sessions, presented = revoked()
    revoke(sessions, presented, NOW + 2)
    assert sessions.set_cookies.admit([SET_DEAD], NOTHING_PRESENTED, NOW + 1, NOW + 3) == [SET_DEAD]


def test_a_death_after_a_revival_counts_anew() -> None:
    """Once lifted, the old tombstone has no say about the next."""
    sessions, presented = revoked()
    sessions.set_cookies.admit([SET_DEAD], NOTHING_PRESENTED, AFTER, AFTER)
    revoke(sessions, presented, NOW + 5)
    assert sessions.set_cookies.admit([SET_DEAD], NOTHING_PRESENTED, NOW + 4, NOW + 6) == []


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
        (b"\xa0sid=x", True),  # JavaScript's trim() takes this off, and Python's strip() the next
        (b"\x85sid.0\x85=x", True),
        (b"sidecar=x", False),
        (b"sid.x=x", False),
        (b"x=sid=1", False),
        (b"SID=x", False),
        (b"sid", False),
        (b"", False),
    ],
)
def test_session_cookies_are_known_by_name(set_cookie: bytes, is_session: bool) -> None:
    """Base or chunk, under each prefix (T8)."""
    assert make().set_cookies.is_session_cookie(set_cookie) is is_session


# -- what lives as long as the session -------------------------------------------------------------


def test_streams_end_with_their_session() -> None:
    """Each once, and those of others not at all (T59)."""
    sessions = make()
    presented = sessions.directory.present(sid("tok"), NOW)
    other = sessions.directory.present(sid("other"), NOW)
    assert presented.fingerprint is not None
    assert other.fingerprint is not None
    closed: list[str] = []

    def detaching() -> None:
        closed.append("first")
        sessions.revocations.detach(SIGNER.fingerprint("tok"), detaching)

    def staying() -> None:
        closed.append("second")

    def never() -> None:
        closed.append("other")

    sessions.revocations.attach(presented.fingerprint, detaching)
    sessions.revocations.attach(presented.fingerprint, staying)
    sessions.revocations.attach(other.fingerprint, never)
    revoke(sessions, presented, NOW)
    assert sorted(closed) == ["first", "second"]


def test_a_stream_that_has_ended_is_let_go() -> None:
    """Detaching twice, or what was never attached, is harmless."""
    sessions = make()
    presented = sessions.directory.present(sid("tok"), NOW)
    assert presented.fingerprint is not None
    closed: list[int] = []

    def close() -> None:
        closed.append(1)

    sessions.revocations.attach(presented.fingerprint, close)
    for _ in range(2):
        sessions.revocations.detach(presented.fingerprint, close)
    revoke(sessions, presented, NOW)
    assert closed == []


def test_nothing_presented_is_nothing() -> None:
    """The stand-in before cookies were read never expires and injects nothing."""
    assert NOTHING_PRESENTED.valid_until == inf
    assert NOTHING_PRESENTED.authorization == b""
    assert NOTHING_PRESENTED.fingerprint is None


# -- what an answer hands out ----------------------------------------------------------------------


def test_few_dead_tokens_of_one_answer_are_looked_for_in_its_request() -> None:
    """A stranger may have stored hundreds where an API shows them (T92)."""
    sessions, asked = make(), list[str]()
    for number in range(100):
        view = sessions.directory.present(b"access_token=t%d" % number, NOW)
        revoke(sessions, view, NOW)

    def is_repeated(credential: str) -> bool:
        asked.append(credential)
        return credential != "t3"

    sessions.set_cookies.hand_out(
        [f"t{number}" for number in range(100)],
        NOTHING_PRESENTED,
        AFTER,
        AFTER,
        is_repeated=is_repeated,
    )
    assert asked == [f"t{number}" for number in range(MOST_HANDED_OUT)]
    assert len(sessions.revocations.tombstones) == 99


# -- a client's own bearer -------------------------------------------------------------------------


def test_a_bearer_is_looked_for_as_one_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as thousands, though it may hold what stands between cookies (T92)."""
    iron = iron_source(passwords={"1": "a password of 32 characters or more"}, cookie="app")
    names = NameMatcher(["app", "access_token"])
    reader = ViewReader((iron, raw_source(cookie="access_token")), names, names)
    sessions = local_sessions(reader, SIGNER)
    presented = sessions.directory.present(b"access_token=dead", NOW)
    revoke(sessions, presented, NOW)
    parse, pairs = CookieJar.parse, list[int]()

    def counted(header: str) -> CookieJar:
        jar = parse(header)
        pairs.append(len(jar.pairs))
        return jar

    monkeypatch.setattr(CookieJar, "parse", counted)
    for separator in (";", "; ", "=;", " ;,="):
        words = separator.join(f"word{number}" for number in range(1000))
        assert not sessions.directory.is_dead_bearer(f"Bearer {words}".encode(), NOW)
        assert sessions.directory.is_dead_bearer(f"Bearer a{separator}dead=".encode(), NOW)
    assert set(pairs) == {len(iron.names)}


# -- login sessions in the store -------------------------------------------------------------------


def stored(**more: Any) -> LoginSession:
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


def keeping() -> tuple[LocalSessions, bytes]:
    """Sessions that are kept in a store, and the cookie of one."""
    source = login_store_source(cookie="own", lifetimes=Lifetimes(10 * HOUR, 100 * HOUR))
    (line,) = source.lines(stored(), (), Scope())
    names = NameMatcher(source.base_names)
    sessions = local_sessions(ViewReader((source,), names, names, source), SIGNER, leeway=60.0)
    return sessions, line.partition(b";")[0]


def test_a_stored_session_is_loaded_before_it_is_known() -> None:
    """Until then nobody is told that it is known; then it is, for that cookie."""
    sessions, cookie = keeping()
    unknown = sessions.directory.present(cookie, NOW)
    (handle,) = unknown.handles
    assert (unknown.fingerprint, unknown.is_checked) == (None, False)
    adopted = sessions.directory.adopt(unknown, handle, stored(), NOW)
    assert adopted is not None
    assert adopted.authorization == b"Authorization: Bearer access\r\n"
    assert sessions.directory.present(cookie, NOW) is adopted
    known = sessions.directory.known(handle.fingerprint)
    assert known is not None
    assert known.reading is adopted.reading


def test_a_handle_that_is_not_the_sessions_gets_nothing() -> None:
    sessions, cookie = keeping()
    unknown = sessions.directory.present(cookie, NOW)
    (handle,) = unknown.handles
    assert sessions.directory.adopt(unknown, handle._replace(id="guessed"), stored(), NOW) is None
    assert sessions.directory.present(cookie, NOW).fingerprint is None


def test_a_session_that_changes_is_read_again_by_all_who_have_it() -> None:
    """Whatever cookies it came with: plans that were made with it hold no longer."""
    sessions, cookie = keeping()
    one, other = (sessions.directory.present(each, NOW) for each in (cookie, cookie + b"; a=b"))
    (handle,) = one.handles
    old = sessions.directory.adopt(one, handle, stored(), NOW)
    assert old is not None
    assert sessions.directory.is_current(old)
    new = sessions.directory.adopt(
        other, handle, stored(tokens=TokenSet("next", "r", NOW + 9)), NOW
    )
    assert not sessions.directory.is_current(old)
    assert sessions.directory.present(cookie + b"; a=b", NOW) is new
    assert sessions.directory.present(cookie, NOW).fingerprint is None


def test_the_tombstone_of_an_own_session_lasts_as_long_as_it_could() -> None:
    sessions, cookie = keeping()
    unknown = sessions.directory.present(cookie, NOW)
    (handle,) = unknown.handles
    adopted = sessions.directory.adopt(unknown, handle, stored(), NOW)
    assert adopted is not None
    revoke(sessions, adopted, NOW)
    assert (
        sessions.revocations.tombstones.by_fingerprint[handle.fingerprint].until == NOW + 100 * HOUR
    )
    assert sessions.revocations.is_dead(handle.fingerprint, NOW + 99 * HOUR)
    assert not sessions.revocations.is_dead(handle.fingerprint, NOW + 100 * HOUR)


def test_an_own_session_is_known_by_its_id_alone() -> None:
    """Some providers hand out one token again: the next login is another session all the same."""
    sessions, cookie = keeping()
    unknown = sessions.directory.present(cookie, NOW)
    (handle,) = unknown.handles
    adopted = sessions.directory.adopt(unknown, handle, stored(), NOW)
    assert adopted is not None
    revoke(sessions, adopted, NOW)
    next_one = stored(id="next", fingerprint=SIGNER.fingerprint("next"))
    another = sessions.directory.present(b"own=next." + next_one.fingerprint.encode(), NOW)
    (again,) = another.handles
    presented = sessions.directory.adopt(another, again, next_one, NOW)
    assert presented is not None
    assert sessions.revocations.live_fingerprint(presented, NOW) == next_one.fingerprint


def test_what_spoke_for_a_session_before_a_reload_still_does() -> None:
    """Else strangers' logouts could displace its tombstone."""
    first = make()
    fingerprint = first.directory.present(b"access_token=tok", NOW).fingerprint
    assert fingerprint is not None
    first.revocations.evidence.accept(fingerprint)
    names = NameMatcher(["access_token"])
    reader = ViewReader((raw_source(cookie="access_token"),), names, names)
    second = local_sessions(reader, SIGNER, before=first.revocations)
    revoke(second, second.directory.present(b"access_token=tok", NOW), NOW)
    tombstone = second.revocations.tombstones.of(fingerprint, NOW)
    assert tombstone is not None
    assert tombstone.proof is Proof.ACCEPTED
