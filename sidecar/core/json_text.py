"""JSON texts of other programs, decoded as JavaScript decodes them, in which most are written."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

BOM: Final = b"\xef\xbb\xbf"
"""The byte order mark, which a parser may ignore (RFC 8259 8.1)."""

# A proper surrogate pair or any other escape (kept), or else a lone surrogate.
_LONE_SURROGATE: Final = re.compile(
    rb"(\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def decode_json(text: bytes) -> Any:
    """Returns the value of a JSON text in UTF-8, with U+FFFD for each lone surrogate.

    JavaScript writes one as an escape where an application has cut a name within an emoji, such as
    by `name.slice(0, 20)`, and reads it again (RFC 8259 8.2). Raises `ValueError` and
    `RecursionError`.
    """
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return msgspec.json.decode(without_lone_surrogates(text))


def decode_object(text: bytes) -> dict[str, Any]:
    """Returns the object of a JSON text, as `decode_json` does; a byte order mark is ignored.

    Raises `ValueError`, also for any other value, and `RecursionError`.
    """
    value = decode_json(text.removeprefix(BOM))
    if not isinstance(value, dict):
        raise ValueError("the text holds no JSON object")
    return value


def without_lone_surrogates(text: bytes) -> bytes:
    """Returns a JSON text with U+FFFD for each escape that is half of a surrogate pair."""
    return _LONE_SURROGATE.sub(lambda found: found[1] or b"\\ufffd", text)
