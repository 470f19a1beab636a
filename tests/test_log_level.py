"""The log's level can be another one for a while, in all processes, and falls back by itself."""

from __future__ import annotations

import os

import pytest

from sidecar.log_level import LONGEST_OVERRIDE, SEVERITIES, LogLevel


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.mark.parametrize("usual", SEVERITIES)
@pytest.mark.parametrize("other", SEVERITIES)
def test_an_override_holds_for_its_time_and_no_longer(clock: Time, usual: str, other: str) -> None:
    """Louder or quieter."""
    level = LogLevel(usual, clock)
    level.override(other, 600)
    for passed, holds in ((0.0, other), (599.9, other), (600.0, usual), (10_000.0, usual)):
        clock.seconds = 1_000_000.0 + passed
        assert level.current == holds
        assert level.usual == usual
        for severity in SEVERITIES.values():
            assert level.admits(severity) == (severity >= SEVERITIES[holds])


def test_the_time_that_is_left_is_told(clock: Time) -> None:
    level = LogLevel("info", clock)
    assert level.remaining == 0.0
    level.override("debug", 600)
    clock.seconds += 200
    assert level.remaining == pytest.approx(400)
    clock.seconds += 500
    assert level.remaining == 0.0


def test_the_last_override_counts_and_can_be_ended(clock: Time) -> None:
    level = LogLevel("info", clock)
    level.override("debug", 600)
    level.override("error", 60)
    assert (level.current, level.remaining) == ("error", 60)
    level.reset()
    assert (level.current, level.remaining) == ("info", 0.0)


def test_a_reload_changes_what_it_falls_back_to(clock: Time) -> None:
    """And ends no override."""
    level = LogLevel("info", clock)
    level.override("debug", 600)
    level.follow("warning")
    assert level.current == "debug"
    clock.seconds += 601
    assert level.current == "warning"
    assert not level.admits(SEVERITIES["info"])


@pytest.mark.parametrize(
    ("level", "seconds"),
    [
        *(("loud", 5), ("", 5), ("INFO", 5), ("info", 0), ("info", -1), ("info", float("nan"))),
        *(("info", LONGEST_OVERRIDE + 1), ("info", float("inf"))),
    ],
)
def test_what_cannot_be_overridden_is_refused(clock: Time, level: str, seconds: float) -> None:
    """And changes nothing."""
    one = LogLevel("warning", clock)
    with pytest.raises(ValueError, match=r"must be|unknown level"):
        one.override(level, seconds)
    assert (one.current, one.remaining) == ("warning", 0.0)


def test_forked_processes_share_it() -> None:
    """Those that run already, and in both directions: the admin process tells all workers."""
    level = LogLevel("info")
    told, tells = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        level.override("debug", 600)
        os.write(told[1], b"!")
        os.read(tells[0], 1)
        os._exit(0 if level.current == "error" else 1)
    os.read(told[0], 1)
    assert level.current == "debug"
    level.override("error", 600)
    os.write(tells[1], b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for fd in (*told, *tells):
        os.close(fd)
