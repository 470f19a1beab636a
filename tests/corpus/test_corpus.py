"""Every case of the corpus, sent to a sidecar of its own (README.md)."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin, urlsplit

import pytest

from tests.corpus.playing import Caller, Heard, Recorder, text

if TYPE_CHECKING:
    from tests.conftest import Embedded, Start, Upstream
    from tests.corpus.wire import Message

HERE: Final = Path(__file__).parent
GATEWAY: Final = (502, 503, 504)
SEALED: Final = {"type": "authjs", "secret": "a secret of the corpus, long enough", "token": "t"}


def cases(name: str) -> list[Any]:
    lines = (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [pytest.param(case, id=case["id"]) for case in map(json.loads, lines)]


class Stage:
    """A sidecar, its upstream and its client for one case."""

    def __init__(self, case: dict[str, Any], upstream: Upstream) -> None:
        self.case = case
        self.token = f"goodtoken.{case['id']}"
        self.upstream = upstream
        self.recorder = Recorder(self.fill)
        self.port = 0

    async def open(self, sidecar: Start, **more: Any) -> Embedded:
        api = {"kind": "api", "upstream": "main", "strip": "/api", "session": "optional"}
        at = await sidecar(
            upstreams={"main": {"url": self.upstream.url, "head": "2s", "retry": "0s"}},
            routes=[{"path": "/api/", **api}],
            logout={"path": "/api/logout", "redirect_to": "/login", "cookies": ["access_token"]},
            **more,
        )
        self.port = at.port
        return at

    def plays(self, *scripts: list[Any]) -> None:
        """The upstream follows these scripts from now on."""
        self.recorder = Recorder(self.fill, scripts)
        self.upstream.serve = self.recorder.serve

    def fill(self, template: str) -> str:
        """A text with its places filled in."""
        if "{{" not in template:
            return template
        line = f"GET /api/SMUGGLED-{self.case['id']} HTTP/1.1"
        smuggled = f"{line}\r\nHost: {self.host}\r\nX-Smug: 1\r\n\r\n"
        key = self.recorder.requests[-1].get("sec-websocket-key") if self.recorder.requests else ""
        proof = sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()  # noqa: S324
        for name, value in (
            ("cookie", f"Cookie: access_token={self.token}\r\n"),
            ("host", self.host),
            ("id", self.case["id"]),
            ("upstream", self.upstream.url.removeprefix("http://")),
            ("token", self.token),
            ("smuggled length", f"{len(smuggled):x}"),
            ("proof", b64encode(proof).decode()),
        ):
            template = template.replace("{{" + name + "}}", value)
        return template

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def send(self, steps: list[Any], methods: list[str], **more: Any) -> Heard:
        return await Caller(self.port, self.fill).send(steps, methods, **more)

    async def ask(self, *lines: str, method: str = "GET", tail: str = "", **more: Any) -> Heard:
        """A request that is like those of browsers, with a session."""
        head = [f"{method} /api/{self.case['id']}{tail} HTTP/1.1", f"Host: {self.host}", *lines]
        if not any(line.startswith("Cookie:") for line in lines):
            head.append(f"Cookie: access_token={self.token}")
        body = ""
        if method == "POST":
            head.append("Content-Length: 5")
            body = "hello"
        return await self.send(["\r\n".join([*head, "", body])], [method], **more)

    async def serves_others(self) -> list[str]:
        """What is wrong with the service of the next user, on a connection of its own."""
        line = f"GET /api/VICTIM-{self.case['id']} HTTP/1.1\r\nHost: {self.host}\r\n"
        steps = [f"{line}Cookie: access_token=other\r\n\r\n"]
        for _ in range(2):  # a connection to the upstream that was just closed may cost one
            told = (await self.send(steps, ["GET"])).responses
            if told and told[0].status not in GATEWAY:
                break
        if len(told) == 1 and told[0].status == 200 and b"VICTIM" in told[0].body:
            return []
        return [f"the next user got {[(one.status, one.body[:80]) for one in told]}"]


@pytest.fixture
def stage(request: pytest.FixtureRequest, upstream: Upstream) -> Stage:
    made = Stage(request.node.callspec.params["case"], upstream)
    made.plays()
    return made


def found(patterns: Iterable[str], where: str, stage: Stage) -> list[str]:
    """Those of the patterns that match."""
    return [
        one for one in patterns if re.search(stage.fill(one), where, re.IGNORECASE | re.MULTILINE)
    ]


def lacking(patterns: Iterable[str], where: str) -> list[str]:
    return [one for one in patterns if not re.search(one, where, re.IGNORECASE | re.MULTILINE)]


# -- requests --------------------------------------------------------------------------------------


def kinds_of_request(heard: Heard, recorder: Recorder, count: int) -> set[str]:
    """What has become of a request: refused, answered here, forwarded as one, or left open."""
    seen, final = len(recorder.requests), next((one.status for one in heard.responses), None)
    if recorder.anomalies:
        return set()
    kinds = set()
    if not seen and (final is None or 400 <= final < 500 or final in (501, 505)):
        kinds |= {"reject"} if final is not None or heard.has_ended else set()
        kinds |= {"incomplete"} if final is None else set()
    if not seen and final is not None and 200 <= final < 400:
        kinds.add("local")
    if seen == 1 and final is not None and final < 500:
        kinds.add("one")
    if seen == count == len(heard.responses):
        kinds.add(f"n:{seen}")
    return kinds


def faults_of_forwarded(stage: Stage, forwarded: Message) -> list[str]:
    """What is wrong with the one request that reached the upstream."""
    case, faults = stage.case, []
    if "body" in case and forwarded.body != stage.fill(text(case["body"])).encode("latin-1"):
        faults.append(f"body {forwarded.body[:60]!r}")
    if case.get("body_length", len(forwarded.body)) != len(forwarded.body):
        faults.append(f"{len(forwarded.body)} bytes of body")
    if not case.get("any_target") and case["id"] not in forwarded.target:
        faults.append(f"target {forwarded.target[:80]!r}")
    faults += lacking([stage.fill(one) for one in [case.get("target", "")]], forwarded.target)
    faults += found([case["target_not"]] if "target_not" in case else [], forwarded.target, stage)
    faults += lacking(case.get("upstream_has", []), forwarded.head)
    return faults + [name for name in case.get("upstream_keeps", []) if not forwarded.all(name)]


@pytest.mark.parametrize("case", cases("requests"))
async def test_request(case: dict[str, Any], stage: Stage, sidecar: Start) -> None:
    """Refused, or forwarded as exactly one clean request; never two, and never another one."""
    limits = {"client_head": "1s", "client_idle": "1s"} if case.get("slow") else {}
    await stage.open(sidecar, **({"limits": limits} if limits else {}))
    recorder = stage.recorder
    recorder.control_passes = case.get("control_passes", False)
    methods = case.get("methods") or ["GET"]
    length = len(stage.fill(text(case.get("length_of", ""))))
    steps = [_with_length(step, length) for step in text(case["client"])]
    if case.get("slow"):
        heard = await stage.send(steps, methods, seconds=5)
        assert heard.has_ended
        return
    wanted = int(case["right"][0][2:]) if case["right"][0].startswith("n:") else 1
    heard = await stage.send(steps, methods, seconds=case.get("seconds", 1.2), wanted=wanted)
    faults = _faults_of_request(stage, heard, methods, steps)
    assert [*faults, *await stage.serves_others()] == []


def _with_length(step: Any, length: int) -> Any:
    return step.replace("{{length}}", str(length)) if isinstance(step, str) else step


def _faults_of_request(
    stage: Stage, heard: Heard, methods: list[str], steps: list[Any]
) -> list[str]:
    case, recorder = stage.case, stage.recorder
    faults = [one for response in heard.responses for one in response.anomalies]
    heads = "\n".join(request.head for request in recorder.requests)
    faults += found(case.get("upstream_not", []), heads, stage)
    if not case.get("may_go_on"):
        outside = b"".join(each.raw for each in recorder.connections)
        for request in recorder.requests:
            outside = outside.replace(request.body or b"\0", b"")
        faults += ["smuggled bytes reached the upstream"] if b"SMUGGLED" in outside else []
    kinds = kinds_of_request(heard, recorder, len(methods))
    if case.get("may_go_on") and len(recorder.requests) == 2:
        kinds.add("one")
    if not heard.responses and not recorder.requests and {"FIN", "RST"} & set(map(str, steps)):
        kinds.add("incomplete")
    right = kinds & set(case["right"])
    if not right:
        told = [one.status for one in heard.responses], recorder.anomalies[:3]
        faults.append(f"{kinds} is none of {case['right']}: {told}, {len(recorder.requests)} seen")
    if "one" in right:
        faults += faults_of_forwarded(stage, recorder.requests[0])
        also = [one.status for one in heard.responses[1:] if 200 <= one.status < 400]
        faults += [f"answered twice: {also}"] if also and not case.get("may_go_on") else []
        faults += ["stays open"] if case.get("closes") and not heard.has_ended else []
    return faults


# -- responses -------------------------------------------------------------------------------------


def kinds_of_response(case: dict[str, Any], heard: Heard) -> set[str]:
    """What the client was given: the right body, an error of the gateway, or a visible break."""
    if not heard.responses:
        return {"truncated"} if heard.has_ended else {"no answer"}
    response = heard.responses[0]
    if not response.is_whole:
        return {"truncated"} if heard.has_ended else {"stalled"}
    kinds = {f"status:{response.status}", f"status:{response.status}x"}
    if response.status in GATEWAY:
        kinds.add("gateway_error")
    if response.status == 200:
        is_right = "payload" in case and response.body == text(case["payload"]).encode("latin-1")
        is_right = is_right or case.get("payload_length") == len(response.body)
        kinds |= {"ok", "verbatim"} if is_right else set()
    place = response.get("location").split("?")[0]
    if response.status in (302, 303, 307, 308) and place == "/api/logout":
        kinds.add("redirect_logout")
    return kinds


def faults_of_response(stage: Stage, response: Message, heard: Heard) -> list[str]:
    case = stage.case
    faults = list(response.anomalies)
    faults += found(case.get("client_not", []), response.head.replace("\r\n", "\n"), stage)
    faults += lacking(map(stage.fill, case.get("client_has", [])), response.head)
    faults += [
        f"{name} {response.all(name)}"
        for name, count in case.get("counts", {}).items()
        if len(response.all(name)) != count
    ]
    faults += ["status 500"] if response.status == 500 else []
    behind = response.at + len(response.raw) + 4
    if heard.within(behind) > case.get("body_within", 1e10):
        faults.append("the body came late")
    if heard.within(response.at) > case.get("head_within", 1e10):
        faults.append("the head came late")
    return faults


@pytest.mark.parametrize("case", cases("responses"))
async def test_response(
    case: dict[str, Any], stage: Stage, sidecar: Start, upstream: Upstream
) -> None:
    """The right answer, 502, or a visible break; nothing of it reaches the next user."""
    await stage.open(sidecar)
    if "scripts" in case:
        assert await _faults_of_sequence(stage) == []
        return
    stage.plays(text(case["upstream"]))
    if case.get("is_down"):
        await upstream.stop()
    method = case.get("method", "GET")
    lines = [line for line in stage.fill(case.get("fields", "")).split("\r\n") if line]
    seconds = case.get("seconds", 4 if case.get("slow") else 1.5)
    after = case.get("client_after", "")
    heard = await stage.ask(*lines, method=method, seconds=seconds, after=after)
    if case.get("is_down"):
        await upstream.start()
    kinds = kinds_of_response(case, heard)
    faults = [] if kinds & set(case["right"]) else [f"{kinds} is none of {case['right']}"]
    for response in heard.responses[:1]:
        faults += faults_of_response(stage, response, heard)
    if "evil" in case and case["evil"].encode() in heard.data:
        faults.append("bytes behind the answer reached the client")
    may_follow = bool(after) and [one.status for one in heard.responses[1:]] in (
        [400],
        [405],
        [501],
    )
    faults += ["answered twice"] if len(heard.responses) > 1 and not may_follow else []
    raw = b"".join(each.raw for each in stage.recorder.connections)
    if "upstream_not" in case and case["upstream_not"].encode() in raw:
        faults.append("bytes of the client went through a tunnel that is none")
    stage.plays()
    assert [*faults, *await stage.serves_others()] == []


async def _faults_of_sequence(stage: Stage) -> list[str]:
    """Requests one after the other, each with a script of its own."""
    case, faults = stage.case, []
    stage.plays(*text(case["scripts"]), [])
    for number, (method, wanted) in enumerate(zip(case["requests"], case["sequence"], strict=True)):
        heard = await stage.ask(method=method, tail=f"?i={number}", seconds=3)
        told = [f"{one.status}:{one.body.decode('latin-1')}" for one in heard.responses]
        if not (told and (told[0] == wanted or (":" not in wanted and told[0].startswith(wanted)))):
            faults.append(f"request {number}: {told} instead of {wanted}")
    sent = Counter(request.method for request in stage.recorder.requests)
    return faults + [name for name, most in case.get("at_most", {}).items() if sent[name] > most]


# -- envelopes -------------------------------------------------------------------------------------


def body_of(case: dict[str, Any]) -> bytes:
    made = case.get("made")
    if made is None:
        return text(case["body"]).encode("latin-1") if case["body"] else b""
    if "keys" in made:
        return json.dumps({"data": {f"k{n}": n for n in range(made["keys"])}}).encode()
    inner = made["open"] * made["n"] + made.get("mid", "") + made["close"] * made["n"]
    return f"{made['pre']}{inner}{made['post']}".encode("latin-1")


def exactly(data: bytes) -> Any:
    """JSON with exact numbers; None if it is none."""
    number = lambda digits: ("number", Decimal(digits))  # noqa: E731
    try:
        return json.loads(
            data.decode("utf-8", "surrogatepass"), parse_int=number, parse_float=number
        )
    except (ValueError, RecursionError):
        return None


def kinds_of_envelope(case: dict[str, Any], response: Message, body: bytes) -> set[str]:
    kinds, status = set(), case["status"]
    if response.status == status and response.body == body:
        kinds.add("passthrough")
    if response.status in GATEWAY and status not in GATEWAY:
        kinds.add("gateway_error")
    told = exactly(response.body)
    five = {"isError", "message", "data", "status", "errorData"}
    if response.status == status and isinstance(told, dict) and set(told) == five:
        kinds.add("envelope_any")
        if "data" in case and told["data"] == exactly(case["data"].encode("latin-1")):
            kinds.add("envelope_any_message")
    for one in case["right"]:
        if isinstance(one, dict) and response.status == status and told is not None:
            is_lossless = "envelope" in one and told == exactly(one["envelope"].encode("latin-1"))
            kinds |= {"envelope"} if is_lossless else set()
    return kinds


@pytest.mark.parametrize("case", cases("envelopes"))
async def test_envelope(case: dict[str, Any], stage: Stage, sidecar: Start) -> None:
    """What becomes of a body, by status and type; the upstream's own values."""
    await stage.open(sidecar)
    body = body_of(case)
    head = f"HTTP/1.1 {case['status']} {'OK' if case['reason'] is None else case['reason']}\r\n"
    head += "" if case["type"] is None else f"Content-Type: {case['type']}\r\n"
    head += case.get("fields", "")
    if case.get("chunked"):
        size = len(body) if case["chunked"] is True else 1
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
        head += "Transfer-Encoding: chunked\r\n"
    else:
        sent = body
        head += f"Content-Length: {len(body)}\r\n"
    stage.plays([f"{head}\r\n{sent.decode('latin-1')}"])
    (response,) = (await stage.ask(seconds=6)).responses
    kinds = kinds_of_envelope(case, response, body)
    right = {"envelope" if isinstance(one, dict) else one for one in case["right"]}
    faults = list(response.anomalies)
    faults += [] if kinds & right else [f"{kinds} is none of {right}: {response.body[:200]!r}"]
    if "passthrough" not in kinds:
        faults += found(case.get("client_not", []), response.head, stage)
        never = [] if "gateway_error" in kinds else case.get("client_never", [])
        faults += [one for one in never if one.encode() in response.body]
    faults += lacking(case.get("client_has", []), response.head)
    stage.plays()
    assert [*faults, *await stage.serves_others()] == []


# -- cookies ---------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"Bearer [A-Za-z0-9\-._~+/]+=*")


@pytest.mark.parametrize("case", cases("cookies"))
async def test_cookie(case: dict[str, Any], stage: Stage, sidecar: Start) -> None:
    """A forged or malformed cookie is nobody's, quickly; whatever it holds stays a value."""
    source = {**SEALED, "cookie": "access_token"}
    await stage.open(
        sidecar, **({} if case.get("any_mode") else {"session": {"sources": [source]}})
    )
    heard = await stage.ask(f"Cookie: {text(case['cookie'])}", seconds=3)
    recorder = stage.recorder
    tokens = [value for one in recorder.requests for value in one.all("authorization")]
    assert [one.status for one in heard.responses if one.status >= 500] == []
    assert heard.responses or heard.has_ended
    assert recorder.anomalies == []
    assert len(tokens) <= len(recorder.requests) <= 1
    assert all(map(_TOKEN.fullmatch, tokens))
    assert not found(["^x-injected"], "\n".join(one.head for one in recorder.requests), stage)
    if "anonymous" in case["right"]:
        assert tokens == []


# -- redirects -------------------------------------------------------------------------------------

_NAVIGATION: Final = (
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-User: ?1",
    "Accept: text/html,*/*",
)


def place_of(location: str, base: str) -> tuple[str, str]:
    """Scheme and authority that browsers go to: a backslash is a slash, controls are nothing."""
    cleaned = re.sub(r"[\t\n\r]", "", location.strip("".join(map(chr, range(33)))))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):", cleaned)
    if scheme and scheme[1].lower() not in ("http", "https"):
        return scheme[1].lower(), ""
    if scheme and not re.match(r"[/\\]{2}", cleaned[scheme.end() :]):
        cleaned = cleaned[scheme.end() :] if base.startswith(scheme[0].lower()) else "evil://x"
    cleaned = re.sub(r"^[/\\]{2,}", "//", cleaned.replace("\\", "/"))
    split = urlsplit(urljoin(base, cleaned))
    return split.scheme, split.netloc.rpartition("@")[2].lower()


def queries(place: str) -> list[str]:
    """The spellings in which a browser may send a place: encoded, and as it is."""
    asis = re.sub(r"[\x00-\x20#&+\x7f-\xff]", lambda match: f"%{ord(match[0]):02X}", place)
    return [quote(place.encode("latin-1"), safe=""), asis]


@pytest.mark.parametrize("case", cases("redirects"))
async def test_redirect(case: dict[str, Any], stage: Stage, sidecar: Start) -> None:
    """No place that a caller names leads away from the origin; the harmless ones are taken."""
    at = await stage.open(sidecar)
    host = f"127.0.0.1:{at.port}"
    wanted = stage.fill(text(case.get("next", "")))
    targets = (
        [f"/api/logout?next={query}" for query in queries(wanted)] if wanted else ["/api/logout"]
    )
    fields = stage.fill(case.get("fields", "Host: {{host}}"))
    places = []
    for target in targets:
        lines = [f"GET {target} HTTP/1.1", fields, *_NAVIGATION, "Cookie: access_token=tok", "", ""]
        heard = await stage.send(["\r\n".join(lines)], ["GET"])
        assert heard.responses or heard.has_ended
        for response in heard.responses:
            assert response.status < 500
            assert response.anomalies == []
            assert not response.all("x-injected")
            assert not response.get("refresh")
            assert not any(one.startswith("evil=") for one in response.all("set-cookie"))
            places += response.all("location")
    for place in places:
        for base in (f"http://{host}/api/logout", f"https://{host}/api/logout"):
            scheme, authority = place_of(place, base)
            assert scheme in ("http", "https"), place
            assert authority in (host, "127.0.0.1", "127.0.0.1:443"), place
    if case["class"] == "control-ok":
        assert wanted in [re.sub(r"^https?://[^/]+", "", place) for place in places]


def test_every_file_is_played() -> None:
    names = {path.stem for path in HERE.glob("*.jsonl")}
    assert names == {"requests", "responses", "envelopes", "cookies", "redirects"}
