"""What can be wrong with a configuration, and how it is reported.

A *finding* is a fault whose place in the file is not known yet; `Tree.faults` turns findings
into `Fault` values. Neither ever holds a value that may be secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

_LONGEST_NAME: Final = 100

KeyPath: TypeAlias = tuple[str | int, ...]


class Fault(msgspec.Struct, frozen=True):
    """One thing to put right: what is wrong, and what would be right unless `problem` says it.

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
        words = f"{self.problem}; {self.remedy}" if self.remedy else self.problem
        return ": ".join(part for part in (place, self.path, words) if part)


class Finding(msgspec.Struct, frozen=True):
    """A fault before it is located; `line` overrides the line of the key at `path`."""

    path: KeyPath
    problem: str
    remedy: str
    line: int | None = None


class BadValue(ValueError):
    """A value that its key cannot take. Raised by parsers; holds no secret."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


def dotted(path: KeyPath) -> str:
    """The path as users write it: `("routes", 0, "upstream")` is `routes[0].upstream`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path)
    return text.removeprefix(".")


def shown(name: str) -> str:
    """A name that somebody wrote, cut if it is too long for a message."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def undotted(text: str) -> KeyPath:
    """The inverse, for names without dots of their own."""
    parts = re.findall(r"\[([0-9]+)\]|([^.\[\]]+)", text)
    return tuple(int(index) if index else name for index, name in parts)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not among `known`: the closest one, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"use {one_of(names)}" if names else "remove it"


def one_of(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
