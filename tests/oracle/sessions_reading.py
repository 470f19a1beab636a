"""Which session a library reads in a Cookie header: the real ones, and a port of one of them.

The port is for the model of sessions, which reads thousands of headers; a test holds it to the
library.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cmp_to_key
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

PROJECT: Final = Path(__file__).parent / "reading"
BASES: Final = {
    "authjs": "authjs.session-token",
    "nextauth": "next-auth.session-token",
    "auth0": "__session",
    "better-auth": "better-auth.account_data",
    "iron-session": "app",
}
"""Library → the name of its session cookie, without prefix."""


class Libraries:
    """The real libraries, in a process of Node.js that `reading/read.mjs` runs in."""

    def __init__(self, node: str, project: Path, secret: str) -> None:
        self._process = subprocess.Popen(
            [node, "read.mjs", secret],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, question: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def mint(self, library: str, name: str, claims: Mapping[str, object]) -> dict[str, str]:
        """The cookies that a library sets for these claims, under `name`."""
        minted: dict[str, str] = self._ask({"mint": [library, name, claims]})
        return minted

    def read(self, header: str, *libraries: str) -> dict[str, list[str]]:
        """The sessions read in a Cookie header, by their claim `n`: each with who reads it."""
        found: dict[str, list[str]] = {}
        for library, way, name, number in self._ask(
            {"read": header, "libraries": libraries or None}
        ):
            found.setdefault(number, []).append(f"{library} ({way}) as {name}")
        return found

    def join(self, header: str) -> dict[str, str]:
        """What Auth.js takes for its session under each name, before it opens it."""
        values: dict[str, str] = self._ask({"join": header})
        return values

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


# -- the port --------------------------------------------------------------------------------------

_BLANK: Final = " \t"
_ESCAPES: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER: Final = re.compile(r"\s*([+-]?[0-9]+)")


def parse_cookie(header: str) -> dict[str, str]:
    """The cookies as the npm package `cookie` 1.0 parses them, in the form Auth.js bundles.

    The first of a name counts, and a value that can be percent-decoded is.
    """
    found: dict[str, str] = {}
    for segment in header.split(";") if len(header) > 1 else ():
        name, equals, value = segment.partition("=")
        if equals:
            found.setdefault(name.strip(_BLANK), _decoded(value.strip(_BLANK)))
    return found


def _decoded(value: str) -> str:
    if "%" not in value or _ESCAPES.search(value):
        return value
    # What is not percent-encoded stays as it is, whatever octets it consists of.
    try:
        return re.sub(r"(?:%[0-9A-Fa-f]{2})+", lambda m: unquote_to_bytes(m[0]).decode(), value)
    except UnicodeDecodeError:
        return value


def joined(cookies: Mapping[str, str], name: str) -> str:
    """What Auth.js takes for the session of the cookie `name` (`SessionStore`).

    Every cookie whose name begins like it is a chunk, in the order of the number behind its last
    dot; those without one stay where they are.
    """
    chunks = [one for one, value in cookies.items() if one.startswith(name) and value]
    chunks.sort(key=cmp_to_key(_difference))
    return "".join(cookies[one] for one in chunks)


def _index(name: str) -> int | None:
    """`parseInt(name.split(".").pop() || "0")`, None for NaN."""
    match = _NUMBER.match(name.rpartition(".")[2] or "0")
    return int(match[1]) if match else None


def _difference(a: str, b: str) -> int:
    one, other = _index(a), _index(b)
    return 0 if one is None or other is None else one - other


def sealed_values(header: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, value) of each session that Auth.js tries to open under one of these names."""
    cookies = parse_cookie(header)
    for name in names:
        value = joined(cookies, name)
        if value:
            yield name, value
