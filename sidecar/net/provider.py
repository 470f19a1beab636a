"""An identity provider as a client sees it: metadata, tokens, revocation, keys."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import token_urlsafe
from time import time
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote_plus, urlencode

from joserfc.jwk import KeySet

from sidecar.core.client_assertion import TYPE as ASSERTION_TYPE
from sidecar.core.client_assertion import PrivateKey, client_assertion
from sidecar.core.config.renewal import ClientAuth
from sidecar.core.discovery import (
    OPTIONAL,
    REQUIRED,
    BadMetadata,
    Metadata,
    metadata_urls,
    parse_metadata,
)
from sidecar.core.json_text import decode_object
from sidecar.core.jws import (
    InvalidToken,
    UnknownKey,
    Verified,
    WrongSignature,
    parse_keys,
    verify,
)
from sidecar.core.record import replace
from sidecar.net.causes import too_late
from sidecar.net.deadline import Within
from sidecar.net.outbound import DIRECT, Outbound, Way
from sidecar.net.outbound_answer import OutboundAnswer, Unreachable, address_of

LIMIT: Final = 10.0  # seconds that metadata, keys and a revocation may take
FRESH: Final = 3600.0  # seconds that metadata and keys are used without asking again
PAUSE: Final = 3.0  # seconds after a failure in which it is not tried again
NEW_KEY_PAUSE: Final = 60.0  # seconds between two looks for keys that are not known

Report: TypeAlias = Callable[[str], None]
Value = TypeVar("Value")


ProviderUnavailable: TypeAlias = Unreachable
"""The provider gave no usable response."""

TokenAnswer: TypeAlias = OutboundAnswer
"""What a token endpoint answered, whatever it was."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """A provider and this client of it. Endpoints given here go before those of the metadata.

    There is an `issuer` or a `token_endpoint`. `metadata_url` is where its metadata are, if not
    below the issuer. `auth` is how the client proves itself at the endpoints; auto: as the metadata
    announce, basic if they do not say, none without a secret. `key` is that of private_key_jwt; for
    tls the connection itself has the client's certificate.
    """

    client_id: str
    issuer: str | None = None
    metadata_url: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    jwks_uri: str | None = None
    revocation_endpoint: str | None = None
    end_session_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    auth: ClientAuth = "auto"
    key: PrivateKey | None = field(default=None, repr=False)

    @property
    def given(self) -> dict[str, Any]:
        """The endpoints that are given here, by their names in the metadata."""
        endpoints = {name: getattr(self, name) for name in (*REQUIRED, *OPTIONAL)}
        return {name: url for name, url in endpoints.items() if url is not None}

    @property
    def needs_metadata(self) -> bool:
        """Whether a login needs more than is given here."""
        return self.issuer is not None and not self.given.keys() >= set(REQUIRED)

    def authenticated(
        self,
        form: Mapping[str, str],
        announced: Collection[str] | None = None,
        audience: str = "",
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Header fields and the form, with the client's credentials in one of them.

        RFC 6749 2.3.1; a client without a secret only names itself (RFC 6749 3.2.1). `announced`
        are the methods of the metadata (Discovery 3), None if they do not say; `audience` is the
        token endpoint's URL.
        """
        secret = self.client_secret or ""
        auth = self.auth
        if auth == "auto":
            is_post = announced is not None and "client_secret_basic" not in announced
            auth = ("post" if is_post else "basic") if secret else "none"
        if auth == "basic":
            pair = f"{quote_plus(self.client_id)}:{quote_plus(secret)}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}, dict(form)
        credentials = {"client_id": self.client_id}
        if auth == "post":
            credentials["client_secret"] = secret
        elif auth == "private_key_jwt" and self.key is not None:
            credentials |= _proof(self.key, self.client_id, audience)
        return {}, {**form, **credentials}


def _proof(key: PrivateKey, client_id: str, audience: str) -> dict[str, str]:
    """The parameters by which a client proves itself with its key (RFC 7523 2.2)."""
    assertion = client_assertion(key, client_id, audience, now=time(), token_id=token_urlsafe(16))
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


class Fetched(NamedTuple):
    """The last fetch of a document: `at` when it succeeded last (Unix seconds; 0: never)."""

    at: float
    has_failed: bool
    error: str | None = None
    failed_at: float | None = None
    """Why the last one that failed has, and when."""


class Provider:
    """One provider. Belongs to the event loop that uses it; nothing is opened before it is used.

    `report` gets a line for the log if trouble reaches no caller.
    """

    def __init__(self, settings: ProviderSettings, report: Report, way: Way = DIRECT) -> None:
        self.settings: Final = settings
        self.report: Final = report
        self._outbound: Final = Outbound(way)
        self._metadata: Final = _Remembered(self._fetch_metadata, report)
        self._keys: Final = _Remembered(self._fetch_keys, report)
        self._looked_for_keys: Final[dict[frozenset[str], float]] = {}  # by types of token

    # -- what it publishes ----------------------------------------------------------------------

    @property
    def known(self) -> Metadata | None:
        """The metadata, if they were had before, however old."""
        return self._metadata.value

    async def metadata(self) -> Metadata:
        """The metadata; without an issuer, the endpoints of the settings.

        Old ones serve until new ones are here, so that only the first caller waits. Raises
        `ProviderUnavailable`.
        """
        if self._metadata.value is None:
            return await self._metadata.renewed()
        if self._metadata.is_stale:
            self._metadata.renew_behind()
        return self._metadata.value

    async def keys(self) -> KeySet:
        """The keys that it signs with; old ones if new ones cannot be fetched.

        Raises `ProviderUnavailable`.
        """
        if self._keys.value is not None and not self._keys.is_stale:
            return self._keys.value
        try:
            return await self._keys.renewed()
        except ProviderUnavailable:
            if self._keys.value is None:
                raise
            return self._keys.value

    async def verify(self, token: str, types: frozenset[str]) -> Verified:
        """The claims of a JWT that the provider has signed, of one of these types (`core.jws`).

        An unknown key is looked for once in `NEW_KEY_PAUSE` seconds, however many tokens name one;
        for each kind of token by itself, since anyone can send a logout token. Raises
        `InvalidToken` and `ProviderUnavailable`.
        """
        algorithms = (await self.metadata()).algorithms
        keys = await self.keys()
        try:
            return verify(token, keys, algorithms, types)
        except (UnknownKey, WrongSignature):
            if not self._keys.is_running:
                now = asyncio.get_running_loop().time()
                if now - self._looked_for_keys.get(types, -NEW_KEY_PAUSE) < NEW_KEY_PAUSE:
                    raise
                self._looked_for_keys[types] = now
            return verify(token, await self._keys.renewed(), algorithms, types)

    @property
    def published(self) -> Mapping[str, Fetched]:
        """How the last fetch of each document went."""
        return {"metadata": self._metadata.last, "keys": self._keys.last}

    # -- what it does -----------------------------------------------------------------------------

    async def token(self, form: Mapping[str, str], timeout: float) -> TokenAnswer:  # noqa: ASYNC109 - it says how much of it is left
        """Posts a form to the token endpoint (RFC 6749 3.2), within `timeout` seconds.

        Never repeated here. Raises `ProviderUnavailable`.
        """
        try:
            async with Within(timeout) as limit:
                endpoint = await self._endpoint("token_endpoint")
                left = limit.left
        except TimeoutError:
            cause = f"{self._name}: its metadata {too_late(timeout)}"
            raise ProviderUnavailable(cause, sent=False) from None
        if endpoint is None:
            cause = f"{self._name}: its metadata name no token endpoint"
            raise ProviderUnavailable(cause, sent=False)
        return await self._post(endpoint, form, max(left, 0.001))

    async def revoke(self, token: str, hint: str) -> bool | None:
        """Revokes a token (RFC 7009); `hint` is `access_token` or `refresh_token`.

        True: it is no longer good. False: that failed, and may be tried again. None: the provider
        does not revoke such tokens at all. Never raises.
        """
        form = {"token": token, "token_type_hint": hint}
        try:
            endpoint = await self._endpoint("revocation_endpoint")
            if endpoint is None:
                return None
            answer = await self._post(endpoint, form, LIMIT)
        except ProviderUnavailable as trouble:
            self.report(f"a token could not be revoked: {trouble.detail}")
            return False
        if answer.status == 400 and b'"unsupported_token_type"' in answer.body:
            return None
        if answer.status != 200:
            self.report(f"a token could not be revoked: the provider answered {answer.status}")
        return answer.status == 200

    @property
    def has_userinfo(self) -> bool:
        """Whether it is known to have a UserInfo endpoint."""
        metadata = self.known
        return metadata is not None and metadata.userinfo_endpoint is not None

    async def userinfo(self, access_token: str) -> Mapping[str, object] | None:
        """What the UserInfo endpoint says of a token's user (Core 5.3); None if there is none, or
        if it gives no usable response, which is reported.
        """
        try:
            endpoint = await self._endpoint("userinfo_endpoint")
            if endpoint is None:
                return None
            fields = {"Authorization": f"Bearer {access_token}"}
            answer = await self._outbound.ask("GET", endpoint, LIMIT, fields)
        except ProviderUnavailable as trouble:
            self.report(f"UserInfo was not had: {trouble.detail}")
            return None
        try:
            said = decode_object(answer.body)
        except (ValueError, RecursionError):
            said = None
        if answer.status != 200 or said is None:
            self.report(f"UserInfo was not had: {answer.address}: status {answer.status}")
            return None
        return said

    async def close(self) -> None:
        """Ends running requests."""
        await self._metadata.close()
        await self._keys.close()
        await self._outbound.close()

    # -- requests ---------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        """How it is called in the log."""
        return address_of(self.settings.issuer or self.settings.token_endpoint or "")

    async def _endpoint(self, name: str) -> str | None:
        given = self.settings.given.get(name)
        if given is None and self.settings.issuer is not None:
            given = getattr(await self.metadata(), name)
        return given

    async def _fetch_metadata(self) -> Metadata:
        settings = self.settings
        if settings.issuer is None or not settings.needs_metadata:
            return Metadata(issuer=settings.issuer or "", **settings.given)
        answer, urls = None, metadata_urls(settings.issuer)
        for url in urls if settings.metadata_url is None else (settings.metadata_url,):
            answer = await self._outbound.ask("GET", url, LIMIT)
            if answer.status != 404:
                break
        assert answer is not None
        if answer.status != 200:
            cause = f"{answer.address}: expected metadata, got status {answer.status}"
            raise ProviderUnavailable(cause, sent=True)
        try:
            found = parse_metadata(answer.body, settings.issuer)
        except BadMetadata as error:
            cause = f"{answer.address}: expected metadata, {error}"
            raise ProviderUnavailable(cause, sent=True) from None
        if found.odd:
            odd = ", ".join(found.odd)
            self.report(f"{answer.address}: not usable, so taken as not published: {odd}")
        return replace(found, **settings.given)

    async def _fetch_keys(self) -> KeySet:
        url = (await self.metadata()).jwks_uri
        if url is None:
            raise ProviderUnavailable(f"{self._name}: its metadata name no key set", sent=False)
        answer = await self._outbound.ask("GET", url, LIMIT)
        if answer.status != 200:
            cause = f"{answer.address}: expected a key set, got status {answer.status}"
            raise ProviderUnavailable(cause, sent=True)
        try:
            return parse_keys(answer.body)
        except InvalidToken as error:
            cause = f"{answer.address}: expected a key set, {error}"
            raise ProviderUnavailable(cause, sent=True) from None

    async def _post(self, url: str, form: Mapping[str, str], limit: float) -> TokenAnswer:
        known = self.known
        announced = None if known is None else known.token_endpoint_auth_methods_supported
        audience = self.settings.token_endpoint or (known and known.token_endpoint) or url
        fields, whole = self.settings.authenticated(form, announced, audience)
        fields["Content-Type"] = "application/x-www-form-urlencoded"
        return await self._outbound.ask("POST", url, limit, fields, urlencode(whole).encode())


class _Remembered(Generic[Value]):
    """A value that is fetched once for all who ask at a time, and kept.

    A caller that leaves does not end the fetching for the others. A failure is reported
    to all who ask within `PAUSE` seconds; if there is an old value, to `report` as well.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Value]], report: Report) -> None:
        self.value: Value | None = None
        self._fetch = fetch
        self._report = report
        self._fetched = float("-inf")
        self._fetched_at = 0.0
        self._failed_at: float | None = None
        self._failed = float("-inf")
        self._failure = ""
        self._task: asyncio.Task[Value] | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the value was had `FRESH` seconds ago or more."""
        return asyncio.get_running_loop().time() - self._fetched >= FRESH

    @property
    def last(self) -> Fetched:
        """The last fetch."""
        has_failed = self._failed > self._fetched
        return Fetched(self._fetched_at, has_failed, self._failure or None, self._failed_at)

    @property
    def is_running(self) -> bool:
        """Whether a fetch is under way."""
        return self._task is not None and not self._task.done()

    async def renewed(self) -> Value:
        """The value as it is now, from a fetch that is under way or a new one.

        Raises `ProviderUnavailable`.
        """
        if not self.is_running and self._is_pausing:
            raise ProviderUnavailable(self._failure, sent=False)
        return await asyncio.shield(self._running())

    def renew_behind(self) -> None:
        """Has it fetched in the background."""
        if not self._is_pausing:
            self._running()

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, ProviderUnavailable):
                await self._task

    @property
    def _is_pausing(self) -> bool:
        return asyncio.get_running_loop().time() - self._failed < PAUSE

    def _running(self) -> asyncio.Task[Value]:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(_take_note)
        return self._task

    async def _run(self) -> Value:
        loop = asyncio.get_running_loop()
        try:
            async with Within(LIMIT):
                value = await self._fetch()
        except (ProviderUnavailable, TimeoutError) as trouble:
            self._failure, self._failed = str(trouble) or too_late(LIMIT), loop.time()
            self._failed_at = time()
            if self.value is not None:
                self._report(f"what the provider publishes was not renewed: {self._failure}")
            # Whatever was sent here, the caller's own request was not.
            raise ProviderUnavailable(self._failure, sent=False) from None
        self.value, self._fetched, self._fetched_at = value, loop.time(), time()
        return value


def _take_note(task: asyncio.Task[Value]) -> None:
    """Looks at an exception, since all who waited for it may have left."""
    if not task.cancelled():
        task.exception()
