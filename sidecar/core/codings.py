"""Content codings (RFC 9110 8.4): which one a body has, and which one a client accepts."""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.headers import first_codings, list_members
from sidecar.core.memo import Memo

GZIP: Final = b"gzip"
DEFLATE: Final = b"deflate"

# What servers write there, and is no coding: the absence of one, charsets, transfer encodings.
_NO_CODING: Final = re.compile(
    rb"identity|none|null|plain|binary|[78]bit|chunked"
    rb"|utf-?(?:8|16|32)(?:[bl]e)?|us-ascii|ascii|latin-?1|iso-?8859-?[0-9]+|(?:windows|cp)-?[0-9]+"
)
_WEIGHT: Final = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_NAMES: Final = {b"gzip": GZIP, b"x-gzip": GZIP, b"deflate": DEFLATE}


def _content_coding(value: bytes) -> bytes:
    codings = [
        _NAMES.get(name, name) for name in list_members(value) if not _NO_CODING.fullmatch(name)
    ]
    return b", ".join(codings)


content_coding: Final = Memo(_content_coding, 64).__getitem__
"""The coding of a body by its Content-Encoding value, empty for none.

What is certainly no coding counts for nothing, though servers write it: an empty value, `identity`,
`none`, a charset. Any other name is one, known or not.
"""


def is_decodable(coding: bytes) -> bool:
    """Whether `coding` (of `content_coding`) is none, or one that is undone here."""
    return coding in (b"", GZIP, DEFLATE)


def _accepts_gzip(value: bytes) -> bool:
    weights = dict(map(_weighted, list_members(b",".join(first_codings(value)))))
    others = weights.get(b"*", 0.0)  # whatever is not listed, no coding included
    weight = max(weights.get(b"gzip", -1.0), weights.get(b"x-gzip", -1.0))
    if weight < 0:
        weight = others
    return weight > 0 and weight >= weights.get(b"identity", others)


def _weighted(member: bytes) -> tuple[bytes, float]:
    """A coding and its weight (RFC 9110 12.4.2); one that is malformed counts as 0."""
    name, *parameters = (part.strip() for part in member.split(b";"))
    weight = 1.0
    for parameter in parameters:
        key, _, text = parameter.partition(b"=")
        if key.strip() == b"q":
            weight = float(text) if _WEIGHT.fullmatch(text := text.strip()) else 0.0
    return name, weight


accepts_gzip: Final = Memo(_accepts_gzip, 256).__getitem__
"""Whether a client with this Accept-Encoding value prefers gzip to no coding (RFC 9110 12.5.3)."""
