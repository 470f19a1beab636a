"""What an administrator may ask to end, and what several processes say together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.end_request import (
    BadEndRequest,
    EndRequest,
    EndResult,
    all_together,
    read_end_request,
    read_end_result,
)

FINGERPRINT = "abcdefghijklmnopqrst-_"


@pytest.mark.parametrize(
    "asked",
    [
        EndRequest(sub="alice"),
        EndRequest(sub="x" * 255, issuer="https://idp"),
        EndRequest(sid="s"),
        EndRequest(email="Alice@Example.com"),
        EndRequest(fingerprint=FINGERPRINT, known_only=True),
    ],
)
def test_request_is_read_as_it_was_written(asked: EndRequest) -> None:
    assert read_end_request(json.dumps(asked.as_json()).encode()) == asked
    assert "alice" not in repr(asked).lower()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ({}, "must be a JSON object with one of"),
        ({"sub": "a", "sid": "b"}, "with one of"),
        ({"user": "a"}, "unknown member"),
        ({"sub": ""}, "sub: must be text"),
        ({"sub": 7}, "sub: must be text"),
        ({"sub": "x" * 256}, "at most 255"),
        ({"email": "alice"}, "email: must be a mail address"),
        ({"email": "alice@"}, "email: must be a mail address"),
        ({"email": "@example.com"}, "email: must be a mail address"),
        ({"email": "a@b", "sub": "a"}, "with one of"),
        ({"email": "a" * 250 + "@b.example"}, "at most 255"),
        ({"fingerprint": "short"}, "the 22 characters that the log has"),
        ({"fingerprint": FINGERPRINT + "\n"}, "the 22 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused(body: Any, words: str) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(BadEndRequest) as caught:
        read_end_request(text.encode())
    assert words in str(caught.value)


def test_several_processes_are_one() -> None:
    """Done if one of them could; what each has ended is added up."""
    failed = EndResult(result="failed", reason="the store: gone")
    done = all_together([failed, EndResult(2), EndResult(1, is_known=False)])
    assert done == EndResult(3)
    assert all_together([failed, failed]) == failed
    assert all_together([]).reason == "no worker answers"
    for one in (failed, done, EndResult(0, is_known=False)):
        assert read_end_result(json.dumps(one.as_json()).encode()) == replace_known(one)


def replace_known(one: EndResult) -> EndResult:
    """A result that is not done says nothing of what is known."""
    return one if one.reason is None else EndResult(one.ended, False, one.result, one.reason)


def test_words_for_people() -> None:
    assert EndResult(2).in_words() == "2 ended"
    assert EndResult().in_words() == "none was alive"
    assert "refused if it is presented" in EndResult(is_known=False).in_words()
    assert EndResult(1, result="failed", reason="x").in_words() == "failed: x (1 ended before)"
