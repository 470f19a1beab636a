"""How many files, and so connections, this process may have open."""

from __future__ import annotations

import resource
from typing import Final

OTHERS: Final = 256  # files beside the connections of clients: upstreams, log, store, modules


def open_files() -> int:
    """The limit in force (getrlimit(2), RLIMIT_NOFILE)."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_open_files() -> None:
    """Raises the soft limit to the hard one: the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return  # what is missing is reported where it is needed


def shortage(connections: int) -> str | None:
    """What to do if so many client connections cannot all be open; None if they can."""
    limit = open_files()
    if limit == resource.RLIM_INFINITY or limit >= connections + OTHERS:
        return None
    return (
        f"limits.connections is {connections}, but only {limit} files can be open: raise the hard"
        " limit (ulimit -Hn, LimitNOFILE=, --ulimit nofile=), or lower limits.connections"
    )
