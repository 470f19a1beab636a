"""Ports of the loopback interface for servers of tests."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from typing import Final

# Below those that the system gives to outgoing connections (ip(7), ip_local_port_range), so that
# none of them takes a port while nobody listens on it.
_FIRST: Final = 15_000
_END: Final = 32_000


def _share() -> range:
    """The ports of this process: its own share beside others (pytest-xdist), else all of them.

    Shares are as large as can be: a port on which connections have just ended is not free for a
    minute (TIME_WAIT), in which tests that follow each other quickly ask for more than a thousand.
    """
    number = re.search(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", ""))
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = (_END - _FIRST) // shares
    first = _FIRST + size * (0 if number is None else int(number.group()) % shares)
    return range(first, first + size)


def _in_turn() -> Iterator[int]:
    """Every port before any comes again, so that no test gets the same one twice."""
    ports = list(_share())
    random.SystemRandom().shuffle(ports)  # Hypothesis seeds the module's own generator
    return cycle(ports)


_ports: Final = _in_turn()


def free_port() -> int:
    """A port that nobody listens on, and that was not given before, or long ago."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
