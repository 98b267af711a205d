"""The installed command as a process."""

import itertools
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.forks import Fork
from tests.support.ports import free_port
from tests.support.settings import KEY, ROUNDS

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api.client import Keyspace

BIN = Path(sys.executable).parent
COMMAND = str(BIN / "killrvideo-grpc")
GRPCURL = str(BIN / "grpcurl")
ABSENT = str(Path(__file__).parent / "absent")  # hides what only development tools need
WELCOME_END = "Ctrl-C stops it.\n"


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return an environment without the machine's settings, with the store in `folder`."""
    values = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ABSENT,
        "SQLITE_PATH": str(folder / "killrvideo.db"),
        "SECRET_KEY": KEY,
        "BCRYPT_ROUNDS": str(ROUNDS),
        "GRPC_PORT": "0",
        # All tests come from one source. Those of throttling set limits of their own.
        "MAX_FAILURES_PER_SOURCE": "0",
        "MAX_REGISTRATIONS_PER_SOURCE": "0",
    }
    if (workers := int(changes.get("WORKERS", "1"))) > 1:
        values["GRPC_PORT"] = str(free_port(workers))  # workers start and start again after their ports are chosen
    return values | changes


@dataclass
class Service:
    """A running `killrvideo-grpc serve`."""

    process: "Fork | subprocess.Popen[str]"
    ports: list[int]
    banner: str
    log: Path

    @property
    def target(self) -> str:
        """The address of the first worker."""
        return f"127.0.0.1:{self.ports[0]}"

    def stop(self) -> int:
        """End the service as an operator does, and return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def running(folder: Path, **changes: str) -> Iterator[Service]:
    """Start the service with its working directory in `folder`, wait until it answers, and kill it in the end."""
    log = folder / "service.log"
    with forked(folder, ["serve"], environment(folder, **changes), log) as (process, banner):
        yield _service(process, banner, log)


@contextmanager
def running_command(folder: Path, **changes: str) -> Iterator[Service]:
    """Do the same with the installed command, which inherits limits and ignored signals."""
    log = folder / "service.log"
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [COMMAND, "serve"],
            cwd=folder,
            env=environment(folder, **changes),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with process:
        try:
            assert process.stdout
            banner = "".join(itertools.takewhile(lambda line: line != WELCOME_END, process.stdout))
            yield _service(process, banner, log)
        finally:
            process.kill()


@contextmanager
def forked(folder: Path, arguments: list[str], variables: dict[str, str], errors: Path) -> Iterator[tuple[Fork, str]]:
    """Run a command that prints a welcome and stays. Provide its process and the welcome; kill it in the end."""
    with tempfile.TemporaryDirectory() as outputs:
        output = Path(outputs, "stdout")
        output.touch()
        process = Fork(folder, arguments, variables, output, errors)
        try:
            eventually(lambda: output.read_text().endswith(WELCOME_END) or process.poll() is not None)
            yield process, output.read_text().removesuffix(WELCOME_END)
        finally:
            process.kill()
            process.wait(60)


def _service(process: "Fork | subprocess.Popen[str]", banner: str, log: Path) -> Service:
    ports = [int(port) for port in re.findall(r":(\d+)", banner.partition("\n")[0])]
    assert ports, log.read_text()
    return Service(process, ports, banner, log)


def astra(keyspace: "Keyspace") -> dict[str, str]:
    """Return the settings for this Data API and keyspace."""
    return {
        "STORE": "astra",
        "ASTRA_DB_API_ENDPOINT": keyspace.endpoint,
        "ASTRA_DB_KEYSPACE": keyspace.name,
        "ASTRA_DB_ENVIRONMENT": keyspace.environment,
        "ASTRA_DB_USERNAME": keyspace.username or "",
        "ASTRA_DB_PASSWORD": keyspace.password or "",
    }


def run(folder: Path, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    with tempfile.TemporaryDirectory() as outputs:
        output, errors = Path(outputs, "stdout"), Path(outputs, "stderr")
        process = Fork(folder, arguments, environment(folder, **changes), output, errors)
        try:
            code = process.wait(60)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, code, output.read_text(), errors.read_text())


def children(pid: int) -> list[int]:
    """Return the processes that `pid` started, from Linux's process table."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]  # one for each thread
    return [int(child) for children in lists for child in children.split()]


def wait_for_end(pid: int) -> None:
    """Wait until no such process runs."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        assert select.select([descriptor], [], [], 60)[0]
        os.close(descriptor)
