"""What becomes of reloads is told the same by one process, and by several together."""

from __future__ import annotations

import json
from typing import Final

from sidecar.core.reload_result import ReloadHistory, ReloadResult, read_history, together

START: Final = ReloadResult("started", 1.0, "aa")
GOOD: Final = ReloadResult("reloaded", 2.0, "bb", kept=("listen",), warnings=("w",))
BAD: Final = ReloadResult("refused", 3.0, "bb", faults=("f.yaml:1: nonsense",))
DEFECT: Final = ReloadResult("failed", 4.0, "bb", faults=("a defect",))


def test_history_keeps_the_last_attempt_and_what_holds() -> None:
    """A refused reload changes nothing of what holds, nor since when."""
    history = ReloadHistory(START)
    assert (history.holds, history.last) == (START, None)
    history = history.after(GOOD).after(BAD).after(DEFECT)
    assert (history.holds, history.last) == (GOOD, DEFECT)
    assert history.counts == {"reloaded": 1, "refused": 1, "failed": 1}


def test_history_is_read_as_it_was_written() -> None:
    for history in (ReloadHistory(START), ReloadHistory(START).after(GOOD).after(BAD)):
        assert read_history(json.loads(json.dumps(history.as_json()))) == history


def test_result_tells_faults_or_warnings() -> None:
    assert GOOD.as_json() == {
        "result": "reloaded",
        "when": 2.0,
        "hash": "bb",
        "kept": ["listen"],
        "warnings": ["w"],
    }
    assert BAD.as_json()["faults"] == ["f.yaml:1: nonsense"]
    assert "warnings" not in BAD.as_json()


def test_all_workers_have_to_reload() -> None:
    """One that began since then holds the same, so it is no fault."""
    began = ReloadResult("started", 2.5, "bb")
    assert together(GOOD, {"worker 1": GOOD, "worker 2": began}) == GOOD


def test_one_worker_that_did_not_reload_is_told() -> None:
    """With its name and its faults, or that it gave no answer, or that it has other values."""
    other = ReloadResult("reloaded", 2.0, "cc")
    told = together(GOOD, {"worker 1": BAD, "worker 2": GOOD, "worker 3": None, "worker 4": other})
    assert told.result == "refused"
    assert told.faults == (
        "worker 1: f.yaml:1: nonsense",
        "worker 3: has not answered",
        "worker 4: holds another configuration; reload once more",
    )
    assert together(GOOD, {"worker 1": DEFECT}).result == "failed"
