"""Every fault: how it is brought about, and what users may notice of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from redis import Redis as Client

from tests.faults.strangers import leave_within, never_read, trickle
from tests.faults.upstream import MODES

if TYPE_CHECKING:
    from tests.faults.sidecars import Running
    from tests.faults.site import Plan, Site

Act = Callable[["Site", float], Awaitable[None]]
"""Brings a fault about for so many seconds; returns once it has ended."""

UPSTREAM: Final = frozenset(
    {
        "502 upstream_unreachable",
        "502 upstream_protocol",
        "504 upstream_timeout",
        "503 overloaded",
    }
)
PROVIDER: Final = frozenset({"503 refresh_unavailable"})
STORE: Final = frozenset({"503 store_unavailable", "503 refresh_unavailable"})
RECOVERY_SECONDS: Final = 2.0
PROVIDER_SECONDS: Final = 10.0
EVERYBODY_SECONDS: Final = 10.0
KILLED_SECONDS: Final = 18.0
"""A refresh token that a killed process may have sent is left alone for 15 s."""
_LATE: Final = 0.3  # seconds that what a killed process has sent may be under way
_CLOCK_STEPS: Final = (120, -120, 0)  # seconds


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and what users may notice of it: errors by these codes, and breaks."""

    act: Act
    codes: frozenset[str] = frozenset()
    breaks: bool = False
    ends_streams: bool = False
    """Streams and WebSockets may end in order."""
    cuts_streams: bool = False
    recovery: float = RECOVERY_SECONDS
    everybody: float = EVERYBODY_SECONDS
    """Until all are served; `recovery` is until the first right answer."""
    where: Callable[[Plan], bool] = lambda plan: True


# -- the upstream ---------------------------------------------------------------------------------


async def _upstream_killed(site: Site, seconds: float) -> None:
    site.upstream.kill()
    await asyncio.sleep(seconds)
    site.upstream.start()
    await asyncio.to_thread(site.upstream.wait)


async def _upstream_hung(site: Site, seconds: float) -> None:
    site.upstream.pause()
    await asyncio.sleep(seconds)
    site.upstream.resume()


async def _misbehaves(mode: str, site: Site, seconds: float) -> None:
    await site.upstream.turn(mode)
    await asyncio.sleep(seconds)
    await site.upstream.turn("ok")


# -- the store ------------------------------------------------------------------------------------


def _redis(site: Site) -> Any:
    assert site.redis is not None
    return site.redis


async def _store_killed(site: Site, seconds: float) -> None:
    _redis(site).kill()
    await asyncio.sleep(seconds)
    _redis(site).start()
    await asyncio.to_thread(_redis(site).wait)


async def _store_restarted(site: Site, seconds: float) -> None:
    await _store_killed(site, 0.0)


async def _store_stopped(site: Site, seconds: float) -> None:
    _redis(site).pause()
    await asyncio.sleep(seconds)
    _redis(site).resume()


async def _asked(site: Site, *command: str) -> None:
    def ask() -> None:
        with Client(port=_redis(site).port) as client:
            client.execute_command(*command)

    await asyncio.to_thread(ask)


async def _store_emptied(site: Site, seconds: float) -> None:
    """Login sessions that nobody else holds are gone."""
    for person in site.people:
        person.family.excuses.append("the store was emptied")
    await _asked(site, "FLUSHALL")


async def _store_full(site: Site, seconds: float) -> None:
    await _asked(site, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    await _asked(site, "CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(seconds)
    await _asked(site, "CONFIG", "SET", "maxmemory", "0")


async def _store_drops_connections(site: Site, seconds: float) -> None:
    await _asked(site, "CLIENT", "KILL", "TYPE", "normal")
    await _asked(site, "CLIENT", "KILL", "TYPE", "pubsub")


async def _disk_full(site: Site, seconds: float) -> None:
    """Neither the log nor a store in a file grows."""
    for one in site.sidecars:
        one.limit_files(4096)
    await asyncio.sleep(seconds)
    for one in site.sidecars:
        one.limit_files(-1)


# -- the provider ---------------------------------------------------------------------------------


async def _provider(mode: str, delay: float, site: Site, seconds: float) -> None:
    site.provider.turn(mode, delay)
    await asyncio.sleep(seconds)
    site.provider.turn("ok")


async def _provider_killed(site: Site, seconds: float) -> None:
    site.provider.turn("hang")  # what is answered has arrived, and nothing else is exchanged
    await asyncio.sleep(0.2)
    await site.provider.refuse()
    site.provider.turn("ok")
    await asyncio.sleep(seconds)
    await site.provider.accept()


# -- clients --------------------------------------------------------------------------------------


async def _clients(how: Callable[[Site, float], Awaitable[None]], site: Site, s: float) -> None:
    await asyncio.gather(*(how(site, s) for _ in range(8)))


# -- the machine ----------------------------------------------------------------------------------


async def _descriptors(site: Site, seconds: float) -> None:
    """Clients take what is left, while connections to the upstream must be made anew."""
    writers = []
    await site.upstream.turn("reset", 0.2)
    for one in site.sidecars:
        one.limit_descriptors(3)
        for _ in range(20):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", one.port)
                writers.append(writer)
    await asyncio.sleep(seconds)
    await site.upstream.turn("ok")
    for one in site.sidecars:
        one.limit_descriptors(None)
    for writer in writers:
        writer.transport.abort()


async def _log_unread(site: Site, seconds: float) -> None:
    for one in site.sidecars:
        one.said.pause()
    await asyncio.sleep(seconds)
    for one in site.sidecars:
        one.said.open()


async def _log_reader_gone(site: Site, seconds: float) -> None:
    for one in site.sidecars:
        one.said.close()
    await asyncio.sleep(seconds)
    for one in site.sidecars:
        one.said.open()


async def _clock_steps(site: Site, seconds: float) -> None:
    assert site.clock is not None
    for step in _CLOCK_STEPS:
        site.clock.write_text(f"{step:+d}s\n")
        await asyncio.sleep(seconds)


# -- its own processes ----------------------------------------------------------------------------


async def _handover(site: Site, seconds: float) -> None:
    for one in site.sidecars:
        if site.plan.store == "memory":
            site.forget_renewals("the memory of a process ended")
        await one.hand_over()


async def _terminated(site: Site, seconds: float) -> None:
    """A load balancer asks the other replicas meanwhile, as soon as it has noticed."""
    number = site.random.randrange(len(site.sidecars))
    one = site.sidecars[number]
    os.kill(one.lead, signal.SIGTERM)
    await asyncio.sleep(0.2)
    site.away.add(number)
    await one.ended()
    await one.begin()
    site.away.discard(number)


async def _killed(site: Site, seconds: float) -> None:
    number = site.random.randrange(len(site.sidecars))
    one = site.sidecars[number]
    site.provider.excuse_recent("its replica was killed")
    if site.plan.store == "memory":
        site.forget_renewals("its replica was killed")
    one.kill()
    site.away.add(number)
    if len(site.away) == len(site.sidecars):
        site.away.clear()
    await asyncio.sleep(_LATE)
    site.provider.excuse_recent("its replica was killed")
    await one.begin()
    site.away.discard(number)


async def _worker_killed(site: Site, seconds: float) -> None:
    one = site.random.choice([one for one in site.sidecars if one.workers > 1])
    killed = site.random.choice(one.workers_now())
    site.provider.excuse_recent("its worker was killed")
    os.kill(killed, signal.SIGKILL)
    await asyncio.sleep(_LATE)
    site.provider.excuse_recent("its worker was killed")
    await one.until(lambda: killed not in one.pids())
    await one.all_serve()


async def _reload(site: Site, seconds: float) -> None:
    for one in site.sidecars:
        config = json.loads(one.file.read_text())
        idle = int(config["limits"]["client_idle"].removesuffix("s")) + 1
        config["limits"]["client_idle"] = f"{idle}s"
        _write(one.file, json.dumps(config))
        await one.reload("reloaded")


async def _reload_refused(site: Site, seconds: float) -> None:
    for one in site.sidecars:
        good = one.file.read_text()
        _write(one.file, '{"nonsense": 1}')
        await one.reload("reload refused")
        count = len(one.lines("reloaded"))
        _write(one.file, good)  # which is seen, and read
        await one.until(partial(_more, one, "reloaded", count))


def _more(one: Running, event: str, count: int) -> bool:
    return len(one.lines(event)) > count


def _write(path: Any, text: str) -> None:
    other = path.with_suffix(".new")
    other.write_text(text)
    other.rename(path)


# -- all of them ----------------------------------------------------------------------------------


def _has_redis(plan: Plan) -> bool:
    return plan.store == "redis"


def _has_workers(plan: Plan) -> bool:
    return max(plan.workers) > 1


def _has_others(plan: Plan) -> bool:
    return len(plan.workers) > 1


def _logs_to_file(plan: Plan) -> bool:
    return plan.log_to_file


def _logs_to_pipe(plan: Plan) -> bool:
    return not plan.log_to_file


def _has_clock(plan: Plan) -> bool:
    return plan.has_clock


_STORE: Final = partial(Fault, codes=STORE, where=_has_redis)
_KILLED: Final = partial(
    Fault, codes=STORE, breaks=True, cuts_streams=True, everybody=KILLED_SECONDS
)
_PROVIDER: Final = partial(Fault, codes=PROVIDER, recovery=PROVIDER_SECONDS)

FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "upstream killed": Fault(_upstream_killed, UPSTREAM, breaks=True, cuts_streams=True),
        "upstream hung": Fault(_upstream_hung, UPSTREAM, breaks=True),
        **{
            f"upstream {mode.replace('_', ' ')}": Fault(
                partial(_misbehaves, mode), UPSTREAM, breaks=True
            )
            for mode in MODES
        },
        "store killed": _STORE(_store_killed),
        "store restarted": _STORE(_store_restarted),
        "store stopped": _STORE(_store_stopped),
        "store emptied": _STORE(_store_emptied),
        "store full": _STORE(_store_full),
        "store drops connections": _STORE(_store_drops_connections),
        "disk full": Fault(_disk_full, STORE, where=_logs_to_file),
        "provider killed": _PROVIDER(_provider_killed),
        "provider hangs": _PROVIDER(partial(_provider, "hang", 0.0)),
        "provider slow": _PROVIDER(partial(_provider, "ok", 2.0)),
        "provider 500": _PROVIDER(partial(_provider, "fails", 0.0)),
        "provider HTML": _PROVIDER(partial(_provider, "html", 0.0)),
        "clients leave": Fault(partial(_clients, leave_within)),
        "clients trickle": Fault(partial(_clients, trickle)),
        "clients never read": Fault(partial(_clients, never_read)),
        "descriptors exhausted": Fault(_descriptors, UPSTREAM | STORE, breaks=True),
        "log unread": Fault(_log_unread, where=_logs_to_pipe),
        "log reader gone": Fault(_log_reader_gone, where=_logs_to_pipe),
        "clock steps": Fault(_clock_steps, where=_has_clock),
        "handover": Fault(_handover, ends_streams=True),
        "terminated": Fault(_terminated, ends_streams=True, where=_has_others),
        "killed": _KILLED(_killed),
        "worker killed": _KILLED(_worker_killed, where=_has_workers),
        "reload": Fault(_reload),
        "reload refused": Fault(_reload_refused),
    }
)


_SIDECAR: Final = ("handover", "terminated", "killed", "worker killed", "reload", "reload refused")
_MACHINE: Final = ("descriptors exhausted", "disk full", "log unread", "log reader gone")
_SEVERAL: Final = ("upstream", "store", "provider", "clients", "sidecar")


def subject(name: str) -> str:
    """What fails: `upstream`, `store`, `provider`, `clients`, `sidecar`, `machine` or `clock`."""
    if name in _SIDECAR:
        return "sidecar"
    return "machine" if name in _MACHINE else name.partition(" ")[0]


def go_together(one: str, other: str) -> bool:
    """Whether two faults can be brought about at once."""
    subjects = {subject(one), subject(other)}
    if "machine" in subjects:  # what a process starts with, and whether its log is read
        return subjects <= {"machine", "store", "provider", "clients"} and len(subjects) == 2
    return len(subjects) == 2 and subjects <= set(_SEVERAL)


def both(one: Fault, other: Fault) -> Fault:
    """Two faults at once: users may notice what either may have them notice."""

    async def act(site: Site, seconds: float) -> None:
        await asyncio.gather(one.act(site, seconds), other.act(site, seconds))

    return Fault(
        act,
        one.codes | other.codes,
        breaks=one.breaks or other.breaks,
        ends_streams=one.ends_streams or other.ends_streams,
        cuts_streams=one.cuts_streams or other.cuts_streams,
        recovery=max(one.recovery, other.recovery),
        everybody=max(one.everybody, other.everybody),
    )


def fits(name: str, plan: Plan) -> bool:
    """Whether a fault can happen to a site."""
    return FAULTS[name].where(plan) and (name == "clock steps" or not plan.has_clock)
