"""The `_file` variants of secrets: `secret_file: /run/secrets/x` stands for `secret:`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from sidecar.core.config.faults import BadValue, Finding, KeyPath
from sidecar.core.config.tree import Tree

ReadFile: TypeAlias = Callable[[str], str]

_SUFFIX: Final = "_file"
_MARK: Final = "\ufeff"
"""What some editors put before a text (RFC 3629 6), unseen; it is no part of a secret."""
# Which keys of which sections may come from a file. A store's URL may hold a password.
_SECTIONS: Final[Sequence[tuple[tuple[str, ...], Sequence[str]]]] = (
    ((), ("secret",)),
    (("refresh",), ("client_secret", "key")),
    (("oidc",), ("client_secret", "key")),
    (("store",), ("url",)),
)
_OF_SOURCES: Final = ("secret", "password", "key")


def file_key(path: KeyPath) -> KeyPath | None:
    """The key that names the file of the secret at `path`; None if it has none."""
    *inside, key = path
    of_source = inside[:2] == ["session", "sources"] and len(inside) == 3
    keys = _OF_SOURCES if of_source else dict(_SECTIONS).get(tuple(map(str, inside)), ())
    return (*inside, f"{key}{_SUFFIX}") if key in keys else None


def secret_key(path: KeyPath) -> KeyPath | None:
    """The key of the secret whose file `path` names; the inverse of `file_key`."""
    key = (*path[:-1], str(path[-1]).removesuffix(_SUFFIX))
    return key if file_key(key) == path else None


def read_secret_files(tree: Tree, read_file: ReadFile) -> None:
    """Replace each `_file` key by the secret it names, without the line ends at its end.

    A list or mapping of files gives a list or mapping of secrets. `read_file` raises OSError or
    UnicodeError for what it cannot read; that becomes a finding.
    """
    for inside, path, keys in list(_holders(tree.data)):
        for key in keys:
            if key + _SUFFIX in inside:
                _replace(tree, inside, (*path, key), read_file)


def _holders(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], KeyPath, Sequence[str]]]:
    """The mappings that may hold a secret, and under which keys."""
    for path, keys in _SECTIONS:
        section = data.get(path[0]) if path else data
        if isinstance(section, dict):
            yield section, path, keys
    session = data.get("session")
    sources = session.get("sources") if isinstance(session, dict) else None
    for index, source in enumerate(sources if isinstance(sources, list) else ()):
        if isinstance(source, dict):
            yield source, ("session", "sources", index), _OF_SOURCES


def _replace(tree: Tree, inside: dict[str, Any], path: KeyPath, read_file: ReadFile) -> None:
    key = str(path[-1])
    where = (*path[:-1], key + _SUFFIX)
    named = inside.pop(key + _SUFFIX)
    if key in inside:
        tree.findings.append(Finding(where, f"contradicts {key}", "keep one of them"))
        return
    place = tree.locate(where)  # a variable may have set the section around it
    if place is not None:
        tree.places[path] = place
    try:
        inside[key] = _contents(named, read_file)
    except BadValue as error:
        tree.findings.append(Finding(where, error.problem, error.remedy))
        tree.told.add(path)


def _contents(named: object, read_file: ReadFile) -> object:
    if isinstance(named, list):
        return [_contents(item, read_file) for item in named]
    if isinstance(named, dict):
        return {key: _contents(item, read_file) for key, item in named.items()}
    if not isinstance(named, str) or not named:
        raise BadValue("must be the path of the file that holds the secret")
    try:
        text = read_file(named).rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadValue(f"cannot be read: {reason}", "mount the file, or correct the path") from None
    except UnicodeError:
        raise BadValue("must be UTF-8 text", "store the secret as text") from None
    except ValueError:
        raise BadValue("must be the path of a file", "remove the NUL character") from None
    if text.startswith(_MARK):
        raise BadValue("must not begin with a byte order mark", "save the file without one")
    return text
