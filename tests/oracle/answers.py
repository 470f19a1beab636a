"""A strict reader of the answers on one connection, fed with bytes as they come."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t -~\x80-\xff]*")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; names of fields in lower case."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    interim: tuple[int, ...] = ()

    def get(self, name: str) -> str | None:
        """The value of a field that stands there at most once."""
        values = [value for key, value in self.fields if key == name]
        if len(values) > 1:
            raise Malformed(f"{name} stands there {len(values)} times")
        return values[0] if values else None


class Malformed(Exception):
    """The bytes are no answers to the requests."""


class AnswerReader:
    """Takes bytes apart into the answers to requests of known methods.

    `answers` are those that ended, `begun` how many began; `tail` what came behind the last one,
    or behind a 101.
    """

    def __init__(self, methods: Sequence[str]) -> None:
        self.answers: list[Answer] = []
        self.begun = 0
        self.interims = [0] * len(methods)
        self._methods = methods
        self._buffer = bytearray()
        self._head: tuple[int, tuple[tuple[str, str], ...]] | None = None
        self._chunks: list[bytes] | None = None
        self._switched = False

    @property
    def tail(self) -> bytes:
        """Bytes that belong to no answer (yet)."""
        return bytes(self._buffer)

    @property
    def is_inside(self) -> bool:
        """Whether an answer has begun and not ended."""
        return self._head is not None

    @property
    def is_switched(self) -> bool:
        """Whether the connection is a WebSocket now."""
        return self._switched

    def feed(self, data: bytes) -> None:
        """Takes more bytes. Raises `Malformed`."""
        self._buffer += data
        while self._step():
            pass

    def end(self) -> None:
        """The connection has ended: so has an answer that is framed by that."""
        if self._head is not None and self._chunks is None and self._length() is None:
            self._finish(bytes(self._buffer))

    def _step(self) -> bool:
        if self._switched or len(self.answers) == len(self._methods):
            return False
        return self._read_head() if self._head is None else self._read_body(self._head[0])

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        line, *rest = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"status line {line!r}")
        fields = []
        for one in rest:
            field = _FIELD.fullmatch(one)
            if field is None:
                raise Malformed(f"field line {one!r}")
            fields.append((field[1].decode().lower(), field[2].decode("latin-1")))
        status = int(match[1])
        if status < 200 and status != 101:
            self.interims[len(self.answers)] += 1
            return True
        self._head = status, tuple(fields)
        self.begun += 1
        return True

    def _field(self, name: str) -> str | None:
        assert self._head is not None
        return Answer(*self._head, b"").get(name)

    def _length(self) -> int | None:
        status = 0 if self._head is None else self._head[0]
        method = self._methods[len(self.answers)]
        if method == "HEAD" or status in (101, 204, 304):
            return 0
        length = self._field("content-length")
        return None if length is None else int(length)

    def _read_body(self, status: int) -> bool:
        length, coding = self._length(), self._field("transfer-encoding")
        if length is not None:
            if len(self._buffer) < length:
                return False
            self._switched = status == 101
            body = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._finish(body)
            return True
        if coding is None:
            if self._field("connection") != "close":
                raise Malformed("neither framed nor closed")
            return False
        return self._read_chunk()

    def _read_chunk(self) -> bool:
        if self._chunks is None:
            self._chunks = []
        size = _CHUNK_SIZE.match(self._buffer)
        if size is None:
            if b"\r\n" in self._buffer:
                raise Malformed(f"chunk size {bytes(self._buffer[:40])!r}")
            return False
        length = int(size[1], 16)
        end = size.end() + length
        if len(self._buffer) < end + 2:
            return False
        if self._buffer[end : end + 2] != b"\r\n":
            raise Malformed("chunk without end")
        self._chunks.append(bytes(self._buffer[size.end() : end]))
        del self._buffer[: end + 2]
        if not length:
            self._finish(b"".join(self._chunks))
        return True

    def _finish(self, body: bytes) -> None:
        assert self._head is not None
        interim = (100,) * self.interims[len(self.answers)]
        self.answers.append(Answer(*self._head, body, interim))
        self._head = self._chunks = None
