"""A client that proves itself by the certificate of its connection (RFC 8705)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from sidecar.assembly.open_provider import open_provider
from sidecar.core.config import load
from sidecar.net.outbound import way_of
from sidecar.net.provider import Provider, ProviderUnavailable
from sidecar.tls import UnusableFile
from tests.net.store.conftest import Certificates, make_certificates
from tests.ports import free_port

SECRET = "a secret of the sidecar's, 32 bytes"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "tls")


@pytest.fixture
async def endpoint(certificates: Certificates) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A token endpoint that takes no connection without a certificate of its authority."""
    seen: list[web.Request] = []

    async def token(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request)
        return web.json_response({"access_token": "a", "refresh_token": "r", "expires_in": 60})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates.cert, certificates.key)
    application, port = web.Application(), free_port()
    application.router.add_post("/token", token)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    yield f"https://127.0.0.1:{port}/token", seen
    await runner.cleanup()


def provider(url: str, certificates: Certificates, auth: str, cert: Path) -> Provider:
    text = f"""
upstream: http://a
secret: {SECRET}
outbound: {{ca: {certificates.ca}}}
session: {{sources: [{{type: cookie, cookie: a, refresh_cookie: b}}]}}
refresh:
  token_endpoint: {url}
  client_id: app
  auth: {auth}
  key_file: {certificates.key}
  cert: {cert}
"""
    config = load(text, source="a", environ={}, read_file=lambda path: Path(path).read_text())
    way = way_of(config.outbound.proxy, config.outbound.ca)
    opened = open_provider(config, lambda _: None, way)
    assert opened is not None
    return opened


async def test_connection_shows_the_certificate(
    endpoint: tuple[str, list[web.Request]], certificates: Certificates
) -> None:
    """And the form names the client, without a secret."""
    url, seen = endpoint
    client = provider(url, certificates, "tls", certificates.cert)
    answer = await client.token({"grant_type": "refresh_token", "refresh_token": "r0"}, 10.0)
    await client.close()
    assert answer.status == 200
    form = parse_qs((await seen[0].read()).decode())
    assert form["client_id"] == ["app"]
    assert not form.keys() & {"client_secret", "client_assertion"}
    assert "Authorization" not in seen[0].headers


async def test_without_it_there_is_no_connection(
    endpoint: tuple[str, list[web.Request]], certificates: Certificates
) -> None:
    url, seen = endpoint
    client = provider(url, certificates, "none", certificates.cert)
    with pytest.raises(ProviderUnavailable):
        await client.token({"grant_type": "refresh_token", "refresh_token": "r0"}, 10.0)
    await client.close()
    assert seen == []


def test_certificate_of_another_key_is_named(certificates: Certificates) -> None:
    with pytest.raises(UnusableFile, match=r"refresh\.cert: .*ca\.pem: must be the certificate"):
        provider("https://127.0.0.1:1/token", certificates, "tls", certificates.ca)
