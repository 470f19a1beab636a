"""An envelope is what a plain reading of the specification says, built whole or as a stream."""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.core.envelope import (
    EnvelopeRule,
    FailureRule,
    InvalidJSON,
    StreamWrapper,
    parse,
    wrap,
)
from tests.fuzz.target import Draw, Target
from tests.oracle.envelopes import Sent, expected, parsed

REASON: Final = "Some Phrase"
BUFFERS: Final = (3, 16, 40, 100, 1 << 20)
KINDS: Final = ("application/json", "application/problem+json")
STATUSES: Final = (200, 201, 404, 503)
FAILURES: Final = (
    (),
    (FailureRule(("code",), (0, 200), is_excluding=True),),
    (FailureRule(("success",), (False,)), FailureRule(("a", "b"), ("x", None, 1.5))),
)
DATA: Final = ("data",)
SHAPES: Final = (
    ((), DATA),
    (("meta",), DATA),
    (("a", "result"), DATA),
    (("a", "result"), ("a",)),
    (("a", "result"), ("result",)),
    (("meta",), ("result", "a")),
)
"""What is kept of a body, and where its payload is."""
DEEP: Final = 200  # levels up to which Python's own json is asked


def check(data: bytes) -> None:
    draw = Draw(data)
    status, kind = draw.pick(STATUSES), draw.pick(KINDS)
    buffer, size = draw.pick(BUFFERS), draw.byte() % 32 + 1
    failure = draw.pick(FAILURES)
    keep, path = draw.pick(SHAPES)
    body = draw.rest()
    kept = tuple(name for name in keep if name != path[0])
    rule = EnvelopeRule(buffer=buffer, keep=keep, data=path, error_data=path, failure=failure)
    problem = kind == KINDS[1]
    whole = _whole(rule, body, status, problem=problem)
    streamed = _streamed(rule, body, status, size, problem=problem)
    assert streamed == _streamed(rule, body, status, 1, problem=problem), (
        "the cuts make a difference"
    )
    value = _value(body)
    _is_as_json_says(body, whole, value)
    if len(body) <= buffer:
        assert streamed == whole, "a body that fits is wrapped in one way only"
    is_plain = not (keep or failure) and path == DATA
    if body and is_plain and value is not _TOO_DEEP:
        _is_as_specified(Sent(status, kind, "", body, buffer), streamed)
        _is_as_specified(Sent(status, kind, "", body, len(body)), whole)
    if streamed is not None:
        assert _value(streamed) is not None, "what was completed is no JSON"
        _has_no_member_twice(streamed, body)
    if whole is not None and value is not _TOO_DEEP:
        _has_the_members(whole, value, kept)


def _whole(rule: EnvelopeRule, body: bytes, status: int, *, problem: bool) -> bytes | None:
    try:
        return wrap(rule, parse(body), status, REASON, problem=problem)
    except InvalidJSON:
        return None


def _streamed(
    rule: EnvelopeRule, body: bytes, status: int, size: int, *, problem: bool
) -> bytes | None:
    """What was written, None if it was broken off: then it must not look complete."""
    wrapper = StreamWrapper(rule, status, REASON, problem)
    written = b""
    try:
        for at in range(0, len(body), size):
            written += wrapper.feed(body[at : at + size])
        return written + wrapper.finish()
    except InvalidJSON:
        assert not written or _value(written) in (None, _TOO_DEEP), "a well-formed lie"
        return None


_TOO_DEEP: Final = object()


def _value(text: bytes) -> Any:
    """The value in a list, None if it is no JSON; `_TOO_DEEP` if Python's own json may not tell."""
    if text.count(b"[") + text.count(b"{") > DEEP:
        return _TOO_DEEP
    try:
        return [parsed(text.removeprefix(b"\xef\xbb\xbf"))]
    except ValueError:
        return None


def _is_as_json_says(body: bytes, whole: bytes | None, value: Any) -> None:
    if value is not _TOO_DEEP:
        assert (whole is None) == (value is None), "whether it is JSON is judged in two ways"


def _is_as_specified(sent: Sent, envelope: bytes | None) -> None:
    """By the reference of tests/oracle."""
    wanted = expected(Sent(sent.status, sent.kind, "", _without_mark(sent.body), sent.buffer))
    allowed = [one.envelope for one in wanted.outcomes]
    if envelope is None:
        is_refused = any(isinstance(one, dict) and "code" in one for one in allowed)
        is_text = not _is_json(sent.body)
        assert wanted.may_break or wanted.may_refuse or is_refused or is_text, (sent, allowed)
        return
    assert parsed(envelope.removeprefix(b"\xef\xbb\xbf")) in allowed, (sent, envelope, allowed)


def _without_mark(body: bytes) -> bytes:
    """A mark is not known to the reference; so that places stay, it becomes white space."""
    return b"   " + body[3:] if body.startswith(b"\xef\xbb\xbf") else body


def _is_json(body: bytes) -> bool:
    return _value(body) is not None


def _has_the_members(whole: bytes, value: Any, keep: tuple[str, ...]) -> None:
    """The five, and those that are kept, unless the body was an envelope already."""
    envelope, given = parsed(whole.removeprefix(b"\xef\xbb\xbf")), value[0]
    if envelope == given and isinstance(given, dict) and "isError" in given:
        return
    names = {"isError", "message", "data", "status", "errorData"}
    kept = {name for name in keep if isinstance(given, dict) and name in given}
    assert set(envelope) == names | kept
    assert len(_top_level(whole)) == len(envelope), "a member stands twice"


def _has_no_member_twice(envelope: bytes, body: bytes) -> None:
    """Unless the body is an envelope already, and one stands twice in it."""
    came = _value(body)
    if came is not _TOO_DEEP and _value(envelope) != came:
        names = _top_level(envelope)
        assert len(names) == len(set(names)), "a member stands twice"


def _top_level(text: bytes) -> list[str]:
    """The names of a JSON object's members, each as often as it stands there."""
    pairs = json.loads(text.removeprefix(b"\xef\xbb\xbf"), object_pairs_hook=list)
    return [name for name, _ in pairs]


TARGET: Final = Target(
    check,
    words=[
        *(json.dumps(name).encode() + b":" for name in ("data", "message", "isError", "status")),
        *(
            b'"errorData":',
            b'"meta":',
            b'"code":',
            b'"success":',
            b'"detail":',
            b'"title":',
            b'"a":',
        ),
        *(b"true", b"false", b"null", b"0", b"-0.0e5", b"1e400", b'""', b'"m"', b"{}", b"[]", b","),
        *(
            b'"\\ud800"',
            b'"\\u0064ata":',
            b"\\ud83d\\ude00",
            b"\\u0000",
            b"\xc3\xa9",
            b"\xef\xbb\xbf",
        ),
        *(b"NaN", b"Infinity", b"\xed\xa0\x80", b"\xc0\xaf", b" \r\n\t", b"\x0b", b"/**/", b"'"),
    ],
    seeds=[
        bytes(6) + b'{"data":{"a":1},"message":"m"}',
        bytes([2, 1, 1, 3, 0, 0]) + b'{"detail":"d","title":"t","data":[1,2,3,4,5,6,7,8,9]}',
        bytes([0, 0, 1, 7, 1, 1]) + b'{"code":1,"message":"failed","meta":{"b":[true,null]}}',
        bytes([0, 0, 0, 2, 2, 0]) + b'[{"success":false},"\xc3\xa9\\ud83d\\ude00"]',
        bytes([0, 0, 3, 5, 0, 0])
        + b'{"isError":false,"message":null,"data":1,"status":200,"errorData":null}',
        bytes([0, 0, 2, 5, 0, 0])
        + b'{"isError":false,"message":"m","data":"012345678","status":200,"errorData":null,"":1}',
        bytes([0, 0, 2, 5, 0, 0])
        + b'{"data":"0123456789","errorData":null,"isError":false,"message":"","status":0,"a":1}',
        bytes([0, 0, 2, 5, 0, 0])
        + b'{"isError":false,"message":"m","data":"012345678","traceId":"t","errorData":null}',
    ],
    longest=1024,
)
