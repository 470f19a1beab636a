"""`workers`: one process that serves, or several on one listening socket under a supervisor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidecar.inheritance import inherit
from sidecar.workers.processors import usable_processors

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.reload import Load


def run(config: Config, load: Load) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code: 0, or 2 where it could not start.

    SIGHUP has the configuration read anew by `load`, and SIGUSR2 has another process take over.
    """
    inheritance = inherit(os.environ, os.getpid(), config)
    count = usable_processors() if config.workers == "auto" else config.workers
    if count == 1:
        from sidecar.app import run as serve

        return serve(config, load, inheritance)
    from sidecar.workers.supervisor import supervise

    return supervise(config, count, load, inheritance)
