"""What a token endpoint's answer means: one way to end a session, many kinds of trouble."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.refresh import (
    AnswerPaths,
    Outcome,
    fill,
    read_http,
    read_oauth2,
    refresh_form,
)
from sidecar.core.tokens import TokenSet

NOW = 1_800_000_000.0
OLD = TokenSet("a0", "r0", NOW - 5, NOW - 65, "id0")
JSON = "application/json"


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = JSON


def answer(status: int, document: Any, content_type: str = JSON) -> Answer:
    return Answer(status, msgspec.json.encode(document), content_type)


def test_what_is_asked() -> None:
    """RFC 6749 6; the client adds itself."""
    assert refresh_form(OLD, None) == {"grant_type": "refresh_token", "refresh_token": "r0"}
    assert refresh_form(OLD, "a b")["scope"] == "a b"


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        (
            {"access_token": "a1", "refresh_token": "r1", "expires_in": 60, "id_token": "id1"},
            TokenSet("a1", "r1", NOW + 60, NOW, "id1"),
        ),
        # No rotation, and no id_token (lessons: fine).
        ({"access_token": "a1", "expires_in": 60}, TokenSet("a1", "r0", NOW + 60, NOW, "id0")),
        ({"access_token": "a1", "refresh_token": ""}, TokenSet("a1", "r0", None, NOW, "id0")),
        ({"access_token": "a1", "expires_in": "60"}, TokenSet("a1", "r0", NOW + 60, NOW, "id0")),
        ({"access_token": "a1", "expires_in": -1}, TokenSet("a1", "r0", None, NOW, "id0")),
        ({"access_token": "a1", "expires_in": True}, TokenSet("a1", "r0", None, NOW, "id0")),
    ],
)
def test_renewed_tokens(document: Any, tokens: TokenSet) -> None:
    renewal = read_oauth2(answer(200, document), OLD, NOW)
    assert (renewal.outcome, renewal.tokens) == (Outcome.RENEWED, tokens)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_invalid_grant_is_the_end(status: int) -> None:
    """RFC 6749 5.2; some providers say it with another 4xx."""
    renewal = read_oauth2(answer(status, {"error": "invalid_grant"}), OLD, NOW)
    assert renewal.outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    "got",
    [
        answer(400, {"error": "invalid_client"}),
        answer(401, {"error": "invalid_client"}),
        answer(400, {"error": "invalid_request"}),
        answer(400, {"error": ["invalid_grant"]}),
        answer(429, {"error": "slow_down"}),
        answer(500, {"error": "invalid_grant"}),
        answer(503, {"error": "temporarily_unavailable"}),
        answer(400, {"error": "invalid_grant"}, "text/html"),
        answer(302, {"access_token": "a1"}),
        answer(200, {"access_token": "a 1"}),
        answer(200, {"access_token": "a\r\nX: y"}),
        answer(200, {"access_token": 7}),
        answer(200, {"access_token": "a1", "refresh_token": "r1\r\nX: y"}),
        answer(200, {"access_token": "a1", "refresh_token": "r€"}),
        answer(200, {}),
        answer(200, [1]),
        answer(200, {"access_token": "a1"}, "text/html"),
        Answer(200, b"<html>"),
        Answer(200, b""),
        Answer(200, b"[" * 100_000),
    ],
)
def test_everything_else_is_trouble(got: Answer) -> None:
    """An outage, a page of something in between, a client that is not set up right: no logout."""
    renewal = read_oauth2(got, OLD, NOW)
    assert renewal.outcome is Outcome.TROUBLE
    assert renewal.tokens is None


@given(st.integers(100, 599), st.binary(max_size=200), st.sampled_from([JSON, "", "text/html"]))
def test_no_answer_is_too_odd(status: int, body: bytes, content_type: str) -> None:
    read_oauth2(Answer(status, body, content_type), OLD, NOW)
    read_http(Answer(status, body, content_type), AnswerPaths(), OLD, NOW)


PATHS = AnswerPaths(("data", "token"), ("data", "refresh"), ("ttl",))


@pytest.mark.parametrize(
    ("got", "outcome"),
    [
        (answer(200, {"data": {"token": "a1", "refresh": "r1"}, "ttl": 60}), Outcome.RENEWED),
        (answer(201, {"data": {"token": "a1"}}), Outcome.RENEWED),
        (answer(200, {"token": "a1"}), Outcome.TROUBLE),
        (answer(200, {"data": []}), Outcome.TROUBLE),
        (answer(400, {}), Outcome.REFUSED),
        (answer(401, {}), Outcome.REFUSED),
        (Answer(401, b"", ""), Outcome.REFUSED),
        (answer(403, {}), Outcome.REFUSED),
        (Answer(403, b"<html>", "text/html; charset=utf-8"), Outcome.TROUBLE),
        (answer(404, {}), Outcome.TROUBLE),
        (answer(429, {}), Outcome.TROUBLE),
        (answer(500, {}), Outcome.TROUBLE),
        (answer(301, {}), Outcome.TROUBLE),
    ],
)
def test_answers_of_an_endpoint_of_ones_own(got: Answer, outcome: Outcome) -> None:
    """A firewall's page says nothing about the token; a missing endpoint neither."""
    assert read_http(got, PATHS, OLD, NOW).outcome is outcome


def test_paths_that_lead_nowhere_keep_what_there_is() -> None:
    document = {"access_token": "a1", "refresh_token": "r1", "expires_in": 5}
    paths = AnswerPaths(refresh_token=None, expires_in=None)
    renewal = read_http(answer(200, document), paths, OLD, NOW)
    assert renewal.tokens == TokenSet("a1", "r0", None, NOW, "id0")


def test_templates_are_filled_in_their_texts_only() -> None:
    template = {
        "t": "{refresh_token}",
        "n": 1,
        "l": ("x {access_token}", None),
        "{refresh_token}": "{}",
    }
    filled = {"t": "r0", "n": 1, "l": ["x a0", None], "{refresh_token}": "{}"}
    assert fill(template, OLD) == filled
