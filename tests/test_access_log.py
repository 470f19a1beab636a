"""The access log's line in one step is the line that structlog makes of the same facts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from sidecar.access_log import LONGEST_FIELD, JsonAccess, facts
from sidecar.core.config import Log
from sidecar.core.credential import Result
from sidecar.core.errors import loggable
from sidecar.core.forwarding import Peer
from sidecar.core.path_mask import PathMask
from sidecar.core.request import UNREAD, Request
from sidecar.log import Logging
from sidecar.log_level import LogLevel
from sidecar.log_writer import LogTarget
from sidecar.web.flow import Flow

# With quotes, control characters, and the surrogates that stand for bytes that are not UTF-8.
ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from('"\\\n\x00\x1b\x7f\x9b\u2028\udcff')))

# All that `given_request_id` lets pass, and `Ids` makes.
REQUEST_IDS = st.from_regex(rb"[A-Za-z0-9._:/+=@-]{1,128}", fullmatch=True)

INFO = LogLevel("info")
NO_MASK = PathMask(())
FIELDS = (
    (),
    (b"User-Agent", b"traceparent"),
    (b"User-Agent", b"X-Forwarded-Host", b"X-Forwarded-For", b"X-Forwarded-Proto"),
)


class Lines:
    """Keeps the lines that it is given."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.lost = 0
        self.on_gap: Callable[[int], None] = print
        self.columns: int | None = None

    def write(self, line: bytes, *, at_once: bool = False) -> None:
        self.lines.append(line)

    def expect(self, lines: Callable[[], Sequence[bytes]]) -> None:
        self.lines += lines()

    def hurry(self, *, at_once: bool) -> None:
        pass

    def turn_to(self, target: LogTarget) -> None:
        target.close()

    def reopen(self) -> None:
        pass


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    reading = SimpleNamespace(
        source=draw(st.none() | ANY_TEXT), result=draw(st.sampled_from(list(Result)))
    )
    raw = [(name, draw(st.binary(max_size=300))) for name in draw(st.sampled_from(FIELDS))]
    request = Request("GET", "/", [(b"Host", b"a"), *raw], http11=draw(st.booleans()))
    request.method, request.path = draw(ANY_TEXT), draw(ANY_TEXT)
    peer = Peer(draw(ANY_TEXT), draw(st.booleans()), b"https", None, lambda _: True)
    flow: Any = SimpleNamespace(
        request=draw(st.sampled_from([UNREAD, request])),
        request_id=draw(REQUEST_IDS),
        began=1.8e9,
        connection=SimpleNamespace(peer=peer),
        trace_id=draw(st.sampled_from(["", "5" * 32])),
        retries=draw(st.integers(0, 3)),
        upstream_address=draw(ANY_TEXT),
        upstream_seconds=draw(st.just(0.0) | st.floats(0, 1e6)),
        route=SimpleNamespace(path=draw(ANY_TEXT), upstream=draw(ANY_TEXT)),
        status=draw(st.integers(0, 599)),
        upstream_status=draw(st.integers(0, 599)),
        decision=draw(ANY_TEXT),
        reason=draw(ANY_TEXT),
        detail=loggable(draw(ANY_TEXT)),
        would=draw(st.sampled_from([(), ("wrap",), ("inject", "logout")])),
        presented=SimpleNamespace(fingerprint=draw(st.none() | ANY_TEXT), reading=reading),
        bytes_in=draw(st.integers(0, 1 << 60)),
        bytes_out=draw(st.integers(0, 1 << 60)),
    )
    return cast("Flow", flow)


def without_time(line: bytes) -> bytes:
    head, time = line.split(b', "timestamp": "')
    assert len(time) in (len('2026-01-01T00:00:00Z"}\n'), len('2026-01-01T00:00:00.000000Z"}\n'))
    return head


@given(flows(), st.floats(0, 1e6), st.dictionaries(ANY_TEXT, st.integers() | ANY_TEXT))
def test_both_renderings_are_the_same_bytes(
    flow: Flow, seconds: float, bound: dict[str, Any]
) -> None:
    """But for the time; and it is one line of ASCII, whatever a client sends."""
    bound = {f"bound {name}": value for name, value in bound.items()}
    one, other = Lines(), Lines()
    JsonAccess(one, bound, INFO, NO_MASK)(flow, seconds)
    log = Logging(other, INFO).events(Log(format="json")).bind(**bound)
    log.info("request", **facts(flow, seconds))
    assert [without_time(line) for line in one.lines] == [
        without_time(line) for line in other.lines
    ]
    (line,) = one.lines
    assert line.isascii()
    assert line.count(b"\n") == 1
    told = json.loads(line)
    expected = {name: value for name, value in facts(flow, seconds).items() if value is not None}
    assert list(told) == [*bound, *expected, "event", "level", "timestamp"]
    assert told | expected == told


@given(flows(), st.floats(0, 1e6), ANY_TEXT.filter(lambda text: text and ";" not in text))
def test_a_path_that_is_too_long_is_cut(flow: Flow, seconds: float, text: str) -> None:
    """So that lines of several processes do not mix; all else stays."""
    request = Request("GET", "/", [(b"Host", b"a")], http11=True)
    request.path = text * 4000
    flow.request = request
    output = Lines()
    JsonAccess(output, {}, INFO, NO_MASK, 4096)(flow, seconds)
    whole = json.loads(b"".join(output.lines))
    assert len(output.lines[0]) <= 4096
    kept = whole.pop("path")
    assert kept.endswith("...")
    assert request.path.startswith(kept[:-3])
    expected = {name: value for name, value in facts(flow, seconds).items() if value is not None}
    assert {**expected, **whole, "path": request.path} == {**whole, "path": request.path}


def line_of(flow: Flow, seconds: float = 0.5) -> dict[str, Any]:
    output = Lines()
    JsonAccess(output, {}, INFO, NO_MASK)(flow, seconds)
    line: dict[str, Any] = json.loads(b"".join(output.lines))
    return line


@given(flows())
def test_what_a_client_writes_is_cut_and_printable(flow: Flow) -> None:
    """User-Agent and Host: whoever reads the log in a terminal is sent no control character."""
    agent = b"\x1b[31mMozilla" + b"\xff" * 1000
    raw = [(b"Host", b"h" * 1000), (b"User-Agent", agent)]
    flow.request = Request("GET", "/a?token=1", raw, http11=True)
    line = line_of(flow)
    assert line["host"] == "h" * LONGEST_FIELD
    assert line["user_agent"] == "?[31mMozilla?"
    assert "token" not in json.dumps(line["path"])


@given(flows())
def test_the_trace_is_the_sidecar_s_own_or_else_the_client_s(flow: Flow) -> None:
    """A traceparent that is malformed is none (W3C Trace Context 3.2.2)."""
    good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    own = flow.trace_id
    for value in (good, good.upper(), good[:-1], b"00" + b"-" + b"0" * 32 + good[35:]):
        raw = [(b"Host", b"a"), (b"traceparent", value)]
        flow.request = Request("GET", "/", raw, http11=True)
        theirs = "0af7651916cd43dd8448eb211c80319c" if value == good else None
        assert line_of(flow).get("trace_id") == (own or theirs)


@given(flows(), flows())
def test_a_section_that_comes_again_is_told_the_same(flow: Flow, other: Flow) -> None:
    """Who asks is remembered with the header section, which is of one connection."""
    first = line_of(flow)
    assert line_of(flow) | {"timestamp": ""} == first | {"timestamp": ""}
    names = ("client", "peer", "host", "scheme", "user_agent")
    flow.status, flow.bytes_in = other.status, other.bytes_in  # type: ignore[misc]
    assert [line_of(flow).get(name) for name in names] == [first.get(name) for name in names]


@given(st.lists(st.tuples(flows(), st.floats(0, 1e6)), min_size=2, max_size=5))
def test_what_is_remembered_of_a_request_is_told_of_it_alone(
    ended: list[tuple[Flow, float]],
) -> None:
    """Requests that are alike share what was prepared; each line is still that of its request."""
    request = ended[0][0].request
    output, other = Later(), Lines()
    access = JsonAccess(output, {}, INFO, NO_MASK)
    for flow, seconds in [*ended, *ended]:
        if request is not UNREAD and flow.request is not UNREAD:
            flow.request, flow.connection = request, ended[0][0].connection
        access(flow, seconds)
        Logging(other, INFO).events(Log(format="json")).info("request", **facts(flow, seconds))
        flow.bytes_in += 1  # type: ignore[misc] # what comes later changes no line
    told = [without_time(line) for line in output.lines_now()]
    assert told == [without_time(line) for line in other.lines]


class Later(Lines):
    """Takes lines when it is asked for them, as a `LogWriter` does."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[Callable[[], Sequence[bytes]]] = []

    def expect(self, lines: Callable[[], Sequence[bytes]]) -> None:
        self.expected.append(lines)

    def lines_now(self) -> list[bytes]:
        (lines,) = self.expected
        return list(lines())


@given(flows(), st.floats(-1e6, 0))
def test_a_clock_that_is_set_back_makes_no_negative_duration(flow: Flow, seconds: float) -> None:
    flow.upstream_seconds = -0.25
    line = line_of(flow, seconds)
    assert (line["duration_ms"], line["upstream_ms"]) == (0.0, 0.0)


@given(flows())
def test_the_time_of_a_line_is_that_of_its_request_s_end(flow: Flow) -> None:
    """In UTC, to the microsecond; and not that of its writing."""
    times = (time.time(), 0.25, 1.0, 1.000001, 1e9 + 0.999999, 1e9)
    output = Later()
    access = JsonAccess(output, {}, INFO, NO_MASK)
    for now in times:
        vars(flow)["began"] = now - 0.5
        access(flow, 0.5)
    for now, line in zip(times, output.lines_now(), strict=True):
        told = datetime.fromisoformat(json.loads(line)["timestamp"])
        assert told.utcoffset() == timedelta(0)
        assert abs(told.timestamp() - now) < 2e-6


def test_console_lines_may_hold_anything() -> None:
    """Characters that cannot be encoded are escaped."""
    output = Lines()
    Logging(output, INFO).events(Log(format="console")).info("request", path="/\udcff")
    assert b"\\udcff" in output.lines[0]
