"""GetMe on the Data API: joined look-ups, as shipped, compared with one request per look-up."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from killrvideo_grpc.stores.data_api.client import Keyspace
from tests.bench.accounts import Account, register
from tests.bench.load import Load, Source, calls_of_get_me
from tests.bench.processes import SHIPPED, Server, module, running, service
from tests.bench.report import Result, ratio
from tests.bench.rounds import Options, generator_cores, loads_in_turns
from tests.support.keyspaces import PASSWORD, REAL_URL, USERNAME, keyspace_at, real_keyspace
from tests.support.process import COMMAND, astra, environment

CALLERS = (64, 32, 8, 1)
AT_LEAST = {64: 4.0}
NEVER_BELOW = 0.95
JOINED, EACH = "joined", "one each"

# Costs as measured on a real Data API with Cassandra: a request takes 4.5 ms, of which 2.3 are CPU, plus
# 0.24 ms per row.
NEAR = ("--burn-milliseconds", "2.3", "--delay-milliseconds", "2.2", "--row-milliseconds", "0.24")


def measure_astra(options: Options) -> Result:
    """GetMe on the Data API with joined look-ups, as shipped ÷ with one request per look-up."""
    with both_ways(NEAR) as (joined, one_each):
        accounts = register(joined.address, max(CALLERS))
        sides = {JOINED: joined.ports[0], EACH: one_each.ports[0]}
        found = {callers: _rounds(sides, accounts[:callers], options) for callers in CALLERS}
    return _result(found, options.rounds)


@contextmanager
def both_ways(cost: Sequence[str]) -> Iterator[tuple[Server, Server]]:
    """Run the service as shipped and with one request per look-up, on one keyspace of a Data API with these costs."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second, _data_api(cost) as keyspace:
        settings = astra(keyspace) | {"BCRYPT_ROUNDS": "4"}  # hashing is not measured here
        each = running(module("tests.bench.one_request_each", "serve"), Path(second), **settings)
        with service(Path(first), **settings) as joined, each as one_each:
            yield joined, one_each


def _rounds(sides: dict[str, int], accounts: list[Account], options: Options) -> list[dict[str, Load]]:
    # Every caller has its own account and token, because look-ups of the same account would share a key.
    sources = {side: [_caller(port, account) for account in accounts] for side, port in sides.items()}
    return loads_in_turns(sources, options)


def _caller(port: int, account: Account) -> Source:
    return calls_of_get_me(port, account, connections=1, at_once=1)


def _result(found: dict[int, list[dict[str, Load]]], count: int) -> Result:
    rounds = [
        {f"{side}, {callers}": load.rate for callers, loads in found.items() for side, load in loads[number].items()}
        for number in range(count)
    ]
    return Result(
        [
            ratio(
                f"joined ÷ one each, {_callers(callers)}",
                rounds,
                f"{JOINED}, {callers}",
                f"{EACH}, {callers}",
                at_least=AT_LEAST.get(callers, NEVER_BELOW),
            )
            for callers in found
        ],
        rounds,
        details={"generator_cores": {str(callers): generator_cores(loads) for callers, loads in found.items()}},
    )


def _callers(count: int) -> str:
    return "1 caller" if count == 1 else f"{count} callers"


@contextmanager
def _data_api(cost: Sequence[str]) -> Iterator[Keyspace]:
    """Provide a keyspace, on the fake or on the real Data API that TEST_DATA_API_* configure."""
    if REAL_URL is not None:
        with real_keyspace() as keyspace:
            yield keyspace
        return
    command = module("tests.support.fake_data_api", "--username", USERNAME, "--password", PASSWORD, *cost)
    with tempfile.TemporaryDirectory() as folder, running(command, Path(folder)) as server:
        keyspace = keyspace_at(server.first_line)
        settings = environment(Path(folder)) | SHIPPED | astra(keyspace)
        subprocess.run(
            [COMMAND, "schema", "create", "--keyspace"], cwd=folder, env=settings, check=True, stdout=subprocess.DEVNULL
        )
        yield keyspace
