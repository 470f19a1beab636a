"""One body, one outcome: however it is cut into segments, framed and coded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.oracle.envelopes import BAD_GATEWAY, CODINGS, Expected, Outcome, Sent, expected, parsed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Answer, Client, Clients, Start, Step, Upstream

BUFFERS: Final = (16, 100, 700)
NAMES = ["data", "message", "isError", "status", "errorData", "detail", "title", "a", "b\u00e9"]
ODD = (
    *("1e400", "-0.0", "0e5", "12345678901234567890.10", '"\\ud800"', '"\\u0000"', '"\\/"', "{ }"),
    *('"' + "x" * 300 + '"', "[" + "1, " * 200 + "1]", '"' + "\u00e9" * 60 + '"', "true", "false"),
)

texts = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | texts
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
values = st.sampled_from(ODD) | st.builds(json.dumps, trees, ensure_ascii=st.booleans())
spaces = st.sampled_from(["", "", " ", "\r\n\t"])


@st.composite
def envelopes(draw: st.DrawFn) -> list[tuple[str, str]]:
    """The members of an envelope in any order, often with others, or not all of them."""
    members = [("isError", draw(st.sampled_from(["false", "false", "true", "0"])))]
    members += [("status", draw(st.sampled_from(["200", "200", "0", '"success"', "422"])))]
    members += [("errorData", draw(st.sampled_from(["null", "null", "{}"])))]
    members += [(name, draw(values)) for name in ("message", "data")]
    members += draw(st.lists(st.tuples(st.sampled_from(["a", "b\u00e9"]), values), max_size=2))
    members = draw(st.permutations(members))
    return members[: draw(st.sampled_from([9, 9, 9, 5, 4, 3]))]


@st.composite
def objects(draw: st.DrawFn) -> str:
    members = draw(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=7))
    if draw(st.integers(0, 3)) == 0:
        members = draw(envelopes())
    space = draw(spaces)
    parts = [f"{space}{json.dumps(name)}{space}:{space}{value}" for name, value in members]
    return space + "{" + f"{space},".join(parts) + space + "}" + space


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON, mostly objects; now and then cut, or with an octet that does not belong there."""
    body = draw(st.one_of(objects(), objects(), objects(), values)).encode("utf-8", "replace")
    harm = draw(st.integers(0, 9))
    at = draw(st.integers(0, max(len(body), 1)))
    if harm == 0:
        return body[:at]
    if harm == 1:
        return body[:at] + draw(st.sampled_from([b"\xff", b"\0", b"}", b",", b"NaN"])) + body[at:]
    return body


answers = st.builds(
    Sent,
    status=st.sampled_from([200, 200, 201, 400, 422, 503]),
    kind=st.sampled_from(
        [*["application/json"] * 6, "text/json", *["application/problem+json"] * 2, "text/plain"]
    ),
    coding=st.sampled_from(["", "", "", *CODINGS]),
    body=bodies(),
    buffer=st.sampled_from(BUFFERS),
)
ways = st.tuples(
    st.sampled_from(["length", "length", "chunked", "close"]),
    st.lists(st.tuples(st.integers(1, 4000), st.sampled_from([0.0, 0.001])), max_size=4),
)


def script(sent: Sent, framing: str, cuts: Sequence[tuple[int, float]]) -> list[Step]:
    """The answer's bytes, cut behind so many bytes each, with pauses."""
    body = CODINGS[sent.coding](sent.body)
    lines = [f"HTTP/1.1 {sent.status} Some Phrase", f"Content-Type: {sent.kind}"]
    lines += [f"Content-Encoding: {sent.coding}"] if sent.coding else []
    if framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        size = cuts[0][0] if cuts else len(body) or 1
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
    else:
        lines.append(f"Content-Length: {len(body)}" if framing == "length" else "Connection: close")
    data = "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body
    steps: list[Step] = []
    for size, pause in cuts:
        steps += [data[:size], pause]
        data = data[size:]
    steps.append(data)
    if framing == "close":
        steps.append("close")
    return steps


def outcome(answer: Answer | None, wanted: Expected) -> Outcome | None:
    """What came, read as what was expected: None if the connection broke."""
    if answer is None:
        return None
    if answer.status == 502:
        return Outcome(502, {"code": answer.code})
    if wanted.outcomes[0].body is not None:
        return Outcome(answer.status, body=answer.body)
    return Outcome(answer.status, parsed(answer.body))


async def asked(one: Client, buffer: int) -> Answer | None:
    one.send(f"GET /{buffer} HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
    return await one.answer_or_break()


def many(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
async def port(sidecar: Start, upstream: Upstream) -> int:
    """A sidecar whose routes differ in their buffers."""
    route = {"kind": "api", "upstream": "main", "session": "optional"}
    routes = [{"path": f"/{size}", "envelope": {"buffer": size}, **route} for size in BUFFERS]
    at = await sidecar(upstreams={"main": {"url": upstream.url}}, routes=routes)
    return at.port


LATE = (
    b'{"data":1,"pad":"'
    + b"x" * 40
    + b'","message":null,"status":200,"errorData":null,"isError":false}'
)
HALF = b'{"isError":false,"message":"m","data":"' + b"x" * 99 + b'"%b}'
EXTRA = HALF % b',"status":200,"errorData":null,"pagination":{"next":2}'
TWICE = b'{"data":1,"message":"m","pad":"' + b"x" * 900 + b'","data":2}'


@many(400)
@given(sent=answers, way=ways)
@example(Sent(200, "application/json", "", LATE, 16), ("length", []))
@example(Sent(422, "application/json", "", LATE, 16), ("length", []))
@example(Sent(200, "application/json", "", TWICE, 100), ("length", []))
@example(Sent(200, "application/json", "", EXTRA, 100), ("chunked", [(150, 0.01)]))
@example(Sent(201, "application/json", "", EXTRA, 100), ("length", [(150, 0.01)]))
@example(Sent(200, "application/json", "", HALF % b',"status":0', 100), ("length", []))
@example(Sent(200, "application/json", "", HALF % b',"traceId":"t"', 100), ("chunked", []))
@example(Sent(200, "application/json", "", HALF % b',"errorData":{}', 100), ("length", []))
@example(Sent(200, "application/json", "", HALF % b"", 100), ("length", [(150, 0.01)]))
@example(Sent(422, "application/json", "", TWICE, 100), ("length", [(200, 0.01), (500, 0.01)]))
@example(Sent(422, "application/json", "", TWICE[:-1], 100), ("chunked", [(200, 0.01)]))
@example(
    Sent(200, "application/json", "Deflate", TWICE[:-9] + b"}", 100), ("length", [(150, 0.01)])
)
async def test_a_body_has_one_outcome_in_whatever_pieces_it_comes(
    port: int,
    upstream: Upstream,
    client: Clients,
    sent: Sent,
    way: tuple[str, list[tuple[int, float]]],
) -> None:
    """In one segment, with its head alone, and cut anywhere; each is what the reference says."""
    wanted, (framing, cuts) = expected(sent), way
    head = script(sent, framing, [])[0]
    assert isinstance(head, bytes)
    behind_head = head.index(b"\r\n\r\n") + 4
    seen: set[bytes] = set()
    for cut in ([], [(behind_head, 0.002)], cuts):
        upstream.answers(script(sent, framing, cut))
        answer = await asked(await client(port), sent.buffer)
        got = outcome(answer, wanted)
        if got is None:
            assert wanted.may_break, (cut, wanted)
            continue
        assert got in wanted.outcomes, (cut, got, wanted)
        assert answer is not None
        if got != BAD_GATEWAY:
            seen.add(answer.body)
    await client.close()
    assert len(seen) < 2 or wanted.may_break or len(wanted.outcomes) > 1, seen
