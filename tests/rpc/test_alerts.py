"""The alert rules and the dashboard only use metrics, labels and reasons that the service has."""

import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml  # type: ignore[import-untyped]
from killrvideo.user.v1 import user_service_pb2 as pb
from killrvideo.user.v1.error_reason_pb2 import ErrorReason

from tests.rpc.conftest import Account
from tests.rpc.test_metrics import on_data_api, scrape
from tests.support import fake_data_api
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
OPERATIONS = (ROOT / "docs/operations.md").read_text()
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
BY_PROMETHEUS = {"job", "instance"}


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The labels of each metric that a service on a Data API exports after some calls."""
    folder = tmp_path_factory.mktemp("alerts")
    with on_data_api(folder) as (settings, stub, fake):
        account = Account(stub, folder)
        stub.GetMe(pb.GetMeRequest(), metadata=account.metadata)
        fake.fail(fake_data_api.Hang())
        with pytest.raises(grpc.RpcError):
            stub.GetMe(pb.GetMeRequest(), metadata=account.metadata)
        # The service counts a refusal after its answer.
        eventually(lambda: "killrvideo_refusals_total{" in scrape(settings).text)
        seen = scrape(settings)
    described = re.findall(r"^# TYPE (\S+) \w+", seen.text, re.MULTILINE)
    return {name: set() for name in described} | {sample.name: set(sample.labels) for sample in seen.samples}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_only_use_existing_metrics_labels_and_reasons(
    metrics: dict[str, set[str]], expression: str
) -> None:
    names = re.findall(r"\b(?:killrvideo|process)_\w+", expression)
    assert names or expression.startswith("up{")
    labels = set().union(*(metrics[name] for name in names)) | BY_PROMETHEUS  # raises KeyError for an unknown metric
    grouped = [label for group in re.findall(r"by \((.*?)\)", expression) for label in group.split(", ")]
    assert {*re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression), *grouped} <= labels
    for reasons in re.findall(r'reason=~?"([^"]*)"', expression):
        known = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name}
        assert set(reasons.split("|")) <= known | {"TOO_MANY_ATTEMPTS"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_is_documented(rule: dict[str, Any]) -> None:
    assert f"| `{rule['alert']}` |" in OPERATIONS
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_documentation_names_every_metric(metrics: dict[str, set[str]]) -> None:
    for name in metrics:
        base = re.sub(r"_(total|bucket|count|sum|created)$", "", name)
        if base.startswith("killrvideo_"):
            assert f"`{base}" in OPERATIONS, base
