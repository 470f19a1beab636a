"""Which source's word counts, and which characters may reach a header."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cookies import CookieJar
from sidecar.core.credential import Reading, Result, is_b64token, read_credential

JAR = CookieJar.parse("a=b")


@dataclass
class Fixed:
    """A source that always reads the same."""

    type: str
    result: Result
    base_names: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()

    def readings(self, jar: CookieJar, now: float) -> Iterator[Reading]:
        if self.result is not Result.NO_SESSION:
            token = "at" if self.result is Result.OK else None
            yield Reading(self.result, source=self.type, token=token)


def ask(*results: Result) -> tuple[Result, str | None]:
    sources = [Fixed(str(number), result) for number, result in enumerate(results)]
    reading = read_credential(sources, JAR, 0)
    return reading.result, reading.source


def test_the_six_results_are_the_documented_ones() -> None:
    words = {"ok", "no_session", "expired", "invalid", "token_missing", "bad_token"}
    assert set(Result) == words


def test_the_first_ok_wins_and_nobody_is_asked_after_it() -> None:
    assert ask(Result.BAD_TOKEN, Result.OK, Result.OK) == ("ok", "1")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ((), ("no_session", None)),
        ((Result.NO_SESSION, Result.NO_SESSION), ("no_session", None)),
        ((Result.NO_SESSION, Result.INVALID), ("invalid", "1")),
        ((Result.INVALID, Result.NO_SESSION), ("invalid", "0")),
        ((Result.INVALID, Result.INVALID), ("invalid", "0")),
        ((Result.INVALID, Result.EXPIRED), ("expired", "1")),
        ((Result.TOKEN_MISSING, Result.EXPIRED), ("token_missing", "0")),
        ((Result.TOKEN_MISSING, Result.BAD_TOKEN), ("bad_token", "1")),
    ],
)
def test_the_most_telling_failure_is_reported(
    results: tuple[Result, ...], expected: tuple[str, str | None]
) -> None:
    assert ask(*results) == expected


def test_nothing_asked_still_tells_the_headers_size() -> None:
    assert read_credential([], JAR, 0).header_bytes == 3


def test_a_repr_does_not_show_the_token() -> None:
    assert "canary" not in repr(Reading(Result.OK, token="canary"))


@given(st.text() | st.text(string.printable))
def test_b64token_is_the_grammar_of_rfc_6750(text: str) -> None:
    body = text.rstrip("=")
    allowed = set(string.ascii_letters + string.digits + "-._~+/")
    assert is_b64token(text) == (body != "" and set(body) <= allowed)
    if is_b64token(text):
        assert re.search(r"[\x00-\x20\x7f-\U0010ffff,;]", text) is None
