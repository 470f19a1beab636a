"""What config/kubernetes holds is valid, fits together, and fits the sidecar.

`python -m tests.manifests` checks the same files with kubeconform and kustomize.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from sidecar.cli import cli
from sidecar.core.config import Config, load
from tests.manifests.schemas import MANIFESTS, Node, documents, kubernetes_faults

SECRET: Final = "a secret of the tests, 32 bytes or more"
SECRETS: Final = {
    "secret": SECRET,
    "auth-secret": SECRET,
    "store-url": "rediss://:password@redis:6379",
}
MOUNT: Final = "/run/secrets/sidecar"
LAYOUTS: Final = ("standalone", "native")
PATCH: Final = MANIFESTS / "metrics" / "deployment.yaml"
OBJECTS: Final = sorted(
    {path for path in MANIFESTS.rglob("*.yaml") if path.name != "kustomization.yaml"} - {PATCH}
)


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def only(layout: str, kind: str) -> Node:
    """The one object of a kind in a layout."""
    found = [
        document
        for path in (MANIFESTS / layout).glob("*.yaml")
        for document in documents(path)
        if document["kind"] == kind
    ]
    assert len(found) == 1, f"{layout} has {len(found)} of {kind}"
    return found[0]


def pod(layout: str) -> Node:
    return dict(only(layout, "Deployment")["spec"]["template"]["spec"])


def sidecar_of(spec: Node) -> Node:
    """The container of the sidecar in a pod."""
    everything = [*spec.get("initContainers", []), *spec["containers"]]
    (one,) = [container for container in everything if container["name"] == "session-sidecar"]
    return dict(one)


def text(layout: str) -> str:
    return str(only(layout, "ConfigMap")["data"]["sidecar.yaml"])


def config(layout: str) -> Config:
    files = {f"{MOUNT}/{name}": value for name, value in SECRETS.items()}
    return load(text(layout), source=layout, environ={}, read_file=files.__getitem__)


@pytest.mark.parametrize("path", OBJECTS, ids=named)
def test_every_object_is_valid(path: Path) -> None:
    """By the schemas of Kubernetes itself, without unknown members."""
    found = documents(path)
    assert found
    assert [fault for one in found for fault in kubernetes_faults(one)] == []


@pytest.mark.parametrize(
    "change",
    [{"replica": 3}, {"replicas": "three"}, {"template": {"spec": {"containers": [{}]}}}],
    ids=["unknown member", "wrong type", "missing member"],
)
def test_an_invalid_object_is_seen(change: Node) -> None:
    wrong = only("standalone", "Deployment")
    wrong["spec"].update(change)
    assert kubernetes_faults(wrong) != []


@pytest.mark.parametrize("folder", [*LAYOUTS, "metrics"])
def test_kustomization_names_every_file(folder: str) -> None:
    (kustomization,) = documents(MANIFESTS / folder / "kustomization.yaml")
    listed = kustomization["resources"] + [
        patch["path"] for patch in kustomization.get("patches", [])
    ]
    there = {path.name for path in (MANIFESTS / folder).iterdir()} - {"kustomization.yaml"}
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_configuration_passes_the_strict_check(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sidecar check --strict` has no error and no warning, once the Secret is mounted."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)
    file = tmp_path / "sidecar.yaml"
    file.write_text(text(layout).replace(MOUNT, str(tmp_path)))
    for name in [name for name in os.environ if name.startswith("SIDECAR_")]:
        monkeypatch.delenv(name)
    got = CliRunner().invoke(cli, ["check", "--strict", "-c", str(file)])
    assert (got.exit_code, got.stderr) == (0, "")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_secrets_are_files_of_the_secret(layout: str) -> None:
    """Each key is named in the command that makes the Secret, and no value stands anywhere."""
    used = set(re.findall(rf"{MOUNT}/([\w-]+)", text(layout)))
    assert used == set(SECRETS)
    page = (MANIFESTS / layout / "configuration.yaml").read_text()
    assert set(re.findall(r"--from-file=([\w-]+)", page)) == used
    container, spec = sidecar_of(pod(layout)), pod(layout)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert mounts[MOUNT]["readOnly"]
    assert "subPath" not in mounts[MOUNT]
    secret = volumes[mounts[MOUNT]["name"]]["secret"]
    assert secret["secretName"] in page
    assert secret["defaultMode"] & 0o007 == 0
    assert spec["securityContext"]["fsGroup"] == container_user(layout)


def container_user(layout: str) -> int:
    container = sidecar_of(pod(layout))
    merged = {**pod(layout)["securityContext"], **container["securityContext"]}
    return int(merged["runAsUser"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_configuration_is_where_the_arguments_say(layout: str) -> None:
    container = sidecar_of(pod(layout))
    folder, _, name = container["args"][-1].rpartition("/")
    assert container["args"][:-1] == ["run", "-c"]
    assert name in only(layout, "ConfigMap")["data"]
    (mount,) = [one for one in container["volumeMounts"] if one["mountPath"] == folder]
    assert mount["readOnly"]
    assert "subPath" not in mount
    (volume,) = [one for one in pod(layout)["volumes"] if one["name"] == mount["name"]]
    assert volume["configMap"]["name"] == only(layout, "ConfigMap")["metadata"]["name"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_is_time_to_drain(layout: str) -> None:
    """The kubelet kills later than the sidecar ends, also behind what sleeps before."""
    spec = pod(layout)
    asleep = sum(
        container["lifecycle"]["preStop"]["sleep"]["seconds"]
        for container in spec["containers"]
        if "lifecycle" in container
    )
    drain = config(layout).drain
    assert drain.wait < drain.timeout
    assert spec["terminationGracePeriodSeconds"] >= asleep + drain.timeout + 5


def test_native_sidecar_begins_first_and_ends_last() -> None:
    """Kubernetes ends it behind the application, which serves on until nobody is sent any more."""
    spec = pod("native")
    (one,) = spec["initContainers"]
    assert one["restartPolicy"] == "Always"
    (app,) = spec["containers"]
    assert app["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5
    assert config("native").drain.wait == 0


def test_standalone_waits_by_itself() -> None:
    """A hook that sleeps besides would delay each end."""
    assert "lifecycle" not in sidecar_of(pod("standalone"))
    assert config("standalone").drain.wait >= 5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ports_match(layout: str) -> None:
    """Of configuration, container, Service and NetworkPolicy."""
    listen = config(layout).listeners[0].address
    container = sidecar_of(pod(layout))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": listen.port}
    (port,) = only(layout, "Service")["spec"]["ports"]
    assert port["targetPort"] == "http"
    policy = only(layout, "NetworkPolicy")["spec"]
    assert [one["port"] for rule in policy["ingress"] for one in rule["ports"]] == [listen.port]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_upstream_may_be_reached(layout: str) -> None:
    """The policy lets requests out to each port that the configuration names, and to Redis."""
    rules = only(layout, "NetworkPolicy")["spec"]["egress"]
    let_out = {port["port"] for rule in rules for port in rule["ports"]}
    urls = [urlsplit(upstream.url or "") for upstream in config(layout).upstreams.values()]
    needed = {url.port for url in urls if url.hostname != "127.0.0.1"}
    assert needed
    assert needed | {53, 6379} <= let_out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_probes_ask_the_admin_listener_where_it_is(layout: str) -> None:
    """Without reading the configuration: a broken file must not end a process that serves."""
    admin = config(layout).admin
    assert admin is not None
    assert admin.host == "127.0.0.1"  # no other pod reaches it
    container = sidecar_of(pod(layout))
    alive = ["sidecar", "health", "--admin", str(admin)]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == alive
    assert container["readinessProbe"]["exec"]["command"] == [*alive[:2], "--ready", *alive[2:]]


def test_metrics_open_the_admin_listener_to_prometheus_alone() -> None:
    """The component's patch, policy and monitor name one port of the sidecar's container."""
    (patch,) = documents(PATCH)
    target = only("standalone", "Deployment")
    assert patch["metadata"]["name"] == target["metadata"]["name"]
    container = sidecar_of(patch["spec"]["template"]["spec"])
    (setting,) = container["env"]
    (port,) = container["ports"]
    got = load(
        text("standalone"),
        source="standalone",
        environ={setting["name"]: setting["value"]},
        read_file=lambda path: SECRETS[path.rpartition("/")[2]],
    )
    assert got.admin is not None
    assert (got.admin.host, got.admin.port) == ("0.0.0.0", port["containerPort"])
    (rule,) = only("metrics", "NetworkPolicy")["spec"]["ingress"]
    assert [one["port"] for one in rule["ports"]] == [port["containerPort"]]
    assert rule["from"]
    (endpoint,) = only("metrics", "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]
    labels = target["spec"]["template"]["metadata"]["labels"]
    assert only("metrics", "PodMonitor")["spec"]["selector"]["matchLabels"] == labels
    # The kubelet asks inside the pod, where the address is part of 0.0.0.0.
    assert sidecar_of(pod("standalone"))["livenessProbe"]["exec"]["command"][-1].endswith(
        f":{port['containerPort']}"
    )


def selectors(node: Any) -> list[Node]:
    """Every `matchLabels` by which a layout's objects choose its own pods."""
    if isinstance(node, list):
        return [found for one in node for found in selectors(one)]
    if not isinstance(node, dict):
        return []
    own = [
        node[key]["matchLabels"]
        for key in ("selector", "labelSelector", "podSelector")
        if isinstance(node.get(key), dict) and "matchLabels" in node[key]
    ]
    return own + [found for value in node.values() for found in selectors(value)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_objects_choose_the_pods_of_the_deployment(layout: str) -> None:
    labels = only(layout, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert only(layout, "Service")["spec"]["selector"] == labels
    assert only(layout, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    for kind in ("Deployment", "PodDisruptionBudget"):
        found = selectors(only(layout, kind))
        assert found
        assert all(one == labels for one in found)


def test_autoscaler_and_budget_leave_some() -> None:
    """It scales this Deployment, which says no number of its own, and one may go at a time."""
    deployment, scaler = (
        only("standalone", "Deployment"),
        only("standalone", "HorizontalPodAutoscaler"),
    )
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]
    budget = only("standalone", "PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert scaler["spec"]["minReplicas"] > budget
    # The utilization is one of what is requested.
    assert "cpu" in sidecar_of(pod("standalone"))["resources"]["requests"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pods_are_locked_down(layout: str) -> None:
    """By the Pod Security Standard `restricted`, with a read-only root besides."""
    spec = pod(layout)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert "cpu" not in container["resources"]["limits"]


def test_user_is_the_image_s() -> None:
    dockerfile = (MANIFESTS.parents[1] / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (\d+):\d+$", dockerfile, re.MULTILINE)
    assert {container_user(layout) for layout in LAYOUTS} == {int(user)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_readiness_survives_an_upstream(layout: str) -> None:
    """An API that is down would take all replicas away, and their answers with them."""
    assert not any(upstream.ready for upstream in config(layout).upstreams.values())
