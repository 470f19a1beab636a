"""What was written becomes what runs: routes, upstreams, sources, secrets and trust."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from sidecar.compilation.compile_policy import compile_policy
from sidecar.core.config import Config, load
from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Result, read_credential
from sidecar.core.envelope import parse
from sidecar.core.keys import derive_key
from sidecar.core.route_table import Route
from sidecar.core.tickets import Signer
from sidecar.policy import Policy, TrustedPeers, UnauthorizedRule, UpstreamServer
from sidecar.tls import UnusableFile

ENTROPY = b"e" * 32
SECRET, OLD_SECRET = "canary-" + "n" * 32, "canary-" + "o" * 32
NOW = 1_700_000_000.0


def config(text: str, environ: dict[str, str] | None = None) -> Config:
    def no_file(path: str) -> str:
        raise FileNotFoundError(path)

    return load(text, source="file.yaml", environ=environ or {}, read_file=no_file)


def policy(text: str, environ: dict[str, str] | None = None) -> Policy:
    return compile_policy(config(text, environ), ENTROPY)


def matched(compiled: Policy, path: str) -> Route:
    route = compiled.routes.match(path)
    assert route is not None
    return route


FULL = """
upstreams:
  api: {url: "http://api:4000/v1/"}
  frontend: {url: "http://localhost:3000"}
routes:
  - {path: /api/, kind: api, upstream: api, strip: /api}
  - {path: /api/login, kind: api, upstream: api, strip: /api/, session: none}
  - {path: /api/step/, kind: api, upstream: api, on_unauthorized: pass, authorization: pass}
  - {path: /raw/, kind: api, upstream: api, envelope: false, host: api.test}
  - {path: /, kind: page, upstream: frontend}
session: {sources: [{type: cookie, cookie: access_token}]}
"""


def test_the_kind_decides_where_the_route_does_not() -> None:
    """The table of defaults (behaviour: routes)."""
    compiled = policy(FULL)
    api, page = matched(compiled, "/api/x"), matched(compiled, "/x")
    assert (api.session, api.inject, api.strip_cookies, api.on_unauthorized) == (
        "required",
        True,
        True,
        "logout",
    )
    assert api.envelope is not None
    assert (page.session, page.inject, page.strip_cookies, page.on_unauthorized) == (
        "optional",
        False,
        False,
        "pass",
    )
    assert page.envelope is None


def test_a_routes_own_keys_override_its_kind() -> None:
    """`session: none` takes the credential with it."""
    compiled = policy(FULL)
    login = matched(compiled, "/api/login")
    assert (login.session, login.inject, login.strip) == ("none", False, "/api")
    step = matched(compiled, "/api/step/x")
    assert (step.on_unauthorized, step.authorization) == ("pass", "pass")
    raw = matched(compiled, "/raw/x")
    assert raw.envelope is None
    assert raw.host == b"api.test"


def test_targets_are_made_of_base_and_strip() -> None:
    """The upstream's base path, then what `strip` left."""
    compiled = policy(FULL)
    assert matched(compiled, "/api/x").upstream_target("/api/x%2f", "?q") == "/v1/x%2f?q"
    assert matched(compiled, "/api/login").upstream_target("/api/login", "") == "/v1/login"
    assert matched(compiled, "/raw/x").upstream_target("/raw/x", "") == "/v1/raw/x"
    assert matched(compiled, "/x").upstream_target("/x", "") == "/x"
    assert matched(compiled, "/api/x").public_location("http://api:4000/v1/y") == "/api/y"


@pytest.mark.parametrize(
    ("url", "host", "address", "origin"),
    [
        ("http://api:4000", b"api:4000", ("api", 4000), "http://api:4000"),
        ("http://api", b"api", ("api", 80), "http://api"),
        ("http://api:80", b"api", ("api", 80), "http://api"),
        ("https://api/base", b"api", ("api", 443), "https://api"),
        ("http://[::1]:4000", b"[::1]:4000", ("::1", 4000), "http://[::1]:4000"),
        ("http://[::1]", b"[::1]", ("::1", 80), "http://[::1]"),
        ("http://127.0.0.1:4000", b"127.0.0.1:4000", ("127.0.0.1", 4000), "http://127.0.0.1:4000"),
        (
            "http://xn--bcher-kva.test:4000",
            b"xn--bcher-kva.test:4000",
            ("xn--bcher-kva.test", 4000),
            "http://xn--bcher-kva.test:4000",
        ),
        ("unix:/run/a.sock:/base", b"localhost", ("", 0, "/run/a.sock"), "http://localhost"),
    ],
)
def test_an_upstream_is_addressed_as_it_was_written(
    url: str, host: bytes, address: tuple[Any, ...], origin: str
) -> None:
    """Brackets, default ports and punycode included: a wrong Host is another server."""
    compiled = policy(f'upstream: "{url}"')
    route = matched(compiled, "/")
    assert route.host == host
    assert route.upstream_origins == (origin,)
    upstream = compiled.upstreams["api"]
    assert upstream.servers == (UpstreamServer(*address),)
    assert (upstream.tls is not None) is url.startswith("https")


@pytest.mark.parametrize(
    ("route", "upstream", "host"),
    [
        ("kind: api", "", b"api:4000"),
        ("kind: page", "", None),
        ("kind: api", ", host: up.test", b"up.test"),
        ("kind: page", ", host: up.test", b"up.test"),
        ("kind: api, host: route.test", ", host: up.test", b"route.test"),
    ],
)
def test_which_host_is_sent(route: str, upstream: str, host: bytes | None) -> None:
    """The route's `host:`, else the upstream's, else by kind."""
    text = f"""
upstreams: {{api: {{url: "http://api:4000"{upstream}}}}}
routes: [{{path: /, {route}, upstream: api, session: optional}}]
"""
    assert matched(policy(text), "/").host == host


def test_durations_and_sizes_reach_the_upstream() -> None:
    """Seconds and bytes."""
    compiled = policy("""
upstreams: {api: {url: "http://api", connect: 250ms, head: 1m, idle: 5s, pool: {idle: 3s, max: 7}}}
routes: [{path: /, kind: api, upstream: api, session: optional}]
limits: {header: 32KiB}
""")
    upstream = compiled.upstreams["api"]
    assert (upstream.connect, upstream.head, upstream.idle) == (0.25, 60, 5)
    assert (upstream.pool_idle, upstream.pool_max, upstream.header_limit) == (3, 7, 32768)


def test_upstream_tls_is_verified() -> None:
    """Against the system's authorities or the given ones; a missing file is told at once."""
    context = policy("upstream: https://api").upstreams["api"].tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    with pytest.raises(UnusableFile, match=r"tls\.ca: /no/such/file\.pem: no such file"):
        policy("""
upstreams: {api: {url: "https://api", tls: {ca: /no/such/file.pem}}}
routes: [{path: /, kind: api, upstream: api, session: optional}]
""")


def test_an_authority_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    """Not at the first request."""
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(UnusableFile, match="must contain a PEM certificate"):
        policy(f"""
upstreams: {{api: {{url: "https://api", tls: {{ca: "{path}"}}}}}}
routes: [{{path: /, kind: api, upstream: api, session: optional}}]
""")


# -- sessions --------------------------------------------------------------------------------------

SOURCES = f"""
upstream: http://api
session:
  sources:
    - {{type: authjs, secret: ["{SECRET}", "{OLD_SECRET}"], token: user.token}}
    - {{type: nextauth, secret: "{SECRET}", cookie: __Secure-custom}}
    - {{type: iron-session, cookie: app, password: {{1: "{OLD_SECRET}", 2: "{SECRET}"}}}}
    - {{type: auth0, secret: "{SECRET}"}}
    - {{type: better-auth, secret: "{SECRET}"}}
    - {{type: cookie, cookie: access_token}}
logout: {{cookies: [extra], domains: [example.test], paths: [/, /app]}}
"""


def test_every_source_is_built_in_its_order() -> None:
    """Each type of the configuration has its format, and all can be asked."""
    compiled = policy(SOURCES)
    types = [source.type for source in compiled.sources]
    assert types == ["authjs", "nextauth", "iron-session", "auth0", "better-auth", "cookie"]
    reading = read_credential(compiled.sources, CookieJar.parse("app=x; access_token=tok"), NOW)
    assert reading.result is Result.OK
    assert reading.source == "cookie"


@pytest.mark.parametrize(
    "name",
    [
        *("extra", "__Host-extra.0", "access_token", "app", "app.1", "custom", "__Secure-custom"),
        *("authjs.session-token", "__Secure-authjs.session-token.3", "__session", "__session__0"),
    ],
)
def test_a_session_cookie_is_one_of_any_source_or_of_logouts(name: str) -> None:
    """What is stripped, dropped and expired is the same set."""
    compiled = policy(SOURCES)
    assert compiled.session_names.matches(name)
    assert not compiled.session_names.matches("x" + name)
    assert (compiled.sweep.domains, compiled.sweep.paths) == (("example.test",), ("/", "/app"))


def test_the_sweep_names_each_cookie_once() -> None:
    """Defaults and sources name some twice."""
    names = [one.base for one in policy("upstream: http://api").sweep.swept]
    assert sorted(names) == sorted(set(names))
    assert {"authjs.session-token", "next-auth.session-token", "access_token"} <= set(names)


def test_nothing_secret_is_in_a_policys_repr() -> None:
    """It may end up in a traceback (T46)."""
    text = SOURCES + f'secret: ["{SECRET}", "{OLD_SECRET}"]\n'
    assert "canary" not in repr(policy(text))


SIGNED = 'upstream: http://api\nsecret: ["%s", "%s"]'


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (SIGNED % (SECRET, OLD_SECRET), SECRET.encode()),
        (
            f"upstream: http://api\nsession: {{sources: [{{type: cookie, cookie: a}}, "
            f'{{type: authjs, secret: ["{OLD_SECRET}", "{SECRET}"]}}]}}',
            derive_key(OLD_SECRET.encode(), "derived secret"),
        ),
        (
            "upstream: http://api\nsession: {sources: [{type: iron-session, cookie: a, "
            f'password: "{OLD_SECRET}"}}]}}',
            derive_key(OLD_SECRET.encode(), "derived secret"),
        ),
        ("upstream: http://api", ENTROPY),
    ],
)
def test_what_signs_tickets(text: str, secret: bytes) -> None:
    """The secret, else one derived from a source's, else this process's own."""
    ticket = Signer([secret]).ticket(None, NOW)
    assert policy(text).signer.read_ticket(ticket, NOW) is not None


def test_every_listed_secret_verifies() -> None:
    """Rotation logs nobody out."""
    ticket = Signer([OLD_SECRET.encode()]).ticket(None, NOW)
    assert policy(SIGNED % (SECRET, OLD_SECRET)).signer.read_ticket(ticket, NOW) is not None


# -- rules -----------------------------------------------------------------------------------------


def test_the_csrf_rule_knows_cors_origins_and_its_header() -> None:
    """Origins in the form browsers send them, the field name in lower case."""
    compiled = policy("""
upstream: http://api
public_url: https://App.test:443/
cors: {origins: ["https://Admin.test:443"]}
csrf: {header: X-CSRF}
""")
    assert compiled.csrf.origins == frozenset([b"https://admin.test"])
    assert compiled.csrf.header == b"x-csrf"
    assert compiled.public_origin == b"https://app.test"


RULE = UnauthorizedRule(
    statuses=frozenset([401]),
    messages=frozenset(["UnAuthentication"]),
    matches=(
        (("errors", "0", "code"), "UNAUTHENTICATED"),
        (("status",), 401),
        (("dead",), True),
        (("user",), None),
        (("list", "*", "code"), "E1"),
        (("1", "error"), "second"),
        (("*", "first"), "any"),
        (("text",), 'with "quotes"'),
    ),
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"message": "UnAuthentication"}', True),
        ('{"message": "UnAuthentication", "code": 7, "status": 9, "success": true}', True),
        (
            '{"message": "UnAuthentication", "isError": 1, "error": {}, "errors": [], "path": 1}',
            True,
        ),
        ('{"message": "UnAuthentication", "timestamp": 1, "data": null}', True),
        ('{"message": "UnAuthentication", "data":  null }', True),
        ('{"message": "unauthentication"}', False),
        ('{"message": ["UnAuthentication"]}', False),
        ('{"data": {"message": "UnAuthentication"}}', False),
        ('{"errors": [{"code": "UNAUTHENTICATED"}]}', True),
        ('{"errors": [{}, {"code": "UNAUTHENTICATED"}]}', False),
        ('{"status": 401}', True),
        ('{"status": "401"}', False),
        ('{"status": 401.0}', False),
        ('{"dead": true}', True),
        ('{"dead": 1}', False),
        ('{"user": null}', True),
        ("{}", False),
        ('{"list": [{}, 7, null, {"code": "E2"}, {"code": "\\u00451"}]}', True),
        ('{"list": [{"code": "E2"}]}', False),
        ('{"list": {"*": {"code": "E1"}}}', True),
        ('{"list": [[{"code": "E1"}]]}', False),
        ('{"text": "with \\"quotes\\""}', True),
        ('[{"errors": [{"code": "UNAUTHENTICATED"}]}]', True),
        ('  [{}, {"status": 401}]', True),
        ('[[{"status": 401}]]', False),
        ('[{}, {"error": "second"}]', True),
        ('[{"error": "second"}, {}]', False),
        ('[{"error": "first"}, {"first": "any"}]', True),
        ('[{"list": [{}, {"code": "E1"}]}]', True),
        ('[{"message": "UnAuthentication"}]', False),
        ('[{"code": "UNAUTHENTICATED"}, 401, true, null]', False),
        ("[%s{}]" % (9_998 * "{}," + '{"dead": true},'), True),
        ('["UnAuthentication"]', False),
        ('"UnAuthentication"', False),
    ],
)
def test_which_bodies_say_that_the_session_is_over(body: str, told: bool) -> None:
    """`message` and further members, by value and by type (behaviour: 401)."""
    for status in (200, 400, 500):
        assert RULE.is_told_by(parse(body.encode()), status) is told


@pytest.mark.parametrize(
    "body",
    [
        '{"message": "UnAuthentication", "id": 7}',
        '{"message": "UnAuthentication", "author": null}',
        '{"message": "UnAuthentication", "data": {}}',
        '{"message": "UnAuthentication", "data": "null"}',
        '{"message": "UnAuthentication", "data": false}',
        '{"message": "UnAuthentication", "Data": null}',
    ],
)
def test_a_stored_message_of_a_success_logs_nobody_out(body: str) -> None:
    """Below 400 the object must say nothing else; from 400 on it is an error's message."""
    assert [RULE.is_told_by(parse(body.encode()), status) for status in (200, 299, 399)] == [
        False
    ] * 3
    assert all(RULE.is_told_by(parse(body.encode()), status) for status in (400, 401, 503))


def test_a_match_counts_beside_other_members_at_any_status() -> None:
    assert RULE.is_told_by(parse(b'{"dead": true, "message": "UnAuthentication", "id": 7}'), 200)


# -- trust -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "address", "included"),
    [
        ((), "127.0.0.1", False),
        ((), "", False),
        (("unix",), "", True),
        (("unix",), "127.0.0.1", False),
        (("10.0.0.0/8",), "", False),
        (("10.0.0.0/8",), "10.255.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", True),
        (("10.0.0.0/8",), "::ffff:11.0.0.1", False),
        (("10.0.0.0/8",), "::1", False),
        (("fd00::/8", "10.0.0.1"), "fd12::1", True),
        (("fd00::/8", "10.0.0.1"), "10.0.0.1", True),
        (("fd00::/8", "10.0.0.1"), "10.0.0.2", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("::ffff:10.0.0.0/104",), "10.1.2.3", True),
        (("0.0.0.0/0",), "::1", False),
    ],
)
def test_whose_word_counts(trusted: tuple[str, ...], address: str, included: bool) -> None:
    """CIDRs and `unix`; `::ffff:a.b.c.d` is IPv4 (behaviour: forwarding)."""
    written = "".join(f'"{item}", ' for item in trusted)
    assert (
        policy(f"upstream: http://api\ntrusted_proxies: [{written}]").trusts.includes(address)
        is included
    )


def test_without_configuration_nobody_is_trusted() -> None:
    """The default."""
    assert not TrustedPeers(()).includes("127.0.0.1")


# -- the own login ---------------------------------------------------------------------------------

OWN = f"""
upstream: http://api
secret: {SECRET}
public_url: https://app.test
oidc: {{issuer: "https://idp.test", client_id: app, client_secret: canary-client"""


def test_without_oidc_nothing_is_answered_but_the_logout() -> None:
    compiled = policy("upstream: http://api")
    assert set(compiled.endpoints) == {"/api/logout", "/api/logout/"}
    assert compiled.login is None


@pytest.mark.parametrize(
    ("more", "base"), [("}", "/auth"), (", path: /own/}", "/own"), (", path: /}", "")]
)
def test_the_own_login_has_its_endpoints(more: str, base: str) -> None:
    """The front channel only where it is asked for."""
    compiled = policy(OWN + more)
    names = ["login", "callback", "session", "logout", "backchannel-logout"]
    paths = ["/api/logout", *(f"{base}/{name}" for name in names)]
    assert set(compiled.endpoints) == {*paths, *(f"{path}/" for path in paths)}
    assert compiled.logout.redirect_to == f"{base}/login"
    assert compiled.logout.home == "/"
    slashed = policy(f"{OWN}{more}\nlogout: {{redirect_to: {base}/login/}}")
    assert slashed.logout.home == "/"
    framed = policy(OWN + more.replace("}", ", frontchannel: true}"))
    assert f"{base}/frontchannel-logout" in framed.endpoints


@pytest.mark.parametrize(
    ("more", "is_stored"),
    [
        ("}", False),
        (", keep: store}", True),
        ('}\nstore: {url: "sqlite:///tmp/x"}', True),
        (', keep: cookie}\nstore: {url: "sqlite:///tmp/x"}', False),
    ],
)
def test_own_sessions_are_kept_in_the_store_where_there_is_one(more: str, is_stored: bool) -> None:
    compiled = policy(OWN + more)
    assert compiled.login is not None
    assert compiled.login.is_stored is is_stored
    assert compiled.sources[0] is compiled.login.source


def test_own_cookies_are_session_cookies() -> None:
    """Swept, and shown to no API; those of a login under way are only hidden."""
    compiled = policy(OWN + ", cookie: own}")
    assert {"own", "own-used"} <= set(compiled.sweep.by_base)
    for name in ("__Host-own", "own.1", "__Host-own-used"):
        assert compiled.session_names.matches(name)
        assert compiled.hidden_names.matches(name)
    assert compiled.hidden_names.matches("__Host-own-login-x")
    assert not compiled.session_names.matches("__Host-own-login-x")
    assert "canary" not in repr(compiled)
