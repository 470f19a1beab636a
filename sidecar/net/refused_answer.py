"""What is well formed of bytes that the parser of responses has refused.

What becomes of a response must not depend on where a segment ends: whether the fault came with its
head, with its body, or behind it. So the bytes are read anew, as far as they are good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
    from aiohttp.streams import StreamReader

Messages: TypeAlias = "Sequence[tuple[RawResponseMessage, StreamReader]]"
MakeParser: TypeAlias = "Callable[[BaseProtocol], HttpResponseParser]"


def before_fault(data: bytes, make: MakeParser, protocol: BaseProtocol) -> Messages:
    """Returns the messages up to the response that `data` begins with, as far as it is well formed.

    No messages if it has no head. `make` makes a fresh parser; the bodies belong to `protocol`.

    Some servers send a body with HEAD, 204 or 304, or more of one than its length: their response
    is whole (T20, RFC 9112 6.3). Where it ends, the parser alone knows: it wants more of everything
    shorter.
    """
    short, long = 0, len(data)
    while long - short > 1:
        middle = (short + long) // 2
        messages = _read(data[:middle], make, BaseProtocol(protocol._loop))
        if messages is not None and not is_here(messages):
            short = middle
        else:
            long = middle
    for end in (long, short):
        messages = _read(data[:end], make, protocol)
        if messages and messages[-1][0].code >= 200:
            return messages
    return ()


def is_here(messages: Messages) -> bool:
    """Returns whether the first final response is here to its end."""
    return next((payload.is_eof() for message, payload in messages if message.code >= 200), False)


def _read(data: bytes, make: MakeParser, protocol: Any) -> Messages | None:
    """The messages that a fresh parser finds in `data`; None if it refuses that."""
    parser = protocol._parser = make(protocol)  # which pauses it at many chunks
    try:
        messages, upgraded, _ = parser.feed_data(data)
    except HttpProcessingError:
        return None
    return None if upgraded else messages
