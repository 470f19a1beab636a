"""What must be written for tokens to be renewed: what is missing is told with the load."""

from __future__ import annotations

import pytest

from tests.core.config.conftest import FaultFinder, Loader

SOURCES = (
    "upstream: http://a\n"
    "session: {sources: [{type: authjs, secret: s, refresh_token: refreshToken}]}\n"
)
PLAIN = "upstream: http://a\nsession: {sources: [{type: authjs, secret: s}]}\n"
OIDC = SOURCES + "public_url: https://a.example\noidc: {issuer: https://idp, client_id: c%s}\n"
CLIENT = "issuer: https://idp, client_id: c"
JSON = '{refreshToken: "{refresh_token}"}'


@pytest.mark.parametrize(
    ("text", "path", "problem", "remedy"),
    [
        (SOURCES + "refresh: {client_id: c}", "issuer", "missing", "token_endpoint"),
        (SOURCES + "refresh: {issuer: https://idp}", "client_id", "missing", "add the id"),
        (
            SOURCES + "refresh: {token_endpoint: https://idp/token}",
            "client_id",
            "missing",
            "add the id",
        ),
        (
            SOURCES + "refresh: {token_endpoint: https://idp/token, client_id: ''}",
            "client_id",
            "must not be empty",
            "",
        ),
        (
            SOURCES + f"refresh: {{{CLIENT}, auth: basic}}",
            "auth",
            "auth: basic must have client_secret",
            "add client_secret",
        ),
        (
            SOURCES + f"refresh: {{{CLIENT}, auth: post}}",
            "auth",
            "auth: post must have client_secret",
            "add client_secret",
        ),
        (
            SOURCES + f"refresh: {{{CLIENT}, auth: private_key_jwt}}",
            "auth",
            "auth: private_key_jwt must have key",
            "add key",
        ),
        (
            SOURCES + f"refresh: {{{CLIENT}, auth: tls}}",
            "auth",
            "auth: tls must have key and cert",
            "add key and cert",
        ),
        (SOURCES + "refresh: {type: http}", "request", "missing", "add request"),
        (
            SOURCES + f"refresh: {{request: {{url: http://r, json: {JSON}}}}}",
            "type",
            "missing: request is for type: http",
            "add type: http",
        ),
        *(
            (
                SOURCES
                + f"refresh: {{type: http, {key}, request: {{url: http://r, json: {JSON}}}}}",
                key.partition(":")[0],
                "contradicts type: http",
                "use type: oauth2",
            )
            for key in (
                *("issuer: https://idp", "token_endpoint: https://idp", "client_id: c"),
                *("revocation_endpoint: https://idp", "client_secret: s", "scope: a"),
            )
        ),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    faults: FaultFinder, text: str, path: str, problem: str, remedy: str
) -> None:
    """The key, the cause and what to add; else no session would ever be renewed."""
    (fault,) = faults(text, {"AUTH_SECRET": "s"})
    assert fault.path == (f"refresh.{path}" if path else "refresh")
    assert fault.line == (3 if text.startswith((SOURCES, PLAIN)) else 2)
    assert problem in fault.problem
    assert remedy in fault.remedy


@pytest.mark.parametrize("auth", ["basic", "post", "private_key_jwt", "tls"])
def test_a_login_needs_the_proof_that_it_names(faults: FaultFinder, auth: str) -> None:
    (fault,) = faults(OIDC % f", auth: {auth}")
    assert (fault.path, fault.remedy[:4]) == ("oidc.auth", "add ")
    assert f"auth: {auth} must have" in fault.problem


@pytest.mark.parametrize(
    "text",
    [
        SOURCES + f"refresh: {{{CLIENT}}}",  # a public client
        SOURCES + f"refresh: {{{CLIENT}, auth: none}}",
        SOURCES + f"refresh: {{{CLIENT}, auth: basic, client_secret_file: /s}}",
        SOURCES + "refresh: {token_endpoint: https://idp/t, client_id: c, client_secret: s}",
        SOURCES + f"refresh: {{type: http, request: {{url: http://r, json: {JSON}}}}}",
        SOURCES
        + "refresh: {type: http, request: {url: http://r, method: GET, "
        + 'headers: {X-Token: "{refresh_token}"}}}',
        SOURCES.replace("authjs", "nextauth") + f"refresh: {{{CLIENT}}}",
        "upstream: http://a\n"
        "session: {sources: [{type: cookie, cookie: a, refresh_cookie: b}]}\n"
        f"refresh: {{{CLIENT}}}",
        PLAIN + f"refresh: {{{CLIENT}, revocation_endpoint: https://idp/revoke}}",
        PLAIN + "refresh: null",
        OIDC % "" + "refresh: {}",
        OIDC % "" + "refresh: {leeway: 10s}",
        OIDC % ", client_secret: s" + "refresh: {auth: basic}",
    ],
)
def test_what_is_complete_is_no_fault(loaded: Loader, text: str) -> None:
    """A client may be public, a provider that of `oidc`, and tokens may be revoked alone."""
    loaded(text, {}, {"/s": "secret"})


def test_all_that_is_missing_is_told_at_once(faults: FaultFinder) -> None:
    found = {fault.path for fault in faults(PLAIN + "refresh: {auth: post}")}
    assert found == {"refresh.issuer", "refresh.client_id", "refresh.auth"}


@pytest.mark.parametrize(
    "source",
    [
        "{type: authjs, secret: s, refresh_token: refreshToken}",
        "{type: cookie, cookie: a, refresh_cookie: b}",
    ],
)
def test_a_refresh_token_that_nothing_renews_is_warned_of(loaded: Loader, source: str) -> None:
    text = f"upstream: http://a\nsession: {{sources: [{source}]}}\n"
    name = "refresh_token" if "refresh_token" in source else "refresh_cookie"
    words = f"session.sources[0].{name}: renews nothing, since there is no refresh"
    assert words in loaded(text).warnings
    assert words not in loaded(text + f"refresh: {{{CLIENT}}}").warnings


@pytest.mark.parametrize(
    "text",
    [
        PLAIN + f"refresh: {{{CLIENT}}}",
        PLAIN + f"refresh: {{type: http, request: {{url: http://r, json: {JSON}}}}}",
        f"upstream: http://a\nrefresh: {{{CLIENT}}}",
    ],
)
def test_a_refresh_that_no_source_has_a_token_for_is_warned_of(loaded: Loader, text: str) -> None:
    """It does no harm; where tokens are only revoked, there is nothing to say."""
    words = "refresh: renews nothing, since no source gives a refresh token"
    assert any(one.startswith(words) for one in loaded(text).warnings)
    assert not any(
        one.startswith(words) for one in loaded(SOURCES + f"refresh: {{{CLIENT}}}").warnings
    )


@pytest.mark.parametrize(
    ("more", "is_warned"),
    [
        ("", True),
        (", json: {a: [refresh_token]}", True),
        (f", json: {JSON}", False),
        (', json: {a: [{b: "Bearer {refresh_token}"}]}', False),
        (', headers: {X-Token: "{access_token}"}', False),
    ],
)
def test_a_request_that_sends_no_token_is_warned_of(
    loaded: Loader, more: str, *, is_warned: bool
) -> None:
    """It asks for the tokens of nobody."""
    text = SOURCES + f"refresh: {{type: http, request: {{url: http://r{more}}}}}"
    words = "refresh.request.json: does not send {refresh_token}, so nothing can be renewed"
    assert (words in loaded(text).warnings) is is_warned


def test_grace_is_a_day_at_most(faults: FaultFinder, loaded: Loader) -> None:
    """As long as what leads from one token to the next is kept."""
    (fault,) = faults(SOURCES + f"refresh: {{{CLIENT}, grace: 25h}}")
    assert str(fault) == "file.yaml:3: refresh.grace: must be at most a day; use 24h, or less"
    refresh = loaded(SOURCES + f"refresh: {{{CLIENT}, grace: 24h}}").refresh
    assert refresh is not None
    assert refresh.grace == 86400.0
