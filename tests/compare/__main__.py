"""Compares the sidecar with oauth2-proxy: `python -m tests.compare`, from the repository's root.

Prints a table as Markdown; `--write` puts it into docs/comparison.md. The first run builds
oauth2-proxy into the user's cache, which takes Go and some minutes.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from sidecar import __version__
from tests.compare.play import contenders, seen_of_all
from tests.compare.program import VERSION, MissingProgram, build, go_version
from tests.compare.report import markdown, write_into

PAGE: Final = Path(__file__).parents[2] / "docs" / "comparison.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compare", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    try:
        binary = build()
    except MissingProgram as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    those = contenders(binary)
    with tempfile.TemporaryDirectory() as folder:
        seen = seen_of_all(those, Path(folder))
    text = f"{_versions(binary, len(those) > 2)}\n\n{markdown(seen)}"
    print(text, end="")  # noqa: T201
    if options.write:
        write_into(PAGE, text)
    return 0


def _versions(binary: Path, with_redis: bool) -> str:
    """What was compared, by version."""
    python = platform.python_version()
    told = [
        f"sidecar {__version__} on Python {python}",
        f"oauth2-proxy {VERSION} built with {go_version(binary)}",
    ]
    if with_redis:
        shown = subprocess.check_output(["redis-server", "--version"], text=True)
        told.append(f"Redis {shown.partition('v=')[2].split()[0]}")
    return f"{', '.join(told)}."


if __name__ == "__main__":
    sys.exit(main())
