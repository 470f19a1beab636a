"""What the sources make of a Cookie header, in the words of the command line's `explain`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypedDict

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Source, read_credential


class Explanation(TypedDict):
    """The members that `explain --json` prints. The token appears as its SHA-256 only."""

    result: str
    source: str | None
    cookie: str | None
    chunks: int
    token_sha256: str | None
    expires_at: float | None
    header_bytes: int
    why: str


def explain(sources: Sequence[Source], cookie_header: str, now: float) -> Explanation:
    """Read `cookie_header` (the field's value) at the Unix time `now`. Never raises.

    Text beyond ASCII stands for its UTF-8 octets, which is what a client would send.
    """
    octets = cookie_header.encode("utf-8", "surrogatepass")
    return facts_of(read_credential(sources, CookieJar.parse(octets.decode("latin-1")), now))


def facts_of(reading: Reading) -> Explanation:
    """What became of a Cookie header, without a value of it."""
    return {
        "result": reading.result.value,
        "source": reading.source,
        "cookie": reading.cookie,
        "chunks": reading.chunks,
        "token_sha256": _sha256(reading.token),
        "expires_at": reading.expires_at,
        "header_bytes": reading.header_bytes,
        "why": reading.why,
    }


def _sha256(token: str | None) -> str | None:
    return None if token is None else hashlib.sha256(token.encode("ascii")).hexdigest()
