"""What is remembered of sessions, failures and warnings is bounded, and in order."""

from __future__ import annotations

from sidecar.core.record import replace
from sidecar.observation.failure_log import COOKIES, REFUSED, TROUBLE, FailureLog
from sidecar.observation.session_log import (
    LONGEST_TEXT,
    PROVEN,
    UNPROVEN,
    SessionLog,
)
from sidecar.observation.status_model import RefusedRow, SessionEvent, TroubleRow
from sidecar.observation.warning_log import EVENTS, WarningLog

EVENT = SessionEvent(1.0, "ended", "fingerprint", reason="logout", path="/api/logout")
TROUBLED = TroubleRow(
    at=1.0,
    request_id="id",
    status=502,
    upstream_status=None,
    code="upstream_unreachable",
    cause="connection refused",
    route="/api",
    upstream="api",
    method="GET",
    path="/api/a",
    milliseconds=1.0,
)
REFUSAL = RefusedRow(1.0, "id", 403, "csrf_rejected", "/api", "POST", "/api/a", "cross-site")


def test_invented_sessions_displace_no_others() -> None:
    """T84: whoever logs out with cookies of his own fills a space of its own."""
    log = SessionLog()
    log.add(EVENT, is_proven=True)
    for at in range(UNPROVEN + PROVEN):
        log.add(replace(EVENT, at=2.0 + at, session=f"invented {at}"), is_proven=False)
    assert EVENT in log.events()
    assert len(log.events()) == UNPROVEN + 1


def test_events_are_told_in_order_of_time() -> None:
    log = SessionLog()
    for at, proven in ((1.0, True), (2.0, False), (3.0, True), (4.0, False)):
        log.add(replace(EVENT, at=at), is_proven=proven)
    assert [one.at for one in log.events()] == [1.0, 2.0, 3.0, 4.0]


def test_only_ended_sessions_are_listed_as_such() -> None:
    log = SessionLog()
    log.add(replace(EVENT, kind="login"), is_proven=True)
    log.add(EVENT, is_proven=True)
    assert log.ended() == (EVENT,)


def test_texts_are_cut() -> None:
    log, failures = SessionLog(), FailureLog()
    log.add(replace(EVENT, path="/" + "a" * 5000, detail="d" * 5000), is_proven=True)
    event = log.events()[0]
    assert len(event.path or "") == len(event.detail) == LONGEST_TEXT
    failures.trouble(replace(TROUBLED, path="/" + "a" * 5000, cause="c" * 5000))
    assert len(failures.last_trouble[0].path or "") == LONGEST_TEXT
    many = tuple((f"cookie {n}" * 100, n) for n in range(500))
    failures.refused(replace(REFUSAL, origin="o" * 5000, cookies=many))
    row = failures.last_refused[0]
    assert len(row.origin or "") == LONGEST_TEXT
    assert len(row.cookies) == COOKIES
    assert max(len(name) for name, _ in row.cookies) == LONGEST_TEXT


def test_failures_make_room_for_newer_ones() -> None:
    log = FailureLog()
    for at in range(TROUBLE + 5):
        log.trouble(replace(TROUBLED, at=float(at)))
    assert [log.last_trouble[at].at for at in (0, -1)] == [5.0, TROUBLE + 4.0]


def test_each_status_has_room_of_its_own() -> None:
    """A flood of one kind of refusal leaves the others to be seen."""
    log = FailureLog()
    log.refused(REFUSAL)
    for at in range(REFUSED * 3):
        log.refused(replace(REFUSAL, at=2.0 + at, status=431, code="headers_too_large"))
    assert log.last_refused[0] == REFUSAL
    assert len(log.last_refused) == REFUSED + 1


def test_failures_in_a_row_have_begun_with_the_first() -> None:
    """A success between them ends the row."""
    log = FailureLog()
    log.blame("api", "connection refused", "10.0.0.7:4000", 5, 1.0)
    log.blame("api", "connection reset by peer", "10.0.0.7:4000", 5, 2.0)
    assert (log.blames["api"].since, log.blames["api"].at) == (1.0, 2.0)
    log.blame("api", "connection refused", "10.0.0.7:4000", 6, 3.0)
    assert log.blames["api"].since == 3.0


def test_one_line_stands_for_all_of_its_event() -> None:
    log = WarningLog()
    for at in range(3):
        log.add("store", "warning", f"detail {at}", float(at))
    assert [(row.detail, row.count) for row in log.rows] == [("detail 2", 3)]
    for at in range(EVENTS):
        log.add(f"event {at}", "warning", "", 10.0 + at)
    assert len(log.rows) == EVENTS
    assert "store" not in {row.event for row in log.rows}
