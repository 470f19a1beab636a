"""What the connections on both sides of the proxy have in common."""

from __future__ import annotations

from aiohttp.base_protocol import BaseProtocol


class StreamProtocol(BaseProtocol):
    """A connection whose bodies are read from a `StreamReader` of aiohttp.

    `_reading_paused` is a private name of `BaseProtocol`.
    """

    __slots__ = ()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by the reader after every read; seldom is there anything to resume."""
        if self._reading_paused:
            super().resume_reading(resume_parser)
