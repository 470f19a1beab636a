"""An upstream that takes nobody's token is told of, and one that rejects a few is not."""

from __future__ import annotations

from sidecar.core.rejections import IN_A_ROW, KEPT, WITHIN, Rejections


def rejected(on: Rejections, count: int, *, successes: int = 0, start: float = 0.0) -> list[bool]:
    return [
        on.add("/api/", f"s{start}-{at}", successes=successes, now=start + at)
        for at in range(count)
    ]


def test_several_in_a_row_are_told_once_a_minute() -> None:
    one = Rejections()
    assert rejected(one, 10) == [at == IN_A_ROW - 1 for at in range(10)]
    assert rejected(one, 1, start=WITHIN + 1) == [False]
    assert rejected(one, 1, start=WITHIN + 2) == [True]


def test_a_success_between_them_or_a_long_time_begins_a_new_row() -> None:
    one = Rejections()
    assert not any(rejected(one, 2) + rejected(one, 2, successes=1, start=10.0))
    assert not any(rejected(one, 2, successes=1, start=1000.0))


def test_routes_are_told_apart() -> None:
    one = Rejections()
    assert not any(one.add(f"/{at % 5}", "x", successes=0, now=at) for at in range(10))


def test_who_rejected_a_session_is_remembered_for_so_many() -> None:
    one = Rejections()
    for at in range(KEPT + 10):
        one.add("/", f"s{at}", successes=0, now=0.0)
    assert [one.route_of("s0"), one.route_of("s10")] == [None, "/"]
