"""One request, one identity: what is wrong with what came of a talk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.oracle.api import CLOSE_FRAME, Sight, said_by
from tests.oracle.history import ALL, Ask

if TYPE_CHECKING:
    from tests.oracle.answers import Answer
    from tests.oracle.player import Played
    from tests.oracle.users import User
    from tests.oracle.wording import Worded

_REQUEST_ID: Final = re.compile(rb'"requestId": ?"[^"]*"|Request <code>[^<]*')
_MAY_DIFFER: Final = frozenset(
    ("date", "x-request-id", "connection", "transfer-encoding", "set-cookie", "expires")
)


@dataclass(frozen=True, slots=True)
class Step:
    """An ask as it was played: by whom, in which words, and whether the session was alive."""

    ask: Ask
    whose: User
    words: Worded
    is_alive: bool

    @property
    def reaches(self) -> bool:
        """Whether the upstream is to see it."""
        need = ALL[self.ask.kind].need
        return need == "optional" or (need == "required" and self.is_alive)

    @property
    def sight(self) -> Sight:
        """What the upstream is to see, of which each request has its own."""
        is_page = ALL[self.ask.kind].path.startswith("/page")
        token = self.whose.token if self.is_alive else ""
        is_early = self.ask.kind == "early"
        return Sight(
            self.words.nonce,
            ALL[self.ask.kind].method,
            f"Bearer {token}" if token and not is_page else "none",
            token if token and is_page else "none",
            -1 if is_early else len(self.words.body),
            "" if is_early else self.words.sha,
        )

    @property
    def may_close(self) -> bool:
        """Whether the connection may end behind its answer.

        So it may where the body is not waited for: the request is refused by its head.
        """
        kind = ALL[self.ask.kind]
        return kind.may_close or kind.is_last or (kind.framing != "" and not self.reaches)


def steps(asks: Sequence[Ask], users: Sequence[User], words: Sequence[Worded]) -> list[Step]:
    """The asks of a talk, which are served in turn: a logout is over before the next begins."""
    dead: set[int] = set()
    result = []
    for ask, worded in zip(asks, words, strict=True):
        whose = users[ask.user]
        result.append(Step(ask, whose, worded, whose.kind != "nobody" and ask.user not in dead))
        if ALL[ask.kind].kills:
            dead.add(ask.user)
    return result


Normal = tuple[int, tuple[tuple[str, str], ...], bytes]


def normal(step: Step, answer: Answer) -> Normal:
    """An answer without what is the request's own, or may differ from time to time."""
    fields = [
        (name, _blurred(value.encode("latin-1"), step).decode("latin-1"))
        for name, value in answer.fields
        if name not in _MAY_DIFFER
    ]
    fields += sorted(
        (name, value.partition("=")[0]) for name, value in answer.fields if name == "set-cookie"
    )
    if step.whose.kind == "renewing":  # only some of the answers hand the renewed session over
        varied = ("set-cookie", "cache-control")
        fields = [(name, value) for name, value in fields if name not in varied]
    return answer.status, tuple(fields), _blurred(answer.body, step)


def _blurred(data: bytes, step: Step) -> bytes:
    for own in (step.words.nonce, step.whose.token or "-", step.words.sha):
        data = data.replace(own.encode(), b"*")
    data = re.sub(rb"ticket=[^&]*", b"ticket=*", data)
    data = re.sub(rb'"sha": ?"[^"]*"', b"", data)
    return _REQUEST_ID.sub(b"", data)


def faults_of(
    played: Played,
    wanted: Sequence[Step],
    plain: Sequence[Normal | None],
    sights: Sequence[Sequence[Sight]],
) -> list[str]:
    """What is wrong, in words; empty for a talk that went right.

    `plain` are the answers that the same requests get alone, `sights` what the upstream saw of
    each.
    """
    faults = [played.trouble] if played.trouble else []
    answers = played.answers
    for index, (step, answer) in enumerate(zip(wanted, answers, strict=False)):
        faults += [f"{index} {step.ask}: {why}" for why in _answer_faults(step, answer)]
        expected = plain[index]
        got = normal(step, answer)
        if expected is not None and got != expected:
            faults.append(f"{index} {step.ask}: {got} but alone {expected}")
    for index, (step, seen) in enumerate(zip(wanted, sights, strict=True)):
        is_seen = step.reaches and index < len(answers)
        if step.ask.kind == "early" and index < len(answers):
            is_seen = step.reaches
        if list(seen) != [step.sight] * is_seen:
            faults.append(f"{index} {step.ask}: the upstream saw {list(seen)}")
    return faults + _end_faults(played, wanted)


def _answer_faults(step: Step, answer: Answer) -> list[str]:
    faults = []
    nonce = answer.get("x-nonce")
    if nonce is not None:
        sight = step.sight
        got = (nonce, answer.get("x-authorization"), answer.get("x-token"))
        if got != (sight.nonce, sight.authorization, sight.token):
            faults.append(f"answer of {got}")
    if step.ask.look == 2 and ALL[step.ask.kind].framing != "malformed":
        given = answer.get("x-request-id")
        if given != step.words.nonce:
            faults.append(f"request id {given}")
    if answer.interim and not ("expect" in step.ask.kind and answer.interim == (100,)):
        faults.append(f"interim answers {answer.interim}")
    return faults


def _end_faults(played: Played, wanted: Sequence[Step]) -> list[str]:
    answers = played.answers
    faults = []
    last = wanted[len(answers) - 1] if answers else None
    if len(answers) < len(wanted):
        closes = last is not None and last.may_close and answers[-1].get("connection") == "close"
        if not closes or played.is_inside:
            faults.append(f"{len(answers)} answers, {len(wanted)} requests")
    if played.is_switched and last is not None:
        told = said_by(last.sight)
        frames = bytes((0x81, 126)) + len(told).to_bytes(2) + told + CLOSE_FRAME
        if played.tail != frames:
            faults.append(f"the WebSocket said {played.tail!r}")
    elif played.tail and not played.trouble:
        faults.append(f"behind the last answer {played.tail[:200]!r}")
    is_complete = len(answers) == len(wanted)
    if is_complete and played.has_ended and last is not None and not last.may_close:
        faults.append("the connection has ended")
    return faults
