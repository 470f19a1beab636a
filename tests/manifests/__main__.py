"""Holds deployment files to the tools of their own world: `python -m tests.manifests`.

kustomize builds the layouts of config/kubernetes, kubeconform checks what comes out, and actionlint
reads the workflows. The first run builds them into the user's cache, which takes Go and a minute or
two. `--renew` makes the schemas of this folder anew instead.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.manifests.renewal import KUBERNETES, renew
from tests.manifests.schemas import KINDS, MANIFESTS, ROOT, kept

TOOLS: Final = {
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1",
    "actionlint": "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12",
}
_WITH_METRICS: Final = """\
resources: [../standalone]
components: [../metrics]
"""


def main() -> int:
    """The exit code: 0 fine, 1 a tool complains, 2 one cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.manifests", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="make the schemas anew")
    if parser.parse_args().renew:
        renew()
        return 0
    try:
        tools = {name: built(name) for name in TOOLS}
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        checks = (manifests_hold(tools, Path(folder)), workflows_hold(tools["actionlint"]))
    return 0 if all(checks) else 1


def built(name: str) -> Path:
    """The program, built unless it is there. Raises `RuntimeError`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    module = TOOLS[name]
    file = cache / "session-sidecar" / f"{name}-{module.rpartition('@')[2]}" / name
    if file.exists():
        return file
    go = shutil.which("go")
    if go is None:
        raise RuntimeError(f"go is not installed: it builds {name} from the module proxy")
    environ = {**os.environ, "GOBIN": str(file.parent)}
    done = subprocess.run(
        [go, "install", module], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"go install {module} failed: {done.stderr[-500:]}")
    return file


def manifests_hold(tools: dict[str, Path], folder: Path) -> bool:
    """Whether each layout builds, and is valid once it is built."""
    shutil.copytree(MANIFESTS, folder / "kubernetes")
    together = folder / "kubernetes" / "with-metrics"
    together.mkdir()
    (together / "kustomization.yaml").write_text(_WITH_METRICS)
    schemas = folder / "schemas"
    schemas.mkdir()
    for (api, kind), name in KINDS.items():
        group, _, version = api.rpartition("/")
        schema = {"$ref": f"#/$defs/{name}", "$defs": kept("kubernetes.json")["$defs"]}
        file = f"{kind}-{group.partition('.')[0]}-{version}.json".lower().replace("--", "-")
        (schemas / file).write_text(json.dumps(schema))
    fine = True
    for layout in ("standalone", "native", "with-metrics"):
        print(f"kustomize build {layout}", flush=True)
        made = subprocess.run(
            [tools["kustomize"], "build", folder / "kubernetes" / layout],
            capture_output=True,
            check=False,
        )
        print(made.stderr.decode(), end="", flush=True)
        place = f"{schemas}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
        strict = ["-strict", "-summary", "-verbose", "-kubernetes-version", KUBERNETES]
        command = [str(tools["kubeconform"]), *strict, "-schema-location", place, "-"]
        read = subprocess.run(command, input=made.stdout, check=False)
        fine = fine and made.returncode == 0 and read.returncode == 0
    return fine


def workflows_hold(actionlint: Path) -> bool:
    """Whether actionlint finds nothing in .github/workflows."""
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    print(f"actionlint {' '.join(file.name for file in files)}", flush=True)
    return subprocess.run([actionlint, *files], cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
