"""Histories of replicas: what users do, and what breaks meanwhile.

A step is a pause in seconds, a name, and arguments; what it begins goes on while the next ones are
taken. Users and cookies are chosen by numbers, among what there is at that moment, so that a
history without some of its steps is one as well.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

from tests.oracle.replicas_world import WORKERS

Step: TypeAlias = list[Any]

KINDS: Final = ("authjs", "raw", "own")
REPLICAS: Final = range(len(WORKERS))
EVERYBODY: Final = -1
NEWEST: Final = -1
OLDEST: Final = 0
BLOCKING: Final = ("cut", "hole", "up", "down", "void")
SCENES_OF_A_HISTORY: Final = 3


@dataclass(frozen=True)
class History:
    """Steps, the kinds of sessions of its users, and how far the replicas' clocks are ahead."""

    seed: int
    kinds: tuple[str, ...]
    clocks: tuple[float, ...]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> History:
        """The opposite of `str`."""
        fields = json.loads(text)
        steps = tuple(fields["steps"])
        return History(fields["seed"], tuple(fields["kinds"]), tuple(fields["clocks"]), steps)


def history(seed: int) -> History:
    """The history of a seed."""
    rng = random.Random(seed)
    kinds = rng.choice((KINDS, ("authjs", "own"), ("authjs", "authjs", "own"), ("raw", "own")))
    clocks = rng.choice(((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, -20.0, 20.0), (-2.0, 0.0, 2.0)))
    scenes = _Scenes(rng, len(kinds))
    steps = [step for _ in range(SCENES_OF_A_HISTORY) for step in scenes.any()]
    return History(seed, kinds, clocks, tuple(steps))


class _Scenes:
    """Steps that go together; what and when is left to chance."""

    def __init__(self, rng: random.Random, users: int) -> None:
        self._rng = rng
        self._users = users
        self._all: tuple[tuple[int, Callable[[], Iterator[Step]]], ...] = (
            (4, self.cut_off_while_renewing),
            (4, self.store_goes_back),
            (2, self.leaves_while_renewing),
            (2, self.killed_while_renewing),
            (2, self.logout_while_cut_off),
            (1, self.misses_messages),
            (2, self.rejected_again),
            (2, self.provider_in_trouble),
            (2, self.store_away),
            (3, self.store_goes_back_while_renewing),
            (2, self.cut_off_while_store_goes_back),
            (2, self.logout_while_renewing),
            (1, self.gone_after_renewing),
            (1, self.logout_in_a_crowd),
            (3, self.this_and_that),
        )

    def any(self) -> Iterator[Step]:
        """One of them, and a moment in which all is well."""
        weights = [weight for weight, _ in self._all]
        (scene,) = self._rng.choices([scene for _, scene in self._all], weights)
        yield [0.0, "again"]
        yield from scene()

    # -- numbers ----------------------------------------------------------------------------------

    def _pause(self, longest: float, shortest: float = 0.0) -> float:
        return round(self._rng.uniform(shortest, longest), 2)

    def _two(self) -> tuple[int, int]:
        first, second = self._rng.sample(REPLICAS, 2)
        return first, second

    def _user(self) -> int:
        numbers: tuple[int, ...] = (EVERYBODY, EVERYBODY, *range(self._users))
        return self._rng.choice(numbers)

    def _one(self, user: int) -> int:
        return self._rng.randrange(self._users) if user == EVERYBODY else user

    def _cookie(self) -> int:
        return self._rng.choice((NEWEST, NEWEST, OLDEST, -2))

    def _ask(self, pause: float, user: int, replica: int, cookie: int | None = None) -> Step:
        leaves = self._rng.choice((0, 0, 0, 0, 0.05, 0.3))
        method = self._rng.choice(("GET", "GET", "POST"))
        which = self._cookie() if cookie is None else cookie
        return [pause, "ask", user, replica, which, method, leaves]

    def _everywhere(self, user: int, cookie: int | None = None) -> Iterator[Step]:
        for replica in self._rng.sample(REPLICAS, len(REPLICAS)):
            yield self._ask(self._pause(0.3), user, replica, cookie)

    def _due(self, user: int) -> Step:
        """The user's token is no longer good: rejected, or, after a while, expired."""
        if self._rng.random() < 0.6:
            return [0.0, "reject", user]
        return [self._pause(3.2, 2.2), "nothing"]

    # -- scenes -----------------------------------------------------------------------------------

    def cut_off_while_renewing(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield self._due(user)
        yield [0.0, "provider", "ok", self._pause(2.0, 0.3)]
        yield self._ask(0.0, user, one, OLDEST)
        whom = self._rng.choice(((one,), (one,), REPLICAS))
        how = self._rng.choice(BLOCKING)
        pause = self._pause(0.8, 0.05)
        for replica in whom:
            yield [pause, "link", replica, how, 0]
            pause = 0.0
        if self._rng.random() < 0.5:
            yield self._ask(0.0, user, other, OLDEST)
        yield [self._pause(4.0, 0.5), "provider", "ok", 0]
        for replica in whom:
            yield [0.0, "link", replica, "ok", 0]
        yield self._ask(self._pause(0.7), user, other, OLDEST)
        yield self._ask(self._pause(1.0), user, one, OLDEST)
        yield from self._everywhere(user)

    def store_goes_back(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield [0.0, "snapshot", self._rng.choice(("file", "follower"))]
        yield [self._pause(1.2), *self._due(user)[1:]]
        yield self._ask(0.0, user, one)
        if self._rng.random() < 0.4:
            yield [self._pause(1.0), "logout", self._one(user), one, self._cookie()]
        if self._rng.random() < 0.6:
            yield self._ask(self._pause(1.0), user, other)  # with the newest: so it is presented
        yield [self._pause(1.5), "redis", self._rng.choice(("older", "older", "empty", "kept"))]
        yield self._ask(self._pause(3.0), user, other, OLDEST)
        yield from self._everywhere(user)
        yield [self._pause(1.0), "nothing"]

    def store_goes_back_while_renewing(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield [self._pause(0.6), "snapshot", self._rng.choice(("file", "follower"))]
        if self._rng.random() < 0.5:  # renewed before, which is forgotten
            yield [0.6, "reject", user]
            yield self._ask(0.0, user, self._rng.choice(REPLICAS), NEWEST)
            yield [0.5, "nothing"]
        yield [0.0, "reject", user]
        yield [0.0, "provider", "ok", self._pause(4.0, 0.5)]
        yield self._ask(0.0, user, one)
        how = self._rng.choice(("older", "older", "empty", "kept"))
        if self._rng.random() < 0.3:
            yield [self._pause(0.5), "redis", "stop"]
            yield self._ask(0.0, user, other)
        yield [self._pause(1.5), "redis", how]
        yield self._ask(self._pause(1.0), user, other, OLDEST)
        yield self._ask(self._pause(1.0), user, other)
        yield [self._pause(3.0), "provider", "ok", 0]
        yield from self._everywhere(user)

    def cut_off_while_store_goes_back(self) -> Iterator[Step]:
        """Only one that is cut off knows what Redis forgets."""
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield [self._pause(0.6), "snapshot", self._rng.choice(("file", "follower"))]
        yield [0.6, *self._due(user)[1:]]
        yield self._ask(0.0, user, one, NEWEST)
        if self._rng.random() < 0.4:
            yield [self._pause(0.5), "logout", self._one(user), one, self._cookie()]
        yield [self._pause(1.5), "link", one, self._rng.choice(BLOCKING), 0]
        yield [self._pause(1.0), "redis", self._rng.choice(("older", "empty"))]
        yield [self._pause(2.0), "link", one, "ok", 0]
        yield self._ask(self._pause(3.0), user, other)
        yield from self._everywhere(user)

    def logout_while_renewing(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield [0.0, "reject", user]
        yield [0.0, "provider", "ok", self._pause(2.0, 0.3)]
        yield self._ask(0.0, user, one)
        yield [
            self._pause(0.5),
            "logout",
            self._one(user),
            self._rng.choice((one, other)),
            self._cookie(),
        ]
        yield self._ask(self._pause(2.0), user, other)
        yield [self._pause(2.0), "provider", "ok", 0]
        yield from self._everywhere(user)

    def logout_in_a_crowd(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield [0.0, "crowd", one, 600]
        yield [self._pause(1.0), "logout", self._one(user), one, self._cookie()]
        yield self._ask(1.2, user, other)
        yield from self._everywhere(user)

    def gone_after_renewing(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield [0.0, "reject", user]
        yield self._ask(0.0, user, one, NEWEST)
        if self._rng.random() < 0.4:
            yield [self._pause(0.5), "logout", self._one(user), one, self._cookie()]
        yield [self._pause(2.0), self._rng.choice(("kill", "drain")), one]
        yield self._ask(self._pause(1.0), user, other, OLDEST)
        if self._rng.random() < 0.5:
            yield [self._pause(1.0), "redis", "stop"]
            yield [self._pause(1.0), "start", one]
            yield [self._pause(1.0), "redis", "kept"]
        yield [self._pause(0.5), "start", one]
        yield [self._pause(2.0), "nothing"]
        yield from self._everywhere(user)

    def leaves_while_renewing(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield self._due(user)
        yield [0.0, "provider", "ok", self._pause(5.0, 0.5)]
        yield [0.0, "ask", user, one, NEWEST, "GET", self._rng.choice((0, 0.2, 0.4))]
        yield [self._pause(0.6, 0.1), "drain", one]
        yield self._ask(self._pause(2.0), user, other, OLDEST)
        yield [self._pause(2.0), "provider", "ok", 0]
        yield [self._pause(1.0), "start", one]
        yield from self._everywhere(user)

    def killed_while_renewing(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        mode = self._rng.choice(("ok", "ok", "hang"))
        yield self._due(user)
        yield [0.0, "provider", mode, self._pause(2.0, 0.3)]
        yield self._ask(0.0, user, one, NEWEST)
        yield [self._pause(0.6, 0.0), "kill", one]
        yield [0.0, "provider", "ok", 0]
        yield self._ask(self._pause(1.0), user, other)
        yield [self._pause(1.0), "start", one]
        yield from self._everywhere(user)

    def logout_while_cut_off(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user)
        yield [self._pause(0.5), "link", other, self._rng.choice(BLOCKING), 0]
        yield [
            self._pause(0.5),
            "logout",
            self._one(user),
            self._rng.choice(REPLICAS),
            self._cookie(),
        ]
        yield [self._pause(3.0), "link", other, "ok", 0]
        yield self._ask(self._pause(3.0, 1.5), user, one)
        yield from self._everywhere(user, OLDEST)

    def misses_messages(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        yield from self._everywhere(user, OLDEST)
        yield [self._pause(0.5), "link", other, self._rng.choice(BLOCKING), 0]
        yield [0.3, "logout", self._one(user), one, NEWEST]
        yield [0.5, "messages"]
        yield [self._pause(1.0), "link", other, "ok", 0]
        yield from self._everywhere(user, OLDEST)
        yield [2.5, "nothing"]
        yield from self._everywhere(user, OLDEST)

    def rejected_again(self) -> Iterator[Step]:
        user, (one, other) = self._user(), self._two()
        for _ in range(2):
            yield [0.0, "reject", user]
            yield self._ask(self._pause(0.3), user, one)
            yield self._ask(self._pause(0.3), user, other, OLDEST)
        yield [self._pause(0.5), "reject", user]
        yield from self._everywhere(user, OLDEST)

    def provider_in_trouble(self) -> Iterator[Step]:
        user = self._user()
        yield self._due(user)
        yield [0.0, "provider", self._rng.choice(("hang", "fails", "lost")), 0]
        yield from self._everywhere(user)
        yield [self._pause(3.0, 0.5), "provider", "ok", self._pause(3.5)]
        yield from self._everywhere(user)
        yield [self._pause(1.0), "provider", "ok", 0]

    def store_away(self) -> Iterator[Step]:
        user = self._user()
        yield [0.0, "redis", "stop"]
        yield [self._pause(0.5), "nothing"]
        yield from self._everywhere(user)
        if self._rng.random() < 0.3:
            yield [0.0, "logout", self._one(user), self._rng.choice(REPLICAS), NEWEST]
        yield [self._pause(2.5), "redis", self._rng.choice(("kept", "older", "empty"))]
        yield [self._pause(3.0), "nothing"]
        yield from self._everywhere(user)

    def this_and_that(self) -> Iterator[Step]:
        some: tuple[Callable[[], Step], ...] = (
            lambda: ["burst", self._user(), self._cookie(), 4],
            lambda: ["reject", self._user()],
            lambda: ["logout", self._one(EVERYBODY), self._rng.choice(REPLICAS), self._cookie()],
            lambda: ["link", self._rng.choice(REPLICAS), "slow", self._pause(0.2)],
            lambda: ["link", self._rng.choice(REPLICAS), self._rng.choice(BLOCKING), 0],
            lambda: ["heal"],
            lambda: ["provider", "ok", self._pause(2.0)],
            lambda: ["again"],
            lambda: ["snapshot", "file"],
            lambda: ["redis", "older"],
            lambda: ["drain", self._rng.choice(REPLICAS)],
            lambda: ["kill", self._rng.choice(REPLICAS)],
        )
        for _ in range(8):
            yield [self._pause(0.8), *self._rng.choice(some)()]
            yield self._ask(self._pause(0.4), self._user(), self._rng.choice(REPLICAS))
        yield [0.3, "heal"]
