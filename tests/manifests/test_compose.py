"""config/compose.yaml is valid, locked down, and fits the sidecar and its image."""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.config import Config, load
from tests.manifests.schemas import ROOT, Node, documents, faults, kept

FILE: Final = ROOT / "config" / "compose.yaml"
SECRET: Final = "a secret of the tests, 32 bytes or more"
DURATION: Final = re.compile(r"(\d+)s")


def compose() -> Node:
    (document,) = documents(FILE)
    return document


def service(name: str = "sidecar") -> Node:
    return dict(compose()["services"][name])


def config() -> Config:
    files = {f"/run/secrets/{name}": SECRET for name in service()["secrets"]}
    content = compose()["configs"]["sidecar"]["content"]
    return load(content, source=FILE.name, environ={}, read_file=files.__getitem__)


def test_file_is_valid() -> None:
    """By the schema of the Compose Specification, whose services take no unknown member."""
    assert faults(kept("compose.json"), compose()) == []


def test_an_invalid_file_is_seen() -> None:
    wrong = compose()
    wrong["services"]["sidecar"]["healthchecks"] = {}
    assert faults(kept("compose.json"), wrong) != []


def test_configuration_loads_without_a_warning() -> None:
    assert config().warnings == ()


def test_services_are_locked_down() -> None:
    """None has capabilities, and only the sidecar is published: on loopback."""
    for name, one in compose()["services"].items():
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert ("ports" in one) == (name == "sidecar")
    assert service()["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in service()["ports"])


def test_store_is_out_of_others_reach() -> None:
    """Only the sidecar shares a network with Redis, and that one leads nowhere else."""
    (network,) = service("redis")["networks"]
    assert compose()["networks"][network] == {"internal": True}
    others = [name for name, one in compose()["services"].items() if network in one["networks"]]
    assert sorted(others) == ["redis", "sidecar"]


def test_secrets_are_files() -> None:
    """Each that the configuration reads is mounted, and no other is declared."""
    content = compose()["configs"]["sidecar"]["content"]
    read = set(re.findall(r"_file: /run/secrets/(\w+)", content))
    assert read == set(service()["secrets"]) == set(compose()["secrets"])
    assert all(set(one) == {"file"} for one in compose()["secrets"].values())


def test_health_check_asks_the_admin_listener() -> None:
    """Without reading the configuration, as the image's own does."""
    admin = config().admin
    assert admin is not None
    assert admin.host == "0.0.0.0"
    asked = ["sidecar", "health", "--admin", f"127.0.0.1:{admin.port}"]
    assert service()["healthcheck"]["test"] == ["CMD", *asked]


def test_there_is_time_to_drain() -> None:
    found = DURATION.fullmatch(service()["stop_grace_period"])
    assert found is not None
    assert int(found[1]) >= config().drain.timeout + 5


def test_upstreams_are_services() -> None:
    """The sidecar shares a network with each, and nobody from outside does."""
    for upstream in config().upstreams.values():
        host = re.match(r"http://([a-z]+):", upstream.url or "")
        assert host is not None
        assert set(service(host[1])["networks"]) <= set(service()["networks"]) - {"front"}


def test_redis_keeps_what_the_sidecar_needs() -> None:
    """As docs/stores.md says."""
    command = " ".join(service("redis")["command"])
    for setting in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"):
        assert setting in command
