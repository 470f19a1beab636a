"""What a logout takes away: which cookies, from where, and in which order if room is short.

A cookie is deleted by the name, Domain, Path and partition that it was set with alone (RFC 6265
section 5.3 step 11), and no browser says with which it was. So every combination that is possible
gets a line, the likely ones first: proxies in front take no answer whose head is above some size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from typing import Final

import msgspec

from sidecar.core.attributes import NO_KEYS, NONE, Attributes, CookieKeys, Scope
from sidecar.core.cookies import MAX_PRESENTED, PREFIXES, NameMatcher, base_of, gone_line
from sidecar.core.record import replace

HEAD_BYTES: Final = 4096
"""Above this head many a proxy answers 502: nginx takes one memory page (`proxy_buffer_size`)."""

LINE_BYTES: Final = len(b"Set-Cookie: \r\n")
USUAL_PREFIXES: Final = ("", "__Secure-", "__Host-")
MARGIN: Final = 160  # bytes of what an answer is given besides: its framing, its caching


class Swept(msgspec.Struct, frozen=True):
    """Cookies of one base name: what is configured of them, and under which prefixes, the most
    likely first, they are taken away although they were not presented.
    """

    base: str
    keys: CookieKeys = NO_KEYS
    prefixes: tuple[str, ...] = USUAL_PREFIXES


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a logout expires. `domains` and `paths` are where the cookies may have been set too."""

    swept: tuple[Swept, ...]
    domains: Sequence[str] = ()
    paths: Sequence[str] = ("/",)
    matcher: NameMatcher = field(init=False)
    by_base: Mapping[str, Swept] = field(init=False)

    def __post_init__(self) -> None:
        by_base = {one.base: one for one in self.swept}
        object.__setattr__(self, "matcher", NameMatcher(by_base))
        object.__setattr__(self, "by_base", by_base)

    def places(self, scope: Scope) -> tuple[frozenset[str], frozenset[str]]:
        """The domains and paths on which the cookies may have been set."""
        given = [scope.attributes(one.base, one.keys) for one in self.swept]
        domains = {one.domain for one in given if one.domain}
        return frozenset(domains | {*self.domains}), frozenset(
            {one.path for one in given} | {*self.paths}
        )

    def lines(
        self,
        presented: Iterable[str],
        scope: Scope,
        room: float = inf,
        stays: Callable[[str], bool] = lambda _: False,
    ) -> list[bytes]:
        """Set-Cookie field values that end a session in the browser, each for a line of its own.

        What is presented and matches goes first, and always: host-only, and for every domain and
        path. Then, within `room` bytes, the same in the other partition, and each base name under
        each prefix (`__Host-` on https only). Their dates, which no browser of today needs, make
        way before any line does. `stays` says which names are left alone.

        A presented name is echoed only if it matches, so no client text reaches a header.
        """
        names = [name for name in dict.fromkeys(presented) if self.matcher.matches(name)]
        names = names[:MAX_PRESENTED]
        needed = [one for one in dict.fromkeys(self._needed(names, scope)) if not stays(one[0])]
        possible = (one for one in self._possible(names, scope) if not stays(one[0]))
        every = dict.fromkeys([*needed, *possible])
        lines = [gone_line(name, one) for name, one in every]
        if _sizes(lines)[-1] <= room:
            return lines
        lines = [gone_line(name, one, dated=False) for name, one in every]
        fitting = bisect_right(_sizes(lines), room)
        return lines[: max(len(needed), fitting)]

    def _needed(self, names: Sequence[str], scope: Scope) -> Iterator[tuple[str, Attributes]]:
        """The presented names in each place; in both partitions if theirs is known to be one."""
        for name in names:
            one = self._attributes(name, scope, is_presented=True)
            for place in self._everywhere(name, one):
                yield name, replace(place, partitioned=False)
            if one.partitioned:
                yield from ((name, place) for place in self._everywhere(name, one))

    def _possible(self, names: Sequence[str], scope: Scope) -> Iterator[tuple[str, Attributes]]:
        """What else may be there, the most likely first.

        A cross-site frame may set nothing stricter than SameSite=None. Names that were not
        presented are taken out of a partition only where they are known to be in one.
        """
        for name in names if scope.https else ():
            one = self._attributes(name, scope, is_presented=True)
            for place in self._everywhere(name, one):
                yield name, replace(place, partitioned=True, same_site=NONE, secure=True)
        bases = [
            (prefix + one.base, self._attributes(one.base, scope))
            for at in range(len(PREFIXES))
            for one in self.swept
            if (prefix := one.prefixes[at]) != "__Host-" or scope.https
        ]
        for name, one in bases:
            yield name, replace(one, partitioned=False)
            if one.partitioned:
                yield name, one
        for name, one in bases:
            for place in self._everywhere(name, one):
                yield name, replace(place, partitioned=False)

    def _attributes(self, name: str, scope: Scope, *, is_presented: bool = False) -> Attributes:
        """The attributes to expire a cookie with; SameSite has no effect then but for frames."""
        swept = self.by_base[base_of(name, self.by_base)]
        found = scope.attributes(swept.base, swept.keys)
        if found.same_site is None and is_presented and scope.https:
            return replace(found, same_site=NONE)
        return found

    def _everywhere(self, name: str, likely: Attributes) -> Iterator[Attributes]:
        """The attributes in every place, the likely one first."""
        yield likely
        if not name.startswith("__Host-"):
            for domain in ("", *self.domains):
                for path in self.paths or ("/",):
                    yield replace(likely, domain=domain, path=path)


def room_beside(head: int) -> int:
    """The bytes for Set-Cookie lines in an answer whose head has this many bytes otherwise."""
    return HEAD_BYTES - MARGIN - head


def _sizes(lines: Iterable[bytes]) -> list[int]:
    """The bytes of the first line, of the first two, and so on."""
    return list(accumulate(len(line) + LINE_BYTES for line in lines)) or [0]
