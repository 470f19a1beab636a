"""The header section that a client repeats from request to request: read once.

Two things are remembered of the last request: its fields, with what the pipeline planned for them,
and, once the section was repeated, its bytes. Both come from the fields of one message, and never
from a segment: only bytes that can be read in one way are compared.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp.streams import EMPTY_PAYLOAD

from sidecar.web.request_parser import render_section

if TYPE_CHECKING:
    from sidecar.core.request import Fields, RawFields
    from sidecar.web.exchange import Exchange

# Of the longest head whose section is remembered, and of one that is in both forms. With the plans
# made for it (`planner.PLANS_BYTES`) that is 16 KiB for a connection at most, and what the log says
# of each is another 8.
FIELDS_BYTES: Final = 8192
SECTION_BYTES: Final = 4096
FIELDS: Final = 64  # of a section that is remembered: each takes more than its bytes
# Method and origin-form target of requests without surprises (RFC 9112 3).
_REQUEST_LINE: Final = re.compile(rb"(GET|HEAD|OPTIONS|POST|PUT|PATCH|DELETE) (/[!-~]*+) HTTP/1\.1")


class KnownSection:
    """What one connection remembers. `fields` are those of the last request that was accepted."""

    __slots__ = ("_section", "fields")

    def __init__(self) -> None:
        self.fields: Fields | None = None
        self._section = b""

    def match(self, data: bytes) -> re.Match[bytes] | None:
        """Returns method and target of a request of which only the request line is new.

        `data` is that whole request then: a plain request line, and the known section without a
        body behind it.
        """
        section = self._section
        if not section or not data.endswith(section):
            return None
        return _REQUEST_LINE.fullmatch(data, 0, len(data) - len(section))

    def reuse(self, raw: RawFields) -> Fields | None:
        """Returns the fields that are remembered if these are the same."""
        known = self.fields
        return known if known is not None and known.raw == raw else None

    def forget(self) -> None:
        """Forgets the section, and what was planned for it."""
        self._keep(None)

    def _keep(self, fields: Fields | None) -> None:
        if self.fields is not None:
            self.fields.forget_plans()
        self.fields, self._section = fields, b""

    def remember(self, exchange: Exchange, size: int) -> None:
        """Remembers the header section of a request that the pipeline has accepted.

        `size` is that of its whole head, in bytes.
        """
        fields = exchange.fields
        if fields is None:
            return
        if fields is not self.fields:
            is_short = size <= FIELDS_BYTES and len(fields.raw) <= FIELDS
            if not is_short:
                fields.forget_plans()
            self._keep(fields if is_short else None)
        elif not (self._section or exchange.closes) and exchange.payload is EMPTY_PAYLOAD:
            self._section = render_section(fields.raw) if size <= SECTION_BYTES else b""
