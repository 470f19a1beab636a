"""Every key can be set from the environment, and a name that is no key is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.core.config import Config, CookieSource, Fault, IronSessionSource, Listen
from sidecar.core.config.listen_section import listeners_at

Loader = Callable[..., Config]
FaultFinder = Callable[..., tuple[Fault, ...]]

FILE = """\
listen: a:1
upstreams:
  my-api: {url: http://a}
routes:
- {path: /api/, kind: api, upstream: my-api}
- {path: /, kind: page, upstream: my-api}
session:
  sources:
  - {type: iron-session, cookie: app, password: {1: one}}
"""


def test_plain_value(loaded: Loader) -> None:
    assert loaded(FILE, {"SIDECAR_LISTEN": "b:2"}).listen == listeners_at(Listen("b", 2))


def test_nested_values_and_list_items(loaded: Loader) -> None:
    """Down sections, by index, over `-` in a key, into sections the file leaves out."""
    config = loaded(
        FILE,
        {
            "SIDECAR_UPSTREAMS__MY_API__POOL__MAX": "7",
            "SIDECAR_ROUTES__0__SESSION": "optional",
            "SIDECAR_ROUTES__0__STRIP": "/api",
            "SIDECAR_LIMITS__IN_FLIGHT__API": "9",
            "SIDECAR_CSRF__ENABLED": "false",
            "SIDECAR_SESSION__SOURCES__0__PASSWORD__1": "two",
            "SIDECAR_ADMIN": "null",
        },
    )
    (source,) = config.session.sources
    assert isinstance(source, IronSessionSource)
    assert config.upstreams["my-api"].pool.max == 7
    assert (config.routes[0].session, config.routes[0].strip) == ("optional", "/api")
    assert config.limits.in_flight.api == 9
    assert not config.csrf.enabled
    assert source.password["1"].get_secret_value() == "two"
    assert config.admin is None


@pytest.mark.parametrize(
    "value",
    [
        "[{type: cookie, cookie: t}]",
        "- type: cookie\n  cookie: t",
        '[{"type":"cookie","cookie":"t"}]',
    ],
)
def test_lists_are_yaml(loaded: Loader, value: str) -> None:
    config = loaded(FILE, {"SIDECAR_SESSION__SOURCES": value})
    assert config.session.sources == (CookieSource(type="cookie", cookie="t"),)


def test_whole_configuration_from_the_environment(loaded: Loader) -> None:
    """Items are put one after another, 10 after 9, each before its parts are changed."""
    environ = {f"SIDECAR_ROUTES__{n}__PATH": f"/{n}" for n in range(11)}
    environ |= {f"SIDECAR_ROUTES__{n}__KIND": "page" for n in range(11)}
    environ |= {f"SIDECAR_ROUTES__{n}__UPSTREAM": "a" for n in range(11)}
    config = loaded(None, {**environ, "SIDECAR_UPSTREAMS__A__URL": "http://a"})
    assert [route.path for route in config.routes] == [f"/{n}" for n in range(11)]


@pytest.mark.parametrize("secret", ["0123456789" * 4, "#" * 40, "a: b" * 10, "${A}" * 10, "!" * 40])
def test_text_is_taken_as_it_is(loaded: Loader, secret: str) -> None:
    """No YAML typing, no comments, no references."""
    (found,) = loaded(FILE, {"SIDECAR_SECRET": secret}).secret
    assert found.get_secret_value() == secret


def test_empty_variable_counts_as_not_set(loaded: Loader) -> None:
    assert loaded(FILE, {"SIDECAR_LISTEN": "", "SIDECAR_NONSENSE": ""}) == loaded(FILE)


def test_override_takes_the_place_of_the_files_other_form(loaded: Loader) -> None:
    """`secret` of `secret_file` and the reverse; routes of the shorthand."""
    long = "x" * 32
    by_file = loaded("upstream: http://a\nsecret_file: /none", {"SIDECAR_SECRET": long})
    assert by_file.secret[0].get_secret_value() == long
    by_text = loaded(
        "upstream: http://a\nsecret: short", {"SIDECAR_SECRET_FILE": "/a"}, {"/a": long}
    )
    assert by_text.secret[0].get_secret_value() == long
    environ = {
        "SIDECAR_UPSTREAMS__B__URL": "http://b",
        "SIDECAR_ROUTES": "[{path: /, kind: page, upstream: b}]",
    }
    assert list(loaded("upstream: http://a", environ).upstreams) == ["b"]


def test_replaced_value_is_not_complained_about(loaded: Loader) -> None:
    """An unset reference does not matter where an override stands above it."""
    assert loaded("upstream: ${NONE}", {"SIDECAR_UPSTREAM": "http://b"}).upstream == "http://b"


@pytest.mark.parametrize(
    "environ",
    [
        {"SIDECAR_CONFIG": "/etc/x"},
        {"SIDECAR_PORT": "tcp://10.0.0.1:80", "SIDECAR_SERVICE_HOST": "10.0.0.1"},
        {"SIDECAR_SERVICE_PORT": "80", "SIDECAR_SERVICE_PORT_HTTP": "80"},
        {"SIDECAR_PORT_80_TCP": "tcp://10.0.0.1:80", "SIDECAR_PORT_80_TCP_ADDR": "10.0.0.1"},
        {"SIDECAR_ADMIN_PORT": "tcp://10.0.0.1:80", "SIDECAR_ADMIN_SERVICE_HOST": "10.0.0.1"},
    ],
)
def test_names_that_are_no_keys_on_purpose(loaded: Loader, environ: dict[str, str]) -> None:
    """The command line's own variable, and those Kubernetes sets for a Service named sidecar."""
    assert loaded(FILE, environ) == loaded(FILE)


@pytest.mark.parametrize(
    "case",
    [
        ("SIDECAR_LISTE", "a:1", "liste", "unknown key", 'did you mean "listen"?'),
        ("SIDECAR_PORT", "8080", "port", "unknown key", ""),
        ("SIDECAR_LOG__LVL", "x", "log.lvl", "unknown key", 'did you mean "level"?'),
        ("SIDECAR_WORKERS", "0", "workers", "must be a positive integer or `auto`", "auto"),
        ("SIDECAR_LISTEN", "nowhere", "listen", "must be host:port", "0.0.0.0:8080"),
        ("SIDECAR_LOG", "debug", "log", "must be a mapping", ""),
        ("SIDECAR_LISTEN__PORT", "1", "listen.port", "unknown key below a plain value", "itself"),
        ("SIDECAR_ROUTES__3__PATH", "/x", "routes[3].path", "unknown place in the list", "0 to 2"),
        ("SIDECAR_ROUTES__X", "/x", "routes.x", "unknown place in the list", "number"),
        (
            "SIDECAR_ROUTES",
            "[{path",
            "routes",
            "must be a list or mapping in YAML",
            "list or mapping",
        ),
        (
            "SIDECAR_ROUTES",
            "[{path: /, path: /}]",
            "routes",
            "must be a list or mapping in YAML",
            "",
        ),
        (
            "SIDECAR_ROUTES__0__UPSTREAM",
            "apx",
            "routes[0].upstream",
            'unknown upstream "apx"',
            "my-api",
        ),
        ("SIDECAR_SECRET", "short", "secret", "must have at least 32 bytes", "keygen"),
        ("SIDECAR_SECRET_FILE", "/none", "secret_file", "cannot be read", "mount"),
    ],
)
def test_faults_name_the_variable(
    faults: FaultFinder, case: tuple[str, str, str, str, str]
) -> None:
    name, value, path, problem, remedy = case
    (fault,) = faults(FILE, {name: value})
    assert (fault.path, fault.line, fault.source) == (path, None, name)
    assert problem in fault.problem
    assert remedy in str(fault)
    assert str(fault).startswith(f"{name}: {path}: ")


def test_faults_name_the_option(faults: FaultFinder) -> None:
    (fault,) = faults(None, upstream="nowhere")
    assert str(fault).startswith("--upstream: upstream: must be an http or https URL")


def test_option_contradicts_routes_of_the_file(faults: FaultFinder) -> None:
    """It would silently drop their rules."""
    (fault,) = faults(FILE, upstream="http://b")
    assert (fault.source, fault.path) == ("--upstream", "upstream")


NEW, OLD = "n" * 32, "o" * 32


def secrets(config: Config) -> list[str]:
    return [one.get_secret_value() for one in config.secret]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('secret: ["${SIDECAR_SECRET}", "${OLD}"]', [NEW, OLD]),
        ("secret: [${OLD}, ${SIDECAR_SECRET}]", [OLD, NEW]),
        ("secret: ${SIDECAR_SECRET}", [NEW]),
        ('secret: "${SIDECAR_SECRET}"', [NEW]),
        ('secret: "${SIDECAR_SECRET:-none}"', [NEW]),
        ("secret: a-${SIDECAR_SECRET}", [f"a-{NEW}"]),
        ("secret: other", [NEW]),
    ],
)
def test_a_variable_that_a_key_refers_to_is_what_the_key_says(
    loaded: Loader, line: str, expected: list[str]
) -> None:
    """It does not replace the value that it is a part of, such as a list that rotates secrets."""
    config = loaded(f"{FILE}{line}\n", {"SIDECAR_SECRET": NEW, "OLD": OLD})
    assert secrets(config) == expected


@pytest.mark.parametrize("text", [r'"\u0024{SIDECAR_PORT}"', "&a '${SIDECAR_PORT}'"])
def test_a_reference_is_one_however_it_is_written(loaded: Loader, text: str) -> None:
    """By an escape of YAML, or with an anchor."""
    file = f"upstream: http://a\nlogout: {{path: {text}}}\n"
    assert loaded(file, {"SIDECAR_PORT": "/out"}).logout.path == "/out"


def test_a_variable_is_a_part_of_a_short_form(loaded: Loader) -> None:
    """Which is spelled out before variables are looked at."""
    file = "upstreams: {a: 'http://${SIDECAR_UPSTREAMS__A__URL}:1'}\nroutes: {}\n"
    environ = {
        "SIDECAR_UPSTREAMS__A__URL": "api",
        "SIDECAR_ROUTES": "[{path: /, kind: page, upstream: a}]",
    }
    assert loaded(file, environ).upstreams["a"].url == "http://api:1"


def test_a_variable_of_a_key_that_is_replaced_counts_again(loaded: Loader) -> None:
    file = "upstream: http://a\nstore: {url: 'redis://:${SIDECAR_STORE__URL}@a'}\n"
    environ = {"SIDECAR_STORE": "{ready: false}", "SIDECAR_STORE__URL": "memory:"}
    store = loaded(file, environ).store
    assert (store.url.kind, store.ready) == ("memory", False)


@pytest.mark.parametrize(
    ("line", "name", "text", "read"),
    [
        (
            'trusted_proxies: ["${SIDECAR_TRUSTED_PROXIES}"]',
            "SIDECAR_TRUSTED_PROXIES",
            "10.0.0.0/8,unix",
            lambda config: config.trusted_proxies == ("10.0.0.0/8", "unix"),
        ),
        (
            'cors: {origins: ["${SIDECAR_CORS__ORIGINS}"]}',
            "SIDECAR_CORS__ORIGINS",
            "https://a.test,https://b.test",
            lambda config: config.cors.origins == ("https://a.test", "https://b.test"),
        ),
        (
            "cors: ${SIDECAR_CORS__ORIGINS}",
            "SIDECAR_CORS__ORIGINS",
            "https://a.test,https://b.test",
            lambda config: config.cors.origins == ("https://a.test", "https://b.test"),
        ),
        (
            'secret: ["${SIDECAR_SECRET}"]',
            "SIDECAR_SECRET",
            f'["{NEW}", "{OLD}"]',
            lambda config: [one.get_secret_value() for one in config.secret] == [NEW, OLD],
        ),
    ],
)
def test_a_reference_that_is_all_of_a_list_is_the_whole_list(
    loaded: Loader, line: str, name: str, text: str, read: Callable[[Config], bool]
) -> None:
    """The variable of its name sets the key as well, and may hold several."""
    assert read(loaded(f"upstream: http://a\n{line}\n", {name: text}))


def test_a_variable_may_be_referred_to_that_is_no_key(loaded: Loader) -> None:
    """Whatever it is called, as long as the file speaks of it; a comment will do."""
    file = (
        'upstream: http://a\nlisten: "0.0.0.0:${SIDECAR_PORT}"\n'
        'secret: ["${SIDECAR_SECRET_NEW}", "${SIDECAR_SECRET__OLD}"]\n'
        "log: {level: '${SIDECAR_LOG__LVL:-info}'} # or ${SIDECAR_LOGLEVEL}\n"
    )
    environ = {
        "SIDECAR_PORT": "81",
        "SIDECAR_SECRET_NEW": NEW,
        "SIDECAR_SECRET__OLD": OLD,
        "SIDECAR_LOG__LVL": "debug",
        "SIDECAR_LOGLEVEL": "x",
    }
    config = loaded(file, environ)
    assert config.listen == listeners_at(Listen("0.0.0.0", 81))
    assert (secrets(config), config.log.level) == ([NEW, OLD], "debug")
    # Also where the key that speaks of it is replaced.
    config = loaded(file, {**environ, "SIDECAR_LISTEN": "b:2"})
    assert config.listen == listeners_at(Listen("b", 2))


def test_a_variable_of_another_key_still_sets_it(loaded: Loader, faults: FaultFinder) -> None:
    file = "upstream: http://a\nlisten: '${SIDECAR_ADMIN}'\nadmin: a:1\n"
    (fault,) = faults(file, {"SIDECAR_ADMIN": "127.0.0.1:81"})
    assert fault.problem == "must not be the address of listen too"
    file = "upstream: http://a\nsecret: '${SIDECAR_SECRET_FILE}'\n"
    assert secrets(loaded(file, {"SIDECAR_SECRET_FILE": "/s"}, {"/s": NEW})) == [NEW]


PUBLIC = "upstream: http://a\npublic_url: https://a.example\n"
LOGIN = PUBLIC + "oidc: {issuer: https://i, client_id: c, %s}\n"
BEHIND = "upstreams: {a: %s}\nroutes: [{path: /, kind: page, upstream: a}]\n"
KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
SIGNED = PUBLIC + "session: {sources: [{type: jwt, cookie: c, %s: /wrong}]}\n"


def _secret_of_login(config: Config) -> object:
    assert config.oidc is not None
    assert config.oidc.client_secret is not None
    return config.oidc.client_secret.get_secret_value()


def _key_of_source(config: Config) -> object:
    return getattr(config.session.sources[0], "key", "").strip()


def _kind_of_store(config: Config) -> object:
    return config.store.url.kind


def _servers(config: Config) -> object:
    return config.upstreams["a"].servers


@pytest.mark.parametrize(
    ("file", "name", "value", "read", "expected"),
    [
        (
            LOGIN % "client_secret_file: /none",
            "OIDC__CLIENT_SECRET",
            "x",
            _secret_of_login,
            "x",
        ),
        (LOGIN % "client_secret: y", "OIDC__CLIENT_SECRET_FILE", "/x", _secret_of_login, "x"),
        (SIGNED % "key_file", "SESSION__SOURCES__0__KEY", KEY, _key_of_source, KEY.strip()),
        (SIGNED % "key", "SESSION__SOURCES__0__KEY_FILE", "/key", _key_of_source, KEY.strip()),
        (PUBLIC + "store: {url_file: /none}", "STORE__URL", "memory:", _kind_of_store, "memory"),
        (PUBLIC + "store: {url: nothing}", "STORE__URL_FILE", "/store", _kind_of_store, "memory"),
        (PUBLIC + "store: nothing", "STORE__URL_FILE", "/store", _kind_of_store, "memory"),
        (
            BEHIND % "{url: http://b}",
            "UPSTREAMS__A__URLS",
            "http://x,http://y",
            _servers,
            ("http://x", "http://y"),
        ),
        (BEHIND % "http://b", "UPSTREAMS__A__URLS__0", "http://x", _servers, ("http://x",)),
        (
            BEHIND % "{urls: [http://b, http://c]}",
            "UPSTREAMS__A__URL",
            "http://x",
            _servers,
            ("http://x",),
        ),
        (
            BEHIND % "{urls: [http://b, http://c]}",
            "UPSTREAMS__A__URLS__1",
            "http://x",
            _servers,
            ("http://b", "http://x"),
        ),
    ],
)
def test_override_takes_the_place_of_every_other_form(
    *,
    loaded: Loader,
    file: str,
    name: str,
    value: str,
    read: Callable[[Config], object],
    expected: object,
) -> None:
    """Of a secret in a file, and of one server or several, in both directions."""
    files = {"/x": "x", "/key": KEY, "/store": "memory:"}
    assert read(loaded(file, {f"SIDECAR_{name}": value}, files)) == expected


def test_forms_that_are_both_set_by_variables_contradict(faults: FaultFinder) -> None:
    environ = {"SIDECAR_UPSTREAMS__A__URL": "http://x", "SIDECAR_UPSTREAMS__A__URLS": "http://y"}
    (fault,) = faults(BEHIND % "http://b", environ)
    assert fault.problem == "must have either url or urls"


def test_override_of_an_upstream_called_routes_is_of_that_one_alone(loaded: Loader) -> None:
    """Its name is that of a key elsewhere."""
    file = "upstreams: {upstream: http://a, routes: http://b}\n"
    file += "routes: [{path: /, kind: page, upstream: upstream}]\n"
    config = loaded(file, {"SIDECAR_UPSTREAMS__ROUTES__URL": "http://c"})
    assert {name: one.url for name, one in config.upstreams.items()} == {
        "upstream": "http://a",
        "routes": "http://c",
    }


def test_a_section_by_a_variable_may_name_the_file_of_a_secret(
    loaded: Loader, faults: FaultFinder
) -> None:
    environ = {"SIDECAR_OIDC": "{issuer: https://i, client_id: c, client_secret_file: /x}"}
    oidc = loaded(PUBLIC, environ, {"/x": "of the file"}).oidc
    assert oidc is not None
    assert oidc.client_secret is not None
    assert oidc.client_secret.get_secret_value() == "of the file"
    (fault,) = faults(PUBLIC, environ)
    assert (fault.source, fault.path) == ("SIDECAR_OIDC", "oidc.client_secret_file")


def test_a_variable_that_cannot_be_read_leaves_the_file_s_section(faults: FaultFinder) -> None:
    """Which is still looked at, down to the files that it names."""
    (fault, *more) = faults(LOGIN % "client_secret_file: /none", {"SIDECAR_OIDC": "["})
    assert [fault.path, *(one.path for one in more)] == ["oidc.client_secret_file", "oidc"]
    assert (fault.line, more[0].source) == (3, "SIDECAR_OIDC")
