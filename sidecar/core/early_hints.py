"""103 Early Hints (RFC 8297): what a client may load before the answer is there."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.core.answer import answer_field
from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.headers import is_clean_block, list_members


def early_hints(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The whole 103 for the client, empty if the hints say nothing that may pass.

    Fields that the sidecar reads or writes itself stay behind: they count in the answer only.
    """
    try:
        passing = [(name, value) for name, value in fields if not answer_field(name)]
    except UpstreamProtocolError:
        return b""
    nominated = {
        member
        for name, value in fields
        if name.lower() == b"connection"
        for member in list_members(value)
    }
    kept = [b"%b: %b\r\n" % field for field in passing if field[0].lower() not in nominated]
    block = b"".join(kept)
    if not kept or not is_clean_block(block, len(kept)):
        return b""
    return b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % block
