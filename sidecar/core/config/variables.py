"""Which variables of the environment a configuration is made of: any of them may hold a secret."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidecar.core.config.contradictions import SOURCE_VARIABLES
from sidecar.core.config.overrides import sets_a_key
from sidecar.core.config.references import referenced

_PROXY: Final = "_proxy"
"""What the names of proxies end with, in any case; their URLs may hold a password."""
_EXPORTER: Final = "OTEL_EXPORTER_"
"""What the names of an exporter's settings begin with; its header fields may hold a key."""

_OF_LIBRARIES: Final = frozenset(
    (
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "LD_LIBRARY_PATH", "LD_PRELOAD"),
        *("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL"),
    )
)
"""What the C library and OpenSSL look up themselves, and later; none of them is a secret."""


def variables(text: str | None, names: Iterable[str]) -> frozenset[str]:
    """Those of `names` that the file's `text` refers to, or that are read without it."""
    known = (referenced(text or "") - _OF_LIBRARIES) | SOURCE_VARIABLES.keys()
    return frozenset(name for name in names if name in known or _is_read(name))


def _is_read(name: str) -> bool:
    return sets_a_key(name) or name.lower().endswith(_PROXY) or name.startswith(_EXPORTER)
