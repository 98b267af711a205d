"""The installed command as a process."""

import atexit
import itertools
import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.settings import KEY, ROUNDS

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api.client import Keyspace

BIN = Path(sys.executable).parent
COMMAND = str(BIN / "killrvideo-grpc")
GRPCURL = str(BIN / "grpcurl")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["killrvideo_grpc.__main__", "killrvideo_grpc.stores.astra.store"])


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return an environment without the machine's settings, with the store in `folder`."""
    values = {
        "PATH": os.environ["PATH"],
        "SQLITE_PATH": str(folder / "killrvideo.db"),
        "SECRET_KEY": KEY,
        "BCRYPT_ROUNDS": str(ROUNDS),
        "GRPC_PORT": "0",
        # All tests come from one source. Those of throttling set limits of their own.
        "MAX_FAILURES_PER_SOURCE": "0",
        "MAX_REGISTRATIONS_PER_SOURCE": "0",
    }
    return values | changes


@dataclass
class Service:
    """A running `killrvideo-grpc serve`."""

    process: "subprocess.Popen[str]"
    ports: list[int]
    banner: str
    log: Path

    @property
    def target(self) -> str:
        """The address of the first worker."""
        return f"127.0.0.1:{self.ports[0]}"

    def stop(self) -> int:
        """End the service as an operator does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(folder: Path, **changes: str) -> Iterator[Service]:
    """Start the service with its working directory in `folder`, wait until it answers, and kill it in the end."""
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
            banner = "".join(itertools.takewhile(lambda line: line != "Ctrl-C stops it.\n", process.stdout))
            ports = [int(port) for port in re.findall(r":(\d+)", banner.splitlines()[0])] if banner else []
            assert ports, log.read_text()
            yield Service(process, ports, banner, log)
        finally:
            process.kill()


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
    """Run the command to its end, in a process that is forked from one that has imported it already."""
    with tempfile.TemporaryDirectory() as outputs:
        output, errors = Path(outputs, "stdout"), Path(outputs, "stderr")
        process = FORKS.Process(target=_run, args=(folder, arguments, environment(folder, **changes), output, errors))
        process.start()
        process.join(60)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([COMMAND, *arguments], 60, output.read_text(), errors.read_text())
        return subprocess.CompletedProcess(
            [COMMAND, *arguments], process.exitcode, output.read_text(), errors.read_text()
        )


def _run(folder: Path, arguments: list[str], values: dict[str, str], output: Path, errors: Path) -> None:
    from killrvideo_grpc.__main__ import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(values)
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    try:
        main(arguments, prog_name="killrvideo-grpc")
    finally:
        atexit._run_exitfuncs()  # multiprocessing skips them, and the last log lines are written there


def children(pid: int) -> list[int]:
    """Return the processes that `pid` started, from Linux's process table."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]  # one for each thread
    return [int(child) for children in lists for child in children.split()]


def wait_for_end(pid: int) -> None:
    """Wait until no such process runs."""
    if Path(f"/proc/{pid}").exists():
        descriptor = os.pidfd_open(pid)
        assert select.select([descriptor], [], [], 30)[0]
        os.close(descriptor)
