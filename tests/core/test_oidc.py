"""A login is bound to its browser, and no answer is believed that does not prove to be its own."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import msgspec
import pytest

from sidecar.core.attributes import Scope
from sidecar.core.cookies import CookieJar, NameMatcher, with_set_cookies
from sidecar.core.discovery import Metadata
from sidecar.core.formats.login_session import Profile
from sidecar.core.jws import InvalidToken, Verified
from sidecar.core.oidc import authorization_response
from sidecar.core.oidc.attempt import (
    ATTEMPT_BYTES,
    ENTROPY,
    MOST_OPENED,
    AttemptCookies,
    LoginAttempt,
    attempt_stem,
    authorization_url,
    begin_attempt,
    challenge,
)
from sidecar.core.oidc.authorization_response import (
    answer_parameters,
    code_form,
    read_answer,
    unexpected_answer,
)
from sidecar.core.oidc.id_token import (
    check_refreshed,
    may_be_of_same_user,
    read_id_token,
    with_userinfo,
)
from sidecar.core.oidc.provider_logout import (
    LOGOUT_TOKEN_SECONDS,
    end_session_url,
    read_front_channel,
    read_logout_token,
)
from sidecar.core.oidc.relying_party import TOLERANCE, LoginFailed, OidcClient
from sidecar.core.oidc.session_index import (
    MAX_INDEXED,
    IndexEntry,
    SessionIndex,
    sessions_in,
    with_session,
)
from sidecar.core.record import replace
from sidecar.core.tickets import encode

NOW = 1_800_000_000.0
ISSUER = "https://idp.example.com"
CALLBACK = "https://app.example.com/auth/callback"
METADATA = Metadata(
    issuer=ISSUER,
    authorization_endpoint=f"{ISSUER}/authorize",
    authorization_response_iss_parameter_supported=True,
)
CLIENT = OidcClient(ISSUER, "app", ("openid", "offline_access"))
HTTP, HTTPS = Scope(), Scope(https=True)
SECRETS = (b"the sidecar's own secret, 32 bytes", b"the one before that, also 32 bytes")
LIFETIME = 3600.0
COOKIES = AttemptCookies("sidecar", SECRETS, LIFETIME)


def attempt(seed: int = 0, wanted: str | None = "/orders?page=2", now: float = NOW) -> LoginAttempt:
    entropy = bytes((seed + at) % 256 for at in range(ENTROPY))
    return begin_attempt(entropy, wanted, CALLBACK, now)


def after(lines: list[bytes], before: str = "", now: float = NOW) -> CookieJar:
    """What a browser presents after an answer with these lines."""
    return CookieJar.parse(with_set_cookies(before, lines, now))


# -- the way there --------------------------------------------------------------------------------


def test_a_challenge_is_the_one_of_the_standard() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_every_part_of_an_attempt_is_random_for_itself() -> None:
    one = attempt()
    parts = {one.state, one.nonce, one.verifier}
    assert len(parts) == 3
    assert all(len(part) == 43 for part in parts)  # RFC 7636 4.1: 43 at least
    assert not any(part in repr(one) for part in parts)


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("/orders?page=2", "/orders?page=2"),
        (None, "/"),
        ("", "/"),
        ("//evil.example.com", "/"),
        ("https://evil.example.com/", "/"),
        ("/\\evil.example.com", "/"),
        ("/a\r\nSet-Cookie: a=b", "/"),
        ("javascript:alert(1)", "/"),
        ("/%2Fevil.example.com", "/"),
        ("/" + "a" * 5000, "/"),
        ("/\udcff", "/"),
    ],
)
def test_only_local_paths_are_gone_to(wanted: str | None, place: str) -> None:
    """T31 and T32 of docs/security.md."""
    assert attempt(wanted=wanted).next == place


def test_the_browser_is_sent_with_all_that_the_standards_demand() -> None:
    one = attempt()
    url = urlsplit(authorization_url(METADATA, CLIENT, one, "the-state"))
    assert url._replace(query="").geturl() == f"{ISSUER}/authorize"
    assert dict(parse_qsl(url.query, strict_parsing=True)) == {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": CALLBACK,
        "scope": "openid offline_access",
        "state": "the-state",
        "nonce": one.nonce,
        "code_challenge": challenge(one.verifier),
        "code_challenge_method": "S256",
        "prompt": "consent",
    }
    assert one.verifier not in url.query


def test_more_parameters_are_sent_but_none_that_the_login_rests_on() -> None:
    more = {"audience": "a b&c", "prompt": "login", "state": "x", "response_mode": "form_post"}
    client = replace(CLIENT, parameters=more)
    metadata = replace(METADATA, authorization_endpoint=f"{ISSUER}/authorize?tenant=a")
    query = parse_qs(urlsplit(authorization_url(metadata, client, attempt(), "the-state")).query)
    assert query["tenant"] == ["a"]
    assert query["audience"] == ["a b&c"]
    assert query["prompt"] == ["login"]
    assert query["state"] == ["the-state"]
    assert "response_mode" not in query


def test_consent_is_asked_for_only_where_it_is_needed() -> None:
    client = replace(CLIENT, scopes=("openid",))
    assert "prompt" not in authorization_url(METADATA, client, attempt(), "the-state")


def test_without_an_authorization_endpoint_there_is_no_login() -> None:
    with pytest.raises(LoginFailed, match="authorization endpoint"):
        authorization_url(Metadata(issuer=ISSUER), CLIENT, attempt(), "the-state")


# -- the cookies of attempts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "prefix"), [(HTTP, "sidecar-login-"), (HTTPS, "__Host-sidecar-login-")]
)
def test_an_attempt_comes_back_to_the_browser_that_began_it(scope: Scope, prefix: str) -> None:
    one = attempt()
    (line,) = COOKIES.lines(CookieJar.parse(""), one, scope, NOW)
    assert line.startswith(prefix.encode())
    attributes = {part.strip() for part in line.split(b";")[1:]}
    assert {b"HttpOnly", b"SameSite=Lax", b"Path=/"} <= attributes
    assert (b"Secure" in attributes) is scope.https
    for secret in (one.state, one.nonce, one.verifier):
        assert secret.encode() not in line
    jar = after([line])
    assert COOKIES.find(jar, one.state, scope, NOW + LIFETIME - 1) == one
    assert COOKIES.find(CookieJar.parse("a=b"), one.state, scope, NOW) is None
    assert COOKIES.find(jar, one.state, scope, NOW + LIFETIME) is None
    assert COOKIES.find(jar, one.state, scope, NOW - 3600) is None
    assert list(after(COOKIES.gone(jar, one.state, scope), jar.header).names()) == []
    assert COOKIES.gone(CookieJar.parse(""), one.state, scope) == []


def test_several_tabs_log_in_at_once() -> None:
    header = ""
    attempts = [attempt(seed, f"/tab/{seed}", NOW + seed) for seed in range(5)]
    for one in attempts:
        lines = COOKIES.lines(CookieJar.parse(header), one, HTTP, one.started_at)
        header = after(lines, header).header
    jar = CookieJar.parse(header)
    assert [COOKIES.find(jar, one.state, HTTP, NOW + 9) for one in attempts] == attempts


def test_attempts_do_not_pile_up() -> None:
    """Of more than 4 KiB the oldest goes, and with it what is over or cannot be read."""
    header = "a=b; sidecar-login-broken=x; sidecar=the-session"
    attempts = [attempt(seed, f"/orders/{seed}?page=2", NOW + seed) for seed in range(30)]
    for one in attempts:
        lines = COOKIES.lines(CookieJar.parse(header), one, HTTP, one.started_at)
        header = after(lines, header).header
        assert len(header) < ATTEMPT_BYTES + 100
    jar = CookieJar.parse(header)
    assert {"a", "sidecar"} < set(jar.names())  # those of others stay
    found = [COOKIES.find(jar, one.state, HTTP, NOW + 40) for one in attempts]
    kept = [one for one in found if one]
    assert len(kept) >= 12
    assert kept == attempts[-len(kept) :]
    late = attempt(99, None, NOW + 5000)
    jar = after(COOKIES.lines(jar, late, HTTP, NOW + 5000), header)
    assert [name for name in jar.names() if "-login-" in name] == [jar.pairs[-1][0].strip()]


def test_a_login_opens_a_bounded_number_of_attempts() -> None:
    """Anybody may send six hundred; a sibling domain may set them, and each login takes some away,
    in a response that is no longer than servers in front take (T92).
    """
    header = "; ".join(f"sidecar-login-{number}=x" for number in range(3 * MOST_OPENED))
    for left in (2, 1, 0):
        lines = COOKIES.lines(CookieJar.parse(header), attempt(), HTTP, NOW)
        assert len(lines) <= MOST_OPENED + 1
        header = after(lines, header).header
        assert header.count("=x") == left * MOST_OPENED


def test_a_long_place_leaves_room_for_itself() -> None:
    """It is kept, whatever others are there."""
    header = ""
    for seed in range(12):
        lines = COOKIES.lines(CookieJar.parse(header), attempt(seed), HTTP, NOW + seed)
        header = after(lines, header).header
    long = attempt(50, "/" + "a" * 2000, NOW + 50)
    header = after(COOKIES.lines(CookieJar.parse(header), long, HTTP, NOW + 50), header).header
    assert COOKIES.find(CookieJar.parse(header), long.state, HTTP, NOW + 51) == long
    assert len(header) < ATTEMPT_BYTES + 100


def test_a_state_holds_the_place_for_when_the_cookie_is_lost() -> None:
    """Unread by the provider, and nobody else's to write; the attempt is found by it as well."""
    one = attempt()
    state = COOKIES.state(one)
    assert state.startswith(f"{one.state}.")
    assert "orders" not in state
    assert COOKIES.place(state) == "/orders?page=2"
    jar = after(COOKIES.lines(CookieJar.parse(""), one, HTTPS, NOW))
    assert COOKIES.find(jar, state, HTTPS, NOW) == one
    assert COOKIES.gone(jar, state, HTTPS)
    old = AttemptCookies("sidecar", SECRETS[1:], LIFETIME)
    assert COOKIES.place(old.state(one)) == "/orders?page=2"


@pytest.mark.parametrize(
    ("wanted", "is_held"), [("/", False), ("/" + "a" * 599, True), ("/" + "a" * 600, False)]
)
def test_a_state_is_short(wanted: str, *, is_held: bool) -> None:
    """Providers take some thousand characters."""
    state = COOKIES.state(attempt(wanted=wanted))
    assert len(state) < 1000
    assert COOKIES.place(state) == (wanted if is_held else None)


@pytest.mark.parametrize("more", ["", ".", ".x", ".a.b.c.d.e", "." + "x" * 5000, ".\udcff"])
def test_a_place_that_was_not_sealed_here_is_none(more: str) -> None:
    assert COOKIES.place(attempt().state + more) is None
    sealed = COOKIES.state(attempt())
    assert COOKIES.place(sealed[:-1] + ("A" if sealed[-1] != "A" else "B")) is None


@pytest.mark.parametrize("seed", range(1, 4))
def test_an_answer_with_another_state_is_none_of_this_browser(seed: int) -> None:
    """Login CSRF: the attacker's answer in the victim's browser (T29)."""
    jar = after(COOKIES.lines(CookieJar.parse(""), attempt(), HTTP, NOW))
    assert COOKIES.find(jar, attempt(seed).state, HTTP, NOW) is None
    for state in ("", "\udcff", "\N{SNOWMAN}", attempt().state + "=", attempt().state[:-1]):
        assert COOKIES.find(jar, state, HTTP, NOW) is None


def test_a_cookie_is_good_for_its_own_state_only() -> None:
    """Even where it stands under the name that belongs to another one."""
    own, other = attempt(), attempt(1)
    jar = after(COOKIES.lines(CookieJar.parse(""), own, HTTP, NOW))
    name = after(COOKIES.lines(CookieJar.parse(""), other, HTTP, NOW)).pairs[0][0]
    renamed = CookieJar.parse(f"{name}={jar.pairs[0][1]}")
    assert COOKIES.find(renamed, other.state, HTTP, NOW) is None


def test_on_https_no_cookie_counts_that_a_sibling_domain_could_set() -> None:
    jar = after(COOKIES.lines(CookieJar.parse(""), attempt(), HTTP, NOW))
    assert COOKIES.find(jar, attempt().state, HTTPS, NOW) is None


def test_attempts_outlive_a_change_of_secrets() -> None:
    old = AttemptCookies("sidecar", SECRETS[1:], LIFETIME)
    jar = after(old.lines(CookieJar.parse(""), attempt(), HTTP, NOW))
    assert COOKIES.find(jar, attempt().state, HTTP, NOW) == attempt()
    other = AttemptCookies("sidecar", (b"quite another secret, of 32 bytes",), LIFETIME)
    assert other.find(jar, attempt().state, HTTP, NOW) is None


def test_an_attempt_is_not_a_session() -> None:
    """Its cookie is none of the session's names: a logout elsewhere leaves the login alone."""
    jar = after(COOKIES.lines(CookieJar.parse(""), attempt(), HTTPS, NOW))
    assert not any(map(NameMatcher(("sidecar",)).matches, jar.names()))


def test_cookies_of_attempts_are_known_by_their_names() -> None:
    """So that no API is shown them; they end no session."""
    hidden = NameMatcher(["sidecar"], [attempt_stem("__Host-sidecar")])
    for name in ("__Host-sidecar-login-x", "sidecar-login-abc", "sidecar", "__Host-sidecar.0"):
        assert hidden.matches(name)
    for name in ("sidecar-logins", "xsidecar-login-a", "__Host-sidecar-log", ""):
        assert not hidden.matches(name)


# -- the way out ----------------------------------------------------------------------------------

END = "https://idp.example.com/logout"
BYE = "https://app.example.com/bye?a=1&b"


@pytest.mark.parametrize("endpoint", [END, f"{END}?tenant=1"])
def test_the_providers_session_is_ended_with_what_proves_it(endpoint: str) -> None:
    url = end_session_url(endpoint, CLIENT, id_token="head.pay-load.sign", back_to=BYE)
    assert url.startswith(endpoint)
    query = dict(parse_qsl(urlsplit(url).query, strict_parsing=True))
    query.pop("tenant", None)
    assert query == {
        "id_token_hint": "head.pay-load.sign",
        "client_id": "app",
        "post_logout_redirect_uri": BYE,
    }


@pytest.mark.parametrize("id_token", [None, "x" * 8000])
def test_an_id_token_that_fits_in_no_address_is_left_out(id_token: str | None) -> None:
    url = end_session_url(END, CLIENT, id_token=id_token, back_to=BYE)
    assert len(url) < 300
    assert set(dict(parse_qsl(urlsplit(url).query))) == {"client_id", "post_logout_redirect_uri"}


# -- the way back ---------------------------------------------------------------------------------


def test_a_code_is_taken_from_an_answer_of_the_provider() -> None:
    parameters = answer_parameters("?" + urlencode({"code": "a+b", "state": "s", "iss": ISSUER}))
    assert read_answer(parameters, METADATA, ISSUER) == "a+b"
    assert code_form(attempt(), "a+b") == {
        "grant_type": "authorization_code",
        "code": "a+b",
        "redirect_uri": CALLBACK,
        "code_verifier": attempt().verifier,
    }


def test_a_refusal_says_what_the_provider_says() -> None:
    """Its description is for the user and the log, in plain characters and short."""
    given = {"error": "access_denied", "error_description": "Not <b>\u2028you</b>" + "x" * 999}
    with pytest.raises(LoginFailed) as caught:
        read_answer({**given, "iss": ISSUER}, METADATA, ISSUER)
    assert caught.value.code == "access_denied"
    assert caught.value.description.startswith("Not <b>?you</b>xxx")
    assert len(caught.value.description) <= 300
    assert caught.value.detail == f"the provider answered access_denied: {caught.value.description}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("server_error", "server_error"),
        ("login_required", "login_required"),
        ("call-0900-123456", "unknown_error"),
        ("SERVER_ERROR", "unknown_error"),
        ("", "unknown_error"),
        ("a\r\nb", "unknown_error"),
        ("x" * 9999, "unknown_error"),
    ],
)
def test_a_response_that_nobody_waits_for_is_not_repeated(error: str, code: str) -> None:
    """Anybody can have written it: no word of it is left, but a registered code."""
    more = {"error_description": "Call 0900!", "error_uri": "https://evil.example", "state": "s"}
    told = unexpected_answer({"error": error, **more}, "why")
    assert (told.code, told.detail) == (code, f"the response says {code}; why")
    assert (told.description, told.status) == ("", 400)
    expired = unexpected_answer(more, "why")
    assert (expired.code, expired.detail) == ("login_expired", "why")


def test_a_provider_that_never_says_iss_need_not() -> None:
    assert read_answer({"code": "c"}, Metadata(issuer=ISSUER), ISSUER) == "c"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"code": "c"}, "bad_answer"),
        ({"code": "c", "iss": "https://evil.example.com"}, "bad_answer"),
        ({"code": "c", "iss": ISSUER + "/"}, "bad_answer"),
        ({"error": "access_denied", "iss": "https://evil.example.com"}, "bad_answer"),
        ({"error": "access_denied"}, "bad_answer"),
        ({"error": "access_denied", "iss": ISSUER}, "access_denied"),
        ({"error": "access_denied", "code": "c", "iss": ISSUER}, "access_denied"),
        ({"error": "<script>", "iss": ISSUER}, "unknown_error"),
        ({"error": "", "iss": ISSUER}, "unknown_error"),
        ({"error": "x" * 200, "iss": ISSUER}, "unknown_error"),
        ({"error": "caf\xe9", "iss": ISSUER}, "unknown_error"),
        ({"iss": ISSUER}, "bad_answer"),
        ({"code": "", "iss": ISSUER}, "bad_answer"),
        ({"code": "a\r\nb", "iss": ISSUER}, "bad_answer"),
        ({"code": "\udcff", "iss": ISSUER}, "bad_answer"),
        ({"code": "c" * 5000, "iss": ISSUER}, "bad_answer"),
    ],
)
def test_what_is_no_answer_of_the_provider_fails(parameters: dict[str, str], code: str) -> None:
    """Mix-up (T44): who answers is checked before what is answered."""
    with pytest.raises(LoginFailed) as caught:
        read_answer(parameters, METADATA, ISSUER)
    assert caught.value.code == code
    assert parameters.get("code", "c") not in str(caught.value).split()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {}),
        ("?", {}),
        ("?state=a&code=", {"state": "a", "code": ""}),
        ("?state=a&state=b", {}),
        ("?state=%FF", {"state": "\udcff"}),
        ("?" + "&".join(f"p{n}=1" for n in range(500)), {}),
    ],
)
def test_parameters_count_once(query: str, found: dict[str, str]) -> None:
    assert answer_parameters(query) == found


def test_too_many_parameters_are_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can send thirty thousand (T92)."""
    monkeypatch.setattr(authorization_response, "parse_qsl", pytest.fail)
    assert answer_parameters("?" + "a&" * 30_000) == {}


# -- id_tokens ------------------------------------------------------------------------------------

ACCESS = "an-access-token"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": "app",
    "iat": int(NOW),
    "exp": int(NOW) + 300,
    "nonce": "n",
    "sid": "session-1",
    "name": "Alice",
    "email": "alice@example.com",
    "picture": "https://example.com/a.png",
    "phone_number": "+1 555",
}
Change = dict[str, Any]


def without(name: str) -> Change:
    return {name: ...}


def changed(claims: Change, changes: Change, algorithm: str = "ES256") -> Verified:
    whole = {**claims, **changes}
    return Verified({name: one for name, one in whole.items() if one is not ...}, algorithm)


def read(changes: Change, algorithm: str = "ES256") -> Any:
    verified = changed(CLAIMS, changes, algorithm)
    return read_id_token(verified, CLIENT, nonce="n", access_token=ACCESS, now=NOW)


def test_an_id_token_says_who_has_logged_in() -> None:
    """And of that user only what is shown, and whether the email is verified."""
    who = read({"email_verified": True})
    assert (who.subject, who.sid) == ("alice", "session-1")
    shown = ("Alice", "alice@example.com", "https://example.com/a.png")
    assert who.profile == Profile(
        *shown, claims={"email": "alice@example.com", "email_verified": True}
    )
    assert "alice" not in repr(who).lower()


@pytest.mark.parametrize(
    "changes",
    [
        without("sid"),
        {"aud": ["app"]},
        {"aud": ["app"], "azp": "app"},
        {"aud": ["app", "other"], "azp": "app"},
        {"azp": "app"},
        {"exp": int(NOW) - 14},
        {"iat": int(NOW) + 15},
        {"iat": NOW + 0.5, "exp": NOW + 100.5},
        {"nbf": int(NOW) + 15},
        {"at_hash": None},
    ],
)
def test_what_the_standard_allows_is_taken(changes: Change) -> None:
    assert read(changes).subject == "alice"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (without("iss"), "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        (without("aud"), "client"),
        ({"aud": "other"}, "client"),
        ({"aud": []}, "client"),
        ({"aud": ["other"]}, "client"),
        ({"aud": {"app": 1}}, "client"),
        ({"aud": ["app", "other"], "azp": "other"}, "another client"),
        ({"azp": "other"}, "another client"),
        (without("exp"), "when"),
        ({"exp": str(int(NOW) + 300)}, "when"),
        ({"exp": True}, "when"),
        ({"exp": 1e300}, "when"),
        ({"exp": int(NOW) - 60}, "expired 60 s ago .oidc.clock_tolerance"),
        (without("iat"), "when"),
        ({"iat": int(NOW) + 61}, "future, 61 s ahead .oidc.clock_tolerance"),
        ({"nbf": int(NOW) + 61}, "future"),
        ({"nbf": "now"}, "future"),
        (without("nonce"), "nonce"),
        ({"nonce": "m"}, "nonce"),
        ({"nonce": ["n"]}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"nonce": "\N{SNOWMAN}"}, "nonce"),
        ({"at_hash": "AAAA"}, "access token"),
        ({"at_hash": 1}, "access token"),
        (without("sub"), "subject"),
        ({"sub": ""}, "sub"),
        ({"sub": 1}, "sub"),
        ({"sub": "x" * 256}, "sub"),
        ({"sid": ["x"]}, "sid"),
    ],
)
def test_an_id_token_that_is_not_for_this_login_is_refused(changes: Change, why: str) -> None:
    with pytest.raises(InvalidToken, match=why):
        read(changes)


def test_at_hash_follows_the_algorithm() -> None:
    """OpenID Connect Core, appendix A.4 has the example; for EdDSA it is SHA-512's half."""
    token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
    known = changed(CLAIMS, {"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}, "RS256")
    read_id_token(known, CLIENT, nonce="n", access_token=token, now=NOW)
    for algorithm in ("RS384", "PS512", "EdDSA", "Ed25519"):
        with pytest.raises(InvalidToken, match="access token"):
            read_id_token(
                replace(known, algorithm=algorithm),
                CLIENT,
                nonce="n",
                access_token=token,
                now=NOW,
            )
    half = "nM_8k04LoVPQDh1346b6eHC5pCiIJeMDBg3Dhz6Pbt4"
    for algorithm in ("ES512", "EdDSA"):
        read({"at_hash": half}, algorithm)


@pytest.mark.parametrize(
    ("changes", "profile"),
    [
        ({"name": 1, "email": None, "picture": []}, Profile()),
        ({"name": "x" * 513}, Profile(None, "alice@example.com", "https://example.com/a.png")),
        ({"picture": "data:image/png;base64,AAAA"}, Profile("Alice", "alice@example.com")),
        ({"picture": "javascript:alert(1)"}, Profile("Alice", "alice@example.com")),
        ({"picture": "https://x/" + "a" * 600}, Profile("Alice", "alice@example.com")),
    ],
)
def test_what_is_too_much_to_keep_is_left_out(changes: Change, profile: Profile) -> None:
    """A picture is an address, not data: sessions in cookies must stay small."""
    assert replace(read(changes).profile, claims={}) == profile


# -- logout at the provider -----------------------------------------------------------------------

EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "app",
    "iat": int(NOW),
    "exp": int(NOW) + 120,
    "jti": "once",
    "sub": "alice",
    "sid": "session-1",
    "events": {EVENT: {}},
}


def test_a_logout_token_says_whose_session_ended() -> None:
    token = read_logout_token(changed(LOGOUT, {}), CLIENT, now=NOW)
    assert (token.subject, token.sid, token.jti) == ("alice", "session-1", "once")
    assert token.ends_at == NOW + 120 + TOLERANCE
    for name in ("sub", "sid"):  # one of them is enough
        read_logout_token(changed(LOGOUT, without(name)), CLIENT, now=NOW)
    more = {"events": {EVENT: {"x": 1}, "urn:other": {}}}
    read_logout_token(changed(LOGOUT, more), CLIENT, now=NOW)


def test_a_logout_token_without_exp_is_good_for_some_minutes() -> None:
    """Ory Hydra's have none; its `jti` is remembered until then."""
    began, endless = NOW - 100, without("exp")
    token = read_logout_token(changed(LOGOUT, {**endless, "iat": began}), CLIENT, now=NOW)
    assert token.ends_at == began + LOGOUT_TOKEN_SECONDS + TOLERANCE
    with pytest.raises(InvalidToken, match="expired"):
        read_logout_token(changed(LOGOUT, {**endless, "iat": began}), CLIENT, now=token.ends_at)


@pytest.mark.parametrize("audience", [["app", "other"], ["other", "app", "api"]])
def test_an_audience_of_several_needs_no_azp(audience: list[str]) -> None:
    """Core 3.1.3.7 with errata 2: it is checked where it is there."""
    verified = changed(CLAIMS, {"aud": audience})
    assert read_id_token(verified, CLIENT, nonce="n", access_token=ACCESS, now=NOW).subject


def test_the_tolerance_for_clocks_is_what_is_configured() -> None:
    patient = replace(CLIENT, tolerance=600.0)
    verified = changed(CLAIMS, {"iat": int(NOW) + 599})
    assert read_id_token(verified, patient, nonce="n", access_token=ACCESS, now=NOW).subject
    with pytest.raises(InvalidToken, match="future"):
        read_id_token(verified, CLIENT, nonce="n", access_token=ACCESS, now=NOW)


def test_an_id_token_that_comes_with_renewed_tokens_is_of_the_same_user() -> None:
    """Core 12.2."""
    claims = encode(b'{"sub": "alice"}')
    old = f"x.{claims}.y"
    check_refreshed(changed(CLAIMS, {}), CLIENT, old)
    for odd in ({"sub": "mallory"}, without("sub"), {"aud": "other"}, {"iss": "https://evil"}):
        with pytest.raises(InvalidToken):
            check_refreshed(changed(CLAIMS, odd), CLIENT, old)


def test_an_id_token_of_a_renewal_that_cannot_be_verified_may_not_name_another_user() -> None:
    """It came from the token endpoint, so what it names counts; what is no JWT names nobody."""
    alice, mallory = (
        f"x.{encode(json.dumps({'sub': name}).encode())}.y" for name in ("alice", "m")
    )
    assert may_be_of_same_user(alice, alice)
    assert may_be_of_same_user("garbage", alice)
    assert not may_be_of_same_user(mallory, alice)


def test_userinfo_adds_what_the_id_token_lacks() -> None:
    """About the same user only (Core 5.3.2)."""
    verified = changed(CLAIMS, {"name": "Alice", **without("email"), **without("picture")})
    known = read_id_token(verified, CLIENT, nonce="n", access_token=ACCESS, now=NOW)
    said = {"sub": "alice", "name": "Another", "email": "alice@example.com", "picture": "data:,"}
    profile = with_userinfo(known, said).profile
    assert (profile.name, profile.email, profile.picture) == ("Alice", "alice@example.com", None)
    for odd in ({**said, "sub": "mallory"}, {"email": "a@b"}):
        with pytest.raises(InvalidToken):
            with_userinfo(known, odd)


def test_a_parameter_that_is_null_is_not_sent() -> None:
    """Consent is asked for with offline_access alone, unless the configuration says otherwise."""
    sent = [
        parse_qs(urlsplit(authorization_url(METADATA, client, attempt(), "the-state")).query).get(
            "prompt"
        )
        for client in (
            replace(CLIENT, scopes=("openid",), parameters={}),
            replace(CLIENT, scopes=("openid", "offline_access"), parameters={}),
            replace(CLIENT, scopes=("openid", "offline_access"), parameters={"prompt": None}),
            replace(CLIENT, scopes=("openid", "offline_access"), parameters={"prompt": "login"}),
        )
    ]
    assert sent == [None, ["consent"], None, ["login"]]


def test_a_session_that_the_provider_never_named_is_found_by_its_user() -> None:
    """Where a logout token has both names (Back-Channel 2.7)."""
    index = SessionIndex(ISSUER, [b"s" * 32])
    assert index.sought_unnamed("alice", "session-1") == index.sought("alice", None)
    assert index.sought_unnamed("alice", None) == ()
    assert index.sought_unnamed(None, "session-1") == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://evil.example.com"}, "issuer"),
        ({"aud": "other"}, "client"),
        (without("iat"), "when"),
        ({"exp": None}, "when"),
        ({"exp": int(NOW) - 60}, "expired"),
        ({"iat": int(NOW) + 61}, "future"),
        (without("events"), "logout token"),
        ({"events": {}}, "logout token"),
        ({"events": {EVENT: None}}, "logout token"),
        ({"events": {EVENT: True}}, "logout token"),
        ({"events": [EVENT]}, "logout token"),
        ({"nonce": "n"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"sub": ..., "sid": ...}, "neither"),
        ({"sub": ""}, "sub"),
        ({"sid": 1}, "sid"),
        (without("jti"), "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": "x" * 300}, "jti"),
    ],
)
def test_what_is_no_logout_token_is_refused(changes: Change, why: str) -> None:
    """Back-Channel Logout 1.0 section 2.6, every rule (T40)."""
    with pytest.raises(InvalidToken, match=why):
        read_logout_token(changed(LOGOUT, changes), CLIENT, now=NOW)


def test_an_id_token_is_no_logout_token() -> None:
    with pytest.raises(InvalidToken, match="logout token"):
        read_logout_token(changed(CLAIMS, {"jti": "x"}), CLIENT, now=NOW)


@pytest.mark.parametrize(
    ("parameters", "sid"),
    [
        ({"iss": ISSUER, "sid": "session-1"}, "session-1"),
        ({"sid": "session-1"}, None),
        ({"iss": ISSUER}, None),
        ({"iss": ISSUER, "sid": ""}, None),
        ({"iss": "https://evil.example.com", "sid": "session-1"}, None),
        ({"iss": ISSUER, "sid": "x" * 256}, None),
        ({"iss": ISSUER, "sid": "\udcff"}, None),
        ({}, None),
    ],
)
def test_a_front_channel_logout_must_know_the_session(
    parameters: dict[str, str], sid: str | None
) -> None:
    """Or any page could log a user out with a frame (T33)."""
    assert read_front_channel(parameters, CLIENT) == sid


# -- the index ------------------------------------------------------------------------------------


def test_a_session_is_found_by_the_providers_names() -> None:
    index = SessionIndex(ISSUER, SECRETS)
    written = set(index.written("alice", "session-1"))
    assert len(written) == 2
    assert written & set(index.sought("alice", "session-1"))
    assert written & set(index.sought(None, "session-1"))
    assert written & set(index.sought("alice", None))
    assert not written & set(index.sought("bob", None))
    assert not written & set(index.sought("session-1", "alice"))
    assert index.sought(None, None) == ()
    assert len(index.written("alice", None)) == 1


def test_a_session_is_found_by_its_email() -> None:
    """After a change of secrets too, and no user's name that looks the same leads there."""
    written = set(SessionIndex(ISSUER, SECRETS[1:]).written("alice", "s", "a@example.com"))
    index = SessionIndex(ISSUER, SECRETS)
    assert len(written) == 3
    assert written & set(index.sought_email("a@example.com"))
    assert not written & set(index.sought_email("alice"))
    assert not written & set(index.sought("a@example.com", None))


def test_a_logout_of_one_session_is_not_one_of_the_user() -> None:
    index = SessionIndex(ISSUER, SECRETS)
    other = index.written("alice", "session-2")
    assert not set(other) & set(index.sought("alice", "session-1"))


def test_the_index_tells_nobody_who_is_logged_in() -> None:
    """Not by text, nor by a guess that is hashed; another provider's users are others."""
    keys = SessionIndex(ISSUER, SECRETS).written("alice@example.com", None)
    assert "alice" not in "".join(keys)
    assert keys != SessionIndex("https://other.example.com", SECRETS).written(
        "alice@example.com", None
    )
    assert keys != SessionIndex(ISSUER, SECRETS[1:]).written("alice@example.com", None)
    assert all(key.isascii() and key.isprintable() and " " not in key for key in keys)


def test_the_index_outlives_a_change_of_secrets() -> None:
    old = SessionIndex(ISSUER, SECRETS[1:]).written("alice", "session-1")
    assert set(old) & set(SessionIndex(ISSUER, SECRETS).sought(None, "session-1"))
    assert SessionIndex(ISSUER, SECRETS).replayed("once") != old[0]


def test_sessions_are_written_down_until_they_end() -> None:
    stored = with_session(None, IndexEntry("a", NOW + 10), NOW)
    stored = with_session(stored, IndexEntry("b", NOW + 99), NOW)
    stored = with_session(stored, IndexEntry("a", NOW + 20), NOW)
    assert [one.fingerprint for one in sessions_in(stored, NOW)] == ["b", "a"]
    assert [one.fingerprint for one in sessions_in(stored, NOW + 20)] == ["b"]
    assert sessions_in(None, NOW) == []
    assert json.loads(with_session(stored, IndexEntry("c", NOW + 99), NOW + 50)) == [
        {"fingerprint": "b", "ends_at": NOW + 99, "has_sid": True},
        {"fingerprint": "c", "ends_at": NOW + 99, "has_sid": True},
    ]


def test_the_sessions_of_a_user_are_bounded() -> None:
    stored: bytes | None = None
    for number in range(MAX_INDEXED + 50):
        stored = with_session(stored, IndexEntry(f"f{number:022}", NOW + 99), NOW)
    found = sessions_in(stored, NOW)
    assert len(found) == MAX_INDEXED
    assert found[-1].fingerprint.endswith("249")
    assert stored is not None
    assert len(stored) < 64 * 1024  # what a store takes


@pytest.mark.parametrize("stored", [b"x", b"{}", b'[{"fingerprint": 1}]', b'["a"]'])
def test_a_broken_entry_is_told(stored: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        sessions_in(stored, NOW)
