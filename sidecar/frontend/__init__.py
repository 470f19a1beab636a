"""What frontends take along: the TypeScript that `sidecar typescript` prints."""

from __future__ import annotations

from importlib.resources import files


def typescript() -> str:
    """The source of `sidecar.ts`, as it is."""
    return files(__package__).joinpath("sidecar.ts").read_text(encoding="utf-8")
