"""FastAPI behind the sidecar on https: its own redirects keep scheme, host and prefix."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import pytest

from tests.e2e.servers import ROOT, running
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Clients, Start

SITE: Final = "https://app.example.com"
SCRIPT: Final = ["Accept: application/json", f"Origin: {SITE}", "Sec-Fetch-Site: same-origin"]
HTTPS: Final[dict[str, dict[str, Any]]] = {
    "by public_url": {"public_url": SITE},
    "by a trusted proxy": {"trusted_proxies": ["127.0.0.1"]},
}


@pytest.fixture(scope="module", params=["", "/api"], ids=["plain", "knows its prefix"])
def uvicorn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the application; uvicorn believes the sidecar's X-Forwarded-Proto.

    With `--root-path` the application writes the prefix into its redirects itself.
    """
    port, log = free_port(), tmp_path_factory.mktemp("fastapi") / "uvicorn.log"
    options = ["--proxy-headers", "--forwarded-allow-ips", "127.0.0.1", "--port", str(port)]
    options += ["--root-path", request.param] if request.param else []
    command = [sys.executable, "-m", "uvicorn", "tests.clients.fastapi_app:app", *options]
    with running(command, port, log, ROOT):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("how", HTTPS)
async def test_redirects_of_fastapi_stay_on_https(
    sidecar: Start, client: Clients, uvicorn: str, how: str
) -> None:
    """The one to the slash, and one that `url_for` makes."""
    settings = HTTPS[how]
    at = await sidecar(
        upstreams={"main": {"url": uvicorn}},
        routes=[{"path": "/api/", "kind": "api", "upstream": "main", "strip": "/api"}],
        **settings,
    )
    wire, given = await client(at), [*SCRIPT, "Cookie: access_token=tok"]
    given += ["X-Forwarded-Proto: https"] if "trusted_proxies" in settings else []
    for method, path, status in (("GET", "/api/items?a=1", 307), ("POST", "/api/login/", 303)):
        answer = await wire.ask(method, path, *given)
        led_to = urljoin(SITE + path, answer.get("Location") or "")
        query = "?a=1" if method == "GET" else ""
        assert (answer.status, led_to) == (status, f"{SITE}/api/items/{query}")
    answer = await wire.get("/api/items/", *given)
    assert answer.json["data"] == {"scheme": "https", "authorization": "Bearer tok"}
