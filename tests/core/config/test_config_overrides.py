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
