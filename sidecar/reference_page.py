"""The page of every configuration key, made from the JSON Schema (`sidecar schema --markdown`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from sidecar.core.config.units import DURATION_PATTERN, RATE_PATTERN, SIZE_PATTERN

Node: TypeAlias = Mapping[str, Any]

_HEAD: Final = """\
# Every key

<!-- Generated: sidecar schema --markdown > docs/reference.md -->

Every key of the configuration file, with what it takes and what holds without it.
[Configuration](configuration.md) says which ones you need.
[config/sidecar.yaml](../config/sidecar.yaml) has them in one file.
What the sidecar says is elsewhere: [metrics](metrics.md), [log events](log-events.md),
[fields of requests' lines](operation.md#lines-of-requests), [codes](troubleshooting.md#codes).

- A *duration* is a number with a unit: `250ms`, `30s`, `5m`, `12h`, `30d`.
- A *size* is a number of bytes, or one with a unit: `512B`, `64KiB`, `10MiB`, `1GiB`.
- A *rate* is a number and a unit of time: `5/s`, `30/m`, `1000/h`.
- `${NAME}` and `${NAME:-default}` stand for a value of the environment.
- Without a default nothing is set; the description says what holds then.
- A section whose default is *its own* has those of its keys.
"""
_NAMED: Final = {DURATION_PATTERN: "duration", SIZE_PATTERN: "size", RATE_PATTERN: "rate"}
_PREFIX: Final = "#/$defs/"
_REFERENCE: Final = _PREFIX + "Reference"
_SECRET_FILE: Final = _PREFIX + "SecretFile"
_CODE: Final = re.compile(r"(`[^`]*`)")


def markdown(schema: Node) -> str:
    """The whole page for the schema of a configuration file."""
    return _Reference(schema).page()


class _Reference:
    """Walks the sections of a schema in the order of their keys. Each has one place on the page."""

    def __init__(self, schema: Node) -> None:
        self._schema = schema
        self._definitions: Node = schema["$defs"]
        self._places: dict[str, str] = {}
        """The heading of each section, by its name in the schema."""
        self._top: frozenset[str] = frozenset(self._names(schema))
        self._place(schema, "")

    def page(self) -> str:
        parts = [_HEAD, "## The top level\n", *self._table(self._schema)]
        for name, place in self._places.items():
            section = self._definitions[name]
            parts += [f"\n## {place}\n", section["description"] + "\n", *self._table(section)]
        return "\n".join(parts) + "\n"

    def _names(self, section: Node) -> Iterator[str]:
        """The sections that keys of `section` are."""
        for node in section["properties"].values():
            yield from (name for name, suffix in self._sections(node) if not suffix)

    def _place(self, section: Node, path: str) -> None:
        """Gives every section below `section` its place: at the top level, else the first one."""
        for key, node in section.get("properties", {}).items():
            for name, suffix in self._sections(node):
                if name not in self._places and not (path and name in self._top):
                    place = f"{path}.{key}{suffix}".lstrip(".")
                    self._places[name] = place
                    self._place(self._definitions[name], place)

    def _sections(self, node: Node) -> Iterator[tuple[str, str]]:
        """The names of the sections that a value may be, with what is put behind the key."""
        target = node.get("$ref", "")
        name = target.removeprefix(_PREFIX)
        if "properties" in self._definitions.get(name, {}):
            kind = self._definitions[name]["properties"].get("type", {}).get("const")
            yield name, "" if kind is None else f" of type {kind}"
        for choice in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from self._sections(choice)
        if "items" in node:
            yield from ((one, f"[]{suffix}") for one, suffix in self._sections(node["items"]))
        for inner in self._inner(node):
            yield from ((one, f".NAME{suffix}") for one, suffix in self._sections(inner))

    def _inner(self, node: Node) -> list[Node]:
        """The schemas of the values of a mapping whose keys are free."""
        more = node.get("additionalProperties")
        found = [*node.get("patternProperties", {}).values()]
        return [*found, more] if isinstance(more, dict) else found

    def _table(self, section: Node) -> Iterator[str]:
        yield "| key | takes | default | |"
        yield "|---|---|---|---|"
        required = section.get("required", ())
        pair = [one["required"][0] for one in section.get("oneOf", ())]
        others = dict(zip(pair, reversed(pair), strict=True))
        for key, node in section["properties"].items():
            cells = (
                f"`{key}`",
                self._takes(node),
                _default(node, is_required=key in required, instead=others.get(key)),
                _prose(self._about(node)),
            )
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for node in section.get("patternProperties", {}).values():
            yield f"| any other name | {self._takes(node)} | none | A name of your own. |"

    def _about(self, node: Node) -> str:
        """The description of a key, else that of the section which it is."""
        name = node.get("$ref", "").removeprefix(_PREFIX)
        own: str = node.get("description", "")
        return own or str(self._definitions.get(name, {}).get("description", ""))

    def _takes(self, node: Node) -> str:
        """The kinds of values, in words."""
        return " or ".join(dict.fromkeys(self._kinds(node)))

    def _kinds(self, node: Node) -> Iterator[str]:
        target = node.get("$ref", "")
        if target == _REFERENCE:
            return
        if target == _SECRET_FILE:
            yield "path of a file, or several"
        elif target:
            place = self._places[target.removeprefix(_PREFIX)]
            yield f"[{_shown(place)}](#{_anchor(place)})"
        elif "anyOf" in node or "oneOf" in node:
            for choice in (*node.get("anyOf", ()), *node.get("oneOf", ())):
                yield from self._kinds(choice)
        elif "const" in node or "enum" in node:
            yield from (f"`{one}`" for one in node.get("enum", [node.get("const")]))
        elif node.get("type") == "array":
            yield f"list of {self._takes(node['items'])}" if "items" in node else "list"
        elif node.get("type") == "object":
            inner = " or ".join(self._takes(one) for one in self._inner(node))
            yield f"mapping of names to {inner}" if inner else "mapping"
        elif isinstance(node.get("type"), list):
            yield from (_scalar({"type": kind}) for kind in node["type"])
        else:
            yield _scalar(node)


def _scalar(node: Node) -> str:
    kind = node.get("type", "any value")
    if kind == "boolean":
        return "`true` or `false`"
    if kind in {"integer", "number"}:
        low = node.get("minimum", node.get("exclusiveMinimum"))
        high = node.get("maximum")
        word = "above" if "exclusiveMinimum" in node else "from"
        name = "whole number" if kind == "integer" else "number"
        bounds = [f" {word} {low}" if low is not None else "", f" to {high}" if high else ""]
        return name + "".join(bounds)
    if kind == "null":
        return "`null`"
    return _NAMED.get(node.get("pattern", ""), "text" if kind == "string" else kind)


def _default(node: Node, *, is_required: bool, instead: str | None) -> str:
    """What holds if the key is left out; `instead` is a key that may stand in its place."""
    if is_required:
        return "required"
    if instead is not None:
        return f"required, or `{instead}`"
    if node.get("default") == {}:
        return "`{}`" if node.get("type") == "object" else "its own"
    if "default" not in node:
        return "none"
    return f"`{_flow(node['default'])}`"


def _flow(value: object) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str):
        return value if value and ": " not in value else json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(_flow(one) for one in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def _prose(text: str) -> str:
    """A description as Markdown: what would be markup outside of code is escaped."""
    parts = _CODE.split(text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<\[])", r"\\\1", part) for part in parts
    )


def _shown(place: str) -> str:
    """The text of a link: a source's type, else the place without brackets, markup there."""
    return place.rpartition(" of type ")[2].replace("[]", "")


def _anchor(place: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^a-z0-9 _-]", "", place.lower()).replace(" ", "-")
