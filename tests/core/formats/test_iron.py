"""What an iron-session seal must be before a password is tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.core.formats.iron import IronOpener
from sidecar.core.jose import SealError

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "authjs.json").read_text())["vectors"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("~2", ""),
        ("~2", "~1"),
        ("~2", "~2\n"),
        ("Fe26.2*", "Fe26.1*"),
        ("*1*", "**"),
        ("*1*", "*2*"),
        ("*1801209600000*", "**"),
        ("*1801209600000*", "*01801209600000*"),
        ("*1801209600000*", "*1e99*"),
        ("*1801209600000*", "*9999999999999999*"),
        ("*1801209600000*", "*99999999999999999999*"),
        ("*1801209600000*", "*١٢٣*"),
    ],
)
def test_a_seal_that_is_not_quite_one_does_not_open(old: str, new: str) -> None:
    vector = next(v for v in VECTORS if v["kind"] == "iron9-small")
    (value,) = vector["cookies"].values()
    opener = IronOpener({"1": vector["secrets"][0].encode()})
    assert opener.open(value, "app", vector["now"]).claims == vector["claims"]
    assert old in value
    with pytest.raises(SealError):
        opener.open(value.replace(old, new), "app", vector["now"])
