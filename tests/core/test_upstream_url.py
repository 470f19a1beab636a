"""The parts of an upstream's URL."""

from __future__ import annotations

import pytest

from sidecar.core.upstream_url import ServerUrl, split_upstream_url


@pytest.mark.parametrize(
    ("url", "parts", "origin"),
    [
        ("http://api:4000", ServerUrl("http", "api:4000", "api", 4000, ""), "http://api:4000"),
        ("https://api/base", ServerUrl("https", "api", "api", 443, "/base"), "https://api"),
        ("http://[::1]", ServerUrl("http", "[::1]", "::1", 80, ""), "http://[::1]"),
        (
            "unix:/run/app.sock",
            ServerUrl("unix", "localhost", "", 0, "", "/run/app.sock"),
            "http://localhost",
        ),
        (
            "unix:/run/app.sock:/base/x",
            ServerUrl("unix", "localhost", "", 0, "/base/x", "/run/app.sock"),
            "http://localhost",
        ),
    ],
)
def test_parts_of_a_url(url: str, parts: ServerUrl, origin: str) -> None:
    """A socket has the authority localhost, since a Host field must have one."""
    assert split_upstream_url(url) == parts
    assert split_upstream_url(url).origin == origin
