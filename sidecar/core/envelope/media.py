"""Which media types are JSON documents, and so are wrapped."""

from __future__ import annotations

import re
from typing import Final

# What nearly every API sends, in the spellings of the common frameworks.
_COMMON: Final = frozenset(
    {
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        "application/json;charset=UTF-8",
        "application/problem+json",
    }
)
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 section 5.6.2  # noqa: S105
_JSON: Final = re.compile(
    # Framed messages that only carry JSON: length prefixes (gRPC, Connect) or lines (Spring).
    r"(?!application/(?:grpc(?:-web(?:-text)?)?|connect|stream)\+json)"
    rf"(?:(?:application|text)/json|{_TOKEN}/{_TOKEN}\+json)[ \t]*(?:;|\Z)",
    re.IGNORECASE,
)
# RFC 8259 section 11: a charset parameter has no meaning for JSON, so it is ignored; but what is
# announced as UTF-16 or UTF-32 is certainly not the UTF-8 that section 8.1 demands.
_WIDE: Final = re.compile(r';[ \t]*charset="?(?:utf-?(?:16|32)|ucs-?[24])', re.IGNORECASE)


def is_json_type(content_type: str | bytes) -> bool:
    """Whether a Content-Type value names one JSON document in UTF-8.

    `application/json`, `text/json` and `*/*+json` (RFC 6839 section 3.1) count, in any case and
    with any parameters; framed types and UTF-16 or UTF-32 do not.
    """
    if isinstance(content_type, bytes):
        content_type = content_type.decode("latin-1")
    if content_type in _COMMON:
        return True
    value = content_type.strip(" \t")
    return _JSON.match(value) is not None and _WIDE.search(value) is None
