"""The beginning of a JSON text says what is complete in it, and nothing that may still change."""

from __future__ import annotations

import json

import pytest

from sidecar.core.envelope import parse, read_beginning


@pytest.mark.parametrize(
    ("text", "certain", "is_whole"),
    [
        (b'{"a":1}', {"a": 1}, True),
        (b' {"a":1} \n', {"a": 1}, True),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}, True),
        (b'{"a":1}\n{"b":2}', {"a": 1}, False),
        (b'{"a":1,"b":12', {"a": 1}, False),
        (b'{"a":1,"b":"x', {"a": 1}, False),
        (b'{"a":1,"b":"x,]}', {"a": 1}, False),
        (b'{"a":"}\\",{","b":2,', {"a": '}",{', "b": 2}, False),
        (b'{"a":{"b":[1,{"c":"d"},', {"a": {"b": [1, {"c": "d"}]}}, False),
        (b'{"a":{', {"a": {}}, False),
        (b'{"a', {}, False),
        (b"[[1,2],[3", [[1, 2], []], False),
        (b"[1", [], False),
        (b"{", {}, False),
    ],
)
def test_beginning_is_what_is_complete(text: bytes, certain: object, is_whole: bool) -> None:
    found = read_beginning(text)
    assert found is not None
    assert json.loads(found.document.body) == certain
    assert found.is_whole is is_whole


@pytest.mark.parametrize(
    "text", [b"", b"  ", b"12", b'"a"', b"<a>", b"{]", b"}", b"{x:1,", b"\xff{"]
)
def test_what_begins_no_container_says_nothing(text: bytes) -> None:
    assert read_beginning(text) is None


def test_every_beginning_of_a_text_is_contained_in_it() -> None:
    """Whatever the text is cut at: no scalar that the whole text does not hold at that place."""
    whole = {"a": [1, -2.5e3, 'x\\"y', None, {"b": {"c": [[], {}, [True]]}}], "é": "ü", "z": 12345}
    text = json.dumps(whole, ensure_ascii=False).encode()

    def is_part(part: object, of: object) -> bool:
        if isinstance(part, dict):
            return isinstance(of, dict) and all(
                key in of and is_part(value, of[key]) for key, value in part.items()
            )
        if isinstance(part, list):
            return isinstance(of, list) and all(map(is_part, part, of)) and len(part) <= len(of)
        return part == of

    for end in range(1, len(text) + 1):
        found = read_beginning(text[:end])
        assert found is not None
        assert is_part(json.loads(found.document.body), whole)
        assert found.is_whole is (end == len(text))
    assert found is not None
    assert found.document.members == parse(text).members


def test_long_beginning_is_bounded() -> None:
    """Of a text that goes on and on, its beginning alone is looked at."""
    found = read_beginning(b'{"a":1,"b":[' + b"0," * 500_000)
    assert found is not None
    assert len(found.document.body) < 70_000
