"""Which files a configuration names: their contents are a part of it."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.core.config.effective import leaves
from sidecar.core.config.model import Config
from sidecar.core.config.values import FileName
from sidecar.core.store_url import StoreUrl


def named_files(config: Config) -> frozenset[str]:
    """The files and directories that are read once the configuration is: certificates, keys, …"""
    return frozenset(_names(config))


def _names(config: Config) -> Iterator[str]:
    for _, value, _ in leaves(config):
        if isinstance(value, FileName):
            yield str(value)
        elif isinstance(value, StoreUrl):
            yield from (one for one in (value.ca, value.cert, value.key) if one is not None)
