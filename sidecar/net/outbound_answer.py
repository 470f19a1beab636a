"""What comes of a request that the sidecar makes by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sidecar.core.errors import SidecarError


class Unreachable(SidecarError):
    """There is no usable response. `sent`: the request may have arrived all the same.

    `is_ours`: something is missing here, so that it says nothing of the server. The text is for a
    log and holds nothing of the request.
    """

    def __init__(self, detail: str, *, sent: bool, is_ours: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sent = sent
        self.is_ours = is_ours


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """What was answered, whatever it was, and from which address. The repr holds no token."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    address: str = ""


def address_of(url: str) -> str:
    """An URL as it may be logged: without user, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
