"""Makes the schemas beside this file anew, out of the packages that publish them."""

from __future__ import annotations

import json
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from tests.manifests.schemas import HERE, KINDS, Node

KUBERNETES: Final = "1.37.0"
COMPOSE: Final = "github.com/compose-spec/compose-go/v2@v2.16.2"
OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

_MONITORS: Final = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
_PROSE: Final = frozenset({"description", "example", "$comment"})


def renew() -> None:
    """Writes `kubernetes.json` and `compose.json`. Takes pip and Go."""
    definitions = _reachable(_kubernetes(), set(KINDS.values()) - {"PodMonitor"})
    definitions["PodMonitor"] = _pod_monitor()
    _write(
        "kubernetes.json",
        {"$comment": f"Kubernetes {KUBERNETES} and {OPERATOR}, Apache-2.0", "$defs": definitions},
    )
    compose = json.loads((_module(COMPOSE) / "schema" / "compose-spec.json").read_text())
    _write("compose.json", {"$comment": f"{COMPOSE}, Apache-2.0", **_terse(compose)})


def _kubernetes() -> Node:
    """Every definition of that version, strict: nothing besides the members that are named."""
    with tempfile.TemporaryDirectory() as folder:
        pip = ["python3", "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
        subprocess.run([*pip, f"kubernetes-validate=={KUBERNETES}"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        inside = "kubernetes_validate/kubernetes-json-schema"
        with zipfile.ZipFile(wheel) as archive:
            name = f"{inside}/v{KUBERNETES}-local-strict/_definitions.json"
            return dict(json.loads(archive.read(name))["$defs"])


def _reachable(definitions: Node, names: set[str]) -> Node:
    """These definitions, and what they refer to."""
    found: Node = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _terse(definitions[name])
            waiting += _references(found[name])
    return dict(sorted(found.items()))


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _terse(node: Any) -> Any:
    """Without what people read, and with references that lead into the same document."""
    if isinstance(node, list):
        return [_terse(one) for one in node]
    if not isinstance(node, dict):
        return node
    made: Node = {}
    for key, value in node.items():
        if (key in _PROSE and isinstance(value, str)) or key.startswith("x-kubernetes"):
            continue
        if key in {"properties", "$defs", "definitions", "patternProperties"}:
            made[key] = {name: _terse(one) for name, one in value.items()}
        elif key == "$ref" and not value.startswith("#"):
            made[key] = f"#/$defs/{value.rpartition('/')[2]}"
        else:
            made[key] = _terse(value)
    return made


def _pod_monitor() -> Node:
    """The resource's own schema. Its objects take no unknown member, as the API server has it."""
    text = (_module(OPERATOR) / _MONITORS).read_text()
    resource = YAML(typ="safe", pure=True).load(text)
    (version,) = resource["spec"]["versions"]
    schema: Node = _closed(_terse(version["schema"]["openAPIV3Schema"]))
    schema["properties"]["metadata"] = {
        "$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    }
    return schema


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: _closed(value) for key, value in node.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def _module(name: str) -> Path:
    """The folder of a Go module."""
    shown = subprocess.run(
        ["go", "mod", "download", "-json", name], capture_output=True, text=True, check=True
    )
    return Path(json.loads(shown.stdout)["Dir"])


def _write(name: str, schema: Node) -> None:
    """One definition stands on one line, so that what changes can be read."""
    lines = ["{"]
    for key, value in schema.items():
        if key in {"$defs", "definitions"}:
            rows = [f"  {json.dumps(one)}: {json.dumps(of)}" for one, of in value.items()]
            lines += [f" {json.dumps(key)}: {{", ",\n".join(rows), " },"]
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)},")
    lines[-1] = lines[-1].removesuffix(",")
    (HERE / name).write_text("\n".join(lines) + "\n}\n", encoding="utf-8")
