"""GetMe as shipped: against bare servers, and on two workers."""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench.accounts import served
from tests.bench.echo import loop_name
from tests.bench.load import calls_of_get_me
from tests.bench.processes import module, running
from tests.bench.report import Figure, Result, ratio
from tests.bench.rounds import Options, generator_cores, loads_in_turns, rates


def measure_getme(options: Options) -> Result:
    """GetMe as shipped ÷ the faster of two bare servers that return the same response."""
    with served() as (server, accounts), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {"service": server}
        for kind in ("sync", "aio"):
            echo = module("tests.bench.echo", kind, "GetMe", accounts[0].user.SerializeToString().hex())
            servers[f"{kind} echo"] = stack.enter_context(running(echo, Path(folder)))
        sources = {side: [calls_of_get_me(found.ports[0], accounts[0])] for side, found in servers.items()}
        loads = loads_in_turns(sources, options)
    rounds = rates(loads)
    share = statistics.median(found["service"] / max(found["sync echo"], found["aio echo"]) for found in rounds)
    return Result(
        [Figure("service ÷ faster echo", share, at_least=0.55, sides=tuple(sources))],
        rounds,
        details={"generator_cores": generator_cores(loads), "aio_echo_loop": loop_name()},
    )


def measure_workers(options: Options) -> Result:
    """GetMe on two workers ÷ on one. The load generators need CPU too, so two cores can't show twice as much."""
    with served() as (one, alone), served(WORKERS="2") as (two, shared):
        # Both sides have two load generators; with a single worker, both call that one.
        sides = {
            "1 worker": [calls_of_get_me(one.ports[0], alone[0])] * 2,
            "2 workers": [calls_of_get_me(port, shared[0]) for port in two.ports],
        }
        loads = loads_in_turns(sides, options)
    rounds = rates(loads)
    return Result(
        [ratio("2 workers ÷ 1", rounds, "2 workers", "1 worker")],
        rounds,
        details={"generator_cores": generator_cores(loads)},
    )
