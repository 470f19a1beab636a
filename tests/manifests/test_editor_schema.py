"""config/sidecar.schema.json is of use to editors, and what is shipped is valid by it."""

from __future__ import annotations

import re
from typing import Final

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from tests.manifests.schemas import MANIFESTS, ROOT, Node, documents, faults

SCHEMA_FILE: Final = ROOT / "config" / "sidecar.schema.json"
MODELINE: Final = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def editor_schema() -> Node:
    (document,) = documents(SCHEMA_FILE)  # JSON is YAML
    return document


def shipped() -> dict[str, Node]:
    """Every configuration that is shipped, by where it stands."""
    loader = YAML(typ="safe", pure=True)
    found = {}
    for path in (ROOT / "config" / "sidecar.yaml", *(ROOT / "config").rglob("*.yaml")):
        for document in documents(path):
            if document.get("kind") == "ConfigMap":
                found[str(path.relative_to(ROOT))] = loader.load(document["data"]["sidecar.yaml"])
            elif "configs" in document:
                content = document["configs"]["sidecar"]["content"]
                found[str(path.relative_to(ROOT))] = loader.load(content)
            elif "upstream" in document:
                found[str(path.relative_to(ROOT))] = document
    return found


def test_schema_is_one(editor_schema: Node) -> None:
    """It keeps to the dialect that it names, and has the name under which it can be published."""
    Draft202012Validator.check_schema(editor_schema)
    assert editor_schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert editor_schema["$id"] == "https://json.schemastore.org/session-sidecar.json"
    assert editor_schema["$id"] in (ROOT / "docs" / "configuration.md").read_text()


def test_reference_leads_editors_to_it() -> None:
    text = (ROOT / "config" / "sidecar.yaml").read_text()
    named = MODELINE.findall(text)
    assert [(ROOT / "config" / one).resolve() for one in named] == [SCHEMA_FILE]


@pytest.mark.parametrize("where", sorted(shipped()))
def test_what_is_shipped_is_valid(editor_schema: Node, where: str) -> None:
    assert faults(editor_schema, shipped()[where]) == []


def test_every_kind_of_deployment_is_looked_at() -> None:
    """The reference, the Compose example, and each layout of Kubernetes."""
    layouts = {path.parent for path in MANIFESTS.rglob("configuration.yaml")}
    assert len(shipped()) == 2 + len(layouts)


@pytest.mark.parametrize(
    "wrong",
    [{"upstrem": "http://localhost"}, {"workers": "many"}, {"drain": {"wait": 5}}],
    ids=["unknown key", "wrong value", "wrong type"],
)
def test_faults_are_underlined(editor_schema: Node, wrong: Node) -> None:
    assert faults(editor_schema, wrong) != []
