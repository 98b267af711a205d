"""The output of `killrvideo-grpc edge config`. `make check` has Envoy validate it, and tests/rest run it."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner
from google.protobuf import descriptor_pb2

from killrvideo_grpc.cli.edge import edge
from killrvideo_grpc.edge.contract import SERVICE

ROOT = Path(__file__).parents[2]


def config(*options: str) -> dict[str, Any]:
    printed = CliRunner().invoke(edge, ["config", *options])
    assert printed.exit_code == 0, printed.output
    assert str(ROOT) not in printed.output  # works on other machines
    parsed: dict[str, Any] = yaml.load(printed.output, yaml.CSafeLoader)  # the Python one takes a second
    return parsed


def manager(parsed: dict[str, Any]) -> dict[str, Any]:
    (chain,) = parsed["static_resources"]["listeners"][0]["filter_chains"]
    found: dict[str, Any] = chain["filters"][0]["typed_config"]
    return found


def test_workers_are_on_ports_in_a_row() -> None:
    cluster = config("--service-host", "users", "--service-port", "6000", "--workers", "3")["static_resources"][
        "clusters"
    ][0]
    places = [
        endpoint["endpoint"]["address"]["socket_address"]
        for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    assert places == [{"address": "users", "port_value": port} for port in (6000, 6001, 6002)]


@pytest.mark.parametrize("options", [("--service-port", "65535", "--workers", "2"), ("--host", "")])
def test_impossible_addresses_are_refused(options: tuple[str, ...]) -> None:
    assert CliRunner().invoke(edge, ["config", *options]).exit_code == 2


def test_cors_and_admin_are_off_unless_configured() -> None:
    parsed = config()
    assert parsed["admin"] is None
    hosts = manager(parsed)["route_config"]["virtual_hosts"]
    cors = hosts[0]["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert cors["allow_origin_string_match"] == []
    parsed = config("--origin", r"https://a\.example", "--admin", "/run/admin.sock")
    assert parsed["admin"]["address"]["pipe"] == {"path": "/run/admin.sock", "mode": 0o600}
    cors = manager(parsed)["route_config"]["virtual_hosts"][0]["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert cors["allow_origin_string_match"] == [{"safe_regex": {"regex": r"https://a\.example"}}]


def test_a_project_name_cannot_break_the_configuration() -> None:
    name = 'A "name": ${lua} %PATH% ]]\n- x'
    bodies = [
        route["metadata"]["filter_metadata"]["envoy.filters.http.lua"].get("body", "")
        for route in manager(config("--project-name", name))["route_config"]["virtual_hosts"][0]["routes"]
    ]
    assert any(yaml.safe_load(body) == {"message": f"Welcome to {name}!"} for body in bodies if body)


def test_the_transcoder_gets_the_service_and_all_that_its_messages_need() -> None:
    filters = {item["name"]: item["typed_config"] for item in manager(config())["http_filters"]}
    transcoder = filters["envoy.filters.http.grpc_json_transcoder"]
    assert transcoder["services"] == [SERVICE]
    files = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(transcoder["proto_descriptor_bin"])).file
    names = {file.name for file in files}
    assert {dependency for file in files for dependency in file.dependency} <= names
    assert "killrvideo/user/v1/user_service.proto" in names
    assert not [name for name in names if name.startswith("buf/")]
