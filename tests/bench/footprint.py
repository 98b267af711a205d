"""How long a worker takes to start, and how much memory it needs."""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.bench.accounts import register
from tests.bench.caller import GET_ME
from tests.bench.load import calls_of_get_me, drive
from tests.bench.processes import resident_megabytes, running, service
from tests.bench.report import Figure, Result, ratio
from tests.bench.rounds import Options, Round
from tests.support.process import children

SERVICE = GET_ME.split("/")[1]
CHECK_SECONDS = 0.005
# What the service imports before it serves, without what these import.
LIBRARIES = "click, grpc.aio, grpc_health.v1, grpc_reflection.v1alpha, jwt, protovalidate, pydantic_settings, structlog"
START, IMPORT = "start", "import of its libraries"


def measure_footprint(options: Options) -> Result:
    """Resident memory of a worker that has just started, and the time from its start until health says SERVING.

    A process that only imports the libraries shows how much of that time is theirs.
    """
    rounds = [_start(options.seconds) for _ in range(options.rounds)]
    return Result(
        [
            Figure("memory of a worker", statistics.median(found["MB"] for found in rounds), at_most=105, unit=" MB"),
            Figure("start to SERVING", statistics.median(found[START] for found in rounds), at_most=0.6, unit=" s"),
            ratio(f"start ÷ {IMPORT}", rounds, START, IMPORT),
            *(
                Figure(f"memory {what}", statistics.median(found[f"MB {what}"] for found in rounds), unit=" MB")
                for what in ("after calls", "of a hashing process")
            ),
        ],
        rounds,
        unit="",
    )


def _start(seconds: float) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with service(Path(folder)) as server, grpc.insecure_channel(server.address) as channel:
            _wait_until_serving(channel)
            found = {
                START: time.perf_counter() - began,
                IMPORT: _import_seconds(Path(folder)),
                "MB": resident_megabytes(server.pid),
            }
            (account,) = register(server.address)
            (hashing,) = children(server.pid)
            found["MB of a hashing process"] = resident_megabytes(hashing)
            drive([calls_of_get_me(server.ports[0], account)], seconds)
            return found | {"MB after calls": resident_megabytes(server.pid)}


def _import_seconds(folder: Path) -> float:
    """Return how long a process takes that only imports the libraries, without garbage collections."""
    script = f"import gc; gc.disable(); import signal, {LIBRARIES}; print(flush=True); signal.pause()"
    began = time.perf_counter()
    with running([sys.executable, "-P", "-c", script], folder):
        return time.perf_counter() - began


def _wait_until_serving(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    while stub.Check(request, wait_for_ready=True, timeout=10).status != health_pb2.HealthCheckResponse.SERVING:
        time.sleep(CHECK_SECONDS)
