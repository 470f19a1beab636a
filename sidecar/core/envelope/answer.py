"""What is known of an answer while it streams by: its head, and the members captured so far."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.core.envelope.document import BOOLEANS
from sidecar.core.envelope.render import (
    EnvelopeRule,
    default_message,
    encode,
    error_head,
    is_truthy,
    success_head,
    success_tail,
)
from sidecar.core.envelope_members import ENVELOPE
from sidecar.core.jsonscan import Unstreamable, Utf8Check
from sidecar.core.jsonwalk import Path, Piece, Walker

HELD_LIMIT: Final = 65_536  # bytes of a captured value beyond the buffer

_FIVE: Final[frozenset[Path]] = frozenset((name,) for name in ENVELOPE)
IS_ERROR: Final[Path] = ("isError",)
MESSAGE: Final[Path] = ("message",)
DATA: Final[Path] = ("data",)
STATUS: Final[Path] = ("status",)
ERROR_DATA: Final[Path] = ("errorData",)


class Capture:
    """A member's value as far as it has come; `lost` if it was too long to be held."""

    __slots__ = ("data", "ends", "late", "lost")

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends = False
        self.late = 0  # bytes from beyond the buffer
        self.lost = False

    def add(self, piece: Piece) -> None:
        self.data += piece.data
        self.ends = piece.ends

    def add_late(self, piece: Piece) -> bool:
        """Add what lies beyond the buffer; returns whether the value can still be held."""
        self.late += len(piece.data)
        if self.late > HELD_LIMIT:
            self.data.clear()
            self.lost = True
        else:
            self.add(piece)
        return not self.lost

    @property
    def value(self) -> bytes | None:
        return bytes(self.data) if self.ends and not self.lost else None


class Answer:
    """What is known of one answer: its head, the rule, and the members captured so far."""

    __slots__ = (
        "captures",
        "is_error",
        "keep",
        "message_paths",
        "payload_path",
        "problem",
        "reason",
        "rule",
        "status",
        "utf8",
        "walker",
    )

    def __init__(
        self,
        rule: EnvelopeRule,
        status: int,
        reason: str,
        *,
        problem: bool,
        has_failed: bool = False,
    ) -> None:
        """`has_failed`: it is an error, though its status is below 400."""
        self.is_error = has_failed or status >= 400
        self.rule = rule
        self.status = status
        self.reason = reason
        self.problem = problem
        self.payload_path = rule.error_data if self.is_error else rule.data
        self.keep = rule.kept(self.payload_path)
        self.message_paths = rule.message_paths(problem=problem and self.is_error)
        self.captures: dict[Path, Capture] = {}
        self.utf8 = Utf8Check()
        self.walker = self._make_walker()

    def _make_walker(self) -> Walker:
        targets = (self.payload_path, *self.message_paths)
        inside = {path[:depth] for path in targets for depth in range(len(path))}
        inside.discard(self.payload_path)  # it is written as it comes
        kept = {(name,) for name in self.keep}
        return Walker(
            frozenset(inside),
            frozenset({*targets, *kept, *_FIVE} - inside),
            rest_limit=HELD_LIMIT if self.may_be_both else 0,
        )

    def read(self, chunk: bytes) -> list[Piece]:
        self.utf8.feed(chunk)
        return self.walker.feed(chunk)

    def hold(self, pieces: list[Piece]) -> None:
        """Captures what was read within the buffer."""
        for piece in pieces:
            capture = self.begin(piece.path) if piece.begins else self.captures[piece.path]
            capture.add(piece)

    def end(self) -> list[Piece]:
        self.utf8.feed(b"", final=True)
        return self.walker.finish()

    def begin(self, path: Path) -> Capture:
        capture = self.captures[path] = Capture()
        return capture

    def has_begun(self, path: Path) -> bool:
        """Whether a member, or an object that is looked into, has begun."""
        return path in self.captures or path in self.walker.entered

    def carries(self, path: Path) -> bool:
        """Whether the member at `path` may appear in the envelope, besides the payload."""
        return path in self.message_paths or (len(path) == 1 and path[0] in self.keep)

    def value(self, path: Path) -> bytes | None:
        capture = self.captures.get(path)
        return None if capture is None else capture.value

    @property
    def claims_envelope(self) -> bool:
        """Whether all five members have begun and `isError` is a boolean."""
        return self.value(IS_ERROR) in BOOLEANS and all(map(self.has_begun, _FIVE))

    @property
    def may_be_both(self) -> bool:
        """Whether its `data` is written alike for an envelope and for what is wrapped."""
        return not self.is_error and self.payload_path == DATA and self.rule.message == MESSAGE

    def own_tail(self, *, with_message: bool) -> bytes:
        """What follows the payload of an envelope: its own members, with others that it has.

        Raises `Unstreamable` if it says something else than what was written, or is not all held.
        """
        rest = self.walker.rest
        if not self.may_be_both or self.value(IS_ERROR) != b"false" or rest is None:
            raise Unstreamable("an envelope that was recognised too late")
        names = (MESSAGE, STATUS, ERROR_DATA) if with_message else (STATUS, ERROR_DATA)
        return b"".join((*map(self._own_member, names), self._kept_members(), rest, b"}"))

    def _own_member(self, path: Path) -> bytes:
        value = self.value(path)
        if value is None:
            raise Unstreamable("a member of an envelope too long to be held")
        return b",%b:%b" % (encode(path[0]), value)

    def message(self) -> bytes:
        """The message as the captures tell it now."""
        for path in self.message_paths:
            value = self.value(path)
            if value is not None and is_truthy(value):
                return value
        return default_message(self.status, self.reason) if self.is_error else b"null"

    def settled_message(self, *, absent_is_final: bool) -> bytes | None:
        """The message if nothing that is still to come can change it, else None."""
        for path in self.message_paths:
            capture = self.captures.get(path)
            if capture is None and absent_is_final:
                continue
            if capture is None or not capture.ends:
                return None
            if is_truthy(bytes(capture.data)):
                break
        return self.message()

    def head(self, message: bytes | None) -> bytes:
        return error_head(self.status, message) if self.is_error else success_head(message)

    def tail(self, *, with_message: bool) -> bytes:
        return b"".join(self._tail_parts(with_message=with_message))

    def _tail_parts(self, *, with_message: bool) -> Iterator[bytes]:
        if with_message:
            yield b',"message":' + self.message()
        if not self.is_error:
            yield success_tail(self.status)
        yield self._kept_members()
        yield b"}"

    def _kept_members(self) -> bytes:
        """The members that are carried along."""
        values = ((name, self.value((name,))) for name in self.keep)
        return b"".join(b",%b:%b" % (encode(one), it) for one, it in values if it is not None)
