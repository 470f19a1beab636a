"""Whether a request holds a credential itself, so that the response need only repeat it.

Asked of the few responses that hold the token of a dead session: whoever has stolen that must not
bring it back by an endpoint that shows what it is sent.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from sidecar.core.credential import essence

LONGEST: Final = 32_768  # bytes of a request that are looked through; a login is shorter
_ROUNDS: Final = 3  # of decoding, as of JSON in a query in a form
_TELLING: Final = 8  # characters of base64 that no other text has by chance
_ESCAPE: Final = re.compile(rb"\\(?:u00([0-9A-Fa-f]{2})|(.))", re.DOTALL)


class SentText:
    """A request as it was sent. It is decoded once, however many credentials are asked for."""

    __slots__ = ("_request", "_texts")

    def __init__(self, request: bytes) -> None:
        self._request: Final = request
        self._texts: frozenset[bytes] | None = None

    def holds(self, credential: str) -> bool:
        """Returns whether the request holds a credential in one of the usual spellings.

        A request of more than `LONGEST` bytes may hold anything.
        """
        if len(self._request) > LONGEST:
            return True
        if self._texts is None:
            self._texts = _texts(self._request)
        needles = tuple(_spellings(essence(credential).encode()))
        return any(needle in text for text in self._texts for needle in needles)


def _texts(request: bytes) -> frozenset[bytes]:
    """The request, and what it decodes to."""
    found = new = frozenset((request,))
    for _ in range(_ROUNDS):
        new = frozenset(decoded for text in new for decoded in _decoded(text)) - found
        found |= new
    return found


def _spellings(token: bytes) -> Iterator[bytes]:
    """The token, and what base64 makes of it wherever it stands in what is encoded."""
    yield token
    for offset in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            encoded = encode(bytes(offset) + token)
            # The first and last characters depend on what stands beside it.
            inner = encoded[4 if offset else 0 : -4]
            if len(inner) >= _TELLING:
                yield inner


def _decoded(text: bytes) -> tuple[bytes, bytes]:
    return unquote_to_bytes(text), _ESCAPE.sub(_character, text)


def _character(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else match[2]
