"""Standard error of `make web`, on which Envoy and the service both write."""

import fcntl
import json
import os
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.rest.conftest import ROOT, USERS
from tests.support.ports import free_port
from tests.support.process import COMMAND, environment

CALLS, REQUEST_ID = 200, "x" * 64


def test_each_line_is_whole(tmp_path: Path) -> None:
    """Also when standard error is a pipe that is always full: writes to it end in the middle of lines."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    settings = environment(tmp_path, HTTP_PORT=str(free_port()), DRAIN_SECONDS="0", LOG_FORMAT="json")
    with (
        subprocess.Popen(
            [COMMAND, "edge", "web"], cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=writer, text=True
        ) as process,
        ThreadPoolExecutor(9) as pool,
        os.fdopen(reader, encoding="utf-8") as stream,
    ):
        os.close(writer)
        lines = pool.submit(list, stream)
        assert process.stdout
        url = next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
        with httpx.Client(verify=False, base_url=url, timeout=60) as client:
            calls = [
                pool.submit(client.get, f"{USERS}/me{'?x' * (number % 2)}", headers={"x-request-id": REQUEST_ID})
                for number in range(CALLS)
            ]
            assert {call.result().status_code for call in calls} == {400, 401}
        process.terminate()
        assert process.wait(60) == 0
        events = [json.loads(line) for line in lines.result()]
    ours = [event["event"] for event in events if event.get("request_id") == REQUEST_ID]
    assert Counter(ours) == {"edge": CALLS, "call": CALLS // 2}
    assert "envoy" in {event["event"] for event in events}
