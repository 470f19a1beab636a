"""What an answer's head says of its body, where clients are given an envelope instead.

The fields that describe the upstream's own bytes are made true or go. An answer without a body
describes the body that GET would have brought (RFC 9110 9.3.2, 15.4.5), so it says the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.core.actions import is_json_type, is_wrappable
from sidecar.core.upstream_head import UpstreamHead

_PASSED_AS_THEY_ARE: Final = (
    (b"content-type", b"Content-Type: "),
    (b"content-encoding", b"Content-Encoding: "),
    (b"content-disposition", b"Content-Disposition: "),
    (b"content-range", b"Content-Range: "),
    (b"etag", b"ETag: "),
    (b"accept-ranges", b"Accept-Ranges: "),
    (b"content-md5", b"Content-MD5: "),
    (b"digest", b"Digest: "),
    (b"content-digest", b"Content-Digest: "),
    (b"repr-digest", b"Repr-Digest: "),
    (b"www-authenticate", b"WWW-Authenticate: "),
)
DESCRIBED: Final = frozenset((b"etag", b"www-authenticate", b"content-range"))
"""The fields without which the head of an envelope says nothing of its body."""

# RFC 9110 8.8.3; `W` is case-sensitive.
_is_entity_tag: Final = re.compile(rb'(?:W/)?"[!#-~\x80-\xff]*"').fullmatch
_QUOTED: Final = re.compile(rb'(?:W/)?("[^"]*")')
_NOT_MODIFIED: Final = 304
_RANGE_NOT_SATISFIABLE: Final = 416


def representation_lines(head: UpstreamHead, *, wrapped: bool) -> list[bytes]:
    """The header lines that describe the body: the upstream's own, or those true of an envelope."""
    facts = head.facts
    if not wrapped:
        return [name + facts[key] for key, name in _PASSED_AS_THEY_ARE if key in facts]
    lines = []
    etag = facts.get(b"etag")
    if etag is not None and _is_entity_tag(etag):  # no client could do anything with another
        lines.append(b"ETag: " + (etag if etag.startswith(b"W/") else b"W/" + etag))
    if b"www-authenticate" in facts:
        lines.append(b"WWW-Authenticate: " + facts[b"www-authenticate"])
    if head.status == _RANGE_NOT_SATISFIABLE and b"content-range" in facts:
        lines.append(b"Content-Range: " + facts[b"content-range"])  # of what was asked for
    return lines


def strong_tags(value: bytes) -> bytes:
    """An If-Match value without the `W/` that wrapping put on strong ETags (RFC 9110 13.1.1)."""
    return _QUOTED.sub(rb"\1", value)


def stands_for_envelope(head: UpstreamHead, request: Mapping[bytes, bytes]) -> bool:
    """Whether the head of an answer without a body describes one that GET would have wrapped.

    `request` are the request's field values. For answers to HEAD, and 304.
    """
    if head.status == _NOT_MODIFIED:
        return _was_envelope(head, request.get(b"if-none-match", b""))
    if not is_wrappable(head):
        return False
    return head.status >= 400 or head.is_empty or is_json_type(head.fact(b"content-type"))


def _was_envelope(head: UpstreamHead, presented: bytes) -> bool:
    """Whether a 304 confirms an envelope.

    Its head seldom says of which type the body is. But the client names the ETag that it was given,
    which is a weak one only of an envelope. What is no entity-tag it was given of no envelope.
    """
    etag, kind = head.facts.get(b"etag"), head.fact(b"content-type")
    if kind and is_json_type(kind):
        return True
    if etag is None:
        return False
    if not _is_entity_tag(etag):
        return not (kind or (etag and etag in presented))
    if etag.startswith(b"W/"):
        return False
    return b"W/" + etag in presented or not (kind or etag in presented)
