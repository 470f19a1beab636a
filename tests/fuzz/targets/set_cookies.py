"""Which cookie a Set-Cookie line sets, and whether it takes it away, is judged as browsers judge.

tough-cookie is asked, which follows RFC 6265.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.attributes import attributes_in
from sidecar.core.cookies import (
    CookieJar,
    is_expiring,
    set_cookie_name,
    takes_away,
    with_set_cookies,
)
from tests.fuzz import oracles
from tests.fuzz.target import Target
from tests.fuzz.targets._seals import NOW, READER

NODE: Final = oracles.node()
# No upstream's head holds control characters, and JavaScript takes 0xA0 for white space.
_LEFT_OUT: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\xa0]")


def check(data: bytes) -> None:
    line = _LEFT_OUT.sub(b"", data).strip(b" \t")
    if not line:
        return
    attributes_in(line)
    name = set_cookie_name(line)
    takes_away(line, NOW, (), ())
    set_by_browser = NODE.ask("cookie", text=line.decode("latin-1"), now=NOW * 1000)
    if set_by_browser is None:
        return
    presented = set_by_browser["pair"]
    names = {one.strip() for one, _, _ in CookieJar.parse(presented).pairs}
    for one in names:
        assert not READER.names.matches(one) or READER.names.matches(name.strip()), (
            f"{one} is not seen in {line!r}"
        )
    is_gone = set_by_browser["ends"] is not None and set_by_browser["ends"] <= NOW * 1000
    assert is_expiring(line, NOW) == is_gone, (line, set_by_browser)
    after = with_set_cookies("", [line], NOW)
    assert bool(after) <= (not is_gone)


TARGET: Final = Target(
    check,
    words=[
        *(
            b"authjs.session-token",
            b"__Secure-",
            b"__Host-",
            b".0",
            b"=",
            b"; ",
            b";",
            b" ",
            b"\t",
            b'"',
            b",",
        ),
        *(
            b"Max-Age=",
            b"Max-Age=0",
            b"Expires=",
            b"Thu, 01 Jan 1970 00:00:00 GMT",
            b"Thu, 01-Jan-70 00:00:01 GMT",
        ),
        *(
            b"Wed, 09 Jun 2100 10:18:14 GMT",
            b"1 Feb 99 1:2:3",
            b"Dec",
            b"2038",
            b"99",
            b"69",
            b"0",
            b"-1",
            b"23:59:60",
        ),
        *(
            b"Path=/",
            b"Domain=example.com",
            b"Secure",
            b"HttpOnly",
            b"SameSite=None",
            b"Partitioned",
            b"Priority=High",
        ),
        *(
            b"12:34:56",
            b"24:00:00",
            b"1600",
            b"1601",
            b"70",
            b"00",
            b"31",
            b"32",
            b"-",
            b":",
            b"sep",
            b"GMT+1",
        ),
    ],
    seeds=[
        b"authjs.session-token=abc; Path=/; HttpOnly; SameSite=Lax",
        b"authjs.session-token=; Max-Age=0; Path=/",
        b"__Secure-authjs.session-token.0=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        b"=authjs.session-token=abc",
        b"a=b; Expires=Thu, 01-Jan-70 00:00:01 GMT; Max-Age=x",
        b"a=b; Max-Age=0; Max-Age=x",
        b"a=b; Expires=Wed, 09 Jun 2100 10:18:14 GMT; Max-Age=-1",
    ],
    longest=256,
)
