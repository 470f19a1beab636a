"""The walk over members: which values are handed out, and what is validated besides."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.jsonscan import InvalidJSON
from sidecar.core.jsonwalk import Path, Piece, Walker

ROOT: frozenset[Path] = frozenset({()})

scalars = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abcd\u00e9"), inner),
    max_leaves=15,
)


def walk(walker: Walker, text: bytes, size: int) -> list[Piece]:
    pieces: list[Piece] = []
    for start in range(0, len(text), size):
        pieces += walker.feed(text[start : start + size])
    return pieces + walker.finish()


def joined(pieces: list[Piece]) -> list[tuple[Path, bytes]]:
    """Whole values, in their order; checks that each begins and ends once."""
    found: list[tuple[Path, bytes]] = []
    expects_begin = True
    for piece in pieces:
        assert piece.begins is expects_begin
        if piece.begins:
            found.append((piece.path, piece.data))
        else:
            assert found[-1][0] == piece.path
            found[-1] = (piece.path, found[-1][1] + piece.data)
        expects_begin = piece.ends
    assert expects_begin
    return found


@given(st.dictionaries(st.text(max_size=5), values), st.booleans(), st.integers(1, 30))
def test_every_member_is_handed_out(value: dict[str, Any], ascii_only: bool, size: int) -> None:
    """In order, with the bytes it came in, however it was cut."""
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    walker = Walker(ROOT, None)
    found = joined(walk(walker, text, size))
    assert [(path[0], json.loads(data)) for path, data in found] == list(value.items())
    assert walker.is_object


@given(values, st.integers(1, 30), st.sampled_from([None, 2]))
def test_wanted_paths_are_handed_out(value: Any, size: int, indent: int | None) -> None:
    """Below objects that are looked into, and nothing else; arrays are never looked into."""
    wanted = frozenset({("b",), ("a", "b"), ("a", "c", "d"), ("\u00e9",)})
    walker = Walker(ROOT | {("a",), ("a", "c")}, wanted)
    found = joined(walk(walker, json.dumps(value, indent=indent).encode(), size))
    assert {path: json.loads(data) for path, data in found} == {
        path: expected for path in wanted if (expected := _at(value, path)) is not MISSING
    }


MISSING = object()


def _at(value: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


@pytest.mark.parametrize("text", [b"[1]", b"1", b'"x"', b"null", b' \n[{"a":1}] '])
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_no_object_has_no_members(text: bytes, size: int) -> None:
    walker = Walker(ROOT, None)
    assert walk(walker, text, size) == []
    assert not walker.is_object


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'{"a":1,}',
        b'{"a":1}}',
        b'{"a":1} 1',
        b'{"a":1;"b":2}',
        b'{"a";1}',
        b"{1:1}",
        b'{"a":{"b":1}',
        b'{"a":{"b":1,}}',
        b'{"a":{"b" 1}}',
        b'{"x":01}',
        b'{"\\x":1}',
        b"[1",
        b"1,",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("coasting", [False, True])
def test_damage_anywhere_is_refused(text: bytes, size: int, coasting: bool) -> None:
    """In what is wanted, in what is not, in what is looked into, and behind the end."""
    walker = Walker(ROOT | {("a",)}, frozenset({("a", "b")}))
    walker.coasting = coasting
    with pytest.raises(InvalidJSON):
        walk(walker, text, size)


@given(values, st.integers(1, 20), st.integers(0, 100))
def test_coasting_validates_as_well(value: Any, size: int, begin: int) -> None:
    """Once nothing is wanted any more, members are no longer told apart, but still checked."""
    text = json.dumps({"x": 1, "y": value, "z": {}}).encode()
    for damaged in (text, text[:-1], text + b"}"):
        walker = Walker(ROOT | {("y",)}, frozenset({("a",)}))
        try:
            for start in range(0, len(damaged), size):
                walker.feed(damaged[start : start + size])
                walker.coasting = start >= begin
            walker.finish()
        except InvalidJSON:
            assert damaged != text
        else:
            assert damaged == text


@pytest.mark.parametrize("size", [1, 7, 100])
def test_names_are_compared_decoded(size: int) -> None:
    walker = Walker(ROOT, frozenset({("data",), ("\ud800",)}))
    found = joined(walk(walker, rb'{"d\u0061ta":1,"\ud800":2,"Data":3,"data":4}', size))
    assert found == [(("data",), b"1"), (("\ud800",), b"2"), (("data",), b"4")]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_name_too_long_is_passed_over(size: int) -> None:
    walker = Walker(ROOT, None, name_limit=10)
    text = b'{"%b":[1],"%b":2,"c":3}' % (b"a" * 9, b"b" * 8)
    assert joined(walk(walker, text, size)) == [(("b" * 8,), b"2"), (("c",), b"3")]


def test_an_object_looked_into_may_not_occur_twice() -> None:
    """Which one counts would be known too late."""
    walker = Walker(ROOT | {("a",)}, frozenset({("a", "b")}))
    with pytest.raises(InvalidJSON, match="twice"):
        walker.feed(b'{"a":{"b":1},"a":{}}')


@pytest.mark.parametrize(
    ("chunks", "end"), [([b"{}"], 2), ([b' {"a":', b"1} "], 2), ([b"{", b"}", b" "], 1)]
)
def test_it_tells_where_the_text_ended(chunks: list[bytes], end: int) -> None:
    """The index behind the text in the chunk it ended in; None before."""
    walker = Walker(ROOT, None)
    seen = [walker.end]
    for chunk in chunks:
        walker.feed(chunk)
        seen.append(walker.end)
    assert seen[0] is None
    assert seen[-1] == end


def test_objects_looked_into_are_remembered() -> None:
    walker = Walker(ROOT | {("a",), ("b",)}, frozenset({("a", "x"), ("b", "x")}))
    walker.feed(b'{"b":[{}],"a":{')
    assert walker.entered == {(), ("a",)}
