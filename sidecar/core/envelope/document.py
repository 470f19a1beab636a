"""An upstream's JSON document: validated as a whole, and cut into members of its own bytes."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.core.envelope_members import ENVELOPE
from sidecar.core.json_text import BOM, without_lone_surrogates
from sidecar.core.jsonscan import MAX_DEPTH, InvalidJSON, decoder_stops, is_shallow
from sidecar.core.jsonwalk import Walker

ABSENT: Final = msgspec.UNSET
BOOLEANS: Final = (b"true", b"false")
WHITESPACE: Final = b" \t\n\r"
_LONGEST_INDEX: Final = 18  # digits
OBJECT_LEVELS: Final = 500  # of nesting; what has more is no value that is compared
WALK_BYTES: Final = 4096  # that a walk takes in one step: up to 20 ms if all is short members

_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_elements: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_raw: Final = msgspec.json.Decoder(Raw).decode
_decode_any: Final = msgspec.json.Decoder().decode


class Document(msgspec.Struct):  # built faster than a class of slots
    """A valid JSON text.

    `body` is the text as it came, `members` its members as raw bytes if it is an object (the
    last of equal names wins, as in browsers; names are equal when they are so once decoded).
    """

    body: bytes
    members: dict[str, Raw] | None

    @property
    def message(self) -> Any:
        """The decoded member `message`, or `ABSENT`."""
        raw = self.members.get("message") if self.members else None
        return ABSENT if raw is None else decoded(raw)

    @property
    def is_envelope(self) -> bool:
        """Whether it has the envelope's five members already, with a boolean `isError`."""
        members = self.members
        return (
            members is not None
            and "isError" in members
            and members.keys() >= ENVELOPE
            and bytes(members["isError"]) in BOOLEANS
        )

    @property
    def text(self) -> bytes:
        """The text without a byte order mark and surrounding whitespace."""
        return self.body.removeprefix(BOM).strip(WHITESPACE)

    def find(self, path: tuple[str, ...]) -> Raw | None:
        """The raw value at `path`: member names, and decimal indexes into arrays."""
        value = self.members.get(path[0]) if self.members else None
        for key in path[1:]:
            if value is None:
                return None
            value = step(value, key)
        return value

    def lookup(self, path: tuple[str, ...]) -> Any:
        """The decoded value at `path`, or `ABSENT`.

        Lone surrogates come out as U+FFFD; what nests too deeply to become objects is `ABSENT`.
        """
        raw = self.find(path)
        return ABSENT if raw is None else decoded(raw)


class NeedsWalk(Exception):
    """Only a `Walk` can tell what the text is."""


def parse(body: bytes) -> Document:
    """Validate `body` as one JSON text in UTF-8 (RFC 8259), without building its values.

    A byte order mark is accepted, as `fetch().json()` does (Encoding Standard, "UTF-8 decode").
    Raises `InvalidJSON`.
    """
    try:
        return parse_at_once(body)
    except NeedsWalk:
        return Walk(body).run()


def parse_at_once(body: bytes) -> Document:
    """As `parse`, but raises `NeedsWalk` if that might take longer than a few milliseconds."""
    text = body
    if not body.isascii():
        _check_utf8(body)
        text = body.removeprefix(BOM)
    try:
        # Each level takes two bytes.
        if len(text) <= 2 * MAX_DEPTH or decoder_stops() or is_shallow(text):
            if not text.startswith(b"{"):
                text = text.lstrip(WHITESPACE)
            if text.startswith(b"{"):
                return Document(body, _decode_members(text))
            _decode_raw(text)
            return Document(body, None)
    except (msgspec.DecodeError, RecursionError):
        pass  # msgspec refuses lone surrogates and deep nesting, both legal
    # Ask the slower authority, which counts the levels by itself.
    if len(text) > WALK_BYTES:
        raise NeedsWalk
    return Walk(body).run()


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError:
        raise InvalidJSON("not UTF-8") from None


class Walk:
    """Validates one JSON text in UTF-8 step by step, whatever it nests or escapes.

    `step` returns the document once it is known, else None, and raises `InvalidJSON`. A step takes
    some milliseconds at most.
    """

    __slots__ = ("_at", "_body", "_members", "_text", "_walker")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._text = body.removeprefix(BOM)
        self._at = 0
        self._members: dict[str, list[bytes]] = {}
        self._walker = Walker(descend=frozenset({()}), wanted=None, name_limit=len(body))

    def step(self) -> Document | None:
        part = self._text[self._at : self._at + WALK_BYTES]
        self._at += len(part)
        for piece in self._walker.feed(part) if part else self._walker.finish():
            name = piece.path[0]
            if piece.begins:
                self._members[name] = []
            self._members[name].append(piece.data)
        return None if part else Document(self._body, self._found())

    def _found(self) -> dict[str, Raw] | None:
        if not self._walker.is_object:
            return None
        return {name: Raw(b"".join(parts)) for name, parts in self._members.items()}

    def run(self) -> Document:
        """All steps at once."""
        while True:
            document = self.step()
            if document is not None:
                return document


def _member(text: bytes, name: str) -> Raw | None:
    """The member of an object, which is valid."""
    try:
        return _decode_members(text).get(name)
    except (msgspec.DecodeError, RecursionError):
        walker = Walker(descend=frozenset({()}), wanted=frozenset({(name,)}))
        found: list[bytes] = []
        for piece in walker.feed(text) + walker.finish():
            found = [piece.data] if piece.begins else [*found, piece.data]
        return Raw(b"".join(found)) if found else None


def step(value: Raw, key: str) -> Raw | None:
    """The member or element of a valid JSON value, or None."""
    text = bytes(value)
    if text.startswith(b"{"):
        return _member(text, key)
    if text.startswith(b"[") and len(key) <= _LONGEST_INDEX and key.isascii() and key.isdecimal():
        found = elements(value)
        return found[int(key)] if int(key) < len(found) else None
    return None


def is_array(value: Raw) -> bool:
    """Whether a valid JSON value without space around it is an array."""
    return bytes(memoryview(value)[:1]) == b"["


def elements(array: Raw) -> list[Raw]:
    """The elements of an array, none if it nests too deeply."""
    found: Any = _decode(_decode_elements, array)
    return [] if found is ABSENT else list(found)


def decoded(raw: Raw) -> Any:
    """The value of a valid JSON text.

    Lone surrogates come out as U+FFFD; what nests too deeply to become objects is `ABSENT`.
    """
    return _decode(_decode_any, raw) if is_shallow(bytes(raw), OBJECT_LEVELS) else ABSENT


def _decode(decode: Any, raw: Raw) -> Any:
    try:
        return decode(raw)
    except msgspec.DecodeError:
        return _decode_repaired(decode, bytes(raw))
    except RecursionError:
        return ABSENT


def _decode_repaired(decode: Any, raw: bytes) -> Any:
    try:
        return decode(without_lone_surrogates(raw))
    except (msgspec.DecodeError, RecursionError):
        return ABSENT
