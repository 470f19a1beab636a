"""A trace id is told from a traceparent that is well formed, and from no other."""

from __future__ import annotations

import pytest

from sidecar.core.trace_context import TraceParent, parse_traceparent, trace_id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
GOOD = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.mark.parametrize("value", [GOOD, GOOD[:-1] + "0", "cc" + GOOD[2:]])
def test_well_formed_traceparents_have_an_id(value: str) -> None:
    """Sampled or not, and of a later version in the form of this one (3.2.4)."""
    assert trace_id_of(value.encode()) == TRACE
    parsed = TraceParent(int(TRACE, 16), 0xB7AD6B7169203331, value.endswith("1"))
    assert parse_traceparent(value.encode()) == parsed


@pytest.mark.parametrize(
    "value",
    [
        "",
        GOOD.upper(),
        GOOD[:-1],
        f" {GOOD}",
        f"{GOOD}\n",
        "ff" + GOOD[2:],
        GOOD.replace(TRACE, "0" * 32),
        GOOD.replace("b7ad6b7169203331", "0" * 16),
        f"{GOOD}, {GOOD}",
    ],
)
def test_others_have_none(value: str) -> None:
    """Zeros are no id, and version ff is invalid (3.2.2)."""
    assert trace_id_of(value.encode()) == ""
    assert parse_traceparent(value.encode()) is None
