"""What a right configuration amounts to: kinds, shorthand, sources, files, warnings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest
from pydantic import ValidationError

from sidecar.core.config import (
    Auth0Source,
    AuthjsSource,
    Config,
    CookieSource,
    Envelope,
    Fault,
    IronSessionSource,
    Listen,
    NextauthSource,
    RouteSection,
)
from sidecar.core.config.listen_section import listeners_at

Loader = Callable[..., Config]
FaultFinder = Callable[..., tuple[Fault, ...]]

UPSTREAMS = "upstreams: {api: {url: http://a}}\n"
LONG = "x" * 32


def route(loaded: Loader, keys: str, more: str = "") -> RouteSection:
    text = f"{UPSTREAMS}{more}\nlogout: {{redirect_to: /}}\nroutes:\n- {{upstream: api, {keys}}}\n"
    (only,) = loaded(f"{text}- {{path: /, kind: page, upstream: api}}\n").routes[:1]
    return only


def test_one_line_is_enough(loaded: Loader) -> None:
    """The shorthand is one route of kind api on which a session is optional."""
    config = loaded("upstream: http://localhost:4000")
    assert {name: upstream.url for name, upstream in config.upstreams.items()} == {
        "api": "http://localhost:4000"
    }
    assert config.routes == (
        RouteSection(path="/", kind="api", upstream="api", session="optional"),
    )
    assert config.routes[0].inject
    assert config.listen == listeners_at(Listen("0.0.0.0", 8080))


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
def test_the_upstream_alone_needs_no_file(loaded: Loader, text: str | None) -> None:
    """By variable or by option; the option wins."""
    environ = {"SIDECAR_UPSTREAM": "http://b"}
    assert loaded(text, environ).upstreams["api"].url == "http://b"
    assert loaded(text, environ, None, upstream="http://c").upstreams["api"].url == "http://c"


def test_option_stands_above_the_file(loaded: Loader) -> None:
    assert loaded("upstream: http://a", upstream="http://c").upstreams["api"].url == "http://c"


@pytest.mark.parametrize(
    ("environ", "types"),
    [
        ({}, ["cookie"]),
        ({"AUTH_SECRET": LONG}, ["authjs", "cookie"]),
        ({"NEXTAUTH_SECRET": LONG}, ["nextauth", "cookie"]),
        ({"NEXTAUTH_SECRET": LONG, "AUTH_SECRET": LONG}, ["authjs", "nextauth", "cookie"]),
        ({"AUTH_SECRET": ""}, ["cookie"]),
    ],
)
def test_sources_default_to_what_the_environment_shows(
    loaded: Loader, environ: Mapping[str, str], types: list[str]
) -> None:
    config = loaded("upstream: http://a", environ)
    assert [source.type for source in config.session.sources] == types
    assert config.session.sources[-1] == CookieSource(type="cookie", cookie="access_token")
    for source in config.session.sources[:-1]:
        assert isinstance(source, AuthjsSource | NextauthSource)
        assert [secret.get_secret_value() for secret in source.secret] == [LONG]


@pytest.mark.parametrize(
    "text",
    [
        f"{UPSTREAMS}routes:\n- {{path: /, kind: page, upstream: api}}",
        "upstream: http://a\npublic_url: https://a\noidc: {issuer: https://i, client_id: a}",
    ],
)
@pytest.mark.parametrize(
    ("environ", "types"),
    [({}, []), ({"NEXTAUTH_SECRET": LONG, "AUTH_SECRET": LONG}, ["authjs", "nextauth"])],
)
def test_a_cookie_that_nobody_verifies_is_no_default_beside_routes_or_oidc(
    loaded: Loader, text: str, environ: Mapping[str, str], types: list[str]
) -> None:
    """Whoever wrote it into a browser would be taken for a user."""
    sources = loaded(text, environ).session.sources
    assert [source.type for source in sources] == types


def test_named_sources_stand_alone(loaded: Loader) -> None:
    text = "upstream: http://a\nsession: {sources: [{type: cookie, cookie: t}]}"
    config = loaded(text, {"AUTH_SECRET": LONG})
    assert config.session.sources == (CookieSource(type="cookie", cookie="t"),)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("api", ("required", True, "strip", Envelope(), "logout", None)),
        ("page", ("optional", False, "forward", None, "pass", None)),
    ],
)
def test_kind_fills_in_what_a_route_leaves_out(
    loaded: Loader, kind: str, expected: tuple[object, ...]
) -> None:
    """The table of kinds (behaviour: routes)."""
    made = route(loaded, f"path: /x, kind: {kind}")
    assert expected == (
        made.session,
        made.inject,
        made.cookies,
        made.envelope,
        made.on_unauthorized,
        made.authorization,
    )


def test_a_routes_own_keys_win(loaded: Loader) -> None:
    keys = (
        "path: /x, kind: page, session: required, inject: true, cookies: strip, envelope: true, "
        "on_unauthorized: envelope, authorization: pass, host: H"
    )
    assert route(loaded, keys) == RouteSection.model_construct(
        path="/x",
        kind="page",
        upstream="api",
        strip=None,
        session="required",
        inject=True,
        cookies="strip",
        envelope=Envelope(),
        on_unauthorized="envelope",
        authorization="pass",
        host="h",
    )


def test_no_session_means_nothing_to_inject(loaded: Loader) -> None:
    assert not route(loaded, "path: /x, kind: api, session: none").inject


@pytest.mark.parametrize(
    ("path", "strip", "expected"),
    [
        ("/api/", "/api", "/api"),
        ("/api/", "/api/", "/api"),
        ("/api", "/api", "/api"),
        ("/a/b/c", "/a/b", "/a/b"),
        ("/api", "/", None),
    ],
)
def test_strip_is_a_prefix_without_its_slash(
    loaded: Loader, path: str, strip: str, expected: str | None
) -> None:
    assert route(loaded, f"path: {path}, kind: api, strip: {strip}").strip == expected


@pytest.mark.parametrize(
    ("keys", "buffer"),
    [
        ("", 2048),
        (", envelope: true", 2048),
        (", envelope: {keep: [a]}", 2048),
        (", envelope: {buffer: 4KiB}", 4096),
        (", envelope: {buffer: 1MiB}", 1 << 20),
    ],
)
def test_envelope_inherits_the_common_buffer(loaded: Loader, keys: str, buffer: int) -> None:
    """Unless the route names one, even if it is the default's."""
    made = route(loaded, f"path: /x, kind: api{keys}", "envelope: {buffer: 2KiB}")
    assert made.envelope is not None
    assert made.envelope.buffer == buffer


@pytest.mark.parametrize("envelope", ["null", "", "\n    # keep: [meta]", "${NONE:-null}"])
def test_an_envelope_without_keys_is_that_of_its_kind(loaded: Loader, envelope: str) -> None:
    """All of its keys are commented out: nobody turned it off, or on."""
    routes = "".join(
        f"- path: /{kind}\n  kind: {kind}\n  upstream: a\n  envelope: {envelope}\n"
        for kind in ("api", "page")
    )
    file = f"upstreams: {{a: http://a}}\nenvelope: {{buffer: 2KiB}}\nroutes:\n{routes}"
    api, page = loaded(file).routes
    assert api.envelope is not None
    assert (api.envelope.buffer, page.envelope) == (2048, None)
    environ = {"SIDECAR_ROUTES__0__ENVELOPE": "null"}
    assert loaded(file, environ).routes[0].envelope is not None


@pytest.mark.parametrize(
    ("common", "own", "problem"),
    [
        ("keep: [meta]", "message: meta.text", "since message stands within it (keep is that of"),
        ("keep: [meta]", "data: [meta, d]", "since data stands within it (keep is that of"),
        ("error_data: meta.e", "keep: [meta]", "within it (error_data is that of"),
    ],
)
def test_an_inherited_key_of_an_envelope_is_held_to_the_same_rule(
    faults: FaultFinder, loaded: Loader, common: str, own: str, problem: str
) -> None:
    """A member that is kept is not looked into, wherever each is written."""
    text = (
        "upstreams: {a: http://a}\nenvelope: {%s}\n"
        "routes: [{path: /, kind: api, session: optional, upstream: a, envelope: {%s}}]"
    )
    (fault,) = faults(text.replace("%s", common, 1).replace("%s", own, 1))
    assert (fault.path, fault.line) == ("routes[0].envelope", 3)
    assert problem in fault.problem
    name = "keep" if "keep" in common else "error_data"
    other = f"{own}, {name}: {'[other]' if name == 'keep' else 'null'}"
    assert loaded(text.replace("%s", common, 1).replace("%s", other, 1))


def test_an_envelope_keeps_a_member_once(loaded: Loader) -> None:
    config = loaded("upstream: http://a\nenvelope: {keep: [meta, page, meta]}")
    assert config.envelope.keep == ("meta", "page")


@pytest.mark.parametrize("value", ["false", "'false'", "${OFF:-false}"])
def test_envelope_can_be_off(loaded: Loader, value: str) -> None:
    assert route(loaded, f"path: /x, kind: api, envelope: {value}").envelope is None


def test_sources_read_every_key(loaded: Loader) -> None:
    """Claims as paths, one secret or many, iron-session's ids."""
    config = loaded(
        "upstream: http://a\nsession:\n  sources:\n"
        "  - {type: authjs, secret: [a, b], token: user.token, expires_at: ['https://x.y/exp']}\n"
        "  - {type: iron-session, cookie: app, password: one}\n"
        "  - {type: iron-session, cookie: app, password: {1: one, 2: two}}\n"
        "  - {type: auth0, secret: a, cookie: sess}\n"
        "  - {type: better-auth, secret: a}\n"
    )
    authjs, one, two, auth0, better = config.session.sources
    assert isinstance(authjs, AuthjsSource)
    assert (authjs.token, authjs.expires_at) == (("user", "token"), ("https://x.y/exp",))
    assert [secret.get_secret_value() for secret in authjs.secret] == ["a", "b"]
    assert isinstance(one, IronSessionSource)
    assert {key: value.get_secret_value() for key, value in one.password.items()} == {"1": "one"}
    assert isinstance(two, IronSessionSource)
    assert list(two.password) == ["1", "2"]
    assert isinstance(auth0, Auth0Source)
    assert (auth0.token, auth0.cookie) == (("tokenSet", "accessToken"), "sess")
    assert better.type == "better-auth"
    assert better.token == ("accessToken",)


def test_secrets_come_from_files_without_their_line_end(loaded: Loader) -> None:
    """One, several, or by id."""
    config = loaded(
        "upstream: http://a\nsecret_file: [/a, /b]\nsession:\n  sources:\n"
        "  - {type: authjs, secret_file: /c}\n"
        "  - {type: iron-session, cookie: app, password_file: {1: /c, 2: /a}}\n",
        {},
        {"/a": "a" * 32 + "\n", "/b": "b" * 32 + "\r\n", "/c": " c \n\n"},
    )
    authjs, iron = config.session.sources
    assert isinstance(authjs, AuthjsSource)
    assert isinstance(iron, IronSessionSource)
    assert [secret.get_secret_value() for secret in config.secret] == ["a" * 32, "b" * 32]
    assert [secret.get_secret_value() for secret in authjs.secret] == [" c "]
    assert [secret.get_secret_value() for secret in iron.password.values()] == [" c ", "a" * 32]


@pytest.mark.parametrize("value", ["text", "401", 1, 1.5, True, None])
def test_match_compares_with_json_scalars(loaded: Loader, value: object) -> None:
    """JSON is YAML, so a scalar's type is what JSON would make of it."""
    rule = f"{{path: errors.0.code, equals: {json.dumps(value)}}}"
    config = loaded(f"upstream: http://a\nunauthorized: {{match: [{rule}]}}")
    (match,) = config.unauthorized.match
    assert match.path == ("errors", "0", "code")
    assert (type(match.equals), match.equals) == (type(value), value)


def test_section_with_every_key_commented_out_is_the_default(loaded: Loader) -> None:
    assert loaded("upstream: http://a\nlimits:\nlog:\n") == loaded("upstream: http://a")


def test_aliases_are_ordinary_yaml(loaded: Loader) -> None:
    config = loaded("upstream: http://a\nlimits: {header: &size 2KiB, body: *size}")
    assert config.limits.header == config.limits.body == 2048


def test_an_anchor_may_come_again(loaded: Loader, recwarn: pytest.WarningsRecorder) -> None:
    """And nothing is warned of: such a warning would show the lines, and what secret is there."""
    config = loaded(
        "upstream: http://a\nlimits: {header: &a 2KiB, body: &a 3KiB}\nenvelope: {buffer: *a}"
    )
    assert config.limits.body == 3072
    (route,) = config.routes
    assert route.envelope is not None
    assert route.envelope.buffer == 3072
    assert not recwarn.list


def test_yaml_is_version_1_2(loaded: Loader) -> None:
    """`no` and dates are text there."""
    config = loaded("upstream: http://a\nunauthorized: {messages: [no, 2020-01-01, 12:30:45]}")
    assert config.unauthorized.messages == ("no", "2020-01-01", "12:30:45")


def test_nothing_can_be_changed(loaded: Loader) -> None:
    config = loaded("upstream: http://a")
    with pytest.raises(ValidationError):
        config.listen = listeners_at(Listen("a", 1))  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.limits.header = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.upstreams["b"] = config.upstreams["api"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        config.listeners[0].address.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("", "secret: missing"),
        (f"secret: {LONG}", None),
        (f"session: {{sources: [{{type: authjs, secret: {LONG}}}]}}", None),
        (
            "session: {sources: [{type: authjs, secret: [short]}]}",
            "session.sources[0].secret: should have at least 32 bytes",
        ),
        (
            "session: {sources: [{type: iron-session, cookie: a, password: short}]}",
            "session.sources[0].password: should have at least 32 bytes",
        ),
        (
            f"secret: {LONG}\npublic_url: http://a\n"
            "session: {sources: [{type: cookie, cookie: a, same_site: None}]}",
            "session.sources[0].same_site: needs https",
        ),
        (
            f"secret: {LONG}\npublic_url: https://a\n"
            "session: {sources: [{type: cookie, cookie: a, same_site: none, partitioned: true}]}",
            None,
        ),
        (
            f"secret: {LONG}\npublic_url: https://a\nlimits: {{per_client: {{login: 5/s}}}}",
            "limits.per_client: a proxy stands in front",
        ),
        (
            f"secret: {LONG}\npublic_url: https://a\ntrusted_proxies: [10.0.0.1]\n"
            "limits: {per_client: {login: 5/s}}",
            None,
        ),
        (f"secret: {LONG}\nlimits: {{per_client: {{connections: 5}}}}", None),
        (
            f"secret: {LONG}\ntrusted_proxies: [unix, '::/0']",
            "trusted_proxies[1]: trusts every client",
        ),
        (
            f"secret: {LONG}\ncore_dumps: true",
            "core_dumps: true, so a core file holds every secret",
        ),
        (f"secret: {LONG}\ncore_dumps: false", None),
    ],
)
def test_warnings(loaded: Loader, text: str, warning: str | None) -> None:
    """What is allowed but unwise is told, once, and what is fine is not."""
    warnings = loaded("upstream: http://a\n" + text).warnings
    assert len(warnings) == (warning is not None)
    assert "".join(warnings).startswith(warning or "")


@pytest.mark.parametrize(
    ("upstream", "route", "is_warned"),
    [
        ("urls: [https://a.test, https://b.test]", "", True),
        ("urls: [https://a.test, https://a.test:8443]", "", False),
        ("urls: [http://a.test, http://b.test]", "", False),
        ("{urls: [https://a.test, https://b.test], host: site.test}", "", False),
        ("urls: [https://a.test, https://b.test]", ", host: site.test", False),
        ("urls: [https://a.test, https://b.test]", ", kind: page", False),
    ],
)
def test_warnings_about_several_names_of_servers(
    loaded: Loader, upstream: str, route: str, is_warned: bool
) -> None:
    """TLS names each server by itself, and Host names the first: virtual hosts answer 421."""
    written = upstream if upstream.startswith("{") else f"{{{upstream}}}"
    kind = "" if "kind" in route else ", kind: api"
    routes = f"[{{path: /, upstream: a{kind}{route}, session: none}}]"
    text = f"upstreams: {{a: {written}}}\nroutes: {routes}\n"
    keys = [one.partition(":")[0] for one in loaded(text).warnings]
    assert ("upstreams.a.urls" in keys) is is_warned


def test_warnings_about_logout(loaded: Loader) -> None:
    """A route that can never be reached, and a login that nobody serves."""
    unserved, shadowed = (
        loaded(
            f"secret: {LONG}\n{UPSTREAMS}session: {{sources: [{{type: cookie, cookie: a}}]}}\n"
            f"routes:\n- {{path: {path}, kind: api, upstream: api}}"
        )
        for path in ("/api/", "/api/logout/")
    )
    assert [text.partition(":")[0] for text in unserved.warnings] == ["logout.redirect_to"]
    assert "routes[0].path" in [text.partition(":")[0] for text in shadowed.warnings]


@pytest.mark.parametrize(
    ("domain", "public_url", "is_warned"),
    [
        ("example.com", "https://app.example.com", False),
        (".example.com", "https://example.com:8443", False),
        ("app.example.com", "https://app.example.com", False),
        ("example.com", "null", False),
        ("example.org", "https://app.example.com", True),
        ("ample.com", "https://example.com", True),
        ("app.example.com", "https://example.com", True),
        ("example.com", "https://10.0.0.5", True),
    ],
)
def test_warnings_about_domains_that_are_not_of_this_site(
    *, loaded: Loader, domain: str, public_url: str, is_warned: bool
) -> None:
    """A browser takes no such cookie, so neither a renewal nor a logout would reach it."""
    source = f"{{type: cookie, cookie: a, domain: {domain}}}"
    text = (
        f"upstream: http://a\nsecret: {LONG}\npublic_url: {public_url}\n"
        f"session: {{sources: [{source}]}}\nlogout: {{domains: [example.com, {domain}]}}"
    )
    keys = [one.partition(":")[0] for one in loaded(text).warnings]
    assert ("session.sources[0].domain" in keys) is is_warned
    assert ("logout.domains[1]" in keys) is is_warned


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/account/*", "'*'; use /account/,"),
        ("/account/.*", "'.*'; use /account/,"),
        ("/a*/b", "'a*'; use /,"),
        ("/users/:id/cards", "':id'; use /users/,"),
        ("/users/a:b/", None),
        ("/account/", None),
    ],
)
def test_warnings_about_paths_that_look_like_patterns(
    loaded: Loader, path: str, told: str | None
) -> None:
    """Such a route matches next to nothing, so that its session: required protects nothing."""
    route = f"{{path: '{path}', kind: page, upstream: api, session: required}}"
    rest = "{path: /, kind: page, upstream: api}"
    sources = f"session: {{sources: [{{type: authjs, secret: {LONG}}}]}}\n"
    text = f"secret: {LONG}\n{UPSTREAMS}{sources}routes: [{route}, {rest}]"
    warnings = [one for one in loaded(text).warnings if one.startswith("routes[0].path: ")]
    assert len(warnings) == (told is not None)
    assert (told or "") in "".join(warnings)


COOKIE = f"session: {{sources: [{{type: authjs, secret: {LONG}}}, {{type: cookie, cookie: a}}]}}\n"


@pytest.mark.parametrize("session", ["required", "optional"])
def test_warnings_about_observed_routes(loaded: Loader, session: str) -> None:
    """Nobody is kept out there, which is worst where a session is required."""
    route = f"routes:\n- {{path: /, kind: page, upstream: api, session: {session}, observe: true}}"
    sources = f"session: {{sources: [{{type: authjs, secret: {LONG}}}]}}\n"
    away = "logout: {redirect_to: https://l/, allowed_origins: [https://l]}\n"
    (warning,) = loaded(f"{UPSTREAMS}{away}{sources}{route}").warnings
    assert warning.startswith("routes[0].observe: requests to / pass without the rules")
    assert ("anybody reaches it" in warning) is (session == "required")


@pytest.mark.parametrize(
    ("keys", "more", "warning"),
    [
        ("kind: page, session: none", "", None),
        ("kind: page", "", "session.sources: empty"),
        ("kind: page, session: required", "", "session.sources: empty"),
        ("kind: page, session: required", COOKIE, "session.sources[1]: the sidecar cannot verify"),
        ("kind: page", COOKIE, None),
        ("kind: api, session: optional", COOKIE, None),
    ],
)
def test_warnings_about_sources(loaded: Loader, keys: str, more: str, warning: str | None) -> None:
    """No source at all, and one that lets anybody in to a page."""
    away = "logout: {redirect_to: https://l/, allowed_origins: [https://l]}\n"
    route = f"routes:\n- {{path: /, upstream: api, {keys}}}"
    text = f"secret: {LONG}\n{UPSTREAMS}{away}{more}{route}"
    warnings = loaded(text).warnings
    assert len(warnings) == (warning is not None)
    assert "".join(warnings).startswith(warning or "")
