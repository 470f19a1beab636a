"""The log's section: from its shortest form to what each key becomes."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.config import Log
from sidecar.core.config.values import log_file


@pytest.mark.parametrize("written", [{}, {"access": True}, {"access": "true"}, {"access": None}])
def test_every_request_gets_a_line_by_default(written: dict[str, Any]) -> None:
    """`true` from the environment is text, and a section without keys is null in YAML."""
    access = Log.model_validate(written).access
    assert access is not None
    assert (access.min_status, access.min_duration, access.sample) == (None, None, None)


@pytest.mark.parametrize("written", [False, "false"])
def test_the_access_log_can_be_off(written: object) -> None:
    assert Log.model_validate({"access": written}).access is None


def test_filters_are_read_with_their_units() -> None:
    """Also as the text of environment variables."""
    keys = {"min_status": "400", "min_duration": "1.5s", "sample": "0.25"}
    access = Log.model_validate({"access": keys}).access
    assert access is not None
    assert (access.min_status, access.min_duration, access.sample) == (400, 1.5, 0.25)


def test_a_target_names_a_file_or_a_stream() -> None:
    assert log_file("file:///var/log/sidecar.log") == "/var/log/sidecar.log"
    assert log_file("stderr") is log_file("stdout") is None
