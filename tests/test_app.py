"""What is started is also ended, above all where the start fails half-way."""

from __future__ import annotations

import socket

import pytest

from sidecar.app import Sidecar
from sidecar.core.config import load
from tests.ports import free_port


async def test_a_busy_admin_port_leaves_no_listener_behind() -> None:
    """Else the process would neither serve nor end."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        text = f"""
            listen: 127.0.0.1:{port}
            admin: 127.0.0.1:{busy.getsockname()[1]}
            upstream: http://127.0.0.1:9
            session: {{sources: [{{type: cookie, cookie: token}}]}}
        """
        config = load(text, source="test", environ={}, read_file=lambda path: path)
        with pytest.raises(OSError, match="in use"):
            await Sidecar(config).start()
    socket.create_server(("127.0.0.1", port)).close()
