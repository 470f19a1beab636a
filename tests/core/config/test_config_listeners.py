"""`listen`: an address or a list, what each listener takes of `tls`, and what cannot be right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.config import Config, Listen
from sidecar.core.config.difference import compared
from sidecar.core.config.effective import effective
from sidecar.core.config.files import named_files
from sidecar.core.config.load import load_tree
from sidecar.core.config.values import parse_listen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.core.config.tree import Tree
    from tests.core.config.conftest import FaultFinder, Loader

TLS = {"cert": "/cert.pem", "key": "/key.pem"}


def written(**keys: Any) -> str:
    return json.dumps({"upstream": "http://a", "admin": None, **keys})


def load_all(text: str, environ: Mapping[str, str]) -> tuple[Config, Tree]:
    return load_tree(text, source="x.yaml", environ=environ, read_file=lambda path: path)


@pytest.mark.parametrize("text", [":8080", "*:8080", "[::]:8080", "[0::0]:8080"])
def test_address_without_a_host_is_every_one(text: str) -> None:
    assert parse_listen(text) == Listen("::", 8080)
    assert str(parse_listen(text)) == "[::]:8080"


@pytest.mark.parametrize(
    ("text", "mode"), [("|0660", 0o660), ("|600", 0o600), ("|0777", 0o777), ("", None)]
)
def test_unix_socket_has_a_mode(text: str, mode: int | None) -> None:
    assert parse_listen(f"unix:/run/s.sock{text}") == Listen("", 0, "/run/s.sock", mode)


def test_address_stands_for_a_list_of_one(loaded: Loader) -> None:
    (one,) = loaded(written(listen=":80")).listeners
    assert (one.key, one.address, one.scheme) == ("listen", Listen("::", 80), "http")


def test_listeners_take_the_common_certificate_unless_they_say_otherwise(loaded: Loader) -> None:
    """A Unix socket does not: who reaches it is on this machine."""
    own = {"cert": "/own.pem", "key": "/own.key", "client_ca": "/ca.pem", "min_version": "1.3"}
    config = loaded(
        written(
            tls=TLS,
            listen=[
                ":443",
                {"address": ":444"},
                {"address": ":80", "tls": None},
                {"address": ":445", "tls": own},
                "unix:/run/s.sock|0660",
                {"address": "unix:/run/t.sock", "tls": own},
            ],
        )
    )
    found = [(one.scheme, one.tls and one.tls.cert, one.tls_key) for one in config.listeners]
    assert found == [
        ("https", "/cert.pem", "tls"),
        ("https", "/cert.pem", "tls"),
        ("http", None, "listen[2].tls"),
        ("https", "/own.pem", "listen[3].tls"),
        ("http", None, "listen[4].tls"),
        ("https", "/own.pem", "listen[5].tls"),
    ]
    assert named_files(config) == {"/cert.pem", "/key.pem", "/own.pem", "/own.key", "/ca.pem"}


def test_tls_beside_the_only_listener_is_its_own(loaded: Loader) -> None:
    """On a Unix socket too: who writes it down there wants it."""
    (one,) = loaded(written(tls=TLS, listen="unix:/run/s.sock")).listeners
    assert (one.scheme, one.tls_key) == ("https", "tls")


@pytest.mark.parametrize("version", ["1.3", 1.3])
def test_version_may_be_a_number(loaded: Loader, version: object) -> None:
    """As YAML reads it without quotes."""
    config = loaded(written(tls={**TLS, "min_version": version}))
    assert config.tls is not None
    assert config.tls.min_version == "1.3"


def test_environment_takes_a_list(loaded: Loader) -> None:
    """As a whole, by index, or one address in brackets, which is no list."""
    whole = loaded(written(), {"SIDECAR_LISTEN": '[":80", {address: ":443"}]'})
    assert [str(one.address) for one in whole.listeners] == ["[::]:80", "[::]:443"]
    one = loaded(written(), {"SIDECAR_LISTEN": "[::1]:8080", "SIDECAR_ADMIN": "[::1]:9090"})
    assert (str(one.listeners[0].address), str(one.admin)) == ("[::1]:8080", "[::1]:9090")
    told = {
        "SIDECAR_LISTEN__0": ":80",
        "SIDECAR_LISTEN__1__ADDRESS": ":443",
        "SIDECAR_LISTEN__1__TLS__CERT": "/c",
        "SIDECAR_LISTEN__1__TLS__KEY": "/k",
        "SIDECAR_LISTEN__1__TLS__MIN_VERSION": "1.3",
    }
    by_index = loaded(written(), told)
    assert [one.scheme for one in by_index.listeners] == ["http", "https"]


FAULTS = [
    ({"listen": 80}, "listen: must be text; put numbers"),
    ({"listen": {"address": ":80"}}, "listen: must be an address, or a list of listeners"),
    ({"listen": []}, "listen: must not be empty"),
    ({"listen": "80"}, "listen: must be host:port, :port, [v6]:port or unix:/path"),
    ({"listen": [":80", ":x"]}, "listen[1]: must be host:port, :port, [v6]:port or unix:/path"),
    ({"listen": [None]}, "listen[0]: must be an address, or a mapping that has one"),
    ({"listen": [{"tls": None}]}, "listen[0].address: missing; add it"),
    ({"listen": [{"address": 80}]}, "listen[0].address: must be text"),
    (
        {"listen": [{"address": ":80", "tsl": None}]},
        'listen[0].tsl: unknown key; did you mean "tls"?',
    ),
    ({"listen": "unix:/s|99"}, "listen: must have a mode of three octal digits behind |"),
    ({"listen": "unix:/s|"}, "listen: must have a mode of three octal digits behind |"),
    ({"listen": "unix:/s|4755"}, "listen: must have a mode of three octal digits behind |"),
    ({"admin": "unix:/s|rw"}, "admin: must have a mode of three octal digits behind |"),
    (
        {"listen": [":80", "127.0.0.1:81", {"address": ":80"}]},
        "listen[2]: must not be the address of listen[0] too; use another port, or keep one",
    ),
    ({"listen": [":80", "[::1]:80"]}, "listen[1]: must not be the address of listen[0] too"),
    ({"listen": ["0.0.0.0:80", "a:80"]}, "listen[1]: must not be the address of listen[0] too"),
    (
        {"listen": ["unix:/s|0600", "unix:/s"]},
        "listen[1]: must not be the address of listen[0] too",
    ),
    ({"listen": [":1", ":80"], "admin": "a:80"}, "admin: must not be the address of listen too"),
    ({"tls": {**TLS, "min_version": "1.1"}}, 'tls.min_version: unknown version of TLS; use "1.2"'),
    (
        {"listen": [{"address": ":1", "tls": {**TLS, "ca": "/c"}}]},
        "listen[0].tls.ca: unknown key; ",
    ),
    ({"listen": [{"address": ":1", "tls": {"cert": "/c"}}]}, "listen[0].tls.key: missing; add it"),
    ({"listen": ["unix:/s", "unix:/t"], "tls": TLS}, "tls: must be for some listener"),
    ({"listen": [{"address": ":1", "tls": TLS}], "tls": TLS}, "tls: must be for some listener"),
]


HEADER = {"address": ":1", "proxy_protocol": True}
UNIX_HEADER = {"address": "unix:/s", "proxy_protocol": True}
FAULTS += [
    (
        {"listen": [HEADER]},
        "listen[0].proxy_protocol: must have a peer whose header is believed; add the balancer",
    ),
    ({"listen": [HEADER], "trusted_proxies": ["unix"]}, "listen[0].proxy_protocol: must have"),
    (
        {"listen": [UNIX_HEADER], "trusted_proxies": ["10.0.0.1"]},
        "listen[0].proxy_protocol: must have a peer whose header is believed; add unix",
    ),
    ({"listen": [{**HEADER, "proxy_protocol": "v2"}]}, "listen[0].proxy_protocol: must be true or"),
]


@pytest.mark.parametrize(("keys", "told"), FAULTS)
def test_fault_names_key_and_remedy(faults: Any, keys: dict[str, Any], told: str) -> None:
    (fault,) = faults(written(**keys))
    assert str(fault).partition(":1: ")[2].startswith(told)


@pytest.mark.parametrize(
    "listen",
    [
        ["0.0.0.0:80", "[::1]:80"],
        ["127.0.0.1:80", "[::1]:80"],
        [":0", ":0"],
        ["unix:/a", "unix:/b"],
        ["127.0.0.1:80", "127.0.0.2:80"],
    ],
)
def test_addresses_that_do_not_meet_are_fine(loaded: Loader, listen: list[str]) -> None:
    assert len(loaded(written(listen=listen)).listeners) == 2


def test_own_login_is_for_this_machine_on_every_listener(faults: Any, loaded: Loader) -> None:
    """Where nobody says which origin browsers see."""
    oidc = {"issuer": "https://idp", "client_id": "a", "client_secret": "b"}
    loaded(written(listen=["127.0.0.1:80", "[::1]:80"], oidc=oidc, secret="s" * 32))
    (fault,) = faults(written(listen=["127.0.0.1:80", ":81"], oidc=oidc, secret="s" * 32))
    assert fault.path == "public_url"


def test_key_is_shown_as_it_is_written() -> None:
    """Addresses alone as one key, and a listener with more to it key by key."""
    environ = {"SIDECAR_LISTEN__1__TLS__MIN_VERSION": "1.3"}
    short = {one.key: one for one in effective(*load_all(written(listen=":80"), {}))}
    assert short["listen"][1:] == (":80", "x.yaml:1")
    several = {one.key: one for one in effective(*load_all(written(listen=[":80", ":81"]), {}))}
    assert several["listen"].value == [":80", ":81"]
    usual = {one.key: one for one in effective(*load_all(written(), {}))}
    assert usual["listen"][1:] == ("0.0.0.0:8080", "default")
    text = written(listen=[":80", {"address": ":443", "tls": TLS}])
    full = {one.key: one for one in effective(*load_all(text, environ))}
    assert full["listen[0]"][1:] == (":80", "x.yaml:1")
    assert full["listen[1].tls.cert"][1:] == ("/cert.pem", "x.yaml:1")
    assert full["listen[1].tls.min_version"].origin == "SIDECAR_LISTEN__1__TLS__MIN_VERSION"


def test_difference_is_told_key_by_key() -> None:
    running, _ = load_all(written(listen=":80"), {})
    disk, tree = load_all(written(listen=[":80", ":81"]), {})
    _, differences = compared(running, disk, tree)
    assert [one.key for one in differences] == ["listen"]
    assert differences[0].on_disk == [":80", ":81"]


def test_balancers_are_trusted_by_their_kind_of_socket(loaded: Loader) -> None:
    both = written(listen=[HEADER, UNIX_HEADER], trusted_proxies=["unix", "10.0.0.1"])
    assert [one.proxy_protocol for one in loaded(both).listeners] == [True, True]


@pytest.mark.parametrize(
    "server",
    [
        {"url": "http://a"},
        {"url": "HTTP://a"},
        {"url": "unix:/run/a.sock"},
        {"urls": ["http://a", "http://b"]},
    ],
)
@pytest.mark.parametrize("tls", [{"ca": "/ca"}, {"cert": "/c", "key": "/k"}])
def test_tls_of_an_upstream_without_tls_is_a_fault(
    faults: FaultFinder, server: dict[str, Any], tls: dict[str, str]
) -> None:
    """Nothing would be encrypted, and nobody verified."""
    (fault,) = faults(json.dumps(behind({**server, "tls": tls})))
    assert fault.path == "upstreams.a.tls"
    assert fault.problem == "must be for an https upstream: nothing is encrypted to this one"


@pytest.mark.parametrize(
    "upstream",
    [
        {"url": "https://a", "tls": {"ca": "/ca"}},
        {"urls": ["https://a", "https://b"], "tls": {"ca": "/ca"}},
        {"url": "http://a", "tls": None},
        {"url": "http://a", "tls": {"ca": None}},
    ],
)
def test_tls_of_an_upstream_is_for_https(loaded: Loader, upstream: dict[str, Any]) -> None:
    """And a section without a value asks for nothing."""
    ca = (upstream["tls"] or {}).get("ca")
    assert loaded(json.dumps(behind(upstream))).upstreams["a"].tls.ca == ca


def behind(upstream: dict[str, Any]) -> dict[str, Any]:
    route = {"path": "/", "kind": "page", "upstream": "a"}
    return {"upstreams": {"a": upstream}, "routes": [route]}
