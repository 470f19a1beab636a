"""One sentence out of facts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidecar.core.record import replace
from sidecar.observation.status_model import ReloadRow, Status
from sidecar.observation.verdict import clock, span, verdict_of

EXAMPLE = Path(__file__).parents[1] / "data" / "status.json"


@pytest.fixture(scope="module")
def well() -> Status:
    """The example with all that is wrong put right."""
    status = msgspec.json.decode(EXAMPLE.read_bytes(), type=Status)
    upstreams = tuple(
        replace(row, failing_since=None, requests_failed=0, addresses=())
        for row in status.upstreams
    )
    sources = tuple(replace(row, has_opened=True) for row in status.sessions.sources)
    routes = tuple(replace(row, statuses={"2xx": row.total}) for row in status.traffic.routes)
    return replace(
        status,
        upstreams=upstreams,
        sessions=replace(status.sessions, sources=sources),
        traffic=replace(status.traffic, routes=routes),
    )


def test_well_is_how_long_it_has_served(well: Status) -> None:
    verdict = verdict_of(well)
    assert (verdict.state, verdict.text) == ("well", "Serving since 3 d")
    assert verdict.since == well.process.started_at


def test_worst_stands_first(well: Status) -> None:
    store = replace(well.store, is_up=False, last_error="connection refused", last_error_at=5.0)
    reload = ReloadRow(well.now - 60, "refused", "limits.header: must be a size")
    process = replace(well.process, last_reload=reload, log_lines_lost=3)
    verdict = verdict_of(replace(well, store=store, process=process))
    assert verdict.state == "down"
    assert verdict.since == 5.0
    assert verdict.symptoms[0].text == "the store: connection refused"
    assert [one.state for one in verdict.symptoms] == ["down", "degraded", "degraded"]


def test_sentence_has_a_bound(well: Status) -> None:
    rows = tuple(
        replace(well.upstreams[0], name=f"u{at}", failing_since=well.now, requests_failed=1)
        for at in range(10)
    )
    verdict = verdict_of(replace(well, upstreams=rows))
    assert verdict.text.endswith("; and 7 more")
    assert len(verdict.symptoms) == 10


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"certificate_days_left": 3.0}, "its certificate ends in 3 days"),
        ({"certificate_days_left": -1.0}, "its certificate has ended"),
        ({"waiting": 2}, "2 requests wait for one of 256 connections"),
        ({"requests_failed": 1, "last_error": "reset"}, "1 request failed, the last: reset"),
    ],
)
def test_upstream_symptoms(well: Status, change: dict[str, object], text: str) -> None:
    upstream = replace(well.upstreams[0], **change)  # type: ignore[arg-type]
    assert text in verdict_of(replace(well, upstreams=(upstream,))).text


def test_spans_and_times_of_day_are_short() -> None:
    assert [span(one) for one in (0.5, 59, 61, 7200, 200_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "2 h",
        "2 d",
    ]
    noon = 1_764_417_600.0
    assert clock(noon, noon + 60) == "12:00 UTC"
    assert clock(noon, noon + 86_400) == "2025-11-29 12:00 UTC"


def test_writes_on_their_way_are_no_symptom(well: Status) -> None:
    """Those of a store that has just failed are: nobody else knows of these logouts."""
    store = replace(well.store, pending={"death": 2})
    assert verdict_of(replace(well, store=store)).state == "well"
    failed = replace(store, last_error="connection refused", last_error_at=well.now - 5)
    assert "the store has not taken 2 writes yet" in verdict_of(replace(well, store=failed)).text


def test_upstream_that_answers_with_errors_is_told_by_its_route(well: Status) -> None:
    """Not if the upstream itself is told of already, and not for a few among many."""
    route = well.traffic.routes[0]

    def told(errors: int, total: int, failed: int = 0) -> str:
        row = replace(route, statuses={"2xx": total - errors, "5xx": errors}, total=total)
        upstreams = tuple(replace(one, requests_failed=failed) for one in well.upstreams)
        traffic = replace(well.traffic, routes=(row,))
        return verdict_of(replace(well, traffic=traffic, upstreams=upstreams)).text

    assert "route /api: 120 of 361 requests answered with 5xx" in told(120, 361)
    assert "route" not in told(5, 1000)
    assert "route" not in told(2, 10)
    assert "route" not in told(120, 361, failed=120)


def test_brake_is_told_by_its_route(well: Status) -> None:
    """Nobody is logged out, so nobody complains: the page has to say it."""
    first, *others = well.traffic.routes
    braked = replace(first, decisions={"wrap": 5, "braked": 35})
    routes = (braked, *others)
    verdict = verdict_of(replace(well, traffic=replace(well.traffic, routes=routes)))
    assert verdict.state == "degraded"
    assert "route /api: the brake held, 35 401s" in verdict.text
    assert verdict.symptoms[0].panel == "ended"


def test_a_store_that_fills_or_evicts_is_told(well: Status) -> None:
    """Before writing fails, and before somebody is logged out for nothing."""
    full = replace(well, store=replace(well.store, fill=0.91))
    assert verdict_of(replace(well, store=replace(well.store, fill=0.9))).state == "well"
    assert (verdict_of(full).state, "91% full" in verdict_of(full).text) == ("degraded", True)
    evicts = replace(well, store=replace(well.store, may_evict=True))
    assert "may drop sessions" in verdict_of(evicts).text
