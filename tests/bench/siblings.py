"""Requests for a sibling behind the edge: what the check of their tokens costs."""

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.accounts import register
from tests.bench.processes import cpu_seconds, descendants, module, running
from tests.bench.report import Figure, Result, ratio
from tests.bench.rounds import WARM_UP_SECONDS, Options, each, in_turns, medians
from tests.support.process import children

GET_ME, UNCHECKED, CHECKED = "GetMe over REST", "sibling without a token", "sibling with a token"
CONNECTIONS = 16


@dataclass(frozen=True)
class _Seen:
    rate: float
    milliseconds_alone: float
    service_microseconds: float
    envoy_microseconds: float


@dataclass(frozen=True)
class _Processes:
    service: list[int]
    envoys: list[int]


def measure_siblings(options: Options) -> Result:
    """Requests for a sibling with a token ÷ without one, and the service's CPU time for a check."""
    with tempfile.TemporaryDirectory() as folder, running(module("tests.bench.sibling"), Path(folder)) as sibling:
        settings = {"HTTP_PORT": "0", "DRAIN_SECONDS": "0", "SIBLINGS_URL": f"http://{sibling.address}"}
        with running(module("killrvideo_grpc", "edge", "web"), Path(folder), **settings) as server:
            edge, worker = server.ports
            (account,) = register(f"127.0.0.1:{worker}")
            envoys = descendants(server.pid, "envoy")
            others = [child for child in children(server.pid) if child not in envoys]
            processes = _Processes([each for child in others for each in (child, *children(child))], envoys)
            requests = {
                GET_ME: _request("/api/v1/users/me", account.token),
                UNCHECKED: _request("/api/v1/videos"),
                CHECKED: _request("/api/v1/videos", account.token),
            }
            for request in requests.values():
                asyncio.run(_drive(edge, request, WARM_UP_SECONDS, CONNECTIONS))
            seen = partial(_seen, edge, processes, options.seconds)
            found = in_turns(options.rounds, {side: partial(seen, request) for side, request in requests.items()})
    return _result(found)


def _result(found: list[dict[str, _Seen]]) -> Result:
    rounds = each(found, lambda seen: seen.rate)
    service = medians(each(found, lambda seen: seen.service_microseconds))
    envoy = medians(each(found, lambda seen: seen.envoy_microseconds))
    alone = medians(each(found, lambda seen: seen.milliseconds_alone))
    return Result(
        [
            ratio("with a token ÷ without", rounds, CHECKED, UNCHECKED),
            Figure("the service's CPU per check", service[CHECKED], unit=" µs"),
            Figure("Envoy's CPU per check", envoy[CHECKED] - envoy[UNCHECKED], unit=" µs"),
            Figure("time per check, alone", alone[CHECKED] - alone[UNCHECKED], unit=" ms"),
            Figure("the service's CPU per GetMe", service[GET_ME], unit=" µs"),
        ],
        rounds,
        details={"envoy_microseconds": envoy, "milliseconds_alone": alone},
    )


def _request(path: str, token: str = "") -> bytes:
    authorization = f"authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nhost: edge\r\n{authorization}\r\n".encode()


def _seen(edge: int, processes: _Processes, seconds: float, request: bytes) -> _Seen:
    alone = asyncio.run(_drive(edge, request, seconds / 3, 1))
    before = cpu_seconds(*processes.service), cpu_seconds(*processes.envoys)
    took = asyncio.run(_drive(edge, request, seconds, CONNECTIONS))
    after = cpu_seconds(*processes.service), cpu_seconds(*processes.envoys)
    service, envoy = ((late - early) / len(took) * 1e6 for early, late in zip(before, after, strict=True))
    return _Seen(len(took) / seconds, statistics.median(alone) * 1000, service, envoy)


async def _drive(port: int, request: bytes, seconds: float, connections: int) -> list[float]:
    """Send a request again and again on each connection, and return how long each took. All must succeed."""
    end = time.perf_counter() + seconds

    async def repeat() -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        took = []
        while (began := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"the edge answered {head.decode()}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            took.append(time.perf_counter() - began)
        writer.close()
        return took

    return [each for one in await asyncio.gather(*(repeat() for _ in range(connections))) for each in one]
