"""Paths of the configuration are one path in each spelling, as those of requests are."""

from __future__ import annotations

import pytest

from sidecar.compilation.compile_policy import compile_policy
from tests.core.config.conftest import FaultFinder, Loader

HEAD = "secret: ssssssssssssssssssssssssssssssss\nupstreams: {a: {url: http://a}}\nroutes:\n"
OIDC = (
    "public_url: https://app.example.com\n"
    "oidc: {issuer: https://idp, client_id: c, client_secret: s}\n"
)


def routes(*paths: str, session: str = "optional") -> str:
    lines = (
        f"- {{path: '{path}', kind: page, upstream: a, session: {session}}}\n" for path in paths
    )
    return HEAD + "".join(lines)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("/app", "/app", "must not be the path of routes[0] too"),
        ("/app", "/app/", "must not be the path of routes[0] too"),
        ("/app", "/%61pp", "too, in another spelling"),
        ("/%61pp/", "/ap%70", "too, in another spelling"),
        ("/a~b", "/a%7eb", "too, in another spelling"),
        ("/a%2fb", "/a%2Fb/", "too, in another spelling"),
        ("/a%c3%a4", "/a%C3%A4", "too, in another spelling"),
    ],
)
def test_one_path_in_two_spellings_is_told(
    faults: FaultFinder, one: str, other: str, words: str
) -> None:
    """Else one of the two would silently never be reached."""
    (fault,) = faults(routes(one, other))
    assert (fault.path, fault.line) == ("routes[1].path", 5)
    assert words in fault.problem


@pytest.mark.parametrize("path", ["/app//x", "//app", "/a/../b", "/a/%2e%2e/b", "/./b", "/a/.%2E"])
def test_paths_that_no_request_has_are_refused(faults: FaultFinder, path: str) -> None:
    (fault,) = faults(routes("/", path))
    assert (fault.path, fault.line) == ("routes[1].path", 5)
    assert fault.remedy


@pytest.mark.parametrize("pair", [("/app", "/APP"), ("/a%2Fb", "/a/b"), ("/a;x", "/a")])
def test_paths_that_are_matched_apart_are_no_duplicates(
    loaded: Loader, pair: tuple[str, str]
) -> None:
    """Routes look at the case of letters, and take neither an encoded slash nor `;` away."""
    policy = compile_policy(loaded(routes(*pair)), bytes(32))
    assert [getattr(policy.routes.match(one), "path", None) for one in pair] == [*pair]


@pytest.mark.parametrize(
    "redirect_to", ["/%6Cogin", "/LOGIN", "/login;x=1", "/login/?a=b", "/login#a", "/%6c%6Fgin/x"]
)
def test_a_redirect_to_a_required_route_loops_in_each_spelling(
    faults: FaultFinder, redirect_to: str
) -> None:
    """It is judged as a request to it will be, and what opens no page would be led on for ever."""
    text = routes("/") + "- {path: /login, kind: page, upstream: a, session: required}\n"
    (fault,) = faults(text + f"logout: {{redirect_to: '{redirect_to}'}}\n")
    assert fault.path == "logout.redirect_to"
    assert "must not lead to routes[1], which requires a session" in fault.problem


def test_a_redirect_beside_a_required_route_is_none_to_it(loaded: Loader) -> None:
    """Prefixes end at segments: `/app` does not hold for `/application`."""
    text = routes("/") + "- {path: /app, kind: page, upstream: a, session: required}\n"
    warnings = loaded(text + "logout: {redirect_to: /application}\n").warnings
    assert not any(one.startswith("logout") for one in warnings)


@pytest.mark.parametrize("path", ["/%6Cogin", "/login/", "/login"])
def test_a_redirect_to_the_logout_is_found_in_each_spelling(faults: FaultFinder, path: str) -> None:
    (fault,) = faults(routes("/") + f"logout: {{path: '{path}', redirect_to: /login}}\n")
    assert (fault.path, fault.problem) == ("logout.redirect_to", "must not be logout.path")


@pytest.mark.parametrize(
    "redirect_to",
    [
        "/auth/login",
        "/auth/login/",
        "/%61uth/login",
        "/auth/login?audience=x",
        "https://app.example.com/auth/login",
    ],
)
def test_the_own_login_is_one_place_in_each_spelling(loaded: Loader, redirect_to: str) -> None:
    """The way back is sent there under its name, and a logout by choice does not log in again."""
    config = loaded(routes("/") + OIDC + f"logout: {{redirect_to: '{redirect_to}'}}\n")
    assert config.logout.return_param == "next"
    assert compile_policy(config, bytes(32)).logout.home == "/"
    assert config.warnings == ()


def test_a_redirect_to_another_endpoint_is_refused_in_each_spelling(faults: FaultFinder) -> None:
    (fault,) = faults(routes("/") + OIDC + "logout: {redirect_to: /auth/c%61llback}\n")
    assert (fault.path, fault.problem) == ("logout.redirect_to", "must be a login")


@pytest.mark.parametrize("path", ["/a/../b", "//b", "/%2e%2e/b"])
def test_a_redirect_within_the_site_has_a_path_that_routes_match(
    faults: FaultFinder, path: str
) -> None:
    target = f"https://app.example.com{path}"
    (fault,) = faults(routes("/") + OIDC + f"logout: {{redirect_to: '{target}'}}\n")
    assert fault.path == "logout.redirect_to"
    assert "must have a path that routes match" in fault.problem


def test_the_bridge_knows_the_login_page_in_its_own_spelling(loaded: Loader) -> None:
    config = loaded(routes("/") + "logout: {redirect_to: '/l%6Fgin?x=1'}\n")
    assert compile_policy(config, bytes(32)).bridge.login == "/login"


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/api/logout", "logout.path itself"),
        ("/api/%6Cogout/", "logout.path itself"),
        ("/api/logout;x", "logout.path itself"),
        ("/api%2Flogout", "logout.path itself"),
        ("/%61uth/session", "endpoints of oidc"),
        ("/auth/session;v=1", "endpoints of oidc"),
    ],
)
def test_routes_that_an_endpoint_hides_are_told(loaded: Loader, path: str, whose: str) -> None:
    """Whatever a server may read as an endpoint is no route's."""
    config = loaded(routes("/", path) + OIDC)
    assert config.warnings == (f"routes[1].path: never reached; the sidecar answers {whose}",)


def test_front_channel_logout_hides_a_route_only_if_it_is_on(loaded: Loader) -> None:
    text = routes("/", "/auth/frontchannel-logout")
    assert loaded(text + OIDC).warnings == ()
    assert loaded(
        text + OIDC.replace("client_secret: s", "client_secret: s, frontchannel: true")
    ).warnings
