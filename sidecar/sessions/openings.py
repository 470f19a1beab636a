"""Which sources' sessions open here, and what to make of those that do not.

A wrong secret looks like a broken cookie. As long as no session of a source has opened, it is more
likely the secret, so no user is logged out for it. Later it is more likely the cookie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sidecar.core.cookies import NameMatcher
from sidecar.core.credential import Reading, Result
from sidecar.core.view import SessionView
from sidecar.metrics import SessionCounts

PACE: Final = 60.0  # seconds between two warnings about a source

_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "iron-session": "its `password`",
        "jwt": "its `secret`, `key` or `jwks`",
        "oidc": "`secret`, which must be the same as before and on every replica,",
    }
)
_KEY: Final = "its `secret`"


class Openings:
    """Belongs to one process; each finds out for itself. Bounded by the configured sources.

    `report` is given an event and a detail, at most once in `PACE` seconds for each source.
    """

    __slots__ = (
        "_counts",
        "_failed",
        "_matchers",
        "_names",
        "_opened",
        "_report",
        "_told",
        "_types",
    )

    def __init__(
        self,
        names: Sequence[str],
        types: Sequence[str],
        matchers: Sequence[NameMatcher],
        report: Callable[[str, str], None],
        counts: SessionCounts | None = None,
        *,
        failed: Callable[[str, Reading, float], None] = lambda *_: None,
    ) -> None:
        """`counts` may have counted before.

        `failed` is told the source, the reading and the time of cookies that hold no session.
        """
        counts = counts or SessionCounts()
        self._names: Final = names
        self._types: Final = types
        self._matchers: Final = matchers
        self._report: Final = report
        self._failed: Final = failed
        self._opened: Final[set[int]] = set()
        self._told: Final = {  # when last, and of how many
            source: (-PACE, counts.unreadable[name]) for source, name in enumerate(names)
        }
        self._counts: Final = counts

    @property
    def counts(self) -> Counter[str]:
        """How many cookies of each source did not open."""
        return self._counts.unreadable

    def note(self, view: SessionView, now: float) -> None:
        """Learns from the cookies of a request that were read for the first time."""
        self._opened.update(view.readable)
        for source, result in view.results:
            self._counts.opened[self._names[source], result] += 1
            reading = view.reading
            if reading.result is result is not Result.OK and reading.source == self._types[source]:
                self._failed(self._names[source], reading, now)
        for source in view.unreadable:
            name = self._names[source]
            self.counts[name] += 1
            at, count = self._told[source]
            if now >= at + PACE:
                self._told[source] = (now, self.counts[name])
                self._warn(source, self.counts[name] - count)

    def spared(self, view: SessionView) -> tuple[NameMatcher, ...]:
        """The cookies that must not be expired unless the user asks for it."""
        return tuple(
            self._matchers[source] for source in view.unreadable if source not in self._opened
        )

    def _warn(self, source: int, count: int) -> None:
        name, type_ = self._names[source], self._types[source]
        if source in self._opened:
            detail = f"source {name}: {count} could not be read since the last such line"
            self._report("sessions do not open", detail)
            return
        key = _KEYS.get(type_, _KEY)
        self._report(
            "no session opens",
            f"source {name}: not one has opened since the start, so its cookies are left alone; "
            f"compare {key} with the one that seals them, and see `sidecar explain`",
        )
