"""Which of several servers is next, and which ones are left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.config.routes import Ejection
from sidecar.core.record import replace
from sidecar.net.members import Member, Members
from sidecar.policy import UpstreamAddress, UpstreamServer

RULE = Ejection.model_validate({"failures": 3, "time": "10s"})
ADDRESS = UpstreamAddress(
    name="main",
    servers=(),
    tls=None,
    connect=2.0,
    retry=0.0,
    head=5.0,
    idle=5.0,
    pool_idle=15.0,
    pool_max=8,
    pool_max_age=300.0,
    header_limit=65536,
    ejection=RULE,
)


class Told:
    """The servers of an upstream, and what is told of them."""

    def __init__(self, count: int, rule: Ejection | None = RULE) -> None:
        self.told: list[tuple[str | None, str | None]] = []
        servers = tuple(UpstreamServer(f"s{at}", 80) for at in range(count))
        address = replace(ADDRESS, servers=servers, ejection=rule)
        self.members = Members(address, lambda one, why: self.told.append((one, why)))

    @property
    def all(self) -> tuple[Member, ...]:
        return self.members.all

    def takes(self, requests: int, now: float = 0.0) -> str:
        """The servers that so many requests go to, one after the other."""
        found = ""
        for _ in range(requests):
            one = self.members.next(now)
            self.members.took(one, now)
            found += str(self.all.index(one))
        return found


def test_servers_with_the_same_load_take_requests_in_turn_and_else_the_one_with_the_least() -> None:
    told = Told(3)
    assert told.takes(7) == "0120120"
    told.all[1].open = 2
    assert told.takes(4) == "2020"
    told.all[0].dialing = told.all[2].dialing = 3
    assert told.takes(2) == "11"


def test_server_that_refuses_is_left_out_at_once_and_longer_each_time() -> None:
    """One attempt at a time tries it again, and the first that succeeds ends it."""
    told, now, waits = Told(2), 0.0, []
    first = told.all[0]
    for number in range(2000):
        told.members.unreachable(first, now, "connection refused")
        assert told.takes(3, now) == "111", number
        waits.append(first.until - now)
        now = first.until
        assert first in told.members.order(now)[0]
        first.dialing = 1
        assert told.takes(3, now) == "111"
        first.dialing = 0
    assert waits[:4] == sorted(waits[:4])
    assert waits[0] < 1.2
    assert 8.9 < waits[-1] < 11.1  # give or take a tenth
    assert told.told == [("s0:80", "connection refused")]
    told.members.connected(first)
    assert told.told[1:] == [("s0:80", None)]
    assert sorted(told.takes(2, now)) == ["0", "1"]
    assert (first.snapshot(now).failures, first.snapshot(now).ejections) == (0, 1)


def test_exchanges_that_fail_leave_out_after_several_in_a_row() -> None:
    """A response between them begins the row anew, and a connect does not."""
    told = Told(2)
    first = told.all[0]
    for _ in range(2):
        for _ in range(2):
            told.members.failed(first, 0.0, "no answer within 5 s")
        told.members.judge(first, 0.0, 200)
    assert told.told == []
    for _ in range(3):
        told.members.connected(first)
        told.members.failed(first, 0.0, "no answer within 5 s")
    assert told.told == [("s0:80", "3 in a row: no answer within 5 s")]
    assert told.takes(2) == "11"
    shown = first.snapshot(0.0)
    assert (shown.failures, shown.error) == (3, "no answer within 5 s")
    assert shown.out_until is not None
    assert shown.error_at is not None
    assert 8.9 < first.until < 11.1
    again = first.until
    told.all[1].open = 9
    assert told.takes(3, again) == "011"  # one request tries it, and the next a moment later
    assert told.takes(2, again + 1.1) == "01"
    told.members.failed(first, again, "no answer within 5 s")  # on trial one is enough
    assert 17.9 < first.until - again < 22.1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_responses_leave_out_half_of_the_servers_at_most(count: int) -> None:
    """A request that makes every server fail does not empty the upstream."""
    told = Told(count)
    for one in told.all:
        for _ in range(5):
            told.members.failed(one, 0.0, "was lost")
    used, left_out = told.members.order(0.0)
    assert len(left_out) == count // 2
    assert len(used) == count - count // 2


def test_if_nobody_is_left_all_are_used() -> None:
    told = Told(3)
    for one in told.all:
        told.members.unreachable(one, 0.0, "connection refused")
    assert len(told.members.order(0.0)[0]) == 3
    for one in told.all:
        told.members.checked(one, "status 500")
    assert len(told.members.order(0.0)[0]) == 3
    assert told.all[0].snapshot(0.0).out_until is not None


def test_without_ejection_only_connects_leave_out() -> None:
    told = Told(2, None)
    for _ in range(100):
        told.members.failed(told.all[0], 0.0, "was lost")
    assert sorted(told.takes(2)) == ["0", "1"]
    told.members.unreachable(told.all[0], 0.0, "connection refused")
    assert told.takes(2) == "11"


def test_server_whose_check_fails_is_left_out_until_it_passes() -> None:
    told = Told(2)
    first = told.all[0]
    told.members.checked(first, None)
    assert first.snapshot(0.0).check == "ok"
    for _ in range(2):
        told.members.checked(first, "status 503")
    assert told.takes(2, 1e9) == "11"
    assert first.snapshot(0.0).check == "status 503"
    told.members.checked(first, None)
    assert told.told == [("s0:80", "check: status 503"), ("s0:80", None)]
    assert sorted(told.takes(2)) == ["0", "1"]


def test_server_that_failed_a_request_is_the_last_choice_for_its_repetition() -> None:
    told = Told(3)
    told.all[1].open = told.all[2].open = 5
    assert told.members.order(0.0, told.all[0])[0][-1] is told.all[0]


OPERATIONS = st.tuples(
    st.sampled_from(
        ["take", "end", "refused", "connected", "failed", "answered", "check", "checked"]
    ),
    st.integers(0, 3),
    st.floats(0, 20),
)


@given(st.integers(1, 4), st.lists(OPERATIONS, max_size=60))
def test_whatever_happens_the_best_server_in_use_is_next(
    count: int, operations: list[tuple[str, int, float]]
) -> None:
    """Never one that is left out while another is not, and never a busier one.

    What is told of each server alternates, and no count is ever negative.
    """
    told, now = Told(count), 0.0
    for name, at, seconds in operations:
        now += seconds
        members, one = told.members, told.all[at % count]
        match name:
            case "take":
                one = members.next(now)
                members.took(one, now)
                one.open += 1
            case "end":
                one.open = max(0, one.open - 1)
            case "refused":
                members.unreachable(one, now, "connection refused")
            case "connected":
                members.connected(one)
            case "failed":
                members.failed(one, now, "was lost")
            case "answered":
                members.judge(one, now, 200)
            case "check":
                members.checked(one, "status 503")
            case _:
                members.checked(one, None)
        best = members.next(now)
        used = [other for other in told.all if not other.is_left_out(now)]
        assert not used or best in used
        assert not used or best.load == min(other.load for other in used)
        order = members.order(now)
        assert sorted(map(id, (*order[0], *order[1]))) == sorted(map(id, told.all))
        assert order[0][0] is best
    for one in told.all:
        reasons = [why is None for address, why in told.told if address == one.address]
        assert reasons == [bool(at % 2) for at in range(len(reasons))]
        assert min(one.snapshot(now).busy, one.failures, one.times) >= 0
