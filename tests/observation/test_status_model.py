"""The document's form: the example of the page's author is whole, and says what the models say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import msgspec

from sidecar.core.record import names_of
from sidecar.observation.status_model import STEPS, WINDOW, Status

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = ROOT / "tests" / "data" / "status.json"


def test_example_has_every_member_and_no_other() -> None:
    """What is decoded strictly, and encoded again, is the same JSON."""
    text = EXAMPLE.read_bytes()
    status = msgspec.json.decode(text, type=Status)
    assert json.loads(msgspec.json.encode(status)) == json.loads(text)
    assert len(status.traffic.requests_by_second) == WINDOW
    assert all(len(row.requests) == STEPS for row in status.traffic.routes)


def test_page_names_members_that_there_are() -> None:
    """Each member of the document stands in a panel of docs/admin.md."""
    page = (ROOT / "docs" / "admin.md").read_text().partition("## Panels")[2]
    named = set(re.findall(r"`(\w+)`", page))
    assert set(names_of(Status)) - {"format", "now", "window"} <= named
