"""The streamed envelope: the same meaning as the one in memory, and never a well-formed lie."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.envelope import EnvelopeRule, InvalidJSON, StreamWrapper, parse, wrap

SMALL = EnvelopeRule(buffer=16)
FIVE = ["isError", "message", "data", "status", "errorData"]
LONG = b'"%b"' % (b"x" * 70_000)  # longer than what is held beyond the buffer

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=12)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)
objects = st.lists(
    st.tuples(st.sampled_from(["data", "message", "a", "b\u00e9", "isError", "status"]), values),
    max_size=6,
    unique_by=lambda member: member[0],
)


def in_chunks(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def stream(
    chunks: Iterable[bytes],
    rule: EnvelopeRule = SMALL,
    status: int = 200,
    *,
    problem: bool = False,
) -> bytes:
    wrapper = StreamWrapper(rule, status, "Reason", problem=problem)
    return b"".join([*(wrapper.feed(chunk) for chunk in chunks), wrapper.finish()])


def broken_off(body: bytes, size: int, rule: EnvelopeRule = SMALL, status: int = 200) -> bytes:
    """What was written until the wrapper refused; fails if it did not."""
    wrapper = StreamWrapper(rule, status, "Reason")
    written = b""
    with pytest.raises(InvalidJSON):  # noqa: PT012 - what came before the error matters
        for chunk in in_chunks(body, size):
            written += wrapper.feed(chunk)
        wrapper.finish()
    return written


def is_complete(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def spelled(members: list[tuple[str, Any]]) -> tuple[bytes, dict[str, int]]:
    """An object's text, and where each value begins."""
    text = b"{"
    starts: dict[str, int] = {}
    for name, value in members:
        text += (b", " if starts else b"") + json.dumps(name).encode() + b": "
        starts[name] = len(text)
        text += json.dumps(value, ensure_ascii=False).encode()
    return text + b"}", starts


@given(objects, st.integers(3, 60), st.integers(1, 40), st.sampled_from([200, 404]))
def test_an_object_is_wrapped_by_the_streams_rule(
    members: list[tuple[str, Any]], buffer: int, size: int, status: int
) -> None:
    """`data` counts if it begins in the buffer; `message` then anywhere, else in the buffer too."""
    text, starts = spelled(members)
    rule = EnvelopeRule(buffer=buffer)
    envelope = stream(in_chunks(text, size), rule, status)
    if len(text) <= buffer:
        assert envelope == wrap(rule, parse(text), status, "Reason")
        return
    whole = dict(members)
    in_buffer = {name: whole[name] for name in starts if starts[name] < buffer}
    message = (whole if "data" in in_buffer else in_buffer).get("message")
    if isinstance(message, (str, int)) and not message:
        message = None
    payload = in_buffer.get("data", whole) if "data" in in_buffer else whole
    error = status >= 400
    assert json.loads(envelope) == {
        "isError": error,
        "message": "Reason" if error and message is None else message,
        "data": None if error else payload,
        "status": status,
        "errorData": payload if error else None,
    }


@given(values, st.integers(3, 30), st.integers(1, 20), st.sampled_from(["", " \n"]))
def test_what_is_no_object_is_the_payload(value: Any, buffer: int, size: int, space: str) -> None:
    text = (space + json.dumps([value]) + space).encode()
    envelope = stream(in_chunks(text, size), EnvelopeRule(buffer=buffer))
    assert json.loads(envelope) == dict(zip(FIVE, [False, None, [value], 200, None], strict=True))


@given(objects, st.integers(1, 30), st.integers(0, 10**6), st.sampled_from([200, 404]))
def test_what_breaks_off_is_never_complete(
    members: list[tuple[str, Any]], size: int, cut: int, status: int
) -> None:
    """A body cut anywhere is refused, and nothing written before is a complete JSON text."""
    text, _ = spelled([*members, ("end", "of the object")])
    assert not is_complete(broken_off(text[: cut % len(text)], size, status=status))


TRUNCATED = [
    b'{"data":[{"a":1},{"a":"\\u00e9"}],"message":"m\xc3\xa9","x":1}',
    b'{"a":{"b":[1,2,3]},"data":1,"message":"m","c":"d"}\n',
    b'[[1,2,3],[4,5,6],{"a":"bcdefgh"}]',
    b'{"isError":false,"message":"m","data":{"a":1},"status":200,"errorData":null}',
]


@pytest.mark.parametrize("text", TRUNCATED)
@pytest.mark.parametrize("buffer", [3, 20, 66])
@pytest.mark.parametrize("size", [1, 1000])
def test_every_cut_is_told(text: bytes, buffer: int, size: int) -> None:
    """At every position, with every way of writing, envelopes that pass unchanged included."""
    rule = EnvelopeRule(buffer=buffer)
    for cut in range(len(text.rstrip())):
        assert not is_complete(broken_off(text[:cut], size, rule))


SNIPPETS = [bytes([byte]) for byte in b'{}[]",:\\ \n01.-eu\x00\xff\xc3']


@given(
    objects,
    st.tuples(st.integers(0, 10**6), st.sampled_from(SNIPPETS), st.integers(0, 1)),
    st.integers(1, 30),
    st.integers(3, 40),
)
def test_damage_is_told(
    members: list[tuple[str, Any]], edit: tuple[int, bytes, int], size: int, buffer: int
) -> None:
    """What strict parsing refuses is refused here, before anything complete was written."""
    text, _ = spelled(members)
    position, byte, deleted = edit
    at = position % (len(text) + 1)
    text = text[:at] + byte + text[at + deleted :]
    rule = EnvelopeRule(buffer=buffer)
    try:
        parse(text)
    except InvalidJSON:
        assert not is_complete(broken_off(text, size, rule))
    else:
        _assert_valid_or_ambiguous(text, size, rule)


def _assert_valid_or_ambiguous(text: bytes, size: int, rule: EnvelopeRule) -> None:
    pairs: list[str] = []
    json.loads(text, object_pairs_hook=lambda found: pairs.extend(name for name, _ in found))
    if len(pairs) == len(set(pairs)):
        assert set(json.loads(stream(in_chunks(text, size), rule))) == set(FIVE)


@pytest.mark.parametrize("behind", [b"}", b"]", b" 1", b"x", b"\x00", b"\xff", b",", b"\n{}"])
@pytest.mark.parametrize("text", TRUNCATED)
def test_what_follows_the_text_breaks_it_off(text: bytes, behind: bytes) -> None:
    """The closing brace is not written before the whole body is known to be valid."""
    for size in (1, 1000):
        for buffer in (3, len(text)):
            assert not is_complete(broken_off(text + behind, size, EnvelopeRule(buffer=buffer)))


@pytest.mark.parametrize(
    ("body", "written"),
    [
        (
            b'{"data":[1, 2.50],"other":"long enough"}',
            b'{"isError":false,"data":[1, 2.50],"message":null,"status":200,"errorData":null}',
        ),
        (
            b'{"data":[1, 2.50],"message":"known late"}',
            b'{"isError":false,"data":[1, 2.50],"message":"known late","status":200,'
            b'"errorData":null}',
        ),
        (
            b'{"message":"m","data" : "0123456789"}',
            b'{"isError":false,"message":"m","data":"0123456789","status":200,"errorData":null}',
        ),
        (
            b'{"message":"","data":"0123456789abc"}',
            b'{"isError":false,"data":"0123456789abc","message":null,"status":200,'
            b'"errorData":null}',
        ),
        (
            b'{"a":"0123456789ab","data":1,"message":"m"}',
            b'{"isError":false,"message":null,"data":{"a":"0123456789ab","data":1,"message":"m"},'
            b'"status":200,"errorData":null}',
        ),
        (
            b'{"message":"begun in the buffer","data":1}',
            b'{"isError":false,"data":{"message":"begun in the buffer","data":1},'
            b'"message":"begun in the buffer","status":200,"errorData":null}',
        ),
        (
            b'{"d\\u0061ta":"0123456789","data2":1}',
            b'{"isError":false,"data":"0123456789","message":null,"status":200,"errorData":null}',
        ),
        (
            b'{"data":1,"data":"0123456789","b":2}',
            b'{"isError":false,"data":"0123456789","message":null,"status":200,"errorData":null}',
        ),
        (
            b'{"data":"\\ud800 is kept \\u0041s it is"}',
            b'{"isError":false,"data":"\\ud800 is kept \\u0041s it is","message":null,'
            b'"status":200,"errorData":null}',
        ),
        (
            b"12345678901234567890.12345678901234567890",
            b'{"isError":false,"message":null,"data":12345678901234567890.12345678901234567890,'
            b'"status":200,"errorData":null}',
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_members_are_written_as_they_are_known(body: bytes, written: bytes, size: int) -> None:
    """Message in front where it is known, else behind; the upstream's own bytes in any case."""
    assert stream(in_chunks(body, size), EnvelopeRule(buffer=26)) == written


def test_errors_are_written_likewise() -> None:
    body = b'{"data":{"field":"name"},"message":"late"}'
    assert stream([body], status=422) == (
        b'{"isError":true,"data":null,"status":422,"errorData":{"field":"name"},"message":"late"}'
    )
    assert stream([b'{"x":"0123456789abcdef"}'], status=422) == (
        b'{"isError":true,"message":"Reason","data":null,"status":422,'
        b'"errorData":{"x":"0123456789abcdef"}}'
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"detail":"d","title":"0123456789"}', "d"),
        (b'{"title":"t","x":"0123456789","detail":"d"}', "t"),
        (b'{"data":1,"title":"0123456789","detail":"d"}', "d"),
        (b'{"title":"t","data":"0123456789"}', "t"),
    ],
)
def test_problem_details_stand_in_for_a_message(body: bytes, message: str) -> None:
    """`detail`, then `title`, of those that count."""
    assert json.loads(stream([body], status=400, problem=True))["message"] == message
    assert json.loads(stream([body], status=400))["message"] == "Reason"


@given(st.integers(1, 50), st.integers(3, 200), values)
def test_a_byte_order_mark_is_taken_off(size: int, buffer: int, value: Any) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"data": value}).encode()
    envelope = stream(in_chunks(body, size), EnvelopeRule(buffer=buffer))
    assert b"\xef\xbb\xbf" not in envelope
    assert set(json.loads(envelope)) == set(FIVE)


def test_nothing_is_written_before_the_buffer_is_full() -> None:
    """So an early error can still become an answer of its own."""
    wrapper = StreamWrapper(EnvelopeRule(buffer=20), 200, "OK")
    assert wrapper.feed(b'{"data":"0123456789') == b""
    assert wrapper.feed(b"a") == b""
    assert wrapper.feed(b"b") == b'{"isError":false,"data":"0123456789ab'


ENVELOPE = b'{ "isError":%b,"status":1,"message":"","errorData":null,"data":[1,2,{"a":3}],"x":1}'


@pytest.mark.parametrize("is_error", [b"true", b"false"])
@pytest.mark.parametrize("size", [1, 9, 1000])
@pytest.mark.parametrize("space", [b"", b" \n\t"])
def test_an_envelope_passes_unchanged(is_error: bytes, size: int, space: bytes) -> None:
    """If its five members have begun within the buffer, whatever the status says."""
    body = ENVELOPE % is_error
    for status in (200, 500):
        rule = EnvelopeRule(buffer=70)
        assert stream(in_chunks(body + space, size), rule, status) == body


BEFORE = b'{"isError":%b,"message":"%b","data":[1,2,3,4,5,6]'


@pytest.mark.parametrize("body", [ENVELOPE[2:] % b"false", ENVELOPE[2:] % b"true"])
@pytest.mark.parametrize("status", [200, 500])
def test_the_last_of_its_isError_counts(body: bytes, status: int) -> None:  # noqa: N802
    """It passes while that is a boolean, and else a short one is wrapped."""
    rule = EnvelopeRule(buffer=70)
    for size in (1, 1000):
        same, other = (b"{ " + body[:-1] + b',"isErr\\u006fr":%b}' % one for one in (b"true", b"0"))
        assert stream(in_chunks(same, size), rule, status) == same
        assert not is_complete(broken_off(other, size, rule, status))


@pytest.mark.parametrize(
    "body",
    [
        BEFORE % (b"false", b"m") + b',"status":200,"errorData":null}',
        BEFORE % (b"false", b"m") + b',"status":0,"errorData":null,"pagination":{ "next":2},"":1}',
        BEFORE.replace(b'"%b"', b"null") % b"false" + b',"status":"x","errorData":{"a": 1}}',
        BEFORE % (b"true", b"m") + b',"isError":false,"status":200,"errorData":null}',
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_envelope_in_its_own_order_keeps_it(body: bytes, size: int) -> None:
    """Though `status` and `errorData` stand behind the data, and others behind them."""
    rule = EnvelopeRule(buffer=body.index(b"[1,2") + 5)
    body = body.replace(b"true", b"false").replace(b'"isError":false,"status"', b'"status"')
    assert stream(in_chunks(body, size), rule) == body


MORE = b'"x":[1, {"status":5}],"t\\u006ftal":7 , "meta":1.0'


@pytest.mark.parametrize("kept", [(), ("meta",), ("x", "none")])
@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[1,2,3,4,5,6,7],"errorData":null,"isError":false,"message":null,"status":200}',
        b'{"data":[1,2,3,4,5,6,7],"errorData":{"a":1},"isError":false,"message":"","status":0}',
        b'{"message":"","data":[1,2,3,4,5,6],"status":0,"errorData":1,"isError":false}',
        b'{"message":"m","data":[1,2,3,4,5,6],"status":"x","errorData":1,"isError":false}',
        BEFORE % (b"false", b"m") + b',"status":0,%b,"errorData":{"a":1} }' % MORE,
        BEFORE % (b"false", b"") + b',"errorData":null,"status":200,%b,"y":0,"y":1}' % MORE,
        b'{ %b, "isError":false,"data":[1,2,3,4],"message":0,"status":1,"errorData":0}' % MORE,
        b'{"%b":1,' % (b"n" * 60_000)
        + BEFORE[1:] % (b"false", b"")
        + b',"status":1,"errorData":0}',
        BEFORE % (b"false", b"m") + b',"status":1,"errorData":"%b"}' % (b"x" * 60_000),
        BEFORE % (b"false", b"m") + b',"status":1,"errorData":1,"a":"%b"}' % (b"x" * 60_000),
    ],
)
def test_an_envelope_that_is_recognised_late_says_what_it_said(
    body: bytes, kept: tuple[str, ...]
) -> None:
    """Such as one with sorted keys; its members may stand in another order."""
    rule = EnvelopeRule(buffer=body.index(b"[1,2") + 1, keep=kept)
    assert parse(body).is_envelope
    for size in (1, 7, 1000) if len(body) < 1000 else (999, 100_000):
        envelope = stream(in_chunks(body, size), rule)
        assert json.loads(envelope) == json.loads(body)


SORTED = b'{"data":[1,2,3,4,5,6,7],"errorData":%b,"isError":%b,"message":"m","status":200%b}'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (SORTED % (b"null", b"true", b""), 200),
        (SORTED % (b"null", b"false", b',"total":%b' % LONG), 200),
        (b'{"%b":1,' % (b"n" * 70_000) + SORTED[1:] % (b"null", b"false", b""), 200),
        (b'{"a":1,"b":%b,' % LONG + SORTED[1:] % (b"null", b"false", b""), 200),
        (SORTED % (LONG, b"false", b""), 200),
        (SORTED % (b"null", b"false", b""), 422),
        (BEFORE % (b"true", b"m") + b',"status":200,"errorData":null}', 200),
        (BEFORE % (b"true", b"m") + b',"status":422,"errorData":null}', 422),
        (BEFORE % (b"false", b"m") + b',"isError":true,"status":200,"errorData":null}', 200),
    ],
)
@pytest.mark.parametrize("size", [7, 100_000])
def test_an_envelope_recognised_too_late_is_broken_off(body: bytes, status: int, size: int) -> None:
    """Where something else was written, or members are gone that it would pass on if it were
    short.
    """
    buffer = body.index(b"[1,2") + 5
    assert not is_complete(broken_off(body, size, EnvelopeRule(buffer=buffer), status))


ELSEWHERE = [
    EnvelopeRule(buffer=55, message=("text",)),
    EnvelopeRule(buffer=55, data=("result",)),
]


@pytest.mark.parametrize("rule", ELSEWHERE)
def test_an_envelope_that_a_rule_reads_elsewhere_is_broken_off(rule: EnvelopeRule) -> None:
    """What was written by other paths is not what it says."""
    body = b'{"isError":false,"data":[1,2,3],"result":[4,5,6],"message":"m","text":"t"'
    short = wrap(rule, parse(body + b"}"), 200, "")
    assert json.loads(stream([body + b"}"], rule)) == json.loads(short)
    assert not is_complete(broken_off(body + b',"status":200,"errorData":null}', 9, rule))


@pytest.mark.parametrize("extra", [65_534, 65_535])
@pytest.mark.parametrize("size", [1_000, 40_000, 200_000])
def test_how_much_of_others_is_held_depends_on_no_cuts(extra: int, size: int) -> None:
    """White space counts."""
    others = (b'"a" : 1 , "b":2, "c": "%b"' % (b"x" * 70_000))[: extra - 1] + b'"'
    body = BEFORE % (b"false", b"m") + b',%b ,"status":0,"errorData":1}' % others
    rule = EnvelopeRule(buffer=45)
    if extra == 65_534:
        assert json.loads(stream(in_chunks(body, size), rule)) == json.loads(body)
        short = body.replace(b'"status"', b'"state"')  # and is none any more
        assert json.loads(stream(in_chunks(short, size), rule))["status"] == 200
    else:
        assert not is_complete(broken_off(body, size, rule))


@pytest.mark.parametrize("kept", [(), ("a", "traceId")])
@pytest.mark.parametrize(
    "body",
    [
        BEFORE % (b"false", b"") + b',"status":0}',
        BEFORE % (b"true", b"partial") + b"}",
        BEFORE % (b"false", b"ok") + b',"traceId":"t"}',
        BEFORE % (b"false", b"m") + b',"errorData":{"a":1}}',
        BEFORE % (b"false", b"m") + b',"isError":"x","status":200,"errorData":null}',
        BEFORE % (b"false", b"m") + b',"isError":%b,"status":200,"errorData":null}' % LONG,
        BEFORE % (b"false", b"m") + b',"errorData":%b}' % LONG,
        BEFORE % (b"false", b"m") + b',"status":2000,"more":%b}' % LONG,
        b'{"isError":false,"status":"x","message":"m","data":[1,2,3]}',
        b'{"isError":"x","message":"m","data":[1,2,3],"status":400,"errorData":{}}',
        b'{"status":400,"isError":true,"message":"m","data":[1,2,3],"errordata":{}}',
        b'{"isError":true,"message":"m","data":[1,2,3]} \n',
    ],
)
@pytest.mark.parametrize("status", [200, 422])
def test_what_only_resembles_an_envelope_is_wrapped(
    body: bytes, kept: tuple[str, ...], status: int
) -> None:
    """As if it were short: without members that are not kept."""
    buffer = len(body.rstrip()) if body.endswith(b"\n") else body.index(b'"data"') + 9
    rule = EnvelopeRule(buffer=buffer, keep=kept)
    short = json.loads(wrap(rule, parse(body), status, "Reason"))
    for size in (1, 7, 1000) if len(body) < 1000 else (999, 100_000):
        told = stream(in_chunks(body, size), rule, status)
        assert json.loads(told, object_pairs_hook=sorted) == sorted(short.items())


def test_other_paths_need_all_five_members() -> None:
    """An object with `result` is no envelope by its `data`."""
    body = b'{"isError":false,"message":"m","data":null,"result":[1,2,3]}'
    rule = EnvelopeRule(buffer=55, data=("result",))
    assert json.loads(stream([body], rule))["data"] == [1, 2, 3]


members_of_envelopes = st.permutations(
    [
        st.tuples(st.just("isError"), st.booleans() | st.just("no")),
        st.tuples(st.just("message"), st.none() | st.text(max_size=9)),
        st.tuples(st.just("data"), values),
        st.tuples(st.just("status"), st.sampled_from([200, 0, "success"])),
        st.tuples(st.just("errorData"), st.none() | values),
        st.tuples(st.just("pagination"), values),
        st.tuples(st.just("meta\u00e9"), values),
    ]
).flatmap(lambda members: st.tuples(*members))


@given(
    members_of_envelopes,
    st.integers(0, 3),
    st.integers(3, 150),
    st.integers(1, 50),
    st.tuples(
        st.sampled_from([200, 422]),
        st.sampled_from([(), ("meta\u00e9",), ("meta\u00e9", "pagination")]),
    ),
)
def test_an_envelope_of_any_length_is_told_as_a_short_one(
    members: tuple[tuple[str, Any], ...],
    dropped: int,
    buffer: int,
    size: int,
    way: tuple[int, tuple[str, ...]],
) -> None:
    """If its data begins within the buffer. Only an envelope that is an error is broken off."""
    status, kept = way
    text, starts = spelled(list(members[dropped:]))
    rule = EnvelopeRule(buffer=buffer, keep=kept)
    if starts.get("data", buffer) >= buffer and len(text) > buffer:
        return
    document = parse(text)
    try:
        told = stream(in_chunks(text, size), rule, status)
    except InvalidJSON:
        assert document.is_envelope
        assert status == 422 or dict(members)["isError"] is True
        return
    assert json.loads(told) == json.loads(wrap(rule, document, status, "Reason"))


repeated = st.lists(
    st.tuples(
        st.sampled_from([*FIVE, "a"]), st.sampled_from([True, False, None, "", "m", 0, [1, 2]])
    ),
    min_size=5,
    max_size=12,
)


@given(repeated, st.integers(3, 150), st.integers(1, 50), st.sampled_from([200, 422]))
def test_repeated_members_are_told_as_in_a_short_one(
    members: list[tuple[str, Any]], buffer: int, size: int, status: int
) -> None:
    """The last of equal ones counts, or it is broken off."""
    text = b"{%b}" % b",".join(
        b"%b:%b" % (json.dumps(name).encode(), json.dumps(value).encode())
        for name, value in members
    )
    rule = EnvelopeRule(buffer=buffer)
    try:
        told = json.loads(stream(in_chunks(text, size), rule, status))
    except InvalidJSON:
        return
    if len(text) <= buffer or b'"data":' in text[: buffer - 1]:  # its value's first byte counts
        assert told == json.loads(wrap(rule, parse(text), status, "Reason"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":"0123456789","data":1}',
        b'{"data":"0123456789","d\\u0061ta":1}',
        b'{"message":"m","data":"0123456789","message":"n"}',
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_was_written_may_not_occur_again(body: bytes, size: int) -> None:
    """Browsers would take the last one; it cannot be taken back."""
    assert not is_complete(broken_off(body, size, EnvelopeRule(buffer=24)))


def test_the_last_of_equal_messages_counts_while_none_is_written() -> None:
    body = b'{"data":"0123456789","message":"m","message":"n"}'
    assert json.loads(stream(in_chunks(body, 5)))["message"] == "n"


def test_a_long_message_behind_the_data_is_broken_off() -> None:
    """It would be lost otherwise."""
    assert not is_complete(broken_off(b'{"data":"0123456789","message":%b}' % LONG, 999))


def test_a_long_message_of_a_whole_body_is_left_to_it() -> None:
    """The payload carries it anyway."""
    body = b'{"id":1,"message":%b,"data":2}' % LONG
    envelope = json.loads(stream(in_chunks(body, 999), EnvelopeRule(buffer=24)))
    assert (envelope["message"], envelope["data"]) == (None, json.loads(body))


def test_a_message_within_the_buffer_may_be_long() -> None:
    body = b'{"message":%b,"data":[1,2,3]}' % LONG
    envelope = json.loads(stream(in_chunks(body, 999), EnvelopeRule(buffer=70_030)))
    assert (envelope["message"], envelope["data"]) == (json.loads(LONG), [1, 2, 3])


@pytest.mark.parametrize("size", [1, 1000])
def test_kept_members_follow_wherever_they_stand(size: int) -> None:
    rule = EnvelopeRule(buffer=24, keep=("meta", "links", "none"))
    body = b'{"links":[1.0],"data":"0123456789","meta":{"total":3},"meta":{"total":4}}'
    assert stream(in_chunks(body, size), rule).endswith(
        b',"errorData":null,"meta":{"total":4},"links":[1.0]}'
    )


@pytest.mark.parametrize("size", [1, 1000])
def test_the_payload_is_not_kept_besides(size: int) -> None:
    rule = EnvelopeRule(buffer=24, keep=("result", "errors"), data=("result",))
    body = b'{"result":"0123456789","errors":[1],"more":"0123456789"}'
    assert stream(in_chunks(body, size), rule).endswith(
        b'"data":"0123456789","message":null,"status":200,"errorData":null,"errors":[1]}'
    )


def test_a_long_kept_member_is_broken_off() -> None:
    rule = EnvelopeRule(buffer=24, keep=("meta",))
    assert not is_complete(broken_off(b'{"data":"0123456789","meta":%b}' % LONG, 999, rule))


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("body", "message", "data"),
    [
        (b'{"result":{"n":1,"items":[1,2,3]},"info":{"text":"m"}}', "m", [1, 2, 3]),
        (b'{"info":{"text":"m"},"result":{"items":[1,2,3]},"x":1}', "m", [1, 2, 3]),
        (b'{"info":{"text":"m"},"result":[4,5,6,7,8,9,0,1,2,3]}', "m", None),
    ],
)
def test_paths_of_the_rule_lead_into_objects(
    body: bytes, message: str, data: Any, size: int
) -> None:
    rule = EnvelopeRule(data=("result", "items"), message=("info", "text"), buffer=44)
    envelope = json.loads(stream(in_chunks(body, size), rule))
    assert envelope["message"] == message
    assert envelope["data"] == (json.loads(body) if data is None else data)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_streams(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    deep = opening * 9_000 + b"1" + closing * 9_000
    envelope = stream(in_chunks(b'{"data":%b}' % deep, 4096))
    assert envelope.startswith(b'{"isError":false,"data":' + deep)


ROW = b'{"id":1,"name":"J\\u00f6rg \xe2\x82\xac","tags":["a","b"],"at":{"lat":1.5,"lon":-2e-3}},'


@pytest.mark.parametrize(
    ("opening", "repeated", "closing", "megabytes"),
    [
        (b'{"message":"m","data":[', ROW * 700, b"1]}", 50),
        (b"[", ROW * 700, b"1]", 10),
        (b'{"data":{"a":', b'1,"key":' + ROW[:-1] + b',"a":', b"1}}", 1),
        (b'{"data":"', b"x" * 65_536, b'"}', 10),
        (b'{"data":1,"skipped":[', ROW * 700, b"1]}", 10),
        (b'{"data":1,"', b"k" * 65_536, b'":1}', 5),
        (b'{"isError":false,"message":"","status":1,"errorData":0,"data":[', ROW * 700, b"1]}", 10),
        (b'{"message":"', b"x" * 65_536, b'"}', 5),
        (
            b'{"isError":false,"message":"m","data":[',
            ROW * 700,
            b'1],"status":0,"errorData":1}',
            10,
        ),
        (b'{"isError":false,"message":"m","data":1,"a":[', ROW * 700, b'1],"status":0}', 10),
        (b'{"isError":false,"message":"m","data":1,"errorData":[', ROW * 700, b"1]}", 10),
        (b'{"isError":false,"message":"m","data":1', b',"a":1,"b":[2]' * 5000, b"}", 5),
    ],
)
def test_memory_stays_flat(opening: bytes, repeated: bytes, closing: bytes, megabytes: int) -> None:
    """Beyond the buffer it takes a few chunks, whatever the answer's size."""
    wrapper = StreamWrapper(EnvelopeRule(buffer=65_536), 200, "OK")
    wrapper.feed(opening)
    for _ in range(1 + 131_072 // len(repeated)):  # past the buffer and what is held beyond it
        wrapper.feed(repeated)
    written = 0
    tracemalloc.start()
    try:
        for _ in range(megabytes * 1_000_000 // len(repeated)):
            written += len(wrapper.feed(repeated))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 600_000
    assert written in (0, pytest.approx(megabytes * 1_000_000, rel=0.1))
    assert wrapper.feed(closing) + wrapper.finish()
