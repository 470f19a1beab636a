"""The document as text: what is wrong stands first, and lines fit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidecar.observation.status_model import Status
from sidecar.observation.status_text import line, screen

EXAMPLE = Path(__file__).parents[1] / "data" / "status.json"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return list(screen(msgspec.json.decode(EXAMPLE.read_bytes(), type=Status)))


def test_verdict_stands_first(lines: list[str]) -> None:
    assert lines[0].startswith("DOWN: Serving since 3 d; upstream api: connection refused")


def test_each_route_and_upstream_has_a_line(lines: list[str]) -> None:
    assert [one for one in lines if one.startswith("/api ")] != []
    assert [one for one in lines if one.startswith("api ") and "fails since" in one] != []
    assert [one for one in lines if one.startswith("sessions ended") and "token_rejected 12" in one]
    assert [one for one in lines if one.startswith("store") and "redis up" in one] != []


def test_trouble_stands_last(lines: list[str]) -> None:
    assert lines[-1].startswith("17:29:59 502 GET /api/orders 1.2ms api connection refused [")


def test_columns_stand_below_their_heads(lines: list[str]) -> None:
    at = next(at for at, one in enumerate(lines) if one.startswith("ROUTE"))
    head, row = lines[at], lines[at + 1]
    end = head.index("REQUESTS") + len("REQUESTS")
    assert row[:end].rstrip() == row[:end]


def test_lost_requests_are_told() -> None:
    assert line({"lost": 7}) == "(7 requests were not shown)"
