"""The envelope as clients get it, row by row (behaviour: envelope)."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Clients, Running, Start, Step, Upstream

HOST = "Host: app.example.com\r\n"
JSON = "application/json"
PROBLEM = "application/problem+json"


def api(upstream: Upstream, **envelope: Any) -> dict[str, Any]:
    """One API route; the keywords are its envelope's."""
    route = {"path": "/", "kind": "api", "upstream": "main", "session": "optional"}
    return {
        "upstreams": {"main": {"url": upstream.url}},
        "routes": [route | ({"envelope": envelope} if envelope else {})],
    }


@pytest.fixture
async def site(sidecar: Start, upstream: Upstream) -> Running:
    return await sidecar(api(upstream))


def wrapped(data: Any, status: int = 200, message: str | None = None) -> dict[str, Any]:
    return {
        "isError": False,
        "message": message,
        "data": data,
        "status": status,
        "errorData": None,
    }


def failed(error: Any, status: int, message: str) -> dict[str, Any]:
    return {
        "isError": True,
        "message": message,
        "data": None,
        "status": status,
        "errorData": error,
    }


@pytest.mark.parametrize(
    ("status", "kind", "body", "expected"),
    [
        # successes
        ("200 OK", JSON, b"{}", wrapped({})),
        ("201 Created", JSON, b'{"id":7}', wrapped({"id": 7}, 201)),
        ("200 OK", JSON, b"[1,2]", wrapped([1, 2])),
        ("200 OK", JSON, b"null", wrapped(None)),
        ("200 OK", JSON, b' "text" ', wrapped("text")),
        ("200 OK", JSON, b'{"data":[1],"x":2}', wrapped([1])),
        ("200 OK", JSON, b'{"data":null,"message":"m"}', wrapped(None, message="m")),
        ("200 OK", JSON, b'{"message":"done"}', wrapped(None, message="done")),
        ("200 OK", JSON, b'{"message":""}', wrapped(None)),
        ("200 OK", JSON, b'{"message":"m","a":1}', wrapped({"message": "m", "a": 1}, message="m")),
        ("200 OK", JSON, b'{"data":1,"data":2}', wrapped(2)),
        ("200 OK", "application/vnd.api+json; charset=utf-8", b"{}", wrapped({})),
        ("200 OK", "text/json", b"1", wrapped(1)),
        ("200 OK", "Application/JSON", b"1", wrapped(1)),
        ("200 OK", JSON, b"", wrapped(None)),
        ("202 Accepted", None, b"", wrapped(None, 202)),
        ("200 OK", "text/plain", b"", wrapped(None)),
        # errors
        ("400 Caf\xe9", JSON, b"{}", failed({}, 400, "Caf\xe9")),  # Latin-1, as servers once did
        ("400 \u00c3\u00a9", JSON, b"{}", failed({}, 400, "\xe9")),  # octets of UTF-8
        ("400 \xff\xa0", "text/html", b"x", failed(None, 400, "\xff\xa0")),
        ("400 Bad Request", JSON, b'{"a":1}', failed({"a": 1}, 400, "Bad Request")),
        ("422 X", JSON, b'{"message":"no","data":{"f":1}}', failed({"f": 1}, 422, "no")),
        ("404 Not Here", JSON, b'{"message":"gone"}', failed(None, 404, "gone")),
        ("500 ", JSON, b"[]", failed([], 500, "Internal Server Error")),
        ("599 ", JSON, b"1", failed(1, 599, "Unknown error")),
        ("409 X", PROBLEM, b'{"title":"t"}', failed({"title": "t"}, 409, "t")),
        (
            "409 X",
            PROBLEM,
            b'{"title":"t","detail":"d"}',
            failed({"title": "t", "detail": "d"}, 409, "d"),
        ),
        ("500 Oops", "text/plain", b"it broke", failed("it broke", 500, "Oops")),
        ("500 Oops", "text/plain", b"\xef\xbb\xbfit broke", failed("it broke", 500, "Oops")),
        ("500 Oops", "text/plain", b"\xff\xfei\0t\0", failed("it", 500, "Oops")),
        ("500 Oops", "text/plain", b"x" * 4096, failed("x" * 4096, 500, "Oops")),
        ("500 Oops", "text/plain", b"x" * 4097, failed(None, 500, "Oops")),
        ("502 Bad Gateway", "text/html", b"<h1>nginx</h1>", failed(None, 502, "Bad Gateway")),
        ("503 X", None, b"", failed(None, 503, "X")),
        ("500 Oops", JSON, b'{"a":', failed(None, 500, "Oops")),
        ("500 Oops", JSON, b"\xff", failed(None, 500, "Oops")),
        ("403 Forbidden", JSON, b"", failed(None, 403, "Forbidden")),
    ],
)
@pytest.mark.parametrize("pieces", [False, True])
async def test_answer_is_wrapped(
    site: Running,
    upstream: Upstream,
    client: Clients,
    *,
    status: str,
    kind: str | None,
    body: bytes,
    expected: Any,
    pieces: bool,
) -> None:
    """Exactly five members, the upstream's status, whether the body comes at once or in pieces."""
    whole = upstream.reply(body, status=status, type=kind)
    upstream.default = [whole[:-2], 0.01, whole[-2:]] if pieces else whole
    one = await client(site)
    for _ in range(2):
        answer = await one.get("/a")
        assert answer.status == int(status[:3])
        assert answer.get("Content-Type") == JSON
        assert answer.get("X-Content-Type-Options") == "nosniff"
        assert answer.get("Content-Length") == str(len(answer.body))
        assert list(answer.json) == ["isError", "message", "data", "status", "errorData"]
        assert answer.json == expected


ENVELOPE = b'{"status":200,"isError":false,"data":1,"message":null,"errorData":null}'


@pytest.mark.parametrize(
    ("status", "kind", "body", "more"),
    [
        ("200 OK", "text/plain", b"text", ""),
        ("200 OK", "text/html; charset=utf-8", b"<p>", ""),
        ("200 OK", "application/octet-stream", b"\x00\xff", ""),
        ("200 OK", "application/x-ndjson", b"{}\n{}\n", ""),
        ("200 OK", "application/stream+json", b"{}\n{}\n", ""),
        ("200 OK", "application/grpc-web+json", b"\x00\x00\x00\x00\x02{}", ""),
        ("200 OK", "application/connect+json", b"\x00\x00\x00\x00\x02{}", ""),
        ("200 OK", "application/javascript", b"callback({})", ""),
        ("200 OK", "application/json; charset=utf-16", b"\xff\xfe{\x00}\x00", ""),
        ("200 OK", None, b"{}", ""),
        ("200 OK", JSON, b"{}", 'Content-Disposition: attachment; filename="a.json"'),
        ("500 Oops", JSON, b"{}", "Content-Disposition: Attachment"),
        ("206 Partial Content", JSON, b'{"a', "Content-Range: bytes 0-2/9"),
        ("302 Found", JSON, b"{}", "Location: /b"),
        ("300 Multiple Choices", "text/plain", b"a b", ""),
        ("200 OK", JSON, ENVELOPE, ""),
        ("200 OK", JSON, b"\x8b\x01\x80{}\x03", "Content-Encoding: br"),
    ],
)
async def test_answer_passes_as_it_came(
    site: Running,
    upstream: Upstream,
    client: Clients,
    *,
    status: str,
    kind: str | None,
    body: bytes,
    more: str,
) -> None:
    """With its bytes, type, validators and codings."""
    fields = ['ETag: "x"', "Accept-Ranges: bytes", *([more] if more else [])]
    upstream.default = upstream.reply(body, *fields, status=status, type=kind)
    answer = await (await client(site)).get("/a")
    assert answer.line == f"HTTP/1.1 {status}"
    assert answer.body == body
    assert answer.get("Content-Type") == kind
    name, _, value = more.partition(": ")
    assert not more or answer.get(name) == value
    assert body == ENVELOPE or answer.get("ETag") == '"x"'


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content", "304 Not Modified"])
async def test_answer_without_a_body_stays_without_one(
    site: Running, upstream: Upstream, client: Clients, status: str
) -> None:
    end = b"Content-Length: 0\r\n\r\n" if status.startswith("205") else b"\r\n"
    upstream.default = f'HTTP/1.1 {status}\r\nETag: W/"x"\r\n'.encode() + end
    one = await client(site)
    for _ in range(2):
        answer = await one.get("/a")
        assert (answer.line, answer.body) == (f"HTTP/1.1 {status}", b"")
        assert answer.get("ETag") == 'W/"x"'
        assert answer.get("Content-Type") is None


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Connection: close\r\n\r\n"]
)
@pytest.mark.parametrize("kind", [b"", b"Content-Type: application/json\r\n"])
@pytest.mark.parametrize("gap", [0.0, 0.01])
async def test_empty_success_of_any_framing_is_an_envelope(
    site: Running, upstream: Upstream, client: Clients, *, head: bytes, kind: bytes, gap: float
) -> None:
    start, end = head[:-5], head[-5:]
    script: list[Step] = [b"HTTP/1.1 200 OK\r\n" + kind + start, gap, end, gap]
    upstream.default = [*script, "close"] if b"close" in head else script
    answer = await (await client(site)).get("/a")
    assert answer.json == wrapped(None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1',
        b"{}{}",
        b"NaN",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'"\xff"',
        b"{'a':1}",
        b"01",
        b"[1,]",
        b'"\x01"',
        b"tru",
        b'"\\ud8"',
        b"\xff\xfe{\x00}\x00",
        b"<html>",
    ],
)
@pytest.mark.parametrize("pieces", [False, True])
async def test_success_that_is_no_json_is_a_bad_gateway(
    site: Running, upstream: Upstream, client: Clients, body: bytes, pieces: bool
) -> None:
    """Never a well-formed lie (T48 and T49); the client's connection goes on."""
    whole = upstream.reply(body)
    upstream.answers([whole[:-1], 0.01, whole[-1:]] if pieces else whole)
    one = await client(site)
    answer = await one.get("/a")
    assert (answer.status, answer.code) == (502, "upstream_protocol")
    assert (await one.get("/b")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"n":12345678901234567890.12345678901234567890,"e":1e400,"z":-0.0}',
        b'{ "b" : 1 ,\t"a":2,\r\n"b":3 }',
        b'"\\u00e9\\ud83d\\ude00\\/ \xc3\xa9"',
        b"[" * 500 + b"]" * 500,
    ],
)
async def test_payload_is_the_upstreams_bytes(
    site: Running, upstream: Upstream, client: Clients, body: bytes
) -> None:
    """Digits, order, escapes and spaces stay."""
    upstream.default = upstream.reply(body)
    answer = await (await client(site)).get("/a")
    assert answer.status == 200
    assert b'"data":' + body in answer.body


@pytest.mark.parametrize("depth", [100_000])
async def test_deep_nesting_is_an_answer_and_no_defect(
    site: Running, upstream: Upstream, client: Clients, depth: int
) -> None:
    """Wrapped or refused (T49)."""
    upstream.default = upstream.reply(b"[" * depth + b"]" * depth)
    answer = await (await client(site)).get("/a")
    assert answer.status in (200, 502)
    assert answer.body.startswith(b'{"isError":')


async def test_envelope_can_be_told_where_things_stand(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    rule = {"keep": ["meta"], "data": "result.rows", "message": "info.text", "error_data": "err"}
    at = await sidecar(api(upstream, **rule))
    body = b'{"result":{"rows":[1]},"info":{"text":"t"},"err":{"e":1},"meta":{"n":2}}'
    upstream.answers(upstream.reply(body), upstream.reply(body, status="400 X"))
    one = await client(at)
    assert (await one.get("/a")).json == wrapped([1], message="t") | {"meta": {"n": 2}}
    assert (await one.get("/a")).json == failed({"e": 1}, 400, "t") | {"meta": {"n": 2}}


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Type: application/json", "Content-Type: application/json"],
        ["Content-Type: application/json, application/json"],
        ["Content-Type: text/html", "Content-Type: application/json"],
    ],
)
async def test_type_that_is_said_twice_is_that_type(
    site: Running, upstream: Upstream, client: Clients, fields: list[str]
) -> None:
    """An application and the server in front of it say it both. Of two types the last counts."""
    one = await client(site)
    upstream.answers(
        upstream.reply(b'{"a":1}', *fields, type=None),
        upstream.reply(b'{"message":"gone"}', *fields, status="404 X", type=None),
        upstream.reply(b'{"message":"UnAuthentication"}', *fields, type=None),
    )
    assert (await one.get("/a")).json == wrapped({"a": 1})
    assert (await one.get("/a")).json == failed(None, 404, "gone")
    assert (await one.get("/a", "Cookie: access_token=tok")).status == 303


async def test_type_of_what_passes_stands_there_once(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    kind = "Content-Type: text/html"
    upstream.default = upstream.reply(b"<p>", kind, kind, type=None)
    answer = await (await client(site)).get("/a")
    assert (answer.body, answer.get("Content-Type")) == (b"<p>", "text/html")


# -- representation headers ------------------------------------------------------------------------


async def test_fields_about_the_upstreams_bytes_go_with_them(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    gone = ["Accept-Ranges: bytes", "Content-MD5: x", "Digest: x", "Content-Digest: x"]
    kept = ["X-Total: 7", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"]
    upstream.default = upstream.reply(b"{}", *gone, *kept)
    answer = await (await client(site)).get("/a")
    assert not {line.partition(":")[0].lower() for line in gone} & set(answer.names)
    assert {line.partition(":")[0].lower() for line in kept} <= set(answer.names)


@pytest.mark.parametrize(("etag", "weak"), [('"x"', 'W/"x"'), ('W/"x"', 'W/"x"')])
async def test_etag_is_weak_and_strong_again_where_it_must_match(
    site: Running, upstream: Upstream, client: Clients, etag: str, weak: str
) -> None:
    """What the client sends back in If-Match is what the upstream gave (RFC 9110 13.1.1)."""
    upstream.default = upstream.reply(b"{}", f"ETag: {etag}")
    one = await client(site)
    assert (await one.get("/a")).get("ETag") == weak
    await one.ask("PUT", "/a", f'If-Match: {weak}, "y"', f"If-None-Match: {weak}", body=b"{}")
    assert upstream.last.get("If-Match") == '"x", "y"'
    assert upstream.last.get("If-None-Match") == weak


@pytest.mark.parametrize("etag", ["", 'w/"x"', "x", 'W/"x'])
async def test_what_is_no_etag_is_none_of_an_envelope(
    site: Running, upstream: Upstream, client: Clients, etag: str
) -> None:
    upstream.default = upstream.reply(b"{}", f"ETag: {etag}")
    one = await client(site)
    for method in ("GET", "HEAD"):
        assert (await one.ask(method, "/a")).get("ETag") is None
    upstream.default = f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode()
    assert (await one.get("/a")).get("ETag") is None


@pytest.mark.parametrize(
    ("kind", "length"), [(JSON, None), ("text/plain", "5"), ("application/vnd.x+json", None)]
)
async def test_head_has_the_length_that_get_would_have_or_none(
    site: Running, upstream: Upstream, client: Clients, kind: str, length: str | None
) -> None:
    upstream.default = upstream.reply(b"[111]", type=kind)
    one = await client(site)
    for _ in range(2):
        answer = await one.ask("HEAD", "/a")
        assert (answer.status, answer.body, answer.get("Content-Length")) == (200, b"", length)
    got = await one.get("/a")
    assert length is None or got.get("Content-Length") == length


# -- codings ---------------------------------------------------------------------------------------

BODY = b'{"data":' + json.dumps([{"number": number} for number in range(500)]).encode() + b"}"


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


CODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "deflate ": raw_deflate(BODY),
    "identity": BODY,
    " gzip": gzip.compress(BODY[:99]) + gzip.compress(BODY[99:]),
    "gzip ": gzip.compress(BODY) + bytes(300),
}


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("size", [None, 50])
async def test_coded_json_is_decoded_when_wrapped(
    site: Running, upstream: Upstream, client: Clients, coding: str, size: int | None
) -> None:
    """gzip of one member or several, deflate with and without zlib's head."""
    whole = upstream.reply(CODED[coding], f"Content-Encoding: {coding}")
    head = whole.index(b"\r\n\r\n") + 4
    cuts = range(head, len(whole), size or len(whole))
    pieces: list[Step] = [step for at in cuts for step in (whole[at : at + cuts.step], 0.0005)]
    upstream.default = [whole[:head], *pieces]
    answer = await (await client(site)).get("/a")
    assert answer.status == 200
    assert answer.get("Content-Encoding") is None
    assert answer.json == wrapped(json.loads(BODY)["data"])


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip",
        gzip.compress(BODY)[:-20],
        gzip.compress(BODY)[:-1] + b"x",
        b"\x1f\x8b",
        gzip.compress(BODY) + b"junk",
        gzip.compress(BODY[:-1]),
    ],
)
async def test_corrupt_coding_is_a_bad_gateway(
    site: Running, upstream: Upstream, client: Clients, body: bytes
) -> None:
    upstream.default = upstream.reply(body, "Content-Encoding: gzip")
    answer = await (await client(site)).get("/a")
    assert (answer.status, answer.code) == (502, "upstream_protocol")


async def test_coded_error_text_is_decoded(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    coded = gzip.compress(b"it broke")
    kind = "text/plain; charset=utf-8"
    upstream.default = upstream.reply(coded, "Content-Encoding: gzip", status="500 Oops", type=kind)
    answer = await (await client(site)).get("/a")
    assert answer.json == failed("it broke", 500, "Oops")
    assert answer.get("Content-Encoding") is None


@pytest.mark.parametrize("kind", [JSON, PROBLEM, "text/plain", "text/html"])
@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip", "deflate"])
@pytest.mark.parametrize("pause", [None, 0.01])
async def test_error_in_a_coding_that_cannot_be_undone_keeps_its_status(
    site: Running,
    upstream: Upstream,
    client: Clients,
    *,
    kind: str,
    coding: str,
    pause: float | None,
) -> None:
    """As any error that is not JSON: unknown codings, and those that the body is not in."""
    whole = upstream.reply(b"\x1bno", f"Content-Encoding: {coding}", status="422 Oops", type=kind)
    upstream.default = whole if pause is None else [whole[:-2], pause, whole[-2:]]
    one = await client(site)
    answer = await one.get("/a")
    assert (answer.status, answer.json) == (422, failed(None, 422, "Oops"))
    assert answer.get("Content-Encoding") is None
    assert answer.get("Content-Type") == JSON


async def test_empty_success_in_a_coding_is_no_failure(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    for coding in ("identity", "gzip"):
        upstream.default = upstream.reply(b"", f"Content-Encoding: {coding}")
        assert (await (await client(site)).get("/a")).json == wrapped(None)


async def test_coded_text_passes_as_it_is(
    site: Running, upstream: Upstream, client: Clients
) -> None:
    coded = gzip.compress(b"hello")
    upstream.default = upstream.reply(coded, "Content-Encoding: gzip", type="text/plain")
    answer = await (await client(site)).get("/a")
    assert (answer.body, answer.get("Content-Encoding")) == (coded, "gzip")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, gzip;q=0.5, *;q=0.1", "gzip;q=0.5"),
        ("br", "identity"),
        ("identity", "identity"),
        (None, None),
    ],
)
async def test_accept_encoding_is_cut_to_what_can_be_decoded(
    site: Running, upstream: Upstream, client: Clients, asked: str | None, sent: str | None
) -> None:
    lines = [] if asked is None else [f"Accept-Encoding: {asked}"]
    await (await client(site)).get("/a", *lines)
    assert upstream.last.get("Accept-Encoding") == sent


# -- beyond the buffer -----------------------------------------------------------------------------

ROWS = [{"number": number, "text": "é" * 10} for number in range(2000)]
LONG = json.dumps(ROWS, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        ("200 OK", LONG, wrapped(ROWS)),
        ("200 OK", b'{"message":"m","data":%b}' % LONG, wrapped(ROWS, message="m")),
        ("200 OK", b'{"data":%b,"message":"m"}' % LONG, wrapped(ROWS, message="m")),
        ("200 OK", b'{"data":%b,"other":[1]}' % LONG, wrapped(ROWS)),
        ("200 OK", b'{"rows":%b}' % LONG, wrapped({"rows": ROWS})),
        ("200 OK", b'  {"data":%b }\r\n ' % LONG, wrapped(ROWS)),
        ("400 Bad", b'{"message":"m","data":%b}' % LONG, failed(ROWS, 400, "m")),
        ("200 OK", json.dumps("x" * 9000).encode(), wrapped("x" * 9000)),
    ],
)
@pytest.mark.parametrize("coding", [None, "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_answer_beyond_the_buffer_is_wrapped_as_a_stream(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    status: str,
    body: bytes,
    expected: Any,
    coding: str | None,
    framing: str,
) -> None:
    """The same envelope, in chunks."""
    at = await sidecar(api(upstream, buffer="1KiB"))
    coded = gzip.compress(body) if coding else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
    head += "Content-Encoding: gzip\r\n" if coding else ""
    cuts = [coded[at : at + 700] for at in range(0, len(coded), 700)]
    if framing == "chunked":
        head += "Transfer-Encoding: chunked\r\n"
        cuts = [b"%x\r\n%b\r\n" % (len(cut), cut) for cut in [*cuts, b""]]
    elif framing == "length":
        head += f"Content-Length: {len(coded)}\r\n"
    script: list[Step] = [f"{head}\r\n".encode(), *cuts]
    upstream.default = [*script, "close"] if framing == "close" else script
    answer = await (await client(at)).get("/a")
    assert answer.status == int(status[:3])
    assert answer.get("Content-Encoding") is None
    assert answer.json == expected


LARGE = (
    b'{"isError":false,"message":"m","data":%b,"status":%d,"errorData":null,"pagination":{"a":2}}'
)


@pytest.mark.parametrize("status", [200, 0])
@pytest.mark.parametrize("coding", [None, "gzip"])
@pytest.mark.parametrize("cut", [500, 90_000, 200_000])
async def test_large_envelope_passes_unchanged(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    status: int,
    coding: str | None,
    cut: int,
) -> None:
    """As a small one does, with members that are none of the five."""
    at = await sidecar(api(upstream, buffer="1KiB"))
    body = LARGE % (LONG, status)
    fields = ["Content-Encoding: gzip"] if coding else []
    whole = upstream.reply(gzip.compress(body, 0) if coding else body, *fields)
    upstream.default = [whole[:cut], 0.01, whole[cut:]]
    answer = await (await client(at)).get("/a")
    assert answer.body == body


async def test_large_envelope_with_sorted_keys_loses_nothing(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """What cannot be passed on any more breaks the connection (T49)."""
    at = await sidecar(api(upstream, buffer="1KiB"))
    told = {"data": ROWS, "errorData": None, "isError": False, "message": "", "status": 0}
    one = await client(at)
    for members in (told, {**told, "total": 7}):
        whole = upstream.reply(json.dumps(members, ensure_ascii=False).encode())
        upstream.default = [whole[:5000], 0.02, whole[5000:]]
        one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
        answer = await one.answer_or_break()
        assert answer is not None
        assert answer.json == members
    whole = upstream.reply(json.dumps({**told, "isError": True}).encode())
    upstream.default = [whole[:5000], 0.02, whole[5000:]]
    one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
    assert await one.answer_or_break() is None


@pytest.mark.parametrize(
    ("message", "members", "told"),
    [
        ("", {"isError": False, "status": 0}, None),
        ("partial", {"isError": True}, "partial"),
        ("ok", {"isError": False, "traceId": "t"}, "ok"),
        ("m", {"isError": False, "errorData": {"a": 1}}, "m"),
    ],
)
@pytest.mark.parametrize("buffer", ["1KiB", "1MiB"])
async def test_large_answer_that_only_resembles_an_envelope_is_wrapped(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    message: str,
    members: dict[str, Any],
    told: str | None,
    buffer: str,
) -> None:
    """As a small one is: one of the five members is missing."""
    at = await sidecar(api(upstream, buffer=buffer))
    body = {"isError": False, "message": message, "data": ROWS} | members
    whole = upstream.reply(json.dumps(body).encode())
    upstream.default = [whole[:5000], 0.01, whole[5000:]]
    answer = await (await client(at)).get("/a")
    assert answer.json == {
        "isError": False,
        "message": told,
        "data": ROWS,
        "status": 200,
        "errorData": None,
    }


HTML = b"<!doctype html>" + b"x" * 5000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (HTML, failed(None, 422, "Oops")),
        (b'{"data":"%b"' % (b"x" * 5000), failed(None, 422, "Oops")),
        (b'{"message":"m","data":"%b\xff"}' % (b"x" * 5000), failed(None, 422, "Oops")),
        (b'{"data":"%b","data":{"a":1}}' % (b"x" * 5000), failed({"a": 1}, 422, "Oops")),
        (
            b'{"data":[1],"x":"%b","message":"m","status":1,"errorData":0,"isError":true}'
            % (b"x" * 5000),
            None,
        ),
    ],
)
@pytest.mark.parametrize("cut", [None, 1, 2000, 4990])
async def test_error_beyond_the_buffer_keeps_its_status(
    sidecar: Start,
    upstream: Upstream,
    client: Clients,
    *,
    body: bytes,
    expected: Any,
    cut: int | None,
) -> None:
    """What is no JSON, a repeated member and a late envelope are known before its head leaves."""
    at = await sidecar(api(upstream, buffer="1KiB"))
    whole = upstream.reply(body, status="422 Oops")
    behind = len(whole) - len(body) + (cut or 0)
    upstream.default = whole if cut is None else [whole[:behind], 0.01, whole[behind:]]
    answer = await (await client(at)).get("/a")
    assert answer.status == 422
    assert answer.json == (expected or json.loads(body))


async def test_message_that_ends_the_session_counts_in_an_error_beyond_the_buffer(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """However its body comes."""
    at = await sidecar(api(upstream, buffer="1KiB"))
    body = b'{"stack":"%b","message":"UnAuthentication"}' % (b"x" * 5000)
    whole = upstream.reply(body, status="400 Bad Request")
    scripts: tuple[list[Step], ...] = ([whole], [whole[:200], 0.01, whole[200:]])
    for number, script in enumerate(scripts):
        upstream.default = script
        answer = await (await client(at)).get("/a", f"Cookie: access_token=tok{number}")
        assert answer.status == 303


async def test_stream_reaches_a_client_of_http_1_0_unchunked(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(api(upstream, buffer="1KiB"))
    upstream.default = upstream.reply(LONG)
    one = await client(at)
    one.send("GET /a HTTP/1.0\r\n\r\n")
    answer = await one.answer()
    assert answer.get("Transfer-Encoding") is None
    assert answer.json == wrapped(ROWS)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "script",
    [
        [b"Content-Length: 99999\r\n\r\n" + b'["%b' % (b"x" * 9000), 0.03, "close"],
        [b"Content-Length: 99999\r\n\r\n" + b'["%b' % (b"x" * 9000), 0.03, "reset"],
        [b"Content-Length: 9002\r\n\r\n" + b'["%b' % (b"x" * 9000)],
        [b"Content-Length: 9005\r\n\r\n" + b'["%b"]]' % (b"x" * 9000)],
        [b"Content-Length: 9004\r\n\r\n" + b'["%b"\xff' % (b"x" * 9000)],
        [b"Content-Length: 9004\r\n\r\n" + b'["%b\xff"' % (b"x" * 9000)],
        [b"Connection: close\r\n\r\n" + b'["%b' % (b"x" * 9000), 0.03, "close"],
        [b"Connection: close\r\n\r\n" + b'["%b"]' % (b"x" * 9000), 0.03, "reset"],
        [b'Transfer-Encoding: chunked\r\n\r\n2329\r\n"%b' % (b"x" * 9000), b"\r\n", 0.03, "close"],
    ],
)
async def test_stream_that_breaks_off_never_looks_whole(
    sidecar: Start, upstream: Upstream, client: Clients, script: list[Step], version: str
) -> None:
    """Whatever is wrong behind the buffer: the connection breaks, or nothing was sent yet."""
    at = await sidecar(api(upstream, buffer="1KiB"))
    assert isinstance(script[0], bytes)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    upstream.answers([head + script[0][:3000], 0.02, script[0][3000:], *script[1:]])
    one = await client(at)
    one.send(f"GET /a HTTP/{version}\r\n{HOST}\r\n")
    answer = await one.answer_or_break()
    assert answer is None or answer.status == 502
    assert (await (await client(at)).get("/b")).status == 200


async def test_corrupt_coding_beyond_the_buffer_breaks(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    at = await sidecar(api(upstream, buffer="1KiB"))
    coded = gzip.compress(LONG, 1)
    head = upstream.reply(coded, "Content-Encoding: gzip")[: -len(coded)]
    upstream.answers([head + coded[:2000], 0.02, b"x" * (len(coded) - 2000)])
    one = await client(at)
    one.send(f"GET /a HTTP/1.1\r\n{HOST}\r\n")
    assert await one.answer_or_break() is None


@pytest.mark.parametrize("place", ["of the route", "of all"])
async def test_failure_below_400_is_an_error(
    sidecar: Start, upstream: Upstream, client: Clients, place: str
) -> None:
    """In memory and as a stream; with the upstream's own status."""
    rules = [{"path": "code", "not": [0, 200]}, {"path": "success", "equals": False}]
    config = api(upstream, **({"failure": rules} if place == "of the route" else {}))
    at = await sidecar({**config, "envelope": {"failure": rules, "buffer": "1KiB"}})
    one = await client(at)
    for size in (1, 5000):
        body = {"code": 17, "message": "sold out", "data": "x" * size}
        upstream.default = upstream.reply(json.dumps(body).encode())
        got = await one.get("/")
        assert (got.status, got.json) == (200, failed("x" * size, 200, "sold out"))
        upstream.default = upstream.reply(json.dumps(body | {"code": 0}).encode())
        assert (await one.get("/")).json == wrapped("x" * size, message="sold out")
