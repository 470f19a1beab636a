"""The sidecar with real identity providers: `python -m tests.interop [provider …]`.

Installs what it needs into a cache outside the repository (`$SIDECAR_INTEROP_CACHE`, by default
`~/.cache/session-sidecar-interop`), makes every check for every provider, and prints the table of
docs/providers.md. Exit code 0: nothing went wrong; 1: something did; 2: no provider could be run.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.interop.cache import DEFAULT, VARIABLE, LeftOut, directory
from tests.interop.checks import CHECKS, Check, World
from tests.interop.provider import NotOffered, Provider
from tests.interop.providers import PROVIDERS
from tests.interop.site import KEPT, running_site
from tests.interop.table import Cell, Column, State, markdown

LONGEST_CHECK: Final = 120.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.interop", description=__doc__)
    parser.add_argument("provider", nargs="*", help=f"of {', '.join(PROVIDERS)}; default: all")
    parser.add_argument("--kept", choices=KEPT, help="where sessions are kept; default: both")
    parser.add_argument("--check", action="append", choices=CHECKS, help="only this; repeatable")
    parser.add_argument("--keep-logs", type=Path, help="a directory for what all programs wrote")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.provider if name not in PROVIDERS]
    if unknown:
        parser.error(f"unknown provider {unknown[0]!r}; there are {', '.join(PROVIDERS)}")
    _say(f"cache: {directory()} ({VARIABLE}, by default {DEFAULT})")
    checks = {what: CHECKS[what] for what in given.check or CHECKS}
    columns: list[Column] = []
    for name in given.provider or PROVIDERS:
        provider = PROVIDERS[name]()
        try:
            _say(f"{name}: installing")
            provider.install(directory())
        except LeftOut as reason:
            _say(f"{name}: LEFT OUT: {reason}")
            continue
        columns += [
            asyncio.run(_checked(provider, kept, checks, given.keep_logs))
            for kept in ([given.kept] if given.kept else KEPT)
        ]
    sys.stdout.write(f"{markdown(columns, list(checks))}\n")
    if not columns:
        return 2
    return int(any(column.is_wrong for column in columns))


async def _checked(
    provider: Provider, kept: str, checks: Mapping[str, Check], logs: Path | None
) -> Column:
    """One provider with one way to keep sessions, through all checks."""
    column = Column(provider.name, provider.version, kept)
    with tempfile.TemporaryDirectory(prefix="interop-") as name:
        folder = Path(name)
        try:
            async with running_site(provider, folder, kept) as site, AsyncExitStack() as stack:
                world = World(site, stack)
                for what, check in checks.items():
                    column.cells[what] = await _cell(check(world))
                    _say(
                        f"{provider.name} {provider.version}, {kept}: {what}: {column.cells[what]}"
                    )
        except AssertionError as error:
            column.cells["login"] = Cell(State.WRONG, f"it did not start: {error}")
            _say(f"{provider.name} {provider.version}, {kept}: {error}")
        finally:
            if logs is not None:
                _keep(folder, logs / f"{provider.name}-{kept}")
    return column


def _keep(folder: Path, logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, logs)


async def _cell(check: Awaitable[str | None]) -> Cell:
    try:
        async with asyncio.timeout(LONGEST_CHECK):
            return Cell(State.RIGHT, await check or "")
    except NotOffered as reason:
        return Cell(State.NOT_OFFERED, str(reason))
    except Exception as error:  # whatever goes wrong is a result
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        return Cell(State.WRONG, f"{type(error).__name__} at {where}: {error or at.line}"[:600])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
