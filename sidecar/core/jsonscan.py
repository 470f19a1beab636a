"""Incremental JSON validation (RFC 8259) at constant memory, whatever the text's size.

`ValueScanner` checks one value that arrives in chunks. It takes one token at a time, and is the
authority; regular expressions over many tokens and msgspec over whole array elements run ahead of
it where they can prove that what they pass over is valid. It takes the bytes for UTF-8;
`Utf8Check` sees to that.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final, cast

import msgspec

MAX_DEPTH: Final = 10_000
"""Levels of nesting that are followed. RFC 8259 section 9 lets a parser set a limit; no reader of
the envelope gets further (most stop at 1,000), and scanning hostile depth would cost seconds."""


class InvalidJSON(ValueError):
    """The text is not JSON in UTF-8, or ends too early. Never holds any of the text."""


class Unstreamable(InvalidJSON):
    """The text may be valid, but what has been written of it is no longer true."""


# Possessive throughout: linear time, no backtracking. What is repeated is an atomic group, which
# changes no meaning, but Python before 3.11.5 gets possessive repeats of others wrong (gh-106052).
_WS: Final = rb"[ \t\n\r]*+"
_ESCAPE: Final = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_CONTENT: Final = rb'[^"\\\x00-\x1f]*+(?>' + _ESCAPE + rb'[^"\\\x00-\x1f]*+)*+'
_STRING: Final = rb'"' + _CONTENT + rb'"'
_NUMBER: Final = rb"-?+(?:0|[1-9][0-9]*+)(?>\.[0-9]++)?+(?>[eE][+-]?+[0-9]++)?+"
_SCALAR: Final = _STRING + rb"|" + _NUMBER + rb"|true|false|null"
_NAME: Final = _WS + _STRING + _WS + rb":" + _WS


def _nested(levels: int) -> bytes:
    """A value with at most `levels` levels of containers, as a pattern."""
    value = rb"(?:" + _SCALAR + rb")"
    for _ in range(levels):
        # A comma is taken only where no bracket follows it, so that the last one has none.
        items = rb"(?>%b%b%b(?:,(?!%b%b)|(?=%b)))*+%b%b"
        array = items % (_WS, value, _WS, _WS, rb"\]", rb"\]", _WS, rb"\]")
        members = items % (_NAME, value, _WS, _WS, rb"\}", rb"\}", _WS, rb"\}")
        value = rb"(?:%b|\{%b|\[%b|%b|true|false|null)" % (_STRING, members, array, _NUMBER)
    return value


_AT_ONCE: Final = 3  # levels of nesting that one regular expression passes over
_VALUE: Final = _nested(_AT_ONCE)


def _always(pattern: bytes) -> Callable[[bytes, int], re.Match[bytes]]:
    """The match function of a pattern that matches everywhere, if only the empty string."""
    return cast(Callable[[bytes, int], re.Match[bytes]], re.compile(pattern).match)


_space: Final = _always(_WS)
_content: Final = _always(_CONTENT)
_partial_escape: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?").fullmatch
_scalar: Final = re.compile(_NUMBER + rb"|true|false|null")
# A number or literal that the next chunk may complete, or end.
_partial_scalar: Final = re.compile(
    rb"-?+(?>(?:0|[1-9][0-9]*+)(?>(?>\.[0-9]++)?+[eE][+-]?+[0-9]*+|\.[0-9]*+)?+)?+"
    rb"|t(?:r(?:ue?)?)?|f(?:a(?:l(?:se?)?)?)?|n(?:u(?:ll?)?)?"
).fullmatch
_more_digits: Final = re.compile(rb"(?<=[0-9])[0-9]+")
_name: Final = re.compile(_NAME).match
_openers: Final = re.compile(rb"(?>" + _WS + rb"(?:\[|\{" + _NAME + rb"))++").match
_strings: Final = re.compile(_STRING)
# How an array's elements, or the values of an object's members, begin.
_element: Final = re.compile(_WS + rb"(\[|\{" + _NAME + rb")").match
_member: Final = re.compile(_NAME + rb"(\[|\{" + _NAME + rb")").match

_DELIMITERS: Final = b" \t\n\r,]}"
_COMMA, _COLON, _QUOTE, _BACKSLASH = b',:"\\'
_OPEN_ARRAY, _OPEN_OBJECT, _CLOSE_ARRAY, _CLOSE_OBJECT = b"[{]}"
_closers: Final = _always(rb"[\]}]{0,%d}+" % MAX_DEPTH)
_CLOSERS: Final = bytes.maketrans(b"[{", b"]}")
_CLOSER: Final = {_OPEN_ARRAY: _CLOSE_ARRAY, _OPEN_OBJECT: _CLOSE_OBJECT}

_decode_raw: Final = msgspec.json.Decoder(msgspec.Raw).decode
_LEAP_MIN: Final = 2048  # bytes below which a leap gains nothing
_LEAP_TRIES: Final = 3


@cache
def _elements() -> Callable[[bytes, int], re.Match[bytes]]:
    """Passes over whole elements, each with the comma behind it.

    Compiled when it is first needed, as `_members` is: the two take a thirtieth of a start.
    """
    return _always(rb"(?>%b%b%b,)*+" % (_WS, _VALUE, _WS))


@cache
def _members() -> Callable[[bytes, int], re.Match[bytes]]:
    """Passes over whole members, each with the comma behind it."""
    return _always(rb"(?>%b%b%b,)*+" % (_NAME, _VALUE, _WS))


def skip_space(data: bytes, pos: int) -> int:
    """The index of the first byte from `pos` on that is not whitespace, or the length."""
    return _space(data, pos).end()


def is_shallow(text: bytes, levels: int = MAX_DEPTH) -> bool:
    """Whether valid text certainly has at most so many levels of nesting.

    Decoders have limits of their own, which depend on the interpreter and its stack; none counts.
    """
    # Each level takes two bytes; and brackets in strings are counted too, which does no harm.
    return len(text) <= 2 * levels or text.count(b"[") + text.count(b"{") <= levels


@lru_cache(maxsize=1)
def decoder_stops() -> bool:
    """Whether msgspec itself refuses whatever has more than `MAX_DEPTH` levels.

    So it is up to Python 3.13, and spares the count, which takes as long as the check. Asked once:
    no process changes the limits of its interpreter while it serves.
    """
    try:
        _decode_raw(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    except RecursionError:
        return True
    return False


@lru_cache(maxsize=256)
def passing(names: frozenset[str]) -> Callable[[bytes, int], int]:
    """A function that passes over members, each with its comma, whose name is not in `names`.

    It stops early, but never wrongly: at escapes in names and at deep values, for instance.
    """
    listed = b"|".join(re.escape(name.encode("utf-8", "replace")) for name in sorted(names))
    name = rb'%b"(?!(?:%b)")[^"\\\x00-\x1f]*+"%b:%b' % (_WS, listed, _WS, _WS)
    match = _always(rb"(?>%b%b%b,)*+" % (name, _VALUE, _WS))
    return lambda data, pos: match(data, pos).end()


class Utf8Check:
    """Checks that a byte stream is UTF-8, across chunk boundaries."""

    __slots__ = ("_decoder", "_whole")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._whole = True  # no sequence is cut by the last chunk's end

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        """Check the next bytes. Raises `InvalidJSON`."""
        if self._whole and chunk.isascii():
            return
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            raise InvalidJSON("not UTF-8") from None
        self._whole = not self._decoder.getstate()[0]


class ValueScanner:
    """Validates one JSON value that arrives in chunks.

    Memory is one byte for each level of nesting and a few for a token cut by a chunk's end.
    With `inside_object` it starts behind a member's comma and ends behind the object's brace.
    `levels` is how deeply it may nest.
    """

    __slots__ = ("_budget", "_levels", "_pending", "_stack", "_step")

    def __init__(self, *, inside_object: bool = False, levels: int = MAX_DEPTH) -> None:
        self._levels = levels
        self._stack = bytearray(b"{" if inside_object else b"")
        self._step: _Step = ValueScanner._key if inside_object else ValueScanner._value
        self._pending = b""
        self._budget = 0

    def feed(self, data: bytes, pos: int = 0) -> int:
        """Scan `data` from `pos` on. Returns the index behind the value, or -1: it goes on.

        Whitespace behind the value is not taken. A number ends only with the byte behind it.
        Raises `InvalidJSON`.
        """
        shift = 0
        if self._pending:
            shift = pos - len(self._pending)
            data, pos = self._pending + data[pos:], 0
            self._pending = b""
        self._budget = 2 * len(data)
        step = self._step
        while True:
            pos = step(self, data, pos)
            if pos < 0:
                return -1
            step = self._step
            if step is ValueScanner._after and not self._stack:
                return pos + shift

    def finish(self) -> None:
        """The text ends here. Raises `InvalidJSON` unless a number outside all brackets did."""
        if self._stack or self._step is not ValueScanner._value:
            raise InvalidJSON("truncated")
        if _scalar.fullmatch(self._pending) is None:
            raise InvalidJSON("truncated")

    # Each step takes tokens from `pos` on and returns the index behind them, or -1: the data is
    # used up. It leaves the next step in `_step`.

    def _value(self, data: bytes, pos: int) -> int:
        if self._stack and self._stack[-1] == _OPEN_ARRAY:
            pos = self._leap(data, pos, _element, b"[%b]")
            if len(self._stack) + _AT_ONCE <= self._levels:
                pos = _elements()(data, pos).end()
        return self._open_or_scalar(data, pos)

    def _first_value(self, data: bytes, pos: int) -> int:
        pos = skip_space(data, pos)
        if data[pos : pos + 1] == b"]":
            self._stack.pop()
            self._step = ValueScanner._after
            return pos + 1
        if pos < len(data):
            self._step = ValueScanner._value
            return pos
        return -1

    def _key(self, data: bytes, pos: int) -> int:
        pos = self._leap(data, pos, _member, b"{%b}")
        if len(self._stack) + _AT_ONCE <= self._levels:
            pos = _members()(data, pos).end()
        found = _name(data, pos)
        if found is not None:
            self._step = ValueScanner._value
            return found.end()
        pos = skip_space(data, pos)
        if pos == len(data):
            return -1
        if data[pos] != _QUOTE:
            raise InvalidJSON("a member's name expected")
        self._step = ValueScanner._key_string
        return pos + 1

    def _first_key(self, data: bytes, pos: int) -> int:
        pos = skip_space(data, pos)
        if data[pos : pos + 1] == b"}":
            self._stack.pop()
            self._step = ValueScanner._after
            return pos + 1
        if pos < len(data):
            self._step = ValueScanner._key
            return pos
        return -1

    def _open_or_scalar(self, data: bytes, pos: int) -> int:
        opened = _openers(data, pos)
        if opened is not None:
            kinds = _strings.sub(b"", opened[0]).translate(None, b" \t\n\r:")
            self._push(kinds)
            if kinds[-1] == _OPEN_ARRAY:
                self._step = ValueScanner._first_value
            return opened.end()
        pos = skip_space(data, pos)
        if pos == len(data):
            return -1
        if data[pos] == _QUOTE:
            self._step = ValueScanner._string
            return pos + 1
        if data[pos] == _OPEN_OBJECT:
            self._push(b"{")
            self._step = ValueScanner._first_key
            return pos + 1
        return self._number_or_literal(data, pos)

    def _push(self, kinds: bytes) -> None:
        if len(self._stack) + len(kinds) > self._levels:
            raise InvalidJSON("nested too deeply")
        self._stack += kinds

    def _number_or_literal(self, data: bytes, pos: int) -> int:
        found = _scalar.match(data, pos)
        end = len(data) if found is None else found.end()
        if end < len(data) and data[end] in _DELIMITERS:
            self._step = ValueScanner._after
            return end
        if _partial_scalar(data, pos) is None:
            raise InvalidJSON("a value expected")
        # One digit stands for a run of them, so that a long number takes no memory.
        self._pending = _more_digits.sub(b"", data[pos:])
        return -1

    def _string(self, data: bytes, pos: int) -> int:
        return self._string_until_quote(data, pos, ValueScanner._after)

    def _key_string(self, data: bytes, pos: int) -> int:
        return self._string_until_quote(data, pos, ValueScanner._colon)

    def _string_until_quote(self, data: bytes, pos: int, following: _Step) -> int:
        pos = _content(data, pos).end()
        if pos == len(data):
            return -1
        if data[pos] == _QUOTE:
            self._step = following
            return pos + 1
        if _partial_escape(data, pos) is None:
            raise InvalidJSON("a control character or a bad escape in a string")
        self._pending = data[pos:]
        return -1

    def _colon(self, data: bytes, pos: int) -> int:
        pos = skip_space(data, pos)
        if pos == len(data):
            return -1
        if data[pos] != _COLON:
            raise InvalidJSON("':' expected")
        self._step = ValueScanner._value
        return pos + 1

    def _after(self, data: bytes, pos: int) -> int:
        stack = self._stack
        while stack:
            pos = skip_space(data, pos)
            if pos == len(data):
                return -1
            kind, found = stack[-1], data[pos]
            pos += 1
            if found == _CLOSER[kind]:
                stack.pop()
                pos = self._close(data, pos)
            elif found == _COMMA:
                self._step = _AFTER_COMMA[kind]
                return pos
            else:
                raise InvalidJSON("',' or a closing bracket expected")
        return pos

    def _close(self, data: bytes, pos: int) -> int:
        """Takes a run of closing brackets at once; returns the index behind the open ones'."""
        run = _closers(data, pos)[0][: len(self._stack)]
        if run:
            count = len(run)
            if self._stack[-count:].translate(_CLOSERS)[::-1] != run:
                raise InvalidJSON("',' or a closing bracket expected")
            del self._stack[-count:]
        return pos + len(run)

    def _leap(self, data: bytes, pos: int, begins: _Match, frame: bytes) -> int:
        """Pass over whole elements or members at msgspec's speed, if there is a proof for it.

        Where text in brackets is valid and a comma follows it, then it was whole elements, wherever
        it was cut; so the cut may be guessed: before the last one that begins like the first.
        """
        if self._budget <= 0 or len(data) - pos < _LEAP_MIN:
            return pos
        first = begins(data, pos)
        if first is None:
            return pos
        landed = _guess(data, pos, first[1], frame, self._levels - len(self._stack))
        # Wrong guesses may cost no more than reading the data twice.
        self._budget -= len(data) - landed
        return landed


_Step = Callable[[ValueScanner, bytes, int], int]
_Match = Callable[[bytes, int], re.Match[bytes] | None]
_AFTER_COMMA: Final[dict[int, _Step]] = {
    _OPEN_ARRAY: ValueScanner._value,
    _OPEN_OBJECT: ValueScanner._key,
}


def _guess(data: bytes, pos: int, signature: bytes, frame: bytes, levels: int) -> int:
    cut = len(data)
    for _ in range(_LEAP_TRIES):
        cut = data.rfind(signature, pos + 1, cut)
        comma = data.rfind(b",", pos, cut)
        if cut < 0 or comma < 0:
            break
        passed = data[pos:comma]
        if not is_shallow(passed, levels):
            continue
        try:
            _decode_raw(frame % passed)
        except (msgspec.DecodeError, RecursionError):
            continue
        return comma + 1
    return pos
