"""The container image and the Compose files, as far as they can be read without an engine."""

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from killrvideo_grpc.config.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("file", ["compose.yaml", "compose-cassandra.yaml"])
def test_compose_waits_until_the_service_has_drained(file: str) -> None:
    service = yaml.safe_load((DEPLOY / file).read_text())["services"]["service"]
    drain = re.search(r"DRAIN_SECONDS=(\d+)", DOCKERFILE)
    assert drain
    assert int(service["stop_grace_period"].removesuffix("s")) > int(drain[1]) + Settings().grace_period_seconds


def test_the_image_has_the_command_in_its_path_and_traces() -> None:
    assert "ENV PATH=/app/bin:$PATH" in DOCKERFILE
    (lock,) = re.findall(r"/app/bin/pip install .*-r (\S+)", DOCKERFILE)
    assert "opentelemetry-sdk==" in (DEPLOY.parent / lock).read_text()
