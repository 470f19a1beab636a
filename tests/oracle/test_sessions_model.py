"""Histories of sessions against a model: the dead stay dead, and the living live."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.oracle.sessions_history import STEPS_OF_A_HISTORY, Step
from tests.oracle.sessions_play import Player


def test_no_history_loses_a_living_session_or_brings_a_dead_one_back(tmp_path: Path) -> None:
    with Player(tmp_path) as player:

        @settings(
            max_examples=250,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(STEPS_OF_A_HISTORY)
        def play(steps: list[Step]) -> None:
            player.play(steps)

        play()
