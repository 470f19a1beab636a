"""The envelope built in memory: what counts as JSON, what is refused, and what comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.envelope import (
    ABSENT,
    Document,
    EnvelopeRule,
    InvalidJSON,
    StreamWrapper,
    fault,
    is_json_type,
    parse,
    parse_at_once,
    success,
    wrap,
    wrap_empty,
    wrap_text,
)
from sidecar.core.jsonscan import decoder_stops

RULE = EnvelopeRule()
FIVE = ["isError", "message", "data", "status", "errorData"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(FIVE), inner),
    max_leaves=20,
)


def ok(body: bytes, status: int = 200, rule: EnvelopeRule = RULE) -> bytes:
    return wrap(rule, parse(body), status, "OK")


def failed(
    body: bytes, status: int = 400, reason: str = "Bad Request", *, problem: bool = False
) -> bytes:
    return wrap(RULE, parse(body), status, reason, problem=problem)


@pytest.mark.parametrize(
    ("body", "message", "data"),
    [
        (b'{"data":{"a":1}}', b"null", b'{"a":1}'),
        (b'{"message":"ok","data":[1]}', b'"ok"', b"[1]"),
        (b'{"data":null}', b"null", b"null"),
        (b'{"data":false}', b"null", b"false"),
        (b'{"data":0}', b"null", b"0"),
        (b'{"data":""}', b"null", b'""'),
        (b'{"data":{"data":1}}', b"null", b'{"data":1}'),
        (b'{"data":1,"extra":2}', b"null", b"1"),
        (b'{"message":"hi"}', b'"hi"', b"null"),
        (b'{"message":null}', b"null", b"null"),
        (b'{"message":""}', b"null", b"null"),
        (b'{"message":"hi","a":1}', b'"hi"', b'{"message":"hi","a":1}'),
        (b"{}", b"null", b"{}"),
        (b' {"a" : 1} \n', b"null", b'{"a" : 1}'),
        (b"[]", b"null", b"[]"),
        (b" [1, 2]\r\n\t", b"null", b"[1, 2]"),
        (b"null", b"null", b"null"),
        (b"true", b"null", b"true"),
        (b"5", b"null", b"5"),
        (b'"hi"', b"null", b'"hi"'),
        (b'""', b"null", b'""'),
        (b'{"Data":1}', b"null", b'{"Data":1}'),
        (b'{"data":{"__proto__":{"x":1}}}', b"null", b'{"__proto__":{"x":1}}'),
        (b'{"":1}', b"null", b'{"":1}'),
    ],
)
def test_a_success_is_wrapped_by_the_table(body: bytes, message: bytes, data: bytes) -> None:
    """The five members in their order, payload and message as the upstream wrote them."""
    expected = b'{"isError":false,"message":%b,"data":%b,"status":200,"errorData":null}'
    assert ok(body) == expected % (message, data)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"5", True),
        (b"-1e-400", True),
        (b"0.001", True),
        (b"true", True),
        (b'{"k":1}', True),
        (b"{}", True),
        (b'["a"]', True),
        (b"[]", True),
        (b'"0"', True),
        (b'" "', True),
        (b'"\\u0000"', True),
        (b"0", False),
        (b"-0", False),
        (b"0.00", False),
        (b"-0.0E+10", False),
        (b"false", False),
        (b"null", False),
        (b'""', False),
    ],
)
def test_message_counts_where_javascript_calls_it_truthy(raw: bytes, kept: bool) -> None:
    """A truthy message keeps its own bytes, whatever its type; a falsy one is null."""
    envelope = ok(b'{"message":%b,"data":1}' % raw)
    assert envelope.startswith(
        b'{"isError":false,"message":%b,"data":1,' % (raw if kept else b"null")
    )


@pytest.mark.parametrize("status", [200, 201, 202, 203, 207, 226, 299])
def test_a_success_keeps_its_status(status: int) -> None:
    assert json.loads(ok(b'{"data":1}', status))["status"] == status


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 418, 429, 451, 500, 501, 502, 504])
def test_an_error_carries_the_payload_as_error_data(status: int) -> None:
    assert failed(b'{"message":"no","data":{"f":1}}', status) == (
        b'{"isError":true,"message":"no","data":null,"status":%d,"errorData":{"f":1}}' % status
    )


@pytest.mark.parametrize(
    ("body", "message", "error_data"),
    [
        (b'{"message":null}', "Bad Request", None),
        (b'{"message":""}', "Bad Request", None),
        (b'{"message":"x","data":0}', "x", 0),
        (b'{"message":"x","data":""}', "x", ""),
        (b'{"message":"x","code":7}', "x", {"message": "x", "code": 7}),
        (b"null", "Bad Request", None),
        (b"5", "Bad Request", 5),
        (b"[1]", "Bad Request", [1]),
        (b'{"detail":"d"}', "Bad Request", {"detail": "d"}),
    ],
)
def test_an_error_is_wrapped_by_the_table(body: bytes, message: str, error_data: Any) -> None:
    envelope = json.loads(failed(body))
    assert list(envelope) == FIVE
    assert (envelope["isError"], envelope["data"]) == (True, None)
    assert (envelope["message"], envelope["errorData"]) == (message, error_data)


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (404, "Nope", "Nope"),
        (404, "", "Not Found"),
        (599, "", "Unknown error"),
        (400, 'say "no"', 'say "no"'),
        (400, "caf\u00e9", "caf\u00e9"),
    ],
)
def test_the_reason_phrase_stands_in_for_a_message(status: int, reason: str, message: str) -> None:
    """The upstream's phrase, else the registered one, else "Unknown error"."""
    assert json.loads(failed(b"{}", status, reason))["message"] == message
    assert json.loads(wrap_text(status, reason, None))["message"] == message


def test_a_reason_that_was_no_utf8_is_escaped() -> None:
    """What the HTTP parser decoded with surrogateescape never fails to encode."""
    assert b'"message":"caf\\udce9"' in failed(b"{}", 400, "caf\udce9")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"title":"t","detail":"d"}', "d"),
        (b'{"title":"t","detail":""}', "t"),
        (b'{"title":"t"}', "t"),
        (b'{"type":"about:blank"}', "Bad Request"),
        (b'{"message":"m","detail":"d"}', "m"),
    ],
)
def test_problem_details_stand_in_for_a_message(body: bytes, message: str) -> None:
    """RFC 9457: `detail`, then `title`; the payload stays the whole problem."""
    envelope = json.loads(failed(body, problem=True))
    assert (envelope["message"], envelope["errorData"]) == (message, json.loads(body))


@pytest.mark.parametrize(
    "number",
    [
        b"9007199254740993",
        b"12345678901234567890",
        b"1.0",
        b"1e2",
        b"1E400",
        b"-1e-400",
        b"-0.0",
        b"-0",
        b"123456789.123456789123456789",
        b"5e-324",
        b"1" * 10_000,
    ],
)
def test_numbers_keep_their_digits(number: bytes) -> None:
    assert b'"data":{"n":%b},' % number in ok(b'{"data":{"n":%b}}' % number)


@pytest.mark.parametrize(
    "string",
    [
        rb'"\"\\\/\b\f\n\r\t"',
        b'"\x7f"',
        '"\u2028\u2029"'.encode(),
        '"\uffff"'.encode(),
        b'"</script><!--"',
        '"e\u0301"'.encode(),
        rb'"\ud83d\ude00"',
        rb'"\ud800"',
        rb'"\udc00"',
        rb'"\udc00\ud800"',
        rb'"\ud800\ud800"',
        rb'"\u0000"',
        b'""',
    ],
)
def test_strings_keep_their_bytes(string: bytes) -> None:
    """Escapes are not resolved, lone surrogates stay (RFC 8259 section 8.2)."""
    assert b'"data":[%b],' % string in ok(b'{"data":[%b]}' % string)
    assert b'"message":%b,' % (string if string != b'""' else b"null") in ok(
        b'{"data":1,"message":%b}' % string
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf",
        b"{",
        b"[",
        b'"',
        b'{"data":1',
        b'{"data":"x',
        b'{"data":1,',
        b'{"data"',
        b'{"data":}',
        b'{"data":1,}',
        b'{"data":[1,]}',
        b"[1 2]",
        b"{oops",
        b"{data:1}",
        b"{'data':1}",
        b'{"data" 1}',
        b'{"data":1}}',
        b'{"data":1} x',
        b'{"data":1}{"data":2}',
        b'{"data":1}\x00',
        b'{"data":1/*c*/}',
        b'//\n{"data":1}',
        b')]}\',\n{"data":1}',
        b"undefined",
        b"True",
        b'{"data":True}',
        b"nul",
        b"truex",
        b"\x00\x01\x02",
        b"\xc2\xa0{}",
        b"\x0b{}",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b" \xef\xbb\xbf{}",
        '{"data":1}'.encode("utf-16"),
        b"<html>",
        b"[" * 100_000,
        *(
            b'{"data":%b}' % number
            for number in (
                b"NaN",
                b"Infinity",
                b"-Infinity",
                b"01",
                b"-01",
                b"+1",
                b"1.",
                b".5",
                b"-",
                b"0x1F",
                b"1_000",
                b"1e",
                b"1e+",
                b"1.e5",
                b"\xef\xbc\x91",
            )
        ),
        *(
            b'{"data":"%b"}' % string
            for string in (
                b"\xff",
                b"\xc3",
                b"\xed\xa0\x80",
                b"\xc0\x80",
                b"\xf5\x80\x80\x80",
                b"a\x00b",
                b"a\nb",
                b"a\tb",
                b"\x1f",
                rb"\x41",
                rb"\u12",
                rb"\u12G4",
                rb"\ud800\x",
                b"\\\n",
                b"\\",
            )
        ),
        b'{"\xff":1}',
        b'{"\\ud800":"\xff"}',
    ],
)
def test_what_is_no_json_in_utf8_is_refused(body: bytes) -> None:
    """Nothing but RFC 8259, and no exception but InvalidJSON."""
    with pytest.raises(InvalidJSON):
        parse(body)


def test_an_error_never_holds_the_body() -> None:
    """A refused body may hold secrets; its error names none of it."""
    with pytest.raises(InvalidJSON) as caught:
        parse(b'{"token":"s3cr3t" s3cr3t}')
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in repr(caught.value)


SNIPPETS = [bytes([byte]) for byte in b'{}[]",:\\ \n\x0b01.-eEu\x00\xff\xc3']


def strictly_valid(body: bytes) -> bool:
    """Python's own verdict, without its extensions."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(body.decode().removeprefix("\ufeff"), parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(
    values,
    st.booleans(),
    st.sampled_from([None, 1]),
    st.lists(
        st.tuples(
            st.integers(min_value=0),
            st.sampled_from(
                [b"", *(bytes([byte]) for byte in b'{}[]",:\\ \n\x0b01.-eEu\x00\xff\xc3')]
            ),
            st.integers(0, 2),
        ),
        max_size=3,
    ),
)
def test_mutations_are_judged_as_python_judges_them(
    value: Any, ascii_only: bool, indent: int | None, edits: list[tuple[int, bytes, int]]
) -> None:
    """parse() takes exactly what strict json takes: bytes inserted, replaced or deleted."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    for position, byte, length in edits:
        at = position % (len(body) + 1)
        body = body[:at] + byte + body[at + length :]
    try:
        parse(body)
    except InvalidJSON:
        assert not strictly_valid(body)
    else:
        assert strictly_valid(body)


@given(values, st.sampled_from([200, 404]), st.booleans())
def test_every_value_is_wrapped_by_the_rule(value: Any, status: int, ascii_only: bool) -> None:
    """The envelope's meaning, told independently on decoded values."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    payload, message = value, None
    if isinstance(value, dict):
        message = value.get("message")
        if isinstance(message, (str, int, float)) and not message:
            message = None
        if "data" in value:
            payload = value["data"]
        elif set(value) == {"message"}:
            payload = None
    error = status >= 400
    expected = {
        "isError": error,
        "message": "Not Found" if error and message is None else message,
        "data": None if error else payload,
        "status": status,
        "errorData": payload if error else None,
    }
    if isinstance(value, dict) and set(FIVE) <= set(value) and isinstance(value["isError"], bool):
        expected = value
    assert json.loads(wrap(RULE, parse(body), status, "Not Found")) == expected


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"data":1,"data":2}', 2),
        (b'{"data":1,"d\\u0061ta":2}', 2),
        (b'{"d\\u0061ta":1,"data":2}', 2),
        (b'{"data":1,"d\\u0061ta":2,"x":"\\ud800"}', 2),
    ],
)
def test_the_last_of_equal_names_wins(body: bytes, data: int) -> None:
    """As in browsers; names are compared decoded, with msgspec and without it."""
    assert json.loads(ok(body))["data"] == data


def test_a_byte_order_mark_is_taken_off() -> None:
    """As fetch().json() does; the payload has none inside the envelope."""
    assert b'"data":[1],' in ok(b"\xef\xbb\xbf[1]")
    assert b'"data":1,' in ok(b'\xef\xbb\xbf{"data":1}')


@pytest.mark.parametrize("extra", [b"", b',"traceId":"x"'])
@pytest.mark.parametrize("is_error", [b"true", b"false"])
def test_an_envelope_passes_unchanged(is_error: bytes, extra: bytes) -> None:
    """Whatever the status says, and further members with it."""
    body = b'{ "status": 1, "data":{"data":2},"errorData":null,"message":"","isError":%b%b}\n'
    assert ok(body % (is_error, extra)) == body % (is_error, extra)
    assert failed(body % (is_error, extra)) == body % (is_error, extra)


@pytest.mark.parametrize(
    "body",
    [
        b'{"isError":0,"message":null,"data":1,"status":200,"errorData":null}',
        b'{"isError":"false","message":null,"data":1,"status":200,"errorData":null}',
        b'{"isError":false,"message":null,"data":1,"status":200}',
        b'{"isError":false,"message":null,"data":1,"status":200,"errordata":null}',
    ],
)
def test_what_only_resembles_an_envelope_is_wrapped(body: bytes) -> None:
    assert ok(body) == b'{"isError":false,"message":null,"data":1,"status":200,"errorData":null}'


@pytest.mark.parametrize(
    ("opening", "middle", "closing"),
    [(b'{"a":', b"1", b"}"), (b"[", b"", b"]"), (b'[{"":', b"1", b"}]")],
)
def test_deep_nesting_is_wrapped(opening: bytes, middle: bytes, closing: bytes) -> None:
    """Thousands of levels, far beyond what decoders follow, are no exception."""
    deep = opening * 4_900 + middle + closing * 4_900
    assert ok(b'{"message":"m","data":%b}' % deep) == (
        b'{"isError":false,"message":"m","data":%b,"status":200,"errorData":null}' % deep
    )
    assert b'"errorData":%b}' % deep in failed(deep)
    assert parse(b'{"message":%b}' % deep).message is ABSENT


def test_the_limit_is_not_the_interpreters() -> None:
    """However deep its stack lets decoders follow: 10,000 levels pass, and one more does not.

    In every form, in memory and as a stream, behind other elements and in front of them.
    """
    program = Path(__file__).with_name("deep_json.py")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(
    not decoder_stops(), reason="this interpreter sets decoders no limit, so levels are counted"
)
def test_wide_text_is_read_at_once() -> None:
    """However many brackets it has: they are not levels."""
    text = b"[%b]" % b",".join([b'{"a": []}'] * 20_000)
    assert parse_at_once(text).body is text


@pytest.mark.parametrize("levels", [10_001, 100_000])
def test_nesting_beyond_the_limit_is_refused(levels: int) -> None:
    """It is a bad gateway then, at a bounded cost (RFC 8259 section 9 allows a limit)."""
    with pytest.raises(InvalidJSON):
        parse(b"[" * levels + b"]" * levels)


def test_fifty_thousand_members_are_wrapped() -> None:
    body = json.dumps({f"k{number}": number for number in range(50_000)}).encode()
    assert json.loads(ok(body))["data"]["k49999"] == 49_999


@pytest.mark.parametrize(
    ("body", "data", "message"),
    [
        (b'{"result":{"items":[1]},"info":{"msg":"m"}}', [1], "m"),
        (b'{"result":[],"info":"m"}', {"result": [], "info": "m"}, None),
        (b'{"result":{"items":"\\ud800"},"info":{"msg":"m"}}', "\ud800", "m"),
        (b"[1]", [1], None),
        (b'{"message":"m"}', {"message": "m"}, None),
    ],
)
def test_paths_of_the_rule_lead_elsewhere(body: bytes, data: Any, message: str | None) -> None:
    rule = EnvelopeRule(data=("result", "items"), message=("info", "msg"))
    envelope = json.loads(ok(body, rule=rule))
    assert (envelope["data"], envelope["message"]) == (data, message)


def test_errors_have_a_path_of_their_own() -> None:
    rule = EnvelopeRule(data=("result",), error_data=("errors", "0"))
    envelope = wrap(rule, parse(b'{"result":1,"errors":[{"a":1}]}'), 400, "Bad Request")
    assert json.loads(envelope)["errorData"] == {"a": 1}


def test_kept_members_follow_the_five() -> None:
    """Named extras come along in their own bytes; absent ones do not appear."""
    rule = EnvelopeRule(keep=("meta", "absent", 'q"\u00e9'))
    body = '{"data":1,"meta":{"total":1.50},"q\\"\u00e9":2,"other":3}'.encode()
    tail = ',"errorData":null,"meta":{"total":1.50},"q\\"\u00e9":2}'.encode()
    assert ok(body, rule=rule).endswith(tail)
    assert b'"errorData":1,"meta":{"total":1.50}' in wrap(rule, parse(body), 400, "")
    assert json.loads(ok(b"[1]", rule=rule))["data"] == [1]


def test_a_name_that_is_kept_twice_is_carried_once() -> None:
    """In memory and as a stream."""
    rule = EnvelopeRule(keep=("meta", "meta"), buffer=16)
    body = b'{"data":1,"meta":{"n":2}}'
    told = b'"data":1,"status":200,"errorData":null,"meta":{"n":2}}'
    assert wrap(rule, parse(body), 200, "OK").endswith(told)
    wrapper = StreamWrapper(rule, 200, "OK")
    assert (wrapper.feed(body) + wrapper.finish()).count(b"meta") == 1


def test_the_payload_is_not_kept_besides() -> None:
    """Whichever member it is: of a success one may be kept that holds the details of an error."""
    rule = EnvelopeRule(keep=("result", "errors"), data=("result",), error_data=("errors",))
    body = b'{"result":1,"errors":[2]}'
    assert ok(body, rule=rule).endswith(b'"data":1,"status":200,"errorData":null,"errors":[2]}')
    failed = wrap(rule, parse(body), 400, "")
    assert failed.endswith(b'"data":null,"status":400,"errorData":[2],"result":1}')


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("errors", "0", "extensions", "code"), "UNAUTHENTICATED"),
        (("errors", "1"), None),
        (("errors", "2"), ABSENT),
        (("errors", "x"), ABSENT),
        (("errors", "-1"), ABSENT),
        (("errors", "length"), ABSENT),
        (("code",), 401),
        (("code", "x"), ABSENT),
        (("text", "0"), ABSENT),
        (("none",), None),
        (("missing", "x"), ABSENT),
        (("big",), 12345678901234567890),
    ],
)
def test_lookup_follows_names_and_indexes(path: tuple[str, ...], value: Any) -> None:
    document = parse(
        b'{"errors":[{"extensions":{"code":"UNAUTHENTICATED"}},null],"code":401,"text":"ab",'
        b'"none":null,"big":12345678901234567890}'
    )
    assert document.lookup(path) == value


def test_lookup_reads_past_lone_surrogates() -> None:
    """They do not hide a rule's match; where asked for, they come out as U+FFFD."""
    document = parse(b'{"e":[{"code":"X","why":"\\ud83d \\ud83d\\ude00 \\\\ud800"}],"\\udfff":1}')
    assert document.lookup(("e", "0", "code")) == "X"
    assert document.lookup(("e", "0", "why")) == "\ufffd \U0001f600 \\ud800"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message":"UnAuthentication"}', "UnAuthentication"),
        (b'{"message":null}', None),
        (b'{"message":{"a":1}}', {"a": 1}),
        (b'{"m\\u0065ssage":"x"}', "x"),
        (b"{}", ABSENT),
        (b'["message"]', ABSENT),
    ],
)
def test_a_document_tells_its_message(body: bytes, message: Any) -> None:
    assert parse(body).message == message


def test_parsing_tells_objects_from_the_rest() -> None:
    document = parse(b' {"a":[1, 2] }')
    assert isinstance(document, Document)
    assert {name: bytes(raw) for name, raw in (document.members or {}).items()} == {"a": b"[1, 2]"}
    assert parse(b"{}").members == {}
    assert parse(b"[{}]").members is None


@pytest.mark.parametrize("status", [200, 201, 299])
def test_an_empty_success_has_null_data(status: int) -> None:
    assert wrap_empty(status) == (
        b'{"isError":false,"message":null,"data":null,"status":%d,"errorData":null}' % status
    )


@pytest.mark.parametrize(
    ("text", "error_data"),
    [
        (None, None),
        (b"", None),
        (b"no such page", "no such page"),
        ("caf\u00e9 \U0001f600".encode(), "caf\u00e9 \U0001f600"),
        (b"caf\xe9", "caf\u00e9"),
        (b'a"b\\\x00\n', 'a"b\\\x00\n'),
        (b"x" * 4096, "x" * 4096),
        (b"x" * 4097, None),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "caf\u00e9"),
        (b"\xef\xbb\xbf", None),
        (b"\xff\xfe" + "caf\u00e9 \U0001f600".encode("utf-16-le"), "caf\u00e9 \U0001f600"),
        (b"\xfe\xff" + "caf\u00e9".encode("utf-16-be"), "caf\u00e9"),
        (b"\xff\xfea\0\0\xd8b", "a\ufffd"),
        (b"\xff\xfe", None),
    ],
)
def test_a_short_error_text_is_carried(text: bytes | None, error_data: str | None) -> None:
    """By its byte order mark, which is no part of it; else UTF-8, else Latin-1; at most 4 KiB."""
    assert json.loads(wrap_text(404, "Not Found", text)) == {
        "isError": True,
        "message": "Not Found",
        "data": None,
        "status": 404,
        "errorData": error_data,
    }


def test_a_fault_names_code_and_request() -> None:
    """The sidecar's own errors are envelopes with code, requestId and what else is said."""
    assert fault(401, "Over", "session_expired", "r1", loginUrl="/login") == (
        b'{"isError":true,"message":"Over","data":null,"status":401,"errorData":'
        b'{"code":"session_expired","requestId":"r1","loginUrl":"/login"}}'
    )


def test_the_sidecars_own_success_carries_its_data() -> None:
    assert success(200, {"a": "\u00e9"}) == (
        '{"isError":false,"message":null,"data":{"a":"\u00e9"},"status":200,"errorData":null}'.encode()
    )


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [
        ("application/json", True),
        ("Application/JSON", True),
        ("application/json;charset=utf-8", True),
        ('application/json; charset="UTF-8"', True),
        ("application/json ; x=y", True),
        (" application/json", True),
        ("application/json; charset=bogus", True),
        ("application/json; charset=idna", True),
        ("application/json; charset=iso-8859-1", True),
        ("application/json; charset=utf-16", False),
        ('application/json; charset="UTF-16LE"', False),
        ("application/json;charset=utf32", False),
        ("text/json", True),
        ("application/problem+json", True),
        ("application/vnd.api+json; ext=x", True),
        ("image/svg+json", True),
        ("application/grpc+json", False),
        ("application/grpc-web+json", False),
        ("application/grpc-web-text+json", False),
        ("application/connect+json", False),
        ("application/stream+json;charset=UTF-8", False),
        ("application/x-ndjson", False),
        ("application/ndjson", False),
        ("application/jsonl", False),
        ("application/json-seq", False),
        ("application/geo+json-seq", False),
        ("application/x-json-custom", False),
        ("application/json5", False),
        ("application/javascript", False),
        ("text/html", False),
        ("text/plain", False),
        ('text/plain; note="application/json"', False),
        ("text/event-stream", False),
        ("*/*", False),
        ("application/jsonx", False),
        ("+json", False),
        ("application/+json", False),
        ("application/json, text/html", False),
        ("json", False),
        ("", False),
    ],
)
def test_json_types_are_told_from_the_rest(content_type: str, is_json: bool) -> None:
    """As text and as the bytes of a header."""
    assert is_json_type(content_type) is is_json
    assert is_json_type(content_type.encode()) is is_json


@given(st.text(), st.binary())
def test_any_content_type_gets_an_answer(text: str, raw: bytes) -> None:
    assert is_json_type(text) in (True, False)
    assert is_json_type(raw) in (True, False)
