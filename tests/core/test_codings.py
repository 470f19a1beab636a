"""Which coding a body has, and which one a client accepts (RFC 9110 8.4, 12.5.3)."""

from __future__ import annotations

import pytest

from sidecar.core.codings import accepts_gzip, content_coding, is_decodable
from sidecar.core.headers import MAX_CODINGS


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        ("gzip", "gzip"),
        (" X-GZIP ", "gzip"),
        ("deflate", "deflate"),
        ("", ""),
        (" , ", ""),
        ("identity", ""),
        ("none", ""),
        ("utf-8", ""),
        ("UTF8", ""),
        ("iso-8859-1, Windows-1252", ""),
        ("binary", ""),
        ("identity, gzip", "gzip"),
        ("foo", "foo"),
        ("gzip, foo", "gzip, foo"),
        ("gzip,utf-8", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, br", "gzip, br"),
        ("gzip, gzip", "gzip, gzip"),
    ],
)
def test_what_is_no_coding_counts_for_nothing(value: str, coding: str) -> None:
    """Servers write charsets and `none` there; a real coding that is unknown here stays one."""
    assert content_coding(value.encode()).decode() == coding
    assert is_decodable(coding.encode()) is (coding in ("", "gzip", "deflate"))


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("GZIP;Q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("gzip;q=0.3, identity;q=0.5", False),
        ("gzip;q=0.3, *;q=0.5", False),
        ("gzip;q=0.3, identity;q=0.1, *;q=0.5", True),
        ("gzip;q=0.3, *;q=0", True),
        ("gzip; q = 1", True),
        ("gzip;q=2", False),
        ("gzip;q=", False),
        ("gzip;q=nan", False),
        ("gzip;q=0.1234", False),
        ("gzip;level=9", True),
    ],
)
def test_gzip_is_accepted_by_whom_says_so(value: str, accepted: bool) -> None:
    assert accepts_gzip(value.encode()) is accepted


def test_the_first_codings_that_a_client_names_count() -> None:
    """It may name thirty thousand in one request; real ones name a few (T92)."""
    assert accepts_gzip(b"x," * (MAX_CODINGS - 1) + b"gzip")
    assert not accepts_gzip(b"x," * MAX_CODINGS + b"gzip")
