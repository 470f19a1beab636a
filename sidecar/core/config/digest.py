"""Whether two configurations are the same: a hash that may be shown."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr

from sidecar.core.config.effective import leaves, safe
from sidecar.core.config.faults import dotted
from sidecar.core.config.model import Config
from sidecar.core.record import is_record, values_of

DIGITS: Final = 12
"""Hex digits: enough to tell configurations apart, and short enough to read aloud."""


def digest(config: Config, key: bytes) -> str:
    """The hash of every value that holds, defaults included.

    It is keyed with `key`, a secret: who sees the hash can try no guess of a value. Without a key
    (empty), whatever may be a secret counts by its length alone.
    """
    rows = [
        [dotted(path), _plain(value) if key else safe(path, value, value)]
        for path, value, _ in leaves(config)
    ]
    text = json.dumps(rows, sort_keys=True).encode()
    return hmac.new(b"configuration hash" + key, text, hashlib.sha256).hexdigest()[:DIGITS]


def _plain(value: Any) -> Any:
    """A value of JSON that is the same in every process, secrets included."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if is_record(value):
        return _plain(values_of(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool) or value is None else repr(value)
