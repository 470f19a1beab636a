"""What is remembered of other people's texts has a bound in bytes, and changes no answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import cors, forwarding, headers
from sidecar.core.actions import is_json_type
from sidecar.core.memo import LONGEST, Memo

FUNCTIONS: tuple[Any, ...] = (
    headers.list_members,
    headers.decodable_codings,
    headers.at_least_private,
    headers.media_type,
    is_json_type,
    cors._all_exposed,
)
MEMOS: list[tuple[Callable[[bytes], Any], Memo[Any, Any]]] = [
    (function, function.__self__) for function in FUNCTIONS
]
MEMOS += [
    (
        lambda value: headers.vary_by(value, cookie=True, origin=False),
        headers._VARY,
    ),
    (
        lambda value: forwarding.status_line(200, value.decode("latin-1")),
        forwarding._STATUS_LINES,
    ),
]


def held(value: object) -> int:
    """Bytes of a value with what it holds."""
    size = sys.getsizeof(value)
    if isinstance(value, Memo):
        return size + sum(held(one) for pair in value.items() for one in pair)
    return size + (sum(map(held, value)) if isinstance(value, tuple) else 0)


@pytest.mark.parametrize(("function", "memo"), MEMOS)
def test_values_of_64_kib_leave_nothing(
    function: Callable[[bytes], Any], memo: Memo[Any, Any]
) -> None:
    before = held(memo)
    for number in range(100):
        function(b"%d," % number * 16_000)
    assert held(memo) == before


@pytest.mark.parametrize(("function", "memo"), MEMOS)
def test_many_short_values_are_bounded(
    function: Callable[[bytes], Any], memo: Memo[Any, Any]
) -> None:
    for number in range(2000):
        function(b"a,%d," % number * 20)
    assert 0 < held(memo) < 2 << 20


@given(st.lists(st.binary(max_size=2 * LONGEST), max_size=40))
def test_memory_changes_no_answer(texts: list[bytes]) -> None:
    memo = Memo[bytes, bytes](bytes.upper, 8)
    for text in texts * 2:
        assert memo[text] == text.upper()
        assert len(memo) <= 8
        assert all(len(one) <= LONGEST for one in memo)
