"""GetMe through Envoy."""

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.bench.accounts import register
from tests.bench.load import H2LOAD, Load, Source, calls_of_get_me, drive
from tests.bench.processes import cpu_seconds, descendants, module, running
from tests.bench.report import Figure, Result, ratio
from tests.bench.rounds import WARM_UP_SECONDS, Options, each, in_turns, medians

DIRECT, EDGE_GRPC, REST = "gRPC direct", "gRPC through Envoy", "REST through Envoy"


@dataclass(frozen=True)
class _Seen:
    load: Load
    envoy_microseconds: float


def measure_rest(options: Options) -> Result:
    """GetMe over REST through Envoy ÷ over gRPC without it, and Envoy's CPU time per call.

    Without h2load, both sides are gRPC, because the Python clients only speak gRPC.
    """
    with tempfile.TemporaryDirectory() as folder:
        web = running(module("killrvideo_grpc", "edge", "web"), Path(folder), HTTP_PORT="0", DRAIN_SECONDS="0")
        with web as server:
            edge, worker = server.ports
            (account,) = register(f"127.0.0.1:{worker}")
            envoys = descendants(server.pid, "envoy")
            direct = calls_of_get_me(worker, account)
            sides = {DIRECT: direct, EDGE_GRPC: calls_of_get_me(edge, account)}
            if H2LOAD:
                sides[REST] = replace(direct, url=f"http://127.0.0.1:{edge}/api/v1/users/me")
            found = _measure(sides, envoys, options)
    return _result(found, REST if H2LOAD else EDGE_GRPC)


def _result(found: list[dict[str, _Seen]], through: str) -> Result:
    rounds = each(found, lambda seen: seen.load.rate)
    envoy = medians(each(found, lambda seen: seen.envoy_microseconds))
    return Result(
        [
            ratio(f"{through} ÷ {DIRECT}", rounds, through, DIRECT),
            Figure("Envoy's CPU per call", envoy[through], unit=" µs"),
        ],
        rounds,
        details={
            "envoy_microseconds_per_call": envoy,
            "generator_cores": medians(each(found, lambda seen: seen.load.generator_cores)),
        },
    )


def _measure(sides: dict[str, Source], envoys: list[int], options: Options) -> list[dict[str, _Seen]]:
    def seen(source: Source) -> _Seen:
        before = cpu_seconds(*envoys)
        load = drive([source], options.seconds)
        calls = load.answered * options.seconds
        return _Seen(load, (cpu_seconds(*envoys) - before) / calls * 1_000_000)

    for source in sides.values():
        drive([source], WARM_UP_SECONDS)
    return in_turns(options.rounds, {side: partial(seen, source) for side, source in sides.items()})
