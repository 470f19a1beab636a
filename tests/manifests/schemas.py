"""The public schemas that deployment files are held to, kept beside this file without their prose.

`python -m tests.manifests --renew` makes them anew. Kubernetes's come with the PyPI package
kubernetes-validate, Compose's and the Prometheus Operator's with their Go modules; all are
Apache-2.0.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
MANIFESTS: Final = ROOT / "config" / "kubernetes"

Node: TypeAlias = dict[str, Any]

KINDS: Final = {
    ("apps/v1", "Deployment"): "io.k8s.api.apps.v1.Deployment",
    ("v1", "Service"): "io.k8s.api.core.v1.Service",
    ("v1", "ConfigMap"): "io.k8s.api.core.v1.ConfigMap",
    ("networking.k8s.io/v1", "NetworkPolicy"): "io.k8s.api.networking.v1.NetworkPolicy",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): (
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"
    ),
    ("policy/v1", "PodDisruptionBudget"): "io.k8s.api.policy.v1.PodDisruptionBudget",
    ("monitoring.coreos.com/v1", "PodMonitor"): "PodMonitor",
}
"""Which definition of `kubernetes.json` holds for a document, by its `apiVersion` and `kind`."""


@cache
def kept(name: str) -> Node:
    """One of the schemas."""
    return dict(json.loads((HERE / name).read_text(encoding="utf-8")))


def documents(path: Path) -> list[Node]:
    """The YAML documents of a file."""
    loader = YAML(typ="safe", pure=True)
    return [one for one in loader.load_all(path.read_text(encoding="utf-8")) if one]


def faults(schema: Node, document: object) -> list[str]:
    """Returns what the schema does not allow, by its place."""
    errors = Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def kubernetes_faults(document: Node) -> list[str]:
    """The same of an object of Kubernetes. Unknown members are faults."""
    name = KINDS.get((document["apiVersion"], document["kind"]))
    if name is None:
        return [f"no schema for {document['apiVersion']} {document['kind']}"]
    definitions = kept("kubernetes.json")["$defs"]
    return faults({"$ref": f"#/$defs/{name}", "$defs": definitions}, document)
