"""An upstream's JSON document: validated as a whole, and cut into members of its own bytes."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.core.jsonscan import InvalidJSON
from sidecar.core.jsonwalk import Walker

ABSENT: Final = msgspec.UNSET
ENVELOPE: Final = frozenset({"isError", "message", "data", "status", "errorData"})
BOOLEANS: Final = (b"true", b"false")
BOM: Final = b"\xef\xbb\xbf"
WHITESPACE: Final = b" \t\n\r"

_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_elements: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_raw: Final = msgspec.json.Decoder(Raw).decode
_decode_any: Final = msgspec.json.Decoder().decode
# A proper surrogate pair or any other escape (kept), or else a lone surrogate.
_LONE_SURROGATE: Final = re.compile(
    rb"(\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


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
        return ABSENT if raw is None else _decode(_decode_any, raw)

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
            value = _step(value, key)
        return value

    def lookup(self, path: tuple[str, ...]) -> Any:
        """The decoded value at `path`, or `ABSENT`.

        Lone surrogates come out as U+FFFD; what nests too deeply to become objects is `ABSENT`.
        """
        raw = self.find(path)
        return ABSENT if raw is None else _decode(_decode_any, raw)


def parse(body: bytes) -> Document:
    """Validate `body` as one JSON text in UTF-8 (RFC 8259), without building its values.

    A byte order mark is accepted, as `fetch().json()` does (Encoding Standard, "UTF-8 decode").
    Raises `InvalidJSON`.
    """
    text = body
    if not body.isascii():
        _check_utf8(body)
        text = body.removeprefix(BOM)
    try:
        if text.startswith(b"{"):
            return Document(body, _decode_members(text))
        return _parse_any(body, text.lstrip(WHITESPACE))
    except (msgspec.DecodeError, RecursionError):
        # msgspec refuses lone surrogates and deep nesting, both legal: ask the slower authority.
        return Document(body, _walk_members(text))


def _parse_any(body: bytes, text: bytes) -> Document:
    if text.startswith(b"{"):
        return Document(body, _decode_members(text))
    _decode_raw(text)
    return Document(body, None)


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError:
        raise InvalidJSON("not UTF-8") from None


def _walk_members(text: bytes) -> dict[str, Raw] | None:
    walker = Walker(descend=frozenset({()}), wanted=None, name_limit=len(text))
    pieces = walker.feed(text) + walker.finish()
    if not walker.is_object:
        return None
    members: dict[str, bytes] = {}
    for piece in pieces:
        name = piece.path[0]
        members[name] = piece.data if piece.begins else members[name] + piece.data
    return {name: Raw(value) for name, value in members.items()}


def _step(value: Raw, key: str) -> Raw | None:
    text = bytes(value)
    if text.startswith(b"{"):
        return (parse(text).members or {}).get(key)
    if text.startswith(b"[") and key.isascii() and key.isdecimal():
        elements = _decode(_decode_elements, value)
        return elements[int(key)] if elements is not ABSENT and int(key) < len(elements) else None
    return None


def _decode(decode: Any, raw: Raw) -> Any:
    try:
        return decode(raw)
    except msgspec.DecodeError:
        return _decode_repaired(decode, bytes(raw))
    except RecursionError:
        return ABSENT


def _decode_repaired(decode: Any, raw: bytes) -> Any:
    try:
        return decode(_LONE_SURROGATE.sub(lambda found: found[1] or b"\\ufffd", raw))
    except (msgspec.DecodeError, RecursionError):
        return ABSENT
