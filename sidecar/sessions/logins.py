"""A login's last step: the provider's response becomes one session, however often it is asked for.

A code may be sent once: a second time revokes what it was good for (RFC 6749 4.1.2). So every
response is redeemed by one process. A client that comes with it again, by a reload or because the
first response was lost, is given the same session for a moment. In the store, `login:` under the
keyed hash of a login's state: that its code is being redeemed, the session that it gave, or that it
failed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sidecar.core.access import lets_in
from sidecar.core.discovery import Metadata
from sidecar.core.errors import LoginUnavailable, SidecarError, StoreUnavailable
from sidecar.core.formats.login_session import ID_BYTES, LoginSession, new_session
from sidecar.core.jws import InvalidToken
from sidecar.core.oidc.attempt import LoginAttempt
from sidecar.core.oidc.authorization_response import code_form, read_answer
from sidecar.core.oidc.id_token import (
    ID_TOKEN,
    Identity,
    check_allowed,
    read_id_token,
    with_userinfo,
)
from sidecar.core.oidc.relying_party import LoginFailed
from sidecar.core.token_response import Outcome, Renewal, Trouble, is_success, read_oauth2
from sidecar.core.token_set import TokenSet
from sidecar.net.provider import Provider, ProviderUnavailable
from sidecar.sessions.bounds import Budget
from sidecar.sessions.entries import read_entry

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sidecar.net.background import Background
    from sidecar.net.store import Store
    from sidecar.policy import LoginPolicy
    from sidecar.sessions.stored import StoredLogins

EXCHANGE: Final = 15.0  # seconds that redeeming a code may take
WAIT: Final = 20.0  # seconds to wait for another process that redeems it
POLL: Final = 0.1  # seconds between two looks for what it has made of it
ANSWER_SECONDS: Final = 600.0  # that a response is known for; a code is good for as long (4.1.2)
UNMARKS: Final = 20  # attempts to take a mark back that the store may have taken
AT_ONCE: Final = 500  # responses that are redeemed at a time; anyone can invent them
REPEAT: Final = 60.0  # seconds in which the same response gives the same session

_BEGUN: Final = b"begun"
_FAILED: Final = b"failed"
_NOTHING: Final = TokenSet("")


class Logins:
    """Makes sessions of the provider's responses. Belongs to one event loop."""

    def __init__(
        self,
        login: LoginPolicy,
        provider: Provider,
        own: StoredLogins,
        store: Store,
        *,
        hash_of: Callable[[str], str],
        now: Callable[[], float],
        background: Background,
        log: FilteringBoundLogger,
    ) -> None:
        self._login: Final = login
        self._provider: Final = provider
        self._own: Final = own
        self._store: Final = store
        self._hash_of: Final = hash_of
        self._now: Final = now
        self._background: Final = background
        self._log: Final = log
        self._running: dict[str, asyncio.Task[LoginSession]] = {}
        self._failures: Final = Budget(1_000, 10)  # that are noted in the store

    async def complete(
        self, attempt: LoginAttempt, parameters: Mapping[str, str], *, https: bool
    ) -> LoginSession:
        """The session that a response of the provider gives; it is made even if the client leaves.

        Raises `LoginFailed`, `LoginUnavailable` and `StoreUnavailable`.
        """
        task = self._running.get(attempt.state)
        if task is None:
            code = read_answer(parameters, await self._metadata(), self._login.client.issuer)
            task = self._running.get(attempt.state)
        if task is None:
            if len(self._running) >= AT_ONCE:
                raise LoginUnavailable("too many logins are waiting for the provider")
            task = self._begin(attempt, code, https=https)
        return await asyncio.shield(task)

    def _begin(
        self, attempt: LoginAttempt, code: str, *, https: bool
    ) -> asyncio.Task[LoginSession]:
        name = self._login.source.cookie_name(https=https)
        task = self._background.begin(self._redeem_once(attempt, code, name))
        self._running[attempt.state] = task
        task.add_done_callback(lambda _: self._running.pop(attempt.state, None))
        return task

    async def _metadata(self) -> Metadata:
        try:
            return await self._provider.metadata()
        except ProviderUnavailable as trouble:
            raise LoginUnavailable(trouble.detail) from None

    # -- once -----------------------------------------------------------------------------------

    async def _redeem_once(self, attempt: LoginAttempt, code: str, cookie: str) -> LoginSession:
        key, mark = f"login:{self._hash_of(attempt.state)}", _BEGUN + os.urandom(16)
        while not await self._is_mine(key, mark):
            made = await self._made_before(key)
            if made is not None:
                return made
        try:
            session = await self._redeem(attempt, code, cookie)
        except ProviderUnavailable as trouble:
            # What was not sent may be sent: a reload is another try.
            await self._note(key, _FAILED if trouble.sent else None)
            raise LoginUnavailable(trouble.detail) from None
        except SidecarError:
            await self._note(key, _FAILED)
            raise
        await self._note(key, session.to_bytes())
        return session

    async def _is_mine(self, key: str, mark: bytes) -> bool:
        """Whether no other process redeems the response. Raises `StoreUnavailable`.

        What that may have left behind is taken away, or the response could not come again.
        """
        try:
            return await self._store.add(key, mark, ANSWER_SECONDS)
        except StoreUnavailable:
            self._background.run(self._unmark(key, mark))
            raise

    async def _unmark(self, key: str, mark: bytes) -> None:
        for attempt in range(1, UNMARKS):
            await asyncio.sleep(0.2 * attempt)
            with suppress(StoreUnavailable):
                await self._store.remove(key, mark)
                return

    async def _note(self, key: str, outcome: bytes | None) -> None:
        """Says what became of a response. If the store fails, only a reload suffers.

        The same holds if more fails than is noted.
        """
        if outcome == _FAILED and not self._failures.take(self._now()):
            outcome = None
        with suppress(StoreUnavailable):
            if outcome is None:
                await self._store.remove(key)
            else:
                await self._store.put(key, outcome, REPEAT)

    async def _made_before(self, key: str) -> LoginSession | None:
        """The session that the same response gave when it came first, here or elsewhere.

        None if the process that was about to redeem it has not; then it may be tried again.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT
        while True:
            stored = await self._store.get(key)
            if stored is None:
                return None
            if not stored.startswith(_BEGUN) or loop.time() >= until:
                break
            await asyncio.sleep(POLL)
        if stored == _FAILED or stored.startswith(_BEGUN):
            raise LoginFailed("login_expired", "its answer was used before")
        session = read_entry(stored, LoginSession.from_bytes)
        current = await self._own.get(session.fingerprint) if self._own.is_stored else session
        if current is None:
            raise LoginFailed("login_expired", "the session of its answer has ended")
        return current

    # -- a code, its tokens, their session ------------------------------------------------------

    async def _redeem(self, attempt: LoginAttempt, code: str, cookie: str) -> LoginSession:
        """Raises `ProviderUnavailable` if the code got no response, else as `complete`."""
        answer = await self._provider.token(code_form(attempt, code), EXCHANGE)
        renewal = read_oauth2(answer, _NOTHING, self._now())
        if renewal.outcome is not Outcome.RENEWED or renewal.tokens is None:
            raise _not_redeemed(answer.status, renewal, answer.address)
        tokens = renewal.tokens
        try:
            identity = await self._identify(attempt, tokens)
            session = self._fitting(self._session(identity, tokens, cookie))
            await self._own.begin(session)
        except SidecarError:
            self._background.run(self._let_go(tokens))
            raise
        return session

    async def _identify(self, attempt: LoginAttempt, tokens: TokenSet) -> Identity:
        if tokens.id_token is None:
            raise LoginFailed("bad_answer", "the provider's answer holds no id_token")
        client = self._login.client
        try:
            verified = await self._provider.verify(tokens.id_token, ID_TOKEN)
            identity = read_id_token(
                verified,
                client,
                nonce=attempt.nonce,
                access_token=tokens.access_token,
                now=self._now(),
            )
            identity = await self._informed(identity, tokens.access_token)
            check_allowed(identity, client)
        except InvalidToken as error:
            raise LoginFailed("bad_answer", f"the id_token is not believed: {error}") from None
        except ProviderUnavailable as trouble:
            raise LoginUnavailable(trouble.detail) from None
        return identity

    async def _informed(self, identity: Identity, access_token: str) -> Identity:
        """The identity with what UserInfo says, if the id_token lacks name, email or a claim that
        is configured.

        Raises `InvalidToken` for what is about another user, and `ProviderUnavailable` if nobody
        can say who may log in.
        """
        profile, client = identity.profile, self._login.client
        is_known = profile.name and profile.email and not identity.lacks(client.claims)
        if not self._login.asks_userinfo or is_known:
            return identity
        said = await self._provider.userinfo(access_token)
        if said is not None:
            return with_userinfo(identity, said, client.kept)
        if not lets_in(client.allow, identity.claim) and self._provider.has_userinfo:
            raise ProviderUnavailable("UserInfo was not had, and a rule needs it", sent=True)
        return identity

    def _session(self, identity: Identity, tokens: TokenSet, cookie: str) -> LoginSession:
        return new_session(
            os.urandom(ID_BYTES),
            self._hash_of,
            cookie=cookie,
            subject=identity.subject,
            sid=identity.sid,
            tokens=tokens,
            profile=identity.profile,
            now=self._now(),
        )

    def _fitting(self, session: LoginSession) -> LoginSession:
        """The session in a size that can be kept, at worst without what ends it at the provider.

        Raises `LoginFailed` if nothing helps: a browser with cookies that no server takes would
        be locked out.
        """
        fitting = self._login.source.fitting(session)
        if fitting is not None:
            return fitting
        raise LoginFailed("session_too_large", "its tokens are too large for a session")

    async def _let_go(self, tokens: TokenSet) -> None:
        """Revokes tokens that no session came of."""
        for token, hint in (
            (tokens.refresh_token, "refresh_token"),
            (tokens.access_token, "access_token"),
        ):
            if token:
                await self._provider.revoke(token, hint)


def _not_redeemed(status: int, renewal: Renewal, address: str) -> LoginFailed | LoginUnavailable:
    """Why a code gave no tokens. A new attempt mends the refusal of a code."""
    why = f"{address}: the code was not redeemed: {renewal.why}"
    if status >= 500:
        return LoginUnavailable(why)
    if renewal.outcome is Outcome.REFUSED or is_success(status):
        return LoginFailed("bad_answer", why)
    if renewal.trouble is Trouble.MISCONFIGURED or status in (401, 403):
        why += "; correct oidc.client_id, oidc.client_secret and oidc.auth"
        return LoginFailed("login_misconfigured", why, 502)
    return LoginFailed("bad_answer", why, 502)
