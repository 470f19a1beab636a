"""What is shown of a configuration: every value as it is written, and of a secret its length."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sidecar.core.config import Fault
from sidecar.core.config.digest import digest
from sidecar.core.config.effective import Effective, effective
from sidecar.core.config.load import load_tree

FaultFinder = Callable[..., tuple[Fault, ...]]

SECRET: Final = "a secret of the tests, 32 bytes or more"
CANARY: Final = "canary-of-a-secret-0123456789"
KEY: Final = ec.generate_private_key(ec.SECP256R1())
PRIVATE: Final = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
OLD_PRIVATE: Final = KEY.private_bytes(
    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
).decode()
PUBLIC: Final = (
    KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)


def shown(**config: Any) -> dict[str, Any]:
    """The values of each key that are shown of a configuration."""
    return {key: one.value for key, one in rows(**config).items()}


def rows(**config: Any) -> dict[str, Effective]:
    text = json.dumps({"upstream": "http://a", "secret": SECRET, **config})
    found, tree = load_tree(text, source="f.yaml", environ={}, read_file=lambda _: PUBLIC)
    assert digest(found, b"")  # which is made of what is shown
    return {one.key: one for one in effective(found, tree)}


def signed(**source: str) -> dict[str, Any]:
    return {"session": {"sources": [{"type": "jwt", "cookie": "c", **source}]}}


@pytest.mark.parametrize("key", [PRIVATE, OLD_PRIVATE, PUBLIC + PRIVATE, "# mine\n" + PRIVATE])
@pytest.mark.parametrize("name", ["key", "key_file"])
def test_a_source_that_verifies_takes_no_private_key(
    faults: FaultFinder, name: str, key: str
) -> None:
    """Nor a public one with a private one beside it. It is told how to make the public one."""
    config = {"upstream": "http://a", **signed(**{name: key if name == "key" else "/key.pem"})}
    (fault,) = faults(json.dumps(config), {}, {"/key.pem": key})
    assert fault.path == "session.sources[0].key"
    assert "must be a public key" in str(fault)
    assert "openssl pkey" in fault.remedy
    assert key.splitlines()[2] not in str(fault)


@pytest.mark.parametrize("source", [{"key": f"{CANARY}\n{PUBLIC}"}, {"key_file": "/key.pem"}])
def test_the_text_of_a_key_is_shown_as_its_length(source: dict[str, str]) -> None:
    """Of what is kept of it: what stands beside it in the file is nobody's business."""
    found = shown(**signed(**source))
    assert found["session.sources[0].key"] == f"({len(PUBLIC)} characters)"
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    "config",
    [
        {"tls": {"cert": "/c.pem", "key": PRIVATE}},
        {"outbound": {"ca": PRIVATE}},
        {"pages": PRIVATE},
        {"upstream": None, "upstreams": {"a": {"url": "https://a", "tls": {"ca": PRIVATE}}}},
    ],
)
def test_a_key_where_a_path_belongs_is_told_and_not_shown(
    faults: FaultFinder, config: dict[str, Any]
) -> None:
    """A path is shown wherever its file is spoken of."""
    found = faults(json.dumps({"upstream": "http://a", **config}))
    (told,) = (one for one in found if "path of a file" in one.problem)
    assert "save the text as a file" in told.remedy
    assert "BEGIN" not in "".join(map(str, found))


def test_bodies_and_fields_of_requests_are_shown_as_lengths() -> None:
    """However deep a text stands in them, in lists and mappings, and whatever it looks like."""
    body = {
        "token": "{refresh_token}",
        "variables": [{"clientSecret": CANARY, "more": [[CANARY], {"pin": 271828}]}],
        "flags": [True, None],
    }
    found = shown(
        refresh={
            "type": "http",
            "request": {"url": "http://r", "headers": {"X-Key": CANARY}, "json": body},
        },
        logout={"hooks": [{"url": f"http://h/{CANARY}", "headers": {"X-Key": CANARY}}]},
    )
    length = f"({len(CANARY)} characters)"
    assert found["refresh.request.json.variables"] == [
        {"clientSecret": length, "more": [[length], {"pin": "(6 characters)"}]}
    ]
    assert found["refresh.request.json.flags"] == [True, None]
    assert found["refresh.request.headers.X-Key"] == length
    assert found["logout.hooks[0].headers.X-Key"] == length
    assert "canary" not in str(found)
    assert "271828" not in str(found)


@pytest.mark.parametrize("scheme", ["http", "HTTP", "Https"])
def test_the_query_of_an_address_is_not_shown(scheme: str) -> None:
    source = {"type": "authjs", "secret": SECRET, "refresh_token": "r"}
    request = {"url": f"{scheme}://r/x?key={CANARY}", "json": "{refresh_token}"}
    found = shown(
        refresh={"type": "http", "request": request},
        session={"sources": [source]},
        tracing={"endpoint": f"{scheme}://c:4318/?key={CANARY}"},
        outbound={"proxy": f"{scheme}://p:3128/?{CANARY}"},
    )
    assert found["refresh.request.url"] == f"{scheme}://r/x?…"
    assert "canary" not in str(found)


def test_a_name_that_is_that_of_a_secret_s_section_hides_nothing() -> None:
    """Nor are the fields that a route sets secrets."""
    route = {"path": "/", "kind": "page", "upstream": "json", "headers": {"X-User": "claim.email"}}
    found = shown(
        upstream=None,
        upstreams={"json": {"url": "http://a"}, "hooks": {"url": "http://b"}},
        routes=[route],
        session={"sources": [{"type": "authjs", "secret": SECRET}]},
    )
    assert found["upstreams.json.url"] == "http://a"
    assert found["upstreams.hooks.url"] == "http://b"
    assert found["routes[0].headers.set.X-User"] == ["email"]
