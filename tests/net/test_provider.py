"""A provider is asked sparingly, believed carefully, and its trouble has one name."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import ClientSession, CookieJar, web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from yarl import URL

from sidecar.core.discovery import REQUIRED
from sidecar.core.jws import InvalidToken
from sidecar.core.oidc.attempt import ENTROPY, authorization_url, begin_attempt
from sidecar.core.oidc.authorization_response import answer_parameters, code_form, read_answer
from sidecar.core.oidc.id_token import ID_TOKEN, read_id_token
from sidecar.core.oidc.provider_logout import LOGOUT_TOKEN, read_logout_token
from sidecar.core.oidc.relying_party import OidcClient
from sidecar.demo.idp import RunningIdp, running_idp
from sidecar.net import http_client, provider
from sidecar.net.outbound import Outbound, way_of
from sidecar.net.provider import Provider, ProviderSettings, ProviderUnavailable

SECRET = "a secret: with % and \N{LATIN SMALL LETTER E WITH ACUTE}"
CANARY = "canary-token"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A provider made of a JSON document and handlers, which counts what it is asked."""

    def __init__(self) -> None:
        self.issuer = ""
        self.requests: Counter[str] = Counter()
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.handlers: dict[str, Handler] = {}
        self.document: dict[str, Any] = {}
        self.peers: set[Any] = set()

    @property
    def last_form(self) -> dict[str, str]:
        return dict(parse_qsl(self.bodies[-1].decode(), strict_parsing=True))

    def answers(self, path: str, *, status: int = 200, text: str = "", **more: Any) -> None:
        """Has a path answer always the same."""

        async def handler(_: web.Request) -> web.Response:
            return web.Response(status=status, text=text, **more)

        self.handlers[path] = handler

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.requests[request.path] += 1
        self.seen.append(request)
        self.peers.add(request.transport.get_extra_info("peername"))
        self.bodies.append(await request.read())
        handler = self.handlers.get(request.path)
        if handler is not None:
            return await handler(request)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(self.document)
        return web.Response(status=404)


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A provider that serves metadata, and what a test adds."""
    site = Site()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tcp = web.TCPSite(runner, "127.0.0.1", 0)
    await tcp.start()
    port = runner.addresses[0][1]
    site.issuer = f"http://127.0.0.1:{port}"
    site.document = {
        "issuer": site.issuer,
        "token_endpoint": f"{site.issuer}/token",
        "jwks_uri": f"{site.issuer}/jwks",
        "revocation_endpoint": f"{site.issuer}/revoke",
        "id_token_signing_alg_values_supported": ["ES256"],
    }
    yield site
    await runner.cleanup()


Connect: TypeAlias = Callable[..., Provider]


@pytest.fixture
def reports() -> list[str]:
    """The lines that providers have reported."""
    return []


@pytest.fixture
async def connect(reports: list[str]) -> AsyncIterator[Connect]:
    """`connect(issuer=…)` is a new client; all are closed at the end."""
    async with AsyncExitStack() as stack:

        def start(**settings: Any) -> Provider:
            new = Provider(ProviderSettings(**{"client_id": "app", **settings}), reports.append)
            stack.push_async_callback(new.close)
            return new

        yield start


@pytest.fixture
async def idp() -> AsyncIterator[RunningIdp]:
    async with running_idp(signing_algorithm="ES256", client_secret=SECRET) as idp:
        yield idp


def of(connect: Connect, idp: RunningIdp, **more: Any) -> Provider:
    given = {"issuer": idp.issuer, "client_id": idp.client_id, "client_secret": idp.client_secret}
    return connect(**{**given, **more})


# -- metadata -------------------------------------------------------------------------------------


async def test_metadata_are_fetched_once_for_all_who_ask(site: Site, connect: Connect) -> None:
    one = connect(issuer=site.issuer)
    assert one.known is None
    found = await asyncio.gather(*(one.metadata() for _ in range(20)))
    assert {each.token_endpoint for each in found} == {f"{site.issuer}/token"}
    assert one.known == found[0]
    await one.metadata()
    assert site.requests == {"/.well-known/openid-configuration": 1}


async def test_whoever_leaves_ends_the_fetch_for_nobody_else(site: Site, connect: Connect) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        arrived.set()
        await go.wait()
        return web.json_response(site.document)

    site.handlers["/.well-known/openid-configuration"] = slow
    one = connect(issuer=site.issuer)
    first = asyncio.create_task(one.metadata())
    await arrived.wait()
    second = asyncio.create_task(one.metadata())
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert (await second).issuer == site.issuer
    assert site.requests.total() == 1


async def test_an_issuer_that_names_itself_otherwise_is_not_believed(
    site: Site, connect: Connect
) -> None:
    site.document["issuer"] = site.issuer + "/"
    with pytest.raises(ProviderUnavailable, match="calls itself") as caught:
        await connect(issuer=site.issuer).metadata()
    assert not caught.value.sent


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 500, "text": "{}"}, "500"),
        ({"status": 200, "text": "<html>", "content_type": "text/html"}, "JSON"),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, "302"),
        ({"status": 200, "text": "{" + " " * 300_000 + "}"}, "too long"),
        ({"status": 404}, "404"),
    ],
)
async def test_metadata_that_cannot_be_had_are_trouble(
    site: Site, connect: Connect, answer: dict[str, Any], why: str
) -> None:
    """Nor is a redirect followed: nothing is asked but what was configured (T65)."""
    site.answers("/.well-known/openid-configuration", **answer)
    site.answers("/elsewhere", text=json.dumps(site.document))
    with pytest.raises(ProviderUnavailable, match=why):
        await connect(issuer=site.issuer).metadata()
    assert "/elsewhere" not in site.requests


async def test_a_plain_oauth_server_is_found_too(site: Site, connect: Connect) -> None:
    """RFC 8414, where there is no OpenID Connect."""
    site.answers("/.well-known/openid-configuration", status=404)
    site.answers("/.well-known/oauth-authorization-server", text=json.dumps(site.document))
    found = await connect(issuer=site.issuer).metadata()
    assert found.token_endpoint == f"{site.issuer}/token"


async def test_a_failure_is_told_to_all_for_a_while_and_then_tried_again(
    site: Site, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No storm while the provider is down; and it is found again without a restart."""
    site.answers("/.well-known/openid-configuration", status=503)
    one = connect(issuer=site.issuer)
    for _ in range(20):
        with pytest.raises(ProviderUnavailable, match="503"):
            await one.metadata()
    assert site.requests.total() == 1
    monkeypatch.setattr(provider, "PAUSE", 0.0)
    del site.handlers["/.well-known/openid-configuration"]
    assert (await one.metadata()).issuer == site.issuer


async def test_nobody_waits_for_new_metadata_while_there_are_old_ones(
    site: Site, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = connect(issuer=site.issuer)
    old = await one.metadata()
    monkeypatch.setattr(provider, "FRESH", 0.0)
    site.handlers["/.well-known/openid-configuration"] = hang
    async with asyncio.timeout(5):
        assert [await one.metadata() for _ in range(3)] == [old] * 3
    await until(lambda: site.requests.total() == 2)


async def test_old_metadata_serve_while_new_ones_cannot_be_had(
    site: Site, connect: Connect, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is told, once for each attempt."""
    one = connect(issuer=site.issuer)
    old = await one.metadata()
    monkeypatch.setattr(provider, "FRESH", 0.0)
    site.answers("/.well-known/openid-configuration", status=500)
    assert await one.metadata() == old
    await until(lambda: len(reports) == 1)
    assert [await one.metadata() for _ in range(3)] == [old] * 3
    assert site.requests.total() == 2
    assert len(reports) == 1
    assert "500" in reports[0]


async def test_new_metadata_take_the_place_of_old_ones(
    site: Site, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = connect(issuer=site.issuer)
    await one.metadata()
    monkeypatch.setattr(provider, "FRESH", 0.0)
    site.document["token_endpoint"] = f"{site.issuer}/new"
    await one.metadata()
    await until(lambda: one.known is not None and str(one.known.token_endpoint).endswith("/new"))


async def test_what_is_configured_goes_before_what_is_published(
    site: Site, connect: Connect
) -> None:
    endpoint = f"{site.issuer}/mine"
    found = await connect(issuer=site.issuer, token_endpoint=endpoint).metadata()
    assert found.token_endpoint == endpoint
    assert found.revocation_endpoint == f"{site.issuer}/revoke"


async def test_without_an_issuer_nothing_is_discovered(site: Site, connect: Connect) -> None:
    one = connect(token_endpoint=f"{site.issuer}/token")
    site.answers("/token", text="{}")
    assert (await one.token({}, 5)).status == 200
    assert (await one.metadata()).token_endpoint == f"{site.issuer}/token"
    assert await one.revoke(CANARY, "refresh_token") is None
    with pytest.raises(ProviderUnavailable, match="key set"):
        await one.keys()
    assert site.requests == {"/token": 1}


# -- the token endpoint ---------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["auto", "basic", "post"])
async def test_a_client_with_a_secret_proves_itself(
    idp: RunningIdp, connect: Connect, auth: str
) -> None:
    """Whatever characters the secret has (RFC 6749 2.3.1)."""
    form = {"grant_type": "refresh_token", "refresh_token": idp.tokens()["refresh_token"]}
    answer = await of(connect, idp, auth=auth).token(form, 5)
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body)["token_type"] == "Bearer"


async def test_a_wrong_secret_is_an_answer_like_any_other(
    idp: RunningIdp, connect: Connect
) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": idp.tokens()["refresh_token"]}
    answer = await of(connect, idp, client_secret="wrong").token(form, 5)
    assert (answer.status, json.loads(answer.body)["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("settings", "authorization", "credentials"),
    [
        ({}, None, {"client_id": "a:b"}),
        ({"auth": "none", "client_secret": "s"}, None, {"client_id": "a:b"}),
        (
            {"auth": "post", "client_secret": "s&t"},
            None,
            {"client_id": "a:b", "client_secret": "s&t"},
        ),
        ({"client_secret": "s: +"}, "a%3Ab:s%3A+%2B", {}),
    ],
)
async def test_credentials_are_where_the_standard_puts_them(
    site: Site,
    connect: Connect,
    settings: dict[str, Any],
    authorization: str | None,
    credentials: dict[str, str],
) -> None:
    site.answers("/token", text="{}")
    one = connect(issuer=site.issuer, **{"client_id": "a:b", **settings})
    await one.token({"grant_type": "x", "code": "c d&e"}, 5)
    assert site.last_form == {"grant_type": "x", "code": "c d&e", **credentials}
    sent = site.seen[-1].headers.get("Authorization")
    decoded = base64.b64decode(sent.removeprefix("Basic ")).decode() if sent else None
    assert decoded == authorization
    assert site.seen[-1].content_type == "application/x-www-form-urlencoded"


async def test_a_refused_connection_has_sent_nothing(connect: Connect, site: Site) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        await connect(token_endpoint="http://127.0.0.1:9/token").token({"code": CANARY}, 5)
    assert not caught.value.sent


async def test_metadata_that_cannot_be_had_have_sent_nothing(
    site: Site, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code or refresh token has not left: it may be tried again."""
    site.answers("/.well-known/openid-configuration", status=500)
    with pytest.raises(ProviderUnavailable) as caught:
        await connect(issuer=site.issuer).token({"code": CANARY}, 5)
    assert not caught.value.sent
    site.handlers["/.well-known/openid-configuration"] = hang
    with pytest.raises(ProviderUnavailable) as caught:
        await connect(issuer=site.issuer).token({"code": CANARY}, 0.1)
    assert not caught.value.sent
    assert site.requests["/token"] == 0


@pytest.mark.parametrize("handler", [hang, hang_up])
async def test_an_answer_that_is_lost_may_have_been_carried_out(
    site: Site, connect: Connect, handler: Handler
) -> None:
    site.handlers["/token"] = handler
    with pytest.raises(ProviderUnavailable) as caught:
        await connect(issuer=site.issuer).token({"code": CANARY}, 0.3)
    assert caught.value.sent
    assert CANARY not in str(caught.value) + repr(caught.value)
    assert site.requests["/token"] == 1  # never repeated


async def test_an_endless_answer_ends_at_the_limit(site: Site, connect: Connect) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(1000):
            await answer.write(b"x" * 65536)
        return answer

    site.handlers["/token"] = endless
    with pytest.raises(ProviderUnavailable, match="too long") as caught:
        await connect(issuer=site.issuer).token({}, 10)
    assert caught.value.sent


async def test_a_redirect_is_no_place_to_take_a_code_to(site: Site, connect: Connect) -> None:
    site.answers("/token", status=307, headers={"Location": f"{site.issuer}/elsewhere"})
    assert (await connect(issuer=site.issuer).token({"code": CANARY}, 5)).status == 307
    assert site.requests["/elsewhere"] == 0


async def test_requests_share_nothing(site: Site, connect: Connect) -> None:
    """Neither a connection, which the provider may close just then, nor a cookie."""
    site.answers("/token", text="{}", headers={"Set-Cookie": "a=b", "Connection": "keep-alive"})
    one = connect(issuer=site.issuer)
    for _ in range(3):
        await one.token({}, 5)
    assert len(site.peers) == site.requests.total() == 4
    assert not any("Cookie" in request.headers for request in site.seen)


async def test_proxies_of_the_environment_are_not_used(
    site: Site, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert (await connect(issuer=site.issuer).metadata()).issuer == site.issuer


def test_nothing_secret_is_in_a_repr() -> None:
    assert SECRET not in repr(ProviderSettings("app", client_secret=SECRET))
    assert CANARY not in repr(provider.TokenAnswer(200, "application/json", CANARY.encode()))


# -- revocation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", ["access_token", "refresh_token"])
async def test_a_token_is_revoked(idp: RunningIdp, connect: Connect, hint: str) -> None:
    tokens = idp.tokens()
    assert await of(connect, idp).revoke(tokens[hint], hint) is True
    assert not idp.verify(tokens["access_token"]).is_live


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ({"status": 200}, True),
        ({"status": 400, "text": '{"error": "unsupported_token_type"}'}, None),
        ({"status": 400, "text": '{"error": "invalid_request"}'}, False),
        ({"status": 401, "text": '{"error": "invalid_client"}'}, False),
        ({"status": 503}, False),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, False),
    ],
)
async def test_what_became_of_a_revocation_is_told(
    site: Site, connect: Connect, reports: list[str], answer: dict[str, Any], result: bool | None
) -> None:
    """None where asking again would be of no use; a failure is reported without the token."""
    site.answers("/revoke", **answer)
    assert await connect(issuer=site.issuer).revoke(CANARY, "access_token") is result
    assert site.last_form["token"] == CANARY
    assert site.last_form["token_type_hint"] == "access_token"
    assert len(reports) == (result is False)
    assert CANARY not in "".join(reports)


async def test_a_revocation_never_raises(
    site: Site, connect: Connect, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "LIMIT", 0.3)
    for handler in (hang, hang_up):
        site.handlers["/revoke"] = handler
        assert await connect(issuer=site.issuer).revoke(CANARY, "access_token") is False
    assert await connect(issuer="http://127.0.0.1:9").revoke(CANARY, "access_token") is False
    assert len(reports) == 3
    assert CANARY not in "".join(reports)


async def test_a_provider_that_does_not_revoke_is_not_asked(site: Site, connect: Connect) -> None:
    del site.document["revocation_endpoint"]
    assert await connect(issuer=site.issuer).revoke(CANARY, "access_token") is None
    assert site.requests["/revoke"] == 0


# -- providers whose addresses are split, and what is given stands above the metadata -------------


async def test_metadata_may_lie_elsewhere_than_below_the_issuer(
    site: Site, connect: Connect
) -> None:
    """The sidecar asks the inner address; browsers, and the document, know the public one."""
    public = "http://login.example.test"
    site.document |= {"issuer": public, "authorization_endpoint": f"{public}/authorize"}
    site.answers("/inside", text=json.dumps(site.document))
    found = await connect(issuer=public, metadata_url=f"{site.issuer}/inside").metadata()
    assert found.authorization_endpoint == f"{public}/authorize"
    assert found.token_endpoint == f"{site.issuer}/token"
    assert list(site.requests) == ["/inside"]


async def test_endpoints_that_are_given_stand_above_the_metadata(
    site: Site, connect: Connect
) -> None:
    """Where all that a login needs is given, no metadata are asked for."""
    one = connect(issuer=site.issuer, token_endpoint="http://inside/token")
    found = await one.metadata()
    assert found.token_endpoint == "http://inside/token"
    assert found.jwks_uri == f"{site.issuer}/jwks"
    needed = {name: f"http://inside/{name}" for name in REQUIRED}
    site.requests.clear()
    found = await connect(issuer="http://not.reachable.invalid", **needed).metadata()
    assert (found.issuer, found.jwks_uri) == ("http://not.reachable.invalid", needed["jwks_uri"])
    assert not site.requests


@pytest.mark.parametrize(
    ("announced", "is_basic"),
    [
        (None, True),
        (["client_secret_basic", "client_secret_post"], True),
        (["client_secret_post"], False),
        ("client_secret_post", False),
    ],
)
async def test_a_client_proves_itself_as_the_metadata_announce(
    site: Site, connect: Connect, announced: object, is_basic: bool
) -> None:
    """Discovery 3: basic where they do not say."""
    if announced is not None:
        site.document["token_endpoint_auth_methods_supported"] = announced
    site.answers("/token", text="{}")
    await connect(issuer=site.issuer, client_secret=SECRET).token({"grant_type": "x"}, 5)
    assert ("Authorization" in site.seen[-1].headers) is is_basic
    assert (b"client_secret=" in site.bodies[-1]) is not is_basic


async def test_an_odd_optional_member_is_reported(
    site: Site, connect: Connect, reports: list[str]
) -> None:
    site.document["revocation_endpoint"] = "/revoke"
    one = connect(issuer=site.issuer)
    assert await one.revoke("token", "refresh_token") is None
    (told,) = reports
    assert told.endswith("not usable, so taken as not published: revocation_endpoint")


# -- UserInfo -------------------------------------------------------------------------------------


async def test_userinfo_is_asked_with_the_access_token(site: Site, connect: Connect) -> None:
    site.document["userinfo_endpoint"] = f"{site.issuer}/userinfo"
    site.answers("/userinfo", text='{"sub": "alice", "email": "alice@example.com"}')
    said = await connect(issuer=site.issuer).userinfo("token")
    assert said == {"sub": "alice", "email": "alice@example.com"}
    assert site.seen[-1].headers["Authorization"] == "Bearer token"


@pytest.mark.parametrize(
    ("status", "text"), [(500, "{}"), (200, "[]"), (200, "a.signed.jwt"), (401, "{}")]
)
async def test_userinfo_that_is_none_is_reported_and_stops_nothing(
    site: Site, connect: Connect, reports: list[str], status: int, text: str
) -> None:
    site.document["userinfo_endpoint"] = f"{site.issuer}/userinfo"
    site.answers("/userinfo", status=status, text=text)
    assert await connect(issuer=site.issuer).userinfo("s3cret") is None
    (told,) = reports
    assert told.startswith("UserInfo was not had: ")
    assert "s3cret" not in told
    del site.document["userinfo_endpoint"]
    assert await connect(issuer=site.issuer).userinfo("token") is None


# -- the way there --------------------------------------------------------------------------------


async def test_a_proxy_is_asked_but_for_the_hosts_that_it_is_not_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY and NO_PROXY of the environment, or the one that is configured."""
    for name in ("HTTP_PROXY", "NO_PROXY", "no_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", site.issuer)
    url = "http://idp.corp.invalid/token"
    for way in (way_of(None, None), way_of(site.issuer, None)):
        one = Outbound(way)
        await one.ask("GET", url, 5.0)
        assert str(site.seen[-1].url) == url
        await one.close()
    monkeypatch.setenv("no_proxy", "corp.invalid")
    count, one = len(site.seen), Outbound(way_of(None, None))
    with pytest.raises(ProviderUnavailable, match="the name cannot be resolved"):
        await one.ask("GET", url, 5.0)
    await one.close()
    assert len(site.seen) == count


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        ("http://user:s3cret@127.0.0.1:1", "the proxy 127.0.0.1:1: connection refused"),
        ("127.0.0.1:1", "the proxy 127.0.0.1:1: connection refused"),
        ("user:s3cret@127.0.0.1:1/", "the proxy 127.0.0.1:1: connection refused"),
        ("http://user:s3cret@[::1", "a proxy of an odd URL: the URL is invalid"),
        ("http://user:12/s3cret@127.0.0.1:1", "a proxy of an odd URL: "),
    ],
)
async def test_a_proxy_that_fails_is_named_without_its_password(
    *, monkeypatch: pytest.MonkeyPatch, proxy: str, told: str
) -> None:
    """Else the provider would be blamed. Without a scheme it is HTTP, as for other programs."""
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    one = Outbound(way_of(None, None))
    with pytest.raises(ProviderUnavailable) as caught:
        await one.ask("GET", "http://idp.corp.invalid/token", 5.0)
    await one.close()
    assert f"http://idp.corp.invalid/token by {told}" in str(caught.value)
    assert "s3cret" not in str(caught.value)


# -- keys -----------------------------------------------------------------------------------------

JWT = frozenset({"jwt"})


def publish(site: Site, *keys: ECKey) -> None:
    site.answers("/jwks", text=json.dumps(KeySet(list(keys)).as_dict(private=False)))


def signed(key: ECKey, **header: str) -> str:
    return jwt.encode({"alg": "ES256", "kid": key.kid, **header}, {"a": 1}, key)


async def test_an_id_token_of_the_provider_is_verified(idp: RunningIdp, connect: Connect) -> None:
    verified = await of(connect, idp).verify(idp.tokens()["id_token"], JWT)
    assert verified.claims["iss"] == idp.issuer
    assert verified.algorithm == "ES256"


async def test_a_new_key_is_found_when_it_is_first_used(idp: RunningIdp, connect: Connect) -> None:
    """Also by many at once, while the key set is being fetched."""
    one = of(connect, idp)
    old = idp.tokens()["id_token"]
    await one.verify(old, JWT)
    idp.rotate_key()
    new = [idp.tokens()["id_token"] for _ in range(5)]
    await asyncio.gather(*(one.verify(token, JWT) for token in new))
    await one.verify(old, JWT)  # it is still published
    idp.set(key_overlap=0)


async def test_a_key_exchanged_under_its_name_is_found(site: Site, connect: Connect) -> None:
    """And a forged logout token does not use up the look that an id_token is worth."""
    old, new = (ECKey.generate_key("P-256", {"kid": "same"}) for _ in range(2))
    publish(site, old)
    one = connect(issuer=site.issuer)
    await one.verify(signed(old), JWT)
    for _ in range(3):
        with pytest.raises(InvalidToken):
            await one.verify(signed(old, kid="forged"), LOGOUT_TOKEN)
    assert site.requests["/jwks"] == 2
    publish(site, new)
    assert (await one.verify(signed(new), JWT)).claims == {"a": 1}
    assert site.requests["/jwks"] == 3


async def test_a_flood_of_unknown_keys_asks_once(site: Site, connect: Connect) -> None:
    """T44 of docs/security.md."""
    good = ECKey.generate_key("P-256", {"kid": "good"})
    publish(site, good)
    one = connect(issuer=site.issuer)
    for number in range(50):
        with pytest.raises(InvalidToken):
            await one.verify(signed(good, kid=f"no-{number}"), JWT)
    assert site.requests["/jwks"] == 2  # the first time, and one look for new keys
    assert (await one.verify(signed(good), JWT)).claims == {"a": 1}


async def test_known_keys_serve_while_the_key_set_cannot_be_had(
    site: Site, connect: Connect, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = ECKey.generate_key("P-256", {"kid": "good"})
    publish(site, good)
    one = connect(issuer=site.issuer)
    await one.keys()
    site.answers("/jwks", status=500)
    monkeypatch.setattr(provider, "FRESH", 0.0)
    for _ in range(3):
        assert (await one.verify(signed(good), JWT)).claims == {"a": 1}
    assert site.requests["/jwks"] == 2
    assert len([line for line in reports if "500" in line]) == 1


@pytest.mark.parametrize("body", ["<html>", '{"keys": 1}', ""])
async def test_a_key_set_that_is_none_is_trouble(site: Site, connect: Connect, body: str) -> None:
    """Not an invalid token: the login is not the user's fault, and works again later."""
    site.answers("/jwks", text=body)
    with pytest.raises(ProviderUnavailable, match="key set"):
        await connect(issuer=site.issuer).keys()


async def test_only_announced_algorithms_count(site: Site, connect: Connect) -> None:
    good = ECKey.generate_key("P-256", {"kid": "good"})
    publish(site, good)
    site.document["id_token_signing_alg_values_supported"] = ["RS256", "none"]
    with pytest.raises(InvalidToken, match="algorithm"):
        await connect(issuer=site.issuer).verify(signed(good), JWT)


# -- a whole login, and its end -------------------------------------------------------------------

CALLBACK = "http://127.0.0.1:9/auth/callback"  # is never asked


async def test_a_login_from_beginning_to_end(connect: Connect, site: Site) -> None:
    """What `core.oidc` decides, with a real provider: login, refused replay, logout token."""
    scopes = ("openid", "profile", "offline_access")
    async with running_idp(
        redirect_uris=[CALLBACK],
        sign_in_as="alice",
        signing_algorithm="ES256",
        backchannel_logout_uri=f"{site.issuer}/logout",
    ) as idp:
        one = of(connect, idp)
        client = OidcClient(idp.issuer, idp.client_id, scopes)
        metadata = await one.metadata()
        attempt = begin_attempt(os.urandom(ENTROPY), "/orders", CALLBACK, time.time())
        url = authorization_url(metadata, client, attempt, attempt.state)
        parameters = await in_a_browser(url)
        assert parameters["state"] == attempt.state
        code = read_answer(parameters, metadata, idp.issuer)
        answer = await one.token(code_form(attempt, code), 5)
        assert answer.status == 200, answer.body
        tokens = json.loads(answer.body)
        verified = await one.verify(tokens["id_token"], ID_TOKEN)
        access = tokens["access_token"]
        who = read_id_token(
            verified, client, nonce=attempt.nonce, access_token=access, now=time.time()
        )
        assert (who.subject, who.profile.name) == ("alice", "Alice")
        with pytest.raises(InvalidToken, match="nonce"):
            read_id_token(verified, client, nonce="x", access_token=access, now=time.time())
        with pytest.raises(InvalidToken, match="type"):
            await one.verify(access, ID_TOKEN)

        site.answers("/logout", text="")
        await idp.end_sessions("alice")
        token = site.last_form["logout_token"]
        said = read_logout_token(await one.verify(token, LOGOUT_TOKEN), client, now=time.time())
        assert (said.subject, said.sid) == (who.subject, who.sid)
        with pytest.raises(InvalidToken, match="type"):
            await one.verify(token, ID_TOKEN)

        again = await one.token(code_form(attempt, code), 5)
        assert json.loads(again.body)["error"] == "invalid_grant"


async def in_a_browser(url: str) -> dict[str, str]:
    """The parameters that a browser comes back with."""
    async with (
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser,
        browser.get(URL(url, encoded=True), allow_redirects=False) as answer,
    ):
        assert answer.status == 303, await answer.text()
        return answer_parameters(urlsplit(answer.headers["Location"]).query)


# -- the end --------------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way(site: Site, connect: Connect) -> None:
    site.handlers["/.well-known/openid-configuration"] = hang
    one = connect(issuer=site.issuer)
    waiting = asyncio.create_task(one.metadata())
    await until(lambda: site.requests.total() == 1)
    await one.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_connection_that_is_not_taken_is_given_up(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, and nothing has been sent."""
    monkeypatch.setattr(http_client, "CONNECT", 0.2)
    with ExitStack() as stack:
        busy = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):  # until the queue of connections is full
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(busy.getsockname())
        endpoint = f"http://127.0.0.1:{busy.getsockname()[1]}/token"
        with pytest.raises(ProviderUnavailable, match="timed out after") as caught:
            await connect(token_endpoint=endpoint).token({}, 5)
    assert not caught.value.sent


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
