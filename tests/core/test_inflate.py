"""Codings undone in bounded steps, in whatever pieces they come."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.inflate import PIECE, TAKEN, CorruptCoding, Inflater


def raw_deflate(data: bytes, level: int = 6) -> bytes:
    coder = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


def inflated(pieces: list[bytes]) -> bytes:
    inflater = Inflater()
    out = b"".join(part for piece in pieces for part in inflater.feed(piece))
    inflater.finish()
    return out


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "two members": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    "zlib": zlib.compress,
    "zlib, stored": lambda data: zlib.compress(data, 0),
    "raw": raw_deflate,
    "raw, stored": lambda data: raw_deflate(data, 0),
}


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_each_format_is_undone_however_it_is_cut(name: str, data: bytes, cuts: list[int]) -> None:
    coded = FORMATS[name](data)
    pieces = []
    rest = coded
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert inflated([*pieces, rest]) == data
    assert inflated([coded[at : at + 1] for at in range(len(coded))]) == data


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("padding", [1, 300])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_zeros_behind_a_whole_member_are_padding(name: str, padding: int, size: int) -> None:
    """As for gzip(1). What else follows is no padding."""
    coded = FORMATS[name](b"some text") + bytes(padding)
    assert inflated([coded[at : at + size] for at in range(0, len(coded), size)]) == b"some text"
    with pytest.raises(CorruptCoding):
        inflated([coded + b"junk"])


def test_nothing_is_whole() -> None:
    """A body without bytes says nothing of its coding."""
    assert inflated([]) == inflated([b"", b""]) == b""


@pytest.mark.parametrize("name", FORMATS)
def test_an_end_that_comes_too_early_is_told(name: str) -> None:
    coded = FORMATS[name](b"some text, and some text")
    whole = len(gzip.compress(b"some ")) if name == "two members" else len(coded)
    for size in range(1, len(coded)):
        if size != whole:
            with pytest.raises(CorruptCoding):
                inflated([coded[:size]])


@pytest.mark.parametrize(
    "coded", [b"no gzip", gzip.compress(b"x", mtime=0) + b"junk", b"\xff\xff\xff"]
)
def test_what_is_in_no_format_is_told(coded: bytes) -> None:
    with pytest.raises(CorruptCoding):
        inflated([coded])


def test_a_bomb_comes_in_small_pieces() -> None:
    inflater = Inflater()
    sizes = [len(part) for part in inflater.feed(gzip.compress(b"\0" * (4 << 20)))]
    assert sum(sizes) == 4 << 20
    assert max(sizes) <= PIECE


def test_the_rest_is_not_copied_for_each_of_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body may be fifty thousand empty ones, each of 20 bytes (T92)."""
    given_in_all, decompressor = 0, zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._stream = decompressor(wbits)

        def __getattr__(self, name: str) -> object:
            return getattr(self._stream, name)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal given_in_all
            given_in_all += len(data)
            return self._stream.decompress(data, most)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    members = gzip.compress(b"") * 5000
    assert inflated([members]) == b""
    assert given_in_all <= 5000 * TAKEN
