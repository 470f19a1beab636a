"""What a token endpoint's answer means: one way to end a session, many kinds of trouble."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.token_response import (
    AnswerPaths,
    Outcome,
    Trouble,
    fill,
    read_http,
    read_oauth2,
    refresh_form,
)
from sidecar.core.token_set import TokenSet

NOW = 1_800_000_000.0
OLD = TokenSet("a0", "r0", NOW - 5, NOW - 65, "id0")
JSON = "application/json"
PATHS = AnswerPaths(("data", "token"), ("data", "refresh"), ("ttl",))


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
        # No rotation, and no id_token: fine.
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


REFUSALS = [
    "invalid_grant",
    "interaction_required",
    "login_required",
    "consent_required",
    "account_selection_required",
    "bad_refresh_token",
    "token_inactive",
    "invalid_refresh_token",
    "token_expired",
    "token_revoked",
]
CLIENT_FAULTS = [
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
]


@pytest.mark.parametrize("status", [200, 201, 203, 299])
def test_tokens_count_in_every_success(status: int) -> None:
    """Frameworks answer a POST by 201, and the old token may be spent then."""
    renewal = read_oauth2(answer(status, {"access_token": "a1", "refresh_token": "r1"}), OLD, NOW)
    assert renewal.outcome is Outcome.RENEWED


@pytest.mark.parametrize("status", [200, 201, 400, 401, 403, 404, 429])
@pytest.mark.parametrize("error", REFUSALS)
def test_clear_refusal_is_the_end_in_whatever_status(status: int, error: str) -> None:
    """RFC 6749 5.2, and what others say in its place."""
    got = answer(status, {"error": error})
    for renewal in (read_oauth2(got, OLD, NOW), read_http(got, PATHS, OLD, NOW)):
        assert renewal.outcome is Outcome.REFUSED
        assert error in renewal.why


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("error", CLIENT_FAULTS)
def test_fault_of_the_clients_configuration_ends_no_session(status: int, error: str) -> None:
    """No user has spoiled it, and the administrator reads its name."""
    got = answer(status, {"error": error})
    for renewal in (read_oauth2(got, OLD, NOW), read_http(got, PATHS, OLD, NOW)):
        assert (renewal.outcome, renewal.trouble) == (Outcome.TROUBLE, Trouble.MISCONFIGURED)
        assert error in renewal.why


@pytest.mark.parametrize(
    ("got", "trouble"),
    [
        (answer(500, {"error": "invalid_grant"}), Trouble.AWAY),
        (answer(503, {}), Trouble.AWAY),
        (answer(400, {"error": "invalid_request"}), Trouble.DOUBT),
        (answer(400, {"error": "something_else"}), Trouble.THERE),
        (answer(400, {"error": "temporarily_unavailable"}), Trouble.UNCLEAR),
        (answer(429, {"error": "over_quota"}), Trouble.UNCLEAR),
        (answer(400, {}), Trouble.UNCLEAR),
        (answer(200, {}), Trouble.UNCLEAR),
        (answer(200, {"access_token": "a1"}, "text/html"), Trouble.UNCLEAR),
    ],
)
def test_what_trouble_says_about_the_provider(got: Answer, trouble: Trouble) -> None:
    """No answer or 5xx may concern all; an answer to this one token concerns it alone."""
    renewal = read_oauth2(got, OLD, NOW)
    assert (renewal.outcome, renewal.trouble) == (Outcome.TROUBLE, trouble)


@pytest.mark.parametrize(
    ("description", "is_refused"),
    [
        ("Refresh token is invalid or has already been claimed by another client.", True),
        ("Refresh token expired.", True),
        ("the refresh_token has been revoked", True),
        ("No refresh token is found in request.", False),
        ("Missing parameter: refresh_token", False),
        ("Requested scopes contain unauthorized scope(s).", False),
        ("Invalid request: refresh token", False),
        ("x" * 1000 + " refresh token expired", False),
        (["refresh token expired"], False),
        (None, False),
    ],
)
def test_invalid_request_that_is_about_the_refresh_token_refuses_it(
    description: object, is_refused: bool
) -> None:
    """Dex says so after a second login elsewhere; what is about the form is no refusal."""
    said = {"error": "invalid_request", "error_description": description}
    renewal = read_oauth2(answer(400, said), OLD, NOW)
    assert (renewal.outcome is Outcome.REFUSED) is is_refused
    assert renewal.trouble is (Trouble.UNCLEAR if is_refused else Trouble.DOUBT)
    assert "expired" not in renewal.why, "a description may repeat the token"


@pytest.mark.parametrize(
    "error", ["eyJhbGciOiJub25lIn0", "r0-secret", "x" * 41, "a\nb", "Invalid Grant", ""]
)
def test_error_that_is_no_code_is_not_logged(error: str) -> None:
    """A provider may repeat the token there."""
    renewal = read_oauth2(answer(400, {"error": error}), OLD, NOW)
    assert renewal.why == "expected tokens, got status 400, an unknown error"


def test_tokens_beside_an_error_member_are_taken() -> None:
    """As of an endpoint that always sends the member."""
    got = answer(200, {"access_token": "a1", "error": "", "expires_in": 60})
    assert read_oauth2(got, OLD, NOW).outcome is Outcome.RENEWED


@pytest.mark.parametrize(
    "got",
    [
        answer(400, {"error": "invalid_client"}),
        answer(401, {"error": "invalid_client"}),
        answer(400, {"error": "invalid_request"}),
        answer(400, {"error": ["invalid_grant"]}),
        answer(500, {"error": "login_required"}),
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
        (Answer(401, b"Unauthorized", "text/html; charset=utf-8"), Outcome.REFUSED),
        (Answer(410, b"<html>", "text/html"), Outcome.REFUSED),
        (Answer(422, b"<html>", "text/html"), Outcome.REFUSED),
        (Answer(400, b"<html>", "text/html"), Outcome.TROUBLE),
        (Answer(409, b"<html>", "text/html"), Outcome.TROUBLE),
        (answer(403, {}), Outcome.REFUSED),
        (Answer(403, b"<html>", "text/html; charset=utf-8"), Outcome.TROUBLE),
        (answer(404, {}), Outcome.REFUSED),
        (answer(409, {}), Outcome.REFUSED),
        (answer(410, {}), Outcome.REFUSED),
        (answer(422, {}), Outcome.REFUSED),
        (answer(422, {"error": {"code": "x"}}), Outcome.REFUSED),
        (Answer(404, b"<html>", "text/html"), Outcome.TROUBLE),
        (answer(405, {}), Outcome.TROUBLE),
        (answer(429, {}), Outcome.TROUBLE),
        (answer(500, {}), Outcome.TROUBLE),
        (answer(301, {}), Outcome.TROUBLE),
    ],
)
def test_answers_of_an_endpoint_of_ones_own(got: Answer, outcome: Outcome) -> None:
    """A page of a firewall or a web server says nothing about the token.

    With 401, 410 and 422 it is the endpoint's own: frameworks send text as HTML.
    """
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
