"""Header fields that tell an upstream who the user is, made of a session's claims (`headers`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import msgspec

from sidecar.core.access import EMAIL, EMAIL_VERIFIED, ClaimOf, ClaimPath, is_verified, texts

LONGEST_VALUE: Final = 4096
"""Bytes of a field's value. A longer one is left out: a part of a list would say something else."""

_PLAIN: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
"""What stands in a value as it is, spaces within aside; `%` begins what is encoded."""
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class IdentityField(msgspec.Struct, frozen=True):
    """A field of the sidecar's own, and the claim that its value is made of."""

    name: bytes
    claim: ClaimPath

    def line(self, claim: ClaimOf) -> bytes:
        """Returns the whole line; empty if the session does not say it, or says it unusably.

        An email that the session calls unverified names somebody else, perhaps.
        """
        value = claim(self.claim)
        is_denied = self.claim == EMAIL and claim(EMAIL_VERIFIED) is not None
        if value is None or (is_denied and not is_verified(claim)):
            return b""
        written = field_value(value)
        return b"%b: %b\r\n" % (self.name, written) if written else b""


def identity_lines(fields: Iterable[IdentityField], claim: ClaimOf) -> bytes:
    """Returns the lines for an upstream."""
    return b"".join(field.line(claim) for field in fields)


def field_value(value: object) -> bytes:
    """Returns a claim as a field's value; empty if it has none that is safe.

    Printable ASCII stays as it is, but for `%`. Everything else is percent-encoded UTF-8. The
    values of a list are joined by commas, which are encoded within them. A control character, and a
    value above `LONGEST_VALUE`, are nobody's name.
    """
    is_list = isinstance(value, list | tuple)
    parts = [one for one in texts(value) if one]
    if any(_CONTROLS.search(one) for one in parts):
        return b""
    written = ",".join(_encoded(one, is_list=is_list) for one in parts)
    return written.encode("ascii") if len(written) <= LONGEST_VALUE else b""


def _encoded(text: str, *, is_list: bool) -> str:
    safe = _PLAIN.replace(",", "") if is_list else _PLAIN
    inner = text.strip(" ")
    left, _, right = text.partition(inner) if inner else (text, "", "")
    return "%20" * len(left) + quote(inner, safe=f"{safe} ") + "%20" * len(right)
