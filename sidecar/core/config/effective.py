"""Every key that holds: its value as users write it, and where that comes from.

Secrets are shown as their length, and so is whatever may hold one: header fields and bodies of
requests to others, the paths of hooks, and keys in PEM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from sidecar.core.config.faults import KeyPath, dotted
from sidecar.core.config.listen_section import ListenerSection
from sidecar.core.config.model import Config
from sidecar.core.config.tree import Tree
from sidecar.core.config.values import PEM, Listen
from sidecar.core.store_url import StoreUrl

DEFAULT: Final = "default"
DERIVED: Final = "derived"
"""By what other keys or the environment say."""

_REQUESTS: Final = (("refresh", "request"), ("logout", "hooks"))
"""Requests to others, whose header fields and bodies may hold secrets, such as a bearer."""
_NOT_KEYS: Final = frozenset(("warnings", "upstream"))


class Effective(NamedTuple):
    """One key; `origin` is `FILE:LINE`, a variable, an option, `default` or `derived`."""

    key: str
    value: Any
    origin: str


_Found: TypeAlias = tuple[KeyPath, Any, FieldInfo | None]


def effective(config: Config, tree: Tree) -> list[Effective]:
    """Every key of the configuration that `tree` became."""
    found = []
    for path, value, about in leaves(config):
        place = tree.place_of(path)
        if place is not None:
            shown, origin = _written(tree.data, path, value), place
        else:
            shown, origin = _unwritten(value, about)
        found.append(Effective(dotted(path), safe(path, value, shown), origin))
    return found


def leaves(config: Config) -> Iterator[_Found]:
    """Every key's path, value and field."""
    return _leaves(config, (), None)


def _leaves(value: Any, path: KeyPath, about: FieldInfo | None) -> Iterator[_Found]:
    if isinstance(value, BaseModel) and not _is_short(value):
        for name, field in type(value).model_fields.items():
            if path or name not in _NOT_KEYS:
                key = field.alias or name
                yield from _leaves(getattr(value, name), (*path, key), field)
    elif isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key), None)
    elif _is_list_of(value, BaseModel) and not all(map(_is_short, value)):
        for at, inner in enumerate(value):
            yield from _leaves(inner, (*path, at), None)
    else:
        yield path, value, about


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(one, kind) for one in value)


def _is_short(value: Any) -> bool:
    """Whether a section is an address alone, which is shown as it is written."""
    return isinstance(value, ListenerSection) and value.is_short


def _written(data: Any, path: KeyPath, value: Any) -> Any:
    """The value as it was written, such as `30s`."""
    for part in path:
        inside = isinstance(data, list) and isinstance(part, int) and part < len(data)
        data = data[part] if inside else data.get(part) if isinstance(data, dict) else None
    return value if data is None else data


def _unwritten(value: Any, about: FieldInfo | None) -> tuple[Any, str]:
    if about is not None and about.default_factory_takes_validated_data:
        return value, DEFAULT  # of the route's kind
    if about is None or value != about.get_default(call_default_factory=True):
        return value, DERIVED
    extra = about.json_schema_extra
    return (extra.get("default", value) if isinstance(extra, dict) else value), DEFAULT


def safe(path: KeyPath, value: Any, shown: Any) -> Any:
    """What may be shown of a value; secrets in a list or mapping one by one."""
    if isinstance(value, SecretStr):
        return f"({len(value.get_secret_value())} characters)"
    if isinstance(value, StoreUrl):
        return _store(value)
    if isinstance(value, tuple) and any(isinstance(one, SecretStr) for one in value):
        return [safe(path, one, None) for one in value]
    if path[:2] in _REQUESTS and _may_be_secret(path):
        return _hidden(value)
    if isinstance(value, str) and value.lower().startswith(("http://", "https://")):
        address, mark, _ = value.partition("?")
        return f"{address}?…" if mark else _plain(shown)
    if isinstance(value, str) and PEM in value:
        return _hidden(value)  # what was written may say more than what is kept of it
    return _plain(shown)


def _may_be_secret(path: KeyPath) -> bool:
    """Of a request: hooks often have their secret in the path of their URL."""
    is_address_of_a_hook = path[1] == "hooks" and path[-1] == "url"
    return is_address_of_a_hook or "headers" in path or "json" in path


def _hidden(value: Any) -> Any:
    """A value of JSON with the length of each text and number in it."""
    if isinstance(value, tuple | list):
        return [_hidden(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _hidden(one) for key, one in value.items()}
    return value if isinstance(value, bool) or value is None else f"({len(str(value))} characters)"


def _store(url: StoreUrl) -> str:
    """Without a name and a password."""
    hosts = ",".join(f"{host}:{port}" for host, port in url.hosts)
    return f"{url.kind}:{url.path}{'//' if hosts else ''}{hosts}"


def _plain(value: Any) -> Any:
    """A value of JSON."""
    if isinstance(value, Listen | ListenerSection):
        return str(value)
    if isinstance(value, tuple | list | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
