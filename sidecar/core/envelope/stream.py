"""The envelope around an answer too large for memory, written as it comes.

Up to `rule.buffer` bytes are held, and give exactly what `wrap()` gives. Beyond:

* Payload: the value at the rule's path if it begins within the buffer, else the whole body.
* Message: in front where it is known when writing begins, else behind the payload. It counts if
  it begins within the buffer, or anywhere if the payload is a member.
* An object with all five members begun within the buffer, `isError` a boolean, passes unchanged.
* An object whose `data` is the payload may turn out to be an envelope at its end. What was written
  until then says the same of both: an own message that the other would not have waits. It ends
  with its own members then, and with others up to `HELD_LIMIT` bytes. It is broken off if it has
  more of them, if it is an error by `isError` or by the answer, or if the rule has other paths.
* Held values (message, `keep`) have at most `HELD_LIMIT` bytes beyond the buffer, as have `status`
  and `errorData` of such an envelope. A longer one is broken off, but counts as absent where the
  payload is the whole body, which carries it anyway.
* A second occurrence of what was written already is broken off: browsers would take the last.
* `rule` paths lead through objects only, not through array indexes.
* A rule of `failure` is looked for in the first 64 KiB.

*Broken off* is `Unstreamable`; text that is no JSON is `InvalidJSON`. Once something was written,
the caller must break the connection: nothing that was written before then is a complete JSON text.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.core.envelope.answer import IS_ERROR, MESSAGE, Answer
from sidecar.core.envelope.document import BOOLEANS, parse
from sidecar.core.envelope.failure import begins_as_failure
from sidecar.core.envelope.render import EnvelopeRule, wrap
from sidecar.core.json_text import BOM
from sidecar.core.jsonscan import InvalidJSON, Unstreamable
from sidecar.core.jsonwalk import Path, Piece


class StreamWrapper:
    """Wraps one answer that arrives in chunks, at constant memory; see the module's rules.

    `feed()` returns what can be written, often nothing; `finish()` the rest. Both raise
    `InvalidJSON`, after which the answer cannot be completed any more.
    """

    __slots__ = ("_answer", "_fault", "_held", "_read", "_writer")

    def __init__(self, rule: EnvelopeRule, status: int, reason: str, problem: bool = False) -> None:
        self._answer = Answer(rule, status, reason, problem=problem)
        self._held = bytearray()
        self._read = 0  # bytes of what is held that have been read
        self._fault: InvalidJSON | None = None
        self._writer: _Writer | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the body. Raises `InvalidJSON`."""
        if self._writer is not None:
            return self._writer.write(chunk)
        self._held += chunk
        limit = max(self._answer.rule.buffer, len(BOM))
        self._read_ahead(limit)
        if len(self._held) <= limit:
            return b""
        if self._fault is not None:
            raise self._fault
        head, rest = bytes(self._held[:limit]), bytes(self._held[limit:])
        self._held.clear()
        head = head.removeprefix(BOM)
        if self._answer.rule.failure:
            self._settle(head)
        self._writer, written = _open(self._answer, head)
        return written + self._writer.write(rest)

    def _read_ahead(self, limit: int) -> None:
        """Reads what is held up to `limit`, so that no chunk is much work.

        What is wrong with it counts only if there is more: all of it may be built in memory.
        """
        held, answer = self._held, self._answer
        skipped = len(BOM) if held.startswith(BOM) else 0
        if len(held) < len(BOM) or self._fault is not None:
            return
        start = max(self._read, skipped)
        part = bytes(held[start:limit])
        self._read = start + len(part)
        was_open = answer.walker.end is None
        try:
            pieces = answer.read(part)
        except InvalidJSON as fault:
            self._fault = fault
            return
        if was_open and answer.walker.end is not None:
            answer.walker.end += start - skipped  # within all that is held
        answer.hold(pieces)

    def _settle(self, head: bytes) -> None:
        """Reads the first bytes anew if they say that the answer is an error."""
        answer = self._answer
        if answer.is_error or not begins_as_failure(answer.rule.failure, head):
            return
        self._answer = Answer(
            answer.rule, answer.status, answer.reason, problem=answer.problem, has_failed=True
        )
        self._answer.hold(self._answer.read(head))

    def finish(self) -> bytes:
        """The body is complete. Raises `InvalidJSON` if it cannot be."""
        if self._writer is not None:
            return self._writer.finish()
        answer, document = self._answer, parse(bytes(self._held))
        return wrap(answer.rule, document, answer.status, answer.reason, problem=answer.problem)


class _Writer(Protocol):
    """What writes an answer once its first `rule.buffer` bytes are known."""

    def write(self, chunk: bytes) -> bytes: ...
    def finish(self) -> bytes: ...


def _open(answer: Answer, head: bytes) -> tuple[_Writer, bytes]:
    """Decide by the first bytes how the answer is written; returns the writer and its beginning."""
    if answer.claims_envelope:
        unchanged = _Unchanged(answer)
        return unchanged, unchanged.cut(head)
    if answer.payload_path in answer.captures:
        return _open_member(answer)
    return _open_whole(answer, head)


class _Unchanged:
    """Passes an envelope through. Its closing brace waits until everything is validated."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        answer.captures = {IS_ERROR: answer.captures[IS_ERROR]}  # others may be long
        answer.walker.rest = None

    def write(self, chunk: bytes) -> bytes:
        is_over = self._answer.walker.end is not None
        self._note(self._answer.read(chunk))
        return b"" if is_over else self.cut(chunk)

    def _note(self, pieces: list[Piece]) -> None:
        answer = self._answer
        for piece in pieces:
            if piece.path == IS_ERROR:  # the last one counts
                capture = answer.begin(IS_ERROR) if piece.begins else answer.captures[IS_ERROR]
                capture.add_late(piece)

    def cut(self, chunk: bytes) -> bytes:
        """The part of the chunk just read that lies before the closing brace."""
        end = self._answer.walker.end
        return chunk if end is None else chunk[: end - 1]

    def finish(self) -> bytes:
        self._note(self._answer.end())
        if self._answer.value(IS_ERROR) not in BOOLEANS:
            raise Unstreamable("isError occurs again, and makes it no envelope")
        return b"}"


def _open_whole(answer: Answer, head: bytes) -> tuple[_Writer, bytes]:
    message = answer.settled_message(absent_is_final=True)
    writer = _Whole(answer, message_written=message is not None)
    return writer, answer.head(message) + head


class _Whole:
    """Writes the whole body as the payload. Only values begun in the buffer are captured."""

    __slots__ = ("_answer", "_message_written", "_open")

    def __init__(self, answer: Answer, *, message_written: bool) -> None:
        self._answer = answer
        self._message_written = message_written
        # At most one value is cut by the buffer's end.
        self._open = next((c for c in answer.captures.values() if not c.ends), None)
        answer.walker.coasting = self._open is None
        answer.walker.rest = None

    def write(self, chunk: bytes) -> bytes:
        self._capture(self._answer.read(chunk))
        return chunk

    def finish(self) -> bytes:
        self._capture(self._answer.end())
        return self._answer.tail(with_message=not self._message_written)

    def _capture(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if self._open is None:
                return
            if not self._open.add_late(piece) or piece.ends:
                self._open = None
                self._answer.walker.coasting = True


def _open_member(answer: Answer) -> tuple[_Writer, bytes]:
    message = answer.settled_message(absent_is_final=False)
    own = answer.value(MESSAGE)
    if answer.may_be_both and own is not None and own != message:
        message = None  # an envelope keeps its own
    payload = answer.captures[answer.payload_path]
    written = answer.head(message) + payload.data
    payload.data.clear()
    return _Member(answer, message_written=message is not None), written


class _Member:
    """Writes one member as the payload, and behind it what was captured since."""

    __slots__ = ("_answer", "_message_written")

    def __init__(self, answer: Answer, *, message_written: bool) -> None:
        self._answer = answer
        self._message_written = message_written

    def write(self, chunk: bytes) -> bytes:
        return self._take(self._answer.read(chunk))

    def finish(self) -> bytes:
        answer = self._answer
        written = self._take(answer.end())
        write_tail = answer.own_tail if answer.claims_envelope else answer.tail
        return written + write_tail(with_message=not self._message_written)

    def _take(self, pieces: list[Piece]) -> bytes:
        written = []
        for piece in pieces:
            if piece.begins and self._is_written(piece.path):
                raise Unstreamable("a member that was written already occurs again")
            if piece.path == self._answer.payload_path:
                written.append(piece.data)
            else:
                self._capture(piece)
        return b"".join(written)

    def _is_written(self, path: Path) -> bool:
        answer = self._answer
        return path == answer.payload_path or (
            self._message_written and path in answer.message_paths and path in answer.captures
        )

    def _capture(self, piece: Piece) -> None:
        answer = self._answer
        capture = answer.begin(piece.path) if piece.begins else answer.captures[piece.path]
        if not capture.add_late(piece) and answer.carries(piece.path):
            raise Unstreamable("a member too long to be held")
