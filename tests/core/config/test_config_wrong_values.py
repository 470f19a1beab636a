"""Each key, with every kind of wrong value: it is told by its name, and nothing breaks."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, Final, TypeAlias, get_args

import pytest

from sidecar.check import summary
from sidecar.compilation.compile_policy import compile_policy, config_hash
from sidecar.core.config import Fault
from sidecar.core.config.effective import effective
from sidecar.core.config.load import load_tree
from sidecar.core.config.model import ConfigDocument
from sidecar.core.config.short_forms import Model, keys_of
from sidecar.core.errors import ConfigError

Path: TypeAlias = tuple[str | int, ...]

SECRET: Final = "s" * 40
SITE: Final[dict[str, Any]] = {
    "secret": SECRET,
    "public_url": "https://a.example",
    "upstreams": {"a": {"url": "http://a"}},
    "routes": [{"path": "/", "kind": "page", "upstream": "a"}],
}
SOURCES: Final[dict[str, dict[str, Any]]] = {
    **{name: {"secret": SECRET} for name in ("authjs", "nextauth", "auth0", "better-auth")},
    "iron-session": {"cookie": "c", "password": SECRET},
    "jwt": {"cookie": "c", "secret": SECRET},
    "cookie": {"cookie": "c"},
}
# What makes a section complete, so that only the key in question is wrong.
COMPLETE: Final[dict[str, Any]] = {
    "oidc": {"issuer": "https://i", "client_id": "c"},
    "refresh": {"issuer": "https://i", "client_id": "c", "revocation_endpoint": "https://i/r"},
    "refresh.request": {"url": "http://r"},
    "tls": {"cert": "/c", "key": "/k"},
    "listen": [{"address": ":80"}],
    "listen.0.tls": {"cert": "/c", "key": "/k"},
    "logout.hooks": [{"url": "http://h"}],
    "unauthorized.match": [{"path": "a", "equals": "b"}],
    "envelope.failure": [{"path": "a", "equals": "b"}],
    "routes.0.envelope.failure": [{"path": "a", "equals": "b"}],
    "routes.0.allow": [{"claim": "g", "any": ["a"]}],
    "oidc.allow": [{"claim": "g", "any": ["a"]}],
    "upstreams.a.check": {"path": "/x"},
}
WRONG: Final[list[Any]] = [
    *(None, "", [], {}, -1, 10**30, 1.5, True, [[]], [{}], {"a": None}),
    *("1" * 5000, "a${b", "\ud800", "a\0b"),
]


def inner(model: Model, before: Path, kind: str | None) -> Iterator[tuple[Path, str | None]]:
    """The keys of a section and of those in it; `kind` is the source that they are of."""
    for name, shape in keys_of(model).items():
        path = (*before, name)
        yield path, kind
        below = (*path, "a") if shape.is_mapping else path
        below = (*path, 0) if shape.is_list or name == "listen" else below
        for one in shape.models:
            kinds = get_args(one.model_fields["type"].annotation) if len(shape.models) > 1 else ()
            yield from inner(one, below, kinds[0] if kinds else kind)


KEYS: Final = sorted({*inner(ConfigDocument, (), None)}, key=str)


def with_value(path: Path, kind: str | None, value: object) -> dict[str, Any]:
    """A configuration that is right but for the value at `path`."""
    data: dict[str, Any] = copy.deepcopy(SITE)
    if kind is not None:
        data["session"] = {"sources": [{"type": kind, **SOURCES[kind]}]}
    inside: Any = data
    for at, part in enumerate(path[:-1]):
        is_there = part in inside if isinstance(inside, dict) else bool(inside)
        if not is_there:
            made = copy.deepcopy(COMPLETE.get(".".join(map(str, path[: at + 1])), {}))
            inside[part] = made
        inside = inside[part]
    inside[path[-1]] = value
    return data


def read_file(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize(("path", "kind"), KEYS, ids=str)
def test_wrong_values_are_told_by_their_key(path: Path, kind: str | None) -> None:
    """Or they are right, and then all that is made of a configuration can be made of it."""
    for value in WRONG:
        text = json.dumps(with_value(path, kind, value))
        try:
            config, tree = load_tree(text, source="f.yaml", environ={}, read_file=read_file)
        except ConfigError as error:
            assert error.faults
            for fault in error.faults:
                assert isinstance(fault, Fault)
                assert fault.path
                assert "invalid (" not in fault.problem, f"{value!r}: no words for {fault}"
                assert len(str(fault)) < 1000
            continue
        assert effective(config, tree)
        assert [*summary(config)]
        assert config_hash(config)
        try:
            compile_policy(config, bytes(32))
        except OSError as error:  # a file that it names is not there
            assert str(error)


def test_a_brace_in_quotes_takes_no_other_key_along() -> None:
    """A value that merely has `${` is told by its key; the rest of its line is read as it is."""
    text = 'upstream: http://a\nlog: {target: "a${", level: "info"}\nlogout: {path: "${S}"}\n'
    with pytest.raises(ConfigError) as caught:
        load_tree(text, source="f.yaml", environ={"S": "/out"}, read_file=read_file)
    assert [str(fault) for fault in caught.value.faults] == [
        "f.yaml:2: log.target: malformed reference; write ${NAME} or ${NAME:-default}, and "
        "$${ for a literal ${",
    ]


@pytest.mark.parametrize("name", ["SIDECAR_OIDC__CLIENT_ID", "SIDECAR_SECRET", "SIDECAR_PAGES"])
def test_a_variable_whose_bytes_are_no_text_is_told_by_its_name(name: str) -> None:
    data = {**SITE, "oidc": COMPLETE["oidc"]}
    environ = {name: "a\udcff" * 20}
    with pytest.raises(ConfigError) as caught:
        load_tree(json.dumps(data), source="f.yaml", environ=environ, read_file=read_file)
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"{name}: ")
    assert "must be text in UTF-8" in str(fault)
    assert str(fault).encode()


@pytest.mark.parametrize("key", ["secret_file", "pages"])
def test_a_path_that_no_file_has_is_told_by_its_key(key: str) -> None:
    text = json.dumps({**SITE, key: "a\0b"})
    with pytest.raises(ConfigError) as caught:
        load_tree(text, source="f.yaml", environ={}, read_file=read_file)
    assert [getattr(fault, "path", "") for fault in caught.value.faults] == [key]


@pytest.mark.parametrize("workers", [1025, 10**30, "9" * 5000])
def test_no_machine_is_asked_for_more_workers_than_any_has(workers: object) -> None:
    text = json.dumps({**SITE, "workers": workers})
    with pytest.raises(ConfigError) as caught:
        load_tree(text, source="f.yaml", environ={}, read_file=read_file)
    assert [getattr(fault, "path", "") for fault in caught.value.faults] == ["workers"]


def test_a_short_secret_is_warned_of_by_its_key_alone(recwarn: pytest.WarningsRecorder) -> None:
    """Not by a library, which does not know the key."""
    data = with_value(("session", "sources", 0, "secret"), "jwt", "short")
    config, _ = load_tree(json.dumps(data), source="f.yaml", environ={}, read_file=read_file)
    compile_policy(config, bytes(32))
    assert any(one.startswith("session.sources[0].secret: ") for one in config.warnings)
    assert not [*recwarn]


@pytest.mark.parametrize("wrong", [{"sources": [{"a": 1}]}, {"upstream": {"a": 1}}])
def test_rules_over_claims_read_past_other_wrong_keys(wrong: dict[str, Any]) -> None:
    data = with_value(("routes", 0, "allow"), "authjs", [{"claim": "g", "any": "a"}])
    data["routes"][0] |= {"session": "required", "headers": {"X-User": "claim.sub"}, **wrong}
    with pytest.raises(ConfigError) as caught:
        load_tree(json.dumps(data), source="f.yaml", environ={}, read_file=read_file)
    (name,) = wrong
    assert any(f"routes[0].{name}" in str(fault) for fault in caught.value.faults)
