"""HEAD, conditional and range requests: what they say agrees with what GET says of a resource."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Answer, Clients, Received, Start, Upstream

TYPES = ("application/json", "application/problem+json", "text/plain", "image/png", "text/json")
TAGS = ('"a"', 'W/"a"', None)
EXTRAS = ("", "Content-Disposition: attachment", "Cache-Control: max-age=60")
CONDITIONS = (
    *("If-None-Match: {etag}", "If-None-Match: {weak}", "If-None-Match: *"),
    *('If-None-Match: "x", {etag}', 'If-None-Match: "x"', "If-Match: {etag}", 'If-Match: "x"'),
    *("Range: bytes=0-1", "Range: bytes=99-", "Range: bytes=99-\r\nIf-Range: {etag}"),
)
BODY = b'{"data":1}'

# What describes the body, and is said alike of the answers to GET, HEAD and 304.
DESCRIBES = (
    *("ETag", "Accept-Ranges", "Content-Type", "Content-MD5", "Digest", "Content-Encoding"),
    *("Cache-Control", "Vary", "Last-Modified", "Content-Disposition"),
)
NOT_MODIFIED_SAYS = ("ETag", "Cache-Control", "Vary")  # RFC 9110 15.4.5


class Resource:
    """A resource of an upstream that obeys conditions and ranges (RFC 9110 13, 14)."""

    def __init__(self, kind: str, etag: str | None, extra: str) -> None:
        self.kind = kind
        self.etag = etag
        self.fields = [f"Content-Type: {kind}", "Accept-Ranges: bytes", "Content-MD5: x"]
        self.fields += ["Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", *([extra] if extra else [])]
        self.validators = [f"ETag: {etag}"] if etag else []
        self.validators += [extra] if extra.startswith("Cache") else []

    def answer(self, request: Received) -> bytes:
        """The bytes of the answer; those of a body are cut off for HEAD."""
        matches, none_match = request.get("If-Match"), request.get("If-None-Match")
        if matches is not None and not self._is_listed(matches, weakly=False):
            return self._reply(412, [*self.validators, "Content-Type: text/html"], b"no")
        if none_match is not None and self._is_listed(none_match, weakly=True):
            return self._reply(304, self.validators, None)
        wanted, unless = request.get("Range"), request.get("If-Range")
        if wanted and request.method == "GET" and unless in (None, self.etag):
            if wanted == "bytes=99-":
                fields = ["Content-Range: bytes */10", "Content-Type: text/html"]
                return self._reply(416, fields, b"no")
            return self._reply(206, [*self.fields, *self.validators], BODY[:2], "bytes 0-1/10")
        return self._reply(200, [*self.fields, *self.validators], BODY)

    def _is_listed(self, value: str, *, weakly: bool) -> bool:
        if value == "*":
            return True
        listed = [one.strip() for one in value.split(",")]
        if weakly:
            return (self.etag or "-").removeprefix("W/") in [
                one.removeprefix("W/") for one in listed
            ]
        return self.etag in listed and not (self.etag or "W/").startswith("W/")

    def _reply(
        self, status: int, fields: list[str], body: bytes | None, part: str | None = None
    ) -> bytes:
        lines = [f"HTTP/1.1 {status} Some Phrase", *dict.fromkeys(fields)]
        if part:
            lines.append(f"Content-Range: {part}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def weakly(tag: str | None) -> str | None:
    return None if tag is None else tag.removeprefix("W/")


def told(answer: Answer, names: tuple[str, ...]) -> dict[str, list[str]]:
    return {name: answer.all(name) for name in names}


@pytest.mark.parametrize("session", ["", "Cookie: access_token=tok"])
@pytest.mark.parametrize("kind", TYPES)
async def test_head_and_conditions_say_what_get_says(
    sidecar: Start, upstream: Upstream, client: Clients, kind: str, session: str
) -> None:
    """RFC 9110 9.3.2, 15.4.5 and 15.5.17, by every condition on every kind of resource."""
    one = await client(await sidecar())
    given = [session] if session else []
    for etag, extra in product(TAGS, EXTRAS):
        resource = Resource(kind, etag, extra)
        upstream.default = resource.answer
        got = await one.get("/a", *given)
        assert got.status == 200
        head = await one.ask("HEAD", "/a", *given)
        assert told(head, DESCRIBES) == told(got, DESCRIBES)
        assert head.get("Content-Length") in (None, got.get("Content-Length"))
        tag = got.get("ETag")
        for condition in CONDITIONS:
            if tag is None and "{" in condition:
                continue
            weak = None if tag is None else "W/" + tag.removeprefix("W/")
            asked = condition.format(etag=tag, weak=weak)
            for method in ("GET", "HEAD"):
                answer = await one.ask(method, "/a", asked, *given)
                where = (kind, etag, extra, asked, method)
                assert answer.status in (200, 206, 304, 412, 416), where
                if answer.status == 304:
                    names_it = asked in (f"If-None-Match: {tag}", f'If-None-Match: "x", {tag}')
                    assert names_it or weakly(answer.get("ETag")) == weakly(tag), where
                    said = told(answer, NOT_MODIFIED_SAYS)
                    assert not names_it or said == told(got, NOT_MODIFIED_SAYS), where
                    assert answer.get("Content-Type") is None, where
                if answer.status == 200:
                    assert told(answer, DESCRIBES) == told(got, DESCRIBES), where
                if answer.status == 416:
                    assert answer.get("Content-Range") == "bytes */10", where
                    assert answer.json["isError"], where
                if answer.status == 206:
                    assert answer.get("Content-Range") == "bytes 0-1/10", where
                    assert answer.body == BODY[:2], where


async def test_a_page_route_changes_none_of_it(
    sidecar: Start, upstream: Upstream, client: Clients
) -> None:
    """Nothing is wrapped there, so every validator passes as it came."""
    one = await client(
        await sidecar(
            routes=[{"path": "/", "kind": "page", "upstream": "main"}],
            upstreams={"main": {"url": upstream.url}},
        )
    )
    upstream.default = Resource("application/json", '"a"', "").answer
    for method, asked in product(
        ("GET", "HEAD"), ("X: y", 'If-None-Match: W/"a"', "If-None-Match: *")
    ):
        answer = await one.ask(method, "/a", asked)
        assert answer.get("ETag") == '"a"'
    assert (await one.ask("HEAD", "/a")).get("Content-Length") == str(len(BODY))
