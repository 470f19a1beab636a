"""What a Keep-Alive value promises."""

from __future__ import annotations

from math import inf

import pytest

from sidecar.core.keep_alive import usable


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("timeout=5", 4),
        ("timeout=5, max=100", 4),
        ("max=1,Timeout=65", 64),
        ('timeout="5"', 4),
        (" timeout = 2 ", 1),
        ("timeout=1", 0.5),
        ("timeout=0", 0),
        ("max=5", inf),
        ("timeout=", inf),
        ("timeout=x", inf),
        ("timeout=-1", inf),
        ("timeouts=1", inf),
        ("", inf),
    ],
)
def test_connection_is_used_for_less_than_its_server_keeps_it(value: str, seconds: float) -> None:
    assert usable(value.encode()) == seconds
