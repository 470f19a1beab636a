"""Inputs that are kept: one file for each target, one input on each line, odd octets escaped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
MOST = 24 * 1024  # bytes of a file


def file_of(name: str) -> Path:
    """Where the inputs of a target are kept."""
    return CORPUS / f"{name}.txt"


def read(name: str) -> list[bytes]:
    """The kept inputs of a target, none if there are none yet."""
    path = file_of(name)
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [line.encode("ascii").decode("unicode_escape").encode("latin-1") for line in lines]


def write(name: str, inputs: Iterable[bytes]) -> int:
    """Keeps inputs, the shortest first, as many as there is room for. Returns their number."""
    kept, room = [], MOST
    for one in sorted(set(inputs), key=lambda each: (len(each), each)):
        line = one.decode("latin-1").encode("unicode_escape").decode("ascii")
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    file_of(name).write_text("".join(f"{line}\n" for line in kept), "ascii")
    return len(kept)
