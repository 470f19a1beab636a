"""Histories with names: those that went wrong once. The suite plays them again."""

from __future__ import annotations

from typing import Final

from tests.oracle.replicas_history import NEWEST, OLDEST, REPLICAS, History, Step

LEVEL: Final = (0.0, 0.0, 0.0)
APART: Final = (0.0, -20.0, 20.0)


def _of(
    *steps: Step, kinds: tuple[str, ...] = ("authjs", "own"), clocks: tuple[float, ...] = LEVEL
) -> History:
    return History(0, kinds, clocks, steps)


def ask(user: int, replica: int, cookie: int = NEWEST, pause: float = 0.0) -> Step:
    """A request whose answer is waited for by its client."""
    return [pause, "ask", user, replica, cookie, "GET", 0]


def leave(user: int, replica: int, after: float) -> Step:
    """One whose client leaves."""
    return [0.0, "ask", user, replica, NEWEST, "GET", after]


def everybody(*replicas: int, cookie: int = NEWEST, pause: float = 0.1) -> list[Step]:
    """Both users, at each of these replicas."""
    return [
        ask(user, replica, cookie, 0 if user else pause)
        for replica in replicas or REPLICAS
        for user in (0, 1)
    ]


REJECT: Final[list[Step]] = [[0.0, "reject", 0], [0.0, "reject", 1]]


def provider(mode: str, delay: float = 0.0, pause: float = 0.0) -> Step:
    """What the token endpoint does from now on."""
    return [pause, "provider", mode, delay]


def link(replica: int, mode: str, pause: float = 0.0) -> Step:
    """Breaks or heals a replica's way to Redis."""
    return [pause, "link", replica, mode, 0]


def _renewed_at_two() -> list[Step]:
    """Both sessions are renewed at replica 2; no other has seen their new cookies."""
    steps: list[Step] = [[0.5, "reject", 0], [0.0, "reject", 1]]
    return [*steps, *everybody(2, pause=0.0), [0.5, "nothing"]]


KNOWN: Final = {
    # The lock was let go before the successor was written.
    "cut off from Redis while it renews": _of(
        *everybody(),
        *REJECT,
        provider("ok", 1.0),
        *everybody(0, cookie=OLDEST, pause=0.0),
        link(0, "cut", pause=0.5),
        *everybody(1, cookie=OLDEST, pause=0.0),
        provider("ok", pause=2.7),
        link(0, "ok"),
        *everybody(1, cookie=OLDEST, pause=0.45),
    ),
    "all cut off while one renews": _of(
        *everybody(),
        *REJECT,
        provider("ok", 1.0),
        *everybody(0, cookie=OLDEST, pause=0.0),
        *(link(replica, "cut", pause=0.0 if replica else 0.5) for replica in REPLICAS),
        provider("ok", pause=2.7),
        *(link(replica, "ok") for replica in REPLICAS),
        *everybody(1, cookie=OLDEST, pause=0.45),
    ),
    # Redis came back with data of before, and nobody noticed.
    "Redis forgets a renewal": _of(
        *everybody(),
        [0.0, "snapshot", "file"],
        [0.6, "nothing"],
        *REJECT,
        *everybody(0, pause=0.0),
        [1.0, "redis", "older"],
        *everybody(1, cookie=OLDEST, pause=2.5),
    ),
    "Redis forgets a logout": _of(
        *everybody(),
        [0.0, "snapshot", "file"],
        [0.6, "logout", 0, 0, NEWEST],
        [0.0, "logout", 1, 0, NEWEST],
        [1.5, "redis", "older"],
        [2.6, "kill", 1],
        [0.0, "start", 1],
        [2.0, "nothing"],
        *everybody(1, cookie=OLDEST, pause=2.0),
    ),
    "a follower that lacks a renewal takes over": _of(
        *everybody(),
        [0.0, "snapshot", "follower"],
        [0.6, "nothing"],
        *REJECT,
        *everybody(0, pause=0.0),
        [1.0, "redis", "older"],
        *everybody(1, cookie=OLDEST, pause=2.5),
    ),
    # Who waited for the lock found it free in the older data.
    "Redis goes back while one renews and others wait": _of(
        *everybody(),
        [0.3, "snapshot", "file"],
        [0.7, "nothing"],
        *REJECT,
        provider("ok", 2.5),
        *everybody(1, 1, 1, 0, 2, cookie=NEWEST, pause=0.05),
        [0.6, "redis", "older"],
        provider("ok", pause=3.0),
    ),
    # The name of before the renewal could not be asked for.
    "a renewed session is logged out while Redis is down": _of(
        *everybody(),
        *_renewed_at_two(),
        [0.0, "redis", "stop"],
        [0.3, "logout", 0, 1, NEWEST],
        [0.0, "logout", 1, 2, NEWEST],
        [1.0, "redis", "kept"],
        *everybody(0, cookie=OLDEST, pause=3.2),
        kinds=("raw", "raw"),
    ),
    "a renewed session is logged out at one that is cut off": _of(
        *everybody(),
        *_renewed_at_two(),
        link(0, "cut"),
        [0.3, "logout", 0, 0, NEWEST],
        [0.0, "logout", 1, 0, NEWEST],
        link(0, "ok", pause=1.0),
        *everybody(1, cookie=OLDEST, pause=3.2),
        kinds=("raw", "raw"),
    ),
    # What leads on was forgotten here once its successor was presented.
    "Redis is empty, and the cookie before the last is presented": _of(
        *everybody(),
        *REJECT,
        *everybody(0, pause=0.0),
        *everybody(0, 1, pause=0.4),
        [0.5, "redis", "empty"],
        *everybody(0, 1, cookie=OLDEST, pause=3.0),
        kinds=("authjs", "authjs"),
    ),
    "leaves while it renews for a client that has left": _of(
        *everybody(),
        *REJECT,
        provider("ok", 3.0),
        leave(0, 0, 0.2),
        leave(1, 0, 0.2),
        [0.5, "drain", 0],
        [4.0, "start", 0],
        provider("ok"),
        *everybody(1, cookie=OLDEST),
    ),
    "leaves while the provider takes its time": _of(
        *everybody(),
        *REJECT,
        provider("ok", 4.5),
        *everybody(0, pause=0.0),
        [0.5, "drain", 0],
        [5.0, "start", 0],
        provider("ok"),
        *everybody(1, cookie=OLDEST),
    ),
    # The newer token is rejected too, and has a refresh token of its own.
    "rejected again": _of(
        *everybody(),
        *REJECT,
        *everybody(0, pause=0.0),
        [0.5, "nothing"],
        *REJECT,
        *everybody(1, cookie=OLDEST, pause=0.0),
    ),
    "clocks apart": _of(
        *everybody(),
        *(step for one in (2, 1, 2, 0) for step in (*REJECT, *everybody(one, pause=0.5))),
        kinds=("own", "own"),
        clocks=APART,
    ),
    "more messages than are kept, while one is away": _of(
        *everybody(),
        link(1, "cut", pause=0.3),
        [0.3, "logout", 0, 0, NEWEST],
        [0.0, "logout", 1, 0, NEWEST],
        [0.5, "messages"],
        link(1, "ok", pause=0.5),
        *everybody(1, cookie=OLDEST, pause=3.0),
    ),
    "killed while it renews": _of(
        *everybody(),
        *REJECT,
        provider("ok", 1.5),
        *everybody(0, pause=0.0),
        [0.5, "kill", 0],
        provider("ok"),
        *everybody(1, pause=1.0),
        [0.0, "start", 0],
    ),
    # A token that expired while it was renewed was 503 after 2 s.
    "expires while it is renewed": _of(
        *everybody(),
        provider("ok", 4.0, pause=1.4),
        *everybody(0, pause=0.3),
        provider("ok", pause=4.5),
    ),
}
