"""Which fields describe the body that a client is given, or would be given by GET."""

from __future__ import annotations

import pytest

from sidecar.core.representation import representation_lines, stands_for_envelope, strong_tags
from sidecar.core.upstream_head import UpstreamHead

JSON = (b"Content-Type", b"application/json")
TEXT = (b"Content-Type", b"text/plain")
STRONG = (b"ETag", b'"a"')
WEAK = (b"ETag", b'W/"a"')


def test_an_error_keeps_what_it_says_of_the_range_that_was_asked_for() -> None:
    """RFC 9110 15.5.17; any other answer's Content-Range described bytes that are gone."""
    field = (b"Content-Range", b"bytes */1234")
    assert representation_lines(UpstreamHead(416, [field]), wrapped=True) == [
        b"Content-Range: bytes */1234"
    ]
    assert representation_lines(UpstreamHead(400, [field]), wrapped=True) == []


@pytest.mark.parametrize(
    ("etag", "told"),
    [
        (b'"a"', b'W/"a"'),
        (b'W/"a"', b'W/"a"'),
        (b'""', b'W/""'),
        (b'"a,\\b\xe9"', b'W/"a,\\b\xe9"'),
        (b"", None),
        (b"W/", None),
        (b'w/"a"', None),
        (b'W/W/"a"', None),
        (b"a", None),
        (b'"a', None),
        (b'"a""b"', None),
        (b'"a", "b"', None),
        (b'"a b"', None),
        (b'"a"\n', None),
    ],
)
def test_an_envelope_has_an_entity_tag_or_none(etag: bytes, told: bytes | None) -> None:
    """RFC 9110 8.8.3; what passes unwrapped passes as it came."""
    head = UpstreamHead(200, [])
    head.facts[b"etag"] = etag
    lines = representation_lines(head, wrapped=True)
    assert lines == ([] if told is None else [b"ETag: " + told])
    assert representation_lines(head, wrapped=False) == [b"ETag: " + etag]


@pytest.mark.parametrize(
    ("given", "strong"),
    [
        (b'W/"a", "b", W/"c"', b'"a", "b", "c"'),
        (b'W/"W/"', b'"W/"'),
        (b'w/"a", W/b, W/"', b'w/"a", W/b, W/"'),
        (b"*", b"*"),
        (b"", b""),
    ],
)
def test_tags_are_strong_again(given: bytes, strong: bytes) -> None:
    assert strong_tags(given) == strong


@pytest.mark.parametrize(
    ("status", "fields", "presented", "stands"),
    [
        # HEAD: the head tells what GET would bring
        (200, [JSON], None, True),
        (200, [TEXT], None, False),
        (200, [TEXT, (b"Content-Length", b"0")], None, True),
        (200, [JSON, (b"Content-Disposition", b"attachment")], None, False),
        (204, [JSON], None, False),
        (206, [JSON], None, False),
        (302, [JSON], None, False),
        (404, [TEXT], None, True),
        # 304: the client tells which ETag it was given
        (304, [STRONG], b'W/"a"', True),
        (304, [STRONG], b'"x", W/"a"', True),
        (304, [STRONG], b'"a"', False),
        (304, [STRONG, TEXT], b'W/"a"', True),
        (304, [STRONG, JSON], b'"a"', True),
        # a weak one matches both, so it does no harm where nothing is known
        (304, [STRONG], b"*", True),
        (304, [STRONG], None, True),
        (304, [STRONG, TEXT], None, False),
        (304, [WEAK], b'W/"a"', False),
        (304, [], b'W/"a"', False),
        # what is no entity-tag was given out as it came of no envelope alone
        (304, [(b"ETag", b'w/"a"')], None, True),
        (304, [(b"ETag", b'w/"a"')], b'w/"a"', False),
        (304, [(b"ETag", b'w/"a"'), TEXT], None, False),
        (304, [(b"ETag", b"")], b'"a"', True),
        (304, [(b"ETag", b""), TEXT], b'W/"a"', False),
    ],
)
def test_a_head_stands_for_an_envelope(
    status: int, fields: list[tuple[bytes, bytes]], presented: bytes | None, stands: bool
) -> None:
    """RFC 9110 9.3.2 and 15.4.5: HEAD and 304 say what the 200 to GET says."""
    request = {} if presented is None else {b"if-none-match": presented}
    assert stands_for_envelope(UpstreamHead(status, fields), request) == stands
