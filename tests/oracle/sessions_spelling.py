"""Spellings of cookies: small changes to a Cookie header, of which some are still the session.

Whether a library still reads it is not known here: `sessions_reading` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from hypothesis import strategies as st

Pairs: TypeAlias = list[tuple[str, str]]
Change: TypeAlias = tuple[str, int, int]
"""What is done, to which cookie, and how; both numbers are taken modulo what there is."""

PREFIXES: Final = ("", "__Secure-", "__Host-")
_TAILS: Final = (
    *(
        "-x",
        ".5",
        ".0",
        ".1",
        "x",
        ".x",
        ".",
        "__0",
        "__5",
        ".05",
        ".-1",
        ".1e1",
        "_",
        " .0",
        ".5.0",
    ),
    *(".NaN", ".0x1", ".99", "[0]", "%2E0", "-x.3"),
)
_SPACES: Final = (" ", "\t", "  ", "\x0b", "\xa0", "\x0c")
_ENDS: Final = ("=", "==", "~2", "~3", "~", ".", "\\", "%3D", "%", "%00", "A")


def _rename(pairs: Pairs, at: int, how: int) -> None:
    name, value = pairs[at]
    pairs[at] = (name + _TAILS[how % len(_TAILS)], value)


def _prefix(pairs: Pairs, at: int, how: int) -> None:
    name, value = pairs[at]
    bare = name.removeprefix("__Secure-").removeprefix("__Host-")
    pairs[at] = (PREFIXES[how % 3] + bare, value)


def _split(pairs: Pairs, at: int, how: int) -> None:
    """Into two cookies, in one of several numberings, at one of several places."""
    name, value = pairs[at]
    numberings = ((".0", ".1"), ("", ".1"), (".5", ".7"), ("", "-x"), ("__0", "__1"), (".a", ".b"))
    first, second = numberings[how % 6]
    place = (len(value) * (how // 6 + 1)) // 12
    pairs[at : at + 1] = [(name + first, value[:place]), (name + second, value[place:])]


def _duplicate(pairs: Pairs, at: int, how: int) -> None:
    name, value = pairs[at]
    other = ("x", value, "", "x" * 40)[how % 4]
    pairs.insert(at + how // 4 % 2, (name, other))


def _move(pairs: Pairs, at: int, how: int) -> None:
    pairs.insert(how % len(pairs), pairs.pop(at))


def _percent(pairs: Pairs, at: int, how: int) -> None:
    """One character, all of them, or one with lower-case digits; never what is encoded already."""
    name, value = pairs[at]
    if not value or "%" in value:
        return
    place = (len(value) - 1) * (how // 4) // 15
    one = f"%{ord(value[place]):02X}"
    pairs[at] = (
        name,
        (
            value[:place] + one + value[place + 1 :],
            value[:place] + one.lower() + value[place + 1 :],
            "".join(f"%{ord(letter):02x}" for letter in value[:900]) + value[900:],
            value[:place] + one + value[place + 1 :],
        )[how % 4],
    )


def _quote(pairs: Pairs, at: int, how: int) -> None:
    name, value = pairs[at]
    pairs[at] = (name, (f'"{value}"', f'"{value}', f'"{value}x', f"'{value}'")[how % 4])


def _pad(pairs: Pairs, at: int, how: int) -> None:
    """Whitespace before or after the name or the value, or inside the value."""
    name, value = pairs[at]
    space, place = _SPACES[how % 6], how // 6 % 5
    middle = len(value) * (how // 30 + 1) // 4
    pairs[at] = (
        (space + name, value),
        (name + space, value),
        (name, space + value),
        (name, value + space),
        (name, value[:middle] + space + value[middle:]),
    )[place]


def _append(pairs: Pairs, at: int, how: int) -> None:
    name, value = pairs[at]
    pairs[at] = (name, value + _ENDS[how % len(_ENDS)])


def _cut(pairs: Pairs, at: int, how: int) -> None:
    """Without its last characters, or without what stands behind the last tilde."""
    name, value = pairs[at]
    pairs[at] = (name, value.rpartition("~")[0] or value if how % 2 else value[: -1 - how % 3])


def _recode(pairs: Pairs, at: int, how: int) -> None:
    """The other alphabet of base64."""
    name, value = pairs[at]
    head, dot, rest = value.partition(".")
    pairs[at] = (name, head + dot + rest.replace("-", "+").replace("_", "/"))


def _nameless(pairs: Pairs, at: int, how: int) -> None:
    name, value = pairs[at]
    pairs[at] = ("=" * (how % 2) + name, value) if how % 3 else ("", f"{name}={value}")


def _other(pairs: Pairs, at: int, how: int) -> None:
    """A cookie of somebody else's making, before it or behind it."""
    name = pairs[at][0].partition(".")[0]
    pairs.insert(at + how % 2, (("theme", name, "a" + name, name.upper())[how % 4], "x"))


CHANGES: Final[Mapping[str, Callable[[Pairs, int, int], None]]] = {
    "rename": _rename,
    "prefix": _prefix,
    "split": _split,
    "duplicate": _duplicate,
    "move": _move,
    "percent": _percent,
    "quote": _quote,
    "pad": _pad,
    "append": _append,
    "cut": _cut,
    "recode": _recode,
    "nameless": _nameless,
    "other": _other,
}
SEPARATORS: Final = ("; ", ";", " ; ", ";;", ";\t")


def spell(cookies: Mapping[str, str], changes: Sequence[Change], separator: int = 0) -> str:
    """The Cookie field value of these cookies after the changes, in order."""
    pairs = list(cookies.items())
    for what, at, how in changes:
        if pairs:
            CHANGES[what](pairs, at % len(pairs), how)
    joined = SEPARATORS[separator % len(SEPARATORS)].join(f"{n}={v}" for n, v in pairs)
    return joined.strip(" \t")


CHANGE: Final = st.tuples(st.sampled_from(list(CHANGES)), st.integers(0, 5), st.integers(0, 63))
SPELLING: Final = st.tuples(
    st.lists(CHANGE, min_size=1, max_size=3), st.integers(0, len(SEPARATORS) - 1)
)
