"""What comes in pieces says the same however it is cut, and in bounded steps.

Coded bodies against zlib, WebSocket frames against a plain reading, beginnings of JSON texts
against the whole.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Raw

from sidecar.core.envelope import InvalidJSON, parse, read_beginning
from sidecar.core.inflate import PIECE, CorruptCoding, Inflater
from sidecar.core.websocket import FrameTracker
from tests.fuzz.target import Draw, Target

MOST: Final = 8 << 20  # bytes that an input is followed to
CLOSE: Final = 8


def check(data: bytes) -> None:
    draw = Draw(data)
    size = draw.byte() % 16 + 1
    draw.pick((_coded, _gzipped, _frames, _beginning))(draw.rest(), size)


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _coded(data: bytes, size: int) -> None:
    whole = _inflated(data, len(data) or 1)
    assert whole == _inflated(data, size), "the cuts make a difference"
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        plain = _by_zlib(data, window)
        if plain is not None and len(plain) <= MOST and window > 0:
            assert whole == plain


def _inflated(data: bytes, size: int) -> bytes | None:
    """The decoded body; None if it is refused."""
    inflater, found = Inflater(), b""
    try:
        for piece in _cut(data, size):
            for part in inflater.feed(piece):
                assert len(part) <= PIECE, "a step without a bound"
                found += part
                if len(found) > MOST:
                    return found[:MOST]
        inflater.finish()
    except CorruptCoding:
        return None
    return found


def _by_zlib(data: bytes, window: int) -> bytes | None:
    """The one stream that `data` is; None if it is none, or has something behind it."""
    decompressor = zlib.decompressobj(window)
    try:
        plain = decompressor.decompress(data, MOST + 1)
    except zlib.error:
        return None
    is_one = decompressor.eof and not decompressor.unused_data
    return plain if is_one else None


def _gzipped(data: bytes, size: int) -> None:
    """What was compressed comes back, as several members too; and cut off it is refused."""
    half = len(data) // 2
    coded = b"".join(
        zlib.compress(part, 6, zlib.MAX_WBITS | 16) for part in (data[:half], data[half:])
    )
    assert _inflated(coded, size) == data
    assert _inflated(coded[:-1], size) is None


def _frames(data: bytes, size: int) -> None:
    """Where frames end, and whether one of them is a close frame."""
    tracker, found = FrameTracker(), False
    for piece in _cut(data, size):
        if not found:
            found = tracker.finds_close(piece)
    opcodes, is_whole = _read_frames(data)
    assert found == (CLOSE in opcodes)
    whole = FrameTracker()
    assert whole.feed(data) == len(data)
    assert whole.at_boundary == is_whole


def _read_frames(data: bytes) -> tuple[list[int], bool]:
    """The opcodes of the frames that are whole, and whether nothing is left (RFC 6455 5.2)."""
    opcodes: list[int] = []
    while data:
        if len(data) < 2:
            return opcodes, False
        length, mask = data[1] & 0x7F, 4 if data[1] & 0x80 else 0
        more = {126: 2, 127: 8}.get(length, 0)
        if len(data) < 2 + more + mask:
            return opcodes, False
        if more:
            length = int.from_bytes(data[2 : 2 + more], "big")
        end = 2 + more + mask + length
        if len(data) < end:
            return opcodes, False
        opcodes.append(data[0] & 0x0F)
        data = data[end:]
    return opcodes, True


def _beginning(data: bytes, size: int) -> None:
    """What is certain of a beginning is true of the whole."""
    try:
        document = parse(data)
    except InvalidJSON:
        document = None
    for end in range(size, len(data) + 1, size):
        beginning = read_beginning(data[:end])
        if beginning is None or document is None:
            continue
        if document.members is None or beginning.document.members is None:
            assert document.members is beginning.document.members is None
            continue
        names = [name for name, _ in _pairs(data)]
        for name, value in beginning.document.members.items():
            if names.count(name) == 1 and not _is_open(bytes(value)):
                assert _holds(_value(document.members[name]), _value(value))


def _pairs(data: bytes) -> list[tuple[str, Any]]:
    pairs = json.loads(data, object_pairs_hook=list, parse_constant=str)
    return pairs if isinstance(pairs, list) else []


def _value(raw: Raw) -> Any:
    return json.loads(bytes(raw))


def _is_open(value: bytes) -> bool:
    """Too deep for Python's own json."""
    return value.count(b"[") + value.count(b"{") > 200


def _holds(whole: Any, part: Any) -> bool:
    """Whether a value is a beginning of another one."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole for name in part)
    if isinstance(whole, list) and isinstance(part, list):
        return len(part) <= len(whole) and all(map(_holds, whole, part))
    return bool(whole == part)


TARGET: Final = Target(
    check,
    words=[
        *(b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b"\x78\x9c", b"\x78\x01", b"\x03\0", b"\x4b\x04\0"),
        *(b"\x81\x00", b"\x88\x02\x03\xe8", b"\x82\xfe\x00\x7e", b"\x82\x7f", b"\x89\x80\0\0\0\0"),
        *(
            b'{"a":',
            b'"b":[',
            b'"',
            b"\\",
            b"\\u0041",
            b"]",
            b"}",
            b",",
            b"1",
            b"1.5e3",
            b"null",
            b" ",
        ),
        *(b"true", b'{"a":1,"a":2}', b"\xef\xbb\xbf", b"\xc3\xa9"),
    ],
    seeds=[
        b"\x03\0" + zlib.compress(b"abc" * 20, 6, zlib.MAX_WBITS | 16),
        b"\x01\0" + zlib.compress(b"abc" * 20),
        b"\x02\0" + zlib.compress(b"abc" * 20, 6, -zlib.MAX_WBITS),
        b"\x05\1some text",
        b"\x00\2\x81\x03abc\x89\x00\x88\x02\x03\xe8",
        b"\x04\2\x82\xfe\x00\x7e\0\0\0\0" + b"x" * 126 + b"\x88\x80\0\0\0\0",
        b'\x02\3{"a":[1,{"b":"c\\u0064"}],"d":1.5e3,"e":null}',
        b'\x00\3[{"a":1},[2,3]]',
    ],
    longest=1024,
)
