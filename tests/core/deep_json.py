"""Deeply nested JSON, where the interpreter lets decoders follow a hundred thousand levels.

Run as a program of its own, since the limits of the interpreter and of its stack are raised.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial

import msgspec

from sidecar.core.envelope import EnvelopeRule, InvalidJSON, StreamWrapper, parse
from sidecar.core.jsonscan import MAX_DEPTH

FAR = 30_000
PADDING = b"[1, 2, 3], " * 400


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def members(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


FORMS: dict[str, Callable[[int], bytes]] = {
    "arrays": nested,
    "objects": members,
    "behind others": lambda levels: b"[%b%b]" % (PADDING, nested(levels - 1)),
    "before others": lambda levels: b"[%b, %b[]]" % (nested(levels - 1), PADDING),
    "between others": lambda levels: b"[%b%b, %b[]]" % (PADDING, members(levels - 1), PADDING),
    "many that are not deep": lambda levels: b"[%b]" % (PADDING * 20 + nested(levels - 1)),
}


def streamed(text: bytes, size: int) -> None:
    wrapper = StreamWrapper(EnvelopeRule(buffer=64), 200, "OK")
    for at in range(0, len(text), size):
        wrapper.feed(text[at : at + size])
    wrapper.finish()


def passes(judge: Callable[[bytes], object], text: bytes) -> bool:
    try:
        judge(text)
    except InvalidJSON:
        return False
    return True


def main() -> None:
    if sys.version_info[:2] not in {(3, 12), (3, 13)}:  # which have a fixed limit of their own
        assert msgspec.json.Decoder(msgspec.Raw).decode(nested(FAR))  # the decoder sets none
    sizes = (100, 4096, 1 << 20)
    judges: list[Callable[[bytes], object]] = [
        parse,
        *(partial(streamed, size=size) for size in sizes),
    ]
    for name, form in FORMS.items():
        for judge in judges:
            assert passes(judge, form(MAX_DEPTH)), (name, judge)
            for levels in (MAX_DEPTH + 1, FAR):
                assert not passes(judge, form(levels)), (name, judge, levels)
    document = parse(b'{"message":%b}' % nested(4_900))
    assert document.message is msgspec.UNSET


if __name__ == "__main__":
    sys.setrecursionlimit(1_000_000)
    threading.stack_size(512 << 20)
    failures: list[BaseException] = []
    threading.excepthook = lambda told: failures.append(told.exc_value or SystemExit())
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
