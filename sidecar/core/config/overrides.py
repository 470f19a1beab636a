"""Environment variables and options that set keys over the file's.

`SIDECAR_LISTEN` is the key `listen`; `__` goes deeper and a number is a list's index, so
`SIDECAR_ROUTES__0__UPSTREAM` is `routes[0].upstream` (the index after the last one appends). Names
are compared without regard to case, and `-` in a key is `_` in its variable. The value is read by
the type of its key (`typed_variables`). An empty variable counts as not set. References (`${NAME}`)
are not replaced in it.

What the file refers to as `${SIDECAR_…}` may be meant for that place alone. Such a variable sets no
key if the key of its name contains the reference, and its name need not be that of a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from sidecar.core.config.faults import BadValue, Finding, KeyPath
from sidecar.core.config.fields import switch_of
from sidecar.core.config.secret_files import file_key, secret_key
from sidecar.core.config.short_forms import expand, shape_of
from sidecar.core.config.tree import Tree, value_at
from sidecar.core.config.typed_variables import typed

PREFIX: Final = "SIDECAR_"
# Read by the command line: the default of -c.
CONFIG_VARIABLE: Final = "SIDECAR_CONFIG"

# Kubernetes sets these in every pod beside a Service named `sidecar` or `sidecar-…`.
_SERVICE_LINK: Final = re.compile(
    r"SIDECAR_(\w+_)?"
    r"(SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=|PORT=\w+://).*",
    re.ASCII | re.DOTALL,
)
_ALTERNATIVES: Final[Mapping[str, str]] = MappingProxyType({"url": "urls", "urls": "url"})
"""The keys of an upstream that say the same."""


def apply_overrides(tree: Tree, environ: Mapping[str, str], options: Mapping[str, object]) -> None:
    """Set the keys that variables, then options (`upstream` for `--upstream`), name."""
    for name, text in sorted(_variables(environ), key=lambda item: _order(item[0])):
        if name in tree.mentions and _serves_as_reference(tree, name):
            continue
        try:
            _put(tree, _parts(name), text, name)
            expand(tree.data)  # so that a variable may go into a short form of one before it
        except BadValue as error:
            tree.findings.append(Finding(_parts(name), error.problem, error.remedy))
            tree.places[_parts(name)] = name
    for key, value in options.items():
        _put(tree, (key,), value, f"--{key}", is_typed=True)


def sets_a_key(name: str) -> bool:
    """Whether a variable of this name may set a key."""
    return name.startswith(PREFIX) and name != CONFIG_VARIABLE


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in environ.items():
        if not sets_a_key(name) or not text:
            continue
        if not _SERVICE_LINK.fullmatch(f"{name}={text}"):
            yield name, text


def _parts(name: str) -> KeyPath:
    parts = name.removeprefix(PREFIX).lower().split("__")
    return tuple(
        int(part) if re.fullmatch("[0-9]{1,4}", part, re.ASCII) else part for part in parts
    )


def _order(name: str) -> tuple[tuple[int, str], ...]:
    """Outer keys before inner ones, and list indexes by number, so that 10 comes after 2."""
    return tuple((part, "") if isinstance(part, int) else (-1, part) for part in _parts(name))


def _serves_as_reference(tree: Tree, name: str) -> bool:
    """Whether a variable that the file refers to sets no key besides.

    If the reference is the key's whole value, the variable may do both: the result is the same.
    """
    key = _existing(tree.data, _parts(name))
    for path, is_whole in tree.mentions[name]:
        inside = _as_expanded(tree.data, path)
        if inside[: len(key)] == key:
            is_only = path == (*key, 0) and len(value_at(tree.data, key)) == 1
            return not (is_whole and (len(key) >= len(path) or is_only))
    return not _is_key(tree.data, key)


def _existing(data: Any, parts: KeyPath) -> KeyPath:
    """The path of `parts` in the spelling of the keys that are there."""
    path: KeyPath = ()
    for part in parts:
        key = _key(data, part) if isinstance(data, dict) else part
        path = (*path, key)
        data = value_at(data, (key,))
    return path


def _as_expanded(data: Any, path: KeyPath) -> KeyPath:
    """Where a value stands now that may have been a short form at `path`."""
    inside = value_at(data, path)
    while isinstance(inside, dict | list) and len(inside) == 1:
        (key,) = inside if isinstance(inside, dict) else (0,)
        path, inside = (*path, key), _get(inside, key)
    return path


def _is_key(data: Any, path: KeyPath) -> bool:
    """Whether there is such a key, in the file or at all."""
    is_there = value_at(data, path) is not None or secret_key(path) is not None
    return is_there or shape_of(data, path) is not None


def _put(tree: Tree, parts: KeyPath, value: object, name: str, *, is_typed: bool = False) -> None:
    """Set the key at `parts`, making the sections on the way; BadValue if there is none.

    Text is read by the type of the key, unless it is typed already.
    """
    inside: Any = tree.data
    path: KeyPath = ()
    for part, following in zip(parts, (*parts[1:], None), strict=True):
        key = _key(inside, part)
        path = (*path, key)
        _drop_replaced(tree, inside, path)
        if following is None:
            if isinstance(value, str) and not is_typed:
                value = typed(value, shape_of(tree.data, path))
            tree.forget(path)
            tree.places[path] = name
            _set(inside, key, value)
        elif _get(inside, key) is None or _is_switched_on(tree, path):
            tree.places.setdefault(path, name)
            _set(inside, key, [] if following == 0 else {})
        inside = _get(inside, key)


def _is_switched_on(tree: Tree, path: KeyPath) -> bool:
    """Whether true stands for a section with every default."""
    shape = shape_of(tree.data, path)
    return bool(switch_of(value_at(tree.data, path)) and shape is not None and shape.models)


def _key(inside: Any, part: str | int) -> str | int:
    """The existing key or index that `part` names, else the one that it makes."""
    if isinstance(inside, dict):
        return next((key for key in inside if _folded(key) == str(part)), str(part))
    if not isinstance(inside, list):
        raise BadValue("unknown key below a plain value", "override the value itself")
    if not isinstance(part, int) or part > len(inside):
        raise BadValue("unknown place in the list", f"use a number from 0 to {len(inside)}")
    return part


def _folded(key: str) -> str:
    return key.lower().replace("-", "_")


def _get(inside: Any, key: Any) -> Any:
    if isinstance(inside, list):
        return inside[key] if key < len(inside) else None
    return inside.get(key)


def _set(inside: Any, key: Any, value: object) -> None:
    if isinstance(inside, list) and key == len(inside):
        inside.append(value)
    else:
        inside[key] = value


def _drop_replaced(tree: Tree, inside: Any, path: KeyPath) -> None:
    """Take out the file's other way of saying the same, such as `secret_file` beside `secret`."""
    other = _other_form(path)
    if other and isinstance(inside, dict) and isinstance(tree.locate(other), int):
        inside.pop(other[-1], None)
        tree.forget(other)


def _other_form(path: KeyPath) -> KeyPath | None:
    if path in (("upstreams",), ("routes",)):
        return ("upstream",)
    if path[0] == "upstreams" and len(path) == 3 and path[-1] in _ALTERNATIVES:
        return (*path[:-1], _ALTERNATIVES[str(path[-1])])
    return file_key(path) or secret_key(path)
