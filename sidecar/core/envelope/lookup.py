"""Values deep inside a JSON document, by a path that may lead through any element of an array.

A path holds member names and decimal indexes; `*` stands for every index of an array. If the whole
body is an array, each of its elements is looked into as a body of its own too: batches of GraphQL
and of tRPC are arrays of what a single call would be answered with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

from msgspec import Raw

from sidecar.core.envelope.document import ABSENT, Document, decoded, elements, is_array, step

ANY: Final = "*"
MOST: Final = 10_000  # values that are looked at on each step of a path

Path = tuple[str, ...]

# Such a text is written as it is, or with \u escapes (RFC 8259 7).
_PLAIN: Final = re.compile(r"[A-Za-z0-9 _.:-]+")


def holds(document: Document, path: Path, wanted: Any) -> bool:
    """Whether a value at `path` is `wanted`, a JSON scalar: true is not 1, and 1 is not 1.0."""
    if not _may_hold(document.body, wanted):
        return False
    return any(_is_equal(decoded(value), wanted) for value in values_at(document, path))


def values_at(document: Document, path: Path) -> Iterator[Raw]:
    """Every value that `path` leads to, still undecoded."""
    if document.members is not None:
        first = document.members.get(path[0])
        return _follow(() if first is None else (first,), path[1:])
    whole = Raw(document.text)
    if not is_array(whole):
        return iter(())
    return chain(_follow((whole,), path), _follow(elements(whole), path))


def _follow(values: Iterable[Raw], path: Path) -> Iterator[Raw]:
    for key in path:
        values = islice(_below(values, key), MOST)
    return islice(values, MOST)


def _below(values: Iterable[Raw], key: str) -> Iterator[Raw]:
    for value in values:
        if key == ANY and is_array(value):
            yield from elements(value)
        else:
            found = step(value, key)
            if found is not None:
                yield found


def _may_hold(body: bytes, wanted: Any) -> bool:
    """Whether a scalar may stand in a text; nearly every body is done with here."""
    if wanted is None or isinstance(wanted, bool):
        return {None: b"null", True: b"true", False: b"false"}[wanted] in body
    if isinstance(wanted, int):
        return b"%d" % wanted in body
    if isinstance(wanted, str) and _PLAIN.fullmatch(wanted):
        return wanted.encode() in body or b"\\u" in body
    return True


def _is_equal(found: Any, wanted: Any) -> bool:
    return found is not ABSENT and type(found) is type(wanted) and bool(found == wanted)
