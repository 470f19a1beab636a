"""A brake on storms of 401: an upstream that suddenly rejects most sessions ends no more of them.

A session that one upstream rejects has ended. Of many at once it is more likely the upstream that
has changed: a deployment that expects another audience, a key rollover that went wrong.

               `sessions` rejected within `window`, and a `share` of all that were judged
    RELEASED ────────────────────────────────────────────────────────────────────────────► ENGAGED
       ▲                                                                                   │   │ ▲
       └── less than `share` are rejected any more, or none within `window` ───────────────┘   │ │
                                                                       one session ends ◄──────┘ │
                                                                       now and then ─────────────┘

While it is engaged one session ends now and then, a `gap` apart. If its user logs in again and the
new session is accepted, the sessions were at fault after all, and the next ones end soon.
Otherwise the gap doubles. So it costs a few sessions an hour to be wrong about either.

What counts is users, not requests: a session that is rejected again and again counts once, and so
do all sessions that name the same user.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final, NamedTuple

import msgspec

KEPT: Final = 2048  # users of each kind that are counted; the one judged longest ago goes first
FIRST_GAP: Final = 1.0  # seconds until the first session ends while the brake is engaged
LONGEST_GAP: Final = 300.0
WATCHED: Final = 32  # routes, and kinds of sessions on them, that are watched at a time


class BrakeRule(msgspec.Struct, frozen=True):
    """When it engages: `sessions` rejected within `window` seconds, and that `share` of all."""

    sessions: int
    share: float
    window: float


class _Rejection(NamedTuple):
    at: float
    session: str
    renewed_at: float  # when a renewed token of this user was rejected as well


class Brake:
    """The brake of one route. Times are seconds of one clock; `user` and `session` are names.

    Memory is bounded by `KEPT` users each, accepted and rejected. If there are more, both count
    over the time for which all are known, so that a share is one of the same time.
    """

    def __init__(self, rule: BrakeRule) -> None:
        self._rule: Final = rule
        self._rejected: Final[OrderedDict[str, _Rejection]] = OrderedDict()
        self._accepted: Final[OrderedDict[str, float]] = OrderedDict()
        self._fresh: Final[set[str]] = set()  # accepted for the first time since the last end
        self._gap = FIRST_GAP
        self._next_end = inf
        self._known_since = -inf
        self.is_engaged = False

    @property
    def rejected(self) -> int:
        """How many users were rejected lately."""
        return len(self._rejected)

    @property
    def judged(self) -> int:
        """How many users were accepted or rejected lately."""
        return len(self._rejected) + len(self._accepted)

    def accept(self, user: str, session: str, now: float) -> None:
        """Notes that the upstream has accepted a session.

        That says nothing of one that it has rejected lately: it may look at no token on some path.
        """
        self._forget(now)
        rejection = self._rejected.get(user)
        if rejection is None or rejection.session != session:
            self._rejected.pop(user, None)
            if user not in self._accepted and len(self._fresh) < KEPT:
                self._fresh.add(user)
            self._accepted[user] = now
            self._accepted.move_to_end(user)
            if len(self._accepted) > KEPT:
                self._known_since = self._accepted.popitem(last=False)[1]
        self._judge(now)

    def reject(self, user: str, session: str, now: float, *, is_renewed: bool = False) -> bool:
        """Notes that the upstream has rejected a session. Returns whether it is spared.

        `is_renewed`: it was rejected with a token that had just been renewed.
        """
        self._forget(now)
        before = self._rejected.pop(user, None)
        renewed_at = -inf if before is None else before.renewed_at
        self._accepted.pop(user, None)
        self._fresh.discard(user)
        self._rejected[user] = _Rejection(now, session, now if is_renewed else renewed_at)
        if len(self._rejected) > KEPT:
            self._known_since = self._rejected.popitem(last=False)[1].at
        self._judge(now)
        if not self.is_engaged:
            return False
        if now < self._next_end:
            return True
        self._gap = FIRST_GAP if self._fresh else min(2 * self._gap, LONGEST_GAP)
        self._next_end = now + self._gap
        self._fresh.clear()
        return False

    def was_renewed(self, user: str, now: float) -> bool:
        """Whether a renewal did not help this user lately, so that another one will not either."""
        rejection = self._rejected.get(user)
        if not self.is_engaged or rejection is None:
            return False
        return now - rejection.renewed_at < self._rule.window

    def look(self, now: float) -> None:
        """Releases the brake if it is time."""
        self._forget(now)
        self._judge(now)

    def _forget(self, now: float) -> None:
        """Forgets what is older than the window, or than all that is known."""
        while self._rejected and self._is_over(next(iter(self._rejected.values())).at, now):
            self._rejected.popitem(last=False)
        while self._accepted and self._is_over(next(iter(self._accepted.values())), now):
            self._accepted.popitem(last=False)

    def _is_over(self, at: float, now: float) -> bool:
        return at <= now - self._rule.window or at < self._known_since

    def _judge(self, now: float) -> None:
        is_most = self.rejected >= self._rule.share * self.judged
        if self.is_engaged:
            self.is_engaged = is_most and self.rejected > 0
        elif is_most and self.rejected >= self._rule.sessions:
            self.is_engaged = True
            self._gap, self._next_end = FIRST_GAP, now + FIRST_GAP
            self._fresh.clear()


class Brakes:
    """The brakes of all routes, each for two kinds of sessions; without a rule there are none.

    Sealed sessions nobody can make up. Plain ones that an upstream has accepted may be anybody's if
    it accepts everybody on some path. So what happens to plain sessions spares no sealed one.

    `watched` are those that were told of a rejection. It is empty while all is well, so that
    nothing need be counted then.
    """

    def __init__(self, rule: BrakeRule | None) -> None:
        self.rule: Final = rule
        self.watched: Final[dict[tuple[str, bool], Brake]] = {}

    def watch(self, route: str, *, is_sealed: bool) -> Brake | None:
        """Returns the brake of a route, which is watched from now on. None if there is no rule."""
        if self.rule is None:
            return None
        brake = self.watched.get((route, is_sealed))
        if brake is None:
            if len(self.watched) >= WATCHED:
                released = (key for key, one in self.watched.items() if not one.is_engaged)
                del self.watched[next(released, next(iter(self.watched)))]
            brake = self.watched[route, is_sealed] = Brake(self.rule)
        return brake

    def is_engaged(self, route: str, *, is_sealed: bool | None = None) -> bool:
        """Whether the brake of a route is engaged, for one kind of sessions or for any."""
        kinds = (True, False) if is_sealed is None else (is_sealed,)
        found = (self.watched.get((route, kind)) for kind in kinds)
        return any(brake is not None and brake.is_engaged for brake in found)

    def look(self, route: str, now: float, *, is_sealed: bool) -> None:
        """Releases a brake if it is time, and no longer watches it if nothing was rejected."""
        brake = self.watched.get((route, is_sealed))
        if brake is not None:
            brake.look(now)
            if not brake.rejected:
                del self.watched[route, is_sealed]
