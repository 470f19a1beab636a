"""Sends refresh tokens to the provider: not too often, and with each failure on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from sidecar.core.errors import RefreshUnavailable
from sidecar.core.token_response import Outcome, Renewal, Trouble
from sidecar.core.token_set import TokenSet
from sidecar.metrics import RefreshCounts
from sidecar.net.provider import ProviderUnavailable
from sidecar.sessions.bounds import Latest
from sidecar.sessions.breaker import Breaker
from sidecar.sessions.refresh_grants import RefreshGrant
from sidecar.spans import span

PROVEN: Final = 10_000  # refresh tokens that are remembered as proven


class RefreshFailed(Exception):
    """There are no new tokens. `detail` is for the log."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class AnswerLost(RefreshFailed):
    """The token was sent, and there is no response: it may be used up."""


class NotRenewed(RefreshFailed):
    """The token was not sent, or the response was not about it."""


class RefreshAttempts:
    """Asks the provider, as far as the breaker lets it. A *name* is the hash of a refresh token.

    `counts` has the outcomes, renewed, refused and unavailable, and how long they took.
    """

    def __init__(
        self,
        grant: RefreshGrant,
        now: Callable[[], float],
        report: Callable[[str, str], None],
        counts: RefreshCounts | None = None,
    ) -> None:
        self._grant: Final = grant
        self._now: Final = now
        self._report: Final = report
        self._breaker: Final = Breaker()
        self._proven: Final = Latest[None](PROVEN)
        self.counts: Final = counts or RefreshCounts()

    def prove(self, name: str) -> None:
        """Notes that a refresh token was handed out by the provider, or came sealed."""
        self._proven.put(name, None)

    def is_proven(self, name: str) -> bool:
        """Returns whether that is known."""
        return name in self._proven

    def refuses(self, name: str) -> str | None:
        """Returns why a token would not be sent now; None if it would."""
        return self._breaker.refuses(name, self._now(), is_proven=self.is_proven(name))

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """A token's turn to be sent.

        Raises `RefreshUnavailable` if the token, or the provider, is left alone for now.
        """
        why = self._breaker.begin(name, self._now(), is_proven=self.is_proven(name))
        if why is not None:
            raise RefreshUnavailable(why)
        try:
            yield
        finally:
            self._breaker.left(name)

    async def ask(self, name: str, tokens: TokenSet) -> Renewal:
        """Returns the provider's word on a token: renewed or refused.

        Raises `AnswerLost` and `NotRenewed`.
        """
        began, sent_at = self._now(), perf_counter()
        try:
            with span("token renewal"):
                renewal = await self._grant(tokens)
        except ProviderUnavailable as trouble:
            what = Trouble.UNCLEAR if trouble.is_ours else Trouble.AWAY
            self._fail(name, began, what, trouble.detail)
            raise (AnswerLost if trouble.sent else NotRenewed)(trouble.detail) from None
        finally:
            self.counts.took.observe(perf_counter() - sent_at)
        if renewal.outcome is not Outcome.TROUBLE:
            with self._noticed():
                is_renewed = renewal.outcome is Outcome.RENEWED
                self._breaker.answered(name, is_renewed=is_renewed)
            return renewal
        is_refused = self._fail(name, began, renewal.trouble, renewal.why)
        if is_refused:
            return Renewal(Outcome.REFUSED, why=f"{renewal.why}, while others are renewed")
        raise NotRenewed(renewal.why)

    @property
    def is_paused(self) -> bool:
        """Whether tokens are tried one at a time, since several in a row got no response."""
        return self._breaker.is_open(is_proven=False)

    def renewed(self, successor: str) -> None:
        """Counts a renewal. `successor` names the new refresh token."""
        self.counts.outcomes["renewed"] += 1
        self.prove(successor)

    def refused(self, why: str) -> None:
        """Counts and reports a refusal."""
        self.counts.outcomes["refused"] += 1
        self.counts.failed(why)
        self._report("refresh refused", why)

    def _fail(self, name: str, began: float, trouble: Trouble, why: str) -> bool:
        """Leaves this token alone for a moment. Returns whether it counts as refused now."""
        self.counts.outcomes["unavailable"] += 1
        self.counts.failed(why)
        is_ours = trouble is Trouble.MISCONFIGURED
        self._report("refresh misconfigured" if is_ours else "refresh failed", why)
        with self._noticed():
            now, is_proven = self._now(), self.is_proven(name)
            return self._breaker.failed(name, began, now, trouble, is_proven=is_proven)

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        """Reports that the provider turns out to be down, or to be back."""
        was_open = self._breaker.is_open(is_proven=False)
        yield
        is_open = self._breaker.is_open(is_proven=False)
        if is_open and not was_open:
            why = "several sessions in a row got no answer: the provider is tried by one at a time"
            self._report("refreshes paused", why)
        elif was_open and not is_open:
            self._report("refreshes resumed", "the provider answers again")
