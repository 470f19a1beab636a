"""What speaks for a session that somebody presents: that it is one, and nobody's invention."""

from __future__ import annotations

from enum import IntEnum


class Proof(IntEnum):
    """From the least to the most. What happens to sessions of one kind costs those above nothing.

    Anybody can write a plain cookie, and log out with it as often as he likes. That an upstream has
    answered 2xx says more, though not for sure: it may answer so to everybody on some path.
    """

    NONE = 0
    """A value that nobody has spoken for."""

    ACCEPTED = 1
    """An upstream has answered 2xx to its credential, or has handed it out."""

    VOUCHED = 2
    """Its seal opens with a secret held here, the store has it, or the provider has renewed it."""
