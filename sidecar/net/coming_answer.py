"""An answer that is kept as it comes, until it is whole.

Its pieces go to the parser instead if it does not end as its head says: cut short, or with bytes
behind it. So whatever is odd is judged in one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.core.upstream_head import UpstreamHead


class ComingAnswer:
    """`pieces` are all bytes that have come, the head's too; `missing` is how many are still to
    come, below zero if there are too many; `length` is that of the whole body.
    """

    __slots__ = ("_begins", "head", "length", "missing", "pieces")

    def __init__(self, head: UpstreamHead, data: bytes, begins: int, missing: int) -> None:
        """`data` is the first piece, in which the body begins at `begins`."""
        self.head: Final = head
        self.pieces: Final = [data]
        self.missing = missing
        self.length: Final = len(data) - begins + missing
        self._begins: Final = begins

    def add(self, data: bytes) -> None:
        """Takes the next piece."""
        self.pieces.append(data)
        self.missing -= len(data)

    def body(self) -> bytes:
        """The body of an answer that is whole."""
        first, *others = self.pieces
        return b"".join((memoryview(first)[self._begins :], *others))
