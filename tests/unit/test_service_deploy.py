"""The files in deploy/ speak of metrics and settings that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from omnilytics.chain.artefact import DEPLOYED
from omnilytics.foundation.errors import ConfigError, KeyMaterialError, UsageError
from omnilytics.foundation.settings import variable
from omnilytics.service.metrics import Metrics
from omnilytics.service.settings import SHUTDOWN_SECONDS, ServerSettings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = re.compile(r"\bomnilytics_[a-z_]+\b")
VARIABLE = re.compile(r"\bOMNILYTICS_[A-Z_]+__[A-Z_]+\b")


@pytest.fixture(scope="module")
def names() -> set[str]:
    return Metrics().names()


@pytest.mark.parametrize("file", ["prometheus-alerts.yml", "grafana-dashboard.json"])
def test_metrics_exist(file: str, names: set[str]) -> None:
    used = set(NAME.findall((DEPLOY / file).read_text()))
    assert len(used) > 5
    assert used <= names


def test_every_metric_is_on_the_dashboard_or_in_an_alert(names: set[str]) -> None:
    text = "".join(
        (DEPLOY / file).read_text() for file in ("prometheus-alerts.yml", "grafana-dashboard.json")
    )
    derived = {name for name in names if name.endswith(("_count", "_sum"))}
    assert {name for name in names - derived if name not in text} == set()


def test_the_dashboard_is_sound() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["description"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            assert target["expr"].count("{") == target["expr"].count("}")


def test_every_alert_says_what_to_do() -> None:
    text = (DEPLOY / "prometheus-alerts.yml").read_text()
    alerts = text.split("- alert: ")[1:]
    assert len(alerts) >= 10
    for alert in alerts:
        for part in ("expr:", "severity:", "summary:", "action:"):
            assert alert.count(part) == 1, alert


def test_variables_are_settings() -> None:
    known = {
        variable(f"{section}.{name}")
        for section in ServerSettings.model_fields
        for name in type(getattr(ServerSettings(), section)).model_fields
    }
    for file in ("omnilytics-server.service", "Containerfile"):
        used = set(VARIABLE.findall((DEPLOY / file).read_text()))
        assert len(used) >= 4
        assert used <= known


def test_the_service_waits_for_the_end() -> None:
    text = (DEPLOY / "omnilytics-server.service").read_text()
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert seconds is not None
    assert int(seconds[1]) > SHUTDOWN_SECONDS
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert f"\n{line}\n" in text


def test_the_service_never_gives_up_on_a_node() -> None:
    unit, service = (DEPLOY / "omnilytics-server.service").read_text().split("[Service]")
    assert "\nStartLimitIntervalSec=0\n" in unit
    never = re.search(r"^RestartPreventExitStatus=([\d ]+)$", service, re.MULTILINE)
    assert never is not None
    lasting = {UsageError, ConfigError, KeyMaterialError}
    assert set(map(int, never[1].split())) == {error.exit_code for error in lasting}


def test_the_container_can_write_the_cache_of_its_kernels() -> None:
    build, last = (DEPLOY / "Containerfile").read_text().split("\nFROM ")[1:]
    (made,) = re.findall(r"NUMBA_CACHE_DIR=(\S+)", build)
    (used,) = re.findall(r"NUMBA_CACHE_DIR=(\S+)", last)
    assert made == used
    assert f"\nCOPY --from=build --chown=10001:10001 {used} {used}\n" in last
    assert f'"{used}"' in re.findall(r"^VOLUME (.*)$", last, re.MULTILINE)[0]
    for contract in DEPLOYED:
        assert f"/artefacts/{contract}.json" in build


def test_the_container_has_no_root() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    stages = text.split("\nFROM ")
    assert len(stages) == 3
    assert "\nUSER 10001:10001\n" in stages[-1]
    assert "pip install" not in stages[-1]
