"""What does not open is counted, and told once a minute: as a wrong secret, or as old cookies."""

from __future__ import annotations

from sidecar.core.cookies import NameMatcher
from sidecar.core.record import replace
from sidecar.core.view import NOTHING_PRESENTED, SessionView
from sidecar.sessions.openings import Openings

UNREADABLE = replace(NOTHING_PRESENTED, unreadable=frozenset((1,)))
READABLE = replace(NOTHING_PRESENTED, readable=frozenset((1,)))


class Told:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        matchers = NameMatcher(("a",)), NameMatcher(("b",))
        self.openings = Openings(("own", "app"), ("oidc", "authjs"), matchers, self.report)

    def report(self, event: str, detail: str) -> None:
        self.lines.append((event, detail))

    def note(self, view: SessionView, *times: float) -> list[str]:
        """The events that are reported then."""
        self.lines.clear()
        for now in times:
            self.openings.note(view, now)
        return [event for event, _ in self.lines]


def test_a_source_of_which_nothing_ever_opened_is_spared_and_told_of() -> None:
    told = Told()
    assert told.note(UNREADABLE, 100.0, 101.0, 159.9, 160.0) == ["no session opens"] * 2
    assert "source app" in told.lines[0][1]
    assert "`secret`" in told.lines[0][1]
    (spared,) = told.openings.spared(UNREADABLE)
    assert spared.matches("__Secure-b.1")
    assert told.openings.counts == {"app": 4}


def test_once_one_has_opened_it_is_the_cookies_fault() -> None:
    told = Told()
    assert told.note(READABLE, 100.0) == []
    assert told.note(UNREADABLE, 101.0, 102.0, 103.0) == ["sessions do not open"]
    assert told.note(UNREADABLE, 161.0) == ["sessions do not open"]
    assert "source app: 3 could not be read" in told.lines[0][1]
    assert told.openings.spared(UNREADABLE) == ()


def test_each_source_is_its_own() -> None:
    told = Told()
    own = replace(NOTHING_PRESENTED, readable=frozenset((0,)), unreadable=frozenset((1,)))
    assert told.note(own, 100.0) == ["no session opens"]
    assert len(told.openings.spared(own)) == 1
    assert told.note(replace(own, readable=frozenset(), unreadable=frozenset((0,))), 100.0) == [
        "sessions do not open"
    ]
