"""From plain data to the frozen `ConfigDocument`, and pydantic's complaints in words for users."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.core.config.faults import BadValue, Finding, KeyPath, did_you_mean, one_of
from sidecar.core.config.fields import SCALAR
from sidecar.core.config.model import ConfigDocument
from sidecar.core.config.schema import schema
from sidecar.core.config.tree import Tree

Words: TypeAlias = tuple[str, str]

_schema: Final = cache(schema)  # it takes a while to make, and a file may have many unknown keys

# Keys of the configuration's final shape that this version does not act on yet.
_SET_FIELDS: Final = ("headers", "set")
# A default that could not be made because another key is wrong: told with that key. Likewise a list
# is too short for pydantic where it has items, but no valid one.
_CONSEQUENCES: Final = frozenset({"default_factory_not_called"})


def validate(tree: Tree) -> ConfigDocument | None:
    """The document, or None with a finding for everything that is wrong with it."""
    try:
        return ConfigDocument.model_validate(tree.data)
    except ValidationError as error:
        # Only places and kinds of error leave this module, never pydantic's text or its input.
        details = error.errors(include_url=False)
    tree.findings.extend(_findings(details, tree.data))
    return None


def _findings(details: Iterable[ErrorDetails], data: Mapping[str, Any]) -> Iterator[Finding]:
    for detail in details:
        kind, loc = detail["type"], detail["loc"]
        path = _written_path(loc, data)
        if kind in _CONSEQUENCES or (kind == "too_short" and _at(data, path)):
            continue
        if kind == "extra_forbidden":
            yield Finding(path, *_unknown_key(path, loc))
        elif kind.startswith("union_tag"):
            yield Finding((*path, "type"), *_unknown_type(detail))
        else:
            yield Finding(path, *_WORDS.get(kind, _other)(detail))


def _written_path(loc: KeyPath, data: Mapping[str, Any]) -> KeyPath:
    """Pydantic's location without what users did not write.

    That is the tag of a source's type, the index or id of a secret given alone, and `set` of a
    field in short.
    """
    path = loc[:3] + loc[4:] if loc[:2] == ("session", "sources") else loc
    if len(path) > 4 and path[2:4] == _SET_FIELDS and _at(data, path[:5]) is None:
        path = path[:3] + path[4:5]  # `X-User: claim.email` without `set`
    sizes = (size for size in range(1, len(path)) if isinstance(_at(data, path[:size]), SCALAR))
    return path[: next(sizes, len(path))]


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        else:
            inside = isinstance(data, list) and isinstance(part, int) and part < len(data)
            data = data[part] if inside else None
    return data


def _unknown_key(path: KeyPath, loc: KeyPath) -> Words:
    return "unknown key", did_you_mean(str(path[-1]), _known_keys(loc[:-1]))


def _known_keys(loc: KeyPath) -> frozenset[str]:
    """The keys that the section at `loc` (with its union tag) may hold."""
    root = _schema()
    nodes = [root]
    for part in loc:
        nodes = [inner for node in nodes for inner in _inside(node, part, root["$defs"])]
    return frozenset(name for node in nodes for name in node.get("properties", ()))


def _inside(node: dict[str, Any], part: str | int, defs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the schema says about `part` of `node`, with references and alternatives resolved."""
    tags = node.get("discriminator", {}).get("mapping", {})
    if part in tags:
        return [_resolve({"$ref": tags[part]}, defs)]
    if isinstance(part, int):
        found = [node.get("items", {})]
    else:
        named = node.get("properties", {}).get(part)
        found = [named] if named else list(node.get("patternProperties", {}).values())
    return [_resolve(choice, defs) for inner in found for choice in inner.get("anyOf", [inner])]


def _resolve(node: dict[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    name = str(node.get("$ref", "")).rpartition("/")[2]
    return defs[name] if name else node


def _unknown_type(detail: ErrorDetails) -> Words:
    known = _quoted(str(detail.get("ctx", {}).get("expected_tags", "")))
    if detail["type"] == "union_tag_not_found":
        kinds = sorted(known) or (
            *("auth0", "authjs", "better-auth", "cookie", "iron-session", "jwt", "nextauth"),
        )
        return "missing", f"use {one_of(kinds)}"
    return "unknown kind of session", did_you_mean(_tag(detail), known)


def _tag(detail: ErrorDetails) -> str:
    return str(detail.get("ctx", {}).get("tag", ""))


def _quoted(text: str) -> list[str]:
    return re.findall("'([^']*)'", text)


def _literal(detail: ErrorDetails) -> Words:
    known = _quoted(str(detail.get("ctx", {}).get("expected", "")))
    return "unknown value", did_you_mean(str(detail["input"]), known)


def _bad_value(detail: ErrorDetails) -> Words:
    error = detail.get("ctx", {}).get("error")
    return (error.problem, error.remedy) if isinstance(error, BadValue) else _other(detail)


def _least(detail: ErrorDetails) -> Words:
    return f"must be at least {detail.get('ctx', {}).get('ge')}", ""


def _most(detail: ErrorDetails) -> Words:
    return f"must be at most {detail.get('ctx', {}).get('le')}", ""


def _other(detail: ErrorDetails) -> Words:
    return f"invalid ({detail['type']})", "compare it with `sidecar schema`"


def _fixed(problem: str, remedy: str = "") -> Callable[[ErrorDetails], Words]:
    return lambda _: (problem, remedy)


_NOT_TEXT = _fixed("must be text", "put numbers, true and false in quotes")
_NOT_SWITCH = _fixed("must be true or false")
_NOT_NUMBER = _fixed("must be an integer")
_NOT_LIST = _fixed("must be a list", "write [one, two], or one item a line after a dash")
_NOT_MAPPING = _fixed("must be a mapping", "write keys and values below it")
_EMPTY = _fixed("must not be empty", "add at least one, or remove the key")

_WORDS: Final[Mapping[str, Callable[[ErrorDetails], Words]]] = {
    "missing": _fixed("missing", "add it"),
    "literal_error": _literal,
    "value_error": _bad_value,
    "string_type": _NOT_TEXT,
    "string_too_short": _EMPTY,
    "bool_type": _NOT_SWITCH,
    "bool_parsing": _NOT_SWITCH,
    "int_type": _NOT_NUMBER,
    "int_parsing": _NOT_NUMBER,
    "int_parsing_size": _NOT_NUMBER,
    "int_from_float": _NOT_NUMBER,
    "greater_than_equal": _least,
    "less_than_equal": _most,
    "tuple_type": _NOT_LIST,
    "too_short": _EMPTY,
    "mapping_type": _NOT_MAPPING,
    "dict_type": _NOT_MAPPING,
    "model_type": _NOT_MAPPING,
    "model_attributes_type": _NOT_MAPPING,
}
