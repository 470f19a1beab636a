"""The incremental validator: one value, any chunks, strict RFC 8259."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar.core import jsonscan
from sidecar.core.jsonscan import InvalidJSON, Utf8Check, ValueScanner, passing, skip_space

SNIPPETS = [b"", *(bytes([byte]) for byte in b'{}[]",:\\ \n\x0b01.-eEu\x00\x1f')]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
edits = st.lists(
    st.tuples(st.integers(min_value=0), st.sampled_from(SNIPPETS), st.integers(0, 2)), max_size=2
)


@pytest.fixture(params=[0, 10**9], ids=["leaps", "no leaps"], autouse=True)
def leap_min(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds with the leaps over whole elements, and without."""
    monkeypatch.setattr(jsonscan, "_LEAP_MIN", request.param)


def scan(text: bytes, size: int) -> int:
    """Feeds chunks of `size` bytes; returns how many bytes the value takes."""
    scanner = ValueScanner()
    for start in range(0, len(text), size):
        end = scanner.feed(text[start : start + size])
        if end >= 0:
            return start + end
    scanner.finish()
    return len(text)


def accepts(text: bytes, size: int) -> bool:
    try:
        end = scan(text, size)
    except InvalidJSON:
        return False
    return skip_space(text, end) == len(text)


def strictly_valid(text: bytes) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


def edited(text: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    for position, inserted, deleted in changes:
        at = position % (len(text) + 1)
        text = text[:at] + inserted + text[at + deleted :]
    return text


# The fixture sets a constant for the whole test, so that it may outlive one example.
anyway = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@anyway
@given(values, st.booleans(), st.sampled_from([None, 1]), edits, st.integers(1, 40))
@example([{"a": [[[[1]]]], "b": {"c": {"d": {"e": {}}}}}], True, None, [], 1)
def test_it_judges_as_python_does(
    value: Any,
    ascii_only: bool,
    indent: int | None,
    changes: list[tuple[int, bytes, int]],
    size: int,
) -> None:
    """Any value, damaged or not, cut anywhere: accepted exactly when strict json accepts it."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8")
    text = edited(text, changes)
    if all(byte < 0x80 for byte in text) or _is_utf8(text):
        assert accepts(text, size) is accepts(text, len(text) + 1) is strictly_valid(text)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


parts = st.lists(st.fixed_dictionaries({"id": scalars | st.lists(scalars, max_size=3)}), max_size=3)
rows = st.lists(st.fixed_dictionaries({"id": st.integers(), "rows": parts}), min_size=2, max_size=6)


@anyway
@given(rows, st.booleans(), edits, st.integers(20, 400))
def test_it_is_not_fooled_by_rows_that_look_alike(
    value: Any, mapped: bool, changes: list[tuple[int, bytes, int]], size: int
) -> None:
    """Elements that begin like those they contain are where a leap may guess wrongly."""
    if mapped:
        value = {f"k,{index}": row for index, row in enumerate(value)}
    text = edited(json.dumps(value).encode(), changes)
    assert accepts(text, size) is strictly_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        b"0",
        b"-0",
        b"-0.0e-0",
        b"10",
        b"1e5",
        b"1E+5",
        b"1.5e-10",
        b"true",
        b"false",
        b"null",
        b'""',
        rb'"\"\\\/\b\f\n\r\t\u00e9\ud800"',
        b"[]",
        b"[ ]",
        b"{}",
        b"{ \n}",
        b"[[],{},[[]]]",
        b'{"a":{},"":[0]}',
        b' [ 1 , "a" , { "b" : null } ] ',
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_json_is_accepted(text: bytes, size: int) -> None:
    assert accepts(text, size)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"-",
        b"01",
        b"-01",
        b"00",
        b"1.",
        b"1.e1",
        b".1",
        b"1e",
        b"1e+",
        b"+1",
        b"1_0",
        b"0x1",
        b"NaN",
        b"-Infinity",
        b"tru",
        b"trux",
        b"nulll",
        b"True",
        b'"',
        b'"\\',
        b'"\\"',
        b'"\\u',
        b'"\\u12',
        rb'"\u12g4"',
        rb'"\x"',
        b'"\n"',
        b'"\x00"',
        b'"\x1f"',
        b"[",
        b"]",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1}",
        b"{",
        b"}",
        b"{1}",
        b'{"a"',
        b'{"a":',
        b'{"a"}',
        b'{"a":1',
        b'{"a":1,',
        b'{"a":1,}',
        b'{"a":1]',
        b'{,"a":1}',
        b'{"a" 1}',
        b'{"a":1 "b":2}',
        b"{a:1}",
        b"{'a':1}",
        b"[1]]",
        b"1 2",
        b"\x0c1",
        b"\xef\xbb\xbf1",
        b"/**/1",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_what_is_no_json_is_refused(text: bytes, size: int) -> None:
    assert not accepts(text, size)


@pytest.mark.parametrize(
    "value", [b"1", b"1.5e3", b'"a]"', b"true", b"[1,[2]]", b'{"a":{"b":"}"}}']
)
@pytest.mark.parametrize("behind", [b",1]", b"]", b"}", b" \n,"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_it_stops_behind_the_value(value: bytes, behind: bytes, size: int) -> None:
    """What follows is not its business, and not taken."""
    assert scan(value + behind, size) == len(value)


def test_it_starts_where_it_is_told() -> None:
    text = b'{"a":[1,2],"b":3}'
    assert ValueScanner().feed(text, 5) == 10


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("rest", [b'"a":1}', b' "a":[1],"b":{} }', b'"a,":"}"}'])
def test_it_takes_over_inside_an_object(rest: bytes, size: int) -> None:
    """Behind a member's comma, up to and with the closing brace."""
    scanner = ValueScanner(inside_object=True)
    ends = [scanner.feed(rest[at : at + size]) for at in range(0, len(rest), size)]
    assert ends[-1] >= 0
    assert set(ends[:-1]) <= {-1}


@pytest.mark.parametrize("rest", [b"}", b",", b"1", b']"a":1'])
def test_inside_an_object_a_member_must_follow(rest: bytes) -> None:
    with pytest.raises(InvalidJSON):
        ValueScanner(inside_object=True).feed(rest)


@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":[1,', b"]}]"), (b" [\n{ } , ", b"]")],
)
@pytest.mark.parametrize("size", [4096, 10**7])
def test_deep_nesting_is_no_matter(opening: bytes, closing: bytes, size: int) -> None:
    assert accepts(opening * 3_000 + b"1" + closing * 3_000, size)
    assert not accepts(opening * 3_000 + b"1" + closing * 2_999, size)


def test_too_deep_nesting_is_refused() -> None:
    """Memory is one byte for each level, ten thousand at most."""
    scanner = ValueScanner()
    for _ in range(10):
        assert scanner.feed(b"[" * 1000) == -1
    with pytest.raises(InvalidJSON, match="nested too deeply"):
        scanner.feed(b"[")


@pytest.mark.parametrize(
    ("opening", "chunk", "closing"),
    [
        (b'"', b"x" * 65_536, b'"'),
        (b'"', rb"\u00e9" * 10_000, b'"'),
        (b'{"', b"k" * 65_536, b'":1}'),
        (b"", b"1" * 65_536, b" "),
        (b"-0.", b"0" * 65_536, b"e1 "),
        (b"1e-", b"0" * 65_536, b" "),
        (b" ", b" \n" * 32_768, b"1 "),
        (b"[1", b",1" * 32_768, b"]"),
        (b"[0", b',{"a":[{"b":1}]}' * 2048, b"]"),
        (b'{"":0', b',"a":{"b":[1]}' * 2048, b"}"),
    ],
)
def test_memory_does_not_grow(opening: bytes, chunk: bytes, closing: bytes) -> None:
    """Long tokens and long containers alike take no more than a few chunks."""
    scanner = ValueScanner()
    scanner.feed(opening)
    scanner.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(10):
            assert scanner.feed(chunk) == -1
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2048
    assert peak < 12 * len(chunk)
    assert scanner.feed(closing) >= 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_utf8_may_be_cut_anywhere(size: int) -> None:
    text = "a\u00e9\u20ac\U0001f600\uffff\u2028z".encode() * 3
    check = Utf8Check()
    for start in range(0, len(text), size):
        check.feed(text[start : start + size])
    check.feed(b"", final=True)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"a\x80",
        b"\xc3a",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xf0",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 10])
def test_what_is_no_utf8_is_refused(text: bytes, size: int) -> None:
    """Overlong forms, surrogates and what ends too early included."""
    check = Utf8Check()

    def feed_all() -> None:
        for start in range(0, len(text), size):
            check.feed(text[start : start + size])
        check.feed(b"", final=True)

    with pytest.raises(InvalidJSON):
        feed_all()


@pytest.mark.parametrize(
    ("text", "stops_at"),
    [
        (b'"a":1,"b":[1,{}],"c":2}', 17),
        (b'"data":1,"a":2,', 0),
        (b'"a":1, "data" :1,', 6),
        (b'"dat":1,"data2":1,"data":1,', 18),
        (b'"d\\u0061ta":1,', 0),
        (b'"a":1,}', 6),
        (b'"a":01,', 0),
        ('"\u00e9":1,"x":1,'.encode(), 0),
    ],
)
def test_unwanted_members_are_passed_over(text: bytes, stops_at: int) -> None:
    """Up to the first that is wanted, may be wanted, is the last or is damaged."""
    assert passing(frozenset({"data", "\u00e9"}))(text, 0) == stops_at


def test_metacharacters_in_names_are_literal() -> None:
    pass_over = passing(frozenset({"a.c", "(", "a|b"}))
    assert pass_over(b'"abc":1,"a":1,"a.c":1,', 0) == 14
    assert pass_over(b'"(":1,', 0) == pass_over(b'"a|b":1,', 0) == 0
