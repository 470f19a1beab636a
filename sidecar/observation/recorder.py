"""What one process remembers of the last minutes, for the admin page and the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.core.record import replace
from sidecar.observation import counters
from sidecar.observation.failure_log import FailureLog
from sidecar.observation.first_seen import FirstSeen
from sidecar.observation.session_log import SessionLog, bounded
from sidecar.observation.status_model import FailingExample, Story
from sidecar.observation.story import NOTHING, begun, story_of
from sidecar.observation.timeline import Timeline
from sidecar.observation.warning_log import WarningLog

if TYPE_CHECKING:
    from sidecar.access_log import Served
    from sidecar.core.credential import Reading
    from sidecar.metrics import Metrics

Follow = Callable[["Served", float], None]
"""Is told of a request that has ended, and of how many seconds it took."""

FOLLOWERS: Final = 16
"""Who may follow requests at a time."""


class Recorder:
    """Belongs to one process, and goes on over a reload. Bounded: see docs/security.md."""

    __slots__ = (
        "examples",
        "failures",
        "first_seen",
        "followers",
        "metrics",
        "sessions",
        "started_at",
        "timeline",
        "warnings",
    )

    def __init__(self, metrics: Metrics, now: float, warnings: WarningLog | None = None) -> None:
        """`warnings` are what the log remembers, if it does."""
        self.metrics: Final = metrics
        self.started_at: Final = now
        self.timeline: Final = Timeline(
            partial(counters.totals, metrics), partial(counters.read, metrics), now
        )
        self.sessions: Final = SessionLog()
        self.first_seen: Final = FirstSeen()
        self.failures: Final = FailureLog()
        self.warnings: Final = warnings or WarningLog()
        self.examples: Final[dict[str, FailingExample]] = {}
        """By source, the first Cookie header of which it made no session."""
        self.followers: tuple[Follow, ...] = ()

    def example(self, source: str, reading: Reading, now: float) -> None:
        """Remembers the first Cookie header of which a source made no session."""
        if source not in self.examples:
            self.examples[source] = FailingExample(
                at=now,
                result=reading.result.value,
                cookie=None if reading.cookie is None else bounded(reading.cookie),
                chunks=reading.chunks,
                header_bytes=reading.header_bytes,
                why=reading.why,
            )

    def follow(self, follow: Follow) -> bool:
        """Has `follow` called from now on. Returns False if there are too many already."""
        if len(self.followers) >= FOLLOWERS:
            return False
        self.followers = (*self.followers, follow)
        return True

    def unfollow(self, follow: Follow) -> None:
        """Takes back what `follow` did."""
        self.followers = tuple(one for one in self.followers if one is not follow)

    def tell(self, flow: Served, seconds: float) -> None:
        """Tells all who follow of a request that has ended."""
        for follow in self.followers:
            follow(flow, seconds)

    def story(self, asked: str) -> Story:
        """What is known of a session, by its fingerprint or by the id of one of its requests."""
        failures, first = self.failures, self.first_seen
        events, trouble = self.sessions.events(), failures.last_trouble
        named = story_of(asked, events, trouble, failures.last_refused)
        if named == NOTHING:
            session = first.session_of(asked) or (asked if first.event(asked) else None)
            named = replace(NOTHING, session=session)
        return begun(named, first.event(named.session))
