"""Commented configurations to begin with: what `sidecar init` writes."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

STACKS: Final = ("nextjs", "spa", "sveltekit", "oidc")


def configuration(stack: str) -> str:
    """The text of a file for one of `STACKS`."""
    return files(__package__).joinpath(f"{stack}.yaml").read_text(encoding="utf-8")


def next_steps(text: str) -> list[str]:
    """What is to be done next: the list in the comments at the beginning of such a file."""
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    return [line for line in lines if line[:1].isdigit()]
