"""What can be wrong with a configuration, and how it is told.

A *finding* is a fault whose place in the file is not known yet; `Document.locate` turns findings
into `Fault` values. Neither ever holds a value that may be secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to put right.

    `path` is the key's path (`routes[0].upstream`, empty for the file as a whole), `line` counts
    from 1 and is None where no line is to blame, `source` names the file, or the environment
    variable or option that set the key. `str()` is the line a person reads.
    """

    path: str
    line: int | None
    problem: str
    remedy: str
    source: str = ""

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(
            part for part in (place, self.path, f"{self.problem}; {self.remedy}") if part
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault before it is located; `line` overrides the line of the key at `path`."""

    path: KeyPath
    problem: str
    remedy: str
    line: int | None = None


class BadValue(ValueError):
    """A value that its key cannot take. Raised by parsers; holds no secret."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


def dotted(path: KeyPath) -> str:
    """The path as users write it: `("routes", 0, "upstream")` is `routes[0].upstream`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not among `known`: the closest one, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known here: {', '.join(names)}" if names else "remove it"
