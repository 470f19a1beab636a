"""Secrets that are known by sight, in whatever encoding they come."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

_SHORTEST: Final = 10  # characters of an encoded canary that are looked for


def canary(kind: str) -> str:
    """A new secret of a kind: letters and digits, so that it is spelled alike in URLs and JSON."""
    return f"cnry{kind}{secrets.token_hex(12)}"


def encodings(text: str) -> Iterator[bytes]:
    """The forms in which a text may be written: as it is, in hex, in Base64 at any offset."""
    raw = text.encode()
    yield raw
    yield quote(text, safe="").encode()
    yield "".join(f"%{octet:02x}" for octet in raw).encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield raw[::-1]
    for offset in range(3):
        padded = base64.b64encode(b"\0" * offset + raw)
        # The first and the last characters depend on what stands beside the text.
        inner = padded[-(-offset * 8 // 6) :].rstrip(b"=")[:-2]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


class Sought:
    """A secret under every encoding."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind: Final = kind
        forms = {one for one in encodings(text) if len(one) >= _SHORTEST}
        self._pattern: Final = re.compile(b"|".join(map(re.escape, sorted(forms))), re.IGNORECASE)

    def context(self, data: bytes) -> str:
        """What stands round the first place where it is; empty if it is nowhere."""
        found = self._pattern.search(data)
        if found is None:
            return ""
        return repr(data[max(0, found.start() - 80) : found.end() + 40])
