"""The JSON Schema (draft 2020-12) of what users write, for editors and for `did you mean`.

It is made from the models: durations, sizes and addresses are strings there, the defaults stand as
users write them, every secret has its `_file` variant, and what is restricted also takes `${NAME}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from sidecar.core.config.fields import HAS_FILE_VARIANT
from sidecar.core.config.model import ConfigDocument
from sidecar.core.config.references import REFERENCE_PATTERN
from sidecar.core.config.short_forms import MAIN_KEYS, SWITCHED

Node: TypeAlias = dict[str, Any]

ID: Final = "https://json.schemastore.org/session-sidecar.json"
"""Where SchemaStore serves a schema of this name. A name; nothing is fetched from there."""

_REFERENCE: Final = {"$ref": "#/$defs/Reference"}
_PATH: Final[Node] = {"type": "string", "minLength": 1}
_SECRET_FILE: Final[Node] = {
    "anyOf": [
        _PATH,
        {"type": "array", "items": _PATH, "minItems": 1},
        {"type": "object", "additionalProperties": _PATH, "minProperties": 1},
    ],
    "description": "The path of a file that holds the secret, or several; line ends are cut off.",
}
_RESTRICTED_TYPES: Final = frozenset({"integer", "number", "boolean"})
_ANNOTATIONS: Final = frozenset({"description", "default"})
_NOT_SHORT: Final = frozenset({"description", "default", "title", HAS_FILE_VARIANT})
_RESTRICTIONS: Final = frozenset({"pattern", "enum"})


def schema() -> Node:
    """The schema of a configuration file."""
    made = ConfigDocument.model_json_schema(schema_generator=_WrittenSchema)
    definitions = made.pop("$defs")
    definitions["SecretFile"] = _SECRET_FILE
    definitions["Reference"] = {
        "type": "string",
        "pattern": REFERENCE_PATTERN,
        "description": "${NAME} or ${NAME:-default}, replaced from the environment.",
    }
    root = {**made, "title": "Sidecar configuration"}
    for section in (*definitions.values(), root):
        for node in section.get("properties", {}).values():
            _accept_short_forms(node, definitions)
    for section in (root, *definitions.values()):
        _finish(section)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "$id": ID}
    return {**head, **root, "$defs": definitions}


class _WrittenSchema(GenerateJsonSchema):
    """Leaves defaults to the fields' own `default`, which is the written form."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def _finish(section: Node) -> None:
    """Complete one section in place. The first paragraph of its docstring is meant for users."""
    section["description"] = section["description"].partition("\n\n")[0]
    properties: Node = section.get("properties", {})
    for name, node in list(properties.items()):
        node.pop("title", None)
        for value in _values(node):
            _accept_reference(value)
        if node.pop(HAS_FILE_VARIANT, False):
            about = f"The file that {name} is read from instead."
            properties[f"{name}_file"] = {"$ref": "#/$defs/SecretFile", "description": about}
            _require_one_of(section, name)


def _accept_short_forms(node: Node, definitions: Node) -> None:
    """One value for a list, and for a section that has a main key, or that may be switched off."""
    alternatives = node.get("anyOf", [node])
    short = [one for choice in alternatives for one in _short_forms(choice, definitions)]
    for inner in (node, *alternatives):
        named = (inner.get("additionalProperties"), *inner.get("patternProperties", {}).values())
        for one in named:
            if isinstance(one, dict):
                _accept_short_forms(one, definitions)
        if inner.get("type") == "array" and "$ref" in inner["items"]:
            _accept_short_forms(inner["items"], definitions)
    if not short:
        return
    if "anyOf" not in node:
        node["anyOf"] = [{name: node.pop(name) for name in list(node) if name not in _ANNOTATIONS}]
    known = list(node["anyOf"])
    node["anyOf"] = [*(one for one in short if one not in known), *known]


def _short_forms(choice: Node, definitions: Node) -> list[Node]:
    if choice.get("type") == "array":
        return [dict(choice["items"])] if "type" in choice["items"] else []
    name = choice.get("$ref", "").rpartition("/")[2]
    section = definitions.get(name, {})
    if name in MAIN_KEYS:
        main = section["properties"][MAIN_KEYS[name]]
        given = main.get(
            "anyOf", [{key: one for key, one in main.items() if key not in _NOT_SHORT}]
        )
        return [one for one in given if one.get("type") != "null"]
    return [{"type": "boolean"}] if name in SWITCHED else []


def _values(node: Node) -> Iterator[Node]:
    """The node and the schemas of its items."""
    yield node
    for choice in (node, *node.get("anyOf", ())):
        if "items" in choice:
            yield from _values(choice["items"])


def _accept_reference(node: Node) -> None:
    alternatives = node.get("anyOf", [node])
    if "const" in node or not any(_is_restricted(choice) for choice in alternatives):
        return
    if "anyOf" in node:
        node["anyOf"].append(_REFERENCE)
        return
    restricted = {name: node.pop(name) for name in list(node) if name not in _ANNOTATIONS}
    node["anyOf"] = [restricted, _REFERENCE]


def _is_restricted(choice: Node) -> bool:
    kind = choice.get("type")
    return (isinstance(kind, str) and kind in _RESTRICTED_TYPES) or (
        kind == "string" and not _RESTRICTIONS.isdisjoint(choice)
    )


def _require_one_of(section: Node, name: str) -> None:
    """A required secret may come in either form; none may come in both."""
    required = section.get("required", [])
    if name in required:
        required.remove(name)
        section["oneOf"] = [{"required": [name]}, {"required": [f"{name}_file"]}]
    else:
        section["not"] = {"required": [name, f"{name}_file"]}
