"""What was seen, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from tests.compare.scenes import SCENES

BEGIN: Final = "<!-- seen -->\n"
END: Final = "<!-- /seen -->\n"

Seen: TypeAlias = Mapping[str, Sequence[str]]
"""By contender: what was seen of each scene, in order."""


def markdown(seen: Seen) -> str:
    """The table, a row for each scene."""
    heads = ["situation", *seen, "in a sentence"]
    rows = [
        [scene.title, *(column[at] for column in seen.values()), scene.means]
        for at, scene in enumerate(SCENES)
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def between_marks(file: Path) -> str:
    """The part of a page that the command writes."""
    return file.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write_into(file: Path, text: str) -> None:
    """Replaces that part."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    file.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")
