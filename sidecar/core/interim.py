"""Interim answers: what a client is told before the answer is there (RFC 9110 15.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sidecar.core.errors import UpstreamProtocolError
from sidecar.core.forwarding import status_line
from sidecar.core.headers import is_clean_block, list_members
from sidecar.core.upstream_head import answer_field

_PASSING: Final = range(102, 200)  # the upstream is not asked for 100, and 101 is no interim answer
_EARLY_HINTS: Final = 103
_UPLOAD_RESUMPTION: Final = 104  # its Location is where the upload goes on


def interim_answer(
    status: int,
    reason: str,
    fields: Sequence[tuple[bytes, bytes]],
    public_location: Callable[[str], str],
) -> bytes:
    """The whole interim answer for the client, empty if it says nothing that may pass.

    Fields that the sidecar reads or writes itself stay behind: they count in the answer only.
    `public_location` maps a Location back (`Route.public_location`).
    """
    if status not in _PASSING:
        return b""
    try:
        passing = [(name, value) for name, value in fields if not answer_field(name)]
    except UpstreamProtocolError:
        return b""
    if status == _UPLOAD_RESUMPTION:
        passing += [
            (name, public_location(value.decode("latin-1")).encode("latin-1"))
            for name, value in fields
            if name.lower() == b"location"
        ]
    nominated = {
        member
        for name, value in fields
        if name.lower() == b"connection"
        for member in list_members(value)
    }
    kept = [b"%b: %b\r\n" % field for field in passing if field[0].lower() not in nominated]
    block = b"".join(kept)
    if not is_clean_block(block, len(kept)) or (status == _EARLY_HINTS and not kept):
        return b""
    return b"%b%b\r\n" % (status_line(status, reason), block)
