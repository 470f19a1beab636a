"""The way on to the provider's logout, for a page that has logged out by a script.

The session is over by the time that its document can go anywhere, and nobody knows any more whose
it was. So the answer to the script holds a path here, with what the provider wants to see sealed
into a ticket (RP-Initiated Logout 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from sidecar.core.jwe import A256GCM, Keyring, SealError
from sidecar.core.keys import derive_key

PARAM: Final = "onward"
LIFETIME: Final = 300  # seconds: a page that says goodbye first
_LONGEST_TOKEN: Final = 4096  # characters of an id_token; sealed it still fits into an address
_LONGEST_TICKET: Final = 6144


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a logout ended a login session: its id_token, if that can be carried along.

    `until` is when the ticket is worth nothing any more (Unix seconds).
    """

    id_token: str | None = field(repr=False)
    until: float


class OnwardTickets:
    """Seals and opens the tickets."""

    __slots__ = ("_keyring",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """Of `secrets` the first seals, all open."""
        keys = [derive_key(secret, "provider logout") for secret in secrets]
        self._keyring: Final = Keyring({A256GCM: keys}, {})

    def write(self, id_token: str | None, now: float) -> str:
        """A ticket; an id_token that is too long for an address is left out."""
        kept = id_token if id_token is not None and len(id_token) <= _LONGEST_TOKEN else None
        return self._keyring.seal(msgspec.json.encode(Onward(kept, now + LIFETIME)))

    def read(self, ticket: str, now: float) -> Onward | None:
        """Opens a ticket; None when it is forged, broken or past its lifetime."""
        if not 0 < len(ticket) <= _LONGEST_TICKET:
            return None
        try:
            onward = msgspec.json.decode(self._keyring.open(ticket), type=Onward)
        except (SealError, ValueError, RecursionError):
            return None
        return onward if now < onward.until else None
