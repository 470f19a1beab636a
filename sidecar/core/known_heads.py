"""Heads of answers that came before, byte for byte: read, judged and rendered once.

Servers repeat them: for one resource within a second (Date), or as long as it stays the same. A
head is remembered once it has come twice, so that those that never come again displace nothing.

    LOOKING ──`PATIENCE` heads in a row that were not known──► PAUSING
       ▲                                                          │
       └──────────────────── after `PAUSE` heads ─────────────────┘

Where no head comes again (an id or an entity tag in each), to look for it costs a tenth of a small
request, so that is not done for most.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.core.upstream_head import UpstreamHead

LONGEST: Final = 1024  # bytes of a head
MOST: Final = 256
MOST_MADE: Final = 8  # things for each head: it comes on few routes
MOST_SEEN: Final = 1024  # hashes of heads that came once
PATIENCE: Final = 64
TRIES: Final = 8  # heads that are looked for after a pause
PAUSE: Final = 256


class KnownHeads(dict[bytes, tuple[UpstreamHead, int]]):
    """Heads by their bytes, each with the length of its body.

    `misses` is how many in a row were not known, `pauses` for how many nobody need look.
    """

    __slots__ = ("_seen", "misses", "pauses")

    def __init__(self) -> None:
        super().__init__()
        self._seen: Final[set[int]] = set()
        self.misses = 0
        self.pauses = 0

    def note(self, section: bytes, head: UpstreamHead, length: int) -> None:
        """Remembers a head that was not known if it has come before; none that sets cookies."""
        self.misses += 1
        if self.misses >= PATIENCE:
            self.misses -= TRIES
            self.pauses = PAUSE
        if len(section) > LONGEST or head.cookies:
            return
        digest = hash(section)
        if digest in self._seen:
            if len(self) >= MOST:
                self.clear()
            head.made = {}
            self[section] = head, length
        else:
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()
            self._seen.add(digest)


def keep(made: dict[tuple[object, ...], Any], key: tuple[object, ...], value: object) -> None:
    """Keeps what was made of a head."""
    if len(made) >= MOST_MADE:
        made.clear()
    made[key] = value
