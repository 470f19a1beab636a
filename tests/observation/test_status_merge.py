"""Several workers' documents as one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidecar.core.record import replace
from sidecar.observation.status_merge import merged, one_story
from sidecar.observation.status_model import STEP, STEPS, Status, Story, WorkerRow

EXAMPLE = Path(__file__).parents[1] / "data" / "status.json"


@pytest.fixture(scope="module")
def one() -> Status:
    return msgspec.json.decode(EXAMPLE.read_bytes(), type=Status)


def later(status: Status, steps: int) -> Status:
    """The same document, told some steps later."""
    traffic = replace(
        status.traffic,
        until=status.traffic.until + steps * STEP,
        until_second=status.traffic.until_second + steps * STEP,
    )
    return replace(status, traffic=traffic, now=status.now + steps * STEP)


def test_one_document_stays_what_it_is(one: Status) -> None:
    assert merged([one]) == replace(one, verdict=merged([one]).verdict)


def test_counts_are_summed_and_quantiles_worked_out_anew(one: Status) -> None:
    both = merged([one, one])
    assert sum(both.traffic.latency.counts) == 2 * sum(one.traffic.latency.counts)
    assert both.traffic.latency.p95 == one.traffic.latency.p95
    assert both.traffic.requests_by_second == tuple(2 * n for n in one.traffic.requests_by_second)
    assert [row.total for row in both.traffic.routes] == [
        2 * row.total for row in one.traffic.routes
    ]
    assert both.ended.totals == {name: 2 * n for name, n in one.ended.totals.items()}
    assert both.upstreams[0].requests_failed == 2 * one.upstreams[0].requests_failed
    assert len(both.process.workers) == 2 * len(one.process.workers)


def test_documents_of_different_times_are_put_side_by_side(one: Status) -> None:
    """What one worker counted in a second is added to what the other did in the same one."""
    other = later(one, 2)
    both = merged([one, other])
    row, before = both.traffic.routes[0], one.traffic.routes[0]
    assert both.traffic.until == other.traffic.until
    assert row.requests[-1] == before.requests[-1]
    assert row.requests[-3] == before.requests[-1] + before.requests[-3]
    assert len(row.requests) == STEPS
    seconds = one.traffic.requests_by_second
    assert both.traffic.requests_by_second[-1] == seconds[-1]
    assert both.traffic.requests_by_second[-31] == seconds[-1] + seconds[-31]


def test_upstream_fails_if_it_does_for_all_that_ask_it(one: Status) -> None:
    fine = replace(one.upstreams[0], failing_since=None, requests_failed=0, errors={})
    other = replace(one, upstreams=(fine, *one.upstreams[1:]))
    assert merged([one, one]).upstreams[0].failing_since is not None
    assert merged([one, other]).upstreams[0].failing_since is None


def test_worker_that_is_silent_is_a_symptom(one: Status) -> None:
    silent = WorkerRow(3, 0, 0.0, answers=False, is_ready=False)
    both = merged([one], [silent], replaced=1)
    assert both.process.workers[-1] == silent
    assert both.process.workers_replaced == 1
    assert any("worker 3 does not answer" in each.text for each in both.verdict.symptoms)
    with pytest.raises(ValueError, match="no worker"):
        merged([], [silent])


def test_lists_keep_the_last_and_stay_in_order(one: Status) -> None:
    many = replace(one, trouble=tuple(replace(one.trouble[0], at=float(at)) for at in range(80)))
    times = [row.at for row in merged([many, many]).trouble]
    assert len(times) == 100
    assert times == sorted(times)
    assert times[-1] == 79.0


def test_stories_of_workers_are_one(one: Status) -> None:
    """A user's requests are served by whichever worker is free."""
    first, second = one.ended.last[0], one.ended.last[-1]
    nothing = Story(None, (), (), ())
    parts = (Story("s", (event,), (), ()) for event in (second, first))
    told = one_story([nothing, *parts])
    assert told.session == "s"
    assert told.events == tuple(sorted((first, second), key=lambda event: event.at))
