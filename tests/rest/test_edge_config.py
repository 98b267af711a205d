"""The output of `killrvideo-grpc edge config`. `make check` has Envoy validate it, and tests/rest run it."""

import base64
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner
from google.protobuf import descriptor_pb2

from killrvideo_grpc.cli.edge import edge
from killrvideo_grpc.edge.contract import SERVICE
from killrvideo_grpc.edge.docs_page import MAX_FILE_BYTES
from killrvideo_grpc.edge.origins import is_origin_pattern
from killrvideo_grpc.edge.render import Edge, render
from killrvideo_grpc.server.dev_server import DEVELOPMENT_ORIGINS
from tests.support.process import BIN

ROOT = Path(__file__).parents[2]


def printed(*options: str) -> str:
    done = CliRunner().invoke(edge, ["config", *options])
    assert done.exit_code == 0, done.output
    assert str(ROOT) not in done.output  # works on other machines
    return done.output


@cache
def config(*options: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.load(printed(*options), yaml.CSafeLoader)  # the Python one takes a second
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


IMPOSSIBLE: list[tuple[str, ...]] = [("--service-port", "65535", "--workers", "2")]
IMPOSSIBLE += [("--host", host) for host in ("", "localhost", "[::1]", "127.1", "127.0.0.1:80")]
IMPOSSIBLE += [("--service-host", host) for host in ("", "http://users", "users:50051", "[::1]", "a b", "users/")]
IMPOSSIBLE += [("--admin", path) for path in ("/run/" + "a" * 103, "@admin")]


WRONG_URLS = [
    "",
    "siblings:8000",
    "https://siblings:8000",
    "http://siblings",
    "http://siblings:0",
    "http://siblings:65536",
]
WRONG_URLS += [
    "http://siblings:8000/api",
    "http://siblings:8000?x",
    "http://ann@siblings:8000",
    "http://:8000",
    "http://a b:1",
]
WRONG_URLS += [
    "http://[siblings]:8000",
    "http://::1:8000",
    "http://[::1]",
    " http://siblings:8000",
    "http://siblings:8000\n",
]
WRONG_URLS += [
    "http://bücher.example:80",
    "http://siblings:8000//",
    "HTTP://siblings:8000",
    "http://-a:80",
    "http://[1.2]:80",
]
OWN_URLS = [
    *("http://127.0.0.1:8080", "http://localhost:8080/", "http://[::1]:8080", "http://LOCALHOST:8080"),
    *("http://0.0.0.0:8080", "http://127.0.0.2:8080", "http://localhost.:8080", "http://[::ffff:127.0.0.1]:8080"),
]
IMPOSSIBLE += [("--siblings", url) for url in WRONG_URLS + OWN_URLS]


@pytest.mark.parametrize("options", IMPOSSIBLE)
def test_impossible_addresses_are_refused(options: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(edge, ["config", *options])
    assert refused.exit_code == 2
    assert options[0] in refused.output or "last worker's port" in refused.output


@pytest.mark.parametrize(
    "options", [("--host", "::1"), ("--service-host", "::1"), ("--service-host", "a_b.example."), ("--admin", "x.sock")]
)
def test_possible_addresses_are_not_refused(options: tuple[str, ...]) -> None:
    assert options[1] in printed(*options)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://siblings:8000", "siblings", 8000),
        ("http://127.0.0.1:1/", "127.0.0.1", 1),
        ("http://[::1]:65535", "::1", 65535),
    ],
)
def test_siblings_are_where_their_url_says(url: str, host: str, port: int) -> None:
    clusters = config("--siblings", url)["static_resources"]["clusters"]
    (cluster,) = [cluster for cluster in clusters if cluster["name"] == "siblings"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": host, "port_value": port}


def test_siblings_are_off_unless_configured() -> None:
    text = printed()
    assert not [name for name in ("siblings", "ext_authz", "x-user-id", "PATCH") if name in text]


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


def page(*options: str) -> dict[str, str | None]:
    """Return the paths of the page, and the files that Envoy reads for them."""
    (host,) = manager(config(*options))["route_config"]["virtual_hosts"]
    bodies = {route["match"].get("path"): route.get("direct_response", {}).get("body") for route in host["routes"]}
    return {path: body.get("filename") for path, body in bodies.items() if body}


def test_the_page_is_off_unless_configured() -> None:
    assert page() == {}
    assert page("--docs", "/swagger", "--port", "81") == {
        "/docs": None,
        "/docs/docs_page.js": None,
        "/docs/swagger-ui.css": "/swagger/swagger-ui.css",
        "/docs/swagger-ui-bundle.js": "/swagger/swagger-ui-bundle.js",
    }


def test_the_page_has_the_files_of_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = CliRunner().invoke(edge, ["config", "--docs"])
    files = re.findall(r'"filename": "(.*?)"', printed.output)
    assert len(files) == 2
    assert all(Path(file).stat().st_size <= MAX_FILE_BYTES for file in files)
    monkeypatch.setitem(sys.modules, "drf_spectacular_sidecar", None)  # as if it were not installed
    refused = CliRunner().invoke(edge, ["config", "--docs"])
    assert refused.exit_code == 2
    assert "drf-spectacular-sidecar" in refused.output


ORIGINS = {
    r"https://killrvideo\.example": "https://killrvideo.example",
    r"^https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?$": "http://[::1]:5173",
    r"https://[a-z0-9-]+\.killrvideo\.example": "https://a-1.killrvideo.example",
    r"(http|https)://([a-z]+\.)*killrvideo\.example": "https://a.b.killrvideo.example",
    r"https://.*\.example:\d{2,5}": "https://x.example:8443",
    r"https://[^.]*?\.example": "https://x.example",
    r"https://a\.example|https://b\.example": "https://b.example",
    r"(?:https://a\.example|https://b\.example)": "https://b.example",
    "capacitor://localhost": "capacitor://localhost",
    "https://killrvideo.example": "https://killrvideo.example",
    DEVELOPMENT_ORIGINS[0]: "http://localhost",
    rf"https://({'|'.join(f'site-{number}' for number in range(25))})": "https://site-24",
    "https://" + "[^.][^a-z]" * 7 + "([^a]{20}){5}": "https://" + "-" * 114,
}
NO_ORIGINS = [
    "*",
    ".*",
    "",
    "null",
    "killrvideo.example",
    r"killrvideo\.example",
    "localhost:3000",
    "//killrvideo.example",
]
NO_ORIGINS += [
    "https://*.killrvideo.example",
    "https://*",
    "http://localhost:*",
    "https*://a.example",
    r"https://\*.example",
]
NO_ORIGINS += [
    "https://killrvideo.example/",
    "https://killrvideo.example/app",
    "https://.*/",
    "https://",
    "https://Ann.example",
]
NO_ORIGINS += [
    "HTTPS://a.example",
    "https://a.example, https://b.example",
    "https://bücher.example",
    "https://a.example|b.example",
]
NO_ORIGINS += [
    "https://a.example\n",
    " https://a.example",
    "https://a.example#",
    "https://a.example?x=1",
    "https://ann@a.example",
]
# Python compiles these, RE2 does not.
NO_ORIGINS += [
    r"https://(?!evil)a\.example",
    r"https://(a)\1\.example",
    "https://.*+",
    "https://[a]++",
    r"https://(?>a)\.example",
]
NO_ORIGINS += [
    r"https://(?P<x>a)(?P=x)",
    r"https://a\.example\Z",
    "https://([a]{999}){9}",
    "https://[a]{2000}",
    "https://(?#x)a",
]
NO_ORIGINS += [
    "https://(a",
    "https://a)",
    "https://[a",
    "https://[z-a]",
    "https://a{3,2}",
    "https://[[:alpha:]]",
    "https://(*)",
]


@pytest.mark.parametrize(("pattern", "origin"), ORIGINS.items())
def test_origins_are_regular_expressions(pattern: str, origin: str) -> None:
    assert is_origin_pattern(pattern)
    assert re.fullmatch(pattern, origin)


@pytest.mark.parametrize("pattern", NO_ORIGINS)
def test_patterns_that_envoy_refuses_or_that_match_no_origin_are_refused(pattern: str) -> None:
    refused = CliRunner().invoke(edge, ["config", "--origin", r"https://a\.example", "--origin", pattern])
    assert refused.exit_code == 2
    assert "--origin" in refused.output
    assert r"https://killrvideo\.example" in refused.output


def test_envoy_takes_all_origins_that_the_check_takes(tmp_path: Path) -> None:
    parts = [
        *"az09:_-.|()[]^$*+?",
        "(?:",
        "://",
        "http",
        r"\d",
        r"\w",
        r"\.",
        r"\[",
        "{2}",
        "{1,}",
        "{0,99}",
        "[a-z]",
        "[^.]",
    ]
    draw = Random(1)
    patterns = ["http://a" + "".join(draw.choices(parts, k=draw.randint(1, 8))) for _ in range(6_000)]
    taken = [pattern for pattern in patterns if is_origin_pattern(pattern)]
    assert len(taken) > 100
    file = tmp_path / "envoy.yaml"
    file.write_text(render(Edge(port=8080, workers=[("127.0.0.1", 50051)], origins=[*ORIGINS, *taken])))
    command = [str(BIN / "envoy"), "--mode", "validate", "--log-level", "error", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


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
