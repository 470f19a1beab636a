"""Incremental walk over a JSON text's members, at constant memory.

Objects that somebody wants to look into are walked member by member; everything else goes to the
`ValueScanner`. The bytes are taken for UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Final, NamedTuple

from sidecar.core.jsonscan import (
    MAX_DEPTH,
    InvalidJSON,
    Unstreamable,
    ValueScanner,
    passing,
    skip_space,
)

NAME_LIMIT: Final = 65_536  # bytes of a member's name that are held; no longer one is ever wanted

Path = tuple[str, ...]

_COMMA, _COLON, _QUOTE, _BACKSLASH = b',:"\\'
_OPEN_OBJECT, _CLOSE_OBJECT = b"{}"


class Piece(NamedTuple):
    """A part of a wanted value: its path, whether it begins or ends here, and its bytes."""

    path: Path
    begins: bool
    data: bytes
    ends: bool


_END: Final = -1


class Walker:
    """Validates one JSON text that arrives in chunks, and hands out values of its members.

    `descend` holds the paths of objects to look into (`()` is the root), `wanted` those whose
    values are handed out, None for every member of these objects. Paths are member names, decoded;
    a member whose name has more than `name_limit` bytes is passed over. An object of `descend`
    other than the root may occur once only: which of two counts is known too late.

    `rest` has the text of the root's other members, each behind a comma. It is None once there are
    more than `rest_limit` bytes of it.
    """

    __slots__ = (
        "_data",
        "_descend",
        "_ended",
        "_mark",
        "_member",
        "_name_limit",
        "_pieces",
        "_pos",
        "_rest_limit",
        "_run",
        "_wanted",
        "coasting",
        "end",
        "entered",
        "is_object",
        "rest",
    )

    def __init__(
        self,
        descend: frozenset[Path],
        wanted: frozenset[Path] | None,
        name_limit: int = NAME_LIMIT,
        rest_limit: int = 0,
    ) -> None:
        self.is_object = False
        self.coasting = False  # set it once no further value is wanted: the rest goes faster
        self.entered: set[Path] = set()  # paths of the objects looked into
        self.end: int | None = None  # the index behind the text, in the chunk it ended in
        self._descend = descend
        self._wanted = wanted
        self._name_limit = name_limit
        self.rest: bytearray | None = bytearray() if rest_limit else None
        self._rest_limit = rest_limit
        self._member: bytearray | None = None  # the text of one that may be of the rest, so far
        self._mark: int | None = None  # where it goes on in the data
        self._pieces: list[Piece] = []
        self._data = b""
        self._pos = 0
        self._ended = False
        self._run = self._document()
        next(self._run)

    def feed(self, chunk: bytes) -> list[Piece]:
        """Scan the next bytes; returns the pieces of wanted values. Raises `InvalidJSON`."""
        if self._mark is not None:
            self._record(len(self._data))
        self._data, self._pos, self._pieces = chunk, 0, []
        next(self._run)
        return self._pieces

    def finish(self) -> list[Piece]:
        """The text ends here. Raises `InvalidJSON` if it is not complete."""
        self._data, self._pos, self._pieces = b"", 0, []
        self._ended = True
        next(self._run, None)
        return self._pieces

    # The generators below yield where they need more data.

    def _document(self) -> Generator[None]:
        self.is_object = (yield from self._peek()) == _OPEN_OBJECT
        yield from self._value(())
        self.end = self._pos
        if (yield from self._peek()) != _END:
            raise InvalidJSON("more than one value")

    def _peek(self) -> Generator[None, None, int]:
        """The next byte that is not whitespace, or `_END`."""
        while True:
            self._pos = skip_space(self._data, self._pos)
            if self._pos < len(self._data):
                return self._data[self._pos]
            if self._ended:
                return _END
            yield

    def _take(self) -> Generator[None, None, int]:
        found = yield from self._peek()
        self._pos += 1
        return found

    def _value(self, path: Path) -> Generator[None]:
        first = yield from self._peek()
        if first == _OPEN_OBJECT and path in self._descend:
            if path in self.entered:
                raise Unstreamable("an object on a configured path occurs twice")
            self.entered.add(path)
            self._pos += 1
            yield from self._object(path)
        else:
            is_wanted = bool(path) if self._wanted is None else path in self._wanted
            scanner = ValueScanner(levels=MAX_DEPTH - len(path))
            yield from self._scan(scanner, path if is_wanted else None)

    def _object(self, path: Path) -> Generator[None]:
        if (yield from self._peek()) == _CLOSE_OBJECT:
            self._pos += 1
            return
        skip = self._skip(path)
        while True:
            behind = skip(self._data, self._pos)
            if behind != self._pos and not path and self.rest is not None:
                self._hold(self._data[self._pos : behind - 1])
            self._pos = behind
            if self.coasting:
                rest = ValueScanner(inside_object=True, levels=MAX_DEPTH - len(path))
                yield from self._scan(rest, None)
                return
            if not path and self.rest is not None:
                self._member, self._mark = bytearray(), self._pos
            text = yield from self._name()
            if (yield from self._take()) != _COLON:
                raise InvalidJSON("':' expected")
            if text is None:
                yield from self._scan(ValueScanner(levels=MAX_DEPTH - len(path) - 1), None)
            else:
                inner = (*path, _decode_name(text))
                if self._mark is not None and self._is_looked_for(inner):
                    self._mark = None
                yield from self._value(inner)
            following = yield from self._take()
            if self._mark is not None:
                self._record(self._pos - 1)
                self._hold(self._member)
                self._mark = None
            if following == _CLOSE_OBJECT:
                return
            if following != _COMMA:
                raise InvalidJSON("',' or '}' expected")

    def _skip(self, path: Path) -> Callable[[bytes, int], int]:
        """What passes over the members of the object at `path` that nobody wants."""
        if self._wanted is None:
            return _skip_nothing
        depth = len(path)
        paths = self._wanted | self._descend
        return passing(frozenset(p[depth] for p in paths if len(p) > depth and p[:depth] == path))

    def _is_looked_for(self, path: Path) -> bool:
        return self._wanted is None or path in self._wanted or path in self._descend

    def _name(self) -> Generator[None, None, bytearray | None]:
        """A member's name as it is spelled, or None for one that is too long to be held."""
        if (yield from self._peek()) != _QUOTE:
            raise InvalidJSON("a member's name expected")
        scanner = ValueScanner()
        held = bytearray()
        while (end := scanner.feed(self._data, self._pos)) < 0:
            if self._ended:
                raise InvalidJSON("truncated")
            if len(held) <= self._name_limit:
                held += self._data[self._pos :]
            self._pos = len(self._data)
            yield
        held += self._data[self._pos : end]
        self._pos = end
        return held if len(held) <= self._name_limit else None

    def _record(self, until: int) -> None:
        """Takes up the text from the mark on as that of a member that may be of the rest."""
        if self._member is not None:
            self._member += self._data[self._mark : until]
            if len(self._member) > self._rest_limit:
                self._member = None
        self._mark = 0

    def _hold(self, members: bytes | bytearray | None) -> None:
        if self.rest is None or members is None:
            self.rest = None
            return
        self.rest += b","
        self.rest += members
        if len(self.rest) > self._rest_limit:
            self.rest = None

    def _scan(self, scanner: ValueScanner, path: Path | None) -> Generator[None]:
        begins = True
        while not self._ended:
            end = scanner.feed(self._data, self._pos)
            stop = len(self._data) if end < 0 else end
            if path is not None:
                self._pieces.append(Piece(path, begins, self._data[self._pos : stop], end >= 0))
            begins, self._pos = False, stop
            if end >= 0:
                return
            yield
        scanner.finish()
        if path is not None:
            self._pieces.append(Piece(path, begins, b"", ends=True))


def _skip_nothing(_data: bytes, pos: int) -> int:
    return pos


def _decode_name(text: bytearray) -> str:
    if _BACKSLASH not in text:
        return text[1:-1].decode()
    # Unlike msgspec, json takes the lone surrogates that RFC 8259 section 8.2 allows.
    name: str = json.loads(text)
    return name
