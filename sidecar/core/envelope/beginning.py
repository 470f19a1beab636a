"""The beginning of a JSON text, read as far as it is certain what it says.

An answer that is relayed while it is still coming is looked into with what has come: the part that
is cut off goes, and what is open is closed.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sidecar.core.envelope.document import WHITESPACE, Document, NeedsWalk, parse_at_once
from sidecar.core.json_text import BOM
from sidecar.core.jsonscan import InvalidJSON

LONGEST: Final = 65_536  # bytes that are looked at

# Possessive, so that each byte is looked at once. A quote alone begins a string that is cut off.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|["{}\[\],]', re.DOTALL)
_CLOSERS: Final = {b"{": b"}", b"[": b"]"}


class Beginning(NamedTuple):
    """What is known of a text; `is_whole` if nothing of its first value is missing."""

    document: Document
    is_whole: bool


def read_beginning(text: bytes) -> Beginning | None:
    """The first value of `text` with all that is complete in it; None if that is not known."""
    text = text[:LONGEST].removeprefix(BOM).lstrip(WHITESPACE)
    certain, is_whole = _certain(text)
    if not certain:
        return None
    try:
        return Beginning(parse_at_once(certain), is_whole)
    except (InvalidJSON, NeedsWalk):
        return None


def _certain(text: bytes) -> tuple[bytes, bool]:
    """`text` up to the last place where a value is complete, with what is open closed."""
    if text[:1] not in _CLOSERS:
        return b"", False
    open_: list[bytes] = []
    end = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _CLOSERS:
            open_.append(_CLOSERS[token])
        elif token == b",":
            end = match.start()
            continue
        elif token == b'"':
            break
        elif token in (b"}", b"]"):
            if not open_ or open_.pop() != token:
                return b"", False
            if not open_:
                return text[: match.end()], not text[match.end() :].strip(WHITESPACE)
        else:
            continue
        end = match.end()
    return text[:end] + b"".join(reversed(open_)), False
