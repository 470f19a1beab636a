"""The schema, the reference file and the models say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.config import Config, RouteSection, schema
from sidecar.core.config.tree import read_tree
from sidecar.reference_page import markdown

Loader = Callable[..., Config]
Node = dict[str, Any]

FOLDER = Path(__file__).parents[3] / "config"
REFERENCE = (FOLDER / "sidecar.yaml").read_text(encoding="utf-8")
# `#key:`, `#  key:` and `#  - item` are settings; `# Prose` is not.
EVERYTHING = re.sub(r"^#(?=[a-z]|  )", "", REFERENCE, flags=re.MULTILINE)
EVERYTHING = EVERYTHING.replace("listen: 0.0.0.0:8080\n", "", 1)  # a list shows all
# Of two ways to give the same the reference shows both.
ONE_OF_EACH = re.sub(
    r"^(upstream|secret_file|  client_secret_file|  url_file| +key_file):.*$",
    "",
    EVERYTHING,
    flags=re.MULTILINE,
)
SCHEMA = schema()
LONG = "x" * 32
ENVIRON = dict.fromkeys(
    [
        *("AUTH_SECRET", "AUTH0_SECRET", "BETTER_AUTH_SECRET", "IRON_PASSWORD"),
        *("SIDECAR_SECRET", "CLIENT_SECRET", "JWT_SECRET"),
    ],
    LONG,
)
ENVIRON["SIDECAR_PUBLIC_URL"] = "https://app.example.com"  # demanded with `oidc`
ENVIRON["SESSION_KEY"] = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
ENVIRON["CLIENT_KEY"] = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQghjJ0Kyx73tnXHASk
rI0/X87pY2IsnGrzEGkfujruI6yhRANCAASwIJt+N2EIZAWjySjGLdh4Lyylcz2D
UwKwv5bI/Pqjgn7Aquu7w6ec507wRw4ao80wvwMgF21WkLIcbnzm1k5Y
-----END PRIVATE KEY-----
"""
FILES = {f"/run/secrets/{name}": LONG for name in ("nextauth", "iron")}

# Keys whose value in the reference is an example.
EXAMPLES = {
    *(
        "listen",
        "upstream",
        "pages",
        "routes.strip",
        "routes.sources",
        "unauthorized.match",
        "logout.hooks",
        "oidc.client_secret",
        "oidc.key",
        "refresh.key",
        "session.sources.jwks",
        "session.sources.key",
    ),
    *(
        f"{place}envelope.failure{key}"
        for place in ("", "routes.")
        for key in ("", ".equals", ".not")
    ),
    *("refresh.issuer", "refresh.client_id", "refresh.client_secret", "upstreams.url"),
}


def resolve(node: Node) -> Node:
    """The definition a node refers to, with what the node itself says."""
    target = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else {}
    return {**target, **node}


def sections(node: Node) -> Iterator[Node]:
    """The sections that a value of this schema may consist of."""
    node = resolve(node)
    if "properties" in node:
        yield node
    inner = [
        *node.get("anyOf", []),
        *node.get("oneOf", []),
        *node.get("patternProperties", {}).values(),
    ]
    for choice in [*inner, *([node["items"]] if "items" in node else [])]:
        if set(choice) & {"$ref", "anyOf", "oneOf", "items", "patternProperties"}:
            yield from sections(choice)


def keys(node: Node, name: str = "") -> Iterator[tuple[str, Node]]:
    """Every key below a section, with a path such as `routes.envelope.keep`."""
    for section in sections(node):
        for key, inner in section["properties"].items():
            yield f"{name}.{key}".lstrip("."), inner
            yield from keys(inner, f"{name}.{key}")


def written(data: Any, node: Node, name: str = "") -> Iterator[tuple[str, Any, Node]]:
    """Every key in the data, with its value and what the schema says about it."""
    if isinstance(data, list):
        for item in data:
            yield from written(item, node, name)
        return
    for section in sections(node):
        kind = section["properties"].get("type", {}).get("const")
        if not isinstance(data, dict) or kind not in (None, data.get("type")):
            continue
        for key, inner in section["properties"].items():
            members = data.values() if name == ".upstreams" else [data]
            for member in members:
                if key in member:
                    yield f"{name}.{key}".lstrip("."), member[key], inner
                    yield from written(member[key], inner, f"{name}.{key}")


@pytest.fixture(scope="module")
def everything() -> Node:
    """The reference file's data with every commented-out setting in force."""
    tree = read_tree(EVERYTHING, "config/sidecar.yaml", ENVIRON)
    assert not tree.findings
    return tree.data


def test_reference_runs_as_it_is(loaded: Loader) -> None:
    """With nothing set, and with the one variable that most deployments set."""
    assert loaded(REFERENCE) == loaded("upstream: http://localhost:4000")
    url = "http://api:4000"
    assert loaded(REFERENCE, {"SIDECAR_UPSTREAM": url}) == loaded(f"upstream: {url}")


def test_reference_takes_what_images_are_given(loaded: Loader) -> None:
    """It is the image's own file, so the environment alone must be able to set several workers."""
    environ = {
        "SIDECAR_WORKERS": "2",
        "SIDECAR_SECRET": LONG,
        "SIDECAR_UPSTREAM": "http://api:4000",
    }
    assert loaded(REFERENCE, environ).workers == 2


def test_reference_examples_can_all_be_used(loaded: Loader) -> None:
    """Everything commented out is right, once one of two alternatives is taken away."""
    text = ONE_OF_EACH
    files = FILES
    config = loaded(text, ENVIRON, files)
    assert len(config.routes) == 4
    assert len(config.session.sources) == 10
    assert config.warnings == ()


def test_reference_mentions_every_key(everything: Node) -> None:
    mentioned = {name for name, _, _ in written(everything, SCHEMA)}
    assert {name for name, _ in keys(SCHEMA)} - mentioned == set()


def test_reference_shows_the_true_defaults(everything: Node) -> None:
    """Lists of sections are examples; every other key with a default shows it."""
    shown = [
        (name, value, node["default"])
        for name, value, node in written(everything, SCHEMA)
        if "default" in node and not isinstance(value, dict) and name not in EXAMPLES
    ]
    assert len(shown) > 40
    assert [(name, value) for name, value, default in shown if value != default] == []


def test_reference_shows_the_true_defaults_of_a_kind(loaded: Loader) -> None:
    """The first route spells out what its kind would fill in."""
    text = ONE_OF_EACH
    files = FILES
    first = loaded(text, ENVIRON, files).routes[0]
    assert first == RouteSection(path="/api/", kind="api", upstream="api", strip="/api")


def test_every_key_is_described() -> None:
    undescribed = [name for name, node in keys(SCHEMA) if not resolve(node).get("description")]
    assert undescribed == []


def test_schema_file_is_fresh() -> None:
    """`sidecar schema > config/sidecar.schema.json` after a change of the models."""
    kept = (FOLDER / "sidecar.schema.json").read_text(encoding="utf-8")
    assert kept == json.dumps(SCHEMA, indent=2) + "\n"


def test_page_of_every_key_is_fresh() -> None:
    """`sidecar schema --markdown > docs/reference.md` after a change of the models."""
    kept = (FOLDER.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    assert kept == markdown(SCHEMA)


def test_schema_is_draft_2020_12_and_closed() -> None:
    """No section takes unknown keys; no reference leads nowhere."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all(section["additionalProperties"] is False for section in sections(SCHEMA))
    for target in re.findall(r'"#/\$defs/([^"]*)"', json.dumps(SCHEMA)):
        assert target in SCHEMA["$defs"]


def test_schema_is_of_what_users_write() -> None:
    """Durations are text, defaults stand as written, references fit, secrets have files."""
    definitions = SCHEMA["$defs"]
    connect = definitions["Upstream"]["properties"]["connect"]
    assert connect["default"] == "2s"
    assert connect["anyOf"][0]["type"] == "string"
    assert connect["anyOf"][1] == {"$ref": "#/$defs/Reference"}
    assert definitions["PoolSection"]["properties"]["max"]["anyOf"][0] == {
        "type": "integer",
        "minimum": 1,
    }
    assert {"type": "boolean"} in definitions["RouteSection"]["properties"]["envelope"]["anyOf"]
    authjs = definitions["AuthjsSource"]
    assert authjs["required"] == ["type"]
    assert authjs["oneOf"] == [{"required": ["secret"]}, {"required": ["secret_file"]}]
    assert "password_file" in definitions["IronSessionSource"]["properties"]
