"""JSON that JavaScript reads is read alike."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.json_text import decode_json, decode_object

TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)  # with lone surrogates
VALUES = st.recursive(
    TEXTS | st.booleans() | st.none() | st.integers(-(2**53), 2**53),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


def as_javascript_shows(value: object) -> object:
    """The value with U+FFFD for each lone surrogate, as JavaScript encodes texts in UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [as_javascript_shows(one) for one in value]
    if isinstance(value, dict):
        return {as_javascript_shows(name): as_javascript_shows(one) for name, one in value.items()}
    return value


@given(VALUES)
def test_half_of_a_surrogate_pair_is_read(value: object) -> None:
    """`json.dumps` escapes it as `JSON.stringify` does."""
    assert decode_json(json.dumps(value).encode()) == as_javascript_shows(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\uD83D\uDE00\uDE00"', "\U0001f600\ufffd"),
        (rb'"\ud83d\u0041"', "\ufffdA"),
    ],
)
def test_an_escaped_backslash_begins_no_escape(text: bytes, value: str) -> None:
    assert decode_json(text) == value


@pytest.mark.parametrize("text", [b"", b"\xff", b'"\xed\xa0\x80"', b"NaN", b'"\\ud83"', b"1e400"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_json(text)


def test_an_object_may_stand_behind_a_byte_order_mark() -> None:
    assert decode_object(b'\xef\xbb\xbf{"a":"\\ud83d"}') == {"a": "\ufffd"}


@pytest.mark.parametrize("text", [b"[]", b"null", b'"{}"', b"1"])
def test_no_other_value_is_an_object(text: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        decode_object(text)
