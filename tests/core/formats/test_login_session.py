"""A login session lives in its cookie, or under its id in a store, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar, with_set_cookies
from sidecar.core.credential import Reading, Result, Source, read_credential
from sidecar.core.formats import login_session
from sidecar.core.formats.login_session import (
    ID_BYTES,
    Handle,
    Lifetimes,
    LoginCookieSource,
    LoginReading,
    LoginSession,
    LoginStoreSource,
    Profile,
    login_cookie_source,
    login_store_source,
    new_session,
    presented_names,
)
from sidecar.core.record import replace
from sidecar.core.token_set import TokenSet

NOW = 1_800_000_000.0
LIFETIMES = Lifetimes(idle=3600.0, absolute=36000.0)
SECRETS = (b"the sidecar's own secret, 32 bytes", b"the one before that, also 32 bytes")
HTTP, HTTPS = Scope(), Scope(https=True)
PROFILE = Profile("Alice", "alice@example.com", "https://example.com/a.png")
TOKENS = TokenSet("access-canary", "refresh-canary", NOW + 300, NOW, "id-canary")

COOKIE = login_cookie_source(cookie="sidecar", secrets=SECRETS, lifetimes=LIFETIMES)


def session(
    *, tokens: TokenSet = TOKENS, cookie: str = "sidecar", seed: int = 1, now: float = NOW
) -> LoginSession:
    return new_session(
        bytes([seed]) * ID_BYTES,
        lambda id_: f"print-of-{id_[:4]}",
        cookie=cookie,
        subject="subject-canary",
        sid="sid-canary",
        tokens=tokens,
        profile=PROFILE,
        now=now,
    )


def jar_of(lines: list[bytes], before: str = "", now: float = NOW) -> CookieJar:
    """What a browser presents after an answer with these lines."""
    return CookieJar.parse(with_set_cookies(before, lines, now))


def session_of(reading: Reading) -> LoginSession | None:
    assert isinstance(reading, LoginReading)
    return reading.session


# -- the session ----------------------------------------------------------------------------------


def test_a_session_is_the_same_after_it_was_stored() -> None:
    own = session()
    assert LoginSession.from_bytes(own.to_bytes()) == own


@pytest.mark.parametrize("stored", [b"", b"{}", b"null", b'{"id": 1}', b"\xff", b"[" * 10_000])
def test_what_is_no_session_is_refused(stored: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        LoginSession.from_bytes(stored)


def test_nothing_secret_or_personal_is_in_a_repr() -> None:
    own = session()
    reading = read_credential([COOKIE], jar_of(COOKIE.lines(own, (), HTTP)), NOW)
    shown = repr(own) + repr(reading)
    assert "canary" not in shown
    assert own.id not in shown
    assert "Alice" not in shown


def test_it_ends_when_it_is_not_used_and_some_day_anyhow() -> None:
    own = session()
    assert own.idle_ends_at(LIFETIMES) == NOW + 3600
    used = own.touched(NOW + 3000)
    assert used.idle_ends_at(LIFETIMES) == NOW + 6600
    assert used.touched(NOW + 35_000).idle_ends_at(LIFETIMES) == NOW + 36_000
    assert used.touched(NOW) == used  # time does not go back


def test_not_every_use_is_worth_writing_down() -> None:
    own = session()
    assert own.touch_due_at(LIFETIMES) == NOW + 360
    assert own.touch_due_at(Lifetimes(idle=10**6, absolute=10**7)) == NOW + 3600


def test_a_renewal_is_a_use_and_keeps_what_it_does_not_bring() -> None:
    """A refresh without an id_token is fine, and the old one still ends the login's session."""
    own = session().renewed(TokenSet("next", "next-refresh", NOW + 900, NOW + 600))
    assert (own.tokens.access_token, own.tokens.id_token) == ("next", "id-canary")
    assert own.used_at == NOW + 600
    assert (own.created_at, own.fingerprint, own.id) == (NOW, session().fingerprint, session().id)
    with_id = own.renewed(TokenSet("n", "n", NOW, NOW, "newer"))
    assert with_id.tokens.id_token == "newer"


# -- sealed into cookies --------------------------------------------------------------------------


def test_both_are_sources() -> None:
    """Of the protocol that the pipeline uses; both own the cookie that notes a use, or did once."""
    sources: list[Source] = [COOKIE, store_of()]
    assert [one.base_names for one in sources] == [("sidecar", "sidecar-used")] * 2
    assert [one.type for one in sources] == ["oidc", "oidc"]


@pytest.mark.parametrize(
    ("scope", "name"), [(HTTP, "sidecar"), (HTTPS, "__Host-sidecar")], ids=["http", "https"]
)
def test_a_sealed_session_is_read_again(scope: Scope, name: str) -> None:
    assert COOKIE.cookie_name(https=scope.https) == name
    own = session(cookie=name)
    (line,) = COOKIE.lines(own, (), scope)
    assert line.startswith(name.encode() + b"=")
    attributes = {part.strip() for part in line.split(b";")[1:]}
    assert {b"HttpOnly", b"SameSite=Lax", b"Path=/"} <= attributes
    assert (b"Secure" in attributes) is scope.https
    assert not any(part.startswith(b"Domain") for part in attributes)
    assert b"canary" not in line

    reading = read_credential([COOKIE], jar_of([line]), NOW + 1)
    assert reading.result is Result.OK
    assert (reading.token, reading.tokens) == ("access-canary", TOKENS)
    assert reading.identity == own.fingerprint
    assert (reading.source, reading.cookie, reading.names) == ("oidc", name, (name,))
    assert reading.expires_at == NOW + 300
    assert reading.valid_until == NOW + 3600
    assert session_of(reading) == own


def test_no_cookie_is_no_session() -> None:
    reading = read_credential([COOKIE], CookieJar.parse("a=b; sidecar="), NOW)
    assert (reading.result, reading.identity) == (Result.NO_SESSION, None)


def test_renewed_tokens_are_written_back_into_the_same_session() -> None:
    before = COOKIE.lines(session(), (), HTTP)
    reading = read_credential([COOKIE], jar_of(before), NOW)
    renewed = TokenSet("next", "next-refresh", NOW + 900, NOW + 600)
    after = COOKIE.write(reading, renewed, reading.identity or "", HTTP)
    # It would have ended without that use.
    again = read_credential([COOKIE], jar_of(after), NOW + 4000)
    assert again.result is Result.OK
    assert (again.token, again.identity) == ("next", reading.identity)
    assert again.tokens == replace(renewed, id_token="id-canary")


def test_a_large_session_is_chunked_and_leaves_nothing_behind_when_it_shrinks() -> None:
    large = session(tokens=replace(TOKENS, id_token="x" * 9000))
    lines = COOKIE.lines(large, (), HTTP)
    assert len(lines) > 2
    assert all(len(line.partition(b";")[0]) <= 3936 for line in lines)
    jar = jar_of(lines)
    reading = read_credential([COOKIE], jar, NOW)
    assert (reading.result, reading.chunks) == (Result.OK, len(lines))
    assert session_of(reading) == large
    small = jar_of(COOKIE.lines(session(), presented_names(COOKIE, jar), HTTP), jar.header)
    assert list(small.names()) == ["sidecar"]
    assert session_of(read_credential([COOKIE], small, NOW)) == session()


def test_a_large_session_goes_without_its_id_token_at_login_and_at_every_renewal() -> None:
    """It is a hint for the provider's logout, and else only makes page servers refuse the head."""
    large = replace(TOKENS, id_token="x" * 5000)
    assert COOKIE.fitting(session()) == session()
    assert COOKIE.fitting(session(tokens=large)) == session().without_hint()
    reading = read_credential([COOKIE], jar_of(COOKIE.lines(session(), (), HTTP)), NOW)
    after = COOKIE.write(reading, large, reading.identity or "", HTTP)
    again = read_credential([COOKIE], jar_of(after), NOW)
    assert again.tokens == replace(TOKENS, id_token=None)
    stored = login_store_source(cookie="sidecar", lifetimes=LIFETIMES)
    assert stored.fitting(session(tokens=large)) == session(tokens=large)
    huge = session(tokens=replace(TOKENS, id_token="x" * 50_000))
    assert stored.fitting(huge) == session().without_hint()


def test_tokens_that_no_cookies_take_are_not_written() -> None:
    """A browser with such cookies would be locked out: the old tokens lead on."""
    huge = replace(TOKENS, access_token="x" * 40_000)
    reading = read_credential([COOKIE], jar_of(COOKIE.lines(session(), (), HTTP)), NOW)
    assert COOKIE.write(reading, huge, reading.identity or "", HTTP) == []
    assert COOKIE.fitting(session(tokens=huge)) is None
    stored = login_store_source(cookie="sidecar", lifetimes=LIFETIMES)
    assert stored.fitting(session(tokens=replace(TOKENS, access_token="x" * 60_000))) is None


def test_a_set_of_chunks_with_a_gap_is_no_session() -> None:
    large = session(tokens=replace(TOKENS, id_token="x" * 9000))
    header = jar_of(COOKIE.lines(large, (), HTTP)).header
    gap = ";".join(part for part in header.split(";") if not part.strip().startswith("sidecar.1"))
    assert read_credential([COOKIE], CookieJar.parse(gap), NOW).result is Result.INVALID


def test_every_secret_opens_and_the_first_one_seals() -> None:
    old = login_cookie_source(cookie="sidecar", secrets=SECRETS[1:], lifetimes=LIFETIMES)
    new = login_cookie_source(cookie="sidecar", secrets=SECRETS[:1], lifetimes=LIFETIMES)
    before = jar_of(old.lines(session(), (), HTTP))
    reading = read_credential([COOKIE], before, NOW)
    assert reading.result is Result.OK
    assert read_credential([new], before, NOW).result is Result.INVALID
    after = jar_of(COOKIE.write(reading, TOKENS, "", HTTP))
    # It is the same session as before.
    assert read_credential([new], after, NOW).identity == reading.identity


def test_a_session_is_good_under_its_own_name_only() -> None:
    """A sibling domain cannot set `__Host-`, so what it plants never opens (T29)."""
    header = jar_of(COOKIE.lines(session(cookie="__Host-sidecar"), (), HTTPS)).header
    planted = header.replace("__Host-sidecar=", "sidecar=")
    assert read_credential([COOKIE], CookieJar.parse(planted), NOW).result is Result.INVALID
    secure = header.replace("__Host-sidecar=", "__Secure-sidecar=")
    assert read_credential([COOKIE], CookieJar.parse(secure), NOW).result is Result.INVALID


@given(at=st.integers(0, 10_000), bit=st.integers(0, 5))
def test_a_tampered_session_does_not_open(at: int, bit: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    value = SEALED[: at % len(SEALED)]
    flipped = alphabet[(alphabet.index(SEALED[at % len(SEALED)]) + (1 << bit)) % len(alphabet)]
    value += flipped + SEALED[at % len(SEALED) + 1 :]
    assert (
        read_credential([COOKIE], CookieJar.parse(f"sidecar={value}"), NOW).result is Result.INVALID
    )


SEALED = jar_of(COOKIE.lines(session(), (), HTTP)).values("sidecar")[0]


@pytest.mark.parametrize(
    ("tokens", "later", "result"),
    [
        (TOKENS, 3599.9, Result.OK),
        (TOKENS, 3600.0, Result.EXPIRED),
        (TOKENS, 3000.0, Result.OK),  # its token is renewed
        (replace(TOKENS, refresh_token=None), 299.9, Result.OK),
        (replace(TOKENS, refresh_token=None), 300.0, Result.EXPIRED),  # nothing renews it
        (replace(TOKENS, refresh_token=None, expires_at=None), 3000.0, Result.OK),
        (replace(TOKENS, access_token=""), 0.0, Result.OK),  # it can be renewed
        (replace(TOKENS, access_token="", refresh_token=None), 0.0, Result.TOKEN_MISSING),
        (replace(TOKENS, access_token="a b"), 0.0, Result.BAD_TOKEN),
        (replace(TOKENS, access_token="a\r\nX: y"), 0.0, Result.BAD_TOKEN),
    ],
)
def test_what_a_session_is_worth(tokens: TokenSet, later: float, result: Result) -> None:
    """The end of an access token is the end of a session only if nothing renews it."""
    jar = jar_of(COOKIE.lines(session(tokens=tokens), (), HTTP))
    reading = read_credential([COOKIE], jar, NOW + later)
    assert reading.result is result
    assert (session_of(reading) is not None) is (result is Result.OK)
    if result is not Result.OK:
        assert (reading.token, reading.tokens) == (None, None)


def test_tokens_that_cannot_be_renewed_are_not_given_out_for_it() -> None:
    tokens = replace(TOKENS, refresh_token=None)
    reading = read_credential([COOKIE], jar_of(COOKIE.lines(session(tokens=tokens), (), HTTP)), NOW)
    assert (reading.token, reading.tokens) == ("access-canary", None)


def test_the_first_session_that_lives_wins() -> None:
    past = NOW - 9999
    dead = jar_of(COOKIE.lines(session(now=past, seed=2), (), HTTP), now=past).header
    alive = jar_of(COOKIE.lines(session(), (), HTTP)).header
    for header in (f"{dead}; {alive}", f"{alive}; {dead}", f"sidecar=x; {alive}"):
        reading = read_credential([COOKIE], CookieJar.parse(header), NOW)
        assert (reading.result, reading.identity) == (Result.OK, session().fingerprint)
    assert (
        read_credential([COOKIE], CookieJar.parse(f"sidecar=x; {dead}"), NOW).result
        is Result.EXPIRED
    )


def test_another_use_of_the_secret_opens_nothing() -> None:
    """Keys are derived for the name too: a cookie of another own login is none of this one's."""
    other = login_cookie_source(cookie="admin", secrets=SECRETS, lifetimes=LIFETIMES)
    header = jar_of(other.lines(session(cookie="admin"), (), HTTP)).header
    planted = CookieJar.parse(header.replace("admin=", "sidecar="))
    assert read_credential([COOKIE], planted, NOW).result is Result.INVALID


# -- a use that brings no tokens ------------------------------------------------------------------


def with_use(own: LoginSession, used: LoginSession) -> CookieJar:
    """A session, and the use of one beside it."""
    return jar_of([*COOKIE.lines(own, (), HTTP), COOKIE.use_line(used, HTTP)])


def test_a_use_is_noted_beside_the_session_and_prolongs_it() -> None:
    own = session()
    jar = with_use(own, own.touched(NOW + 3000))
    reading = read_credential([COOKIE], jar, NOW + 6599)
    assert session_of(reading) == own.touched(NOW + 3000)
    assert reading.names == ("sidecar", "sidecar-used")
    assert reading.valid_until == NOW + 6600
    assert read_credential([COOKIE], jar, NOW + 6600).result is Result.EXPIRED
    assert len(COOKIE.use_line(own, HTTPS)) < 350


def test_a_use_that_comes_late_takes_nothing_back() -> None:
    own = session().renewed(replace(TOKENS, access_token="next", issued_at=NOW + 600))
    reading = read_credential([COOKIE], with_use(own, session().touched(NOW + 500)), NOW + 600)
    assert (session_of(reading), reading.token) == (own, "next")


def test_a_use_of_another_session_prolongs_nothing() -> None:
    jar = with_use(session(), session(seed=2).touched(NOW + 3000))
    assert session_of(read_credential([COOKIE], jar, NOW)) == session()


@pytest.mark.parametrize("value", ["x", "a.b.c.d.e", SEALED])
def test_a_use_that_does_not_open_is_none(value: str) -> None:
    header = jar_of(COOKIE.lines(session(), (), HTTP)).header + f"; sidecar-used={value}"
    assert session_of(read_credential([COOKIE], CookieJar.parse(header), NOW)) == session()


def test_a_renewal_takes_the_note_away() -> None:
    """It says by itself when the session was used."""
    before = with_use(session(), session().touched(NOW + 500))
    reading = read_credential([COOKIE], before, NOW + 600)
    after = COOKIE.write(reading, replace(TOKENS, issued_at=NOW + 600), "", HTTP)
    assert list(jar_of(after, before.header).names()) == ["sidecar"]


# -- kept in a store ------------------------------------------------------------------------------


def store_of(*sessions: LoginSession) -> LoginStoreSource:
    loaded = {one.fingerprint: one for one in sessions}
    return login_store_source(cookie="sidecar", lifetimes=LIFETIMES, recall=loaded.get)


def test_the_cookie_of_a_stored_session_holds_no_token_and_lasts_as_long_as_it_may() -> None:
    own = session(cookie="__Host-sidecar")
    source = store_of(own)
    lines = source.lines(own, ("__Host-sidecar", "__Host-sidecar.0", "sidecar"), HTTPS)
    assert [b"Max-Age=0" in line for line in lines] == [True, True, False]
    assert b"canary" not in lines[-1]
    assert len(lines[-1]) < 250
    assert b"Expires=Fri, 15 Jan 2027 18:00:00 GMT" in lines[-1]


def test_a_stored_session_is_read_where_it_has_been_loaded() -> None:
    own = session()
    source = store_of(own)
    jar = jar_of(source.lines(own, (), HTTP))
    assert source.handles(jar) == (Handle("sidecar", own.id, own.fingerprint),)
    assert source.handles(jar)[0].key == f"own:{own.fingerprint}"
    reading = read_credential([source], jar, NOW)
    assert (reading.result, reading.token, reading.tokens) == (Result.OK, "access-canary", TOKENS)
    assert (reading.identity, reading.cookie) == (own.fingerprint, "sidecar")
    assert session_of(reading) == own
    assert reading.writer is None  # it is the store that is written
    assert read_credential([store_of()], jar, NOW).result is Result.INVALID  # ended elsewhere
    assert read_credential([source], jar, NOW + 3600).result is Result.EXPIRED


def test_to_know_a_fingerprint_is_not_to_have_the_session() -> None:
    """Fingerprints are in logs; the id is with the browser alone."""
    own = session()
    source = store_of(own)
    for id_ in (session(seed=2).id, own.id[:-1], own.fingerprint):
        jar = CookieJar.parse(f"sidecar={id_}.{own.fingerprint}")
        assert source.handles(jar)
        assert read_credential([source], jar, NOW).result is Result.INVALID


def test_a_stored_session_is_good_under_its_own_name_only() -> None:
    own = session(cookie="__Host-sidecar")
    jar = CookieJar.parse(f"sidecar={own.id}.{own.fingerprint}")
    assert read_credential([store_of(own)], jar, NOW).result is Result.INVALID


def test_what_was_found_under_another_key_is_not_taken() -> None:
    own, other = session(), session(seed=2)
    jar = CookieJar.parse(f"sidecar={own.id}.{own.fingerprint}")
    (handle,) = store_of().handles(jar)
    reading = store_of().reading(jar, handle, other, NOW)
    assert (reading.result, session_of(reading)) == (Result.INVALID, None)


@pytest.mark.parametrize(
    "value",
    ["", "abc", ".", "a.", ".b", "a.b.c", "a.b:c", "a. b", "a.\xe4", "a.b%", "x" * 255 + ".b"],
)
def test_what_cannot_be_a_key_is_not_looked_up(value: str) -> None:
    source = store_of()
    jar = CookieJar.parse(f"sidecar={value}")
    assert source.handles(jar) == ()
    assert read_credential([source], jar, NOW).result is Result.NO_SESSION


def test_however_many_cookies_are_presented_only_some_are_looked_up() -> None:
    header = "; ".join(f"sidecar=id.print{n}" for n in range(500))
    assert len(store_of().handles(CookieJar.parse(header))) == 20
    assert isinstance(COOKIE, LoginCookieSource)


def test_names_of_stored_sessions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once more for each that is looked up: a thousand may be presented (T92)."""
    read, read_handle = list[str](), login_session._handle

    def counted(cookie: str, value: str) -> Handle | None:
        read.append(value)
        return read_handle(cookie, value)

    monkeypatch.setattr(login_session, "_handle", counted)
    header = "; ".join(f"sidecar=id.print{n}" for n in range(500))
    readings = [*store_of().readings(CookieJar.parse(header), NOW)]
    assert [one.places for one in readings] == [(n,) for n in range(20)]
    assert len(read) == 20
