"""The servers of one upstream: which one is next, and which ones are left out for a while.

               a connect fails; or `ejection.failures` exchanges in a row fail
       IN USE ───────────────────────────────────────────────────────────────► LEFT OUT
         ▲ ▲                                                                    │ ▲
         │ │                                                      its time is up│ │ it fails: for
         │ └─────────── a connect, or an exchange, succeeds ── ON TRIAL ◄───────┘ │ longer
         │                                                        └───────────────┘
         └─ the active check passes ◄── LEFT OUT as long as it fails

A request goes to the server with the least load, those with the same load in turn. A server that
is left out comes after all others, so it still serves if nobody else does. Responses leave out half
of the servers at most, since a request that makes every server fail must not empty the upstream.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from random import uniform
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from sidecar.policy import UpstreamAddress, UpstreamServer

SHORTEST: Final = 1.0  # seconds that a server is left out after the first connect that failed
LONGEST: Final = 10.0  # seconds after many: to try again costs little
MOST_TIMES: Final = 10  # that `ejection.time` is multiplied by at most
LOCAL: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
"""What fails for want of something here says nothing about a server."""

Report: TypeAlias = "Callable[[str | None, str | None], None]"
"""Hears of a server by its address, or of all of them (None): why it is left out, or why none takes
a connection; None: it is used again."""


class ServerSnapshot(NamedTuple):
    """How one server does at one moment. Times are Unix seconds.

    `addresses` are those that its name was last resolved to, at `resolved_at`. `out_until` is when
    it is tried again if it is left out, else None; that may be in the past while its check fails.
    `error` is the last one in words; `failures` counts those in a row; `ejections` how often it was
    left out; `check` is the last result of its active check in words: `ok`, or why not.
    """

    address: str
    addresses: tuple[str, ...]
    resolved_at: float | None
    idle: int
    busy: int
    out_until: float | None
    error: str | None
    error_at: float | None
    failures: int
    ejections: int
    check: str | None


class Member:
    """One server: its connections, and how it has done lately. Times are the loop's, or Unix's."""

    __slots__ = (
        "address",
        "addresses",
        "check",
        "dialing",
        "ejections",
        "error",
        "error_at",
        "failures",
        "idle",
        "is_down",
        "is_out",
        "open",
        "passes",
        "resolved_at",
        "server",
        "times",
        "until",
    )

    def __init__(self, server: UpstreamServer) -> None:
        self.server: Final = server
        self.address: Final = str(server)  # as people know it
        self.idle: list[Any] = []  # of `UpstreamConnection`, whose module imports this one
        self.open = 0  # connections, idle ones too
        self.dialing = 0  # connections that are being made
        self.failures = 0  # in a row
        self.times = 0  # how often in a row it was left out
        self.until = 0.0  # when it is tried again
        self.is_out = False  # left out, and not proven since
        self.is_down = False  # the last connect failed: one attempt at a time tries it again
        self.passes = True  # what the active check says
        self.check: str | None = None
        self.ejections = 0
        self.error: str | None = None
        self.error_at: float | None = None
        self.addresses: tuple[str, ...] = ()
        self.resolved_at: float | None = None

    @property
    def load(self) -> int:
        """Requests under way, and connections that are being made for others."""
        return self.open - len(self.idle) + self.dialing

    def is_left_out(self, now: float) -> bool:
        """Whether others come first."""
        if not self.is_out:
            return not self.passes
        return not self.passes or now < self.until or (self.is_down and self.dialing > 0)

    def note(self, error: str) -> None:
        """Remembers what went wrong."""
        self.error, self.error_at = error, time()

    def resolved(self, addresses: Iterable[str]) -> None:
        """Remembers what its name stands for now."""
        self.addresses, self.resolved_at = tuple(addresses), time()

    def snapshot(self, now: float) -> ServerSnapshot:
        """How it does at `now`, a time of the loop."""
        return ServerSnapshot(
            address=self.address,
            addresses=self.addresses,
            resolved_at=self.resolved_at,
            idle=len(self.idle),
            busy=self.open - len(self.idle),
            out_until=time() + self.until - now if self.is_left_out(now) else None,
            error=self.error,
            error_at=self.error_at,
            failures=self.failures,
            ejections=self.ejections,
            check=self.check,
        )


class Members:
    """Chooses among the servers of one upstream. Times are those of the event loop."""

    __slots__ = ("_address", "_report", "_turn", "all")

    def __init__(self, address: UpstreamAddress, report: Report) -> None:
        self.all: Final = tuple(map(Member, address.servers))
        self._address: Final = address
        self._report: Final = report
        self._turn = 0

    def next(self, now: float) -> Member:
        """The server that the next request should go to."""
        turn, best, load = self._turn, None, 0
        for one in self.all[turn:] + self.all[:turn]:
            if not one.is_left_out(now) and (best is None or one.load < load):
                best, load = one, one.load
        return self.order(now)[0][0] if best is None else best

    def order(self, now: float, last: Member | None = None) -> tuple[list[Member], list[Member]]:
        """The servers that are in use, best first, and those that are left out.

        If all are left out, all are in use. `last` has just failed a request: it comes behind the
        others in use.
        """
        turn = self._turn
        in_turn = self.all[turn:] + self.all[:turn]
        used = [one for one in in_turn if not one.is_left_out(now)]
        used.sort(key=lambda one: (one is last, one.load))
        if len(used) == len(in_turn):
            return used, []
        left = sorted(
            (one for one in in_turn if one not in used), key=lambda one: (not one.passes, one.until)
        )
        return (used, left) if used else (left, [])

    def take(self, now: float, *, from_any: bool) -> Any:
        """An idle connection to the best server, or if need be to any; None if there is none."""
        connection = _fit(self.next(now).idle, now)
        if connection is None and from_any:
            used, left_out = self.order(now)
            found = (_fit(one.idle, now) for one in (*used, *left_out))
            connection = next((one for one in found if one is not None), None)
        if connection is not None:
            self.took(connection.member, now)
        return connection

    def drop_an_idle_one(self) -> None:
        """Closes the oldest idle connection of some server: its place comes free."""
        for one in self.all:
            if one.idle:
                one.idle.pop(0).abort()
                return

    def took(self, member: Member, now: float) -> None:
        """Passes the turn on: a connection to `member` is used.

        If it is on trial, that request is the only one for a moment: it may hang.
        """
        self._turn = (self.all.index(member) + 1) % len(self.all)
        if member.is_out:
            member.until = max(member.until, now + SHORTEST)

    def connected(self, member: Member) -> None:
        """A server has taken a connection, which says little about its responses."""
        if member.is_down:
            self._back(member)

    def unreachable(self, member: Member, now: float, why: str) -> None:
        """A server has taken no connection: it is left out at once, for a moment at first."""
        member.note(why)
        member.failures += 1
        member.is_down = True
        if len(self.all) == 1:
            return
        times = min(member.times, MOST_TIMES)
        self._leave_out(member, now, min(SHORTEST * 2**times, LONGEST), why)

    def failed(self, member: Member, now: float, why: str) -> None:
        """A server has taken a request, and given no response that is worth the name."""
        member.note(why)
        member.failures += 1
        rule = self._address.ejection
        if rule is None or member.failures < rule.failures:
            return
        others = sum(one.is_out for one in self.all if one is not member)
        if others + 1 <= len(self.all) // 2:
            times = min(member.times + 1, MOST_TIMES)
            self._leave_out(member, now, rule.time * times, f"{member.failures} in a row: {why}")

    def judge(self, member: Member, now: float, status: int) -> None:
        """A server has responded: that is good, unless the status counts as no response."""
        rule = self._address.ejection
        if rule is not None and status in rule.statuses:
            self.failed(member, now, f"status {status}")
        elif member.failures:
            self._back(member)

    def checked(self, member: Member, trouble: str | None) -> None:
        """An active check has passed, or not: `trouble` says why."""
        member.check = trouble or "ok"
        before, member.passes = member.passes, trouble is None
        if trouble is not None:
            member.note(f"check: {trouble}")
        if trouble is None and member.is_down:
            member.until = 0.0  # it may be back
        if before != member.passes and not member.is_out:
            self._tell(member, None if trouble is None else f"check: {trouble}")

    def _leave_out(self, member: Member, now: float, seconds: float, why: str) -> None:
        was_out, member.is_out = member.is_out, True
        member.times += 1
        member.until = now + seconds * uniform(0.9, 1.1)  # noqa: S311 - many must not try at once
        if not was_out and member.passes:
            self._tell(member, why)

    def _back(self, member: Member) -> None:
        was_out, member.is_out, member.is_down = member.is_out, False, False
        member.failures = member.times = 0
        if was_out and member.passes:
            self._tell(member, None)

    def _tell(self, member: Member, why: str | None) -> None:
        member.ejections += why is not None
        self._report(member.address, why)


def _fit(idle: list[Any], now: float) -> Any:
    """The connection used last that is fit for use, else None; unfit ones end."""
    while idle:
        connection = idle.pop()
        if connection.is_open and now < connection.idle_until:
            return connection
        connection.abort()
    return None
