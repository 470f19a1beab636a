"""Answers below 400 whose body says that something has failed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.envelope import EnvelopeRule, FailureRule, StreamWrapper, parse, wrap

CODE = FailureRule(("code",), (0, 200), is_excluding=True)
SUCCESS = FailureRule(("success",), (False,))
RULE = EnvelopeRule(failure=(CODE, SUCCESS))


def wrapped(body: Any, status: int = 200, rule: EnvelopeRule = RULE) -> Any:
    return json.loads(wrap(rule, parse(json.dumps(body).encode()), status, "OK"))


@pytest.mark.parametrize(
    "body",
    [
        {"code": 1001, "message": "sold out", "data": {"left": 0}},
        {"code": "0", "message": "sold out", "data": {"left": 0}},
        {"code": None, "message": "sold out", "data": {"left": 0}},
        {"code": False, "message": "sold out", "data": {"left": 0}},
        {"success": False, "message": "sold out", "data": {"left": 0}},
        {"success": False, "code": 0, "message": "sold out", "data": {"left": 0}},
    ],
)
def test_failure_is_wrapped_as_an_error_and_keeps_its_status(body: Any) -> None:
    assert wrapped(body) == {
        "isError": True,
        "message": "sold out",
        "data": None,
        "status": 200,
        "errorData": {"left": 0},
    }


@pytest.mark.parametrize(
    "body",
    [
        {"code": 0, "data": 1},
        {"code": 200.0, "data": 1},
        {"success": True, "data": 1},
        {"success": 0, "data": 1},
        {"data": 1},
        {"inner": {"code": 5}, "data": 1},
    ],
)
def test_what_no_rule_names_is_a_success(body: Any) -> None:
    """A member that is not there says nothing, and 0 is not false."""
    assert wrapped(body)["isError"] is False


@pytest.mark.parametrize("body", [[{"code": 5}], "code", 5, None])
def test_only_an_object_can_say_that_it_failed(body: Any) -> None:
    """An array may be a list of anything."""
    assert wrapped(body)["isError"] is False


def test_envelope_passes_unchanged() -> None:
    body = {"isError": False, "message": None, "data": 1, "status": 200, "errorData": None}
    rule = EnvelopeRule(failure=(FailureRule(("data",), (1,)),))
    assert wrapped(body, rule=rule) == body


def test_status_below_400_is_no_message() -> None:
    """`OK` would be a strange thing to read of a failure."""
    assert wrapped({"success": False})["message"] == "Unknown error"
    assert wrapped({"success": False})["errorData"] == {"success": False}


def test_paths_lead_inside_and_through_arrays() -> None:
    rule = EnvelopeRule(failure=(FailureRule(("errors", "*", "fatal"), (True,)),))
    assert wrapped({"errors": [{"fatal": False}, {"fatal": True}]}, rule=rule)["isError"] is True
    assert wrapped({"errors": [{"fatal": False}]}, rule=rule)["isError"] is False


@given(
    code=st.sampled_from([0, 200, 7, None]),
    padding=st.integers(0, 400),
    buffer=st.integers(40, 500),
    is_first=st.booleans(),
    size=st.integers(1, 300),
)
def test_stream_says_the_same_as_memory_if_the_buffer_shows_it(
    *, code: int | None, padding: int, buffer: int, is_first: bool, size: int
) -> None:
    """And how the bytes arrive makes no difference."""
    told = {} if code is None else {"code": code}
    content = {"message": "m", "data": ["x" * padding]}
    body = json.dumps({**told, **content} if is_first else {**content, **told}).encode()
    rule = EnvelopeRule(failure=(CODE,), buffer=buffer, data=("data",), error_data=("data",))
    stream = StreamWrapper(rule, 200, "OK")
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    streamed = json.loads(b"".join([*map(stream.feed, parts), stream.finish()]))
    whole = json.loads(wrap(rule, parse(body), 200, "OK"))
    is_seen = is_first or len(body) <= buffer
    if is_seen or not whole["isError"]:
        assert streamed == whole
    assert {name: streamed[name] for name in ("message", "status")} == {
        "message": "m",
        "status": 200,
    }


def test_error_of_a_stream_takes_its_details_from_the_error_path() -> None:
    rule = EnvelopeRule(failure=(CODE,), buffer=64, error_data=("details",))
    body = json.dumps({"code": 9, "details": ["y" * 500], "data": 1}).encode()
    stream = StreamWrapper(rule, 200, "OK")
    told = json.loads(stream.feed(body) + stream.finish())
    assert (told["isError"], told["data"]) == (True, None)
    assert told["errorData"] == ["y" * 500]
