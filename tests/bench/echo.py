"""An upstream that tells what it was sent, and takes uploads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

PAUSE = 0.5
"""Seconds that a receiver of a large body waits before it reads: who buffers without bound then
holds all of it."""

_PIECE = 65536


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({name: self.headers[name] for name in ("authorization", "cookie")})

    def do_POST(self) -> None:
        left = length = int(self.headers["content-length"])
        time.sleep(PAUSE)
        while left and (data := self.rfile.read(min(left, _PIECE))):
            left -= len(data)
        self._answer({"received": length - left})

    def _answer(self, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: what it is sent holds a token."""


@contextmanager
def echo_upstream() -> Iterator[int]:
    """Serves on a free port of the loopback, which it yields."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
