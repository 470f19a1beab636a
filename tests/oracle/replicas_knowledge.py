"""What replicas must know: of a fact that one of them knows, who else knows it, or has it lost.

A lower bound. A fact gets to the store from whoever knows it and reaches the store for a while, and
from there to those who were running when it happened; a store that loses data loses it, and gets it
again from those who know. One that nobody knows any more is lost, and whatever follows is excused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

SOON: Final = 1.0  # seconds in which what happened is told
HEALED: Final = 2.0  # seconds after trouble in which all is well again
SLACK: Final = 0.5  # seconds that a busy machine may need besides


@dataclass(eq=False)
class Process:
    """One run of a replica. `calm_since`: since when it reaches the store; None: it does not."""

    replica: int
    workers: int
    started: float
    calm_since: float | None
    is_alive: bool = True
    is_leaving: bool = False

    def was_calm(self, since: float) -> bool:
        """Whether it reached the store at that time and ever after, and had done so for a while."""
        return self.calm_since is not None and self.calm_since + HEALED + SLACK <= since


@dataclass(eq=False)
class Fact:
    """A logout, an exchange of tokens, or a login. `hearers` are who is told of it."""

    what: str
    origin: Process
    hearers: frozenset[Process]
    at: float = field(default_factory=time.monotonic)
    stored_at: float | None = None
    knowers: set[Process] = field(default_factory=set)

    @property
    def can_be_told(self) -> bool:
        """Whether a process knows all of it. Of an own login only the store has all."""
        return self.what != "login"

    @property
    def is_lost(self) -> bool:
        """Nobody knows it any more."""
        is_known = any(one.is_alive for one in (self.origin, *self.knowers))
        return self.stored_at is None and not is_known

    def must_be_known(self, to: Process, now: float) -> bool:
        """Whether a process must act on it."""
        if now < self.at + SOON:
            return False
        if to in self.knowers:
            return True
        is_stored = self.stored_at is not None and now >= self.stored_at + SLACK
        return is_stored and to.was_calm(now)


class Knowledge:
    """All facts, and all processes."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.facts: list[Fact] = []

    def happened(self, what: str, origin: Process, *, is_told: bool) -> Fact:
        """A fact that a process knows of now. One with several workers knows it by the store."""
        hearers = frozenset(one for one in self.processes if one.is_alive) if is_told else ()
        fact = Fact(what, origin, frozenset(hearers))
        if is_told and origin.workers == 1:
            fact.knowers.add(origin)
        self.facts.append(fact)
        return fact

    def tick(self, now: float) -> None:
        """To be called often."""
        for fact in self.facts:
            for one in self.processes:
                if one.is_alive and now >= fact.at + SOON and one.was_calm(now):
                    self._share(fact, one, now)

    def _share(self, fact: Fact, one: Process, now: float) -> None:
        if fact.stored_at is None:
            if fact.can_be_told and (one is fact.origin or one in fact.knowers):
                fact.stored_at = now
        elif one in fact.hearers and now >= fact.stored_at + SLACK:
            fact.knowers.add(one)

    def ended(self, process: Process) -> None:
        """A process has ended in an orderly way: it has written what it could."""
        now = time.monotonic()
        for fact in self.facts:
            is_known = fact.origin is process and fact.can_be_told
            if is_known and fact.stored_at is None and process.was_calm(now):
                fact.stored_at = now
        process.is_alive = False

    def went_back(self, to: float) -> None:
        """The store holds what it held then."""
        for fact in self.facts:
            if fact.stored_at is not None and fact.stored_at > to - SLACK:
                fact.stored_at = None
