"""The keys of the own login: what they default to, and what goes with them and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.core.config import Config, Fault
from sidecar.core.config.listen_section import addresses

Loader = Callable[..., Config]
FaultFinder = Callable[..., tuple[Fault, ...]]

SECRET = f"secret: {'x' * 32}\n"
LOGIN = "oidc: {issuer: https://idp, client_id: app}\n"
OIDC = "public_url: https://app.test\noidc: {issuer: https://idp, client_id: app%s}\n"
ROUTED = (
    SECRET
    + "upstreams: {a: {url: http://a}}\n"
    + "routes: [{path: /, kind: page, upstream: a, session: required}]\n"
)


@pytest.mark.parametrize(
    ("more", "redirect_to", "return_param"),
    [
        ("", "/login", None),
        (OIDC % "", "/auth/login", "next"),
        (OIDC % ", path: /own/", "/own/login", "next"),
        (OIDC % ", path: /", "/login", "next"),
        (OIDC % "" + "logout: {redirect_to: /bye}", "/bye", None),
        (OIDC % "" + "logout: {redirect_to: /auth/login}", "/auth/login", "next"),
        (OIDC % "" + "logout: {redirect_to: /auth/login/}", "/auth/login/", "next"),
        (OIDC % "" + "logout: {return_param: from}", "/auth/login", "from"),
    ],
)
def test_a_logout_leads_to_the_own_login(
    loaded: Loader, more: str, redirect_to: str, return_param: str | None
) -> None:
    """Unless something else is written; and from there back to the page."""
    logout = loaded(SECRET + "upstream: http://a\n" + more).logout
    assert (logout.redirect_to, logout.return_param) == (redirect_to, return_param)


def test_the_own_login_needs_no_route_of_its_own(loaded: Loader) -> None:
    """Where all else demands a session it does not loop, since no route answers it."""
    assert loaded(ROUTED + OIDC % "").warnings == ()
    assert loaded(ROUTED + OIDC % "" + "logout: {path: /auth/logout}").warnings == ()


@pytest.mark.parametrize(
    ("text", "path", "problem", "remedy"),
    [
        (OIDC % ", scopes: [email]", "oidc.scopes", "must contain openid", "add it"),
        (
            OIDC % ", parameters: {state: x, audience: y}",
            "oidc.parameters.state",
            "must not be set: the sidecar sets it",
            "remove",
        ),
        (
            OIDC % "" + "logout: {path: /auth/login}",
            "logout.path",
            "must not be another endpoint of oidc",
            "/auth/logout",
        ),
        (
            OIDC % ", path: /o" + "logout: {path: /o/frontchannel-logout}",
            "logout.path",
            "must not be another endpoint of oidc",
            "/o/logout",
        ),
        (
            OIDC % "" + "logout: {redirect_to: /auth/logout}",
            "logout.redirect_to",
            "must be a login",
            "/auth/login",
        ),
        (
            OIDC % "" + "logout: {path: /auth/login/}",
            "logout.path",
            "must not be another endpoint of oidc",
            "/auth/logout",
        ),
        (
            OIDC % "" + "logout: {redirect_to: /auth/session/}",
            "logout.redirect_to",
            "must be a login",
            "/auth/login",
        ),
        (
            OIDC % "" + "logout: {redirect_to: '/auth/callback?x=1'}",
            "logout.redirect_to",
            "must be a login",
            "/auth/login",
        ),
        (
            OIDC % ", cookie: app" + "session: {sources: [{type: cookie, cookie: app}]}",
            "oidc.cookie",
            "must not be the cookie of session.sources[0] too",
            "another name",
        ),
        (
            OIDC % ", cookie: app" + "session: {sources: [{type: cookie, cookie: __Host-app}]}",
            "oidc.cookie",
            "must not be the cookie of session.sources[0] too, __Host-app in another spelling",
            "another name",
        ),
        (
            OIDC % ", cookie: __Secure-app"
            + "session: {sources: [{type: cookie, cookie: x, refresh_cookie: app}]}",
            "oidc.cookie",
            "must not be the cookie of session.sources[0] too, app in another spelling",
            "another name",
        ),
        (
            OIDC % ", cookie: __Secure-authjs.session-token"
            + "session: {sources: [{type: authjs, secret: s}]}",
            "oidc.cookie",
            "must not be the cookie of session.sources[0] too",
            "another name",
        ),
        (
            OIDC % "" + "refresh: {type: http, request: {url: http://a}}",
            "refresh.type",
            "contradicts oidc",
            "remove",
        ),
        (
            OIDC % "" + "refresh: {issuer: https://b}",
            "refresh.issuer",
            "must be the same as oidc.",
            "remove",
        ),
        (
            OIDC % "" + "refresh: {client_id: b}",
            "refresh.client_id",
            "must be the same as oidc.",
            "remove",
        ),
    ],
)
def test_contradictions(
    faults: FaultFinder, text: str, path: str, problem: str, remedy: str
) -> None:
    (fault,) = faults(SECRET + "upstream: http://a\n" + text)
    assert fault.path == path
    assert problem in fault.problem
    assert remedy in str(fault)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (SECRET + OIDC % "", None),
        (SECRET + OIDC % ", keep: store", "oidc.keep: keeps sessions in memory"),
        (OIDC % "", "secret: missing"),
        (
            SECRET + OIDC % "" + "logout: {redirect_to: /}",
            None,
        ),
    ],
)
def test_warnings(loaded: Loader, text: str, warning: str | None) -> None:
    warnings = loaded("upstream: http://a\n" + text).warnings
    assert len(warnings) == (warning is not None)
    assert "".join(warnings).startswith(warning or "")


@pytest.mark.parametrize(
    "listen",
    ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "app:80", "unix:/run/a", "128.0.0.1:80", "[::2]:1"],
)
def test_the_own_login_demands_its_origin_where_others_can_connect(
    faults: FaultFinder, listen: str
) -> None:
    """The redirect URI would follow the Host field, which an attacker may choose."""
    text = f'{SECRET}upstream: http://a\nlisten: "{listen}"\n{LOGIN}'
    for one in (text, text + "public_url: null"):
        (fault,) = faults(one)
        assert fault.path == "public_url"
        assert "the Host that a request names" in fault.problem
        assert "https://app.example.com" in fault.remedy


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "localhost:80"])
def test_on_loopback_the_own_login_without_an_origin_is_only_warned_of(
    loaded: Loader, listen: str
) -> None:
    (warning,) = loaded(f'{SECRET}upstream: http://a\nlisten: "{listen}"\n{LOGIN}').warnings
    assert warning.startswith("public_url: missing")


def test_without_an_origin_the_own_login_listens_on_loopback_by_default(loaded: Loader) -> None:
    """And says so, or nobody would know why a container serves nobody."""
    config = loaded(SECRET + "upstream: http://a\n" + LOGIN)
    assert addresses(config.listen) == "127.0.0.1:8080"
    (warning,) = config.warnings
    assert warning.endswith("serves only this machine, on 127.0.0.1:8080")


def test_an_origin_of_the_environment_is_one(loaded: Loader) -> None:
    environ = {"SIDECAR_PUBLIC_URL": "https://app.test"}
    assert loaded(SECRET + "upstream: http://a\n" + LOGIN, environ).warnings == ()


def test_a_route_that_an_endpoint_covers_is_told(loaded: Loader) -> None:
    text = (
        SECRET
        + "upstreams: {a: {url: http://a}}\n"
        + "routes: [{path: /auth/session/, kind: api, upstream: a}]\n"
        + OIDC % ""
    )
    assert [one.partition(":")[0] for one in loaded(text).warnings] == ["routes[0].path"]


def test_without_a_secret_a_restart_logs_everybody_out(loaded: Loader) -> None:
    (warning,) = loaded("upstream: http://a\n" + OIDC % "").warnings
    assert warning.endswith("and other replicas do not accept them")


def test_own_cookie_is_not_that_of_a_source_by_the_environment(faults: FaultFinder) -> None:
    text = "upstream: http://a\n" + OIDC % ", cookie: authjs.session-token"
    (fault,) = faults(text, {"AUTH_SECRET": "s" * 32})
    assert fault.path == "oidc.cookie"
    assert fault.problem == "must not be the cookie of the source by AUTH_SECRET too"


def test_own_cookie_may_be_a_library_s_that_is_not_there(loaded: Loader) -> None:
    """Names that merely begin alike are others, too."""
    sources = "session: {sources: [{type: authjs, secret: s, cookie: sidecar2}]}"
    loaded("upstream: http://a\n" + OIDC % ", cookie: authjs.session-token" + sources)
    loaded("upstream: http://a\n" + OIDC % "" + sources)
