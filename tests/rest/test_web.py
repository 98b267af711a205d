"""`make web` as a command: its settings, its output, and how it stops."""

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx

from tests.rest.conftest import ROOT, USERS, Edge, command_of, registration, web
from tests.support.accounts import an_address
from tests.support.eventually import eventually
from tests.support.metrics import Scraped
from tests.support.ports import free_port
from tests.support.process import COMMAND, children, environment, run, wait_for_end


@contextmanager
def web_process(folder: Path, **changes: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [COMMAND, "edge", "web"],
        cwd=ROOT,
        env=environment(folder, DRAIN_SECONDS="0", **changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def refused(folder: Path, **changes: str) -> str:
    """Return the error that it prints if it does not start."""
    done = run(folder, "edge", "web", **changes)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_is_an_error(edge: Edge, tmp_path: Path) -> None:
    port = httpx.URL(edge.url).port
    assert "Address already in use" in refused(tmp_path, HTTP_PORT=str(port))


def test_wrong_settings_are_named_together(tmp_path: Path) -> None:
    said = refused(tmp_path, HTTP_PORT="65536", GRPC_PORT="x")
    assert "HTTP_PORT" in said
    assert "GRPC_PORT" in said


def test_an_unknown_host_is_an_error(tmp_path: Path) -> None:
    assert "HTTP_HOST" in refused(tmp_path, HTTP_HOST="no-such-host.invalid", HTTP_PORT="0")


def test_hosts_may_be_names_the_page_may_be_off_and_calls_that_envoy_refuses_are_in_the_log(tmp_path: Path) -> None:
    hosts = {"HTTP_HOST": "localhost", "GRPC_HOST": "localhost"}
    with web(tmp_path, PROJECT_NAME="Acme on 1, Inc", HTTP_DOCS="false", **hosts) as edge:
        assert httpx.get(f"{edge.url}{USERS}/me").status_code == 401
        assert "/docs" not in edge.banner
        for path in ("/docs", "/docs/docs_page.js", "/docs/swagger-ui.css"):
            assert httpx.get(f"{edge.url}{path}").status_code == 404
        answer = httpx.put(f"{edge.url}{USERS}/me?token=planted", headers={"x-request-id": "planted-id"})
        assert answer.status_code == 400
    lines = [json.loads(line) for line in edge.log.read_text().splitlines() if '"event":"edge"' in line]
    found = {(line["request_id"], line["method"], line["path"], line["status"]) for line in lines}
    assert ("planted-id", "PUT", f"{USERS}/me", 400) in found
    assert "planted" not in edge.log.read_text().replace("planted-id", "")


def test_it_can_be_stopped_while_the_store_is_down(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    store = {"STORE": "astra", "ASTRA_DB_API_ENDPOINT": nowhere, "ASTRA_DB_APPLICATION_TOKEN": "x"}
    with web_process(tmp_path, HTTP_PORT=str(free_port()), WORKERS="2", **store) as process:
        assert process.stderr
        assert "waiting for the store" in "".join(islice(process.stderr, 2))
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors


def test_it_shows_where_the_metrics_are_and_answers_calls_under_way_before_it_stops(tmp_path: Path) -> None:
    port = free_port()
    settings = {"BCRYPT_ROUNDS": "10", "METRICS_PORT": str(port)}
    with web(tmp_path, drain_seconds="1", **settings) as edge, ThreadPoolExecutor() as pool:
        assert f"\n  metrics http://127.0.0.1:{port}/metrics\n" in edge.banner
        call = pool.submit(httpx.post, f"{edge.url}{USERS}/register", json=registration(an_address()), timeout=30)
        eventually(lambda: call.done() or Scraped(port).value("calls_in_flight", method="Register"))
        edge.process.send_signal(signal.SIGTERM)
        assert call.result().status_code == 201


def test_the_service_stops_when_envoy_dies(tmp_path: Path) -> None:
    with web_process(tmp_path, HTTP_PORT=str(free_port())) as process:
        assert process.stdout
        assert "REST" in process.stdout.readline()
        (envoy,) = [child for child in children(process.pid) if "envoy" in command_of(child)]
        others = [child for child in children(process.pid) if child != envoy]
        subprocess.run(["kill", "-9", str(envoy)], check=True)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "The service or Envoy exited" in errors
    for other in others:
        wait_for_end(other)
