"""Modules that only some configurations need.

They are imported when such a configuration is loaded: not by all, whose start would take longer,
and not at the first request that comes to need one, which would wait, and all others with it. A
reload reads its configuration in another thread than that of the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.core.config import Config


def _asks_by_http(config: Config) -> bool:
    """Whether the sidecar makes requests of its own, to a provider or anybody else."""
    return bool(
        config.oidc
        or config.refresh
        or config.logout.hooks
        or any(getattr(source, "jwks", None) for source in config.session.sources)
    )


LATE: Final[Mapping[str, Callable[[Config], bool]]] = {
    "sidecar.net.http_client": _asks_by_http,
    "sidecar.net.store.redis": lambda config: config.store.url.is_remote,
    "sidecar.net.store.sqlite": lambda config: config.store.url.kind == "sqlite",
}


def import_needed(config: Config) -> None:
    """Imports what serving by a configuration needs beside what all need."""
    for module, is_needed in LATE.items():
        if is_needed(config):
            __import__(module)  # as the statement does: `-X importtime` tells of it
