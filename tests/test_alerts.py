"""The alert rules: each fires when it should and not before, and names metrics that exist."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from sidecar.core.families import FAMILIES

ROOT: Final = Path(__file__).parents[1]
RULES: Final = ROOT / "config" / "prometheus" / "alerts.yml"
ALERTS: Final[list[dict[str, Any]]] = YAML(typ="safe").load(RULES.read_text())["groups"][0]["rules"]
NAMES: Final = [one["alert"] for one in ALERTS]

DAY: Final = 86400
AT: Final = 30  # minutes after which the alerts are looked at
IT: Final = 'instance="a:9090",job="sidecar"'
OK: Final = f'sidecar_sessions_opened_total{{{IT},source="app",result="ok"}}'
INVALID: Final = f'sidecar_sessions_opened_total{{{IT},source="app",result="invalid"}}'
RENEWED: Final = f'sidecar_refreshes_total{{{IT},outcome="renewed"}}'
UNAVAILABLE: Final = f'sidecar_refreshes_total{{{IT},outcome="unavailable"}}'
REFUSED: Final = f'sidecar_refreshes_total{{{IT},outcome="refused"}}'
ERRORS: Final = f'sidecar_upstream_errors_total{{{IT},upstream="api",cause="refused"}}'
UPSTREAM: Final = f'sidecar_upstream_duration_seconds%s{{{IT},upstream="api"%s}}'
STORE: Final = f'sidecar_store_duration_seconds%s{{{IT},operation="get"%s}}'
RESPONSES: Final = f'sidecar_responses_total{{{IT},code="%s"}}'

# Values of each minute, as promtool writes them: `0+3x32` grows by 3 thirty-two times.
HEALTHY: Final[Mapping[str, str]] = {
    f'sidecar_build_info{{{IT},version="0.1.0"}}': "1x32",
    f'sidecar_config_info{{{IT},hash="aaaa"}}': "1x32",
    f"sidecar_ready{{{IT}}}": "1x32",
    f"sidecar_store_up{{{IT}}}": "1x32",
    f'sidecar_store_pending{{{IT},kind="revocation"}}': "0x32",
    f"sidecar_store_losses_total{{{IT}}}": "0x32",
    f"sidecar_store_unopened_total{{{IT}}}": "0x32",
    f"sidecar_store_bytes{{{IT}}}": "100x32",
    f"sidecar_store_bytes_limit{{{IT}}}": "1000x32",
    f"sidecar_store_may_evict{{{IT}}}": "0x32",
    f"sidecar_config_last_reload_successful{{{IT}}}": "1x32",
    f"sidecar_log_lines_lost_total{{{IT}}}": "0x32",
    f"sidecar_workers_replaced_total{{{IT}}}": "0x32",
    f'sidecar_provider_up{{{IT},document="keys"}}': "1x32",
    f'sidecar_brake_engaged{{{IT},route="/api"}}': "0x32",
    f'sidecar_upstream_ejected{{{IT},upstream="api",address="http://b:80"}}': "0x32",
    f'sidecar_upstream_unreachable{{{IT},upstream="api"}}': "0x32",
    f'sidecar_limited_connections_total{{{IT},outcome="refused"}}': "0x32",
    f'sidecar_requests_in_flight{{{IT},kind="api"}}': "10x32",
    f'sidecar_requests_in_flight_limit{{{IT},kind="api"}}': "1000x32",
    f'sidecar_logins_total{{{IT},outcome="done"}}': "0+5x32",
    f'sidecar_logins_total{{{IT},outcome="loop"}}': "0x32",
    f'sidecar_tls_certificate_expiry_timestamp_seconds{{{IT},use="own"}}': f"{90 * DAY}x32",
    f"process_open_fds{{{IT}}}": "100x32",
    f"process_max_fds{{{IT}}}": "1000x32",
    f"process_start_time_seconds{{{IT}}}": "1000x32",
    'process_open_fds{instance="other",job="other"}': "990x32",
    'process_max_fds{instance="other",job="other"}': "1000x32",
    RESPONSES % "overloaded": "0x32",
    RESPONSES % "internal_error": "0x32",
    RENEWED: "0+100x32",
    UNAVAILABLE: "0+1x32",
    REFUSED: "0+1x32",
    OK: "0+10x32",
    INVALID: "0+1x32",
    ERRORS: "0+1x32",
    f'sidecar_upstream_wait_seconds_count{{{IT},upstream="api"}}': "0+10x32",
    UPSTREAM % ("_count", ""): "0+1000x32",
    UPSTREAM % ("_bucket", ',le="5.0"'): "0+1000x32",
    UPSTREAM % ("_bucket", ',le="10.0"'): "0+1000x32",
    UPSTREAM % ("_bucket", ',le="+Inf"'): "0+1000x32",
    STORE % ("_bucket", ',le="0.25"'): "0+100x32",
    STORE % ("_bucket", ',le="0.5"'): "0+100x32",
    STORE % ("_bucket", ',le="+Inf"'): "0+100x32",
}


def healthy_but(name: str, values: str) -> dict[str, str]:
    """One series differs, whose name and labels begin so."""
    (series,) = (one for one in HEALTHY if one.startswith(name))
    return {series: values}


TROUBLE: Final[Mapping[str, Mapping[str, str]]] = {
    "SidecarNotReady": healthy_but("sidecar_ready", "0x32"),
    "SidecarUpstreamErrors": {ERRORS: "0+100x32"},
    "SidecarUpstreamUnreachable": healthy_but("sidecar_upstream_unreachable", "1x32"),
    "SidecarUpstreamSlow": {UPSTREAM % ("_bucket", ',le="5.0"'): "0+900x32"},
    "SidecarUpstreamEjected": healthy_but("sidecar_upstream_ejected", "1x32"),
    "SidecarOverloaded": {RESPONSES % "overloaded": "0+1x32"},
    "SidecarBudgetNearlyUsed": healthy_but("sidecar_requests_in_flight{", "900x32"),
    "SidecarConnectionsRefused": healthy_but("sidecar_limited_connections_total", "0+1x32"),
    "SidecarFileDescriptors": {f"process_open_fds{{{IT}}}": "900x32"},
    "SidecarRefreshFailures": {UNAVAILABLE: "0+50x32"},
    "SidecarRefreshRefused": {REFUSED: "0+200x32"},
    "SidecarLoginFailures": {f'sidecar_logins_total{{{IT},outcome="loop"}}': "0+1x32"},
    "SidecarProviderUnreachable": healthy_but("sidecar_provider_up", "0x32"),
    "SidecarStoreDown": healthy_but("sidecar_store_up", "0x32"),
    "SidecarStoreSlow": {STORE % ("_bucket", ',le="0.25"'): "0+50x32"},
    "SidecarStorePending": healthy_but("sidecar_store_pending", "3x32"),
    "SidecarStoreLost": healthy_but("sidecar_store_losses_total", "0x25 1x6"),
    "SidecarStoreOtherSecret": healthy_but("sidecar_store_unopened_total", "0x25 1x6"),
    "SidecarStoreFull": healthy_but("sidecar_store_bytes{", "950x32"),
    "SidecarStoreMayEvict": healthy_but("sidecar_store_may_evict", "1x32"),
    "SidecarSessionsUnreadable": {OK: "0x32"},
    "SidecarBrakeEngaged": healthy_but("sidecar_brake_engaged", "0x25 1x6"),
    "SidecarReloadFailed": healthy_but("sidecar_config_last_reload_successful", "0x32"),
    "SidecarConfigurationsDiffer": {
        'sidecar_config_info{instance="b:9090",job="sidecar",hash="bbbb"}': "1x32"
    },
    "SidecarCertificateExpires": healthy_but("sidecar_tls", f"{10 * DAY}x32"),
    "SidecarLogLinesLost": healthy_but("sidecar_log_lines_lost_total", "0x25 9x6"),
    "SidecarDefect": {RESPONSES % "internal_error": "0x25 1x6"},
    "SidecarWorkersReplaced": healthy_but("sidecar_workers_replaced_total", "0x20 1 2 3 4 5x6"),
    "SidecarRestarts": {f"process_start_time_seconds{{{IT}}}": "1000x20 2000 3000 4000 5000x6"},
}
"""What makes each alert fire, and no other."""


def case_of(name: str, series: Mapping[str, str], firing: list[str]) -> dict[str, Any]:
    """A test for promtool: these alerts fire, and no others."""
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    told = [{"labels": f'{{alertname="{one}"}}', "value": 1} for one in sorted(firing)]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": f"{AT}m", "exp_samples": told}],
    }


def without(names: str) -> dict[str, str]:
    return {one: values for one, values in HEALTHY.items() if not one.startswith(names)}


@pytest.fixture(scope="module")
def promtool(require_program: Callable[[str], str]) -> str:
    return require_program("promtool")


def run(promtool: str, *arguments: str) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_rules(promtool: str) -> None:
    run(promtool, "check", "rules", str(RULES))


def test_each_alert_fires_alone_when_it_should(promtool: str, tmp_path: Path) -> None:
    """And none while all is well, also beside other programs that have little left."""
    ended = healthy_but("sidecar_tls", "100x32")
    tests = [
        case_of("healthy", HEALTHY, []),
        case_of("SidecarAbsent", without("sidecar_build_info"), ["SidecarAbsent"]),
        case_of(
            "SidecarCertificateExpired",
            {**HEALTHY, **ended},
            ["SidecarCertificateExpired", "SidecarCertificateExpires"],
        ),
        *(case_of(name, {**HEALTHY, **more}, [name]) for name, more in TROUBLE.items()),
    ]
    assert {one["name"] for one in tests} == {"healthy", *NAMES}
    file = tmp_path / "tests.yml"
    with file.open("w") as out:
        YAML(typ="safe").dump(
            {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}, out
        )
    run(promtool, "test", "rules", str(file))


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_each_alert_says_what_to_do(alert: Mapping[str, Any]) -> None:
    """A summary, a remedy, and a section of docs/alerts.md."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    told = alert["annotations"]
    assert len(told["summary"]) > 15
    assert len(told["description"]) > 60
    file, _, section = told["runbook_url"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert alert["alert"] in headings
    assert section == alert["alert"].lower()


def test_the_page_has_a_section_for_each_alert_in_their_order() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == NAMES


def test_the_rules_name_metrics_and_labels_that_exist() -> None:
    for alert in ALERTS:
        expression = alert["expr"]
        named = re.findall(r"\b(?:sidecar|process)_\w+", expression)
        assert named
        families = [FAMILIES[re.sub(r"_(?:total|bucket|count|sum)$", "", one)] for one in named]
        labels = {"instance", "job", "le"}.union(*(one.labels for one in families))
        by = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        matched = re.findall(r"[{,](\w+)=", expression)
        assert {*matched, *re.findall(r"\w+", " ".join(by))} <= labels, alert["alert"]
        shown = re.findall(r"\$labels\.(\w+)", str(alert["annotations"]))
        assert set(shown) <= labels
