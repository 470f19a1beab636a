"""Which refresh tokens are sent to the provider now, and which are left alone after a failure.

What is said about one token pauses that token alone. All are left alone only if several different
tokens in a row got no response (or 5xx), with no clear response to anybody in between:

               SEVERAL tokens in a row without a response
    CLOSED ─────────────────────────────────────────────► OPEN: nobody is asked, for a gap
      ▲                                                    │ ▲
      │                                        gap is over │ │ the try got no clear answer
      │        a clear answer to anybody                   ▼ │
      └─────────────────────────────────────────────── HALF-OPEN: one try is under way

A clear response renews a token, refuses it, or finds fault with the request: the provider is there.

Anyone can invent tokens, and a provider may answer 5xx to them. So silence about tokens that
are not proven holds up tokens of their kind alone; proven are those that the provider handed
out here, and those that came in a sealed session. Of the others no more than `AT_ONCE` are with the
provider at a time, and what is remembered of their failures makes nothing forgotten of proven ones.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.core.record import replace
from sidecar.core.token_response import Trouble

SEVERAL: Final = 3  # different tokens in a row without a response, which speak for an outage
PAUSES: Final = (0.5, 1.0, 2.0, 5.0)  # seconds without a try of one token, by its failures in a row
GAPS: Final = (0.5, 1.0, 2.0)  # seconds between two tries while all are left alone, likewise
TOKENS: Final = 10_000  # tokens of each kind whose failures are remembered; the oldest goes first
AT_ONCE: Final = 100  # unproven tokens with the provider at a time
DOUBTS: Final = 3  # answers `invalid_request` to one token that refuse it, if another was renewed

_THERE: Final = frozenset((Trouble.THERE, Trouble.DOUBT, Trouble.MISCONFIGURED))


class _Pause(msgspec.Struct, frozen=True):
    """What is remembered of a token that failed; `renewals` were made until its first doubt."""

    failures: int = 0
    ends: float = 0.0
    doubts: int = 0
    renewals: int = 0


class Breaker:
    """Decides for one process. Times are seconds of any clock; keys stand for tokens."""

    def __init__(self) -> None:
        # Those of unproven tokens, and of proven ones.
        self._pauses: tuple[dict[str, _Pause], dict[str, _Pause]] = ({}, {})
        self._unproven: set[str] = set()  # unproven tokens with the provider now
        self._silent: set[str] = set()  # tokens without a response since the last clear one
        self._silent_proven: set[str] = set()  # those of them that are proven
        self._trying: str | None = None
        self._failed_tries = 0
        self._gap_ends = 0.0
        self._renewals = 0

    def __len__(self) -> int:
        """How many tokens are remembered."""
        return sum(map(len, self._pauses))

    def is_open(self, *, is_proven: bool) -> bool:
        """Whether tokens of that kind are tried one at a time only."""
        return len(self._silent_proven if is_proven else self._silent) >= SEVERAL

    def refuses(self, key: str, now: float, *, is_proven: bool) -> str | None:
        """Why a token would not be sent now; None if `begin` would let it."""
        if any(key in pauses and _is_before(now, pauses[key].ends) for pauses in self._pauses):
            return "its last renewal has just failed"
        if not is_proven and len(self._unproven) >= AT_ONCE:
            return "too many others that nobody vouches for are waiting for the provider"
        if self.is_open(is_proven=is_proven):
            if self._trying is not None:
                return "the provider is down; another session is trying it"
            if _is_before(now, self._gap_ends):
                return "the provider is down; it is tried again soon"
        return None

    def begin(self, key: str, now: float, *, is_proven: bool) -> str | None:
        """Why a token is not sent now; None if it is sent, and then `left` follows in any case."""
        why = self.refuses(key, now, is_proven=is_proven)
        if why is not None:
            return why
        if self.is_open(is_proven=is_proven):
            self._trying = key
        if not is_proven:
            self._unproven.add(key)
        return None

    def left(self, key: str) -> None:
        """A try is over, whatever became of it."""
        self._unproven.discard(key)
        if self._trying == key:
            self._trying = None

    def answered(self, key: str, *, is_renewed: bool) -> None:
        """The provider has renewed or refused a token."""
        self._renewals += is_renewed
        self._forget(key)
        self._close()

    def failed(
        self, key: str, began: float, now: float, trouble: Trouble, *, is_proven: bool
    ) -> bool:
        """A token was sent at `began`, and not renewed.

        True: by now that is a refusal of this token.
        """
        pause = self._paused(key, began, now, trouble, is_proven=is_proven)
        if self._trying == key:
            self._gap_ends = _end(GAPS, self._failed_tries, began, now)
            self._failed_tries += 1
        if trouble in _THERE:
            self._close()
        elif trouble is Trouble.AWAY:
            self._note_silence(key, now, is_proven=is_proven)
        return pause.doubts >= DOUBTS and self._renewals > pause.renewals

    def _forget(self, key: str) -> _Pause:
        """Forgets a token, and returns what was remembered of it."""
        found = [pauses.pop(key, None) for pauses in self._pauses]
        return next(filter(None, found), _Pause())

    def _paused(
        self, key: str, began: float, now: float, trouble: Trouble, *, is_proven: bool
    ) -> _Pause:
        before, pauses = self._forget(key), self._pauses[is_proven]
        pause = replace(
            before,
            failures=before.failures + 1,
            ends=_end(PAUSES, before.failures, began, now),
            doubts=before.doubts + (trouble is Trouble.DOUBT),
            renewals=before.renewals if before.doubts else self._renewals,
        )
        pauses[key] = pause
        if len(pauses) > TOKENS:
            del pauses[next(iter(pauses))]
        return pause

    def _note_silence(self, key: str, now: float, *, is_proven: bool) -> None:
        was_open = self.is_open(is_proven=is_proven)
        for silent in (self._silent, self._silent_proven) if is_proven else (self._silent,):
            if len(silent) < SEVERAL:
                silent.add(key)
        if not was_open and self.is_open(is_proven=is_proven):
            self._gap_ends = max(self._gap_ends, now + GAPS[0])

    def _close(self) -> None:
        self._silent.clear()
        self._silent_proven.clear()
        self._trying = None
        self._failed_tries = 0
        self._gap_ends = 0.0


def _end(steps: tuple[float, ...], failures: int, began: float, now: float) -> float:
    """When the next try is due, counted from the beginning of the last one."""
    return max(began + steps[min(failures, len(steps) - 1)], now + steps[0])


def _is_before(now: float, end: float) -> bool:
    """Whether a pause goes on; one that ends impossibly late is of a clock that was set back."""
    return 0 < end - now <= PAUSES[-1]
