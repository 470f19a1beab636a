"""The documents keep step with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sidecar.core.errors import ProxyError

DOCS: Final = Path(__file__).parents[1] / "docs"


def subclasses(kind: type[ProxyError]) -> Iterator[type[ProxyError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from subclasses(one)


def test_every_code_has_its_causes_and_remedies() -> None:
    """With the statuses that it comes with, and none that no error has."""
    page = (DOCS / "troubleshooting.md").read_text().partition("## Codes of a login")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\d, ]+) \| .+ \| .+ \|$", page, re.MULTILINE)
    told = {code: {int(status) for status in statuses.split(",")} for code, statuses in rows}
    raised: dict[str, set[int]] = {}
    for kind in subclasses(ProxyError):
        if "code" in vars(kind):
            raised.setdefault(kind.code, set()).add(kind.status)
    assert told == raised
