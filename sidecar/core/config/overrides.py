"""Environment variables and options that set keys over the file's.

`SIDECAR_LISTEN` is the key `listen`; `__` goes deeper and a number is a list's index, so
`SIDECAR_ROUTES__0__UPSTREAM` is `routes[0].upstream` (the index after the last one appends). Names
are compared without regard to case, and `-` in a key is `_` in its variable. The value is read by
the type of its key (`typed_variables`). An empty variable counts as not set. References (`${NAME}`)
are not replaced in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from sidecar.core.config.faults import BadValue, Finding, KeyPath
from sidecar.core.config.short_forms import shape_of
from sidecar.core.config.tree import Tree
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
_REPLACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "secret": "secret_file",
        "secret_file": "secret",
        "password": "password_file",
        "password_file": "password",
        "upstreams": "upstream",
        "routes": "upstream",
    }
)


def apply_overrides(tree: Tree, environ: Mapping[str, str], options: Mapping[str, object]) -> None:
    """Set the keys that variables, then options (`upstream` for `--upstream`), name."""
    for name, text in sorted(_variables(environ), key=lambda item: _order(item[0])):
        try:
            _put(tree, _parts(name), text, name)
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
            tree.forget(path)
            tree.places[path] = name
            if isinstance(value, str) and not is_typed:
                value = typed(value, shape_of(tree.data, path))
            _set(inside, key, value)
        elif _get(inside, key) is None:
            tree.places.setdefault(path, name)
            _set(inside, key, [] if following == 0 else {})
        inside = _get(inside, key)


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
    other = _REPLACES.get(str(path[-1]))
    where = (*path[:-1], other or "")
    if other and isinstance(inside, dict) and isinstance(tree.places.get(where), int):
        inside.pop(other, None)
        tree.forget(where)
