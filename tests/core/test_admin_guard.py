"""The admin listener acts for whoever reaches it, and for no page of another site."""

from __future__ import annotations

from typing import Any, Final

import pytest

from sidecar.core.admin_guard import AdminRequest, refusal
from sidecar.core.record import replace

NAMES: Final = frozenset(("admin.internal",))
POST: Final = AdminRequest(
    method="POST",
    path="/reload",
    host="127.0.0.1:9090",
    origin=None,
    fetch_site=None,
    has_header=True,
    is_unix=False,
)
GET: Final = replace(POST, method="GET", path="/", has_header=False)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"host": "localhost:9090"},
        {"host": "LOCALHOST"},
        {"host": "[::1]:9090"},
        {"host": "[::1]"},
        {"host": "10.1.2.3:9090"},
        {"host": "admin.internal:9090"},
        {"host": "localhost:19090", "origin": "http://localhost:19090"},
        {"origin": "http://127.0.0.1:9090", "fetch_site": "same-origin"},
        {"origin": "https://127.0.0.1:9090", "fetch_site": "Same-Origin"},
        {"host": "admin.internal:443", "origin": "https://admin.internal"},
        {"host": "Admin.Internal", "origin": "http://admin.internal:80"},
        {"fetch_site": "none"},
        {"host": None, "is_unix": True},
        {"host": "whatever", "is_unix": True},
    ],
)
def test_whoever_reaches_it_may_act(changed: dict[str, Any]) -> None:
    """With the header, under a name or address of the listener's own; a port may be forwarded."""
    assert refusal(replace(POST, **changed), NAMES) is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"has_header": False}, "X-Sidecar-Admin"),
        ({"has_header": False, "is_unix": True}, "X-Sidecar-Admin"),
        ({"has_header": False, "method": "DELETE"}, "DELETE must have"),
        ({"has_header": False, "path": "/healthz"}, "X-Sidecar-Admin"),
        ({"host": "evil.example"}, "Host"),
        ({"host": "evil.example:9090"}, "Host"),
        ({"host": "admin.internal.evil.example"}, "Host"),
        ({"host": "localhost.evil.example"}, "Host"),
        ({"host": "127.0.0.1.evil.example"}, "Host"),
        ({"host": "127.0.0.1@evil.example"}, "Host"),
        ({"host": ""}, "Host"),
        ({"host": None}, "Host"),
        ({"origin": "http://evil.example"}, "Origin"),
        ({"origin": "null"}, "Origin"),
        ({"origin": "http://127.0.0.1:8080"}, "Origin"),
        ({"origin": "http://127.0.0.1:9090, http://evil.example"}, "Origin"),
        ({"origin": "ftp://127.0.0.1:9090"}, "Origin"),
        ({"origin": "http://x", "host": None, "is_unix": True}, "Origin"),
        ({"fetch_site": "cross-site"}, "Sec-Fetch-Site"),
        ({"fetch_site": "same-site"}, "Sec-Fetch-Site"),
        ({"fetch_site": ""}, "Sec-Fetch-Site"),
    ],
)
def test_what_another_site_may_have_caused_is_refused(changed: dict[str, Any], told: str) -> None:
    """Each sign of it is enough, and is named."""
    reason = refusal(replace(POST, **changed), NAMES)
    assert reason is not None
    assert told in reason


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/status.json", "/reload", "/healthz/x", "/nowhere"])
def test_another_name_reads_nothing(method: str, path: str) -> None:
    """A name that was rebound to this address would be its page's own origin."""
    asked = replace(GET, method=method, path=path)
    assert refusal(asked, NAMES) is None
    assert refusal(replace(asked, host="evil.example"), NAMES) is not None


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_and_scrapes_come_under_any_name(path: str) -> None:
    for host in ("sidecar.namespace.svc:9090", "evil.example", None):
        assert refusal(replace(GET, path=path, host=host), NAMES) is None
